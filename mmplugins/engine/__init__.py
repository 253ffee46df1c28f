"""What plugs into OpenMMLab's runner, and what the tools call."""

from .compiling import CompileBackboneHook
from .composing import compose, load_composed
from .exact_resume import ExactResumeHook
from .fitting import check_fit
from .interruption import Terminated, how_to_go_on
from .launch import (
    ConsoleRunner,
    build_runner,
    check_model,
    launched,
    start_processes,
    test,
    train,
)
from .layer_decay import LayerDecayOptimWrapperConstructor
from .load_report import LoadReportHook
from .memory_format import ChannelsLastHook
from .progress import ProgressHook
from .results import ResultsHook
from .settings import SettingError, load_config
from .whole_checkpoints import WholeCheckpointHook

__all__ = [
    "ChannelsLastHook",
    "CompileBackboneHook",
    "ConsoleRunner",
    "ExactResumeHook",
    "LayerDecayOptimWrapperConstructor",
    "LoadReportHook",
    "ProgressHook",
    "ResultsHook",
    "SettingError",
    "Terminated",
    "WholeCheckpointHook",
    "build_runner",
    "check_fit",
    "check_model",
    "compose",
    "how_to_go_on",
    "launched",
    "load_composed",
    "load_config",
    "start_processes",
    "test",
    "train",
]
