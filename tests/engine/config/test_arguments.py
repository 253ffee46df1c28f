"""Arguments that several tools have."""

from __future__ import annotations

from argparse import ArgumentParser

import pytest

from mmplugins.engine.config import arguments


def test_config():
    parser = ArgumentParser()
    arguments.add_config(parser)
    args = parser.parse_args(["a.py", "--cfg-options", "model.lr=1e-3", "sides=[1,2]"])
    assert (args.config, args.backbone) == ("a.py", None)
    assert args.cfg_options == {"model.lr": 1e-3, "sides": [1, 2]}
    assert parser.parse_args(["a.py", "--backbone", "caformer_s18"]).backbone == "caformer_s18"


def test_dicts_on_the_command_line(capsys):
    parser = ArgumentParser()
    arguments.add_config(parser)
    hooks = "custom_hooks=[dict(type='EMAHook', momentum=0.0002), {'type': 'ChannelsLastHook'}]"
    args = parser.parse_args(["a.py", "--cfg-options", hooks, "resume=True"])
    assert args.cfg_options == {
        "custom_hooks": [dict(type="EMAHook", momentum=0.0002), dict(type="ChannelsLastHook")],
        "resume": True,
    }
    with pytest.raises(SystemExit):  # the shell has taken the quotes
        parser.parse_args(["a.py", "--cfg-options", "custom_hooks=[dict(type=EMAHook)]"])
    assert "'[dict(type=EMAHook)]' cannot be read: expected Python" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parser.parse_args(["a.py", "--cfg-options", "resume"])
    assert "--cfg-options: 'resume': expected NAME=VALUE" in capsys.readouterr().err


def test_a_backbone_may_be_asked_for(capsys):
    parser = ArgumentParser()
    arguments.add_config(parser, backbone_required=True)
    with pytest.raises(SystemExit):
        parser.parse_args(["a.py"])
    assert "--backbone" in capsys.readouterr().err


@pytest.mark.parametrize("spelling", ["--local-rank=3", "--local_rank=3"])
def test_launcher(spelling):
    parser = ArgumentParser()
    arguments.add_launcher(parser)
    assert parser.parse_args([]).launcher == "none" and parser.parse_args([]).local_rank == 0
    args = parser.parse_args(["--launcher", "pytorch", spelling])
    assert (args.launcher, args.local_rank) == ("pytorch", 3)
