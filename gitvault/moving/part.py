"""A part of a stream."""

from __future__ import annotations

from typing import BinaryIO


class Part:
    """The next `left` bytes of a stream, fewer where it ends; read with `read` alone."""

    def __init__(self, source: BinaryIO, size: int) -> None:
        self._source = source
        self.left = size

    def read(self, size: int = -1) -> bytes:
        """Up to so many bytes, all that is left when negative; none at the end."""
        wanted = self.left if size < 0 else min(size, self.left)
        data = self._source.read(wanted)
        self.left = self.left - len(data) if len(data) == wanted else 0
        return data

    def skip(self) -> None:
        """Read to its end."""
        while self.read(1 << 20):
            pass
