"""What mmcv reports about its compiler, for lists of the environment."""


def get_compiler_version() -> str:
    """The text that stands in place of a compiler's version."""
    return "none (stand-in of mmplugins.compat)"


def get_compiling_cuda_version() -> str:
    """The text of mmcv for ops that were compiled without CUDA."""
    return "not available"
