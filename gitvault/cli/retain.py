"""Verbs that change what was saved: prune, forget, op."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING

from gitvault.cli import render
from gitvault.cli.arguments import add_selection, count, filled, names, wrong
from gitvault.core.utils.names import to_line, to_text
from gitvault.personas.base import Answer, Session, Verb

if TYPE_CHECKING:
    from gitvault.core.models import ForgetReport, PruneReport
    from gitvault.core.versioning.operations import Operation

_PERIODS = {
    "last": "snapshots",
    "hourly": "hours",
    "daily": "days",
    "weekly": "weeks",
    "monthly": "months",
    "yearly": "years",
}
_LISTED = 20


def _add_project(parser: ArgumentParser) -> None:
    what = "only this project's snapshots; repeatable"
    parser.add_argument("--project", metavar="P", type=filled(str), action="append", default=[], help=what)
    add_selection(parser, "only snapshots of those projects")


def _projects(session: Session, arguments: Namespace) -> list[str]:
    return [*arguments.project, *names(session, arguments.select)]


# --------------------------------------------------------------------------------------------- prune


def _configure_prune(parser: ArgumentParser) -> None:
    _add_project(parser)
    for period, what in _PERIODS.items():
        newest = (
            f"the newest N {what}" if period == "last" else f"the newest of each of the last N {what} that have one"
        )
        parser.add_argument(f"--keep-{period}", metavar="N", type=count, default=0, help=newest)
    within = "all that are at most so much older than the newest: 36h, 10d, 8w, 6m, 2y"
    parser.add_argument("--keep-within", metavar="D", type=filled(_duration), help=within)
    parser.add_argument("--keep-milestones", action="store_true", help="all that a tag names")
    parser.add_argument("--yes", action="store_true", help="do it; without, only say what would be done")


def _duration(text: str) -> str:
    from gitvault.core.utils.dates import duration

    try:
        duration(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{error}, found {text!r}") from None
    return text


def _prune(session: Session, arguments: Namespace) -> Answer:
    from gitvault.core.backup_engine.retention import Retention

    given = {field.name: getattr(arguments, f"keep_{field.name}") for field in fields(Retention)}
    rules = Retention(**{name: value for name, value in given.items() if value})
    report = session.vault.prune(rules or None, projects=_projects(session, arguments), yes=arguments.yes)
    return Answer(
        {"kept": list(report.kept), "removed": list(report.removed), "yes": report.done},
        _prune_lines(report),
        _prune_hints(session, report),
    )


def _prune_lines(report: PruneReport) -> Iterator[str]:
    project = None
    for verdict in report.verdicts:
        snapshot = verdict.snapshot
        if snapshot.project != project:
            project = snapshot.project
            yield f"{render.line(project)}:"
        fate = f"kept: {', '.join(map(render.line, verdict.reasons))}" if verdict.reasons else "removed"
        fate = fate if report.done or verdict.reasons else "would be removed"
        yield f"  {snapshot.id[: render.SHORT]}  {render.local(snapshot.time)}  {fate}"
    kept, removed = len(report.kept), len(report.removed)
    yield f"{removed:,} {'removed' if report.done else 'would be removed'}, {kept:,} kept"


def _prune_hints(session: Session, report: PruneReport) -> list[str]:
    if not report.removed:
        return []
    if not report.done:
        return ["the same with --yes"]
    return [f"{session.command} sweep   gives the space back", f"{session.command} op undo   takes it back, until then"]


# -------------------------------------------------------------------------------------------- forget


def _configure_forget(parser: ArgumentParser) -> None:
    what = "files and folders that match, as in .gitignore; repeatable"
    parser.add_argument("--path", metavar="GLOB", type=filled(str), action="append", required=True, help=what)
    _add_project(parser)
    what = "also from the history in repositories that are stored whole: git's packs are written anew, svn's texts go"
    parser.add_argument("--repositories", action="store_true", help=what)
    parser.add_argument("--yes", action="store_true", help="do it; without, only say what would be done")


def _forget(session: Session, arguments: Namespace) -> Answer:
    report = session.vault.forget(
        arguments.path, projects=_projects(session, arguments), repositories=arguments.repositories, yes=arguments.yes
    )
    hints = []
    if report.paths:
        hints = [f"{session.command} sweep   removes the bytes"] if report.done else ["the same with --yes"]
    return Answer(
        {
            "paths": [{"project": project, "path": to_text(path)} for project, path in report.paths],
            "snapshots": list(report.snapshots),
            "yes": report.done,
            "held": [
                {
                    "project": one.project,
                    "repository": to_text(one.repository),
                    "paths": list(map(to_text, one.paths)),
                    "snapshots": list(one.snapshots),
                    "reason": one.reason,
                }
                for one in report.held
            ],
        },
        _forget_lines(report, arguments.repositories),
        hints,
        code=1 if report.held else 0,
    )


def _forget_lines(report: ForgetReport, repositories: bool) -> Iterator[str]:
    for project, path in report.paths[:_LISTED]:
        yield f"  {render.line(project)}:{to_line(path)}"
    if len(report.paths) > _LISTED:
        yield f"  and {len(report.paths) - _LISTED:,} more; --json lists all"
    where = f"{render.plural(len(report.paths), 'path')} in {render.plural(len(report.snapshots), 'snapshot')}"
    if not report.paths:
        yield "nothing matches"
    else:
        yield f"{where} {'forgotten' if report.done else 'would be forgotten, which cannot be undone'}"
    for one in report.held:
        found = ", ".join(map(to_line, one.paths[:_LISTED])) + (" ..." if len(one.paths) > _LISTED else "")
        what = [f"still holds {found}"] if one.paths else []
        what += [f"cannot be looked into ({render.line(one.reason)})"] if one.reason else []
        stored = f"stored in {render.plural(len(one.snapshots), 'snapshot')}"
        yield f"{render.line(one.project)}:{to_line(one.repository)}, {stored}, {' and '.join(what)}"
    if report.held:
        again = "" if repositories else "with --repositories it goes from those of git and Subversion, too; else "
        if any(b"/lfs/objects/" in path for one in report.held for path in one.paths):
            again = "copies of git-lfs go by their own paths, as they stand here; " + again
        yield f"{again}take it out of these repositories, forget their folders or prune those snapshots, and save again"


# ------------------------------------------------------------------------------------------------ op


def _configure_op(parser: ArgumentParser) -> None:
    parser.add_argument("action", metavar="log | undo", choices=("log", "undo"), help="list them, or take back")
    parser.add_argument("count", metavar="N", type=count, nargs="?", help="how many to take back (else: one)")


def _op(session: Session, arguments: Namespace) -> Answer:
    if arguments.action == "log":
        if arguments.count is not None:
            raise wrong("op log takes no number")
        found = session.vault.operations()
        return Answer(list(map(_document, found)), map(_line, found) if found else ["no operations"])
    if arguments.count == 0:
        raise wrong("argument N: expected a number from 1 up")
    done = session.vault.undo(arguments.count or 1)
    return Answer(_document(done), [_line(done)])


def _document(operation: Operation) -> dict[str, object]:
    return {
        "number": operation.number,
        "what": operation.what,
        "time": render.iso(operation.time),
        "host": operation.host,
        "undoes": list(operation.undoes),
        "refs": [
            {"ref": move.ref, "old": move.old and move.old.hex(), "new": move.new and move.new.hex()}
            for move in operation.moves
        ],
    }


def _line(operation: Operation) -> str:
    undoes = f" of {', '.join(map(str, operation.undoes))}" if operation.undoes else ""
    refs = render.plural(len(operation.moves), "ref")
    return f"{operation.number:>5}  {render.local(operation.time)}  {render.line(operation.what)}{undoes}, {refs} moved"


VERBS = (
    Verb(
        "prune",
        "remove snapshots that no rule keeps",
        "git-vault prune --keep-daily 14 --keep-monthly 12 --yes",
        _configure_prune,
        _prune,
    ),
    Verb(
        "forget",
        "remove paths from all history, for good",
        "git-vault forget --path '*.pem' --yes",
        _configure_forget,
        _forget,
    ),
    Verb("op", "list what changed history, or take it back", "git-vault op log\ngit-vault op undo", _configure_op, _op),
)
