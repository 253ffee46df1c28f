"""What plugs into OpenMMLab's runner, and what the tools call."""

from .launch import ConsoleRunner, build_runner, check_model, start_processes, test, train
from .memory_format import ChannelsLastHook
from .progress import ProgressHook
from .settings import SettingError, load_config

__all__ = [
    "ChannelsLastHook",
    "ConsoleRunner",
    "ProgressHook",
    "SettingError",
    "build_runner",
    "check_model",
    "load_config",
    "start_processes",
    "test",
    "train",
]
