"""The verb that gives files back."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator

from gitvault.cli import render
from gitvault.cli.arguments import SNAPSHOT, disk_path, filled, inner_path
from gitvault.core.models import RestoreReport
from gitvault.personas.base import Answer, Session, Verb

PROBLEMS = 1


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("snapshot", metavar="SNAPSHOT", type=filled(str), help=SNAPSHOT)
    parser.add_argument(
        "paths", metavar="PATH", type=filled(inner_path), nargs="*", help="only these files and folders of it"
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--to", metavar="DIR", type=filled(disk_path), help="below this folder; made when missing")
    where.add_argument("--in-place", action="store_true", help="where it came from, after a safety snapshot")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are in the way (with --to)")
    parser.add_argument(
        "--exclude",
        metavar="PATH",
        type=filled(inner_path),
        action="append",
        default=[],
        help="all but this; repeatable",
    )


def _restore(session: Session, arguments: Namespace) -> Answer:
    target = None if arguments.in_place else arguments.to
    report = session.vault.restore_snapshot(
        arguments.snapshot,
        target,
        paths=arguments.paths,
        excluded_paths=arguments.exclude,
        # In place means to replace what is there; the safety snapshot has it.
        overwrite=arguments.overwrite or arguments.in_place,
        progress=session.progress,
    )
    return Answer(
        {
            "snapshot": report.snapshot,
            "target": None if target is None else render.disk_text(target),
            "files": report.files,
            "bytes": report.bytes,
            "seconds": round(report.seconds, 3),
            "safety": report.safety,
            "problems": render.problems_document(report.problems),
        },
        _lines(report, target),
        [f"{session.command} restore {report.safety[: render.SHORT]} --in-place   # takes it back"]
        if report.safety
        else [],
        PROBLEMS if report.problems else 0,
    )


def _lines(report: RestoreReport, target: str | None) -> Iterator[str]:
    where = f"into {render.line(target)}" if target is not None else "in place"
    yield (
        f"restored {render.plural(report.files, 'file')}, {render.size(report.bytes)}, "
        f"of {report.snapshot[: render.SHORT]} {where} in {render.seconds(report.seconds)}"
    )
    if report.safety:
        yield f"  what was there before is saved as {report.safety[: render.SHORT]}"
    yield from render.problems_lines(report.problems)


VERBS = (
    Verb(
        "restore",
        "get files back",
        "git-vault restore acme --to ~/acme-restored\ngit-vault restore acme@{yesterday} src/main.c --to /tmp/old",
        _configure,
        _restore,
    ),
)
