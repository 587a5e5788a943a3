"""Verbs for sessions of work: watch, service, hook."""

from __future__ import annotations

import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

from gitvault.cli import render
from gitvault.cli.arguments import filled
from gitvault.personas.base import Answer, Session, Verb

if TYPE_CHECKING:
    from gitvault.personas.code.activity.watcher import Happening


# --------------------------------------------------------------------------------------------- watch


def _configure_watch(parser: ArgumentParser) -> None:
    parser.add_argument(
        "projects", metavar="PROJECT", type=filled(str), nargs="*", help="which (else: every one of this machine)"
    )


def _watch(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.code.activity import settings
    from gitvault.personas.code.activity.watcher import Watcher

    vault = session.vault
    watcher = Watcher(vault, arguments.projects, settings.load(vault.path))

    def stop(number: int, frame: object) -> None:
        watcher.stop()

    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), stop)
    happenings = watcher.run()
    return Answer(lambda out: _write_happenings(happenings, out), _happening_lines(happenings))


def _write_happenings(happenings: Iterator[Happening], out: TextIO) -> None:
    """A list, an element a line: one document when the watcher ends, and readable line by line before."""
    before = "["
    for happening in happenings:
        out.write(f"{before}{render.json_text(_happening_document(happening))}")
        out.flush()
        before = ",\n"
    out.write("]\n" if before != "[" else "[]\n")


def _happening_document(happening: Happening) -> dict[str, Any]:
    return {
        "time": render.iso(datetime.fromtimestamp(happening.time, UTC)),
        "project": happening.project,
        "event": happening.event,
        "detail": happening.detail,
        "snapshot": happening.snapshot,
    }


def _happening_lines(happenings: Iterator[Happening]) -> Iterator[str]:
    for happening in happenings:
        yield _happening_line(happening)
        # Also into a pipe, as things happen.
        sys.stdout.flush()


def _happening_line(happening: Happening) -> str:
    when = datetime.fromtimestamp(happening.time, UTC).astimezone().strftime("%H:%M:%S")
    snapshot = f" {happening.snapshot[: render.SHORT]}" if happening.snapshot else ""
    name = f" {render.line(happening.project)}:" if happening.project else ""
    return f"{when}{name} {happening.event}{snapshot} ({render.line(happening.detail)})"


VERBS = (
    Verb(
        "watch",
        "save projects while they are worked on",
        "git-vault watch\ngit-vault watch acme --json",
        _configure_watch,
        _watch,
    ),
)
