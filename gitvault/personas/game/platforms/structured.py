"""YAML as Unity writes it, JSON, TOML and ini, read with the line that every value stands on.

Of YAML what programs write: blocks, flow collections, quoted, folded and literal text, several documents. Tags are
skipped; aliases and merge keys are not understood and said to be not. All readers raise ValueError, which begins with
the line.
"""

from __future__ import annotations

import json as standard_json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

# Real files have at most a dozen levels; each takes a few frames of the interpreter's stack.
_DEEPEST = 64


@dataclass(frozen=True, slots=True)
class Text:
    """A scalar as it is written, without quotes; what is empty is `{}`, `[]` or no text."""

    text: str
    line: int


Node: TypeAlias = "Text | dict[str, Node] | list[Node]"

_CONFLICT = re.compile(r"(?m)^(?:<<<<<<< |>>>>>>> )")
_QUOTED_KEY = re.compile(r"""("[^"\\]*(?:\\.[^"\\]*)*"|'[^']*(?:''[^']*)*') *:(?= |$)""")
_DOUBLE = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*')
_SINGLE = re.compile(r"[^']*(?:''[^']*)*")
_LITERAL = re.compile(r"([|>])[+-]?[1-9]?[+-]?(?:\s+#.*)?$")
_TAG = re.compile(r"(?:[!&][^\s,\[\]{}]*(?:\s+|$))+")
_CONTINUED = re.compile(r"([^\\](?:\\\\)*)\\\n")
_FLOW = re.compile(
    r"""\s+|\#[^\n]*|"[^"\\]*(?:\\.[^"\\]*)*"|'[^']*(?:''[^']*)*'|[\[\]{},]|:(?=[\s,\[\]{}"]|$)"""
    r"""|[^\s,\[\]{}:"'#][^,\[\]{}:\n]*(?::(?=[^\s,\[\]{}])[^,\[\]{}:\n]*)*""",
    re.S,
)
# A quote or comment that does not end takes all that is left, lest each of many looks for its end in vain.
_JSON_COMMENT = re.compile(r"""("[^"\\\n]*(?:\\.[^"\\\n]*)*"?)|//[^\n]*|/\*.*?(?:\*/|\Z)""", re.S)
_QUOTES = re.compile(r""""[^"\\]*(?:\\.[^"\\]*)*"?|'[^']*(?:''[^']*)*'?""")
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


def yaml(text: str) -> list[Node]:
    """The documents of a YAML file."""
    check_merged(text)
    documents: list[list[tuple[int, str]]] = [[]]
    for number, line in enumerate(text.split("\n"), 1):
        line = line.rstrip("\r")
        if line.startswith(("---", "...")) and (len(line) == 3 or line[3] == " "):
            documents.append([])
        elif not line.startswith("%") or documents[-1]:
            documents[-1].append((number, line))
    return [_Block(lines).node() for lines in documents if any(_content(line) for _, line in lines)]


def json(text: str) -> Node:
    """A JSON file; comments and a comma at the end are let through, as engines do."""
    check_merged(text)
    flow = _Flow(_JSON_COMMENT.sub(_blank, text), 1)
    node = flow.node(0)
    flow.end()
    return node


def toml(text: str) -> Node:
    """A TOML file; values within one of several lines stand on its first."""
    check_merged(text)
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        raise ValueError(f"line {found[1] if found else text.count(chr(10)) + 1}: {error}") from None
    except RecursionError:
        raise ValueError("line 1: nested too deeply") from None
    return _placed(table, (), _toml_lines(text))


def ini(text: str) -> Node:
    """An ini file: sections of keys, those before the first section at the top; of a key twice the last counts."""
    check_merged(text)
    top: dict[str, Node] = {}
    section = top
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line or line[0] in ";#":
            continue
        if line[0] == "[":
            if "]" not in line:
                raise ValueError(f"line {number}: a section without its ]")
            inner = top.setdefault(line[1 : line.index("]")].strip(), {})
            section = inner if isinstance(inner, dict) else top
            continue
        key, separator, value = line.partition("=") if "=" in line else line.partition(":")
        if not separator:
            raise ValueError(f"line {number}: neither a section nor KEY=VALUE")
        section[key.strip()] = Text(_unquoted(value.strip()), number)
    return top


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
        if depth > _DEEPEST:
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
        return _escaped(inner) if quote == '"' else inner.replace("''", "'")

    def _collection(self, rest: str, depth: int) -> Node:
        line = self._raw[self._at][0]
        pieces, open_ = [rest], _open(rest)
        while open_ > 0:
            pieces.append(self._more())
            open_ += _open(pieces[-1])
        self._at += 1
        flow = _Flow("\n".join(pieces), line)
        return flow.node(depth)


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
        if depth > _DEEPEST:
            raise ValueError(f"line {line}: nested too deeply")
        if token == "{":
            return self._mapping(line, depth)
        if token == "[":
            return self._list(line, depth)
        if token in ("}", "]", ",", ":"):
            raise ValueError(f"line {line}: {token} is not expected here")
        return Text(_unquoted(token), line)

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


def _key(content: str) -> tuple[str, str] | None:
    """A key and what follows it; None for what is no key."""
    if content[0] in "\"'":
        found = _QUOTED_KEY.match(content)
        return (_unquoted(found[1]), content[found.end() :].strip()) if found else None
    if content[0] in "[]{}#&*!|>%@`,":
        return None
    at = content.find(": ")
    at = at if at >= 0 else len(content) - 1 if content.endswith(":") else -1
    return (content[:at].rstrip(), content[at + 1 :].strip()) if at > 0 else None


def _content(line: str) -> str:
    content = line.strip(" ")
    return "" if content.startswith("#") or not content.strip() else content


def _open(text: str) -> int:
    """How many brackets more are opened than closed, outside of quotes."""
    bare = _QUOTES.sub("", text)
    return sum(map(bare.count, "[{")) - sum(map(bare.count, "]}"))


def _escaped(text: str) -> str:
    def plain(found: re.Match[str]) -> str:
        if number := found[1] or found[2]:
            return chr(int(number, 16))
        return _ESCAPES.get(found[3], found[3])

    # Halves of a character beyond 16 bits, as JSON writes them, become one.
    return (
        _ESCAPE.sub(plain, text).encode("utf-16", "surrogatepass").decode("utf-16", "replace") if "\\" in text else text
    )


def _unquoted(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] == '"':
        return _escaped(text[1:-1])
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    return text


def _blank(found: re.Match[str]) -> str:
    return found[1] or "\n" * found[0].count("\n")


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


_HEADER = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_SET = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")


def _toml_lines(text: str) -> dict[tuple[str, ...], int]:
    """Where keys are set; tomllib does not say."""
    lines: dict[tuple[str, ...], int] = {}
    counts: dict[tuple[str, ...], int] = {}
    above: tuple[str, ...] = ()
    for number, line in enumerate(text.split("\n"), 1):
        if header := _HEADER.match(line):
            above = tuple(part.strip("\"'") for part in _PART.findall(header[2]))
            if header[1] == "[[":
                counts[above] = counts.get(above, -1) + 1
                above = (*above, f"[{counts[above]}]")
        elif key := _SET.match(line):
            lines.setdefault((*above, *(part.strip("\"'") for part in _PART.findall(key[1]))), number)
    return lines


def _placed(value: Any, way: tuple[str, ...], lines: Mapping[tuple[str, ...], int]) -> Node:
    if isinstance(value, dict) and value:
        return {key: _placed(inner, (*way, key), lines) for key, inner in value.items()}
    if isinstance(value, list) and value:
        return [_placed(inner, (*way, f"[{number}]"), lines) for number, inner in enumerate(value)]
    at = next((lines[way[:size]] for size in range(len(way), 0, -1) if way[:size] in lines), 1)
    return Text(value if isinstance(value, str) else standard_json.dumps(value, default=str), at)
