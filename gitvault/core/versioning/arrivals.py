"""What of a snapshot is still on its way into the vault that it is restored from."""

from __future__ import annotations

import sys
import threading
from collections.abc import Collection, Iterable, Mapping


class Arrivals:
    """Which folders lack objects that another thread brings, in numbered packs. Safe for several threads."""

    def __init__(self) -> None:
        self.objects = 0
        """How many are known to be wanted."""
        self.changes = 0
        """How often something was told."""
        self._number = 0
        self._needs: dict[bytes, int] = {}
        self._order: Mapping[str, int] | None = None
        self._error: Exception | None = None
        self._changed = threading.Condition()

    def expect(self, needs: Mapping[bytes, int], objects: int) -> None:
        """`needs`: of folders that nothing was told of the number of the last pack with what they lack, from 1; 0 where
        they lack nothing. `objects`: how many there are in these.
        """
        with self._changed:
            self._needs.update(needs)
            self.objects += objects
            self._tell()

    def come(self, number: int) -> None:
        """The packs up to that number are here, or cannot be had."""
        with self._changed:
            self._number = max(self._number, number)
            self._tell()

    def end(self, error: Exception | None = None) -> None:
        """Nothing more comes; an error is for who waits."""
        self._error = self._error or error
        self.come(sys.maxsize)

    def plan(self, files: Iterable[str]) -> None:
        """In which order the large files come, by their SHA-256; the first plan counts."""
        with self._changed:
            if self._order is None:
                self._order = {oid: place for place, oid in enumerate(files)}
            self._tell()

    def order(self) -> Mapping[str, int]:
        """The place of each large file among those that come, when that is known."""
        with self._changed:
            self._changed.wait_for(lambda: self._order is not None)
            return self._order or {}

    def lacks(self, folder: bytes) -> bool:
        """Whether something that the folder itself holds is on its way, or may be. Raises what ended it all."""
        if self._error:
            raise self._error
        return self._needs.get(folder, sys.maxsize) > self._number

    def wait(self, folders: Collection[bytes]) -> None:
        """Until one of these folders lacks nothing. Raises what ended it all."""
        with self._changed:
            self._changed.wait_for(lambda: not all(map(self.lacks, folders)))

    def _tell(self) -> None:
        self.changes += 1
        self._changed.notify_all()
