# Runtime of mmdet's tasks: detection and instance segmentation.
_base_ = "default_runtime.py"

default_scope = "mmdet"
default_hooks = dict(visualization=dict(type="DetVisualizationHook"))
# Without a name of its own: each run then writes to its own folder, also in one process.
visualizer = dict(type="DetLocalVisualizer", vis_backends=[dict(type="LocalVisBackend")])
log_processor = dict(type="LogProcessor", window_size=50, by_epoch=True)
