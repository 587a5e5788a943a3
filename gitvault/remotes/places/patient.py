"""A place that is tried again when it fails, that counts what it is asked, and that goes no faster than it may."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from gitvault.errors import RemoteUnreachable

if TYPE_CHECKING:
    from gitvault.remotes.places import Content, Place, Stored

_T = TypeVar("_T")
# With twice the wait each time: half a minute in all.
_ATTEMPTS = 7
_FIRST_WAIT = 0.25
_LONGEST_WAIT = 20.0


class Patient:
    """See Place. What it wraps tries once and says why it failed."""

    def __init__(
        self,
        inner: Place,
        shown: str,
        *,
        rate: int = 0,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`shown`: what errors call the place. `rate`: bytes a second, both ways together; 0: no limit."""
        self.requests: Counter[str] = Counter()
        self._inner = inner
        self._shown = shown
        self._rate = rate
        self._sleep = sleep
        self._clock = clock
        self._free = 0.0
        self._lock = threading.Lock()

    def put(self, name: str, content: bytes) -> None:
        """See Place."""

        def send() -> None:
            self._pace(len(content))
            self._count("put", up=len(content))
            self._inner.put(name, content)

        self._again(send)

    def get(self, name: str, start: int = 0, length: int | None = None) -> Content:
        """See Place."""

        def receive() -> Content:
            self._count("get")
            content = self._inner.get(name, start, length)
            self._count(down=len(content))
            self._pace(len(content))
            return content

        return self._again(receive)

    def names(self, prefix: str = "") -> Iterator[Stored]:
        """See Place."""

        def receive() -> list[Stored]:
            found = list(self._inner.names(prefix))
            # A thousand to a request is what servers give.
            self._count("list", times=len(found) // 1000 + 1)
            return found

        yield from self._again(receive)

    def delete(self, names: Sequence[str]) -> None:
        """See Place."""
        if names:
            self._count("delete", times=len(names))
            self._again(lambda: self._inner.delete(names))

    def versions(self, name: str) -> Iterator[Content]:
        """See Place."""
        self._count("get")
        yield from self._inner.versions(name)

    def close(self) -> None:
        """See Place."""
        self._inner.close()

    def _count(self, kind: str = "", times: int = 1, *, up: int = 0, down: int = 0) -> None:
        with self._lock:
            self.requests.update({**({kind: times} if kind else {}), "up": up, "down": down})

    def _again(self, attempt: Callable[[], _T]) -> _T:
        wait = _FIRST_WAIT
        for _ in range(_ATTEMPTS - 1):
            try:
                return attempt()
            except RemoteUnreachable:
                # Not all who were turned away come back at the same moment.
                self._sleep(wait * (0.5 + random.random() / 2))
                wait = min(2 * wait, _LONGEST_WAIT)
        return attempt()

    def _pace(self, size: int) -> None:
        if not self._rate:
            return
        with self._lock:
            now = self._clock()
            start = max(now, self._free)
            self._free = start + size / self._rate
        if start > now:
            self._sleep(start - now)
