"""Suspects: which changes between two builds may have caused what players report, the likeliest first, with reasons.

Evidence is what reports name: functions and files of stacks, scenes, assets by path or number, settings, words. It is
held against what each change touched. Every piece adds its weight, and the reason says which it was.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from gitvault.core.utils.kinds import kind_of
from gitvault.core.utils.names import to_line, to_text
from gitvault.personas.game.feedback import Feedback
from gitvault.personas.game.insight.signatures import KIND, Frame, frame, frames, plain_function

Read = Callable[[bytes], bytes]
"""The content of a file by its path, empty for none and for what is no text or too long."""

# What each kind of evidence weighs. Fitted by hand on the breakages of docs/insight.md.
_STACK, _STACK_FADES = 7.0, 0.75
_TOUCHED_FUNCTION, _TOUCHED_LINE = 6.0, 5.0
_NAMED = 12.0
_GONE = 4.0
_DEFINITION_WENT, _NAME_WENT, _NAME_TOUCHED = 10.0, 7.0, 3.0
_ON_THE_LINE = 0.9
"""Of a name's weight, where the report does not say it but the line of code that its stack names."""
_CLASS_ON_THE_LINE = 6.0
_GIVEN, _MOST_GIVEN = 0.7, 5
"""Where the line uses a variable: what the statement names that gave it its value, of so many variables."""
_WORD_IN_PATH, _WORD_IN_CHANGE, _WORD_OF_THE_LINE = 4.0, 2.0, 1.5
_NEIGHBOUR = 4.0
_SCENE, _IN_SCENE = 5.0, 2.5
_TOPIC = 1.5
_RECENT = 0.5
_PLAIN = {"code": 0.6, "text": 0.4, "image": 0.1, "audio": 0.1, "model": 0.2}

_SCENES = (b".tscn", b".scn", b".unity", b".umap", b".prefab", b".tmx", b".ldtk")
_SETTINGS = (b"project.godot", b"manifest.json", b"game.uproject")
_ASSETS = ("image", "audio", "video", "model", "font", "archive")
_ASSET_ENDINGS = (b".tres", b".res", b".asset", b".mat", b".anim", b".controller", b".uasset", b".shader", b".gdshader")

_MOST_RECORDS = 200
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{2,}")
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_QUOTED = re.compile("['\"`\u201c\u2018]([^'\"`\u201c\u201d\u2018\u2019\n]{2,120})['\"`\u201d\u2019]")
_PATH = re.compile(r"(?:res://|user://|Assets/|/Game/|Content/|Packages/)?[\w./\\ -]*[\w-]\.[A-Za-z]\w{1,11}\b")
_GUID = re.compile(r"\b[0-9a-f]{32}\b")
_REFERENCE = re.compile(
    rb'"(?:res://)([^"\n]{1,400})"|guid: ([0-9a-f]{32})'
    rb'|(?:require|include|import|load|from)\W{1,3}[\'"<]([^\'">\n]{1,200})'
)
_COMMON = frozenset(
    re.findall(
        r"\w+",
        "the and for with that this from have has was were are not but you your game when then after before into can "
        "cant its it's just all out get gets got one two new bug crash crashes error errors null none true false func "
        "function var let const void int float string bool return self class public private static extends attempt "
        "call index value line base type object instance reference set expected found invalid failed cannot does "
        "exist at in on of to is be no or if my me so do very more than there they them what which while still even "
        "since update version play played playing player players time please fix really would could should will only "
        "every res src script way like come came hardly since again",
    )
)
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
_DEFINITION = re.compile(
    r"(?:\b(?:func|def|function|sub|fn|var|const|class|class_name|signal|enum|struct|interface|namespace|uniform|void|float"
    r"|int|bool|string)\s+|\bname=\"|m_Name:\s*|^\s*[\"']?)([A-Za-z_]\w{2,})(?=[\"'\s]*(?:[=:({\]]|$|\W+type=))",
    re.MULTILINE,
)


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


@dataclass(frozen=True, slots=True)
class Suspect:
    """A change, and why it may be the cause."""

    path: bytes
    state: str
    score: float
    reasons: tuple[str, ...]
    """The strongest first."""

    @property
    def kind(self) -> str:
        """`scene`, `setting`, `asset` or `file`."""
        name = self.path.rpartition(b"/")[2].lower()
        if name.endswith(_SCENES):
            return "scene"
        if name in _SETTINGS or name.endswith((b".ini", b".cfg")) or b"ProjectSettings/" in self.path:
            return "setting"
        return "asset" if kind_of(name) in _ASSETS or name.endswith(_ASSET_ENDINGS) else "file"


@dataclass(slots=True)
class Clues:
    """What reports name."""

    frames: list[tuple[Frame, float]] = field(default_factory=list)
    """With what the place in the stack is worth, 1 for the innermost of the game's own."""
    paths: set[str] = field(default_factory=set)
    guids: set[str] = field(default_factory=set)
    names: Counter[str] = field(default_factory=Counter)
    """Identifiers of messages and stacks, as written."""
    words: Counter[str] = field(default_factory=Counter)
    """Of all texts, as `words` gives them."""
    scenes: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of code that a stack names."""

    place: str
    worth: float
    names: frozenset[str]


@dataclass(slots=True)
class _Touched:
    """A change with what can be seen in it."""

    change: Change
    names: dict[str, float]
    """Identifiers of the lines that came or went, plain, with what they weigh."""
    share: float
    """How much of the file is new, from 0 to 1."""
    words: set[str]
    lines: set[int]
    """Of the newer version, that came or next to which something went."""
    functions: set[str]
    """In which they are, or that came or went."""
    path_words: set[str]
    scores: list[tuple[float, str]] = field(default_factory=list)

    def add(self, score: float, reason: str) -> None:
        self.scores.append((score, reason))


def clues(records: Iterable[Feedback]) -> Clues:
    """What these reports name, of the first 200 of them."""
    found = Clues()
    seen: set[tuple[str, str, int]] = set()
    for record, _ in zip(records, range(_MOST_RECORDS), strict=False):
        stack = frames(record)
        own = [one for one in stack if one.is_own] or stack
        for depth, one in enumerate(own[:12]):
            if (key := (one.function, one.file, one.line)) not in seen:
                seen.add(key)
                found.frames.append((one, _STACK_FADES**depth))
                found.names.update(_WORD.findall(one.function))
        text = record.text[:20_000]
        found.paths.update(path.strip().replace("\\", "/") for path in _PATH.findall(text))
        found.guids.update(_GUID.findall(text))
        for quoted in _QUOTED.findall(text):
            found.names.update(set(_WORD.findall(quoted)))
        # An identifier looks like one: it has a capital inside, an underscore, or a digit.
        found.names.update({name for name in _WORD.findall(text) if not (name.islower() or name.istitle())})
        prose = "\n".join(line for line in text.splitlines() if not frame(line))
        found.words.update(words(_PATH.sub(" ", prose)))
        if record.scene:
            found.scenes.add(record.scene)
    for name in [name for name in found.names if name.lower() in _COMMON or KIND.fullmatch(name)]:
        del found.names[name]
    return found


def _plain(name: str) -> str:
    """The same for `layers_container`, `LayersContainer` and `layersContainer`."""
    return name.replace("_", "").lower()


def words(text: str) -> set[str]:
    """The words of prose or of names, `PlayerJump2.gd` as player and jump; in small letters, without a plural's s."""
    found = set()
    for name in _WORD.findall(text):
        for part in _PARTS.findall(name):
            part = part.lower()
            part = part[:-1] if len(part) > 3 and part.endswith("s") and not part.endswith("ss") else part
            if len(part) > 2 and part not in _COMMON:
                found.add(part)
    return found


def suspects(
    told: Clues,
    changes: Sequence[Change],
    older: Read,
    newer: Read,
    *,
    topics: Mapping[str, Iterable[str]] | None = None,
    numbers: Mapping[str, bytes] | None = None,
    others: Sequence[bytes] = (),
) -> list[Suspect]:
    """The changes, the likeliest first, all of them.

    `topics`: words with the endings of files that they are about. `numbers`: the paths of assets by Unity's GUID.
    `others`: files that did not change, through which a change may reach what is named.
    """
    came_from = _namesakes(changes)
    # What a file lost whose namesake came is told by that one.
    went_on = set(came_from.values())
    seen = [
        _touched(change, came_from.get(change.path, b""), (lambda _: b"") if change.path in went_on else older, newer)
        for change in changes
    ]
    lines = list(_lines(told, [*(one.change.path for one in seen), *others], newer))
    every_name = Counter(name for one in seen for name in one.names)
    every_loss = Counter(name for one in seen for name, weight in one.names.items() if weight > _NAME_TOUCHED)
    every_word = Counter(word for one in seen for word in one.words | one.path_words)
    by_path = {one.change.path: one for one in seen}
    for one in seen:
        _by_stack(told, one, seen)
        _by_name(told, one, numbers or {})
        _by_identifier(told, lines, one, every_name, every_loss, len(seen))
        _by_words(told, lines, one, every_word, len(seen))
        _by_topic(told, one, topics or {})
    _by_neighbours(told, seen, by_path, newer, others, numbers or {})
    for one in seen:
        if one.change.recency and len(seen) > 1:
            one.add(_RECENT * one.change.recency, "changed late")
        one.add(_PLAIN.get(kind_of(one.change.path.rpartition(b"/")[2]), 0.0), "")
    found = []
    for one in seen:
        ordered = sorted(one.scores, key=lambda pair: -pair[0])
        score = sum(score for score, _ in ordered)
        reasons = tuple(dict.fromkeys(reason for score, reason in ordered if reason and score > 0.2))
        found.append(Suspect(one.change.path, one.change.state, round(score, 2), reasons or ("changed in between",)))
    return sorted(found, key=lambda one: (-one.score, one.path))


# -------------------------------------------------------------------------------- what was touched


def _namesakes(changes: Sequence[Change]) -> dict[bytes, bytes]:
    """Of added files the deleted one of their name, where there is one of each: a folder renamed, its files edited."""
    by_name: dict[bytes, dict[str, list[bytes]]] = defaultdict(lambda: defaultdict(list))
    for change in changes:
        by_name[change.path.rpartition(b"/")[2]][change.state].append(change.path)
    alone = (found for found in by_name.values() if len(found["added"]) == len(found["deleted"]) == 1)
    return {found["added"][0]: found["deleted"][0] for found in alone}


def _touched(change: Change, came_from: bytes, older: Read, newer: Read) -> _Touched:
    source = came_from or change.source or (change.path if change.state != "added" else b"")
    before = older(source).splitlines() if source else []
    after = newer(change.path).splitlines() if change.state != "deleted" else []
    # As multisets: a file of 20,000 lines takes milliseconds, and where a line stands does not matter here.
    went, came = Counter(before), Counter(after)
    gone, made = went - came, came - went
    lines = {number for number, line in enumerate(after, 1) if line in made}
    lines |= _gaps(before, after, gone)
    path = change.path.decode("utf-8", "replace")
    functions = _functions(after, lines) | _functions(before, {n for n, line in enumerate(before, 1) if line in gone})
    share = sum(made.values()) / len(after) if after else 1.0
    text = b"\n".join([*gone, *made]).decode("utf-8", "replace")
    return _Touched(change, _weighed(after, gone, made), share, words(text), lines, functions, words(path))


def _weighed(after: Sequence[bytes], gone: Counter[bytes], made: Counter[bytes]) -> dict[str, float]:
    """Identifiers that a change touched: most for what was defined and is not there any more."""
    removed = b"\n".join(gone).decode("utf-8", "replace")
    found = {_plain(name): _NAME_TOUCHED for line in made for name in _WORD.findall(line.decode("utf-8", "replace"))}
    went = {_plain(name) for name in _WORD.findall(removed)}
    left = went - {_plain(name) for line in after for name in _WORD.findall(line.decode("utf-8", "replace"))}
    found.update(dict.fromkeys(went, _NAME_TOUCHED))
    found.update(dict.fromkeys(left, _NAME_WENT))
    defined = {_plain(name) for name in _DEFINITION.findall(removed)}
    still = {_plain(name) for name in _DEFINITION.findall(b"\n".join(after).decode("utf-8", "replace"))}
    found.update(dict.fromkeys(defined - still, _DEFINITION_WENT))
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


_DEFINES = re.compile(
    rb"^\s*(?:(?:public|private|protected|internal|static|override|virtual|async|inline|const|export|local|remote|sync"
    rb"|puppet|master)\s+)*(?:def|func|function|sub|fn)\s+([\w.:]+)"
    rb"|^[\w\s<>\[\],.*&:]+?\b([\w~]+(?:::[\w~]+)?)\s*\([^;]*\)\s*(?:const\s*)?(?:override\s*)?\{?\s*$"
)
_NO_FUNCTIONS = frozenset((b"if", b"for", b"while", b"switch", b"return", b"catch", b"using", b"lock", b"foreach"))


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
            found.add(current.replace("::", ".").rpartition(".")[2])
    return found


# ------------------------------------------------------------------------------------- evidence


def _by_stack(told: Clues, one: _Touched, seen: Sequence[_Touched]) -> None:
    """Files of frames, by their path's end, else by the class that is named like the file."""
    best: dict[str, float] = {}
    # Where all is new, that this line is says nothing.
    told_by = 1 - 0.8 * one.share
    for step, worth in told.frames:
        where = _fits(step, one.change.path)
        if not where:
            continue
        sharers = sum(1 for other in seen if _fits(step, other.change.path) == where)
        score = _STACK * worth * where / sharers
        place = f"{plain_function(step.function) or step.file}{f':{step.line}' if step.line else ''}"
        _better(best, f"in the stack: {place}", score)
        function = plain_function(step.function).rpartition(".")[2]
        if function and function in one.functions:
            _better(best, f"changed in the stack's {function}", _TOUCHED_FUNCTION * worth * told_by)
        elif step.line and any(number in one.lines for number in range(step.line - 2, step.line + 3)):
            _better(best, f"changed at the stack's line {step.line}", _TOUCHED_LINE * worth * told_by)
    # A deep stack in one file is one piece of evidence.
    for kind in ("in the stack", "changed in", "changed at"):
        if of_kind := [(score, reason) for reason, score in best.items() if reason.startswith(kind)]:
            one.add(*max(of_kind))


def _better(best: dict[str, float], reason: str, score: float) -> None:
    best[reason] = max(score, best.get(reason, 0.0))


def _fits(frame: Frame, path: bytes) -> float:
    """How well a frame's file is that path, from 0 to 1."""
    here = path.decode("utf-8", "replace")
    name = here.rpartition("/")[2]
    if frame.file:
        there = frame.file.removeprefix("res://")
        if there.rpartition("/")[2].lower() != name.lower():
            return 0.0
        same = _same_end(there, here)
        # All of the shorter path, or as far as folders of a build machine agree.
        whole = same >= min(there.count("/"), here.count("/")) + 1
        return 1.0 if whole else 0.6 if same > 1 else 0.3
    stem = name.partition(".")[0].lower()
    parts = [part.lower() for part in plain_function(frame.function).split(".")]
    # `AHero::Jump` is in Hero.cpp.
    owners = {*parts[:-1], *(part[1:] for part in parts[:-1] if part[:1] in "aufs")}
    return 0.8 if stem in owners and kind_of(path) in ("code", "text", "other") else 0.0


def _same_end(a: str, b: str) -> int:
    same = 0
    for one, other in zip(reversed(a.lower().split("/")), reversed(b.lower().split("/")), strict=False):
        if one != other:
            break
        same += 1
    return same


def _by_name(told: Clues, one: _Touched, numbers: Mapping[str, bytes]) -> None:
    """Assets that a report names by path, by file name or by number."""
    for path in (one.change.path, one.change.source):
        text = path.decode("utf-8", "replace")
        if not text:
            continue
        name = text.rpartition("/")[2]
        for said in told.paths:
            plain = re.sub(r"^(?:res|user)://", "", said).strip("/ ")
            if plain.lower().rpartition("/")[2] != name.lower():
                continue
            if any(frame.file.endswith(plain) for frame, _ in told.frames):
                # The stack has said it.
                continue
            sure = "/" in plain and (text.endswith(plain) or plain.endswith(text))
            one.add(_NAMED if sure else _NAMED * 0.7, f"named: {said.strip()}")
            break
        for number in told.guids:
            if numbers.get(number) in (path, path.removesuffix(b".meta")):
                one.add(_NAMED, f"named by its GUID {number}")
    if one.change.state in ("deleted", "moved") and any(reason.startswith("named") for _, reason in one.scores):
        one.add(_GONE, f"and it was {one.change.state}")
    for scene in told.scenes:
        if words(scene) and _stem(scene) == _stem(to_text(one.change.path)):
            one.add(_SCENE, f"the scene {scene}")


def _stem(text: str) -> str:
    return text.replace("\\", "/").rpartition("/")[2].partition(".")[0].lower()


def _lines(told: Clues, paths: Sequence[bytes], newer: Read) -> Iterator[_Line]:
    """The lines of code that stacks name: what a message calls nothing is often called by name there."""
    named: dict[str, list[bytes]] = defaultdict(list)
    for path in paths:
        named[to_text(path).rpartition("/")[2].lower()].append(path)
    for one, worth in told.frames:
        if not (one.file and one.line):
            continue
        fitting = [path for path in named.get(one.file.rpartition("/")[2].lower(), ()) if _fits(one, path) == 1.0]
        for path in fitting[:1]:
            content = newer(path).splitlines()
            if one.line <= len(content):
                where = f"{to_line(path)}:{one.line}"
                names = _identifiers(_statement(content, one.line))
                yield _Line(where, worth, names)
                # What is nothing there was given a few lines, or half a file, before.
                given = {name for line in _assignments(content, names, one.line) for name in _identifiers(line)}
                yield _Line(where, worth * _GIVEN, frozenset(given - names))


def _identifiers(text: str) -> frozenset[str]:
    return frozenset(name for name in _WORD.findall(text) if name.lower() not in _KEYWORDS)


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


def _by_identifier(
    told: Clues,
    lines: Sequence[_Line],
    one: _Touched,
    every_name: Counter[str],
    every_loss: Counter[str],
    count: int,
) -> None:
    """Identifiers of reports, and of the code they name, in what came and went; the rarer, the more they say."""
    said: dict[str, tuple[float, str]] = {_plain(name): (1.0, name) for name in told.names}
    for line in lines:
        for name in line.names:
            said.setdefault(_plain(name), (_ON_THE_LINE * line.worth, f"{name}, of {line.place},"))
    # Its own stack names it anyway.
    stem = "" if any(reason.startswith("in the stack") for _, reason in one.scores) else _stem(to_text(one.change.path))
    weighed = []
    for name, (worth, shown) in said.items():
        weight = one.names.get(name, 0.0)
        is_gone = weight > _NAME_TOUCHED
        # Short ones are everywhere.
        rare = _rare((every_loss if is_gone else every_name)[name], count) * min(1.0, len(name) / 6) * worth
        if weight:
            weighed.append((weight * rare, f"{shown} {'is gone' if is_gone else 'came or went'}"))
        if len(name) > 3 and name == _plain(stem):
            weighed.append((_CLASS_ON_THE_LINE * worth, f"{shown} is its name"))
    # The second and third say less that is new.
    for (score, reason), share in zip(sorted(weighed, reverse=True), (1.0, 0.4, 0.2), strict=False):
        one.add(score * share, reason)


def _by_words(told: Clues, lines: Sequence[_Line], one: _Touched, every_word: Counter[str], count: int) -> None:
    """Words of what people wrote in a change's path, and in what came and went."""
    stem = words(_stem(to_text(one.change.path)))
    # Thousands of lines have every word.
    dense = 1 / (1 + math.log1p(len(one.words) / 100))
    of_lines = {word for line in lines[:3] for name in line.names for word in words(name)}
    for weight, said, place, where in (
        (_WORD_IN_PATH, told.words.keys(), one.path_words, "in its name"),
        (_WORD_OF_THE_LINE, of_lines - told.words.keys(), one.path_words, "of the stack's line in its name"),
        (_WORD_IN_CHANGE * dense, told.words.keys(), one.words - one.path_words, "in what changed"),
    ):
        fitting = sorted(((_rare(every_word[word], count), word) for word in said if word in place), reverse=True)
        for (score, word), share in zip(fitting, (1.0, 0.8, 0.5), strict=False):
            own = 1.0 if word in stem or "name" not in where else 0.7
            one.add(weight * score * share * own, f"“{word}” {where}")


def _rare(count: int, of: int) -> float:
    """1 for what one of many changes has, towards 0 for what all have."""
    return max(0.05, math.log((of + 1) / max(count, 1)) / math.log(of + 1)) if of > 1 else 1.0


def _by_topic(told: Clues, one: _Touched, topics: Mapping[str, Iterable[str]]) -> None:
    """What people talk about when files of a kind are broken."""
    name = one.change.path.rpartition(b"/")[2].decode("utf-8", "replace").lower()
    for word, endings in topics.items():
        if word in told.words and name.endswith(tuple(endings)):
            one.add(_TOPIC, f"“{word}” is about such files")
            return


def _by_neighbours(
    told: Clues,
    seen: Sequence[_Touched],
    by_path: Mapping[bytes, _Touched],
    newer: Read,
    others: Sequence[bytes],
    numbers: Mapping[str, bytes],
) -> None:
    """Changes that a file of the stack, or a scene that is named, refers to, and those that refer to it."""
    anchors: dict[bytes, tuple[float, str]] = {}
    scenes = {_stem(scene) for scene in told.scenes if scene}
    for path in [*(one.change.path for one in seen if one.change.state != "deleted"), *others]:
        worth = max((worth * _fits(frame, path) for frame, worth in told.frames), default=0.0)
        if worth >= 0.2:
            anchors[path] = (worth * _NEIGHBOUR, "the stack's")
        elif _stem(to_text(path)) in scenes:
            anchors[path] = (_IN_SCENE, "the scene")
    by_name: dict[str, list[bytes]] = defaultdict(list)
    for path in by_path:
        by_name[to_text(path).rpartition("/")[2]].append(path)
    gains: dict[bytes, tuple[float, str]] = {}

    def gain(path: bytes, score: float, reason: str) -> None:
        if score > gains.get(path, (0.0, ""))[0]:
            gains[path] = (score, reason)

    for path, (worth, what) in anchors.items():
        for target in references(newer(path), numbers):
            for reached in by_name.get(target.rpartition("/")[2], ()):
                if reached != path and _same_end(target, to_text(reached)) >= min(2, target.count("/") + 1):
                    more = _GONE if by_path[reached].change.state == "deleted" else 0.0
                    gain(reached, worth + more, f"{what} {to_line(path)} uses it")
    wanted = {to_text(path).rpartition("/")[2]: (path, said) for path, said in anchors.items()}
    for one in seen:
        if one.change.state == "deleted":
            continue
        for target in references(newer(one.change.path), numbers):
            path, (worth, what) = wanted.get(target.rpartition("/")[2], (b"", (0.0, "")))
            if path and path != one.change.path:
                gain(one.change.path, worth * 0.75, f"it uses {what} {to_line(path)}")
    for path, (score, reason) in gains.items():
        by_path[path].add(score, reason)


def references(content: bytes, numbers: Mapping[str, bytes]) -> Iterator[str]:
    """Paths that a file names: of Godot's resources, of Unity's by GUID, of what is included."""
    for found in _REFERENCE.finditer(content):
        if found[2]:
            if path := numbers.get(found[2].decode()):
                yield to_text(path)
        else:
            yield (found[1] or found[3]).decode("utf-8", "replace")
