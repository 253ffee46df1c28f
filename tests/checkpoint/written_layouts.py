"""State dicts as the papers' code writes them, key by key from the published naming tables.

Nothing here knows the package: every entry is (their key, our key, tensor), and our key is None
where a backbone has no place for the tensor. Tensors are random and all different.
"""

from __future__ import annotations

import torch

DEPTHS, DIMS = (1, 2, 3, 1), (32, 64, 96, 128)
CLASSES = 10


class Writer:
    """Collects entries in the order in which they are written."""

    def __init__(self, seed: int = 0):
        self.entries: list[tuple[str, str | None, torch.Tensor]] = []
        self.random = torch.Generator().manual_seed(seed)

    def add(self, theirs: str, ours: str | None, *shape: int) -> None:
        self.entries.append((theirs, ours, torch.randn(shape, generator=self.random)))

    def norm(self, theirs: str, ours: str | None, dim: int, bias: bool = True) -> None:
        for name in ("weight", "bias") if bias else ("weight",):
            self.add(f"{theirs}.{name}", ours and f"{ours}.{name}", dim)

    def layer(self, theirs: str, ours: str | None, *shape: int, bias: bool = True) -> None:
        self.add(f"{theirs}.weight", ours and f"{ours}.weight", *shape)
        if bias:
            self.add(f"{theirs}.bias", ours and f"{ours}.bias", shape[0])

    def batch_norm(self, theirs: str, ours: str | None, dim: int) -> None:
        self.norm(theirs, ours, dim)
        for name in ("running_mean", "running_var"):
            self.add(f"{theirs}.{name}", ours and f"{ours}.{name}", dim)
        key = "num_batches_tracked"
        self.entries.append((f"{theirs}.{key}", ours and f"{ours}.{key}", torch.tensor(7)))

    @property
    def state_dict(self) -> dict[str, torch.Tensor]:
        return {theirs: tensor for theirs, _, tensor in self.entries}

    @property
    def ours(self) -> dict[str, torch.Tensor]:
        return {ours: tensor for _, ours, tensor in self.entries if ours}


def poolformer_official(
    depths=DEPTHS, dims=DIMS, mixers="pppp", form="classifier", mixer_of_block="none"
) -> Writer:
    """PoolFormer and its hybrids (p, a, f, i by stage); also RIFormer, as PoolFormer in all else.

    form: 'classifier' (norm, head), 'dense' (norm0, 2, 4, 6), 'mmpretrain' (norm6, no head).
    mixer_of_block: 'affine' for RIFormer in training, 'folded' for the deployed form.
    """
    w = Writer()
    w.layer("patch_embed.proj", "stem.conv", dims[0], 3, 7, 7)
    entry, embedded = 0, False
    for i, depth in enumerate(depths):
        dim, stage = dims[i], f"stages.{i}"
        if i:
            w.layer(f"network.{entry}.proj", f"{stage}.downsample.conv", dim, dims[i - 1], 3, 3)
            entry += 1
        if mixers[i] == "a" and not embedded:
            side = (56, 28, 14, 7)[i]
            w.add(f"network.{entry}.pos_embed", f"{stage}.pos_embed.weight", 1, dim, side, side)
            entry, embedded = entry + 1, True
        for j in range(depth):
            theirs, ours = f"network.{entry}.{j}", f"{stage}.blocks.{j}"
            w.add(f"{theirs}.layer_scale_1", f"{ours}.layer_scale1.scale", dim)
            w.add(f"{theirs}.layer_scale_2", f"{ours}.layer_scale2.scale", dim)
            first = "norm_reparam" if mixer_of_block == "folded" else "norm1"
            w.norm(f"{theirs}.{first}", f"{ours}.norm1", dim)
            if mixer_of_block == "affine":
                mix = f"{theirs}.token_mixer.affine"
                w.add(f"{mix}.weight", f"{ours}.token_mixer.weight", dim, 1, 1, 1)
                w.add(f"{mix}.bias", f"{ours}.token_mixer.bias", dim)
            mix = f"{theirs}.token_mixer", f"{ours}.token_mixer"
            if mixers[i] == "a":
                w.layer(f"{mix[0]}.qkv", f"{mix[1]}.qkv", 3 * dim, dim, bias=False)
                w.layer(f"{mix[0]}.proj", f"{mix[1]}.proj", dim, dim)
            elif mixers[i] == "f":
                n = (14 if i == 2 else 7) ** 2
                w.layer(f"{mix[0]}.fc", f"{mix[1]}.fc", n, n, bias=False)
            w.norm(f"{theirs}.norm2", f"{ours}.norm2", dim)
            w.layer(f"{theirs}.mlp.fc1", f"{ours}.mlp.fc1", 4 * dim, dim, 1, 1)
            w.layer(f"{theirs}.mlp.fc2", f"{ours}.mlp.fc2", dim, 4 * dim, 1, 1)
        entry += 1
    if form == "classifier":
        w.norm("norm", None, dims[3])
        w.layer("head", None, CLASSES, dims[3])
    elif form == "dense":
        for i in range(4):
            w.norm(f"norm{2 * i}", f"out_norms.{i}", dims[i])
    return w


def baselines_official(family: str, depths=DEPTHS, dims=DIMS) -> Writer:
    """IdentityFormer, RandFormer, PoolFormerV2, ConvFormer, CAFormer."""
    w = Writer()
    w.layer("downsample_layers.0.conv", "stem.conv", dims[0], 3, 7, 7)
    w.norm("downsample_layers.0.post_norm", "stem.norm", dims[0], bias=False)
    for i, depth in enumerate(depths):
        dim, stage = dims[i], f"stages.{i}"
        if i:
            theirs, ours = f"downsample_layers.{i}", f"{stage}.downsample"
            w.norm(f"{theirs}.pre_norm", f"{ours}.norm", dims[i - 1], bias=False)
            w.layer(f"{theirs}.conv", f"{ours}.conv", dim, dims[i - 1], 3, 3)
        for j in range(depth):
            theirs, ours = f"stages.{i}.{j}", f"{stage}.blocks.{j}"
            mix = f"{theirs}.token_mixer", f"{ours}.token_mixer"
            w.norm(f"{theirs}.norm1", f"{ours}.norm1", dim, bias=False)
            if family == "convformer" or (family == "caformer" and i < 2):
                w.add(f"{mix[0]}.pwconv1.weight", f"{mix[1]}.pwconv1.weight", 2 * dim, dim)
                w.add(f"{mix[0]}.act1.scale", f"{mix[1]}.act1.scale", 1)
                w.add(f"{mix[0]}.act1.bias", f"{mix[1]}.act1.bias", 1)
                w.add(f"{mix[0]}.dwconv.weight", f"{mix[1]}.dwconv.weight", 2 * dim, 1, 7, 7)
                w.add(f"{mix[0]}.pwconv2.weight", f"{mix[1]}.pwconv2.weight", dim, 2 * dim)
            elif family == "caformer":
                w.add(f"{mix[0]}.qkv.weight", f"{mix[1]}.qkv.weight", 3 * dim, dim)
                w.add(f"{mix[0]}.proj.weight", f"{mix[1]}.proj.weight", dim, dim)
            elif family == "randformer" and i >= 2:
                n = (14 if i == 2 else 7) ** 2
                w.add(f"{mix[0]}.random_matrix", f"{mix[1]}.random_matrix", n, n)
            if i >= 2:
                w.add(f"{theirs}.res_scale1.scale", f"{ours}.res_scale1.scale", dim)
            w.norm(f"{theirs}.norm2", f"{ours}.norm2", dim, bias=False)
            w.add(f"{theirs}.mlp.fc1.weight", f"{ours}.mlp.fc1.weight", 4 * dim, dim)
            w.add(f"{theirs}.mlp.act.scale", f"{ours}.mlp.act.scale", 1)
            w.add(f"{theirs}.mlp.act.bias", f"{ours}.mlp.act.bias", 1)
            w.add(f"{theirs}.mlp.fc2.weight", f"{ours}.mlp.fc2.weight", dim, 4 * dim)
            if i >= 2:
                w.add(f"{theirs}.res_scale2.scale", f"{ours}.res_scale2.scale", dim)
    w.norm("norm", None, dims[3])
    if family in ("convformer", "caformer"):
        w.layer("head.fc1", None, 4 * dims[3], dims[3])
        w.norm("head.norm", None, 4 * dims[3])
        w.layer("head.fc2", None, CLASSES, 4 * dims[3])
    else:
        w.layer("head", None, CLASSES, dims[3])
    return w


def smlpnet_official(depths=DEPTHS, dims=DIMS, image: int = 224) -> Writer:
    """sMLPNet; blocks are counted through all stages."""
    w = Writer()
    k = 0
    for i, depth in enumerate(depths):
        dim, side, stage = dims[i], image // (4 * 2**i), f"stages.{i}"
        if i:
            ours, shape = f"{stage}.downsample.conv.weight", (dim, dims[i - 1], 2, 2)
        else:
            ours, shape = "stem.conv.weight", (dim, 3, 4, 4)
        w.add(f"to_patch_embedding.{i}.0.weight", ours, *shape)
        for j in range(depth):
            mix, mlp, ours = f"token_mix.{k}", f"channel_mix.{k}", f"{stage}.blocks.{j}"
            w.layer(f"{mlp}.1", f"{ours}.norm2", dim)
            w.layer(f"{mlp}.2.net.0", f"{ours}.mlp.fc1", 3 * dim, dim)
            w.layer(f"{mlp}.2.net.3", f"{ours}.mlp.fc2", dim, 3 * dim)
            ours = f"{ours}.token_mixer"
            w.batch_norm(f"{mix}.0.conv_merge.BN", f"{ours}.norm1", dim)
            w.add(f"{mix}.0.conv_merge.Conv.weight", f"{ours}.depthwise.weight", dim, 1, 3, 3)
            w.batch_norm(f"{mix}.1.BN", f"{ours}.norm2", dim)
            w.layer(f"{mix}.1.proj_h", f"{ours}.row", side, side, 1, 1)
            w.layer(f"{mix}.1.proh_w", f"{ours}.column", side, side, 1, 1)
            w.add(f"{mix}.1.fuse.weight", f"{ours}.fuse.weight", dim, 3 * dim, 1, 1)
            k += 1
    w.batch_norm("batch_norm", None, dims[3])
    w.layer("mlp_head.0", None, CLASSES, dims[3])
    return w


def convnext(code: str = "official", depths=DEPTHS, dims=DIMS, dense: bool = False) -> Writer:
    """ConvNeXt by its authors or by mmpretrain ('mmpretrain')."""
    dw, pw = ("dwconv", "pwconv") if code == "official" else ("depthwise_conv", "pointwise_conv")
    w = Writer()
    w.layer("downsample_layers.0.0", "stem.conv", dims[0], 3, 4, 4)
    w.norm("downsample_layers.0.1", "stem.norm", dims[0])
    for i, depth in enumerate(depths):
        dim, stage = dims[i], f"stages.{i}"
        if i:
            w.norm(f"downsample_layers.{i}.0", f"{stage}.downsample.norm", dims[i - 1])
            w.layer(f"downsample_layers.{i}.1", f"{stage}.downsample.conv", dim, dims[i - 1], 2, 2)
        for j in range(depth):
            theirs, ours = f"stages.{i}.{j}", f"{stage}.blocks.{j}"
            w.add(f"{theirs}.gamma", f"{ours}.layer_scale.scale", dim)
            w.layer(f"{theirs}.{dw}", f"{ours}.dwconv", dim, 1, 7, 7)
            w.norm(f"{theirs}.norm", f"{ours}.norm", dim)
            w.layer(f"{theirs}.{pw}1", f"{ours}.mlp.fc1", 4 * dim, dim)
            w.layer(f"{theirs}.{pw}2", f"{ours}.mlp.fc2", dim, 4 * dim)
    if dense:
        for i in range(4):
            w.norm(f"norm{i}", f"out_norms.{i}", dims[i])
    elif code == "official":
        w.norm("norm", None, dims[3])
        w.layer("head", None, CLASSES, dims[3])
    else:
        w.norm("norm3", None, dims[3])
    return w
