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
    else:
        w.norm("norm6", None, dims[3])
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


_CONVNEXT = {  # stem, downsampling and block by stage and block, parts of a block, output norm
    "official": (
        "downsample_layers.0.0 downsample_layers.0.1",
        lambda i: f"downsample_layers.{i}",
        lambda i, j: f"stages.{i}.{j}",
        "dwconv norm pwconv1 pwconv2 gamma",
        lambda i: f"norm{i}",
    ),
    "mmpretrain": (
        "downsample_layers.0.0 downsample_layers.0.1",
        lambda i: f"downsample_layers.{i}",
        lambda i, j: f"stages.{i}.{j}",
        "depthwise_conv norm pointwise_conv1 pointwise_conv2 gamma",
        lambda i: f"norm{i}",
    ),
    "timm": (
        "stem.0 stem.1",
        lambda i: f"stages.{i}.downsample",
        lambda i, j: f"stages.{i}.blocks.{j}",
        "conv_dw norm mlp.fc1 mlp.fc2 gamma",
        None,
    ),
    "torchvision": (
        "features.0.0 features.0.1",
        lambda i: f"features.{(0, 2, 4, 6)[i]}",
        lambda i, j: f"features.{(1, 3, 5, 7)[i]}.{j}",
        "block.0 block.2 block.3 block.5 layer_scale",
        None,
    ),
    "hugging face": (
        "embeddings.patch_embeddings embeddings.layernorm",
        lambda i: f"encoder.stages.{i}.downsampling_layer",
        lambda i, j: f"encoder.stages.{i}.layers.{j}",
        "dwconv layernorm pwconv1 pwconv2 layer_scale_parameter",
        lambda i: "hidden_states_norms." + ("stage1", "stage2", "stage3", "stage4")[i],
    ),
    "hugging face dinov3": (
        "stages.0.downsample_layers.0 stages.0.downsample_layers.1",
        lambda i: f"stages.{i}.downsample_layers",
        lambda i, j: f"stages.{i}.layers.{j}",
        "depthwise_conv layer_norm pointwise_conv1 pointwise_conv2 gamma",
        None,
    ),
}
_CLASSIFIERS = {  # norm and linear layer
    "official": "norm head",
    "mmpretrain": "norm3",
    "timm": "head.norm head.fc",
    "torchvision": "classifier.0 classifier.2",
    "hugging face": "layernorm classifier",
}


def convnext(
    code="official", depths=DEPTHS, dims=DIMS, dense=False, final_norm=(), below=""
) -> Writer:
    """ConvNeXt in the names of a code base.

    dense: with norms on all outputs in place of a classifier. final_norm: names of a norm after the
    last stage that no classifier follows, as DINOv3 has it. below: what stands before all others.
    """
    stem, downsample, block, parts, out_norm = _CONVNEXT[code]
    (conv, norm), (dw, ln, fc1, fc2, gamma) = stem.split(), parts.split()
    w = Writer()
    w.layer(conv, "stem.conv", dims[0], 3, 4, 4)
    w.norm(norm, "stem.norm", dims[0])
    for i, depth in enumerate(depths):
        dim, stage = dims[i], f"stages.{i}"
        if i:
            theirs = downsample(i)
            w.norm(f"{theirs}.0", f"{stage}.downsample.norm", dims[i - 1])
            w.layer(f"{theirs}.1", f"{stage}.downsample.conv", dim, dims[i - 1], 2, 2)
        for j in range(depth):
            theirs, ours = block(i, j), f"{stage}.blocks.{j}"
            shape = (dim, 1, 1) if code == "torchvision" else (dim,)
            w.add(f"{theirs}.{gamma}", f"{ours}.layer_scale.scale", *shape)
            w.layer(f"{theirs}.{dw}", f"{ours}.dwconv", dim, 1, 7, 7)
            w.norm(f"{theirs}.{ln}", f"{ours}.norm", dim)
            w.layer(f"{theirs}.{fc1}", f"{ours}.mlp.fc1", 4 * dim, dim)
            w.layer(f"{theirs}.{fc2}", f"{ours}.mlp.fc2", dim, 4 * dim)
    w.entries = [(below + theirs, ours, tensor) for theirs, ours, tensor in w.entries]
    if dense:
        for i in range(4):
            w.norm(out_norm(i), f"out_norms.{i}", dims[i])
    elif final_norm:
        w.norm(final_norm[0], "out_norms.3", dims[3])
        for name in final_norm[1:]:  # the same tensors once more
            for leaf in ("weight", "bias"):
                w.entries.append((f"{name}.{leaf}", None, w.state_dict[f"{final_norm[0]}.{leaf}"]))
    elif code in _CLASSIFIERS:
        names = _CLASSIFIERS[code].split()
        w.norm(names[0], None, dims[3])
        for name in names[1:]:
            w.layer(name, None, CLASSES, dims[3])
    return w


def poolformer_hugging_face(depths=DEPTHS, dims=DIMS) -> Writer:
    """PoolFormerModel: all patch embeddings and all blocks, below encoder."""
    w = Writer()
    for i, depth in enumerate(depths):
        ours, side = (f"stages.{i}.downsample.conv", 3) if i else ("stem.conv", 7)
        theirs = f"encoder.patch_embeddings.{i}.projection"
        w.layer(theirs, ours, dims[i], dims[i - 1] if i else 3, side, side)
        for j in range(depth):
            theirs, ours, dim = f"encoder.block.{i}.{j}", f"stages.{i}.blocks.{j}", dims[i]
            for k in (1, 2):
                w.add(f"{theirs}.layer_scale_{k}", f"{ours}.layer_scale{k}.scale", dim)
            w.norm(f"{theirs}.before_norm", f"{ours}.norm1", dim)
            w.norm(f"{theirs}.after_norm", f"{ours}.norm2", dim)
            w.layer(f"{theirs}.output.conv1", f"{ours}.mlp.fc1", 4 * dim, dim, 1, 1)
            w.layer(f"{theirs}.output.conv2", f"{ours}.mlp.fc2", dim, 4 * dim, 1, 1)
    return w
