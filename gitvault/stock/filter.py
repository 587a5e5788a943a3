"""git's filter `vault`, as a long-running process: pointers become their content on the way out, and pointers again.

Files that are no pointers pass as they are. The protocol is in gitattributes(5), "Long Running Filter Process": packets
of at most 65,516 bytes behind four hex digits, `0000` ends a list.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, cast

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


@dataclass(frozen=True, slots=True)
class Source:
    """Where content comes from."""

    store: ChunkStore
    limit: int
    """Bytes up to which files are filled in."""
    is_plain: Callable[[str, ObjectId], bool]
    """Whether git has a file, by its path, as this blob: then it is one, whatever the store holds."""


class _Packets:
    """Both ends of git's pipe."""

    def __init__(self, source: BinaryIO, target: BinaryIO) -> None:
        self._source = source
        self._target = target

    def read(self) -> bytes | None:
        """A packet; None at the end of a list. Raises EOFError when git has left, CorruptionError."""
        head = self._source.read(4)
        if not head:
            raise EOFError
        try:
            size = int(head, 16)
        except ValueError:
            size = -1
        if size == 0:
            return None
        data = self._source.read(size - 4) if size >= 4 else b""
        if len(data) != size - 4:
            raise CorruptionError(f"filter-process: expected a packet of git's protocol, found {head!r}")
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
        self._target.write(b"0000")

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
        self, source: BinaryIO, target: BinaryIO, content: Callable[[], Source], say: Callable[[str], None]
    ) -> None:
        """`content`: asked once, when it is needed. `say`: tells people."""
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
        with tempfile.SpooledTemporaryFile(_HELD) as held:
            for packet in self._git.read_content():
                held.write(packet)
            is_short = held.tell() <= pointers.MAX_LENGTH
            held.seek(0)
            pointer = pointers.decode(held.read()) if is_short else None
            store = self._store_for(path, pointer) if pointer else None
            if pointer is None or store is None:
                self._send(held)
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
        whole = hashlib.sha256()
        with tempfile.SpooledTemporaryFile(_HELD) as held:
            for packet in self._git.read_content():
                whole.update(packet)
                held.write(packet)
            pointer = Pointer(whole.hexdigest(), held.tell())
            if pointer.size and self._is_large(path, pointer, held):
                held.seek(0)
                held.truncate()
                held.write(pointers.encode(pointer))
            self._send(held)

    def _is_large(self, path: str, pointer: Pointer, held: tempfile.SpooledTemporaryFile[bytes]) -> bool:
        source = self._source()
        try:
            if source is None or not source.store.has(pointer):
                return False
            if pointer.size > _HELD:
                return True
            # A small file can be what a piece of a large one is.
            from gitvault.core.versioning.objects import object_id

            held.seek(0)
            return not source.is_plain(path, object_id(b"blob", held.read()))
        except GitVaultError as error:
            self._tell(path, error)
            return False

    def _send(self, held: tempfile.SpooledTemporaryFile[bytes]) -> None:
        held.seek(0)
        self._git.write_list("status=success")
        while data := held.read(_LARGEST):
            self._git.write(data)
        self._git.end()
        self._git.end()

    def _tell(self, path: str, error: GitVaultError) -> None:
        self._failed += 1
        if self._failed <= 10:
            self._say(f"{to_line(path.encode('utf-8', 'surrogateescape'))}: {error}")
