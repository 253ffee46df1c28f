"""Drawn weight files: however weights are wrapped they load, and what is no weights is named."""

from __future__ import annotations

import os
import tempfile
from collections import OrderedDict
from pathlib import Path

import torch
from few_and_many import few_and_many
from hypothesis import strategies as st
from safetensors.torch import save_file
from small_models import small

from mmplugins.checkpoint import CheckpointError, MismatchError, load_weights

FAMILIES = st.sampled_from(["PoolFormer", "ConvFormer", "ConvNeXt", "sMLPNet"])

BELOW = ("state_dict", "model", "model_state_dict", "model_ema", "state_dict_ema", "teacher")
BEFORE = ("module.", "_orig_mod.", "backbone.", "model.backbone.", "encoder.")
BESIDE = dict(epoch=3, meta=dict(iter=7), optimizer=dict(state={}, param_groups=[]), best=0.5)


@st.composite
def wrappings(draw):
    """What training scripts do to a state dict before they save it, as a function."""
    before = "".join(draw(st.lists(st.sampled_from(BEFORE[:2]), max_size=2)))
    before += draw(st.sampled_from(["", *BEFORE[2:]]))
    below = draw(st.lists(st.sampled_from(BELOW), max_size=2))
    beside = {k: BESIDE[k] for k in draw(st.lists(st.sampled_from(sorted(BESIDE)), unique=True))}
    kind = draw(st.sampled_from([None, torch.float16, torch.bfloat16, torch.float64]))
    others = draw(st.booleans())
    ordered = draw(st.sampled_from([dict, OrderedDict]))
    plain = draw(st.booleans())  # safetensors hold one flat dict

    def write(weights, path):
        state = ordered((f"{before}{k}", v if kind is None else v.to(kind)) for k, v in weights)
        if others and before.endswith(("backbone.", "encoder.")):
            state[before.removesuffix("backbone.").removesuffix("encoder.") + "head.weight"] = (
                torch.ones(2, 2)
            )
        if plain:
            save_file(dict(state), path.with_suffix(".safetensors"))
            return path.with_suffix(".safetensors")
        content = state
        for name in below:
            content = {name: content, **beside}
        torch.save(content, path)
        return path

    return write


def check_wrapped(family, write):
    torch.manual_seed(0)
    theirs, ours = small(family), small(family)
    with torch.no_grad():
        for value in theirs.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.randint(-8, 8, value.shape) / 4)  # exact in any precision
    with tempfile.TemporaryDirectory() as folder:
        load_weights(ours, write(theirs.state_dict().items(), Path(folder) / "w.pth"))
    for (name, mine), other in zip(
        ours.state_dict().items(), theirs.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, other), name


JUNK = [
    None, 7, "text", b"bytes", [], {}, [torch.ones(2)], torch.ones(3), {"a": 1}, {"a": "b"},
    {"state_dict": None}, {"state_dict": []}, {"model": {"state_dict": {}}}, {1: torch.ones(2)},
    {"state_dict": {"a": torch.ones(2)}}, {"a": torch.ones(2, device="meta")},
]  # fmt: skip


def check_spoilt(family, data):
    """A file cut, overwritten, of other content or with spoilt tensors: an error that names it."""
    draw = data.draw
    model = small(family)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    how = draw(st.sampled_from(["cut", "bytes", "junk", "tensor", "lose", "name", "safe"]))
    state = dict(small(family).state_dict())
    # Counters of batches may be absent, as in files of old.
    weights = [k for k in state if k.startswith("stages") and not k.endswith("_tracked")]
    key = draw(st.sampled_from(sorted(weights)))
    if how == "tensor":
        value = state[key]
        odd = [None, "x", torch.ones(2, *value.shape), torch.full(value.shape, torch.nan)]
        if value.numel() > 1:  # one number is the same weight whatever ones its shape has
            odd += [torch.ones(()), value[None][..., None]]
        state[key] = draw(st.sampled_from(odd))
    elif how == "lose":
        del state[key]
    elif how == "name":
        state[draw(st.text(max_size=5)) + key] = state.pop(key)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("w.safetensors" if how == "safe" else "w.pth")
        if how == "safe":
            save_file(state, path)
        else:
            torch.save(draw(st.sampled_from(JUNK)) if how == "junk" else state, path)
        size = path.stat().st_size
        if how in ("cut", "safe"):
            os.truncate(path, draw(st.integers(0, size - 1)))
        elif how == "bytes":
            with path.open("r+b") as file:
                file.seek(draw(st.integers(0, min(size - 9, 4000))))
                file.write(draw(st.binary(min_size=1, max_size=8)))
        try:
            load_weights(model, path)
        except (CheckpointError, MismatchError) as error:
            assert path.name in str(error) and len(str(error)) < 5000
            after = model.state_dict()
            assert all(torch.equal(after[k], v) for k, v in before.items()), "half loaded"
            return
        assert how in ("bytes", "name"), "passed"  # of a tensor's values, or an empty name before
        assert all(v.shape == before[k].shape for k, v in model.state_dict().items())


test_wrapped, test_many_wrapped = few_and_many(check_wrapped, 15, 300, FAMILIES, wrappings())
test_spoilt, test_many_spoilt = few_and_many(check_spoilt, 15, 600, FAMILIES, st.data())
