import mmplugins  # noqa: F401 - before anything of OpenMMLab
