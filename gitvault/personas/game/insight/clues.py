"""What reports name: functions and files of their stacks, assets, identifiers, and the words that people use."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

from gitvault.personas.game.feedback import Feedback
from gitvault.personas.game.insight.signatures import KIND, Frame, frame, frames

WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{2,}")

_STACK_FADES = 0.75
_LATER = 0.45
"""Of a word's weight where it does not stand in the first sentence, which says what a report is about."""
_IN_AN_IDENTIFIER = 0.4
"""Of its weight as a part of an identifier, which counts by itself."""
_OF_WHAT_IS_FINE = 0.25
"""Of its weight where it is only said of what still works."""
_MOST_RECORDS = 200
_PLURAL, _ENDING = re.compile(r"(?<=\w{3})(?<!s)s$"), re.compile(r"(?<=\w{3})(?:ing|(?<!e)ed|e)$")
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_QUOTED = re.compile("['\"`\u201c\u2018]([^'\"`\u201c\u201d\u2018\u2019\n]{2,120})['\"`\u201d\u2019]")
_PATH = re.compile(r"(?:res://|user://|Assets/|/Game/|Content/|Packages/)?[\w./\\ -]*[\w-]\.[A-Za-z]\w{1,11}\b")
_WAY = re.compile(r"(?:\w+:/)?/?(?:[\w.-]+/)+[\w.-]*\.\w+")
_GUID = re.compile(r"\b[0-9a-f]{32}\b")
_SENTENCE = re.compile(r"[.!?](?:\s|$)|\n")
# How engines and languages say that something is not there.
_LACKS = re.compile(
    r"(?i)not found|non-?exist|not exist|n't declared|not declared|undeclared|undefined|not defined|no such|a nil value"
    r"|no attribute|not contain a definition|(?:cannot|could not|unable to|failed to) (?:find|resolve|open|load)"
    r"|has no (?:member|method|property)|invalid (?:get|set|call|access)|unknown (?:identifier|symbol|function|member)"
)
# Not what is asked of nothing is missing there, but what should have been something.
_OF_NOTHING = re.compile(r"(?i)base:? '?(?:nil|null)\b|null instance|null reference|of (?:null|undefined)\b|NoneType")
_UNSET = re.compile(r"(?i)has not been assigned|in the inspector|missing script|referenced script")
_AMOUNT = re.compile(
    r"(?i)\b(?:too|much|hardly|barely|half|twice|times|double|only|instantly|forever|at once|(?:low|high|fast|slow"
    r"|strong|weak|short|long|hard|eas|few|larg|small|quick|loud|bright|dark|bigg)i?er|less|more)\b"
)
_IS_GONE = re.compile(r"(?i)\b(?:gone|missing|disappeared|vanished|(?:no|not|n't)\b.{1,30}\b(?:any ?more|longer))\b")
_OF_TEXT = re.compile(
    r"(?i)\b(?:texts?|(?:un)?translat\w*|locali[sz]\w*|languages?|wording|misspell\w*|spelling|typos?|grammar|subtitles?"
    r"|captions?|(?:in|into|to) (?:english|german|french|spanish|italian|russian|chinese|japanese|korean|portuguese))\b"
)
# What players say of what is as it was: it is not the cause.
_CLAUSE = re.compile(r"(?i)[.!?](?:\s|$)|[,;()\n]|\b(?:but|while|although|though|whereas|except)\b")
_IS_FINE = re.compile(
    r"(?i)\bstill (?:do|does|did|works?|runs?)\b"
    r"|\b(?:works?|working|is|are|was|were|looks?) (?:perfectly |all )?"
    r"(?:fine|ok|okay|normal(?:ly)?|as (?:before|usual))\b"
)
_DENIES = re.compile(r"(?i)\b(?:not|never|no|none|nothing|nobody|hardly|barely)\b|n't\b")
_NOT_FOUND = re.compile(r"(?i)not found:\W{0,4}([\w/]{3,120})")
# Of what it is a part: `base 'Reference (Palette.gd)'`, `type 'Resource (Stats)'`, `relative to "/root/Level/Player"`,
# `'Player' object has no attribute`, `'Player' does not contain a definition`
_OWNER = re.compile(
    r"(?:base|type):? ['\"][\w ]*\((?:[\w/:.]*/)?(\w{3,})(?:\.\w{1,4})?\)['\"]"
    r"|relative to [\"'](?:[^\"'\n]*/)?(\w{3,})[\"']"
    r"|['\"](\w{3,})['\"] (?:object has no|does not contain)"
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
        "every res src script way like come came hardly since again much many now also too any some other another "
        "each first second last same such own both few most about over under through because how who why where here "
        "did done doing don doesn didn isn won anymore instead always never nothing something anything",
    )
)


@dataclass(slots=True)
class Clues:
    """What reports name."""

    frames: list[tuple[Frame, float]] = field(default_factory=list)
    """With what the place in the stack is worth, 1 for the innermost of the game's own."""
    paths: set[str] = field(default_factory=set)
    guids: set[str] = field(default_factory=set)
    names: Counter[str] = field(default_factory=Counter)
    """Identifiers of messages and stacks, as written."""
    lacking: set[str] = field(default_factory=set)
    """Those of which messages say that they are not there, as `plain` gives them."""
    owners: set[str] = field(default_factory=set)
    """Classes and nodes that lack them, as `plain` gives them."""
    words: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Of all texts, as `words` gives them, with how much they say: at most 1 for each report."""
    pairs: set[tuple[str, str]] = field(default_factory=set)
    """Words that people wrote one after the other, as `pairs` gives them."""
    spelled: dict[str, str] = field(default_factory=dict)
    """Of a word the form in which somebody wrote it."""
    scenes: set[str] = field(default_factory=set)
    is_unset: bool = False
    """Whether a message says that a scene or a prefab gives a script nothing to refer to."""
    is_amount: bool = False
    """Whether somebody says that something is too much or too little."""
    is_gone: bool = False
    """Whether somebody misses something: it is gone, or not there any more."""
    is_text: bool = False
    """Whether somebody speaks of the texts of the game, or of its languages."""


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
                found.names.update(WORD.findall(one.function))
        text = record.text[:20_000]
        found.paths.update(path.strip().replace("\\", "/") for path in _PATH.findall(text))
        found.guids.update(_GUID.findall(text))
        # Of a file's way its folders and its name are no identifiers.
        for quoted in _QUOTED.findall(_WAY.sub(" ", text)):
            found.names.update(set(WORD.findall(quoted)))
        # What else stands in a line that says what is not there is the engine's.
        rest = "\n".join(line for line in text.splitlines() if not _add_lacking(found, line))
        found.names.update(filter(_is_identifier, {*WORD.findall(rest)}))
        prose = "\n".join(line for line in text.splitlines() if not frame(line))
        found.is_unset |= bool(_UNSET.search(text))
        found.is_amount |= bool(_AMOUNT.search(prose))
        found.is_gone |= bool(_IS_GONE.search(prose))
        found.is_text |= bool(_OF_TEXT.search(prose))
        _add_words(found, _PATH.sub(" ", prose))
        if record.scene:
            found.scenes.add(record.scene)
    for name in [name for name in found.names if name.lower() in _COMMON or KIND.fullmatch(name)]:
        del found.names[name]
    return found


def _add_lacking(found: Clues, line: str) -> bool:
    """Whether a line of a message says what is not there."""
    lacks = _LACKS.search(line)
    if not lacks or _OF_NOTHING.search(line):
        return False
    quoted = [(found.start(), found[1]) for found in _QUOTED.finditer(_OWNER.sub(_blank, line))]
    # What is quoted next, else last before; other quotes tell who wanted it.
    after, before = [text for at, text in quoted if at > lacks.start()], [text for at, text in quoted]
    said = [*(after[:1] or before[-1:]), *_NOT_FOUND.findall(line)]
    # Of a way to a node its end is what is not there.
    ends = [WORD.findall(one.rpartition("/")[2]) for one in said if not _PATH.fullmatch(one)]
    names = {name for names in ends for name in names if name.lower() not in _COMMON}
    found.names.update(names)
    found.lacking |= {plain(name) for name in names}
    found.owners |= {plain(next(filter(None, groups))) for groups in _OWNER.findall(line)}
    return bool(names)


def _blank(found: re.Match[str]) -> str:
    return " " * len(found[0])


def _add_words(found: Clues, prose: str) -> None:
    begins = words(_SENTENCE.split(prose.strip(), maxsplit=1)[0])
    spoken = words(" ".join(name for name in WORD.findall(prose) if not _is_identifier(name)))
    blamed = prose
    for clause in _CLAUSE.split(prose):
        if _IS_FINE.search(clause) and not _DENIES.search(clause):
            blamed = blamed.replace(clause, "\n")
    broken = words(blamed)
    for sentence in _SENTENCE.split(blamed):
        found.pairs |= pairs(sentence)
    for word in _parts(WORD.findall(prose)):
        found.spelled.setdefault(_root(word), word)
    for word in words(prose):
        heard = 1.0 if word in begins else _LATER
        heard *= 1.0 if word in spoken else _IN_AN_IDENTIFIER
        found.words[word] += heard if word in broken else heard * _OF_WHAT_IS_FINE


def _is_identifier(name: str) -> bool:
    """Whether it looks like one: with a capital inside, an underscore, or a digit."""
    return not (name.islower() or name.istitle()) or "_" in name


def plain(name: str) -> str:
    """The same for `layers_container`, `LayersContainer` and `layersContainer`."""
    return name.replace("_", "").lower()


def words(text: str) -> set[str]:
    """The words of prose or of names, `PlayerJump2.gd` as player and jump; in small letters, without the endings that
    English words take.
    """
    return {_root(part) for part in _parts({*WORD.findall(text)})}


def pairs(text: str) -> set[tuple[str, str]]:
    """Words that follow each other, as `words` gives them: of `pause_menu`, of `PauseMenu`, of "the pause menu"."""
    roots = [_root(part) for part in _parts(WORD.findall(text))]
    return {pair for pair in pairwise(roots) if pair[0] != pair[1]}


def _parts(names: Iterable[str]) -> list[str]:
    parts = (part.lower() for name in names for part in _PARTS.findall(name))
    return [part for part in parts if len(part) > 2 and part not in _COMMON and _root(part) not in _COMMON]


@lru_cache(1 << 16)
def _root(word: str) -> str:
    """`jump` for jumps, jumped and jumping; the same for `fire`, fired and firing."""
    found = _ENDING.sub("", _PLURAL.sub("", word))
    return found[:-1] if len(found) > 3 and found[-1] == found[-2] and found[-1] not in "ls" else found
