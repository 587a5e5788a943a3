"""Which lines come first: what was meant most likely, judged by the line and its path alone.

The order of a hundred thousand lines may cost no parsing: what a line is (a definition, a use, a comment) is told by
its first words. Only `symbols` knows for certain, and is asked by `--symbol`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from gitvault.personas.code.search.languages import language_of

if TYPE_CHECKING:
    from gitvault.personas.code.search.model import Hit

Score = tuple[int, ...]

_DEFINING = re.compile(
    rb"(?:(?:export|default|public|private|protected|internal|static|abstract|final|async|pub(?:\(\w+\))?|unsafe|open"
    rb"|override|virtual|inline|extern|local|sealed|partial|data|case)\s+)*"
    rb"(?:def|class|function\*?|func|fun|fn|interface|struct|enum|union|trait|type|typedef|module|namespace|package"
    rb"|macro_rules!|#\s*define|protocol|object|record|impl|const|let|var|val)\b(?:\s*\([^)]*\)\s+)?[\s*&(<]*"
)
_COMMENTS = {
    "#": (b"#",),
    "/": (b"//", b"/*", b"* ", b"*/"),
    "-": (b"--",),
}
_HASHED = frozenset({"python", "ruby", "bash"})
_OTHER_COMMENTS = (b"//", b"/*", b"* ", b"#", b"--", b"<!--", b";", b"%")
_FOREIGN = re.compile(
    rb"(?:^|/)(?:node_modules|bower_components|vendor|vendored|third[-_]?party|external|deps|dist|build|target|out"
    rb"|site-packages|Pods|Carthage|Godeps|__snapshots__|fixtures|testdata)/"
    rb"|(?:^|/)(?:package-lock\.json|yarn\.lock|pnpm-lock\.yaml|Cargo\.lock|poetry\.lock|Gemfile\.lock|go\.sum)$"
    rb"|(?:[._]min\.(?:js|css)|\.map|_pb2(?:_grpc)?\.py|\.pb\.(?:go|cc|h)|\.g\.dart|\.designer\.cs|\.generated\.\w+)$",
    re.IGNORECASE,
)
_LONG = 500
"""A line over this many bytes was written by a program."""


def scorer(search: Callable[[bytes], tuple[int, int] | None]) -> Callable[[Hit], Score]:
    """A function that gives a hit its score, higher for what comes first.

    `search` gives the place of the pattern in a line, its end the same where that is not known, or None.
    First what people wrote, then exact before word before a part of one; a definition before a use before a comment;
    what is alive; what is in more projects; what is newer.
    """

    def score(hit: Hit) -> Score:
        text = hit.text.strip()
        found = search(hit.text)
        return (
            len(hit.text) <= _LONG and not is_foreign(hit.path),
            _exactness(hit.text, text, found),
            _role(hit.path, text, found, hit.text),
            hit.alive,
            len(hit.projects),
            int(hit.last.time.timestamp()),
        )

    return score


@lru_cache(100_000)
def is_foreign(path: bytes) -> bool:
    """Whether a file was copied in or made by a program, as far as its name tells."""
    return bool(_FOREIGN.search(path))


def _exactness(line: bytes, text: bytes, found: tuple[int, int] | None) -> int:
    """3 for the whole line, 2 for whole words, 1 for a part of one."""
    if not found:
        return 0
    start, end = found
    if line[start:end].strip() == text:
        return 3
    if start == end:
        return 1 if _is_word(line[start - 1 : start]) else 2
    return 2 if not (_is_word(line[start - 1 : start]) or _is_word(line[end : end + 1])) else 1


def _is_word(sign: bytes) -> bool:
    return sign.isalnum() or sign == b"_"


def _role(path: bytes, text: bytes, found: tuple[int, int] | None, line: bytes) -> int:
    """2 for a definition, 1 for a use, 0 for a comment."""
    if text.startswith(_comment_signs(path)):
        # C's preprocessor begins its definitions with what is a comment elsewhere.
        return 2 if text.startswith(b"#") and _DEFINING.match(text) else 0
    if not found:
        return 1
    indent = len(line) - len(line.lstrip())
    defining = _DEFINING.match(line, indent)
    return 2 if defining and found[0] <= defining.end() else 1


@lru_cache(100_000)
def _comment_signs(path: bytes) -> tuple[bytes, ...]:
    language = language_of(path)
    if language in _HASHED:
        return _COMMENTS["#"]
    if language == "lua":
        return _COMMENTS["-"]
    return _COMMENTS["/"] if language else _OTHER_COMMENTS
