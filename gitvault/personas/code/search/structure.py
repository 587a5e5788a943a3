"""Structural patterns: code with holes, `for $A in $B: $$$`, found by the shape of syntax trees, by ast-grep.

`$NAME` stands for one node, `$$$` or `$$$NAME` for any number of them; the same `$NAME` twice is the same code twice.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
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
# Where code goes on in the next line, mostly.
_LINE_END = re.compile(r"[{};\n]")
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

    @property
    def line(self) -> str:
        """A regular expression for one line of whatever fits, as it is mostly written; "" for a pattern of holes."""
        words = (_WORD.findall(_HOLE.sub(" ", line)) for line in _LINE_END.split(self.text))
        return ".*".join(rf"\b{word}\b" for word in max(words, key=lambda found: sum(map(len, found))))

    def lives(
        self, changes: Iterable[Change], read: Callable[[int, bytes], bytes | None], *, whole: bool
    ) -> Iterator[Life]:
        """What fitted in any version of one file, given its changes in their order; not `whole`: only some of them."""
        memory: dict[bytes, list[Match]] = {}

        def found(version: int, blob: bytes) -> list[Match]:
            if blob and blob not in memory:
                memory[blob] = self.matches(read(version, blob) or b"")
            return memory.get(blob, [])

        lives: dict[str, _Open] = {}
        for change in changes:
            old, new = found(change.version, change.old), found(change.version, change.new)
            if not whole:
                _catch_up(lives, [match.text for match in old], change.version)
            difference = Counter(match.text for match in new)
            difference.subtract(match.text for match in old)
            came = list((+difference).elements())
            for text in (-difference).elements():
                if not (life := lives.get(text)):
                    continue
                life.count -= 1
                if life.count:
                    continue
                del lives[text]
                # What takes its place in the same version, and fits too, goes on with its life.
                heir = next((other for other in came if other not in lives), None)
                if heir is None:
                    yield life.ended(change)
                    continue
                came.remove(heir)
                life.modified.append(change.version)
                life.text, life.count = heir, 1
                lives[heir] = life
            for text in came:
                lives.setdefault(text, _Open(text, change.version)).count += 1
            for match in new:
                if life := lives.get(match.text):
                    life.line, life.at = match.line, change
        for life in lives.values():
            yield life.ended(None)


@dataclass(slots=True)
class _Open:
    """A life that goes on."""

    text: str
    introduced: int
    count: int = 0
    line: int = 0
    at: Change | None = None
    modified: list[int] = field(default_factory=list)

    def ended(self, change: Change | None) -> Life:
        at = self.at or change
        assert at
        gone = change.version if change else None
        return Life(at.project, at.path, self.text, self.introduced, tuple(self.modified), gone, self.line)


def _catch_up(lives: dict[str, _Open], texts: list[str], version: int) -> None:
    """Between two versions that were looked at, others may have changed what fits: its life goes on as it is now."""
    strangers = [text for text in dict.fromkeys(texts) if text not in lives]
    for text in [text for text in lives if text not in texts]:
        life = lives.pop(text)
        if strangers:
            life.text = strangers.pop(0)
            lives[life.text] = life
    for text in strangers:
        lives[text] = _Open(text, version)
    for text in texts:
        lives[text].count = texts.count(text)


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
