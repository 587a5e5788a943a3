"""Frames of a render: `shot.0001.exr`, `shot.0002.exr` ... are one sequence, `shot.####.exr`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_FRAME = re.compile(rb"(.*[._-]|)(\d{3,9})(\.\w+)", re.DOTALL)


@dataclass(frozen=True, slots=True, order=True)
class Sequence:
    """What the names of all frames have in common."""

    start: bytes
    digits: int
    end: bytes

    @property
    def name(self) -> bytes:
        """`renders/shot.####.exr`."""
        return self.start + b"#" * self.digits + self.end

    def path(self, frame: int) -> bytes:
        """Of one frame."""
        return self.start + b"%0*d" % (self.digits, frame) + self.end


def sequences(paths: Iterable[bytes]) -> dict[Sequence, list[int]]:
    """The frames of each sequence, in order; one file alone is none."""
    found: dict[Sequence, list[int]] = {}
    for path in paths:
        folder, slash, name = path.rpartition(b"/")
        if match := _FRAME.fullmatch(name):
            start, digits, end = match.groups()
            found.setdefault(Sequence(folder + slash + start, len(digits), end), []).append(int(digits))
    return {sequence: sorted(frames) for sequence, frames in sorted(found.items()) if len(frames) > 1}
