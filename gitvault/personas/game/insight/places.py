"""Where stacks are in the files of a build, and what the lines of code say that they name."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from gitvault.core.utils.kinds import kind_of
from gitvault.core.utils.names import to_line, to_text
from gitvault.personas.game.insight.clues import WORD
from gitvault.personas.game.insight.signatures import Frame, plain_function
from gitvault.personas.game.insight.touched import Read

_GIVEN, _MOST_GIVEN = 0.7, 5
"""Where the line uses a variable: what the statement names that gave it its value, of so many variables."""
_ASSIGNS = re.compile(rb"\s*(?:[A-Za-z_@][\w<>\[\].]*\s+){0,4}(?:self\.|this\.)?([A-Za-z_]\w*)\s*(?::\s*\w*\s*)?=(?!=)")
# Of any programming language.
_KEYWORDS = frozenset(
    re.findall(
        r"\w+",
        "and or not if else elif for while do in is as return var let const func def function new self this null nil "
        "none true false int float double bool string void public private protected static class extends import from "
        "get set yield await async try catch throw raise print assert case switch break continue range len size "
        "append",
    )
)


class Place(NamedTuple):
    """A frame that is in a file."""

    step: Frame
    worth: float
    """Of the place in the stack, and of how well it fits: at most 1."""
    share: float
    """Of as many files as fit as well."""


class Line(NamedTuple):
    """A line of code that a stack names."""

    place: str
    """`player.gd:12`."""
    worth: float
    names: frozenset[str]
    """Of the statement, or of those that gave its variables their values; without keywords."""


def places_of(
    frames: Iterable[tuple[Frame, float]], present: Sequence[bytes], gone: Sequence[bytes]
) -> dict[bytes, list[Place]]:
    """The frames of each file: of all files those that fit best; one that is gone only where no other does."""
    having: dict[str, list[bytes]] = defaultdict(list)
    for path in (*present, *gone):
        name = to_text(path).rpartition("/")[2].lower()
        having[name].append(path)
        having[f"{name.partition('.')[0]}."].append(path)
    left = set(gone)
    found: dict[bytes, list[Place]] = defaultdict(list)
    for step, worth in frames:
        names = [step.file.rpartition("/")[2].lower()] if step.file else [f"{owner}." for owner in _owners(step)]
        fits = {path: fit for name in names for path in having.get(name, ()) if (fit := _fits(step, path))}
        alive = {path: fit for path, fit in fits.items() if path not in left} or fits
        most = max(alive.values(), default=0.0)
        best = [path for path, fit in alive.items() if fit == most]
        for path in best:
            found[path].append(Place(step, worth * most, 1 / len(best)))
    return found


def _fits(frame: Frame, path: bytes) -> float:
    """How well a frame's file is that path, from 0 to 1."""
    here = path.decode("utf-8", "replace")
    name = here.rpartition("/")[2]
    if frame.file:
        there = frame.file.removeprefix("res://")
        if there.rpartition("/")[2].lower() != name.lower():
            return 0.0
        same = same_end(there, here)
        # All of the shorter path, or as far as folders of a build machine agree.
        whole = same >= min(there.count("/"), here.count("/")) + 1
        return 1.0 if whole else 0.6 if same > 1 else 0.3
    is_owner = name.partition(".")[0].lower() in _owners(frame)
    return 0.8 if is_owner and kind_of(path) in ("code", "text", "other") else 0.0


def _owners(frame: Frame) -> set[str]:
    """Classes of a function; `AHero::Jump` is in Hero.cpp."""
    parts = [part.lower() for part in plain_function(frame.function).split(".")[:-1]]
    return {*parts, *(part[1:] for part in parts if part[:1] in "aufs")}


def same_end(a: str, b: str) -> int:
    """How many names two paths have in common from their ends on, in whatever case."""
    same = 0
    for one, other in zip(reversed(a.lower().split("/")), reversed(b.lower().split("/")), strict=False):
        if one != other:
            break
        same += 1
    return same


def lines_of(places: Mapping[bytes, Sequence[Place]], newer: Read) -> Iterator[Line]:
    """The lines of code that stacks name: what a message calls nothing is often called by name there."""
    found = [
        (place, path) for path, of_path in places.items() for place in of_path if place.step.file and place.step.line
    ]
    for place, path in sorted(found, key=lambda pair: (-pair[0].worth, pair[1])):
        number = place.step.line
        content = newer(path).splitlines()
        if _fits(place.step, path) == 1.0 and number <= len(content):
            where = f"{to_line(path)}:{number}"
            names = _identifiers(_statement(content, number))
            yield Line(where, place.worth, names)
            # What is nothing there was given a few lines, or half a file, before.
            given = {name for line in _assignments(content, names, number) for name in _identifiers(line)}
            yield Line(where, place.worth * _GIVEN, frozenset(given - names))


def _identifiers(text: str) -> frozenset[str]:
    return frozenset(name for name in WORD.findall(text) if name.lower() not in _KEYWORDS)


def _assignments(content: Sequence[bytes], names: frozenset[str], line: int) -> Iterator[str]:
    """The statements that give these names what they are: the last one before the line, else the first."""
    found: dict[str, int] = {}
    for number, text in enumerate(content, 1):
        if len(text) < 1000 and (match := _ASSIGNS.match(text)):
            name = match[1].decode()
            if name in names and number != line and (name not in found or number < line):
                found[name] = number
    return (_statement(content, number) for number in list(found.values())[:_MOST_GIVEN])


def _statement(content: Sequence[bytes], line: int) -> str:
    """The line, from 1, and those in which its brackets and long strings end."""
    text = ""
    for part in content[line - 1 : line + 7]:
        text += part[:1000].decode("utf-8", "replace") + "\n"
        if all(text.count(a) <= text.count(b) for a, b in ("()", "[]")) and not text.count('"""') % 2:
            break
    return text
