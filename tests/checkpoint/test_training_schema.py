"""Each kind of check of the table of trainings: what it takes and what it refuses."""

import pytest
import torch

from mmplugins.checkpoint.training_schema import TRAINING

CASES = {  # a place in the table: what may stand there, and what may not
    "meta.epoch": ([0, 7], [-1, 1.0, True, None, 10**13]),
    "meta.seed": ([0, None], [-1, 2**32]),
    "meta.cfg": (["a = 1"], [5, None]),
    "meta.dataset_meta": ([{}, None], [5]),
    "state_dict": ([{"a": torch.ones(1)}, {"b.extra_state": 3}], [{"a": 1}, {1: torch.ones(1)}]),
    "message_hub.runtime_info.best_score*": (
        [0.5, 1, torch.tensor(0.5)],
        [float("nan"), "1", True, torch.ones(2), torch.ones(1, device="meta"), torch.tensor(True)],
    ),
    "message_hub.runtime_info.keep_ckpt_ids": ([[], [3]], [[-1], 3]),
    "message_hub.resumed_keys": ([{"a": True}], [{"a": 1}, {1: True}]),
    "exact_resume.validated": ([False], [0]),
    "exact_resume.gradients": ([None, {"a": torch.ones(1)}], [{"a": 1}]),
    "exact_resume.early_stopping": (
        [[], [dict(best_score=0.5, wait_count=0)]],
        [[dict(best_score=0.5)], [dict(best_score="x", wait_count=0)], [1], {}],
    ),
}


@pytest.mark.parametrize("place", CASES)
def test_checks(place):
    right, wrong = CASES[place]
    assert [value for value in right if TRAINING[place](value)] == []
    assert [value for value in wrong if not TRAINING[place](value)] == []
