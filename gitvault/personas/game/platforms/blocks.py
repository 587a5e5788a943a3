"""YAML as Unity and other programs write it: blocks, flow collections, quoted, folded and literal text, documents.

Tags are skipped; aliases and merge keys are not understood and said to be not.
"""

from __future__ import annotations

import re

from gitvault.personas.game.platforms.flow import collection, open_brackets
from gitvault.personas.game.platforms.nodes import DEEPEST, Node, Text, check_merged, unescaped, unquoted

_QUOTED_KEY = re.compile(r"""("[^"\\]*(?:\\.[^"\\]*)*"|'[^']*(?:''[^']*)*') *:(?= |$)""")
_DOUBLE = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*')
_SINGLE = re.compile(r"[^']*(?:''[^']*)*")
_LITERAL = re.compile(r"([|>])[+-]?[1-9]?[+-]?(?:\s+#.*)?$")
_TAG = re.compile(r"(?:[!&][^\s,\[\]{}]*(?:\s+|$))+")
_CONTINUED = re.compile(r"([^\\](?:\\\\)*)\\\n")


def yaml(text: str) -> list[Node]:
    """The documents of a YAML file. Raises ValueError, which begins with the line."""
    check_merged(text)
    documents: list[list[tuple[int, str]]] = [[]]
    for number, line in enumerate(text.split("\n"), 1):
        line = line.rstrip("\r")
        if line.startswith(("---", "...")) and (len(line) == 3 or line[3] == " "):
            documents.append([])
        elif not line.startswith("%") or documents[-1]:
            documents[-1].append((number, line))
    return [_Block(lines).node() for lines in documents if any(_content(line) for _, line in lines)]


class _Block:
    """The block structure of one document."""

    def __init__(self, lines: list[tuple[int, str]]) -> None:
        self._raw = lines
        self._at = 0
        # (indentation, content) of each line; "" for those that say nothing.
        self._lines = [(len(line) - len(line.lstrip(" ")), _content(line)) for _, line in lines]

    def node(self) -> Node:
        indent = self._indent()
        found = self._block(max(indent, 0), 0)
        if self._indent() >= 0:
            raise self._wrong("does not belong to anything above it")
        return found

    def _indent(self) -> int:
        """Of the next line that says something, which becomes the current one; -1 at the end."""
        while self._at < len(self._lines):
            indent, content = self._lines[self._at]
            if content:
                return indent
            self._at += 1
        return -1

    def _wrong(self, why: str) -> ValueError:
        number = self._raw[min(self._at, len(self._raw) - 1)][0]
        return ValueError(f"line {number}: {why}")

    def _block(self, indent: int, depth: int) -> Node:
        if depth > DEEPEST:
            raise self._wrong("nested too deeply")
        content = self._lines[self._at][1] if self._at < len(self._lines) else ""
        if content == "-" or content.startswith("- "):
            return self._sequence(indent, depth)
        if _key(content):
            return self._mapping(indent, depth)
        return self._value(content, indent - 1, depth)

    def _sequence(self, indent: int, depth: int) -> list[Node]:
        items: list[Node] = []
        while self._indent() == indent:
            content = self._lines[self._at][1]
            if content != "-" and not content.startswith("- "):
                break
            rest = content[1:].lstrip(" ")
            if not rest or rest.startswith("#"):
                line = self._raw[self._at][0]
                self._at += 1
                items.append(self._block(inner, depth + 1) if (inner := self._indent()) > indent else Text("", line))
            elif rest == "-" or rest.startswith("- ") or _key(rest):
                inner = indent + len(content) - len(rest)
                self._lines[self._at] = (inner, rest)
                items.append(self._block(inner, depth + 1))
            else:
                items.append(self._value(rest, indent, depth))
        return items

    def _mapping(self, indent: int, depth: int) -> dict[str, Node]:
        found: dict[str, Node] = {}
        while self._indent() == indent:
            content = self._lines[self._at][1]
            key = _key(content)
            if not key:
                if content == "-" or content.startswith("- "):
                    break
                raise self._wrong("expected KEY: VALUE")
            name, rest = key
            if name == "<<":
                raise self._wrong("merge keys are not understood; write the values out")
            rest = "" if rest.startswith("#") else rest
            if tag := _TAG.match(rest):
                rest = rest[tag.end() :]
            if rest:
                found[name] = self._value(rest, indent, depth)
                continue
            line = self._raw[self._at][0]
            self._at += 1
            inner = self._indent()
            is_list = inner == indent and self._lines[self._at][1].startswith("-")
            found[name] = self._block(inner, depth + 1) if inner > indent or is_list else Text("", line)
        return found

    def _value(self, rest: str, indent: int, depth: int) -> Node:
        """What begins on the current line with `rest`, of a key or an item that stands at `indent`."""
        line = self._raw[self._at][0]
        if tag := _TAG.match(rest):
            rest = rest[tag.end() :]
        if rest.startswith("*"):
            raise self._wrong("aliases are not understood; write the value out")
        if literal := _LITERAL.match(rest):
            return Text(self._literal(indent, folded=literal[1] == ">"), line)
        if rest[:1] in ("{", "["):
            return self._collection(rest, depth)
        if rest[:1] in ("'", '"'):
            return Text(self._quoted(rest), line)
        parts = [rest.split(" #")[0].rstrip()]
        self._at += 1
        # Unity folds what is longer than 80 characters.
        while self._indent() > indent and self._at < len(self._lines):
            content = self._lines[self._at][1]
            if _key(content):
                raise self._wrong("a key within a value; is it indented too far?")
            parts.append(content.split(" #")[0].rstrip())
            self._at += 1
        return Text(" ".join(part for part in parts if part), line)

    def _literal(self, indent: int, *, folded: bool) -> str:
        self._at += 1
        lines: list[str] = []
        while self._at < len(self._raw):
            line = self._raw[self._at][1]
            if line.strip() and len(line) - len(line.lstrip(" ")) <= indent:
                break
            lines.append(line)
            self._at += 1
        least = min((len(line) - len(line.lstrip(" ")) for line in lines if line.strip()), default=0)
        held = [line[least:] for line in lines]
        return " ".join(held).rstrip() if folded else "\n".join(held).rstrip("\n")

    def _more(self) -> str:
        """The next line of what has not ended."""
        self._at += 1
        if self._at >= len(self._raw):
            raise self._wrong("something that began here or above does not end")
        return self._raw[self._at][1].strip()

    def _quoted(self, rest: str) -> str:
        quote, line, pieces = rest[0], rest[1:], list[str]()
        body = _DOUBLE if quote == '"' else _SINGLE
        while not line.startswith(quote, end := body.match(line).end()):  # type: ignore[union-attr]
            pieces.append(line.rstrip())
            line = self._more()
        self._at += 1
        # A line's end is a blank, an empty line a line's end; behind a backslash it is nothing.
        inner = "\n".join([*pieces, line[:end]])
        inner = _CONTINUED.sub(r"\1", inner) if quote == '"' else inner
        inner = re.sub(r"\n+", lambda gap: gap[0][1:] or " ", inner)
        return unescaped(inner) if quote == '"' else inner.replace("''", "'")

    def _collection(self, rest: str, depth: int) -> Node:
        line = self._raw[self._at][0]
        pieces, open_ = [rest], open_brackets(rest)
        while open_ > 0:
            pieces.append(self._more())
            open_ += open_brackets(pieces[-1])
        self._at += 1
        return collection("\n".join(pieces), line, depth)


def _key(content: str) -> tuple[str, str] | None:
    """A key and what follows it; None for what is no key."""
    if content[0] in "\"'":
        found = _QUOTED_KEY.match(content)
        return (unquoted(found[1]), content[found.end() :].strip()) if found else None
    if content[0] in "[]{}#&*!|>%@`,":
        return None
    at = content.find(": ")
    at = at if at >= 0 else len(content) - 1 if content.endswith(":") else -1
    return (content[:at].rstrip(), content[at + 1 :].strip()) if at > 0 else None


def _content(line: str) -> str:
    content = line.strip(" ")
    return "" if content.startswith("#") or not content.strip() else content
