"""Contents as lines: what differs between two, and how many lines are kept so that few are looked at.

A line is its bytes without the newline; one at the end of a file counts as if it had one, as git takes it. Of a binary
file the printable runs take the place of lines: a printable text is in one of them or nowhere in the file.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
import zstandard

SHORTEST_RUN = 6
"""Bytes of a printable run; shorter ones are everywhere in binary files."""
BLOCK = 64 << 10
"""Bytes of text that are compressed and looked at as one."""
SLOTS = 1 << 16
# A byte of which the first so many hold NUL is binary, as git has it.
_LOOKED_AT = 8000
_RUN = re.compile(rb"[\t\x20-\x7e]{%d,}" % SHORTEST_RUN)
_LEVEL = 3

_Bits = npt.NDArray[np.uint8]


def is_binary(content: bytes) -> bool:
    """Whether git takes it for binary: NUL is in its first 8000 bytes."""
    return b"\0" in content[:_LOOKED_AT]


def in_runs(text: bytes) -> bool:
    """Whether all places where a binary file holds `text` are in its runs."""
    return _RUN.fullmatch(text) is not None


def difference(old: bytes, new: bytes, *, binary: bool = False) -> list[tuple[bytes, int]]:
    """The lines of which `new` has more (positive) or fewer than `old`, by how many; in no order."""
    if binary:
        before, after = Counter(_RUN.findall(old)), Counter(_RUN.findall(new))
    else:
        start, stop = _same(old, new)
        before = Counter(_split(old[start : len(old) - stop]))
        after = Counter(_split(new[start : len(new) - stop]))
    if not before:
        return list(after.items())
    # Faster than the difference of the two as sets, which would hash each pair.
    found = [(line, by) for line, count in after.items() if (by := count - before.get(line, 0))]
    found += [(line, -count) for line, count in before.items() if line not in after]
    return found


def _split(text: bytes) -> list[bytes]:
    lines = text.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return lines


def _same(old: bytes, new: bytes) -> tuple[int, int]:
    """How many bytes of whole lines the two begin with, and then end with, in common."""
    least = min(len(old), len(new))
    if least < 64:
        return 0, 0
    a, b = np.frombuffer(old, np.uint8), np.frombuffer(new, np.uint8)
    start = _agreeing(a[:least], b[:least])
    start = old.rfind(b"\n", 0, start) + 1
    left = least - start
    stop = _agreeing(a[len(a) - left :][::-1], b[len(b) - left :][::-1]) if left else 0
    # Behind a newline, which must be common too.
    stop = len(old) - 1 - at if (at := old.find(b"\n", len(old) - stop)) >= 0 and stop else 0
    return start, stop


def _agreeing(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> int:
    size = len(a)
    at = 0
    step = 4096
    while at < size:
        differ = a[at : at + step] != b[at : at + step]
        found = int(differ.argmax())
        if differ[found]:
            return at + found
        at += step
        step = min(step * 4, 1 << 20)
    return size


def fold(text: bytes) -> bytes:
    """ASCII letters in lower case."""
    return text.lower()


def slots(text: bytes) -> npt.NDArray[np.uint32]:
    """The numbers, below SLOTS, of the trigrams of a text, case aside; some several times."""
    if len(text) < 3:
        return np.zeros(0, np.uint32)
    one = np.frombuffer(fold(text), np.uint8).astype(np.uint32)
    # Fibonacci hashing: the upper half of a product with the golden ratio.
    three = one[:-2] << 16 | one[1:-1] << 8 | one[2:]
    return (three * np.uint32(2654435769) >> 16).astype(np.uint32)


class Blocks:
    """Lines on their way into blocks: compressed text, the number of each one's first line, its trigrams as bits."""

    def __init__(self) -> None:
        self.texts: list[bytes] = []
        self.firsts: list[int] = [0]
        """One more than there are blocks."""
        self._bits: list[_Bits] = []
        self._compressor = zstandard.ZstdCompressor(_LEVEL)

    def extend(self, lines: Iterable[bytes]) -> None:
        """Append lines; the last block is closed behind them."""
        held: list[bytes] = []
        size = 0
        for line in lines:
            held.append(line)
            size += len(line) + 1
            if size >= BLOCK:
                self._close(held)
                held, size = [], 0
        if held:
            self._close(held)

    def _close(self, held: Sequence[bytes]) -> None:
        text = b"\n".join(held) + b"\n"
        self.texts.append(self._compressor.compress(text))
        self.firsts.append(self.firsts[-1] + len(held))
        present = np.zeros(SLOTS, np.bool_)
        present[slots(text)] = True
        self._bits.append(np.packbits(present))

    def trigrams(self) -> _Bits:
        """For each slot a row of bits, one for each block: whether it may hold the trigram. Shape (SLOTS, blocks/8)."""
        rows = np.zeros((SLOTS, (len(self._bits) + 7) // 8), np.uint8)
        for at in range(0, len(self._bits), 8):
            eight = np.unpackbits(np.stack(self._bits[at : at + 8]), axis=1)
            rows[:, at // 8] = np.packbits(eight, axis=0)[0]
        return rows


def expander() -> Callable[[_Bits], bytes]:
    """What gives the text of a compressed block."""
    decompressor = zstandard.ZstdDecompressor()
    return lambda frame: decompressor.decompress(frame.data)
