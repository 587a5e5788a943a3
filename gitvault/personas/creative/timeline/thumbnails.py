"""Small pictures of saved files, kept in the vault's cache by content, size and renderer; drawn when they are missing.

What they are drawn from is written to a temporary file, of a large file only as much as its preview needs, and read in
processes of its own that have little to lose.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar

from gitvault.core.models import ObjectId, Pointer, SnapshotId
from gitvault.core.utils import layout
from gitvault.errors import CorruptionError, NotFoundError, StorageFullError, ToolError, UnsupportedMedia
from gitvault.formats import Element, identify
from gitvault.formats.thumbnails import FINGERPRINT, NO_PREVIEW, RENDERER, fingerprint, is_whole
from gitvault.formats.thumbnails.embedded import KINDS, ZIPPED

if TYPE_CHECKING:
    from gitvault.core.interfaces import Progress
    from gitvault.formats.confined import Confined
    from gitvault.vault import Vault

Found = TypeVar("Found")

SIDE = 256
"""Pixels of the longer side."""
_SECONDS = 30.0
"""For one picture."""
_LARGEST = 4 << 30
"""Bytes of a file that is written out to be drawn."""
_IN_PARTS = 8 << 20
"""Bytes from which on a file's preview is looked for before the whole is fetched."""
_HEAD, _TAIL = 1 << 20, 2 << 20
_WORKERS = 8
_WORTH_ONE = 3
_LEFT = 86400.0
"""Seconds after which a file that is being written is not being written any more."""
_UNUSED = 90 * 86400.0
"""Seconds after which a picture goes that was drawn of what only another repository has, or of what is gone."""


class Kept(NamedTuple):
    """What is known of a picture."""

    path: Path | None
    """The PNG; None when there is none."""
    fingerprint: bytes = b""
    reason: str = ""
    """Why there is none."""
    is_bad: bool = False
    """Whether the file is why: damaged, made to do harm, or of a kind that nobody can draw."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A content of which a picture is wanted."""

    blob: ObjectId
    extension: str
    pointer: Pointer | None
    within: tuple[SnapshotId, bytes] | None = None
    """Snapshot and path, for what only the user's own repository has."""


class Thumbnails:
    """The pictures of one vault at one size. For one thread."""

    def __init__(self, vault: Vault, side: int = SIDE) -> None:
        self._vault = vault
        self._side = side
        self._disk = vault.history.disk
        self.folder = vault.path / layout.THUMBNAILS / f"{RENDERER}-{side}"
        self._reading = threading.Lock()

    def kept(self, blob: ObjectId) -> Kept | None:
        """What is known of a content's picture; None: nothing yet."""
        path = self.folder / f"{blob.hex()}.png"
        with contextlib.suppress(OSError):
            # Not synced when it was written: after a power cut it may be anything.
            with open(path, "rb", buffering=0) as file:
                start = file.read(FINGERPRINT + 64)
                file.seek(-12, os.SEEK_END)
                found = fingerprint(start) if is_whole(file.read(12)) else None
            return Kept(path, found) if found else None
        with contextlib.suppress(OSError):
            return _refused(path.with_suffix(".txt").read_text("utf-8", "replace") or "no picture")
        return None

    def tidy(self) -> None:
        """Remove what other renderers and killed runs left, and after a while what the vault no longer has."""
        for folder in self.folder.parent.iterdir() if self.folder.parent.is_dir() else ():
            if not folder.is_dir():
                continue
            for path in folder.iterdir():
                with contextlib.suppress(OSError, ValueError):
                    is_ours = folder.name.startswith(f"{RENDERER}-")
                    age = self._vault.now().timestamp() - path.stat().st_mtime
                    oid = ObjectId(bytes.fromhex(path.name.partition(".")[0]))
                    is_left = path.suffix == ".tmp" and age > _LEFT
                    is_gone = age > _UNUSED and not self._vault.history.objects.contains(oid)
                    if not is_ours or is_left or is_gone:
                        self._disk.unlink(path)
            self._disk.remove_folder(folder)

    def draw(self, wanted: Iterable[Wanted], progress: Progress | None = None) -> dict[ObjectId, Kept]:
        """Draw what is missing, in processes beside each other, the first ones first; what came of each."""
        return self._each(wanted, self._drawn, lambda why: Kept(None, reason=why), "drawing thumbnails", progress)

    def elements(self, blob: ObjectId) -> list[Element] | None:
        """What a content consists of, as `list_elements` found it; None: nobody has looked yet."""
        # As the pictures it is not synced.
        with contextlib.suppress(OSError, ValueError, TypeError):
            said = json.loads(self._elements_of(blob).read_bytes())
            return [Element(*one) for one in said]
        return None

    def list_elements(self, wanted: Iterable[Wanted], progress: Progress | None = None) -> None:
        """Note what contents consist of, those that cannot be taken apart as nothing; the whole files are read."""
        self._each(wanted, self._listed, lambda _: None, "reading elements", progress)

    def _listed(self, wanted: Wanted, readers: _Readers) -> None:
        found: list[dict[str, Any]] = []
        # What is damaged or gone has no elements that could be named; verify tells of it.
        with contextlib.suppress(CorruptionError, NotFoundError, StorageFullError, ToolError, OSError):
            with readers.one() as (reader, folder), contextlib.suppress(UnsupportedMedia):
                path = folder / f"file{wanted.extension}"
                try:
                    with open(path, "wb") as file:
                        self._write(wanted, file)
                    found = reader.call("gitvault.formats.elements:told_apart", str(path), seconds=_SECONDS)
                finally:
                    path.unlink()
            self._keep(self._elements_of(wanted.blob).name, json.dumps([list(one.values()) for one in found]).encode())

    def _elements_of(self, blob: ObjectId) -> Path:
        return self.folder / f"{blob.hex()}.json"

    def _each(
        self,
        wanted: Iterable[Wanted],
        function: Callable[[Wanted, _Readers], Found],
        failed: Callable[[str], Found],
        doing: str,
        progress: Progress | None,
    ) -> dict[ObjectId, Found]:
        """What a function makes of each content, several at once, in their order; `failed` says why it makes none."""
        todo = {one.blob: one for one in wanted}
        done: dict[ObjectId, Found] = {}
        if not todo:
            return done
        # Not needed where all pictures are kept.
        from concurrent.futures import ThreadPoolExecutor

        try:
            self._disk.make_folder(self.folder)
        except (OSError, StorageFullError) as error:
            return {blob: failed(f"no picture can be kept: {error}") for blob in todo}
        # Starting one takes as long as a few pictures.
        workers = min(os.cpu_count() or 1, _WORKERS, ceil(len(todo) / _WORTH_ONE))
        with _readers(workers) as readers, ThreadPoolExecutor(workers) as pool:
            try:
                results = pool.map(lambda one: function(one, readers), todo.values())
                for count, (blob, found) in enumerate(zip(todo, results, strict=True), 1):
                    done[blob] = found
                    if progress:
                        progress(doing, count, len(todo))
            finally:
                # Whoever interrupts does not wait for all that is left.
                pool.shutdown(wait=False, cancel_futures=True)
        return done

    def _drawn(self, wanted: Wanted, readers: _Readers) -> Kept:
        name = f"file{wanted.extension}"
        try:
            with readers.one() as (reader, folder):
                try:
                    png = b64decode(self._picture(wanted, reader, folder / name))
                except UnsupportedMedia as error:
                    # Libraries name the copy that they were given.
                    raise UnsupportedMedia(str(error).replace(str(folder / name), name)) from error
            return Kept(self._keep(f"{wanted.blob.hex()}.png", png), fingerprint(png) or b"")
        except UnsupportedMedia as error:
            reason = str(error).removeprefix(f"{name}: ")
            with contextlib.suppress(OSError, StorageFullError):
                self._keep(f"{wanted.blob.hex()}.txt", reason.encode("utf-8", "replace"))
            return _refused(reason)
        # All that another time may go well.
        except (CorruptionError, NotFoundError, StorageFullError, ToolError, OSError) as error:
            return Kept(None, reason=str(error))

    def _picture(self, wanted: Wanted, reader: Confined, path: Path) -> str:
        function = "gitvault.formats.thumbnails:drawn"
        try:
            if wanted.pointer and wanted.pointer.size > _IN_PARTS:
                head, tail = self._write_ends(wanted.pointer, wanted.extension, path)
                found = reader.call(function, str(path), self._side, head, tail, seconds=_SECONDS) if head else None
                if found:
                    return str(found)
            with open(path, "wb") as file:
                self._write(wanted, file)
            return str(reader.call(function, str(path), self._side, seconds=_SECONDS))
        finally:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    def _write(self, wanted: Wanted, file: BinaryIO) -> None:
        if wanted.within:
            # It asks git, and a vault is for one thread.
            with self._reading:
                self._vault.read_file(*wanted.within, file)
        elif wanted.pointer:
            self._vault.store.retrieve_file(wanted.pointer, file)
        else:
            file.write(self._vault.history.blob(wanted.blob))

    def _write_ends(self, pointer: Pointer, extension: str, path: Path) -> tuple[int, int]:
        """Write both ends of a large file, a hole between them; how long they are. 0: whole or not at all.

        Raises UnsupportedMedia for a file of which nobody can draw a picture.
        """
        store = self._vault.store
        chunks = store.chunks(pointer)
        head = tail = 0
        with open(path, "wb") as file:
            for chunk, size in chunks:
                if head >= _HEAD:
                    break
                file.write(store.retrieve_chunk(chunk))
                head += size
            file.truncate(pointer.size)
        with open(path, "rb") as file:
            known = identify(file.read(65536), extension)
        if not (known and known.thumbnail):
            raise UnsupportedMedia(
                f"{known.summary if known else 'an unknown kind of file'}: no picture can be made of it"
            )
        if pointer.size > _LARGEST and known.name not in KINDS:
            raise UnsupportedMedia(f"{pointer.size:,} bytes are too many to be drawn")
        if known.name not in KINDS:
            return 0, 0
        with open(path, "r+b") as file:
            # What is found by its end is a zip.
            for chunk, size in reversed(chunks) if known.name in ZIPPED else ():
                if tail >= _TAIL or head + tail >= pointer.size:
                    break
                tail += size
                file.seek(pointer.size - tail)
                file.write(store.retrieve_chunk(chunk))
        return head, tail

    def _keep(self, name: str, data: bytes) -> Path:
        """Write a file in one step. Not synced: what a power cut leaves is seen to be none, and drawn again.

        The folder is not made here: whoever purges removes it, and what was read before must not come back.
        """
        path = self.folder / name
        temporary = self.folder / f"{name}.{os.getpid()}-{threading.get_ident()}.tmp"
        try:
            with self._disk.create(temporary) as new:
                new.write(data)
            self._disk.rename(temporary, path)
        except BaseException:
            self._disk.unlink(temporary)
            raise
        return path


def _refused(reason: str) -> Kept:
    return Kept(None, reason=reason, is_bad=not reason.endswith(NO_PREVIEW))


class _Readers:
    """Processes that read, each with a folder of its own; one caller at a time has one."""

    def __init__(self, readers: list[tuple[Confined, Path]]) -> None:
        self._free = readers

    @contextlib.contextmanager
    def one(self) -> Iterator[tuple[Confined, Path]]:
        taken = self._free.pop()
        try:
            yield taken
        finally:
            self._free.append(taken)


@contextlib.contextmanager
def _readers(count: int) -> Iterator[_Readers]:
    import tempfile

    from gitvault.formats.confined import Confined

    with tempfile.TemporaryDirectory(prefix="gitvault-") as folder, contextlib.ExitStack() as stack:
        made = []
        for number in range(count):
            own = Path(folder, str(number))
            own.mkdir()
            made.append((stack.enter_context(Confined()), own))
        yield _Readers(made)
