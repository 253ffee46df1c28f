"""What plugs into OpenMMLab's runner, and what the tools call.

``config`` reads, composes and changes configs; ``launch`` trains and tests them. ``hooks`` and
``layer_decay`` are named in configs. ``compiling`` compiles the blocks of a backbone, and
``cuda_graphs`` replays them. ``resume`` makes interruptions harmless.
"""

from .compiling import compile_blocks
from .config.composing import compose, load_composed
from .config.fitting import check_fit
from .config.settings import SettingError, load_config
from .hooks.channels_last import ChannelsLastHook
from .hooks.compiling import CompileBackboneHook
from .hooks.drawing import DrawPredictionsHook
from .hooks.load_report import LoadReportHook
from .hooks.progress import ProgressHook
from .hooks.results import ResultsHook
from .launch import (
    ConsoleRunner,
    build_runner,
    check_model,
    launched,
    restarted,
    start_processes,
    test,
    train,
)
from .layer_decay import LayerDecayOptimWrapperConstructor
from .resume.divergence import DivergedError, FiniteLossHook
from .resume.exact_resume import ExactResumeHook
from .resume.interruption import Terminated, how_to_go_on
from .resume.whole_checkpoints import WholeCheckpointHook

__all__ = [
    "ChannelsLastHook",
    "CompileBackboneHook",
    "ConsoleRunner",
    "DivergedError",
    "DrawPredictionsHook",
    "ExactResumeHook",
    "FiniteLossHook",
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
    "compile_blocks",
    "compose",
    "how_to_go_on",
    "launched",
    "load_composed",
    "load_config",
    "restarted",
    "start_processes",
    "test",
    "train",
]
