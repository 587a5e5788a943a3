"""Snapshots of a checkout as changes of its commits: what they have otherwise than the commit that was checked out.

A line that was edited came with the snapshot; when it is committed the commit has it and the next snapshot no longer
differs from that. Added up over both, it was there all the time.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from gitvault.core.models import ObjectId
from gitvault.core.versioning.history import GitHistory
from gitvault.errors import ToolError
from gitvault.personas.code.search import foreign, history
from gitvault.personas.code.search.history import NONE, Changed
from gitvault.personas.code.search.model import Source
from gitvault.vcs import lean
from gitvault.vcs.protect import record
from gitvault.vcs.protect.view import index_of


class _Seen(NamedTuple):
    pairs: dict[bytes, bytes]
    """The snapshot's blobs by path, only where the commit has others."""
    base: dict[bytes, bytes]
    """The commit's blobs by path."""


class Overlays:
    """The snapshots of one checkout."""

    def __init__(self, source: Source, checkout: Path) -> None:
        self._source = source
        self._checkout = Source(source.project, checkout)
        self._history = GitHistory(source.folder)
        self._known: dict[bytes, _Seen | None] = {}

    def changes(self, snapshot: bytes, parent: bytes | None, plain: list[Changed]) -> list[Changed]:
        """What one changed against its parent; `plain`, when neither knows of a commit. Raises CorruptionError."""
        now, before = self._of(snapshot), self._of(parent) if parent else None
        # Each is asked about twice, one after the other.
        self._known = {parent: before} if parent else {}
        if now is None and before is None:
            return plain
        now = now or self._alone(snapshot)
        before = before or (self._alone(parent) if parent else _Seen({}, now.base))
        found: list[Changed] = []
        for path in sorted(now.pairs.keys() | before.pairs.keys()):
            old_base, new_base = before.base.get(path, NONE), now.base.get(path, NONE)
            old, new = before.pairs.get(path, old_base), now.pairs.get(path, new_base)
            if old != new:
                found.append(Changed(path, old, new))
            if old_base != new_base:
                # The commits between say so, too.
                found.append(Changed(path, new_base, old_base, settled=True))
        return found

    def homes(self, tips: Iterable[bytes]) -> list[Path]:
        """The folders with the objects that the snapshots up to these rely on."""
        said = history.git(self._checkout, "rev-parse", "--git-path", "objects", ok=(0, 128)).decode().strip()
        trees = [self._history.commit(ObjectId(tip)).tree for tip in tips]
        attached = [one for tree in trees for one in record.attached(self._history, tree)]
        return [self._checkout.folder / said, *(Path(one.record.home) / "objects" for one in attached)]

    def close(self) -> None:
        """Close files."""
        self._history.close()

    def _of(self, snapshot: bytes) -> _Seen | None:
        """None for a snapshot that knows of no commit."""
        if snapshot not in self._known:
            self._known[snapshot] = self._read(snapshot)
        return self._known[snapshot]

    def _alone(self, snapshot: bytes) -> _Seen:
        return _Seen(self._stored(snapshot), {})

    def _read(self, snapshot: bytes) -> _Seen | None:
        tree = self._history.commit(ObjectId(snapshot)).tree
        attached = record.attached(self._history, tree)
        carried = next((one for one in lean.attached(self._history, tree) if one.record.vcs in ("hg", "svn")), None)
        if carried and carried.path:
            # Its commits are not looked for.
            carried = None
        if not attached and not carried:
            return None
        folders = [folder for one in attached for folder in (one.record.git_dir, one.record.common_dir) if folder]
        inner = tuple(folder + b"/" for folder in (*folders, *((b".hg", b".svn") if carried else ())))
        view: dict[bytes, bytes] = {}
        base: dict[bytes, bytes] = {}
        for one in attached:
            prefix = one.record.path + b"/" if one.record.path else b""
            gone = frozenset(one.record.deleted)
            if not one.record.full:
                for entry in index_of(self._history, one):
                    if entry.is_file and entry.path not in gone:
                        view[prefix + entry.path] = entry.blob
            if not prefix and one.record.base:
                base = self._committed(one.record.base)
        if carried:
            entries = lean.entries_of(self._history, carried)
            base = {entry.path: entry.blob for entry in entries} or self._read_as(carried)
            lost = carried.deleted
            view = {path: blob for path, blob in base.items() if path not in lost}
        # Version control's own files are no work of the user's.
        view |= {path: blob for path, blob in self._stored(snapshot).items() if not path.startswith(inner)}
        paths = view.keys() | base.keys()
        return _Seen({path: blob for path in paths if (blob := view.get(path, NONE)) != base.get(path, NONE)}, base)

    def _stored(self, snapshot: bytes) -> dict[bytes, bytes]:
        listed = history.tree(self._source, snapshot.hex())
        return {path: blob for name, blob in listed.items() if (path := history.in_project(name)) is not None}

    def _read_as(self, carried: lean.Attached) -> dict[bytes, bytes]:
        """The files of the revision that a checkout was at which is stored in full."""
        revision = carried.record.revision
        name = revision if carried.record.vcs == "hg" or not revision else f"r{revision}"
        commit = foreign.commit_of(self._checkout.folder, name)
        return self._committed(commit) if commit else {}

    def _committed(self, commit: str) -> dict[bytes, bytes]:
        """A commit that is not there any more held nothing: then the snapshot itself is what is known."""
        try:
            return history.tree(self._checkout, commit)
        except ToolError:
            return {}
