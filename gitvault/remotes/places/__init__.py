"""Places that keep objects. What a remote is made of, `layout` says; here is only how bytes get there and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Stored:
    """An object that a place has: its name, its length in bytes, and when it came there by the place's own clock."""

    name: str
    size: int
    time: float
    """Seconds since 1970."""


class Place(Protocol):
    """Somewhere that keeps objects: bytes under a name, whole or not at all, never changed.

    Names are ASCII words joined by `/`. Safe to call from several threads. Every method raises RemoteUnreachable (may
    be tried again later), RemoteRefused (rights, credentials), RemoteFull.
    """

    requests: Counter[str]
    """How many `put`, `get`, `list` and `delete` were sent, tries that failed included, and the bytes `up` and `down`."""

    def put(self, name: str, content: bytes) -> None:
        """Keep at most 16 MiB and a bit under a name; whole when this returns, retried inside."""
        ...

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """An object's bytes, or some of them; fewer where it ends. Raises NotFoundError."""
        ...

    def names(self, prefix: str = "") -> Iterator[Stored]:
        """What there is, ordered by name."""
        ...

    def delete(self, names: Sequence[str]) -> None:
        """Remove objects; those that are not there are fine."""
        ...

    def versions(self, name: str) -> Iterator[bytes]:
        """What the place still has under this name, newest first: several where the server keeps versions."""
        ...

    def close(self) -> None:
        """End connections; harmless when there are none."""
        ...
