"""The history that a Mercurial checkout carries, `.hg/store`: left out but for what no remote has, and made again.

Changesets that are not public are attached to the snapshot as a bundle. All else of `.hg` that is not a cache is saved
as it is: dirstate, bookmarks, shelves, patches, phases, operations that are not finished.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gitvault.errors import ToolError, ToolFailed
from gitvault.vcs import hg

CACHES = frozenset((b"cache", b"wcache"))
KEPT = frozenset((b"phaseroots", b"obsstore", b"requires"))
"""Of `.hg/store`: what a clone does not bring."""

# Repositories that need anything else (largefiles, lfs, narrow, sharing) are stored in full.
_OF_STORE = frozenset(
    (
        *("revlogv1", "generaldelta", "sparserevlog", "store", "fncache", "dotencode", "revlog-compression-zstd"),
        *("persistent-nodemap", "share-safe", "internal-phase", "archived-phase"),
    )
)
_OF_FOLDER = frozenset(("dirstate-v2", "dirstate-tracked-key-v1", "exp-sparse", "bookmarksinstore"))
_HEADS = "parents() + last(public()) + last(not public())"
_TEMPLATE = '{ifcontains(rev, revset("parents()"), "base", "")} {phase} {node} {branch}\\n'


@dataclass(frozen=True, slots=True)
class Place:
    """Where a checkout stands."""

    url: str
    base: str
    branch: str
    has_local: bool
    """Whether there are changesets to attach."""


def place_of(folder: Path, server: hg.Server) -> Place:
    """Where a checkout stands. Raises ToolError; ValueError, in words, for what has to be stored in full."""
    needs = _requirements(folder / ".hg")
    if strange := needs - _OF_STORE - _OF_FOLDER:
        raise ValueError(f"it needs {', '.join(sorted(strange))}")
    remotes = hg.remotes_of(folder)
    if not (url := remotes.get("default", "")):
        raise ValueError("it has no default path")
    if lost := hg.gone(folder, remotes):
        raise ValueError(lost)
    said = os.fsdecode(server.ask(folder, "log", "-r", _HEADS, "-T", _TEMPLATE))
    rows = [line.split(" ", 3) for line in said.splitlines()]
    if not any(phase == "public" for _, phase, _, _ in rows):
        raise ValueError("nothing of it was ever pushed or pulled")
    base = next((row for row in rows if row[0]), ["", "", "", ""])
    return Place(url, base[2], base[3], any(phase != "public" for _, phase, _, _ in rows))


def bundle(folder: Path, server: hg.Server) -> bytes:
    """The changesets that are not public. Raises ToolError, OSError."""
    with tempfile.TemporaryDirectory(prefix="gitvault-") as scratch:
        file = Path(scratch, "local.hg")
        revisions = ("-r", "not public()", "--base", "public()")
        server.ask(folder, "bundle", *revisions, "--type", "none-v2", os.fspath(file))
        return file.read_bytes()


def complete(folder: Path, url: str, home: Path, local: bytes) -> Iterator[str]:
    """Make `.hg/store` of a restored checkout again; what could not be had, in words.

    By a clone of `url`, else from where the checkout was (`home`), and the bundle `local`.
    """
    store = folder / ".hg" / "store"
    with tempfile.TemporaryDirectory(prefix="gitvault-") as scratch:
        try:
            if not (store / "00changelog.i").exists():
                made = _history(url, home, Path(scratch, "clone"))
                _move(made, folder / ".hg")
            if local:
                file = Path(scratch, "local.hg")
                file.write_bytes(local)
                # Phases as they were saved, not as a bundle says: public is what its server has.
                phases = store / "phaseroots"
                saved = phases.read_bytes() if phases.exists() else b""
                hg.run(folder, "unbundle", os.fspath(file))
                phases.write_bytes(saved)
        except (ToolError, OSError) as error:
            reason = hg.told(error) if isinstance(error, ToolFailed) else str(error)
            yield f"its .hg/store is not restored: {reason}"


def _history(url: str, home: Path, into: Path) -> Path:
    """A clone's `.hg` without a checkout. Raises ToolError, OSError."""
    at = os.fspath(home / url) if "://" not in url else url
    try:
        hg.run(home if home.is_dir() else into.parent, "clone", "-U", "--pull", "--", at, os.fspath(into))
    except ToolError:
        if not (home / ".hg" / "store" / "00changelog.i").is_file():
            raise
        shutil.copytree(home / ".hg" / "store", into / ".hg" / "store")
        shutil.copy(home / ".hg" / "requires", into / ".hg" / "requires")
    return into / ".hg"


def _move(made: Path, own: Path) -> None:
    """Put a clone's store into a `.hg` that was restored without; what was saved of the store goes before."""
    store = own / "store"
    for name in ("phaseroots", "obsstore"):
        (made / "store" / name).unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            shutil.move(store / name, made / "store" / name)
    before = _lines(own / "requires")
    needs = sorted(
        _lines(made / "requires") | (before & (_OF_FOLDER | {n for n in before if n.startswith("dirstate")}))
    )
    shutil.rmtree(store, ignore_errors=True)
    shutil.move(made / "store", store)
    (own / "requires").write_text("".join(f"{name}\n" for name in needs))
    if (made / "00changelog.i").exists() and not (own / "00changelog.i").exists():
        shutil.move(made / "00changelog.i", own / "00changelog.i")


def _requirements(own: Path) -> set[str]:
    return _lines(own / "requires") | _lines(own / "store" / "requires")


def _lines(file: Path) -> set[str]:
    with contextlib.suppress(OSError):
        return set(file.read_text("utf-8", "replace").split())
    return set()
