"""Pictures of sessions: where players were and died, as heat, and two builds side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from typing import Any

from gitvault.core.utils.names import one_line
from gitvault.errors import NotFoundError
from gitvault.formats.extras import need
from gitvault.personas.game.playtests.figures import DEATHS, Comparison, Events, funnel

_SIDE = 512
_MARGIN = 1.1
"""So that what happened at the edge is seen."""
_PAPER, _INK, _DIM, _A, _B = "#1b1b1b", "#e8e8e8", "#9a9a9a", "#5f9fe7", "#e79a5f"
_GAP, _BAR, _NAMES, _FIGURES = 16, 14, 200, 90
"""Pixels: between things, of a bar's height, of the names beside bars, of the figures behind them."""
_LONGEST_STAY = 10.0
"""Seconds that a player counts as being where the last event was: who says nothing for longer may be anywhere."""
_MOST_LEVELS = 40

_Spots = list[tuple[float, float, float]]
"""x, y, and how much it weighs."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of two builds."""

    name: str
    figures: Comparison
    sessions: Sequence[Events]


def heat_map(found: Iterable[Events], names: frozenset[str] = DEATHS) -> tuple[bytes, int]:
    """A PNG of where events of these names happened, and of how many it is made.

    Places are `pos` ([x, y] or [x, y, z], of which the first and last count), or `x` and `y`. Raises NotFoundError when
    no event says where, ToolMissing without Pillow.
    """
    need("numpy", "image")
    pillow = need("PIL.Image", "image")
    spots = _happened(found, names)
    if not spots:
        raise NotFoundError(f"no event of {', '.join(sorted(names))} says where: expected d.pos = [x, y]")
    grid = _grid(spots, _frame(spots), _SIDE)
    return _png(_coloured(pillow, grid / grid.max())), len(spots)


def side_by_side(a: Side, b: Side) -> bytes:
    """A PNG of two builds: where players were for how long, where they died, time in each level, who came to it.

    Heat is by session and of one scale, so that as light means as much. What no event tells of is left out. Raises
    NotFoundError when that is all, ToolMissing without Pillow.
    """
    need("numpy", "image")
    pillow, drawing, fonts = (need(f"PIL.{name}", "image") for name in ("Image", "ImageDraw", "ImageFont"))
    stays, deaths = ([told(one.sessions) for one in (a, b)] for told in (_stays, _happened))
    maps = [("Where they were, and how long", stays), ("Where they died", deaths)]
    maps = [(title, both) for title, both in maps if any(both)]
    levels = [step.name for step in funnel([*a.sessions, *b.sessions])][:_MOST_LEVELS]
    if not maps and not levels:
        raise NotFoundError("nothing to draw: no event has a level or says where; expected d.level, d.pos = [x, y]")
    frame = _frame([spot for _, both in maps for spots in both for spot in spots]) if maps else None
    shares = [{name: count / one.figures.sessions for name, count in one.figures.reached.items()} for one in (a, b)]
    times = [one.figures.level_seconds for one in (a, b)]
    charts: list[tuple[str, list[tuple[str, tuple[float, ...]]], str]] = [
        (title, [(name, tuple(side.get(name, 0.0) for side in sides)) for name in levels], form)
        for title, sides, form in (("Came to it", shares, "{:.0%}"), ("Seconds in it, median", times, "{:,.1f}"))
    ]
    small, large = fonts.load_default(14), fonts.load_default(20)
    line, width = 22, 2 * _SIDE + 3 * _GAP
    row = 2 * _BAR + _GAP // 2
    heights = [line + _SIDE + _GAP for _ in maps] + [line + len(levels) * row + _GAP for _ in charts if levels]
    image = pillow.new("RGB", (width, _GAP + 2 * line + 2 * _GAP + sum(heights)), _PAPER)
    canvas = drawing.Draw(image)
    for number, (one, colour) in enumerate(((a, _A), (b, _B))):
        left = _GAP + number * (_SIDE + _GAP)
        canvas.text((left, _GAP), _fit(one.name, large, _SIDE), colour, large)
        said = f"{one.figures.sessions:,} sessions, {one.figures.players:,} players, {one.figures.hours:,.1f} hours"
        canvas.text((left, _GAP + line + 4), said, _DIM, small)
    top = _GAP + 2 * line + 2 * _GAP
    for title, both in maps:
        assert frame
        canvas.text((_GAP, top), title, _INK, small)
        grids = [_grid(spots, frame, _SIDE) / one.figures.sessions for spots, one in zip(both, (a, b), strict=True)]
        most = max(grid.max() for grid in grids)
        for number, grid in enumerate(grids):
            image.paste(_coloured(pillow, grid / most), (_GAP + number * (_SIDE + _GAP), top + line))
        top += line + _SIDE + _GAP
    for title, rows, form in charts if levels else ():
        canvas.text((_GAP, top), title, _INK, small)
        top += line
        longest = max(max(values) for _, values in rows) or 1.0
        for name, values in rows:
            canvas.text((_GAP, top + _BAR // 2), _fit(name, small, _NAMES - _GAP), _INK, small)
            for number, (value, colour) in enumerate(zip(values, (_A, _B), strict=True)):
                left, above = _GAP + _NAMES, top + number * _BAR
                right = left + round((width - left - _FIGURES - _GAP) * value / longest)
                canvas.rectangle((left, above, right, above + _BAR - 2), colour)
                canvas.text((right + 6, above - 2), form.format(value), _DIM, small)
            top += row
        top += _GAP
    return _png(image)


def _happened(found: Iterable[Events], names: frozenset[str] = DEATHS) -> _Spots:
    return [
        (*spot, 1.0) for events in found for event in events if event.get("e") in names and (spot := _place(event["d"]))
    ]


def _stays(found: Iterable[Events]) -> _Spots:
    """Where players were, as their events say, with the seconds until the next."""
    spots: _Spots = []
    for events in found:
        placed = [(float(event["t"]), spot) for event in events if "e" in event and (spot := _place(event["d"]))]
        for (start, spot), (stop, _) in pairwise(placed):
            spots.append((*spot, min(max(stop - start, 0.0), _LONGEST_STAY)))
    return [spot for spot in spots if spot[2]]


def _frame(spots: _Spots) -> tuple[float, float, float]:
    """The middle of all of them, and the side of the square that holds them."""
    xs, ys = ([spot[axis] for spot in spots] for axis in (0, 1))
    return (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2, max(max(xs) - min(xs), max(ys) - min(ys), 1e-9) * _MARGIN


def _grid(spots: _Spots, frame: tuple[float, float, float], side: int) -> Any:
    """How much was where, blurred: an array of side by side."""
    import numpy as np

    grid = np.zeros((side, side))
    if spots:
        places = np.asarray(spots, dtype=np.float64)
        scaled = ((places[:, :2] - frame[:2]) / frame[2] + 0.5) * (side - 1)
        np.add.at(grid, (scaled[:, 1].astype(int), scaled[:, 0].astype(int)), places[:, 2])
    reach = np.arange(-24, 25)
    blur = np.exp(-(reach**2) / 128.0)
    for axis in (0, 1):
        grid = np.apply_along_axis(lambda row: np.convolve(row, blur, "same"), axis, grid)
    return grid


def _coloured(pillow: Any, share: Any) -> Any:
    """An image of shares from 0 to 1: black, purple, red, yellow, white; lighter is more, also in grey."""
    import numpy as np

    heat = np.sqrt(share)
    colours = [(12, 12, 20), (90, 20, 110), (220, 50, 50), (250, 190, 40), (255, 255, 240)]
    stops = np.linspace(0, 1, len(colours))
    channels = [np.interp(heat, stops, [colour[channel] for colour in colours]) for channel in range(3)]
    return pillow.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def _png(image: Any) -> bytes:
    out = BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def _fit(text: str, font: Any, width: int) -> str:
    # What the font of the library has.
    text = one_line(text).encode("latin-1", "replace").decode("latin-1")
    while text and font.getlength(text) > width:
        text = text[:-1]
    return text


def _place(data: object) -> tuple[float, float] | None:
    if not isinstance(data, Mapping):
        return None
    given = data.get("pos", data.get("position", [data.get("x"), data.get("y")]))
    numbers = given if isinstance(given, list) else list(given.values()) if isinstance(given, Mapping) else []
    if len(numbers) not in (2, 3) or not all(isinstance(n, int | float) and abs(n) < 1e12 for n in numbers):
        return None
    return float(numbers[0]), float(numbers[-1])
