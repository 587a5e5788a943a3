"""The picture that plain layers make together: normal blending, opacity, masks, groups.

Colours are multiplied by their coverage, both from 0 to 1, in single precision; what is seen of a canvas is the same
whatever was beneath, so that a part of a picture can be made without the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gitvault.formats.extras import need

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

    Plane = NDArray[float32]


@dataclass(frozen=True, slots=True)
class Box:
    """A part of a picture; the last row and column are not in it."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Rows, 0 at least."""
        return max(0, self.bottom - self.top)

    @property
    def width(self) -> int:
        """Columns, 0 at least."""
        return max(0, self.right - self.left)

    @property
    def area(self) -> int:
        """Pixels."""
        return self.height * self.width

    def within(self, other: Box) -> Box:
        """What both have."""
        return Box(
            max(self.top, other.top),
            max(self.left, other.left),
            min(self.bottom, other.bottom),
            min(self.right, other.right),
        )

    def around(self, other: Box) -> Box:
        """The smallest that has both; one without pixels does not count."""
        if not (self.area and other.area):
            return self if self.area else other
        return Box(
            min(self.top, other.top),
            min(self.left, other.left),
            max(self.bottom, other.bottom),
            max(self.right, other.right),
        )

    def slices(self, inside: Box) -> tuple[slice, slice]:
        """Where a part of it lies in an array of its pixels."""
        return (
            slice(inside.top - self.top, inside.bottom - self.top),
            slice(inside.left - self.left, inside.right - self.left),
        )


EVERYWHERE = Box(-(1 << 30), -(1 << 30), 1 << 30, 1 << 30)


class NotPlain(Exception):
    """Why layers are not put together here, in words."""


class Canvas:
    """Part of a picture, transparent at first."""

    def __init__(self, box: Box, colours: int) -> None:
        np = need("numpy", "image")
        self.box = box
        self.colour: Plane = np.zeros((box.height, box.width, colours), np.float32)
        """Multiplied by `alpha`."""
        self.alpha: Plane = np.zeros((box.height, box.width), np.float32)

    def lay(self, colour: Plane, alpha: Plane, box: Box) -> None:
        """Lay pixels over it, colours not multiplied by their alpha; `box` is where they lie, within the canvas."""
        self._lay(colour * alpha[..., None], alpha, box)

    def lay_group(self, group: Canvas, coverage: Plane | float) -> None:
        """Lay a canvas of the same place over it."""
        alpha = group.alpha * coverage
        self._lay(group.colour * _deep(coverage), alpha, self.box)

    def blend(self, other: Canvas, coverage: Plane | float) -> None:
        """Become another of the same place, as far as that covers."""
        self.colour += (other.colour - self.colour) * _deep(coverage)
        self.alpha += (other.alpha - self.alpha) * coverage

    def copy(self) -> Canvas:
        """Another with the same pixels."""
        made = Canvas(Box(0, 0, 0, 0), self.colour.shape[2])
        made.box, made.colour, made.alpha = self.box, self.colour.copy(), self.alpha.copy()
        return made

    def _lay(self, colour: Plane, alpha: Plane, box: Box) -> None:
        at = self.box.slices(box)
        left = 1 - alpha
        self.colour[at] = self.colour[at] * left[..., None] + colour
        self.alpha[at] = self.alpha[at] * left + alpha


def _deep(coverage: Plane | float) -> Plane | float:
    return coverage if isinstance(coverage, (int, float)) else coverage[..., None]
