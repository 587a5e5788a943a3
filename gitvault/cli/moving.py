"""The verbs that let people move in, and out again."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.cli import render
from gitvault.cli.arguments import SNAPSHOT, disk_path, filled, wrong
from gitvault.personas.base import Answer, Session, Verb

if TYPE_CHECKING:
    from gitvault.moving.move_in import Moved
    from gitvault.moving.source import Source

KINDS = ("git", "restic", "borg", "folder")


def _configure_import(parser: ArgumentParser) -> None:
    parser.add_argument("kind", metavar="KIND", choices=KINDS, help=f"what it is: {', '.join(KINDS)}")
    what = "a repository; for `folder` one or more dated copies, or the folder they lie in"
    parser.add_argument("source", metavar="SOURCE", type=filled(disk_path), nargs="+", help=what)
    parser.add_argument("--project", metavar="P", type=filled(str), help="what to call it (else: as its folder)")
    parser.add_argument("--branch", metavar="B", type=filled(str), help="of git: this line (else: what HEAD names)")


def _import(session: Session, arguments: Namespace) -> Answer:
    from gitvault.moving.move_in import move_in

    if not session.vault_path.exists():
        # A source that cannot be read is said before the default vault is made for it.
        with closing(_source(arguments)) as first:
            first.copies()
    with closing(_source(arguments)) as source:
        moved = move_in(session.vault, source, project=arguments.project, progress=session.progress)
    return Answer(
        {
            "snapshots": moved.snapshots,
            "files": moved.files,
            "bytes": moved.bytes,
            "skipped": moved.skipped,
            "problems": render.problems_document(moved.problems),
        },
        _lines(moved),
        [f"{session.command} log {name}" for name in list(moved.projects)[:1]],
        problems=moved.problems,
    )


def _source(arguments: Namespace) -> Source:
    kind, places = arguments.kind, arguments.source
    if kind != "folder" and len(places) > 1:
        raise wrong(f"import {kind} takes one SOURCE")
    if kind != "git" and arguments.branch:
        raise wrong("--branch goes with git")
    if kind == "git":
        from gitvault.moving.git import GitSource

        return GitSource(Path(os.path.abspath(places[0])), arguments.branch)
    if kind == "restic":
        from gitvault.moving.restic import ResticSource

        return ResticSource(places[0])
    if kind == "borg":
        from gitvault.moving.borg import BorgSource

        return BorgSource(places[0])
    from gitvault.moving.folders import FolderSource

    return FolderSource(places)


def _configure_export(parser: ArgumentParser) -> None:
    parser.add_argument("snapshots", metavar="SNAPSHOT", type=filled(str), nargs="+", help=SNAPSHOT)
    what = "below this folder, made when missing, each as PROJECT-DATE-ID"
    parser.add_argument("--to", metavar="DIR", type=filled(disk_path), required=True, help=what)
    parser.add_argument("--tar", action="store_true", help="as PROJECT-DATE-ID.tar instead of a folder")


def _export(session: Session, arguments: Namespace) -> Answer:
    from gitvault.moving.export import export

    target = Path(os.path.abspath(arguments.to))
    done = export(session.vault, arguments.snapshots, target, tar=arguments.tar, progress=session.progress)
    return Answer(
        [
            {
                "snapshot": one.snapshot,
                "path": render.disk_text(str(one.path)),
                "files": one.files,
                "bytes": one.bytes,
                "problems": render.problems_document(one.problems),
            }
            for one in done
        ],
        (f"{render.line(str(one.path))}: {render.plural(one.files, 'file')}, {render.size(one.bytes)}" for one in done),
        problems=[problem for one in done for problem in one.problems],
    )


def _lines(moved: Moved) -> Iterator[str]:
    for name, count in moved.projects.items():
        yield f"{render.plural(count, 'snapshot')} imported into {render.line(name)}"
    if moved.snapshots:
        yield f"{render.plural(moved.files, 'file')} read and checked, {render.size(moved.bytes)}"
    if moved.skipped:
        yield f"{render.plural(moved.skipped, 'snapshot')} there already"
    elif not moved.snapshots:
        yield "nothing to import"


VERBS = (
    Verb(
        "import",
        "move in from git, restic, borg or dated folders",
        "git-vault import restic /mnt/backup/restic\ngit-vault import folder ~/old/acme-*",
        _configure_import,
        _import,
        creates=True,
    ),
    Verb(
        "export",
        "write snapshots as plain folders or tar files",
        "git-vault export --to /mnt/usb acme acme~1\ngit-vault export --tar --to /mnt/usb acme",
        _configure_export,
        _export,
    ),
)
