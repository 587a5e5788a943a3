"""What stands together in a page and on a sheet: one file, or the frames of a sequence that one snapshot changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gitvault.core.utils.names import to_line
from gitvault.personas.creative.frames import sequences
from gitvault.personas.creative.timeline import Version
from gitvault.personas.creative.timeline.drawing import FRAMES
from gitvault.personas.creative.timeline.similar import inside, said


@dataclass(frozen=True, slots=True)
class Card:
    """One file or sequence of one snapshot."""

    name: str
    said: str
    """What changed, for people."""
    size: int
    shown: tuple[Version, ...]
    """Those with the pictures to show: the first, middle and last of a sequence, else the only one."""

    @property
    def version(self) -> Version:
        """The one that stands for all."""
        return self.shown[len(self.shown) // 2]


def cards(versions: Sequence[Version]) -> list[Card]:
    """The cards of one snapshot's versions, in the order of names."""
    together = {}
    for kind in dict.fromkeys(version.changed for version in versions):
        by_path = {version.path: version for version in versions if version.changed == kind}
        for sequence, numbers in sequences(by_path).items():
            if len(numbers) >= FRAMES:
                frames = [by_path[sequence.path(number)] for number in numbers]
                together.update(dict.fromkeys((frame.path for frame in frames), (sequence.name, frames)))
    found = []
    done = set()
    for version in versions:
        name, frames = together.get(version.path, (version.path, [version]))
        if name in done:
            continue
        done.add(name)
        if len(frames) == 1:
            what = ": ".join(filter(None, (said(version), inside(version))))
            found.append(Card(to_line(name), what, version.size, (version,)))
            continue
        pictures = [frame for frame in frames if frame.thumbnail] or frames[:1]
        shown = tuple(pictures[at] for at in sorted({0, len(pictures) // 2, len(pictures) - 1}))
        what = f"{len(frames):,} frames {version.changed}"
        found.append(Card(to_line(name), what, sum(frame.size for frame in frames), shown))
    return found
