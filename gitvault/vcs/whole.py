"""Repositories that snapshots store as they lie, and Mercurial's bundles: what of purged paths they still hold.

Where it is asked for, git's packs are written anew without the blobs that are meant, and svn's texts go; commits and
trees stay as they are. A revlog or a bundle of hg without a file is another repository: these are only told.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from gitvault.core.backup_engine.forget import Instead, Matches, Replacement, Search
from gitvault.core.models import Held, ObjectId, Pointer
from gitvault.core.storage import pointers
from gitvault.core.touched import is_below
from gitvault.core.utils.names import from_text, from_tree_name
from gitvault.core.utils.process import run
from gitvault.core.versioning import index
from gitvault.core.versioning.commits import identity
from gitvault.core.versioning.contents import ATTACHED
from gitvault.core.versioning.history import GitHistory
from gitvault.core.versioning.index import UnreadableIndex
from gitvault.core.versioning.objects import MODE_TREE
from gitvault.core.versioning.odb import ObjectStore
from gitvault.errors import GitVaultError, LockedError, StorageFullError
from gitvault.vcs import hg, lean, svn_store
from gitvault.vcs.protect import record
from gitvault.vcs.protect.inside import Inside, is_meant
from gitvault.vcs.protect.repository import Repository

_Retrieve = Callable[[Pointer, BinaryIO], None]
"""Writes a large file's content."""
_Keep = Callable[[Path], bytes]
"""Stores a file's content; what stands in git for it."""
_Entries = Mapping[bytes, tuple[int, ObjectId]]
_WORKTREE = re.compile(rb"(?m)^[ \t]*worktree[ \t]*=[ \t]*(\S[^\n]*)$")

# What git calls its files. An escaped name of a vault that means harm may lead elsewhere.
_OBJECT = re.compile(rb"[0-9A-Za-z][0-9A-Za-z._-]*")


# git-lfs's own copies of files, by their SHA-256.
_LFS = re.compile(rb"(.+)/lfs/objects/[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{64}")

# What git keeps beside a pack and no pack written anew can do without.
_MARKS = (".keep", ".promisor")


class _Found(NamedTuple):
    repository: bytes
    paths: frozenset[bytes]
    reason: str = ""


def look(
    history: GitHistory,
    retrieve: _Retrieve,
    projects: Sequence[str],
    meant: Search,
    *,
    keep: _Keep | None = None,
) -> tuple[tuple[Held, ...], Instead]:
    """What the repositories in the projects' snapshots hold of paths that match, `meant` having found those outside.

    With `keep` only what cannot be taken out of them, and the files to put in the place of those that hold the rest.
    Raises CorruptionError, and what `keep` raises.
    """
    looking = _Looking(history, retrieve, meant.matches, meant.blobs, keep)
    known: dict[tuple[str, bytes], Held] = {}
    for project in projects:
        for oid, commit in history.walk(history.tip(project)):
            snapshot = identity(oid, commit)
            for found in looking.look(commit.tree):
                before = known.get((project, found.repository), Held(project, found.repository, (), ()))
                known[project, found.repository] = Held(
                    project,
                    found.repository,
                    tuple(sorted({*before.paths, *found.paths})),
                    tuple(dict.fromkeys((*before.snapshots, snapshot))),
                    before.reason or found.reason,
                )
    return tuple(known[key] for key in sorted(known)), looking.instead


class _Looking:
    """Looks into each repository once, however many snapshots have it as it is."""

    def __init__(
        self,
        history: GitHistory,
        retrieve: _Retrieve,
        matches: Matches,
        meant: Collection[ObjectId],
        keep: _Keep | None,
    ) -> None:
        """`meant`: the blobs that snapshots have at paths that match."""
        self._history = history
        self._retrieve = retrieve
        self._matches = matches
        self._meant = meant
        self._keep = keep
        self.instead: dict[bytes, Sequence[Replacement]] = {}
        self._known: dict[tuple[bytes, ObjectId], tuple[_Found, ...]] = {}

    def look(self, tree: ObjectId, path: bytes = b"") -> tuple[_Found, ...]:
        """The repositories in a folder that hold any of it, or cannot be looked into."""
        key = path, tree
        if key not in self._known:
            self._known[key] = tuple(self._look(tree, path))
        return self._known[key]

    def _look(self, tree: ObjectId, path: bytes) -> Iterator[_Found]:
        stored = self._history.tree(tree)
        if not path and ATTACHED in stored:
            yield from self._attached(stored[ATTACHED][1])
        begin = path + b"/" if path else b""
        entries = {}
        for name, said in stored.items():
            name = from_tree_name(name)
            if name != from_tree_name(ATTACHED) and not self._matches(begin + name, said[0] == MODE_TREE):
                entries[name] = said
        kept, own = b"", path.rpartition(b"/")[2]
        if _has(entries, b"HEAD", b"objects"):
            kept = b"objects"
            yield from self._told(path, self._git, entries)
        elif own == b".hg":
            kept = b"store"
            yield from self._told(path, self._hg, entries)
        elif own == b".svn" and _has(entries, b"wc.db", b"pristine"):
            kept = b"pristine"
            yield from self._told(path, self._svn, entries)
        for name, (mode, oid) in entries.items():
            if mode == MODE_TREE and name != kept:
                yield from self.look(oid, begin + name)
            elif oid in self._meant and (copied := _LFS.fullmatch(begin + name)):
                if self._keep:
                    self.instead[begin + name] = ()
                else:
                    yield _Found(copied[1], frozenset([begin + name]))

    def _told(
        self, repository: bytes, look: Callable[[_Entries, bytes], set[bytes]], entries: _Entries
    ) -> Iterator[_Found]:
        try:
            if paths := look(entries, repository):
                yield _Found(repository, frozenset(paths))
        except (LockedError, StorageFullError):
            raise
        except (GitVaultError, UnreadableIndex, sqlite3.Error, OSError, ValueError) as error:
            yield _Found(repository, frozenset(), " ".join(str(error).split()))

    # -- git ------------------------------------------------------------------------------------

    def _git(self, entries: _Entries, path: bytes) -> set[bytes]:
        prefix = self._worktree(entries, path)
        with tempfile.TemporaryDirectory(prefix="gitvault-") as scratch:
            run(["git", "init", "-q", "--bare", "--template=", scratch])
            self._put(entries[b"objects"][1], Path(scratch, "objects"))
            # Where else objects are is another repository's business.
            Path(scratch, "objects", "info", "alternates").unlink(missing_ok=True)
            place = Repository(scratch, scratch)
            with ObjectStore(Path(scratch, "objects")) as objects:
                inside = Inside(objects, self._matches)
                inside.walk_all(place, prefix)
                listed = index.parse(self._history.blob(entries[b"index"][1])) if b"index" in entries else []
                staged = {prefix + entry.path: entry.blob for entry in listed if objects.contains(entry.blob)}
            meant = {path for path in staged if is_meant(path, self._matches)}
            paths = inside.paths | {path for path in meant if not is_below(path, inside.paths)}
            if not paths or not self._keep:
                return paths
            gone = inside.meant | {staged[path] for path in meant}
            kept = inside.kept | {blob for path, blob in staged.items() if path not in meant}
            self.instead |= self._without(
                place, path + b"/objects/" if path else b"objects/", {oid.hex() for oid in gone - kept}
            )
            # What is at a path that is not meant, too, stays.
            return paths if gone & kept else set()

    def _without(self, place: Repository, begin: bytes, gone: set[str]) -> dict[bytes, Sequence[Replacement]]:
        """The files of a repository's objects that hold any of some objects, with packs of what else is in them."""
        objects = Path(place.objects)
        names = (f"{oid[:2]}/{oid[2:]}" for oid in gone)
        found: dict[bytes, Sequence[Replacement]] = {
            begin + os.fsencode(name): () for name in names if (objects / name).is_file()
        }
        packs = objects / "pack"
        for pack in sorted(packs.glob("*.pack")):
            said = place.git("show-index", stdin=pack.with_suffix(".idx").read_bytes())
            held = {line.split()[1].decode() for line in said.splitlines()}
            if held.isdisjoint(gone):
                continue
            # An index of several packs names this one.
            beside = [*packs.glob(f"{pack.stem}.*"), *packs.glob("multi-pack-index*")]
            found |= {begin + b"pack/" + os.fsencode(file.name): () for file in beside}
            found[begin + b"pack/" + os.fsencode(pack.name)] = tuple(self._packed(place, pack, held - gone))
        return found

    def _packed(self, place: Repository, pack: Path, oids: set[str]) -> Iterator[Replacement]:
        """The files of a pack of these objects, all of which are in `pack`."""
        assert self._keep
        if not oids:
            return
        folder = Path(place.git_dir, "anew")
        folder.mkdir(exist_ok=True)
        asked = "".join(f"{oid}\n" for oid in sorted(oids)).encode()
        # Deltas are taken as they are, and none are looked for.
        options = ("-q", "--threads=1", "--window=0")
        name = place.git("pack-objects", *options, os.fspath(folder / "pack"), stdin=asked).decode().strip()
        for mark in _MARKS:
            if (beside := pack.with_suffix(mark)).is_file():
                shutil.copy(beside, folder / f"pack-{name}{mark}")
        for file in sorted(folder.glob(f"pack-{name}.*")):
            yield Replacement(os.fsencode(file.name), self._keep(file), file.stat().st_size)

    def _worktree(self, entries: _Entries, path: bytes) -> bytes:
        """Where a repository's files are in the project, with a slash at the end."""
        if path.rpartition(b"/")[2] == b".git":
            return path[:-4]
        found = _WORKTREE.search(self._history.blob(entries[b"config"][1])) if b"config" in entries else None
        folder = os.path.normpath(os.path.join(path, found[1].rstrip())) if found else path
        return folder + b"/" if folder else b""

    # -- hg -------------------------------------------------------------------------------------

    def _hg(self, entries: _Entries, path: bytes) -> set[bytes]:
        names: set[bytes] = set()
        for folder in (b"shelved", b"strip-backup"):
            for name, (_, oid) in self._below(entries, folder).items():
                if name.endswith(b".hg"):
                    names.update(_in_bundle(self._content(oid)))
        if b"store" in entries:
            store = self._below(entries, b"store")
            if b"fncache" not in store and b"data" in store:
                raise ValueError("its list of files (fncache) is not there")
            names.update(_in_store(self._content(store[b"fncache"][1]) if b"fncache" in store else b""))
        return {path[:-3] + name for name in names if is_meant(path[:-3] + name, self._matches)}

    def _attached(self, tree: ObjectId) -> Iterator[_Found]:
        for _, below in self._history.tree(tree).values():
            files = self._history.tree(below)
            if any(name.startswith(lean.BUNDLE) for name in files):
                said = lean.decode(self._history.blob(files[lean.RECORD][1]))
                path = from_text(said.path)
                yield from self._told(path + b"/.hg" if path else b".hg", self._bundle, files)

    def _bundle(self, entries: _Entries, path: bytes) -> set[bytes]:
        names = _in_bundle(record.joined(self._history, {name: oid for name, (_, oid) in entries.items()}, lean.BUNDLE))
        return {path[:-3] + name for name in names if is_meant(path[:-3] + name, self._matches)}

    # -- svn ------------------------------------------------------------------------------------

    def _svn(self, entries: _Entries, path: bytes) -> set[bytes]:
        pristine = self._below(entries, b"pristine")
        names = {begin + b"/" + name for begin in pristine for name in self._below(pristine, begin)}
        with tempfile.TemporaryDirectory(prefix="gitvault-") as scratch:
            own = Path(scratch, ".svn")
            own.mkdir()
            (own / "wc.db").write_bytes(self._content(entries[b"wc.db"][1]))
            held = [(path[:-4] + file, text) for file, text in svn_store.held(Path(scratch)) if text in names]
        meant = {file for file, _ in held if is_meant(file, self._matches)}
        if not self._keep:
            return meant
        kept = {text for file, text in held if file not in meant}
        self.instead |= {path + b"/pristine/" + text: () for file, text in held if file in meant and text not in kept}
        return {file for file, text in held if file in meant and text in kept}

    # -- what is stored ---------------------------------------------------------------------------

    def _below(self, entries: _Entries, name: bytes) -> dict[bytes, tuple[int, ObjectId]]:
        if entries.get(name, (0, b""))[0] != MODE_TREE:
            return {}
        return {from_tree_name(stored): said for stored, said in self._history.tree(entries[name][1]).items()}

    def _put(self, tree: ObjectId, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        for stored, (mode, oid) in self._history.tree(tree).items():
            name = from_tree_name(stored)
            if not _OBJECT.fullmatch(name):
                continue
            at = folder / os.fsdecode(name)
            if mode == MODE_TREE:
                self._put(oid, at)
            else:
                with at.open("wb") as file:
                    self._write(oid, file)

    def _content(self, oid: ObjectId) -> bytes:
        with tempfile.TemporaryFile(prefix="gitvault-") as file:
            self._write(oid, file)
            file.seek(0)
            return file.read()

    def _write(self, oid: ObjectId, file: BinaryIO) -> None:
        blob = self._history.blob(oid)
        if pointer := pointers.decode(blob):
            self._retrieve(pointer, file)
        else:
            file.write(blob)


def _has(entries: _Entries, file: bytes, folder: bytes) -> bool:
    return file in entries and entries.get(folder, (0, b""))[0] == MODE_TREE


def _in_store(fncache: bytes) -> Iterator[bytes]:
    """The files of an hg repository, by its list of what it keeps them in."""
    for line in fncache.splitlines():
        if line.startswith(b"data/") and line.endswith((b".i", b".d")):
            yield re.sub(rb"(\.hg|\.i|\.d)\.hg/", rb"\1/", line[5:-2])


def _in_bundle(bundle: bytes) -> list[bytes]:
    """The files that changesets in a bundle of hg change. Raises ToolError."""
    with tempfile.TemporaryDirectory(prefix="gitvault-") as scratch:
        file = Path(scratch, "bundle.hg")
        file.write_bytes(bundle)
        said = hg.run(Path(scratch), "debugbundle", "--all", "--", os.fspath(file))
    names: list[bytes] = []
    for group in re.split(rb"(?m)^ *format: .*$", said)[1:]:
        # Behind an empty line each: the changelog, the manifest, then one file after the other.
        names += [block.strip(b"\n").split(b"\n")[0].removeprefix(b"    ") for block in group.split(b"\n\n")][3:]
    return names
