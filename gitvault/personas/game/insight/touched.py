"""What a change touched: names that came or went, lines, functions, numbers; and of which file a new one was made."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from gitvault.core.utils.names import to_text
from gitvault.personas.game.insight.clues import WORD, pairs, plain, words

Read = Callable[[bytes], bytes]
"""The content of a file by its path, empty for none and for what is no text or too long."""

_ALIKE, _OF_ITS_NAME = 0.5, 0.4
"""Of the lines of the longer file, from which on a new file was made of one that went; so much less, if of its name."""
_LONG_ENOUGH, _TOO_COMMON = 8, 20
"""Characters of a line, and files that may have it, for it to tell files apart."""
_BESIDE = 6
"""Lines above and below a change that tell what it is part of."""
_REFERENCE = re.compile(
    rb'"(?:res://)([^"\n]{1,400})"|guid: ([0-9a-f]{32})'
    rb'|(?:require|include|import|load|from|extends)\W{1,3}[\'"<]([^\'">\n]{1,200})'
)
_DEFINITION = re.compile(
    r"(?:\b(?:func|def|function|sub|fn|var|const|class|class_name|signal|enum|struct|interface|namespace|uniform|void|float"
    r"|int|bool|string)\s+(?:\w+[.:])?|\bname=\"|m_Name:\s*|^\s*[\"']?)([A-Za-z_]\w{2,})"
    r"(?=[\"'\s]*(?:[=:({\]]|$|\W+type=))",
    re.MULTILINE,
)
_DEFINES = re.compile(
    rb"^\s*(?:(?:public|private|protected|internal|static|override|virtual|async|inline|const|export|local|remote|sync"
    rb"|puppet|master)\s+)*(?:def|func|function|sub|fn)\s+([\w.:]+)"
    rb"|^[\w\s<>\[\],.*&:]+?\b([\w~]+(?:::[\w~]+)?)\s*\([^;]*\)\s*(?:const\s*)?(?:override\s*)?\{?\s*$"
)
_NO_FUNCTIONS = frozenset((b"if", b"for", b"while", b"switch", b"return", b"catch", b"using", b"lock", b"foreach"))
_GIVES = re.compile(r"(?m)\b([A-Za-z_]\w{2,})(?:\s*:\s*\w+)?\s*:?=\s*-?\d|^\s*[\"']?([A-Za-z_]\w{2,})[\"']?:\s*-?\d")
_NUMBER = re.compile(rb"(?<![\w.])-?\d[\d_]*(?:\.\d+)?f?\b|\b(?:true|false)\b", re.I)


@dataclass(frozen=True, slots=True)
class Change:
    """A file that is not the same in two builds."""

    path: bytes
    state: str
    """`added`, `changed`, `deleted`, `moved`."""
    source: bytes = b""
    """Where a moved one was."""
    recency: float = 0.0
    """When it was last changed between the two: 0 at the older, 1 at the newer."""


class Fate(IntEnum):
    """What became of a name."""

    TOUCHED = 1
    """In lines that came or went, and still there."""
    WENT = 2
    """Used before, and nowhere in the file now."""
    UNDEFINED = 3
    """Defined before, and not now."""


@dataclass(frozen=True, slots=True)
class Touched:
    """What can be seen in a change."""

    names: dict[str, Fate]
    """Identifiers of the lines that came or went, as `plain` gives them."""
    made: set[str]
    """Those that are defined now and were not."""
    share: float
    """How much of the file is new, from 0 to 1."""
    words: set[str]
    pairs: set[tuple[str, str]]
    """Of words that follow each other in a name."""
    tweaked: dict[str, str]
    """Words of lines in which nothing but numbers is another, with the line."""
    given: set[str]
    """Words of names to which a line that came gives a number."""
    lines: set[int]
    """Of the newer version, from 1, that came or next to which something went."""
    around: set[str]
    """Words of the lines beside them, which are as they were, and of the functions' names."""
    functions: set[str]
    """In which they are, or that came or went."""


def touched(change: Change, came_from: bytes, older: Read, newer: Read) -> Touched:
    """What a change touched; `came_from`: the file that it was made of, empty for none and for itself."""
    source = came_from or change.source or (change.path if change.state != "added" else b"")
    before = older(source).splitlines() if source else []
    after = newer(change.path).splitlines() if change.state != "deleted" else []
    # As multisets: a file of 20,000 lines takes milliseconds, and where a line stands does not matter here.
    went, came = Counter(before), Counter(after)
    gone, new = went - came, came - went
    lines = {number for number, line in enumerate(after, 1) if line in new} | _gaps(before, after, gone)
    functions = _functions(after, lines) | _functions(before, {n for n, line in enumerate(before, 1) if line in gone})
    share = sum(new.values()) / len(after) if after else 1.0
    names, made = _fates(after, gone, new)
    text = _text([*gone, *new])
    follow = {pair for name in set(WORD.findall(text)) for pair in pairs(name)}
    given = words(" ".join(name for found in _GIVES.findall(_text([*new])) for name in found))
    said = words(text)
    around = words(" ".join((_text(_beside(after, lines)), *functions))) - said
    return Touched(names, made, share, said, follow, _tweaked(gone, new), given, lines, around, functions)


def counterparts(changes: Sequence[Change], older: Read, newer: Read) -> dict[bytes, bytes]:
    """Of added files the deleted ones that they were made of: a folder that was renamed, its files edited.

    The one of its name, in whatever case, where there is one of each; else the one with which it shares most lines:
    half of them, or a tenth of them and its name.
    """
    came = [one.path for one in changes if one.state == "added"]
    went = [one.path for one in changes if one.state == "deleted"]
    by_name: dict[str, tuple[list[bytes], list[bytes]]] = defaultdict(lambda: ([], []))
    for side, paths in enumerate((came, went)):
        for path in paths:
            by_name[_name(path)][side].append(path)
    found = {here[0]: there[0] for here, there in by_name.values() if len(here) == len(there) == 1}
    return found | _alike(
        [path for path in came if path not in found], sorted({*went} - {*found.values()}), older, newer
    )


def _alike(came: Sequence[bytes], went: Sequence[bytes], older: Read, newer: Read) -> dict[bytes, bytes]:
    having: dict[int, list[bytes]] = defaultdict(list)
    sizes: dict[bytes, int] = {}
    for path in went:
        lines = _distinct(older(path))
        sizes[path] = len(lines)
        for line in lines:
            having[line].append(path)
    pairs = []
    for path in came if having else ():
        lines = _distinct(newer(path))
        shared: Counter[bytes] = Counter()
        for line in lines:
            if len(having.get(line, ())) <= _TOO_COMMON:
                shared.update(having.get(line, ()))
        pairs += [
            (many / max(len(lines), sizes[there]) + _OF_ITS_NAME * (_name(path) == _name(there)), path, there)
            for there, many in shared.items()
            if _ending(path) == _ending(there)
        ]
    found: dict[bytes, bytes] = {}
    taken: set[bytes] = set()
    for share, path, there in sorted(pairs, key=lambda pair: (-pair[0], pair[1:])):
        if share >= _ALIKE and path not in found and there not in taken:
            found[path] = there
            taken.add(there)
    return found


def _distinct(content: bytes) -> set[int]:
    # Of a line its hash: two sides of thousands of files are held at once.
    return {hash(line) for line in map(bytes.strip, content.splitlines()) if len(line) >= _LONG_ENOUGH}


def _name(path: bytes) -> str:
    return plain(to_text(path).rpartition("/")[2])


def _ending(path: bytes) -> bytes:
    return path.rpartition(b".")[2].lower()


def _text(lines: Sequence[bytes]) -> str:
    return b"\n".join(lines).decode("utf-8", "replace")


def _beside(after: Sequence[bytes], lines: set[int]) -> list[bytes]:
    near = {number + step for number in lines for step in range(-_BESIDE, _BESIDE + 1)}
    return [after[number - 1] for number in near if 0 < number <= len(after)]


def _fates(after: Sequence[bytes], gone: Counter[bytes], new: Counter[bytes]) -> tuple[dict[str, Fate], set[str]]:
    """What became of the identifiers that a change touched, and which are defined that were not."""
    removed, added, whole = _text([*gone]), _text([*new]), _text(after)
    went = {plain(name) for name in {*WORD.findall(removed)}}
    found = dict.fromkeys((*map(plain, WORD.findall(added)), *went), Fate.TOUCHED)
    # What a file that is no more used, it does not keep from anybody.
    if after:
        found |= dict.fromkeys(went - {plain(name) for name in {*WORD.findall(whole)}}, Fate.WENT)
    defined = {plain(name) for name in _DEFINITION.findall(removed)}
    still = {plain(name) for name in _DEFINITION.findall(whole)}
    found |= dict.fromkeys(defined - still, Fate.UNDEFINED)
    return found, {plain(name) for name in _DEFINITION.findall(added)} - defined


def _tweaked(gone: Counter[bytes], new: Counter[bytes]) -> dict[str, str]:
    before = {_NUMBER.sub(b"#", line) for line in gone if len(line) < 400 and _NUMBER.search(line)}
    found: dict[str, str] = {}
    for line in new if before else ():
        if len(line) < 400 and _NUMBER.sub(b"#", line) in before:
            text = line.decode("utf-8", "replace").strip()
            found |= dict.fromkeys(words(text), text)
    return found


def _gaps(before: Sequence[bytes], after: Sequence[bytes], gone: Counter[bytes]) -> set[int]:
    """Lines of the newer version next to which others went, found by the line before them."""
    places: dict[bytes, int] = {}
    for number, line in enumerate(after, 1):
        places.setdefault(line, number)
    found = set()
    last = b""
    for line in before:
        if line in gone:
            if last in places:
                found |= {places[last], places[last] + 1}
        elif line.strip():
            last = line
    return found


def _functions(content: Sequence[bytes], lines: set[int]) -> set[str]:
    """The functions in which these lines are, by the nearest definition above."""
    found = set()
    current = ""
    for number, line in enumerate(content, 1):
        if len(line) < 400 and (match := _DEFINES.match(line)):
            name = match[1] or match[2]
            if name not in _NO_FUNCTIONS:
                current = name.decode("utf-8", "replace")
        if current and number in lines:
            found.add(re.split(r"::|[.:]", current)[-1])
    return found


def references(content: bytes, numbers: Mapping[str, bytes]) -> Iterator[str]:
    """Paths that a file names: of Godot's resources, of Unity's by GUID, of what is included."""
    for found in _REFERENCE.finditer(content):
        if found[2]:
            if path := numbers.get(found[2].decode()):
                yield to_text(path)
        else:
            yield (found[1] or found[3]).decode("utf-8", "replace")
