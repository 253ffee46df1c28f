"""What the checks work on, and how one check runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import EVALUATOR

from mmplugins.checkpoint import CheckpointError
from mmplugins.engine.config.constructors import class_of
from mmplugins.engine.config.settings import SettingError
from mmplugins.utils import DataError, few, listed

from .explain import explain, in_words, watched
from .results import CheckResult, Status


class NotRun(Exception):
    """Raised by a check that finds nothing to check."""


class Stopped(Exception):
    """Raised where a check has failed and cannot go on."""


@dataclass
class Inspection:
    """A config under inspection.

    Attributes:
        cfg: A copy of the config that checks may change.
        scope: Its default scope.
        full: Whether to read every picture.
        processes: How many processes will train together.
        share: Which part of the training pictures is at hand; below 1 for shapes not made yet.
        results: What was found so far.
        broken: Names of failed checks, and top-level config entries in which something failed.
        model: The model, once built; on the CPU, with random weights.
        metrics: What could be built of the metrics, by config path.
        folder: A temporary folder, for parts that write.
        measured: What the training step measured, for the estimate of memory.
    """

    cfg: Config
    scope: str
    full: bool = False
    processes: int = 1
    share: float = 1.0
    results: list[CheckResult] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    model: Any = None
    metrics: dict[str, Any] = field(default_factory=dict)
    folder: str = ""
    measured: dict[str, Any] = field(default_factory=dict)
    _name: str = ""

    @property
    def trained(self) -> tuple[str, Mapping[str, Any]]:
        """Path and config of the detector or segmentor that learns; a wrapper has it as student."""
        model = self.cfg.get("model")
        model = model if isinstance(model, Mapping) else {}
        student = model.get("student")
        return ("model.student", student) if isinstance(student, Mapping) else ("model", model)

    def harmless(self, metric: Any) -> Any:
        """A metric's config that writes into the temporary folder."""
        if not isinstance(metric, Mapping):
            return metric
        moved = {
            key: os.path.join(self.folder, os.path.basename(str(metric[key])))
            for key in ("outfile_prefix", "output_dir", "out_file_path")
            if metric.get(key)
        }
        return {**metric, **moved}

    def fail(self, message: str, where: str = "") -> None:
        """Report what cannot work; ``where`` is the config entry, put before the message."""
        self._add("failure", message, where)
        self.broken |= {self._name, where.split(".")[0].split("[")[0]} - {""}

    def stop(self, message: str, where: str = "") -> NoReturn:
        """Report what cannot work, and end the check."""
        self.fail(message, where)
        raise Stopped

    def warn(self, message: str, where: str = "") -> None:
        """Report what works but is hardly meant."""
        self._add("warning", message, where)

    def attempt(
        self,
        build: Callable[[], Any],
        where: str,
        value: Any,
        unsure: tuple[type[Exception], ...] = (),
        owner: Any = None,
    ) -> Any:
        """What ``build`` makes of a config entry, or None and a failure that says where and why.

        Args:
            build: Builds it.
            where: Dotted path of the entry.
            value: The entry.
            unsure: Errors that say nothing about the config, and are passed over.
            owner: Class or function that takes the entry's arguments if no registry builds it.
        """
        try:
            with watched():
                return build()
        except unsure:
            return None
        except Exception as error:  # constructors may raise anything
            if self.processes > 1 and "process group has not been init" in str(error):
                raise NotRun(f"{where} needs the other processes to be there") from error
            place, said = explain(error, value, where, self.scope, owner)
            self.fail(said, place)
            return None

    def _add(self, status: Status, message: str, where: str) -> None:
        result = CheckResult(self._name, status, f"{where}: {message}" if where else message)
        if result not in self.results:
            self.results.append(result)

    def run(self, check: Check) -> None:
        """Run a check unless something it needs is broken; any error in it is a failure."""
        self._name = check.name
        # In a wrong scope every name would be reported again.
        lacking = sorted(self.broken.intersection({*check.needs, "default_scope"}))
        if lacking:
            self._add("not run", f"needs {', '.join(lacking)} to be in order", "")
            self.broken.add(check.name)  # what needs this one cannot run either
            return
        before = len(self.results)
        try:
            said = check.run(self)
        except NotRun as reason:
            self._add("not run", str(reason), "")
            return
        except Stopped:
            return
        except (SettingError, DataError, CheckpointError) as error:
            self.fail(str(error))
        except Exception as error:  # whatever a config makes OpenMMLab raise is a finding
            if before_this := sorted(self.broken - {check.name}):  # of which it is a consequence
                self._add("not run", f"needs {few(before_this)} to be in order", "")
            else:
                self.fail(in_words(error))
        if len(self.results) == before:
            self._add("ok", said, "")


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: First column of the table.
        run: Reports to the inspection, and returns what to say when all is well.
        needs: Checks and top-level config entries that must be in order for it to make sense.
        data: Whether it reads pictures, annotations or weights. Defaults to False.
    """

    name: str
    run: Callable[[Inspection], str]
    needs: tuple[str, ...] = ()
    data: bool = False


def metrics_of(cfg: Mapping, split: str) -> list[tuple[str, Any]]:
    """Config path and config of each metric of a split, those inside of an ``Evaluator`` too."""
    where, value = f"{split}_evaluator", cfg.get(f"{split}_evaluator")
    if isinstance(value, Mapping) and "metrics" in value and _is_wrapper(value):
        where, value = f"{where}.metrics", value["metrics"]
    many = isinstance(value, list | tuple)
    return [(f"{where}[{k}]" if many else where, one) for k, one in enumerate(listed(value))]


def _is_wrapper(evaluator: Mapping) -> bool:
    kind = class_of(EVALUATOR, {"type": "Evaluator", **evaluator})
    return isinstance(kind, type) and issubclass(kind, Evaluator)
