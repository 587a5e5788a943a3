"""git-lfs's standalone transfer agent `vault`: large files of a clone come out of the vault.

The protocol is lines of JSON, see git-lfs's docs/custom-transfers.md. What is asked for is written into a new file, of
which git-lfs checks the hash before it takes it over.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from gitvault.core.models import Pointer
from gitvault.core.utils.target import write_all
from gitvault.errors import GitVaultError, NotFoundError

if TYPE_CHECKING:
    from gitvault.core.storage.store import ChunkStore

_LONGEST_LINE = 1 << 16
# A large file of 2 GiB: 128 words on how far it is.
_STEP = 16 << 20
_FAILED = 1


class TransferAgent:
    """Answers git-lfs until it leaves."""

    def __init__(
        self, source: BinaryIO, target: BinaryIO, store: Callable[[str], ChunkStore], folder: Callable[[], Path]
    ) -> None:
        """`store`: the vault's behind a remote of this name. `folder`: where new files go, on the clone's disk."""
        self._source = source
        self._target = target
        self._open = store
        self._folder = folder
        self._store: ChunkStore | None = None

    def serve(self) -> None:
        """Until the end of the input, or `terminate`."""
        while line := self._source.readline(_LONGEST_LINE):
            try:
                message = json.loads(line)
                event = message["event"]
            except (ValueError, TypeError, KeyError, RecursionError):
                self._say({"error": {"code": _FAILED, "message": "lfs-agent: expected git-lfs's lines of JSON"}})
                return
            if event == "terminate":
                return
            self._say(self._answer(event, message))

    def _answer(self, event: str, message: dict[str, Any]) -> dict[str, object]:
        answer = {} if event == "init" else {"event": "complete", "oid": message.get("oid")}
        try:
            if event == "init":
                self._store = self._open(str(message.get("remote", "")))
                return answer
            pointer = Pointer(str(message.get("oid")), int(message.get("size", 0)))
            return answer | (self._download(pointer) if event == "download" else self._upload(pointer))
        except (GitVaultError, OSError, ValueError, TypeError, OverflowError) as error:
            return answer | {"error": {"code": _FAILED, "message": str(error)}}

    def _download(self, pointer: Pointer) -> dict[str, object]:
        store = self._opened(pointer, "not in the vault, which may have been pruned")
        folder = self._folder()
        folder.mkdir(parents=True, exist_ok=True)
        # So called, git-lfs takes it for one of its own, and clears it away when this process is killed.
        fd, name = tempfile.mkstemp(prefix=f"{pointer.oid}-", dir=folder)
        try:
            store.retrieve_file(pointer, cast(BinaryIO, _Download(fd, self._say, pointer)))
        except BaseException:
            os.close(fd)
            os.unlink(name)
            raise
        os.close(fd)
        return {"path": name}

    def _upload(self, pointer: Pointer) -> dict[str, object]:
        self._opened(pointer, "a vault takes no uploads; save files with git vault snapshot")
        return {}

    def _opened(self, pointer: Pointer, without: str) -> ChunkStore:
        """The store, if it has the file."""
        if self._store is None:
            raise GitVaultError("lfs-agent: expected git-lfs to begin with init")
        if not self._store.has(pointer):
            raise NotFoundError(f"{pointer.oid}: {without}")
        return self._store

    def _say(self, message: dict[str, object]) -> None:
        self._target.write(json.dumps(message).encode() + b"\n")
        self._target.flush()


class _Download:
    """A file that tells how far it is."""

    def __init__(self, fd: int, say: Callable[[dict[str, object]], None], pointer: Pointer) -> None:
        self._fd = fd
        self._say = say
        self._pointer = pointer
        self._done = 0
        self._said = 0

    def write(self, data: bytes | memoryview) -> int:
        write_all(self._fd, data)
        self._done += len(data)
        if self._done - self._said >= _STEP or self._done == self._pointer.size:
            since, self._said = self._done - self._said, self._done
            progress = {"oid": self._pointer.oid, "bytesSoFar": self._done, "bytesSinceLast": since}
            self._say({"event": "progress", **progress})
        return len(data)
