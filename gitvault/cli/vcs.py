"""The verb vcs: what of the checkouts exists only on this machine."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gitvault.cli import render
from gitvault.cli.arguments import add_selection, filled, here, selected
from gitvault.personas.base import Answer, Session, Verb

if TYPE_CHECKING:
    from gitvault.vcs.verdict import Safety

_UNSAFE = 1


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("action", metavar="status", choices=("status",), help="what would be lost with this machine")
    parser.add_argument("projects", metavar="PROJECT", type=filled(str), nargs="*", help="(else: every project)")
    add_selection(parser, "those projects of this machine")
    parser.add_argument("--probe", action="store_true", help="ask each remote now, whatever it said last")


def _vcs(session: Session, arguments: Namespace) -> Answer:
    projects = arguments.projects
    if arguments.select:
        projects = [*projects, *(project.name for project in here(session, selected(session, arguments.select)))]
    found = session.vault.vcs_status(projects, probe=arguments.probe) if projects or not arguments.select else []
    return Answer(
        [_document(one) for one in found],
        _lines(session, found),
        code=0 if all(one.safe for one in found) else _UNSAFE,
    )


def _document(found: Safety) -> dict[str, object]:
    return {
        "project": found.project,
        "path": render.disk_text(found.path),
        "vcs": found.vcs,
        "safe": found.safe,
        "modified": found.modified,
        "untracked": found.untracked,
        "unpushed_commits": found.unpushed_commits,
        "stashes": found.stashes,
        "reason": render.line(found.reason),
    }


def _lines(session: Session, found: Sequence[Safety]) -> Iterator[str]:
    if not found:
        return iter((f"no projects yet; {session.command} snapshot PATH",))
    return render.table(
        ("safe" if one.safe else "UNSAFE", render.line(one.project), one.vcs or "-", render.line(one.reason))
        for one in found
    )


VERBS = (
    Verb(
        "vcs",
        "tell what would be lost with this machine",
        "git-vault vcs status\ngit-vault vcs status acme --probe --json",
        _configure,
        _vcs,
    ),
)
