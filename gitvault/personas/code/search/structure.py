"""Structural patterns: code with holes, `for $A in $B: $$$`, found by the shape of syntax trees, by ast-grep.

`$NAME` stands for one node, `$$$` or `$$$NAME` for any number of them; the same `$NAME` twice is the same code twice.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from gitvault.errors import GitVaultError, ToolMissing
from gitvault.personas.code.search.languages import grammar
from gitvault.personas.code.search.model import Change
from gitvault.personas.code.search.symbols import SIZE_LIMIT

if TYPE_CHECKING:
    from tree_sitter import Node

_HOLE = re.compile(r"\$\$\$[A-Z_]?[A-Z0-9_]*|\$[A-Z_][A-Z0-9_]*")
_WORD = re.compile(r"[^\W\d]\w+")
_TEXT_LIMIT = 2000


class Match(NamedTuple):
    """A place that fits: lines from 1, the code there with its white space made one."""

    line: int
    end_line: int
    text: str


class Life(NamedTuple):
    """A piece of code at one path that fits, through its life; versions by their numbers."""

    project: str
    path: bytes
    text: str
    introduced: int
    modified: tuple[int, ...]
    removed: int | None
    line: int
    """In the file's last content that held it."""
    last: int


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern that parses. Raises GitVaultError for one that does not, ToolMissing without ast-grep."""

    text: str
    language: str

    def __post_init__(self) -> None:
        _engine()
        if not _HOLE.sub("", self.text).strip():
            raise GitVaultError(f"{self.text!r}: fits everything; give a pattern with code in it, such as f($A)")
        if all(_broken(text, self.language) for text in _plain(self.text)):
            raise GitVaultError(
                f"{self.text!r}: does not parse as {self.language}; give whole code, with $NAME and $$$ for its holes"
            )

    @property
    def rule(self) -> dict[str, object]:
        """What ast-grep is asked for."""
        if self.language in ("c", "cpp") and not self.text.rstrip().endswith((";", "}")):
            # Alone, `f(x)` is a declaration to C.
            context = "void f() { %s; }"
            for text in _plain(self.text):
                if kind := _statement_kind((context % text).encode(), self.language):
                    return {"pattern": {"context": context % self.text, "selector": kind}}
        return {"pattern": self.text}

    @property
    def words(self) -> tuple[str, ...]:
        """The words that stand in whatever fits, the longest first."""
        return tuple(sorted(set(_WORD.findall(_HOLE.sub(" ", self.text))), key=lambda word: (-len(word), word)))

    def matches(self, source: bytes) -> list[Match]:
        """The places in a file that fit; none in one over SIZE_LIMIT."""
        if len(source) > SIZE_LIMIT or any(word.encode() not in source for word in self.words):
            return []
        root = _engine()(source.decode("utf-8", "replace"), self.language).root()
        return [
            Match(
                node.range().start.line + 1,
                node.range().end.line + 1,
                " ".join(node.text()[:_TEXT_LIMIT].split()),
            )
            for node in root.find_all({"rule": self.rule})
        ]

    def lives(self, changes: Iterable[Change], read: Callable[[int, bytes], bytes]) -> Iterator[Life]:
        """What fitted in any version of one file, given the changes of that file in their order."""
        memory: dict[bytes, list[Match]] = {}

        def found(version: int, blob: bytes) -> list[Match]:
            if blob and blob not in memory:
                memory[blob] = self.matches(read(version, blob))
            return memory.get(blob, [])

        open_: dict[str, _Open] = {}
        for change in changes:
            old, new = found(change.version, change.old), found(change.version, change.new)
            difference = Counter(match.text for match in new)
            difference.subtract(match.text for match in old)
            came = [text for text, count in difference.items() for _ in range(count)]
            for text, count in difference.items():
                for _ in range(-count):
                    if not (life := open_.get(text)):
                        continue
                    life.count -= 1
                    if life.count:
                        continue
                    del open_[text]
                    # What takes its place in the same version, and fits too, goes on with its life.
                    if came and came[0] not in open_:
                        life.modified.append(change.version)
                        life.text = came.pop(0)
                        life.count = 1
                        open_[life.text] = life
                    else:
                        yield life.ended(change)
            for text in came:
                if text in open_:
                    open_[text].count += 1
                else:
                    open_[text] = _Open(text, change.version)
            for match in new:
                if life := open_.get(match.text):
                    life.line, life.last, life.at = match.line, change.version, change
        for life in open_.values():
            yield life.ended(None)


@dataclass(slots=True)
class _Open:
    text: str
    introduced: int
    count: int = 1
    line: int = 0
    last: int = 0
    at: Change | None = None
    modified: list[int] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        self.modified = []

    def ended(self, change: Change | None) -> Life:
        at = self.at or change
        assert at
        removed = change.version if change else None
        return Life(
            at.project, at.path, self.text, self.introduced, tuple(self.modified), removed, self.line, self.last
        )


@cache
def _engine() -> Any:
    try:
        from ast_grep_py import SgRoot
    except ImportError as error:
        raise ToolMissing("ast-grep-py: not installed; get it with: pip install 'gitvault[code]'") from error
    return SgRoot


def _plain(text: str) -> Iterator[str]:
    """The pattern with something in its holes that parses: `$` is no letter in most languages."""
    for several in ("hole", "hole;", "hole();", "hole()", ""):
        yield _HOLE.sub(lambda hole: several if hole[0].startswith("$$$") else "hole", text)  # noqa: B023


def _tree(source: bytes, language: str) -> Node:
    from tree_sitter import Parser

    return Parser(grammar(language).language).parse(source).root_node


def _broken(text: str, language: str) -> bool:
    """Whether a parser finds what it cannot place. A missing end, such as `;`, is no matter."""
    nodes = [_tree(text.encode(), language)]
    while nodes:
        node = nodes.pop()
        if node.is_error:
            return True
        nodes += node.children
    return False


def _statement_kind(source: bytes, language: str) -> str:
    """Of a function with one expression as its body: what kind of expression; "" for another body."""
    root = _tree(source, language)
    body = root.named_children[0].child_by_field_name("body") if not root.has_error else None
    statement = body.named_children[0] if body and body.named_child_count == 1 else None
    if not statement or statement.type != "expression_statement":
        return ""
    return statement.named_children[0].type
