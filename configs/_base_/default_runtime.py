# What every training shares, whatever the task: imports, hooks, logging, processes.
#
# A config lists detection_runtime.py or segmentation_runtime.py, which stand on this file.
custom_imports = dict(imports=["mmplugins"], allow_failed_imports=False)

default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    # Metrics are filed under the iteration, so that they share an axis with the loss.
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="CheckpointHook", interval=1),
    # --resume ends in the same weights, bit for bit on a CPU, as an uninterrupted training.
    exact_resume=dict(type="ExactResumeHook"),
    # A loss that stays NaN or infinite stops the training, and the last finite checkpoint is kept.
    finite_loss=dict(type="FiniteLossHook"),
    # What load_from and --resume load is reported; what does not fit is an error.
    load_report=dict(type="LoadReportHook"),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    # The console shows progress and results; the log file in the work dir has every line.
    progress=dict(type="ProgressHook"),
    # results.md, results.json and curves.png in the work dir at the end.
    results=dict(type="ResultsHook"),
)

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)

log_level = "INFO"
load_from = None
resume = False
