"""What files of settings say, as values with the line that each stands on, whatever form they are written in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

# Real files have at most a dozen levels; each takes a few frames of the interpreter's stack.
DEEPEST = 64


@dataclass(frozen=True, slots=True)
class Text:
    """A scalar as it is written, without quotes; what is empty is `{}`, `[]` or no text."""

    text: str
    line: int


Node: TypeAlias = "Text | dict[str, Node] | list[Node]"

_CONFLICT = re.compile(r"(?m)^(?:<<<<<<< |>>>>>>> )")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", re.S)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "b": "\b", "f": "\f", "a": "\a", "e": "\x1b", "v": "\v"}


def decoded(data: bytes) -> tuple[str, bool]:
    """The text of a file, and whether its encoding was a guess. Raises ValueError for what is no text."""
    try:
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            text = data.decode("utf-16", "replace")
            return text, "\ufffd" in text
        if b"\0" in data[:8000]:
            raise ValueError("line 1: binary; in Unity: Project Settings > Editor > Asset Serialization > Force Text")
        return data.decode("utf-8-sig"), False
    except UnicodeDecodeError:
        return data.decode("latin-1"), True


def check_merged(text: str) -> None:
    """Raises ValueError for a file with both sides of a merge in it."""
    if found := _CONFLICT.search(text):
        raise ValueError(f"line {_line(text, found.start())}: an unresolved merge; choose a side")


def leaves(node: Node, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Text]]:
    """Every scalar with its way down: keys, and of lists `[name]` where items say theirs, else `[0]`.

    A list of scalars is one: `[a, b]`.
    """
    if isinstance(node, Text):
        yield above, node
    elif isinstance(node, dict):
        for key, inner in node.items():
            yield from leaves(inner, (*above, key))
    elif len(scalars := [item for item in node if isinstance(item, Text)]) == len(node):
        yield above, Text(f"[{', '.join(item.text for item in scalars)}]", scalars[0].line)
    else:
        seen: dict[str, int] = {}
        for number, item in enumerate(node):
            name = _name(item) or str(number)
            seen[name] = seen.get(name, 0) + 1
            yield from leaves(item, (*above, f"[{name}]" if seen[name] == 1 else f"[{name}#{seen[name]}]"))


def _name(item: Node) -> str:
    if isinstance(item, dict):
        for key in ("name", "m_Name", "path", "id"):
            if isinstance(said := item.get(key), Text) and said.text:
                return said.text
    return ""


def unescaped(text: str) -> str:
    """What stands in double quotes, with what its backslashes mean."""

    def plain(found: re.Match[str]) -> str:
        if number := found[1] or found[2]:
            return chr(int(number, 16))
        return _ESCAPES.get(found[3], found[3])

    # Halves of a character beyond 16 bits, as JSON writes them, become one.
    return (
        _ESCAPE.sub(plain, text).encode("utf-16", "surrogatepass").decode("utf-16", "replace") if "\\" in text else text
    )


def unquoted(text: str) -> str:
    """A scalar without its quotes; text without any stays as it is."""
    if len(text) > 1 and text[0] == text[-1] == '"':
        return unescaped(text[1:-1])
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    return text


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1
