"""What of a snapshot is still on its way into the vault that it is restored from."""

from __future__ import annotations

import sys
import threading
from collections.abc import Collection, Mapping


class Arrivals:
    """Which folders lack objects that another thread brings, in numbered packs. Safe for several threads."""

    def __init__(self, folders: Collection[bytes], objects: int) -> None:
        """`folders`: the paths of those that may lack something; `objects`: how many there are in all of them."""
        self.objects = objects
        self.number = -1
        """Of the last pack that is here, with all before it; below 0 while nobody knows what is in which."""
        self._needs: Mapping[bytes, int] = dict.fromkeys(folders, 0)
        self._error: Exception | None = None
        self._changed = threading.Condition()

    def expect(self, needs: Mapping[bytes, int]) -> None:
        """`needs`: of the folders that lack something the number of the last pack with it, from 1."""
        with self._changed:
            self._needs = needs
        self.come(0)

    def come(self, number: int) -> None:
        """The packs up to that number are here, or cannot be had."""
        with self._changed:
            self.number = max(self.number, number)
            self._changed.notify_all()

    def end(self, error: Exception | None = None) -> None:
        """Nothing more comes; an error is for who waits."""
        self._error = self._error or error
        self.come(sys.maxsize)

    def lacks(self, folder: bytes) -> bool:
        """Whether something that the folder itself holds is on its way. Raises what ended it all."""
        if self._error:
            raise self._error
        return self._needs.get(folder, self.number) > self.number

    def wait(self, folders: Collection[bytes]) -> None:
        """Until one of these folders lacks nothing. Raises what ended it all."""
        with self._changed:
            self._changed.wait_for(lambda: not all(map(self.lacks, folders)))
