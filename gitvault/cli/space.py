"""Verbs that give space back: sweep."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator

from gitvault.cli import render
from gitvault.core.models import SweepReport
from gitvault.personas.base import Answer, Session, Verb


def _sweep(session: Session, arguments: Namespace) -> Answer:
    report = session.vault.sweep(progress=session.progress)
    return Answer(
        {
            "bytes_freed": report.bytes_freed,
            "seconds": round(report.seconds, 3),
            "actions": list(report.actions),
        },
        _sweep_lines(report),
    )


def _sweep_lines(report: SweepReport) -> Iterator[str]:
    if not report.actions and not report.bytes_freed:
        yield "nothing to remove: all that is stored is needed"
        return
    yield from (render.line(action) for action in report.actions)
    yield f"{render.size(report.bytes_freed)} freed; took {render.seconds(report.seconds)}"


VERBS = (
    Verb("sweep", "give back the space of what no snapshot needs", "git-vault sweep", lambda parser: None, _sweep),
)
