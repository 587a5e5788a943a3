"""Feedback: what players say and what their games report, with the build it is about."""

from gitvault.personas.game.feedback.importing import Imported, Rejected, import_file, keep
from gitvault.personas.game.feedback.queries import BuildFigures, Report, Wanted, count, find, report
from gitvault.personas.game.feedback.record import Feedback
from gitvault.personas.game.feedback.sources import MAPPED, SOURCES, Source, mapped
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
    "count",
    "find",
    "import_file",
    "keep",
    "mapped",
    "report",
]
