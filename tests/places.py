"""A place in memory that keeps every version of what it was given, and pretends nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from gitvault.errors import NotFoundError
from gitvault.remotes.places import Stored


class MemoryPlace:
    """See Place. `kept`: all versions by name, the newest last; the clock goes one second with each `put`."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.kept: dict[str, list[bytes]] = {}
        self.times: dict[str, float] = {}

    def put(self, name: str, content: bytes) -> None:
        self.requests["put"] += 1
        self.kept.setdefault(name, []).append(bytes(content))
        self.times.setdefault(name, float(self.requests["put"]))

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        self.requests["get"] += 1
        if name not in self.kept:
            raise NotFoundError(f"no {name} there")
        return self.kept[name][-1][start : None if length is None else start + length]

    def names(self, prefix: str = "") -> Iterator[Stored]:
        self.requests["list"] += 1
        for name in sorted(self.kept):
            if name.startswith(prefix):
                yield Stored(name, len(self.kept[name][-1]), self.times[name])

    def delete(self, names: Sequence[str]) -> None:
        for name in names:
            self.kept.pop(name, None)

    def versions(self, name: str) -> Iterator[bytes]:
        yield from reversed(self.kept.get(name, []))

    def close(self) -> None:
        pass
