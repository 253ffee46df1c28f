"""Measuring what a backbone or a whole model costs: parameters, MACs, latency, memory."""

from .comparison import Comparison, compare, rank
from .complexity import ComplexityError, Macs, Parameters, count_macs, count_parameters
from .environment import describe_environment
from .peers import with_peers
from .report import make_report, write_report
from .results import ResultError, ResultFile, Results, read_results
from .rows import Row, expand, parse_row
from .session import MEASURES, USUAL, Session, Settings
from .speed import Failure, Sample
from .tables import csv_text, markdown, notes_of, rich_tables

__all__ = [
    "MEASURES",
    "USUAL",
    "Comparison",
    "ComplexityError",
    "Failure",
    "Macs",
    "Parameters",
    "ResultError",
    "ResultFile",
    "Results",
    "Row",
    "Sample",
    "Session",
    "Settings",
    "compare",
    "count_macs",
    "count_parameters",
    "csv_text",
    "expand",
    "make_report",
    "describe_environment",
    "markdown",
    "notes_of",
    "parse_row",
    "rank",
    "read_results",
    "rich_tables",
    "with_peers",
    "write_report",
]
