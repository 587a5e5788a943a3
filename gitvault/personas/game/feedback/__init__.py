"""Feedback: what players say and what their games report, with the build it is about."""

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
