from mmcv.ops import get_compiler_version, get_compiling_cuda_version


def test_environment_listing_names_the_stand_in():
    assert "stand-in of mmplugins" in get_compiler_version()
    assert get_compiling_cuda_version() == "not available"
