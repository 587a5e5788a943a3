"""Versions as a graph: each in a lane, the newest and what it came from in the first, each way given up beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Row:
    """What is drawn beside one version; lanes count from 0."""

    lane: int
    above: list[int] = field(default_factory=list)
    """Lanes with a line in the upper half."""
    below: list[tuple[int, int]] = field(default_factory=list)
    """Lines in the lower half: the lane at the row's middle and that at its end."""


def lanes(parents: Sequence[int | None]) -> list[Row]:
    """A row for each version, oldest first, given for each the number of the one that it goes on from."""
    lane: dict[int, int] = {}
    taken: list[list[tuple[int, int]]] = []
    for leaf in range(len(parents) - 1, -1, -1):
        if leaf in lane:
            continue
        way = [leaf]
        while (parent := parents[way[-1]]) is not None and parent not in lane:
            way.append(parent)
        start = way[-1] if parent is None else parent + 1
        free = (number for number, spans in enumerate(taken) if all(leaf < low or high < start for low, high in spans))
        number = next(free, len(taken))
        if number == len(taken):
            taken.append([])
        taken[number].append((start, leaf))
        lane.update(dict.fromkeys(way, number))
    rows = [Row(lane[number]) for number in range(len(parents))]
    for number, parent in enumerate(parents):
        if parent is None:
            continue
        own = lane[number]
        rows[number].above.append(own)
        rows[parent].below.append((lane[parent], own))
        for between in rows[parent + 1 : number]:
            between.above.append(own)
            between.below.append((own, own))
    return rows
