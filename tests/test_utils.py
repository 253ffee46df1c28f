import subprocess
import sys

import pytest

from mmplugins import utils
from mmplugins.utils import did_you_mean, line_of, one_line_errors


def test_near_names_are_offered_whatever_their_case():
    assert did_you_mean("Gelu", ["ReLU", "GELU"]) == " Did you mean 'GELU'?"
    assert did_you_mean("zzz", ["ReLU", "GELU"]) == ""
    offered = did_you_mean("poolfomer_s12", ["caformer_s18", "poolformer_s12"], count=2)
    assert offered.startswith(" Did you mean 'poolformer_s12'")


def test_the_user_s_errors_are_one_line():
    with pytest.raises(SystemExit, match="^error: no such thing$"), one_line_errors(ValueError):
        raise ValueError("no such thing")
    with pytest.raises(KeyError), one_line_errors(ValueError):
        raise KeyError("ours")
    with pytest.raises(SystemExit) as stopped, one_line_errors(ValueError):
        raise SystemExit(3)
    assert stopped.value.code == 3


def test_a_stopped_program_says_so(capsys):
    with pytest.raises(SystemExit) as stopped, one_line_errors(ValueError):
        raise KeyboardInterrupt
    assert stopped.value.code == 130 and capsys.readouterr().err == "stopped\n"
    other = type("Terminated", (KeyboardInterrupt,), {})
    with pytest.raises(other), one_line_errors(ValueError):
        raise other


@pytest.mark.parametrize("say", ["Console().print(text)", "print('x')"])
def test_nobody_reads_on(say):
    """As by ``| head``: also text that only Python's own end would write."""
    script = (
        "import sys, runpy; from rich.console import Console\n"
        f"one_line_errors = runpy.run_path({utils.__file__!r})['one_line_errors']\n"  # quick
        "text = 'x' * 100 + '\\n' * 10_000\n"
        f"with one_line_errors(OSError):\n    sys.stdin.read()\n    {say}\n    raise SystemExit(0)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    process.stdin.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141


def test_one_line_of_an_error():
    assert line_of(ValueError("why\nwhere")) == "why"
    assert line_of(ValueError("Check failed at\n\n  why\n"), -1) == "why"
    assert line_of(AssertionError()) == "AssertionError"
    assert line_of(ValueError("x" * 10_000)) == "x" * 300 + " ..."
