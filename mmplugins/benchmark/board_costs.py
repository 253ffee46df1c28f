"""What the models of a leaderboard cost, out of a benchmark's report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .work_dirs import own_backbone


def case_to_show(report: Mapping[str, Any]) -> tuple[list[int], int] | None:
    """The largest size, at the smallest batch."""
    return max(report["cases"], key=lambda c: (c[0][0] * c[0][1], -c[1]), default=None)


def cost_of_report(report: Mapping[str, Any]) -> dict[str, Any]:
    """On what, how, and at which size the costs were measured."""
    size, batch = case_to_show(report) or (None, None)
    return dict(
        environment=report["environment"], settings=report["settings"], size=size, batch=batch
    )


def cost_of(result: Mapping[str, Any], report: Mapping[str, Any]) -> dict[str, Any] | None:
    """Cost of a result's model: of the whole model, if the report has it, else of the backbone.

    Returns:
        ``row``, ``whole``, ``parameters``, ``backbone_parameters``, ``macs``, ``backbone_macs``,
        ``inference``, ``memory``, ``energy``, ``failure``; None if the report lacks it.
    """
    read = result["source"] != "trained"

    def fits(row: Mapping[str, Any]) -> bool:
        if row.get("options"):
            return False
        if row.get("whole"):
            if Path(row["name"]).stem != result["config"]:
                return False
            # A config measured with its own backbone, and a training of it as it is.
            if read and not row["backbone"] and row["family"] == result["family"]:
                return own_backbone(row["name"]) in (None, result["backbone"])
            return row["backbone"] == result["backbone"]
        return row.get("name") == result["backbone"]

    found = [row for row in report["rows"] if fits(row)]
    if not found:
        # Of a row that could not be built, there is its label only.
        wanted = result["config"], result["backbone"]
        parts = ((row["row"].partition("@"), row["failure"]) for row in report["rows"])
        lost = [why for (name, _, b), why in parts if (Path(name).stem, b) == wanted and why]
        return dict(failure=lost[0]) if lost else None
    row = max(found, key=lambda r: (r["whole"], bool(r["backbone"])))
    size, batch = case_to_show(report) or (None, None)
    case: dict[str, Any] = next(
        (c for c in row["cases"] if [c["size"], c["batch"]] == [size, batch]), {}
    )
    parts, macs = row["parameters"]["by_part"], case.get("macs") or {}
    whole = row["whole"]
    return dict(
        row=row["row"], whole=whole, parameters=row["parameters"]["total"],
        backbone_parameters=parts.get("backbone") if whole else row["parameters"]["total"],
        macs=macs.get("total"),
        backbone_macs=macs.get("by_part", {}).get("backbone") if whole else macs.get("total"),
        inference=case.get("inference"), memory=case.get("memory", {}), energy=case.get("energy"),
        failure=row["failure"] or "; ".join(case.get("failures", {}).values()) or None,
    )  # fmt: skip
