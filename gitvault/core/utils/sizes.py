"""Bytes for people."""

from __future__ import annotations


def size(count: int) -> str:
    """`512 B`, `4.5 MiB`."""
    if count < 1024:
        return f"{count} B"
    amount = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1023.95:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1024:.1f} TiB"


def difference(before: int, after: int) -> str:
    """`4.5 MiB less`, `512 B more`."""
    return f"{size(abs(after - before))} {'more' if after > before else 'less'}"
