"""Experiments as declarations: data sets × methods × seeds, computed once, as tables and pictures. Loads lazily."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .datasets import DatasetSpec, ready_datasets
    from .generalisation import Choice, choose
    from .in_context.report import write_in_context_results
    from .in_context.runner import InContextRun, run_in_context
    from .in_context.suite import InContextSuite
    from .in_context.summary import InContextLine, summarize_in_context
    from .methods import Method
    from .results import write_results
    from .runner import SuiteRun, run_suite
    from .suite import Suite, read_suite, ready_suites
    from .summary import Line, summarize

_HOME = {
    "Choice": "generalisation",
    "DatasetSpec": "datasets",
    "InContextLine": "in_context.summary",
    "InContextRun": "in_context.runner",
    "InContextSuite": "in_context.suite",
    "Line": "summary",
    "Method": "methods",
    "Suite": "suite",
    "SuiteRun": "runner",
    "choose": "generalisation",
    "read_suite": "suite",
    "ready_datasets": "datasets",
    "ready_suites": "suite",
    "run_in_context": "in_context.runner",
    "run_suite": "runner",
    "summarize": "summary",
    "summarize_in_context": "in_context.summary",
    "write_in_context_results": "in_context.report",
    "write_results": "results",
}

__all__ = [
    "Choice",
    "DatasetSpec",
    "InContextLine",
    "InContextRun",
    "InContextSuite",
    "Line",
    "Method",
    "Suite",
    "SuiteRun",
    "choose",
    "read_suite",
    "ready_datasets",
    "ready_suites",
    "run_in_context",
    "run_suite",
    "summarize",
    "summarize_in_context",
    "write_in_context_results",
    "write_results",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
