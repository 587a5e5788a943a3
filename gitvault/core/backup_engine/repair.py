"""Heal what `verify` finds: from a second copy, from parity, from the original file; what is left is set aside.

Whatever replaces something is written beside it and durable first; what is replaced goes to `quarantine/` unless its
successor is proved to hold all of it. So a repair that is killed leaves the vault no worse, and the next one goes on.
"""

from __future__ import annotations

import filecmp
import hashlib
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gitvault.core.backup_engine.frame import constant_files, keep_copy
from gitvault.core.backup_engine.rejoin import Chains
from gitvault.core.backup_engine.sweep import mistrust
from gitvault.core.backup_engine.verify import verify, verify_vault
from gitvault.core.models import Affected, ChunkId, Defect, ObjectId, Pointer, Repair, VerifyReport
from gitvault.core.storage import parity, pointers
from gitvault.core.storage import salvage as chunk_salvage
from gitvault.core.storage.index import ChunkIndex
from gitvault.core.storage.reader import ChunkReader
from gitvault.core.utils.files import Disk, copy_file, open_source, read_link, set_aside
from gitvault.core.utils.layout import packs
from gitvault.core.versioning import catalog, contents, losses
from gitvault.core.versioning import salvage as git_salvage
from gitvault.core.versioning.history import META, GitHistory
from gitvault.core.versioning.objects import object_id
from gitvault.core.versioning.packreader import Pack
from gitvault.errors import CorruptionError, GitVaultError, NotFoundError

if TYPE_CHECKING:
    from gitvault.core.interfaces import Progress
    from gitvault.core.storage.store import ChunkStore

_GIT_KINDS = ("commit", "tree", "blob", "meta")
_HEX = re.compile("[0-9a-f]{40}")
# Larger ones are in the chunk store.
_LARGEST_BLOB = 16 << 20


class Copy(NamedTuple):
    """A second vault."""

    path: Path
    history: GitHistory
    store: ChunkStore


def repair_vault(
    parts: Callable[[], tuple[GitHistory, ChunkStore]],
    *,
    copies: Sequence[Copy],
    host: str,
    redundancy: int,
    progress: Progress | None,
) -> VerifyReport:
    """Verify every byte, `repair`, verify again and list what is lost. For whoever holds the vault's lock.

    `parts`: opens the vault anew. `host`: this machine, where its projects lie. `redundancy`: per cent of parity.
    Raises as `repair` does.
    """
    history, store = parts()
    vault, disk = history.git_dir, history.disk
    done: list[Repair] = []
    lost: list[Defect] = []
    found = verify_vault(history, store, data=True, progress=progress)
    if not found.ok or history.headless():
        originals: dict[str, Path] = {}
        with suppress(CorruptionError):
            originals = {project.name: Path(project.path) for project in catalog.load(history) if project.host == host}
        defects = found.defects
        done, lost = repair(
            vault, history, store, defects=defects, copies=copies, originals=originals, disk=disk, progress=progress
        )
        mistrust(vault, disk)
        # Nothing counts that was read before.
        history, store = parts()
        found = verify_vault(history, store, data=True, progress=progress)
    report = losses.settle(history, found, lost)
    # A run that was killed may have moved what was damaged away, and not come to this.
    for folder in ("chunks", "objects/pack"):
        disk.sync_folder(vault / folder)
    parity.protect(vault, redundancy, disk)
    if not report.defects:
        parity.remove_stale(packs(vault), vault / "parity", disk)
    return replace(report, repaired=tuple(done))


def repair(
    vault: Path,
    history: GitHistory,
    store: ChunkStore,
    *,
    defects: Iterable[Defect],
    copies: Sequence[Copy],
    originals: Mapping[str, Path],
    disk: Disk,
    progress: Progress | None,
) -> tuple[list[Repair], list[Defect]]:
    """Heal what can be healed; what was, and the losses that `verify` will not find any more.

    `defects`: what verify found. `originals`: where projects of this machine lie. For whoever holds the vault's lock.
    Raises StorageFullError, OSError, UnsupportedFormatVersion.
    """
    work = _Work(vault, history, store, copies, originals, disk)
    work.learn(defects)
    chains = Chains(history, [copy.history for copy in copies], work.said, disk)
    say = progress or (lambda what, done, total: None)
    steps: list[tuple[str, Callable[[], None]]] = [
        ("mending the vault's own files", lambda: work.constants(constant_files())),
        ("mending git packs", work.git_packs),
        ("mending loose objects", work.loose_objects),
        ("mending refs", chains.mend_refs),
        ("mending chunk packs", work.chunk_packs),
        ("fetching what is missing", work.missing),
        ("mending chains", chains.mend_chains),
    ]
    for number, (what, step) in enumerate(steps):
        say(what, number, len(steps))
        step()
    say("repaired", len(steps), len(steps))
    return work.done, chains.lost


class _Work:
    def __init__(
        self,
        vault: Path,
        history: GitHistory,
        store: ChunkStore,
        copies: Sequence[Copy],
        originals: Mapping[str, Path],
        disk: Disk,
    ) -> None:
        self.vault = vault
        self.history = history
        self.store = store
        self.copies = copies
        self.originals = originals
        self.disk = disk
        self.done: list[Repair] = []
        self.places: dict[str, set[Affected]] = {}
        """Where each damaged object or large file is in history."""

    def learn(self, defects: Iterable[Defect]) -> None:
        for defect in defects:
            self.places.setdefault(defect.object, set()).update(defect.affects)

    def said(self, kind: str, name: str, how: str) -> None:
        self.done.append(Repair(kind, name, how))

    def set_aside(self, path: Path) -> None:
        set_aside(path, self.vault / "quarantine", self.disk)

    def constants(self, files: Mapping[str, bytes]) -> None:
        for name, content in files.items():
            path = self.vault / name
            if not path.is_file() or path.read_bytes() != content:
                keep_copy(path, self.vault, self.disk)
                self.disk.make_folder(path.parent)
                self.disk.write_durably(path, content)
                self.said("vault", name, "written anew")

    # -- whole packs -----------------------------------------------------------------------------

    def whole(self, path: Path, others: Iterable[Path], sound: Callable[[Path], bool]) -> str:
        """Put a sound copy of a pack in its place; where it came from, "" when there is none."""
        temporary = self.vault / "tmp" / path.name
        self.disk.make_folder(temporary.parent)
        self.disk.unlink(temporary)
        for other in others:
            if other.is_file() and sound(other) and not (path.is_file() and filecmp.cmp(path, other, shallow=False)):
                copy_file(other, temporary, self.disk)
                return self._replace(path, temporary, f"copied from {other.parent}")
        redundant = parity.path_for(path, self.vault / "parity")
        with suppress(CorruptionError, FileNotFoundError):
            if not parity.is_whole(path, redundant) and parity.heal(path, redundant, temporary, self.disk):
                return self._replace(path, temporary, "parity")
        return ""

    def _replace(self, path: Path, temporary: Path, how: str) -> str:
        self.disk.rename(temporary, path)
        self.disk.sync_folder(path.parent)
        return how

    def _vanished(self, folder: Path, suffix: str) -> list[Path]:
        """Packs that are gone and left their parity: small ones can be made from that alone."""
        names = [path.name.removesuffix(".par") for path in (self.vault / "parity").glob(f"*{suffix}.par")]
        return [folder / name for name in sorted(names) if not (folder / name).exists()]

    # -- git -------------------------------------------------------------------------------------

    def git_packs(self) -> None:
        folder = self.vault / "objects" / "pack"
        self.history.objects.close()
        broken = []
        sound = []
        found = [*folder.glob("pack-*.pack"), *folder.glob("pack-*.idx"), *self._vanished(folder, ".pack")]
        for stem in sorted({path.stem for path in found}):
            pack, index = folder / f"{stem}.pack", folder / f"{stem}.idx"
            if not git_salvage.is_sound(pack):
                others = [copy.path / "objects" / "pack" / pack.name for copy in self.copies]
                how = self.whole(pack, [*others, self.vault / "trash" / pack.name], git_salvage.is_sound)
                if not how:
                    broken.append(stem)
                    continue
                self.said("pack", pack.name, how)
            if not git_salvage.fits(index, pack):
                temporary = self.vault / "tmp" / index.name
                self.disk.make_folder(temporary.parent)
                self.disk.unlink(temporary)
                self.disk.write_durably(index, git_salvage.make_index(pack, temporary))
                self.disk.unlink(temporary)
                self.said("index", index.name, "made from its pack")
            sound.append(Pack(index))
        try:
            self._rescue_objects(folder, broken, sound)
        finally:
            for opened in sound:
                opened.close()
        if broken and (listing := folder / "multi-pack-index").exists():
            # It would lead git to packs that are gone.
            self.disk.unlink(listing)
        self.history.objects.refresh()

    def _rescue_objects(self, folder: Path, broken: Sequence[str], sound: Sequence[Pack]) -> None:
        """All that damaged packs still give, in a new one; then they go to the quarantine."""
        new = self.history.new_pack()
        temporary = self.vault / "tmp" / "salvage.idx"
        try:
            for stem in broken:
                pack, index = folder / f"{stem}.pack", folder / f"{stem}.idx"
                if not pack.is_file():
                    continue
                for kind, data in git_salvage.readable(pack, index, temporary, self.disk):
                    oid = object_id(kind, data)
                    if not any(other.find(oid) is not None for other in sound):
                        new.add(kind, data)
            made = new.finish()
        except BaseException:
            new.abandon()
            raise
        self.disk.unlink(temporary)
        if made:
            if made.name in broken:
                # All of it could be read. The damaged index first: no reader may find one that does not fit.
                self.set_aside(folder / f"{made.name}.idx")
                self.set_aside(folder / f"{made.name}.pack")
                self.said("pack", f"{made.name}.pack", "all of its content could be read")
            self.history.publish([made])
            self.history.objects.close()
        for stem in broken:
            if made and made.name == stem:
                continue
            # The index first: git complains of one whose pack is gone.
            for suffix in (".idx", ".rev", ".bitmap", ".pack"):
                self.set_aside(folder / f"{stem}{suffix}")

    def loose_objects(self) -> None:
        for path in (self.vault / "objects").glob(f"{'[0-9a-f]' * 2}/{'[0-9a-f]' * 38}"):
            if not _is_object(path):
                self.set_aside(path)
        self.history.objects.refresh()

    # -- chunks ----------------------------------------------------------------------------------

    def chunk_packs(self) -> None:
        for path in self._vanished(self.vault / "chunks", ".zpk"):
            if how := self._whole_chunk_pack(path):
                self.said("pack", path.name, how)
        self.store.salvage(self._help(), self.said)

    def _help(self) -> chunk_salvage.Help:
        return chunk_salvage.Help(self._whole_chunk_pack, self._chunks, self.set_aside)

    def _whole_chunk_pack(self, path: Path) -> str:
        others = {copy.path / "chunks" / path.name: copy.path / "chunks" for copy in self.copies}
        others[path.parent / "trash" / path.name] = path.parent

        def sound(other: Path) -> bool:
            with closing(ChunkIndex(others[other], None, self.disk)) as index:
                return chunk_salvage.is_sound(other, ChunkReader(others[other], index, self.disk))

        return self.whole(path, others, sound)

    def _chunks(self, wanted: set[ChunkId]) -> Iterator[tuple[bytes, str]]:
        left = set(wanted)
        for chunk in wanted:
            for copy in self.copies:
                with suppress(CorruptionError, NotFoundError, OSError):
                    yield copy.store.retrieve_chunk(chunk), f"copied from {copy.path}"
                    left.discard(chunk)
                    break
        trash = self.vault / "chunks" / "trash"
        for folder in (trash, self.vault / "quarantine") if left else ():
            with closing(ChunkIndex(folder, None, self.disk)) as index:
                reader = ChunkReader(folder, index, self.disk, trash=False)
                for chunk in list(left):
                    with suppress(CorruptionError, NotFoundError, OSError):
                        yield bytes(reader.read([chunk])[0]), f"found in {folder}"
                        left.discard(chunk)
        for path in self._local(object for object in self.places if len(object) == 64) if left else ():
            with suppress(GitVaultError, OSError):
                for data in self.store.cut(path, path.suffix.lower() or None):
                    if hashlib.sha256(data).digest() in left:
                        yield bytes(data), f"cut from {path}"

    def _local(self, names: Iterable[str]) -> list[Path]:
        """Where the originals of damaged things would be on this machine."""
        places = {(place.project, place.path) for name in names for place in self.places[name]}
        return [
            Path(os.fsdecode(os.fsencode(self.originals[project]) + b"/" + path))
            for project, path in sorted(places)
            if project in self.originals and path
        ]

    # -- what is missing -------------------------------------------------------------------------

    def missing(self) -> None:
        """What refs lead to and is not there, until no more can be had."""
        sources = [git_salvage.from_store(copy.history.objects) for copy in self.copies]
        while True:
            found = verify(self.history, self.store).defects
            self.learn(found)
            objects = [
                ObjectId(bytes.fromhex(defect.object))
                for defect in found
                if defect.kind in _GIT_KINDS and _HEX.fullmatch(defect.object)
            ]
            objects += self._holes()
            got = git_salvage.fetch(self.history, objects, [*sources, self._original])
            for oid, source in got.items():
                how = f"copied from {self.copies[source].path}" if source < len(self.copies) else "the original file"
                self.said("object", oid.hex(), how)
            wanted = {ChunkId(bytes.fromhex(defect.object)) for defect in found if defect.kind == "chunk"}
            chunks = self.store.add_chunks(wanted, self._help(), self.said)
            files = [defect.object for defect in found if defect.kind in ("pointer", "manifest")]
            if not got and not chunks and not sum(self._large_file(oid) for oid in files):
                return

    def _holes(self) -> Iterator[ObjectId]:
        """Where the chains of records break off."""
        for ref, at in self.history.refs.list("refs/vault/").items():
            while not ref.startswith(META):
                try:
                    parents = self.history.commit(at).parents
                except (CorruptionError, NotFoundError):
                    yield at
                    break
                if not parents:
                    break
                at = parents[0]

    def _original(self, oid: ObjectId) -> tuple[bytes, bytes] | None:
        """A blob, as the file it was made from or what is known of that one say."""
        for path in self._local([oid.hex()] if oid.hex() in self.places else []):
            for content in _contents(path):
                if object_id(b"blob", content) == oid:
                    return b"blob", content
        for place in self.places.get(oid.hex(), ()):
            with suppress(GitVaultError):
                entry = contents.find_file(self.history, place.snapshot, place.path, lambda _: None)
                if entry.pointer and object_id(b"blob", text := pointers.encode(entry.pointer)) == oid:
                    return b"blob", text
        return None

    def _large_file(self, oid: str) -> bool:
        """Store a large file anew from wherever all of it is; whether that could be done."""
        pointer = self._pointer(oid)
        temporary = self.vault / "tmp" / "repair.file"
        for copy in self.copies if pointer else ():
            self.disk.unlink(temporary)
            with suppress(CorruptionError, NotFoundError), self.disk.create(temporary) as file:
                copy.store.retrieve_file(pointer, _Sink(file.write))  # type: ignore[arg-type]
                file.close()
                self.store.store_file(temporary)
                self.store.flush()
                self.said("file", oid, f"copied from {copy.path}")
                return True
        self.disk.unlink(temporary)
        for path in self._local([oid]):
            with suppress(OSError):
                if _sha256(path) == oid and self.store.store_file(path, file_extension=path.suffix.lower()).oid == oid:
                    self.store.flush()
                    self.said("file", oid, f"stored again from {path}")
                    return True
        return False

    def _pointer(self, oid: str) -> Pointer | None:
        for place in self.places.get(oid, ()):
            with suppress(GitVaultError):
                entry = contents.find_file(self.history, place.snapshot, place.path, lambda _: None)
                if entry.pointer and entry.pointer.oid == oid:
                    return entry.pointer
        return None


class _Sink(NamedTuple):
    """A stream that is only written to."""

    write: Callable[[bytes], None]


def _contents(path: Path) -> Iterator[bytes]:
    """What a blob of the file may hold: its content, its pointer, a symlink's target."""
    with suppress(OSError):
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            yield read_link(os.fspath(path))
        elif stat.S_ISREG(status.st_mode):
            if status.st_size <= _LARGEST_BLOB:
                with open(open_source(os.fspath(path)), "rb") as file:
                    yield file.read()
            yield pointers.encode(Pointer(_sha256(path), status.st_size))


def _sha256(path: Path) -> str:
    with open(open_source(os.fspath(path)), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_object(path: Path) -> bool:
    """Whether a loose object has the hash that its name says."""
    digest = hashlib.sha1(usedforsecurity=False)
    stream = zlib.decompressobj()
    try:
        with path.open("rb") as file:
            while data := file.read(1 << 16):
                while data:
                    digest.update(stream.decompress(data, 1 << 20))
                    data = stream.unconsumed_tail
    except (OSError, zlib.error):
        return False
    return stream.eof and digest.hexdigest() == path.parent.name + path.name
