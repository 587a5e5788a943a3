"""Verbs for those who use the vault with git and git-lfs: hydrate."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator

from gitvault.cli import render
from gitvault.cli.arguments import disk_path, filled
from gitvault.personas.base import Answer, Session, Verb


def _configure_hydrate(parser: ArgumentParser) -> None:
    what = "files or folders of the work tree (else: all of it)"
    parser.add_argument("paths", metavar="PATH", type=filled(disk_path), nargs="*", help=what)


def _hydrate(session: Session, arguments: Namespace) -> Answer:
    from gitvault.cli.plumbing import repository
    from gitvault.core.storage.store import ChunkStore
    from gitvault.stock.hydrate import hydrate
    from gitvault.vault import Vault

    here = repository()
    opened: list[Vault] = []

    def store() -> ChunkStore:
        if not opened:
            opened.append(Vault.open(here.vault(lambda: session.vault_path)))
        return opened[0].store

    done = hydrate(here, arguments.paths, store, session.progress)
    for vault in opened:
        vault.close()
    document = {
        "files": done.files,
        "bytes": done.bytes,
        "modified": done.modified,
        "problems": render.problems_document(done.problems),
    }
    return Answer(document, _hydrated_lines(done.files, done.bytes, done.modified), problems=done.problems)


def _hydrated_lines(files: int, size: int, modified: int) -> Iterator[str]:
    if not files:
        yield "no pointers to fill in"
        return
    yield f"filled in {render.plural(files, 'file')}, {render.size(size)}"
    if modified:
        yield f"git shows {render.plural(modified, 'file')} as modified: nothing says that they are filtered; see git vault setup"


VERBS = (
    Verb(
        "hydrate",
        "fill in large files that git left as pointers",
        "git-vault hydrate\ngit-vault hydrate art/video.mov",
        _configure_hydrate,
        _hydrate,
    ),
)
