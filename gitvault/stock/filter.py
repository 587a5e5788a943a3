"""git's filter `vault`, as a long-running process: pointers become their content on the way out, and pointers again.

Files that are no pointers pass as they are. The protocol is in gitattributes(5), "Long Running Filter Process": packets
of at most 65,516 bytes behind four hex digits, `0000` ends a list.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, cast

from gitvault.core.models import ObjectId, Pointer
from gitvault.core.storage import pointers
from gitvault.core.utils.names import to_line
from gitvault.errors import CorruptionError, GitVaultError, NotFoundError

if TYPE_CHECKING:
    from gitvault.core.storage.store import ChunkStore

# Of one file, in memory: as much as a blob in a vault holds.
_HELD = 16 << 20
_LARGEST = 65_516
_LONGEST_LIST = 64
_END = b"0000"
# Files that people are told of.
_TOLD = 10


@dataclass(frozen=True, slots=True)
class Source:
    """Where content comes from."""

    store: ChunkStore
    limit: int
    """Bytes up to which files are filled in."""
    is_plain: Callable[[str, ObjectId], bool]
    """Whether git has a file, by its path, as this blob: then it is one, whatever the store holds."""


class _Content:
    """A file on its way through: a small one in memory, the rest of a large one on the disk, or left out."""

    def __init__(self, *, whole: bool) -> None:
        self._head: list[bytes] = []
        self._rest: IO[bytes] | None = None
        self._whole = whole
        self.size = 0

    @property
    def is_whole(self) -> bool:
        return self._whole or self.size <= _HELD

    def add(self, data: bytes) -> None:
        self.size += len(data)
        if self.size <= _HELD:
            self._head.append(data)
        elif self._whole:
            if self._rest is None:
                self._rest = tempfile.TemporaryFile()  # noqa: SIM115
            self._rest.write(data)

    def parts(self) -> Iterator[bytes]:
        """All of it, in order."""
        yield from self._head
        if self._rest is not None:
            self._rest.seek(0)
            while data := self._rest.read(_LARGEST):
                yield data


class _Packets:
    """Both ends of git's pipe."""

    def __init__(self, source: BinaryIO, target: BinaryIO) -> None:
        self._source = source
        self._target = target

    def read(self) -> bytes | None:
        """A packet; None at the end of a list. Raises EOFError when git has left, CorruptionError."""
        head = self._source.read(4)
        if head == _END:
            return None
        if len(head) < len(_END):
            raise EOFError
        try:
            length = int(head, 16) - len(_END)
        except ValueError:
            length = -1
        if length < 0:
            raise CorruptionError(f"filter-process: expected a packet of git's protocol, found {head!r}")
        data = self._source.read(length)
        if len(data) < length:
            raise EOFError
        return data

    def read_list(self) -> list[str]:
        """Lines up to the end of a list."""
        lines: list[str] = []
        while (packet := self.read()) is not None:
            lines.append(packet.decode("utf-8", "surrogateescape").removesuffix("\n"))
            if len(lines) > _LONGEST_LIST:
                raise CorruptionError(f"filter-process: expected at most {_LONGEST_LIST} lines, found more")
        return lines

    def read_content(self) -> Iterator[bytes]:
        """The packets of a file."""
        while (packet := self.read()) is not None:
            yield packet

    def write(self, data: bytes | memoryview) -> int:
        """Send bytes, in as many packets as it takes; as a file does it."""
        for start in range(0, len(data), _LARGEST):
            part = data[start : start + _LARGEST]
            self._target.write(b"%04x" % (len(part) + 4))
            self._target.write(part)
        return len(data)

    def end(self) -> None:
        """End a list."""
        self._target.write(_END)

    def write_list(self, *lines: str) -> None:
        """Send lines as a list."""
        for line in lines:
            self.write(line.encode() + b"\n")
        self.end()

    def flush(self) -> None:
        """Let git have it all."""
        self._target.flush()


class FilterProcess:
    """Answers git until it leaves."""

    def __init__(
        self, source: BinaryIO, target: BinaryIO, content: Callable[[], Source], top: Path, say: Callable[[str], None]
    ) -> None:
        """`content`: asked once, when it is needed. `top`: of the work tree. `say`: tells people."""
        self._top = top
        self._git = _Packets(source, target)
        self._open = content
        self._asked = False
        self._opened: Source | None = None
        self._say = say
        self._kept = 0
        self._failed = 0

    def serve(self) -> None:
        """Until git closes the pipe. Raises CorruptionError for what is not git's protocol."""
        git = self._git
        try:
            self._greet()
            while True:
                request = dict(line.partition("=")[::2] for line in git.read_list())
                (self._clean if request.get("command") == "clean" else self._smudge)(request.get("pathname", ""))
                git.flush()
        except EOFError:
            pass
        if self._kept:
            self._say(f"over vault.smudgeLimit, left as pointers: {self._kept}; git vault hydrate fills them in")

    def _greet(self) -> None:
        git = self._git
        welcome = git.read_list()
        if welcome[:1] != ["git-filter-client"] or "version=2" not in welcome:
            raise CorruptionError("filter-process: expected git's version 2; git starts this")
        git.write_list("git-filter-server", "version=2")
        git.flush()
        offered = git.read_list()
        git.write_list(*(word for word in ("capability=clean", "capability=smudge") if word in offered))
        git.flush()

    def _smudge(self, path: str) -> None:
        content = _Content(whole=True)
        for packet in self._git.read_content():
            content.add(packet)
        pointer = pointers.decode(b"".join(content.parts())) if content.size <= pointers.MAX_LENGTH else None
        store = self._store_for(path, pointer) if pointer else None
        if pointer is None or store is None:
            self._send(content.parts())
            return
        self._git.write_list("status=success")
        try:
            store.retrieve_file(pointer, cast(BinaryIO, self._git))
        except GitVaultError as error:
            # git drops what it got by then.
            self._git.end()
            self._git.write_list("status=error")
            self._tell(path, error)
            return
        self._git.end()
        self._git.end()

    def _store_for(self, path: str, pointer: Pointer) -> ChunkStore | None:
        """The store that fills a pointer in; None where it stays."""
        source = self._source()
        if source is None:
            return None
        if pointer.size > source.limit:
            self._kept += 1
            return None
        try:
            if not source.store.has(pointer):
                raise NotFoundError(f"{pointer.oid}: not in the vault; left as a pointer")
        except GitVaultError as error:
            self._tell(path, error)
            return None
        return source.store

    def _source(self) -> Source | None:
        """Opened on first use; where that fails, all files pass as they are."""
        if not self._asked:
            self._asked = True
            try:
                self._opened = self._open()
            except GitVaultError as error:
                self._say(f"{error}; files stay as git has them")
        return self._opened

    def _clean(self, path: str) -> None:
        content = _Content(whole=False)
        whole = hashlib.sha256()
        for packet in self._git.read_content():
            content.add(packet)
            whole.update(packet)
        pointer = Pointer(whole.hexdigest(), content.size)
        if pointer.size and self._is_large(path, pointer, content):
            self._send([pointers.encode(pointer)])
        elif content.is_whole:
            self._send(content.parts())
        else:
            self._send_again(path, pointer)

    def _send_again(self, path: str, pointer: Pointer) -> None:
        """A large file that the vault has not, from where git took it: 2 GiB would be too much for memory and /tmp."""
        self._git.write_list("status=success")
        whole = hashlib.sha256()
        with contextlib.suppress(OSError), open(os.path.join(os.fsencode(self._top), _raw(path)), "rb") as file:
            while data := file.read(_LARGEST):
                whole.update(data)
                self._git.write(data)
        self._git.end()
        if whole.hexdigest() == pointer.oid:
            self._git.end()
            return
        self._git.write_list("status=error")
        self._tell(path, GitVaultError("changed while git read it; run git again when it is at rest"))

    def _is_large(self, path: str, pointer: Pointer, content: _Content) -> bool:
        source = self._source()
        try:
            if source is None or not source.store.has(pointer):
                return False
            if pointer.size > _HELD:
                return True
            # A small file can be what a piece of a large one is.
            from gitvault.core.versioning.objects import object_id

            return not source.is_plain(path, object_id(b"blob", b"".join(content.parts())))
        except GitVaultError as error:
            self._tell(path, error)
            return False

    def _send(self, parts: Iterable[bytes]) -> None:
        self._git.write_list("status=success")
        for part in parts:
            self._git.write(part)
        self._git.end()
        self._git.end()

    def _tell(self, path: str, error: GitVaultError) -> None:
        self._failed += 1
        if self._failed <= _TOLD:
            self._say(f"{to_line(_raw(path))}: {error}")


def _raw(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")
