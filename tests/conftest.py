"""What all tests share: a small shapes data set, made once; weights that show every difference.

No default scope is left from test to test.
"""

import gc
import shutil
import signal
import sys
from contextlib import contextmanager

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings
from mmengine.config import config as mmengine_config
from mmengine.registry import DefaultScope
from yapf.yapflib import yapf_api

from mmplugins.datasets import make_shapes

# What hypothesis draws is always the same. A failure is not made smaller, which takes minutes.
settings.register_profile(
    "suite",
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
settings.load_profile("suite")

format_code, formatted = yapf_api.FormatCode, {}


def format_once(text, **options):
    """mmengine has yapf format each config five times, which takes longer than a short training."""
    if text not in formatted:
        formatted[text] = format_code(text, **options)
    return formatted[text]


for module in (yapf_api, mmengine_config):  # where the fork's mmengine, and OpenMMLab's, look
    module.FormatCode = format_once
frozen = dict(modules=0)


def pytest_runtest_setup():
    """mmengine collects garbage with each data set; what is imported by now need not be walked."""
    if len(sys.modules) > frozen["modules"] + 300:
        gc.collect()
        gc.freeze()
        frozen["modules"] = len(sys.modules)


def pytest_sessionfinish():
    gc.unfreeze()


@contextmanager
def scopes(kept):
    """A Runner sets mmengine's default scope for good, and that decides what a bare name means."""
    made = DefaultScope._instance_dict
    before = dict(made) if kept else {}
    yield
    made.clear()
    made.update(before)


@pytest.fixture(scope="module", autouse=True)
def no_scope_of_another_file():
    with scopes(kept=False):
        yield


@pytest.fixture(autouse=True)
def no_scope_of_another_test():
    with scopes(kept=True):
        yield


@pytest.fixture(scope="session")
def shapes_spec():
    return dict(image_size=96, num_train=8, num_val=4, seed=3)


@pytest.fixture(scope="session")
def shapes_root(tmp_path_factory, shapes_spec):
    return make_shapes(tmp_path_factory.mktemp("data") / "shapes", **shapes_spec)


@pytest.fixture
def shapes_copy(shapes_root, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(shapes_root, tmp_path / "shapes")


@pytest.fixture
def interruptible():
    """Ctrl-C as in the foreground of a shell; what runs in its background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def randomise():
    """Function that gives all weights of a model, or of a state dict, random values; returns it.

    No branch vanishes at them (a layer scale starts at 1e-5). Memory is allocated if the model
    stands on the meta device.
    """

    @torch.no_grad()
    def randomise(given, seed=0):
        tensors = given
        if isinstance(given, torch.nn.Module):
            if any(p.is_meta for p in given.parameters()):
                given.to_empty(device="cpu")
            tensors = given.state_dict()
        random = torch.Generator().manual_seed(seed)
        for name, value in tensors.items():
            if not value.is_floating_point():
                value.zero_()
            elif value.ndim < 2:
                mean = 0.0 if name.endswith(("bias", "mean")) else 1.0  # the rest scales, or a var
                value.uniform_(mean - 0.5, mean + 0.5, generator=random)
            else:
                fan_in = 4 if len(value) == 1 else value[0].numel()  # 1: a position embedding
                value.normal_(0, fan_in**-0.5, generator=random)
        return given

    return randomise
