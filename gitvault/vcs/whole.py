"""Repositories that snapshots store as they lie, and Mercurial's bundles: what of purged paths they still hold.

Nothing of them is written anew: a pack, a revlog or a bundle without a file is another repository.
"""

from __future__ import annotations

import os
import re
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from gitvault.core.backup_engine.forget import Matches
from gitvault.core.models import Held, ObjectId, Pointer
from gitvault.core.patterns import Patterns
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
from gitvault.errors import GitVaultError
from gitvault.vcs import hg, lean, svn_store
from gitvault.vcs.protect import record
from gitvault.vcs.protect.inside import Inside, is_meant
from gitvault.vcs.protect.repository import Repository

_Retrieve = Callable[[Pointer, BinaryIO], None]
"""Writes a large file's content."""
_Entries = Mapping[bytes, tuple[int, ObjectId]]
_WORKTREE = re.compile(rb"(?m)^[ \t]*worktree[ \t]*=[ \t]*(\S[^\n]*)$")

# What git calls its files. An escaped name of a vault that means harm may lead elsewhere.
_OBJECT = re.compile(rb"[0-9A-Za-z][0-9A-Za-z._-]*")


class _Found(NamedTuple):
    repository: bytes
    paths: frozenset[bytes]
    reason: str = ""


def held(
    history: GitHistory, retrieve: _Retrieve, projects: Sequence[str], patterns: Sequence[str]
) -> tuple[Held, ...]:
    """What the repositories in the projects' snapshots hold of paths that match. Raises CorruptionError."""
    rules = Patterns(patterns)
    looking = _Looking(history, retrieve, lambda path, folder: rules.excluded_by(path, folder) is not None)
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
    return tuple(known[key] for key in sorted(known))


class _Looking:
    """Looks into each repository once, however many snapshots have it as it is."""

    def __init__(self, history: GitHistory, retrieve: _Retrieve, matches: Matches) -> None:
        self._history = history
        self._retrieve = retrieve
        self._matches = matches
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

    def _told(
        self, repository: bytes, look: Callable[[_Entries, bytes], set[bytes]], entries: _Entries
    ) -> Iterator[_Found]:
        try:
            if paths := look(entries, repository):
                yield _Found(repository, frozenset(paths))
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
            with ObjectStore(Path(scratch, "objects")) as objects:
                inside = Inside(objects, self._matches)
                inside.walk_all(Repository(scratch, scratch), prefix)
                staged = index.parse(self._history.blob(entries[b"index"][1])) if b"index" in entries else []
                return inside.paths | {
                    prefix + entry.path
                    for entry in staged
                    if is_meant(prefix + entry.path, self._matches)
                    and objects.contains(entry.blob)
                    and not is_below(prefix + entry.path, inside.paths)
                }

    def _worktree(self, entries: _Entries, path: bytes) -> bytes:
        """Where a repository's files are in the project, with a slash at the end."""
        if path.rpartition(b"/")[2] == b".git":
            return path[:-4]
        found = _WORKTREE.search(self._history.blob(entries[b"config"][1])) if b"config" in entries else None
        folder = os.path.normpath(os.path.join(path, found[1].rstrip())) if found else path
        return folder + b"/"

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
            return {
                path[:-4] + file
                for file, text in svn_store.held(Path(scratch))
                if text in names and is_meant(path[:-4] + file, self._matches)
            }

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
