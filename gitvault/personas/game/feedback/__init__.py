"""Feedback: what players say and what their games report, with the build it is about."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gitvault.personas.game.feedback.importing import Imported, Rejected, add, import_file, keep, keep_said
    from gitvault.personas.game.feedback.queries import BuildFigures, Report, Wanted, count, find, purge, report
    from gitvault.personas.game.feedback.record import Feedback
    from gitvault.personas.game.feedback.sources import MAPPED, SOURCES, Source, mapped, source
    from gitvault.personas.game.feedback.table import Table

__all__ = [
    "MAPPED",
    "SOURCES",
    "BuildFigures",
    "Feedback",
    "Imported",
    "Rejected",
    "Report",
    "Source",
    "Table",
    "Wanted",
    "add",
    "count",
    "find",
    "import_file",
    "keep",
    "keep_said",
    "mapped",
    "purge",
    "report",
    "source",
]

_HOMES = {
    "importing": ("Imported", "Rejected", "add", "import_file", "keep", "keep_said"),
    "queries": ("BuildFigures", "Report", "Wanted", "count", "find", "purge", "report"),
    "record": ("Feedback",),
    "sources": ("MAPPED", "SOURCES", "Source", "mapped", "source"),
    "table": ("Table",),
}


def __getattr__(name: str) -> Any:
    # A question needs nothing of what reads exports.
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
