"""What is purged from a vault's snapshots goes from the bundles of unpushed commits too.

Commits and trees stay as they are, with their ids: what goes are the blobs, as if they were another's to send.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from gitvault.core.backup_engine.forget import Matches
from gitvault.core.models import ObjectId
from gitvault.core.utils.process import run
from gitvault.core.versioning.history import GitHistory
from gitvault.core.versioning.objects import MODE_FILE, encode_tree
from gitvault.core.versioning.odb import ObjectStore
from gitvault.core.versioning.packfile import PackWriter
from gitvault.errors import CorruptionError, ToolFailed
from gitvault.vcs.protect import record, repository
from gitvault.vcs.protect.inside import Inside, is_meant, listed
from gitvault.vcs.protect.record import Attached, Part
from gitvault.vcs.protect.repository import Repository
from gitvault.vcs.protect.view import index_of


class _Found(NamedTuple):
    """What is meant of a checkout."""

    paths: frozenset[bytes]
    """In the project."""
    blobs: frozenset[ObjectId]
    """That a bundle has, and nothing else in it is."""
    tracked: frozenset[bytes]
    """Paths in the checkout that its index has and its folder had."""


class Bundles:
    """See `Attachments`: of git checkouts; what is attached to several snapshots is looked into once."""

    def __init__(self, history: GitHistory) -> None:
        self._history = history
        self._known: dict[tuple[ObjectId, ...], _Found] = {}

    def look(self, attached: ObjectId, matches: Matches) -> tuple[frozenset[bytes], frozenset[ObjectId]]:
        """See Attachments."""
        paths: set[bytes] = set()
        blobs: set[ObjectId] = set()
        for checkout in record.checkouts(self._history, attached).values():
            found = self._look(checkout, matches)
            paths |= found.paths
            blobs |= found.blobs
        return frozenset(paths), frozenset(blobs)

    def without(self, attached: ObjectId, matches: Matches, pack: PackWriter) -> ObjectId | None:
        """See Attachments."""
        checkouts = record.checkouts(self._history, attached)
        entries = []
        for name, (mode, oid) in self._history.tree(attached).items():
            if checkout := checkouts.get(name):
                if is_meant(checkout.record.path, matches, folder=True):
                    continue
                found = self._look(checkout, matches)
                if found.paths:
                    oid = self._made_without(checkout, found, pack)
            entries.append((name, mode, oid))
        return pack.add(b"tree", encode_tree(entries)) if entries else None

    def _look(self, checkout: Attached, matches: Matches) -> _Found:
        key = tuple(oid for _, oid in sorted(checkout.files.items()))
        if key not in self._known:
            self._known[key] = self._look_into(checkout, matches)
        return self._known[key]

    def _look_into(self, checkout: Attached, matches: Matches) -> _Found:
        said = checkout.record
        prefix = said.path + b"/" if said.path else b""
        if is_meant(said.path, matches, folder=True):
            return _Found(frozenset([said.path]), frozenset(), frozenset())
        tracked = {entry.path: entry.blob for entry in index_of(self._history, checkout)}
        meant = {path for path in tracked if is_meant(prefix + path, matches)}
        there = meant - set(said.deleted)
        if not said.parts:
            # All is on a remote: nothing to unpack.
            return _Found(frozenset(prefix + path for path in there), frozenset(), frozenset(there))
        with self._unpacked(checkout) as (place, objects):
            inside = Inside(objects, matches)
            inside.walk_all(place, prefix)
            gone = inside.meant | {tracked[path] for path in meant if objects.contains(tracked[path])}
        gone -= inside.kept | {blob for path, blob in tracked.items() if path not in meant}
        paths = inside.paths | {prefix + path for path in there}
        return _Found(frozenset(paths), frozenset(gone), frozenset(there))

    def _made_without(self, checkout: Attached, found: _Found, pack: PackWriter) -> ObjectId:
        files = dict(checkout.files)
        said = checkout.record
        parts = list(said.parts)
        for number, part in enumerate(said.parts if found.blobs else ()):
            name = record.part_name(number)
            with self._unpacked(checkout, number) as (place, _):
                held = list(listed(place))
                left = [oid for oid, _ in held if oid not in found.blobs]
                if len(left) < len(held):
                    for known, _ in checkout.stored(name):
                        del files[known]
                    tips = tuple(tip for tip in part.tips if ObjectId(bytes.fromhex(tip)) not in found.blobs)
                    asked = "".join(f"{oid.hex()}\n" for oid in left).encode()
                    packed = place.git("pack-objects", "--stdout", "--threads=1", "-q", stdin=asked)
                    cut = dict(record.pieces(name, repository.bundle(packed, tips, part.without)))
                    files |= {known: pack.add(b"blob", piece) for known, piece in cut.items()}
                    # No tips: a later snapshot must not build on what is not whole.
                    parts[number] = Part((), part.without, len(cut))
        deleted = tuple(sorted({*said.deleted, *found.tracked}))
        made = replace(said, parts=tuple(parts), deleted=deleted, state="")
        files[record.RECORD] = pack.add(b"blob", record.encode(made))
        return pack.add(b"tree", encode_tree([(name, MODE_FILE, oid) for name, oid in files.items()]))

    @contextmanager
    def _unpacked(self, checkout: Attached, only: int | None = None) -> Iterator[tuple[Repository, ObjectStore]]:
        """A repository of our own with a checkout's bundles, or one of them, and its objects."""
        scratch = Path(tempfile.mkdtemp(prefix="gitvault-"))
        try:
            run(["git", "init", "-q", "--bare", "--template=", scratch])
            place = Repository(str(scratch), str(scratch))
            for number in range(len(checkout.record.parts)) if only is None else [only]:
                bundle = checkout.joined(self._history, record.part_name(number))
                try:
                    place.git("index-pack", "--stdin", stdin=repository.packed_in(bundle))
                except (ToolFailed, ValueError) as error:
                    raise CorruptionError(
                        f"{record.part_name(number).decode()} cannot be read; git-vault verify --repair may heal it"
                    ) from error
            with ObjectStore(scratch / "objects") as objects:
                yield place, objects
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
