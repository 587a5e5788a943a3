"""Signatures: under which name reports of one and the same trouble meet, whoever sent them.

A stack is reduced to the functions that are the game's own; addresses, line numbers, folders of build machines, ids and
amounts go, since they differ from build to build and from player to player.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from gitvault.personas.game.feedback import Feedback

_FRAMES = 3
"""Of the game's own, the innermost: what calls them depends on the way that the player took."""
_LONGEST_LINE = 1000
_LINES = 400
_NAME_LENGTH = 60

_FILE = r"(?P<file>[^\s()\[\]:*?\"<>|]*[\w-]\.[A-Za-z]\w{0,5})"
_PLACE = rf"(?P<place>(?:[A-Za-z]{{1,10}}:)?{_FILE}):(?P<line>\d+)"
_PATTERNS = tuple(
    re.compile(pattern)
    for pattern in (
        # Python.
        rf'^\s*File "(?P<place>[^"]*?{_FILE})", line (?P<line>\d+)(?:, in (?P<function>.+))?',
        # Godot 3: `0 - res://player.gd:12 - at function: hit`, `At: res://player.gd:12.`
        rf"{_PLACE}\W+at function: (?P<function>\w+)",
        # Unity: `Player.Hit (Int32 amount) [0x00012] in <0a1b>:0`, `(at Assets/Player.cs:42)`;
        # Unreal: `Game!AHero::Jump() [D:\Game\Hero.cpp:88]`; gdb: `#1 0x00 in AHero::Jump(float) at src/Hero.cpp:88`
        r"^\s*(?:#\d+:?\s+)?(?:0x[0-9a-fA-F]+\s+)?(?:in\s+|at:?\s+)?(?:[^\s!()]+!)?"
        r"(?P<function>[\w.:<>~`$+/]*[A-Za-z_>`]\w*)"
        rf"\s*(?:\(.*?\))?\s*(?:\[0x[0-9a-f]+\]\s*)?(?:in |at |\(at |\[|\(|@\s?|/|<)\s*{_PLACE}",
        # Lua: `hero.lua:12: in function 'hit'`, and the line of the error itself.
        rf"{_PLACE}(?:\d|:)*\s+in (?:function|method|upvalue|field|local) ['<]?(?P<function>[\w.:]+)",
        # Only a place: `at: res://player.gd:12`, `(hero.js:3:4)`
        rf"(?:^|[\s(@\[]){_PLACE}",
        # Only a name: `at Player.Hit (System.Int32 amount)`, `libgame.so(hero_jump+0x2d)`, `#3 hero_jump`
        r"^\s*(?:#\d+:?\s+)?(?:0x[0-9a-fA-F]+\s+)?(?:in |at )\s*(?P<function>[\w.:<>~`$+/]*\w)\s*(?:\(|\[|\+0x|$)",
        r"^\s*\S+?[!(](?P<function>[\w:~]+)(?:\(\))?\+0x[0-9a-fA-F]+",
        r"^\s*#\d+:?\s+(?:0x[0-9a-fA-F]+\s+)?(?P<function>[\w.:<>~]+)\s*(?:\(|$)",
        r"^\s*(?P<function>[A-Za-z_][\w.<>`]*(?:[.:]{1,2})[\w<>`]+)\s*\(",
    )
)
# What belongs to engines, runtimes and systems is in everybody's stack.
_FOREIGN = re.compile(
    r"^(?:UnityEngine|UnityEditor|System|Mono|Unity|Cinemachine|TMPro|DG|Godot|GodotSharp|std|boost|__libc|_?start$|main$"
    r"|ntdll|kernel|KERNEL|raise$|abort$|F(?:Engine|Task|Runnable|Malloc|Debug)|UObject|UWorld|UEngine|AActor"
    r"|java|android|com\.android|com\.unity3d"
    r"|node|internal|invoke|Reflect|<unknown>)(?=[.:!$/]|$)"
)
_FOREIGN_PLACE = re.compile(
    r"(?i)(?:^|[/\\])(?:node_modules|site-packages|Library[/\\]PackageCache|Engine[/\\]Source|UnrealEngine|"
    r"buildslave|scene[/\\]main|core[/\\](?:object|variant|io)|modules[/\\]gdscript|lib64|libc)(?=[/\\.-])"
)
KIND = re.compile(
    r"\b([A-Z]\w*(?:Exception|Error|Fault|Violation|Failure)|SIG[A-Z]{3,5}|EXCEPTION_[A-Z_]+|OutOfMemory)\b"
)
_NOISE = (
    (re.compile(r"0x[0-9a-fA-F]+|\b[0-9a-fA-F]{8,}(?:-[0-9a-fA-F]{4,}){0,4}\b"), "#"),
    (re.compile(r"(?:[A-Za-z]:)?(?:[\w.@ -]*[\\/])+(?=[\w.-]+)"), ""),
    (re.compile(r"\d+(?:[.,:]\d+)*"), "#"),
    (re.compile(r"\s+"), " "),
)
_UNNAMED = re.compile(r"[^\w.<>#@-]+")


class Frame(NamedTuple):
    """One step of a stack. What the text does not say is empty."""

    function: str
    """As written, `Player.Hit` or `AHero::Jump`."""
    file: str
    """With forward slashes; of a build machine's path, or `res://`, as it was written."""
    line: int
    """From 1; 0 where it is not said."""

    @property
    def is_own(self) -> bool:
        """Whether the game's, as far as one can see, and not an engine's or a runtime's."""
        return not (_FOREIGN.search(self.function) or _FOREIGN_PLACE.search(self.file))


# The same steps come in thousands of stacks: 0.1 us instead of 15.
@lru_cache(1 << 16)
def frame(text: str) -> Frame | None:
    """A line of a stack, of any language that games are written in; None for what is none."""
    text = text[:_LONGEST_LINE]
    for pattern in _PATTERNS:
        if found := pattern.search(text):
            said = found.groupdict()
            place = (said.get("place") or "").replace("\\", "/")
            return Frame((said.get("function") or "").strip("`'\""), place, int(said.get("line") or 0))
    return None


def frames(record: Feedback) -> list[Frame]:
    """The stack of a record, the innermost first; where it has none, the frames that its text shows."""
    if record.stack:
        # An importer gives frames and nothing else: of a bare `Player.Hit`, all of it is the function.
        return [frame(line) or Frame(line.strip()[:_LONGEST_LINE], "", 0) for line in record.stack[:_LINES]]
    found = list(_in_text(record.text))
    # Python tells the innermost last.
    return found[::-1] if "Traceback (most recent call last)" in record.text else found


def _in_text(text: str) -> Iterator[Frame]:
    for line in text.splitlines()[:_LINES]:
        one = frame(line)
        # Prose has words in brackets, too: only what names a line of a file, or says that it is a step, counts.
        if one and (one.line or re.match(r"\s*(?:#\d+|at:?\s)", line)):
            yield one


def signature(record: Feedback) -> str:
    """The name under which reports of the same trouble meet; empty for what is none, as a review.

    A source's own group stays as it is, unless that is only the error's first line and the stack says more.
    """
    if record.sig and not (record.stack and record.text.startswith(record.sig)):
        return record.sig
    own = [one for one in frames(record) if one.is_own and one.function][:_FRAMES]
    head = headline(record.text) or record.sig
    if not own and record.kind not in ("crash", "error"):
        return record.sig
    kind = found[1] if (found := KIND.search(record.text)) else ""
    key = [kind or head, *(plain_function(one.function) for one in own)]
    where = plain_function(own[0].function) if own else ""
    shown = "@".join(filter(None, (kind, where))) if own else head
    return f"{_UNNAMED.sub('-', shown).strip('-')[:_NAME_LENGTH] or record.kind}-{_digest(key)}"


def headline(text: str) -> str:
    """The first line that says something, without what differs between players: numbers, addresses, folders."""
    line = next((line for line in text.splitlines()[:_LINES] if line.strip() and not _is_step(line)), "")
    line = line.strip()[:_LONGEST_LINE]
    for noise, instead in _NOISE:
        line = noise.sub(instead, line)
    return line.strip()


def _is_step(line: str) -> bool:
    return "Traceback (most recent call last)" in line or bool(re.match(r"\s*(?:#\d+|at:?\s|File \")", line))


def plain_function(name: str) -> str:
    """A function's name without arguments, generics and what compilers make of lambdas and coroutines."""
    name = re.sub(r"^<?([\w.:]+)[.+/]<(\w+)>[bcd]__\w*(?:[.:]+MoveNext)?", r"\1.\2", name)
    name = re.sub(r"`\d+|<[^<>]*>|\[[^\[\]]*\]|\$\w+\b|\s*\(.*", "", name)
    return re.sub(r"::|:|/|\+", ".", name).strip(".")


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode("utf-8", "replace")).hexdigest()[:8]
