"""Git packs put together by hand."""

from __future__ import annotations


def entry(code: int, size: int, rest: bytes) -> bytes:
    """A packed object: type, size, then what follows."""
    head = bytearray([code << 4 | size & 15])
    size >>= 4
    while size:
        head[-1] |= 128
        head.append(size & 127)
        size >>= 7
    return bytes(head) + rest
