"""Collections in brackets: JSON, and YAML's of one line."""

from __future__ import annotations

import re

from gitvault.personas.game.platforms.nodes import DEEPEST, Node, Text, check_merged, unquoted

_FLOW = re.compile(
    r"""\s+|\#[^\n]*|"[^"\\]*(?:\\.[^"\\]*)*"|'[^']*(?:''[^']*)*'|[\[\]{},]|:(?=[\s,\[\]{}"]|$)"""
    r"""|[^\s,\[\]{}:"'#][^,\[\]{}:\n]*(?::(?=[^\s,\[\]{}])[^,\[\]{}:\n]*)*""",
    re.S,
)
# A quote or comment that does not end takes all that is left, lest each of many looks for its end in vain.
_JSON_COMMENT = re.compile(r"""("[^"\\\n]*(?:\\.[^"\\\n]*)*"?)|//[^\n]*|/\*.*?(?:\*/|\Z)""", re.S)
_QUOTES = re.compile(r""""[^"\\]*(?:\\.[^"\\]*)*"?|'[^']*(?:''[^']*)*'?""")


def json(text: str) -> Node:
    """A JSON file; comments and a comma at the end are let through, as engines do. Raises ValueError."""
    check_merged(text)
    flow = _Flow(_JSON_COMMENT.sub(_blank, text), 1)
    node = flow.node(0)
    flow.end()
    return node


def collection(text: str, line: int, depth: int) -> Node:
    """A collection of YAML that begins on that line, so deep within others. Raises ValueError."""
    return _Flow(text, line).node(depth)


def open_brackets(text: str) -> int:
    """How many brackets more are opened than closed, outside of quotes."""
    bare = _QUOTES.sub("", text)
    return sum(map(bare.count, "[{")) - sum(map(bare.count, "]}"))


class _Flow:
    """Flow collections of YAML, which are JSON's."""

    def __init__(self, text: str, line: int) -> None:
        self._text = text
        self._line = line
        self._at = 0

    def _next(self) -> tuple[str, int]:
        while self._at < len(self._text):
            found = _FLOW.match(self._text, self._at)
            if not found:
                raise ValueError(f"line {self._line}: {self._text[self._at]!r} is not expected here")
            self._at = found.end()
            line = self._line
            self._line += found[0].count("\n")
            if not found[0].isspace() and found[0][0] != "#":
                return found[0].rstrip(), line
        raise ValueError(f"line {self._line}: something that began here or above does not end")

    def end(self) -> None:
        """Raises ValueError for what follows."""
        if self._text[self._at :].strip():
            raise ValueError(f"line {self._line}: more than one value")

    def node(self, depth: int) -> Node:
        return self._node(*self._next(), depth)

    def _node(self, token: str, line: int, depth: int) -> Node:
        if depth > DEEPEST:
            raise ValueError(f"line {line}: nested too deeply")
        if token == "{":
            return self._mapping(line, depth)
        if token == "[":
            return self._list(line, depth)
        if token in ("}", "]", ",", ":"):
            raise ValueError(f"line {line}: {token} is not expected here")
        return Text(unquoted(token), line)

    def _list(self, line: int, depth: int) -> Node:
        items: list[Node] = []
        while (token := self._next())[0] != "]":
            if token[0] != ",":
                items.append(self._node(*token, depth + 1))
        return items or Text("[]", line)

    def _mapping(self, line: int, depth: int) -> Node:
        found: dict[str, Node] = {}
        while (token := self._next())[0] != "}":
            if token[0] == ",":
                continue
            key = self._node(*token, depth + 1)
            colon, at = self._next()
            if not isinstance(key, Text) or colon != ":":
                raise ValueError(f"line {at}: expected KEY: VALUE")
            found[key.text] = self._node(*self._next(), depth + 1)
        return found or Text("{}", line)


def _blank(found: re.Match[str]) -> str:
    return found[1] or "\n" * found[0].count("\n")
