"""XML with the place of everything in its bytes, so that parts of it are replaced without writing the rest anew."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

_TAG = re.compile(rb"<[^\s>/]+(?:[^>\"']|\"[^\"]*\"|'[^']*')*>")
_DEPTH = 2000


@dataclass(slots=True)
class Node:
    """An element of the document."""

    tag: str
    """With its prefix, as it is written."""
    attributes: dict[str, str]
    parent: Node | None
    start: int
    head: int
    """The end of its start tag."""
    tail: int = 0
    """The start of its end tag; that of an empty element has none: `head`."""
    stop: int = 0
    children: list[Node] = field(default_factory=list)

    @property
    def local(self) -> str:
        """The tag without its prefix."""
        return self.tag.rpartition(":")[2]

    def walk(self) -> Iterator[Node]:
        """The node and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()

    def namespaces(self) -> dict[str, str]:
        """The prefixes that are known here."""
        known = self.parent.namespaces() if self.parent else {"xml": "http://www.w3.org/XML/1998/namespace"}
        for name, value in self.attributes.items():
            prefix, _, rest = name.partition(":")
            if prefix == "xmlns":
                known[rest] = value
        return known


def parse(data: bytes) -> Node:
    """The root of a document. Raises ValueError."""
    parser = expat.ParserCreate()
    stack: list[Node] = []
    roots: list[Node] = []

    def started(tag: str, attributes: dict[str, str]) -> None:
        found = _TAG.match(data, parser.CurrentByteIndex)
        if not found:
            raise ValueError(f"<{tag}> comes from an entity, or the text has 2 bytes for a letter")
        node = Node(tag, attributes, stack[-1] if stack else None, found.start(), found.end())
        (stack[-1].children if stack else roots).append(node)
        stack.append(node)
        if len(stack) > _DEPTH:
            raise ValueError(f"more than {_DEPTH} elements inside each other")

    def ended(_tag: str) -> None:
        node = stack.pop()
        at = parser.CurrentByteIndex
        is_empty = data[node.head - 2 : node.head] == b"/>"
        node.tail, node.stop = (node.head, node.head) if is_empty else (at, data.index(b">", at) + 1)

    parser.StartElementHandler = started
    parser.EndElementHandler = ended
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise ValueError(str(error)) from None
    return roots[0]


def edited(data: bytes, edits: Iterable[tuple[int, int, bytes]]) -> bytes:
    """The document with other bytes from start to stop, for each edit."""
    parts: list[bytes] = []
    at = 0
    for start, stop, new in sorted(edits, key=lambda edit: edit[:2]):
        if start < at:
            raise ValueError("two changes at one place")
        parts += (data[at:start], new)
        at = stop
    return b"".join((*parts, data[at:]))


def inserted(data: bytes, parent: Node, before: Node | None, new: bytes, indent: bytes) -> tuple[int, int, bytes]:
    """The edit that puts an element before a child of `parent`, or behind its last."""
    if before:
        return before.start, before.start, new + indent
    if parent.tail == parent.head and data[parent.head - 2 : parent.head] == b"/>":
        closing = b"</" + parent.tag.encode() + b">"
        return parent.head - 2, parent.head, b">" + indent + new + indent + closing
    if parent.children:
        at = parent.children[-1].stop
        return at, at, indent + new
    return parent.head, parent.head, indent + new


def indent_of(data: bytes, node: Node) -> bytes:
    """The white space before an element."""
    before = data[: node.start]
    return before[len(before.rstrip()) :]
