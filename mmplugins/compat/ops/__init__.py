"""Stand-in for ``mmcv._ext``, the compiled half of mmcv's ops.

``mmcv/ops/*.py`` calls a pybind module by name and keyword. This package has the same functions,
with the same argument names and in-place conventions. So mmcv's Python files run unchanged on
mmcv-lite. The functions call torchvision's operators, or plain torch where it has none.

The package imports torch, torchvision and itself, and itself by relative names only. The reason is
that it is loaded twice: under its own name, and by the finder of ``mmplugins.compat`` as
``mmcv._ext``.

``mmcv.utils.ext_loader.load_ext`` checks at import that each op it may need exists. So a name that
is not here stands for a function that raises ``NotImplementedError`` when it is called.
"""

from .bbox import bbox_overlaps
from .carafe import (
    carafe_backward,
    carafe_forward,
    carafe_naive_backward,
    carafe_naive_forward,
)
from .deform_conv import (
    deform_conv_backward_input,
    deform_conv_backward_parameters,
    deform_conv_forward,
    modulated_deform_conv_backward,
    modulated_deform_conv_forward,
)
from .focal_loss import (
    sigmoid_focal_loss_backward,
    sigmoid_focal_loss_forward,
    softmax_focal_loss_backward,
    softmax_focal_loss_forward,
)
from .info import get_compiler_version, get_compiling_cuda_version
from .masked_conv import masked_col2im_forward, masked_im2col_forward
from .missing import missing_op
from .ms_deform_attn import ms_deform_attn_backward, ms_deform_attn_forward
from .roi_align import roi_align_backward, roi_align_forward
from .roi_pool import roi_pool_backward, roi_pool_forward
from .suppression import nms, nms_match, softnms
from .sync_bn import (
    sync_bn_backward_data,
    sync_bn_backward_param,
    sync_bn_forward_mean,
    sync_bn_forward_output,
    sync_bn_forward_var,
)

__all__ = [
    "bbox_overlaps",
    "carafe_backward",
    "carafe_forward",
    "carafe_naive_backward",
    "carafe_naive_forward",
    "deform_conv_backward_input",
    "deform_conv_backward_parameters",
    "deform_conv_forward",
    "get_compiler_version",
    "get_compiling_cuda_version",
    "masked_col2im_forward",
    "masked_im2col_forward",
    "modulated_deform_conv_backward",
    "modulated_deform_conv_forward",
    "ms_deform_attn_backward",
    "ms_deform_attn_forward",
    "nms",
    "nms_match",
    "roi_align_backward",
    "roi_align_forward",
    "roi_pool_backward",
    "roi_pool_forward",
    "sigmoid_focal_loss_backward",
    "sigmoid_focal_loss_forward",
    "softmax_focal_loss_backward",
    "softmax_focal_loss_forward",
    "softnms",
    "sync_bn_backward_data",
    "sync_bn_backward_param",
    "sync_bn_forward_mean",
    "sync_bn_forward_output",
    "sync_bn_forward_var",
]


def __getattr__(name: str):
    # No op of mmcv begins with an underscore. Python and its tools look for many such names
    # (__path__, __wrapped__, ...), and must not find them.
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return missing_op(name)
