"""The seams. A docstring here is the contract; nothing inherits from these.

Each seam has at least two implementations, and `tests/conformance` runs one suite over all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from gitvault.core.models import (
        ChunkId,
        ChunkPlan,
        Difference,
        Entry,
        Filter,
        Pointer,
        RestoreReport,
        Snapshot,
        SnapshotId,
        SnapshotReport,
        StorageSize,
        StorageStats,
        VerifyReport,
    )

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, units done, units in all or 0 when unknown), often."""


class Extent(Protocol):
    """Which stored bytes a verification reads; all that leads to them is looked at in any case."""

    def wants(self, digest: bytes) -> bool:
        """Whether what has this hash is to be read."""

    def was_read(self, pack: str) -> bool:
        """Whether a file that never changes was read before and found sound, so that it need not be again."""

    def read(self, pack: str) -> None:
        """It has been read now, and is sound."""


class Scope(Protocol):
    """What of one folder is saved."""

    @property
    def digest(self) -> bytes:
        """Changes whenever an answer may. Where it and the folder's listing are as before, files are not asked for.

        Where it changes while it is asked of a folder's entries, the answers hold for this look alone.
        """

    def omits(self, name: bytes, is_folder: bool) -> str:
        """Why an entry of the folder is left out, for people: the rule and where it stands. Empty: it is saved."""


class Rules(Protocol):
    """What of a project is saved, told folder by folder on the way down. Used by one walk at a time."""

    @property
    def digest(self) -> bytes:
        """Changes whenever an answer may for another reason than a file within the project: settings, built-in data."""

    def marks(self, names: Iterable[str]) -> Sequence[str]:
        """Those of a folder's entries whose presence says something of it: `package.json`, `.gitignore`, `.git`.

        Called for every folder, also in a copy of this process: it depends on nothing else.
        """

    def scope(self, path: bytes, marks: Sequence[str], outer: Scope | None) -> Scope:
        """What holds in a folder, given its marks and the scope of the folder around it; None for the root.

        Called for every folder of a walk, a folder before those in it. `path` is relative to the root. Never raises
        for what it finds on disk.
        """


class ChunkingStrategy(Protocol):
    """Cuts content into chunks. Safe to call from several threads at once."""

    @property
    def name(self) -> str:
        """The value of `vault.chunkingStrategy` that selects it."""

    def plan(self, head: bytes, size: int | None, file_extension: str | None = None) -> ChunkPlan:
        """How a file should be cut, judged by its first bytes.

        `head`: up to 64 KiB from the start. `size`: of the whole file, None when not known.
        `file_extension`: with its dot, lower case. Never raises for any content.
        """

    def chunk_data(
        self, buffer: memoryview, file_extension: str | None = None, plan: ChunkPlan | None = None
    ) -> Iterator[memoryview]:
        """Slices of `buffer`, in order, without copies; joined they are the buffer. Empty buffer: nothing.

        A cut depends only on the bytes since the cut before it. A stream is therefore cut window by
        window: every slice but a window's last is final, the last one starts the next window.
        No slice is longer than `plan.max_size`. Without `plan`, the buffer itself is judged.
        """


class StorageManager(Protocol):
    """Keeps large content as chunks. Safe to call from several threads at once.

    What was stored is readable at once by the same object, and by others after `flush`.
    """

    def store_file(
        self, source: BinaryIO | Path, *, base: Pointer | None = None, file_extension: str | None = None
    ) -> Pointer:
        """Store everything `source` yields until its end; memory stays bounded.

        `base`: the previous version of the same file, if there is one: a hint for delta coding.
        Raises OSError from reading, StorageFullError from writing. Storing known content writes nothing.
        """

    def retrieve_file(self, pointer: Pointer, target: BinaryIO) -> None:
        """Write the content to `target` and check that the whole has the pointer's hash and size.

        Raises NotFoundError when content is missing, CorruptionError when it is damaged: what was
        written by then is worthless, so write into a file that gets its name afterwards.
        """

    def store_chunk(self, data: bytes) -> ChunkId:
        """Store one chunk as it is."""

    def retrieve_chunk(self, chunk: ChunkId) -> bytes:
        """The chunk's bytes, verified. Raises NotFoundError, CorruptionError."""

    def has(self, pointer: Pointer) -> bool:
        """Whether the manifest and every chunk of the file are there (not: undamaged)."""

    def chunks(self, pointer: Pointer) -> Sequence[tuple[ChunkId, int]]:
        """The file's chunks in order, each with its length. Raises NotFoundError, CorruptionError."""

    def flush(self) -> int:
        """The durability barrier: when it returns, everything stored so far survives a power cut.

        Also when this object wrote nothing: what an earlier run renamed into place is made durable.
        Returns the bytes this object has added to the disk since the last flush. Raises StorageFullError.
        """

    def discard(self) -> None:
        """Drop everything stored since the last flush; called when a run fails."""

    def verify(
        self, *, data: bool = False, extent: Extent | None = None, progress: Progress | None = None
    ) -> VerifyReport:
        """Check every pack: tables and lengths, with `data` every byte decoded and hashed, or those of `extent`.

        Defects name chunks (`kind="chunk"`, `object` the chunk id in hex), manifests and packs.
        """

    def get_storage_size(self) -> StorageSize:
        """What the store occupies on disk."""


class VersionTracker(Protocol):
    """Keeps the states of projects as chains of versions."""

    def create_version(
        self, project: str, files: Mapping[bytes, bytes], *, message: str = "", tags: Sequence[str] = ()
    ) -> SnapshotId:
        """Record `files` (path -> content) as the project's newest version; durable when it returns.

        Blanks around a tag are no part of it. Raises GitVaultError for a path that is empty, absolute or climbs out,
        and for an empty tag.
        """

    def get_version(self, snapshot: SnapshotId) -> Snapshot:
        """Raises NotFoundError."""

    def get_latest_version(self, project: str) -> Snapshot | None:
        """The newest version; None when the project has none."""

    def list_versions(self, project: str) -> Iterator[Snapshot]:
        """Newest first; nothing for an unknown project."""

    def entries(self, snapshot: SnapshotId, path: bytes = b"") -> Iterator[Entry]:
        """Every file, symlink and folder at or below `path`, sorted by path, folders before their content.

        Raises NotFoundError when there is no such path.
        """

    def read(self, snapshot: SnapshotId, path: bytes) -> bytes:
        """What the version holds for the path: content, pointer text or a link's target.

        Raises NotFoundError when there is no such file.
        """

    def compare(self, a: SnapshotId, b: SnapshotId) -> Difference:
        """What changed from `a` to `b`, moves found by equal content."""


class BackupEngine(Protocol):
    """Snapshots of folders. `gitvault.Vault` is the real one."""

    def initialize_repository(self) -> None:
        """Make the vault; nothing happens when it is there."""

    def create_snapshot(
        self,
        path: Path | str,
        *,
        project: str | None = None,
        message: str = "",
        tags: Sequence[str] = (),
        metadata: Mapping[str, str] | None = None,
        trigger: str = "manual",
        progress: Progress | None = None,
    ) -> SnapshotReport:
        """Save the folder; when this returns, the snapshot survives a power cut.

        Trouble with one file is a problem in the report, never the end of the run. Blanks around tags and around
        keys and values of `metadata` are no part of them.
        Raises NotFoundError, LockedError, StorageFullError, and GitVaultError for an empty tag, or a key that is
        empty or holds `=`.
        """

    def restore_snapshot(
        self,
        snapshot: str,
        target: Path | str | None = None,
        *,
        paths: Iterable[str | bytes] = (),
        excluded_paths: Iterable[str | bytes] = (),
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> RestoreReport:
        """Write the snapshot's files below `target`; None: where the project lies, after a safety snapshot.

        `paths`: only these files and folders; `excluded_paths`: all but these. A file in the way raises
        ExistsError before anything is written unless `overwrite`.
        """

    def list_snapshots(self, filter_criteria: Filter | None = None) -> list[Snapshot]:
        """Newest first."""

    def get_snapshot_info(self, snapshot: str) -> Snapshot:
        """Raises NotFoundError, AmbiguousError."""

    def get_version_diff(self, a: str, b: str) -> Difference:
        """What changed from `a` to `b`."""

    def get_storage_stats(self) -> StorageStats:
        """Sizes, by kind of file."""

    def verify(self, *, data: bool = False, progress: Progress | None = None) -> VerifyReport:
        """Check everything from the refs down; with `data`, every stored byte."""
