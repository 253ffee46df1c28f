# Runtime of mmseg's task: semantic segmentation, counted in iterations.
_base_ = "default_runtime.py"

default_scope = "mmseg"
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=4000),
    visualization=dict(type="SegVisualizationHook"),
)
# Without a name of its own: each run then writes to its own folder, also in one process.
visualizer = dict(type="SegLocalVisualizer", vis_backends=[dict(type="LocalVisBackend")])
log_processor = dict(type="LogProcessor", window_size=50, by_epoch=False)
tta_model = dict(type="SegTTAModel")
