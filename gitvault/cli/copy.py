"""The verb that keeps a second vault."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator

from gitvault.cli import render
from gitvault.cli.arguments import add_selection, disk_path, filled, names
from gitvault.core.models import CopyReport
from gitvault.errors import CorruptionError, GitVaultError
from gitvault.personas.base import Answer, Session, Verb


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("--to", metavar="DIR", type=filled(disk_path), required=True, help="the other vault")
    parser.add_argument(
        "--project", metavar="P", type=filled(str), action="append", default=[], help="only this one, repeatable"
    )
    add_selection(parser, "only those projects")


def _copy(session: Session, arguments: Namespace) -> Answer:
    projects = [*arguments.project, *names(session, arguments.select)]
    report = session.vault.copy_to(arguments.to, projects=projects, progress=session.progress)
    damaged = any(left.damaged for left in report.left)
    return Answer(
        {
            "target": report.target,
            "snapshots": report.snapshots,
            "objects": report.objects,
            "chunks": report.chunks,
            "packs": report.packs,
            "bytes": report.bytes,
            "refs": report.refs,
            "seconds": round(report.seconds, 3),
            "left": [
                {"ref": left.ref, "project": left.project, "reason": left.reason, "damaged": left.damaged}
                for left in report.left
            ],
        },
        _lines(report),
        [f"{session.command} verify --data"] if damaged else [],
        CorruptionError.exit_code if damaged else GitVaultError.exit_code if report.left else 0,
    )


def _lines(report: CopyReport) -> Iterator[str]:
    if report.refs:
        yield (
            f"{render.plural(report.snapshots, 'snapshot')} copied to {render.line(report.target)}: "
            f"{render.size(report.bytes)} in {render.plural(report.packs, 'pack')}, {render.seconds(report.seconds)}"
        )
    elif not report.left:
        yield f"nothing new for {render.line(report.target)}"
    for left in report.left:
        yield f"left as it was there: {render.line(left.project or left.ref)}: {render.line(left.reason)}"


VERBS = (Verb("copy", "make or update a second vault", "git-vault copy --to /mnt/usb/vault.git", _configure, _copy),)
