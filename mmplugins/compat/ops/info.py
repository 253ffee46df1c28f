"""What mmcv reports about its compilation, for environment listings."""


def get_compiler_version() -> str:
    """Name what stands where a compiler's version is listed."""
    return "none (stand-in of mmplugins.compat)"


def get_compiling_cuda_version() -> str:
    """Give mmcv's own words for ops that were compiled without CUDA."""
    return "not available"
