"""The function that stands for an op which only compiled mmcv has."""

from collections.abc import Callable
from typing import NoReturn


def missing_op(name: str) -> Callable[..., NoReturn]:
    """Make a function that refuses to be called.

    Args:
        name: Name of the op in ``mmcv._ext``, for example ``"ball_query_forward"``.

    Returns:
        A function that takes anything and raises ``NotImplementedError`` with the op's name and the
        way to a compiled mmcv.
    """

    def raise_missing(*args, **kwargs) -> NoReturn:
        raise NotImplementedError(
            f"mmcv op {name!r}: expected a compiled mmcv, found the stand-in of mmplugins.compat, "
            "which does not have this op. To get compiled ops: `pip uninstall mmcv-lite`, "
            "`pip install 'setuptools<82' wheel ninja psutil`, then `MMCV_WITH_OPS=1 pip install "
            "--no-build-isolation --no-binary mmcv 'mmcv>=2.1,<2.2'` (with the onedl packages: "
            "onedl-mmcv instead of mmcv). A compiled mmcv._ext is used whenever it is importable."
        )

    raise_missing.__name__ = raise_missing.__qualname__ = name
    return raise_missing
