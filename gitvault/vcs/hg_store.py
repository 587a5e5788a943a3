"""The history that a Mercurial checkout carries, `.hg/store`: left out but for what no remote has, and made again.

Changesets that are not public are attached to the snapshot as a bundle. All else of `.hg` that is not a cache is saved
as it is: dirstate, bookmarks, shelves, patches, phases, operations that are not finished.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gitvault.core.versioning import index
from gitvault.core.versioning.index import IndexEntry
from gitvault.core.versioning.objects import object_id
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
_HEADS = f"parents() + last(public()) + last(not public()) + ({hg.BUILT_ON})"
_TEMPLATE = (
    '{ifcontains(rev, revset("parents()"), "base", "")}'
    f' {{ifcontains(rev, revset("{hg.BUILT_ON}"), "relied", "")}}'
    " {phase} {node} {branch}\\n"
)
_MODES = {b"l": index.MODE_SYMLINK, b"x": index.MODE_EXECUTABLE, b"": index.MODE_FILE}
_MANIFEST = re.compile(rb"[0-9a-f]{40} (?:644( @)|755( \*)|644(  )) ([^\n]+)\n")
_FRAMED = re.compile(rb"(\d+) ([^\n]+)\n")
_AT_ONCE = 200
"""Files that are asked for together: what they hold is in memory."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a checkout stands."""

    url: str
    base: str
    branch: str
    has_local: bool
    """Whether there are changesets to attach."""
    relied: tuple[str, ...] = ()
    """Public changesets that what is here builds on: the server has to have them."""


def place_of(folder: Path, server: hg.Server) -> Place:
    """Where a checkout stands. Raises ToolError; ValueError, in words, for what has to be stored in full."""
    needs = _requirements(folder / ".hg")
    if strange := needs - _OF_STORE - _OF_FOLDER:
        raise ValueError(f"it needs {', '.join(sorted(strange))}")
    remotes = hg.remotes_of(folder)
    if not (url := remotes.get("default", "")):
        raise ValueError("it has no default path")
    said = os.fsdecode(server.ask(folder, "log", "-r", _HEADS, "-T", _TEMPLATE))
    rows = [line.split(" ", 4) for line in said.splitlines()]
    if not any(phase == "public" for _, _, phase, _, _ in rows):
        raise ValueError("nothing of it was ever pushed or pulled")
    base = next((row for row in rows if row[0]), ["", "", "", "", ""])
    relied = tuple(row[3] for row in rows if row[1])
    return Place(url, base[3], base[4], any(row[2] != "public" for row in rows), relied)


def base_of(
    folder: Path, server: hg.Server, node: str, known: Mapping[bytes, IndexEntry], known_at: str
) -> list[IndexEntry]:
    """The files of a changeset, as an index of git has them, in the order of their paths.

    `known`: those of the changeset `known_at` ("": none); only what differs from it is read. Raises ToolError.
    """
    if not node or node == known_at:
        return [known[path] for path in sorted(known)] if node else []
    changed: set[bytes] | None = None
    if known_at:
        with contextlib.suppress(ToolFailed):
            said = server.ask(folder, "status", "--rev", known_at, "--rev", node, "-man0")
            changed = {_portable(name) for name in said.split(b"\0")}
    listed = {
        path: b"l" if link else b"x" if executable else b""
        for link, executable, _, path in _MANIFEST.findall(server.ask(folder, "manifest", "--debug", "-r", node))
    }
    found: dict[bytes, IndexEntry] = {}
    unknown: list[bytes] = []
    for path, flag in listed.items():
        before = known.get(path)
        if before and changed is not None and path not in changed:
            found[path] = before._replace(mode=_MODES[flag])
        else:
            unknown.append(path)
    for path, text in contents(folder, server, node, unknown):
        blob = object_id(b"blob", text)
        found[path] = IndexEntry(path, _MODES[listed[path]], blob, len(text) & 0xFFFFFFFF, 0, 0)
    return [found[path] for path in sorted(found)]


def contents(folder: Path, server: hg.Server, node: str, paths: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Files of a changeset with their contents, as far as it has them. Raises ToolError, OSError."""
    with tempfile.TemporaryDirectory(prefix="gitvault-") as scratch:
        asked = Path(scratch, "asked")
        for at in range(0, len(paths), _AT_ONCE):
            asked.write_bytes(b"\0".join(b"path:" + path for path in paths[at : at + _AT_ONCE]))
            # No template writes NUL bytes, so each content is preceded by its length.
            form = "{data|count} {path}\\n{data}"
            said = server.ask(folder, "cat", "-r", node, "-T", form, f"listfile0:{asked}")
            place = 0
            while match := _FRAMED.match(said, place):
                end = match.end() + int(match[1])
                yield _portable(match[2]), said[match.end() : end]
                place = end


def _portable(name: bytes) -> bytes:
    """hg says names as the system writes them."""
    return name.replace(os.fsencode(os.sep), b"/")


def scratch_copy(url: str, home: Path, local: bytes, into: Path) -> None:
    """A repository of our own with what `url` has and the bundle `local`. Raises ToolError, OSError."""
    _history(url, home, into)
    _unbundle(into, local)


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
            # Phases as they were saved, not as a bundle says: public is what its server has.
            phases = store / "phaseroots"
            saved = phases.read_bytes() if phases.exists() else b""
            _unbundle(folder, local)
            if local:
                phases.write_bytes(saved)
        except (ToolError, OSError) as error:
            reason = hg.told(error) if isinstance(error, ToolFailed) else str(error)
            yield f"its .hg/store is not restored: {reason}"


def _unbundle(folder: Path, local: bytes) -> None:
    if local:
        with tempfile.TemporaryDirectory(prefix="gitvault-") as scratch:
            file = Path(scratch, "local.hg")
            file.write_bytes(local)
            hg.run(folder, "unbundle", os.fspath(file))


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
