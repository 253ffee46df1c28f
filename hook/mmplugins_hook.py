"""Start-up hook: puts ``mmplugins.compat`` in force in processes that never import mmplugins.

mmdet's and mmseg's own tools import ``mmcv.ops`` before they read a config, and spawned
DataLoader workers re-run those tools, so ``custom_imports`` alone comes too late. Python runs
``install`` at start-up, from ``mmplugins_hook.pth`` up to Python 3.14 and from
``mmplugins_hook.start`` (PEP 829) since 3.15. It costs one comparison per import until
something imports mmengine, mmcv or openmim; then ``mmplugins/compat`` is loaded by its place on
disk, without running ``mmplugins/__init__.py`` (which imports torch and registers everything).

Set ``MMPLUGINS_HOOK=off`` to start Python without it.
"""

import os
import sys


class Starter:
    """A finder that finds nothing: it waits for the first import of mmengine, mmcv or openmim."""

    def __init__(self):
        self.waiting = True

    def find_spec(self, name, path=None, target=None):
        """Load compat when OpenMMLab is about to be imported; always pass the search on."""
        if self.waiting and name in ("mmengine", "mmcv", "mim"):
            self.waiting = False
            put_compat_in_force()


def install():
    """Begin to wait. Does nothing when already waiting or switched off by MMPLUGINS_HOOK."""
    if os.environ.get("MMPLUGINS_HOOK", "").lower() in ("off", "0", "false", "no"):
        return
    if not any(type(finder).__name__ == "Starter" for finder in sys.meta_path):
        sys.meta_path.insert(0, Starter())


def put_compat_in_force():
    """Load ``mmplugins.compat`` under its own name, so that a later import shares it."""
    if "mmplugins" in sys.modules or "mmplugins.compat" in sys.modules:
        return  # `import mmplugins` does the same with its first lines
    from importlib.util import find_spec, module_from_spec, spec_from_file_location

    package = find_spec("mmplugins")
    for folder in (package and package.submodule_search_locations) or ():
        compat = os.path.join(folder, "compat")
        init = os.path.join(compat, "__init__.py")
        if os.path.isfile(init):
            spec = spec_from_file_location(
                "mmplugins.compat", init, submodule_search_locations=[compat]
            )
            module = sys.modules["mmplugins.compat"] = module_from_spec(spec)
            spec.loader.exec_module(module)
            module.install()
            return
