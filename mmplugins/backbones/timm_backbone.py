"""Any timm model as a pyramid backbone, by its timm name.

A plain model, whose feature maps all have stride 16, gets the simple feature pyramid of Y. Li et
al., "Exploring Plain Vision Transformer Backbones for Object Detection", ECCV 2022, arXiv
2203.16527.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from .catalog import families
from .folding import fold_batch_norms
from .key_layouts import KeyLayout, find_layout, from_native, pointwise, to_native
from .layers import LayerNorm2d, LayerSpec
from .module_order import as_classifier, names_by_order, numbered_layout
from .pyramid import PyramidBackbone, check_output_stride, resolve_out_indices
from .timm_inspection import PLAIN_STRIDE, STRIDES, inspect_timm_model


class SimpleFeaturePyramid(nn.Module):
    """Feature maps of stride 4, 8, 16 and 32 from one of stride 16 (ViTDet, section 3).

    Transposed convolutions lead up and max pooling leads down. The 1x1 and 3x3 convolutions that
    follow in the paper are left to the neck.

    Args:
        dim: Channels of the feature map.
        levels: Which of the four feature maps to make, counted from 0.

    Attributes:
        dims: Channels of all four.
    """

    def __init__(self, dim: int, levels: Sequence[int]):
        super().__init__()
        half, quarter = dim // 2, dim // 4
        self.dims = (quarter, half, dim, dim)

        def level(i: int) -> nn.Module:
            if i == 0:
                up = nn.ConvTranspose2d(dim, half, 2, 2), nn.ConvTranspose2d(half, quarter, 2, 2)
                return nn.Sequential(up[0], LayerNorm2d(half), nn.GELU(), up[1])
            if i == 1:
                return nn.ConvTranspose2d(dim, half, 2, 2)
            return nn.Identity() if i == 2 else nn.MaxPool2d(2, 2)

        self.levels = nn.ModuleList(map(level, levels))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Make the levels from ``x [N, dim, H / 16, W / 16]``."""
        return [level(x) for level in self.levels]


@MODELS.register_module()
class TimmBackbone(PyramidBackbone):
    """A timm model as a pyramid backbone.

    Stages are counted by stride: 4, 8, 16, 32 are stages 0 to 3. Feature maps come out as
    ``[N, C, H, W]``, also of models that compute channels-last, and without any norm but
    ``out_norm``. A transformer that can be built for any image size is built so. A model may need
    sides divisible by some number (32, or 224 for windows of 7). It gets its images padded with
    zeros at the right and at the bottom, and its feature maps cover the padding too. A model whose
    weights follow the image size takes its own size only, or the ``img_size`` that it is given.

    Args:
        model_name: Name of the model in timm, with or without a weight tag and ``timm/`` in front:
            ``'resnet50'``, ``'timm/resnet50.a1_in1k'``.
        pretrained: Load timm's weights, from its cache or from the network. Defaults to False.
        out_indices: As in :class:`PyramidBackbone`. Defaults to all four stages. What timm builds
            above the last one, for a few families, has no gradient and is not trained.
        out_norm: Norm on each output. Defaults to None.
        frozen_stages: As in :class:`PyramidBackbone`. A stage is frozen with all that its feature
            map depends on. In a plain model, stages are quarters of the blocks. Defaults to -1.
        with_cp: Recompute in the backward pass, as far as timm offers it for the model; timm lets
            batch norms count a recomputed batch twice. Defaults to False.
        drop_path_rate: Drop path rate, for models that have one. Defaults to None, timm's own.
        in_channels: Channels of the image. Defaults to 3.
        output_stride: As in :class:`PyramidBackbone`, by timm's own argument of that name, which
            convolutional models have: ResNets, RegNets, EfficientNets, ConvNeXts. Defaults to 32.
        pyramid: ``'simple'`` for a model that has to be plain, and gets ViTDet's simple feature
            pyramid; None lets the model decide. Defaults to None.
        init_cfg: OpenMMLab initialisation. Files may be in timm's names. Defaults to None.
        **timm_kwargs: Further arguments of the timm model, such as ``img_size``.

    Attributes:
        model_name: Name of the model in timm.
        body: timm's feature extractor.

    Raises:
        ValueError: If timm has no such model, the model takes no such argument, it lacks a
            requested stride or another ``output_stride``, or it takes no image size at all.
    """

    def __init__(
        self,
        model_name: str,
        pretrained: bool = False,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        out_norm: LayerSpec = None,
        frozen_stages: int = -1,
        with_cp: bool = False,
        drop_path_rate: float | None = None,
        in_channels: int = 3,
        output_stride: int = 32,
        pyramid: str | None = None,
        init_cfg: dict | list[dict] | None = None,
        **timm_kwargs: Any,
    ):
        model_name = model_name.removeprefix("timm/")
        out_indices = resolve_out_indices(out_indices, STRIDES)
        check_output_stride(output_stride)
        settings = dict(in_chans=in_channels, **timm_kwargs)
        if drop_path_rate is not None:
            settings["drop_path_rate"] = drop_path_rate
        if output_stride < STRIDES[-1]:
            settings["output_stride"] = output_stride
        found = inspect_timm_model(model_name, out_indices, settings)
        if pyramid not in (None, "simple") or (pyramid and not found.plain):
            raise ValueError(
                f"pyramid={pyramid!r} for {model_name}: expected 'simple' for a plain model, whose "
                f"feature maps all have stride {PLAIN_STRIDE}, or None"
            )
        if found.plain:
            pyramid = SimpleFeaturePyramid(found.channels[-1], out_indices)
            dims = list(pyramid.dims)
            modules = [f"pyramid.levels.{k}" for k in range(len(out_indices))]
        else:
            pyramid, places = None, dict(zip(found.taps, range(len(found.taps)), strict=True))
            dims = [found.channels[places[i]] if i in places else 0 for i in range(len(STRIDES))]
            modules = [f"body.{found.modules[places[i]]}" for i in out_indices]

        super().__init__(
            nn.Identity(),
            (),
            (),
            dims,
            strides=STRIDES,
            out_indices=out_indices,
            out_norm=out_norm,
            frozen_stages=frozen_stages,
            with_cp=with_cp,
            output_stride=output_stride,
            init_cfg=init_cfg,
        )
        import timm

        self.model_name = model_name
        self.found = found
        self._stage_of_module = {
            name.rpartition(".")[0]: stage for name, stage in found.stage_of.items()
        }
        self._put_out = tuple(stage in out_indices for stage in found.taps)
        self.body = timm.create_model(model_name, pretrained=pretrained, **found.settings)
        self.body.is_init = True  # else mmengine calls init_weights, which some timm models have
        self.pyramid = pyramid
        for info, module in zip(self.feature_info, modules, strict=True):
            info["module"] = module
        if with_cp:
            _set_checkpointing(model_name, self.body)
        self._freeze()

    def forward_stages(self, x: Tensor) -> list[Tensor]:
        """Compute the feature maps of the requested stages, before any output norm.

        Raises:
            ValueError: If the model takes one image size only and this is another.
        """
        found, size = self.found, tuple(x.shape[-2:])
        if found.size_divisor is None:
            if size != found.fixed_size:
                raise ValueError(
                    f"Images of {size}: {self.model_name} takes img_size={found.fixed_size} only; "
                    "resize or pad the images to it, or build the model with another img_size if "
                    "it has that argument"
                )
        else:
            below, right = (-side % found.size_divisor for side in size)
            if below or right:
                x = F.pad(x, (0, right, 0, below))
        maps = self.body(x)
        if getattr(self.body, "output_fmt", None) == "NHWC":
            maps = [x.permute(0, 3, 1, 2) for x in maps]
        if self.pyramid is not None:
            return self.pyramid(maps[-1])
        return [x for x, put_out in zip(maps, self._put_out, strict=True) if put_out]

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """Depth of a parameter by timm's own grouping, or by stages where timm has none.

        Args:
            param_name: Name of a parameter, as in ``named_parameters()`` of the whole model.
            prefix: What stands before the backbone's own names, for example ``'backbone.'``.

        Returns:
            The layer's depth, 0 for the stem, and the number of layers, the last of which holds
            everything outside the timm model.
        """
        last = self.found.last_layer
        if not param_name.startswith(f"{prefix}body."):
            return last, last + 1
        name = param_name.removeprefix(f"{prefix}body.")
        return self.found.layer_of.get(name, last), last + 1

    def get_stage_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """Depth of a parameter by the stage whose feature map depends on it first; 0 for the stem.

        A downsampling counts with the stage that it leads to. Arguments and return value are those
        of :meth:`get_layer_depth`, but that there are at least six layers.
        """
        count = max(self.found.last_layer + 1, len(STRIDES) + 2)
        name = param_name.removeprefix(f"{prefix}body.")
        if not param_name.startswith(f"{prefix}body.") or name not in self.found.stage_of:
            return count - 1, count
        return self.found.stage_of[name] + 1, count

    def convert_state_dict(self, state_dict: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Bring a state dict in timm's names to ours, leaving out what the features do not need.

        Files of torchvision and of EfficientNet-PyTorch, and those in any layout of a family of
        the suite, get timm's names first.
        """
        state_dict = as_classifier(self._in_timm_names(super().convert_state_dict(state_dict)))
        own_names = self.found.own_names.items()
        needed = self.found.shapes.keys() & {name for name, own in own_names if own is not None}
        by_order = names_by_order(state_dict, self.found.shapes, needed)
        if by_order:
            state_dict = {by_order.get(key, key): value for key, value in state_dict.items()}
        converted = {}
        for key, value in state_dict.items():
            own = self.found.own_names.get(key, key)
            if own is not None:
                converted[f"body.{own}" if key in self.found.own_names else key] = value
        return converted

    def _in_timm_names(self, state_dict: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        layout = self._layout_of_family(state_dict)
        if self._family is None or layout is None or layout.name.startswith("timm"):
            return state_dict
        shapes, layouts = self.found.shapes, self._family.layouts
        timm = next((layout for layout in layouts if layout.name == "timm"), None)
        found = (re.match(r"stages\.(\d)\.blocks\.\d+\.", name) for name in shapes)
        blocks = {match[0]: int(match[1]) for match in found if match}
        depths = [list(blocks.values()).count(i) for i in range(len(STRIDES))]
        if timm is None or not all(depths):  # timm's model has other names than ours
            return state_dict
        native = to_native(state_dict, layouts, depths, {})
        return {
            key: value.reshape(shapes[key])
            if key in shapes and pointwise(value.shape, shapes[key])
            else value
            for key, value in from_native(native, timm, depths).items()
        }

    @property
    def _family(self) -> type[PyramidBackbone] | None:
        """Our own family of the same network, if there is one: ConvNeXt, PoolFormer ..."""
        return families().get(self.model_name.partition("_")[0])

    def _layout_of_family(self, keys: Iterable[str]) -> KeyLayout | None:
        return find_layout(keys, self._family.layouts) if self._family else None

    def stage_of_tensor(self, name: str) -> int | None:
        """The stage whose feature map depends on a tensor first, -1 for the stem."""
        return self._stage_of_module.get(name.removeprefix("body.").rpartition(".")[0])

    def foreign_names(self, keys: Iterable[str]) -> str:
        """``'timm'``, or the code base that has other names."""
        layout = self._layout_of_family(keys)
        return layout.name if layout else numbered_layout(keys) or "timm"

    def _fold(self) -> None:
        from timm.models import reparameterize_model

        reparameterize_model(self.body, inplace=True)
        fold_batch_norms(self.body)
        super()._fold()

    def _frozen_parts(self) -> list[nn.Module]:
        """The largest parts of the body that are frozen as a whole."""
        parts = []

        def collect(module: nn.Module, prefix: str) -> None:
            names = [name for name, _ in module.named_parameters(prefix)]
            if names and all(map(self._is_frozen, names)):
                parts.append(module)
            else:
                for name, child in module.named_children():
                    collect(child, f"{prefix}.{name}" if prefix else name)

        if hasattr(self, "body"):  # PyramidBackbone.__init__ asks before it is built
            collect(self.body, "")
        return parts

    def _is_frozen(self, name: str) -> bool:
        stage = self.found.stage_of.get(name)
        return stage is not None and stage < self.frozen_stages

    def _freeze(self) -> None:
        super()._freeze()
        if hasattr(self, "body"):
            for name, parameter in self.body.named_parameters():
                if self._is_frozen(name) or name not in self.found.stage_of:
                    parameter.requires_grad_(False)


def _set_checkpointing(name: str, body: nn.Module) -> None:
    model = body if hasattr(body, "set_grad_checkpointing") else getattr(body, "model", body)
    try:
        model.set_grad_checkpointing(True)
    except (AttributeError, AssertionError) as error:
        raise ValueError(
            f"with_cp=True: timm has no gradient checkpointing for {name!r}; use with_cp=False"
        ) from error
