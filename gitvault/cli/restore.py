"""The verb that gives files back."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence

from gitvault.cli import render
from gitvault.cli.arguments import SNAPSHOT, add_selection, disk_path, filled, inner_path, names, pair, wrong
from gitvault.core.models import RestoreReport
from gitvault.core.utils.names import file_name
from gitvault.errors import GitVaultError
from gitvault.personas.base import Answer, Session, Verb

PROBLEMS = 1


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("snapshot", metavar="SNAPSHOT", type=filled(str), nargs="?", help=SNAPSHOT)
    parser.add_argument(
        "paths", metavar="PATH", type=filled(inner_path), nargs="*", help="only these files and folders of it"
    )
    add_selection(parser, "those projects instead, each into a folder of its own below DIR")
    what = "with --select: their newest snapshots then (else: their newest)"
    parser.add_argument("--at", metavar="DATE", type=filled(str), help=what)
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
    mapped = "of a snapshot with links: what was in the folder OLD is in NEW here; repeatable"
    parser.add_argument("--map", metavar="OLD=NEW", type=pair, action="append", default=[], help=mapped)
    away = "from this remote, by its name or its URL; a URL needs no vault here"
    parser.add_argument("--remote", metavar="NAME", type=filled(str), help=away)
    larger = "with --remote of a git repository: where its large files are"
    parser.add_argument("--chunks", metavar="NAME", type=filled(str), help=larger)
    parser.add_argument(
        "--identity", metavar="FILE", type=filled(disk_path), help="with --remote: the key that opens it, this once"
    )
    exact = "of a snapshot with links: every byte as it was saved, also names of files that lead nowhere now"
    parser.add_argument("--as-saved", action="store_true", help=exact)


def _restore(session: Session, arguments: Namespace) -> Answer:
    from gitvault.core.utils.process import keep_memory

    if arguments.remote:
        return _restore_remote(session, arguments)
    keep_memory()
    if arguments.select:
        return _restore_all(session, arguments)
    if arguments.snapshot is None or arguments.at:
        raise wrong("give a SNAPSHOT, or --select" if arguments.snapshot is None else "--at goes with --select")
    target = None if arguments.in_place else arguments.to
    report = _one(session, arguments, arguments.snapshot, target, arguments.paths)
    return Answer(
        report_document(report, target),
        report_lines(report, target),
        [f"{session.command} restore {report.safety[: render.SHORT]} --in-place   # takes it back"]
        if report.safety
        else [],
        PROBLEMS if report.problems else 0,
    )


def _restore_all(session: Session, arguments: Namespace) -> Answer:
    if arguments.in_place:
        raise wrong("--select goes with --to DIR")
    # What stands where a SNAPSHOT would is the first PATH.
    paths = [*([inner_path(arguments.snapshot)] if arguments.snapshot else []), *arguments.paths]
    documents: list[dict[str, object]] = []
    lines: list[str] = []
    codes = [0]
    for project in names(session, arguments.select):
        target = os.path.join(arguments.to, file_name(project))
        try:
            snapshot = f"{project}@{{{arguments.at}}}" if arguments.at else project
            report = _one(session, arguments, snapshot, target, paths)
        except (GitVaultError, OSError) as error:
            # One project that cannot be restored must not keep the others from it.
            codes.append(getattr(error, "exit_code", GitVaultError.exit_code))
            documents.append({"project": project, "error": render.error_text(error)})
            render.say(render.error_text(error))
        else:
            codes.append(PROBLEMS if report.problems else 0)
            documents.append({"project": project, **report_document(report, target)})
            lines.extend(report_lines(report, target))
    return Answer(documents, lines, code=max(codes))


def _restore_remote(session: Session, arguments: Namespace) -> Answer:
    from gitvault.cli.remote import hidden_lines, large_of, of_git, opened

    if arguments.snapshot is None or arguments.select or arguments.in_place:
        raise wrong("--remote goes with a SNAPSHOT and --to DIR")
    options = {
        "paths": arguments.paths,
        "excluded": arguments.exclude,
        "overwrite": arguments.overwrite,
        "progress": session.progress,
    }
    requests: dict[str, int] = {}
    hidden: Sequence[str] = ()
    if told := of_git(session, arguments.remote):
        from gitvault.remotes import git

        with large_of(session, arguments.chunks or told.chunks, arguments.identity) as (_, large):
            report = git.restore(told, large, arguments.snapshot, arguments.to, **options)
    elif arguments.chunks:
        raise wrong("--chunks goes with a remote of git")
    else:
        from gitvault.remotes import partial

        with opened(session, arguments.remote, arguments.identity) as (told, remote):
            report = partial.restore(remote, told, arguments.snapshot, arguments.to, **options)
            requests, hidden = dict(remote.place.requests), remote.hidden
    return Answer(
        {**report_document(report, arguments.to), "requests": requests, "hidden": list(hidden)},
        [*report_lines(report, arguments.to), *hidden_lines(hidden)],
        code=PROBLEMS if report.problems else 0,
    )


def _one(
    session: Session, arguments: Namespace, snapshot: str, target: str | None, paths: Sequence[bytes]
) -> RestoreReport:
    from gitvault.core.backup_engine.outside import KEY_FOLDER

    # In place means to replace what is there; the safety snapshot has it.
    overwrite = arguments.overwrite or arguments.in_place
    if KEY_FOLDER in session.vault.get_snapshot_info(snapshot).metadata:
        from gitvault.personas.creative import carrying

        return carrying.restore(
            session.vault,
            snapshot,
            target,
            paths=paths,
            excluded=arguments.exclude,
            maps=arguments.map,
            as_saved=arguments.as_saved,
            overwrite=overwrite,
            progress=session.progress,
        )
    return session.vault.restore_snapshot(
        snapshot,
        target,
        paths=paths,
        excluded_paths=arguments.exclude,
        overwrite=overwrite,
        progress=session.progress,
    )


def report_document(report: RestoreReport, target: str | None) -> dict[str, object]:
    """What was restored, for JSON."""
    return {
        "snapshot": report.snapshot,
        "target": None if target is None else render.disk_text(target),
        "files": report.files,
        "bytes": report.bytes,
        "seconds": round(report.seconds, 3),
        "safety": report.safety,
        "problems": render.problems_document(report.problems),
    }


def report_lines(report: RestoreReport, target: str | None) -> Iterator[str]:
    """What was restored, for people."""
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
