"""What is looked for: a text, or a regular expression of RE2, whose time grows with what it looks at and no faster.

Where RE2 differs, git's extended expressions are taken as git takes them: `\\<` and `\\>`, `{,3}`, and that `[^a]`
never is the end of a line, while `\\s` may be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from gitvault.errors import GitVaultError
from gitvault.personas.code.search.model import Query

Required = list[frozenset[bytes]]
"""_Texts that a line must hold, case aside, to match: of each set one at least."""

_SPECIAL = re.compile(r"[\\^$.|?*+()\[\]{}]")
_TOKEN = re.compile(r"\\.|\[\^?\]?(?:\[:\w+:\]|\\.|[^\]])*\]|\{,(?=\d+\})", re.DOTALL)
_MEMORY = 64 << 20
# Of the trigrams a text has; more say hardly more.
_LEAST = 3


class Pattern:
    """A compiled query. Raises GitVaultError for an expression that does not compile."""

    def __init__(self, query: Query) -> None:
        text = query.text
        if not text:
            raise GitVaultError("nothing to search for: the pattern is empty")
        self.raw = text.encode("utf-8", "surrogateescape")
        plain = query.fixed or not _SPECIAL.search(text)
        self.literal = plain and not query.word and not (query.ignore_case and not text.isascii())
        """Whether it is a text, of which `places` finds each occurrence; else the first of each line."""
        self.fold = query.ignore_case and self.literal
        self.required: Required
        self._expression: Any = None
        self._bytewise: Any = None
        if self.literal:
            self.raw = self.raw.lower() if self.fold else self.raw
            self.required = [frozenset([self.raw])] if len(self.raw) >= _LEAST else []
            return
        expression = re.escape(text) if query.fixed else as_git(text)
        if query.word:
            expression = rf"\b(?:{expression})\b"
        self._expression = _compiled(expression, text, query.ignore_case)
        self._bytewise = _compiled(expression, text, query.ignore_case, bytewise=True)
        self.required = required(expression, query.ignore_case)

    def places(self, text: bytes) -> list[int]:
        """Where in a text of whole lines it is found."""
        if not self.literal:
            return list(self._lines(text))
        text = text.lower() if self.fold else text
        size = len(self.raw)
        found = []
        at = text.find(self.raw)
        while at >= 0:
            found.append(at)
            at = text.find(self.raw, at + size)
        return found

    def _lines(self, text: bytes) -> Iterator[int]:
        yield from _matching(self._expression, text, 0, len(text))
        if text.isascii():
            return
        try:
            text.decode()
        except UnicodeDecodeError:
            start = 0
            for line in text.split(b"\n")[:-1]:
                stop = start + len(line) + 1
                if not _is_text(line) and next(_matching(self._expression, text, start, stop), None) is None:
                    yield from _matching(self._bytewise, text, start, stop)
                start = stop


def _is_text(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _matching(expression: Any, text: bytes, start: int, stop: int) -> Iterator[int]:
    """The first place of each line between two lines' beginnings."""
    search = expression.search
    while start < stop:
        match = search(text, start, stop)
        if not match:
            return
        at, end = match.span()
        if at >= stop:
            return
        line_end = text.find(b"\n", at) + 1
        # Over the line's end: what counts is whether it is found in this line alone.
        if end <= line_end or search(text, text.rfind(b"\n", 0, at) + 1, line_end):
            yield at
        start = line_end


def _compiled(expression: str, asked: str, ignore_case: bool, *, bytewise: bool = False) -> Any:
    import re2

    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY
    options.case_sensitive = not ignore_case
    if bytewise:
        options.encoding = re2.Options.Encoding.LATIN1
    try:
        return re2.compile(f"(?m){expression}".encode("utf-8", "surrogateescape"), options)
    except re2.error as error:
        said = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        said = said.replace("(?m)", "", 1)
        hint = "" if "perl operator" not in said and "escape" not in said else "; looking around and \\1 are not known"
        raise GitVaultError(f"{asked}: no regular expression: {said}{hint}; -F searches for the text itself") from error


def as_git(expression: str) -> str:
    """An expression as RE2 has to have it."""

    def one(match: re.Match[str]) -> str:
        token = match[0]
        if token in (r"\<", r"\>"):
            return r"\b"
        if token == "{,":
            return "{0,"
        if token.startswith("[^]"):
            return r"[^\n\]" + token[3:]
        return r"[^\n" + token[2:] if token.startswith("[^") else token

    return _TOKEN.sub(one, expression)


class _Unknown(Exception):
    """Something whose texts are not understood: then nothing is required."""


def required(expression: str, ignore_case: bool) -> Required:
    """What a line must hold; nothing where that is not known."""
    fold = ignore_case or "(?i" in expression or re.search(r"\(\?[a-zA-Z]*i", expression) is not None
    try:
        reader = _Reader(expression)
        found = reader.alternatives()
        if reader.at < len(expression):
            return []
    except (_Unknown, IndexError, RecursionError):
        return []
    out: Required = []
    for texts in found:
        encoded = []
        for text in texts:
            raw = text.encode("utf-8", "surrogateescape")
            # Other cases of letters beyond ASCII have other bytes.
            parts = re.split(rb"[^\x00-\x7f]+", raw) if fold else [raw]
            encoded.append(max(parts, key=len))
        if all(len(text) >= _LEAST for text in encoded):
            out.append(frozenset(encoded))
    return out


_Texts = list[frozenset[str]]


class _Reader:
    """Reads an expression for the texts that all its matches hold."""

    def __init__(self, expression: str) -> None:
        self._text = expression
        self.at = 0

    def alternatives(self) -> _Texts:
        branches = [self._sequence()]
        while self._peek() == "|":
            self.at += 1
            branches.append(self._sequence())
        if len(branches) == 1:
            return branches[0]
        if not all(branches):
            return []
        # One of each branch: the one whose shortest text is the longest.
        best = [max(branch, key=lambda texts: min(map(len, texts))) for branch in branches]
        return [frozenset().union(*best)]

    def _sequence(self) -> _Texts:
        found: _Texts = []
        held = ""

        def flush() -> str:
            if held:
                found.append(frozenset([held]))
            return ""

        while self._peek() not in ("", "|", ")"):
            text, inner = self._atom()
            optional, more = self._quantifier()
            if text is None or optional:
                held = flush()
                found += [] if optional else inner
            else:
                held += text
                if more:
                    held = flush()
        flush()
        return found

    def _peek(self) -> str:
        return self._text[self.at : self.at + 1]

    def _quantifier(self) -> tuple[bool, bool]:
        """Whether what stands before may be missing; whether it may stand there other than once."""
        optional = more = False
        while (sign := self._peek()) and sign in "*+?{":
            if sign == "{":
                match = re.compile(r"\{(\d+)(?:,\d*)?\}").match(self._text, self.at)
                if not match:
                    break
                optional |= int(match[1]) == 0
                self.at = match.end()
            else:
                # After another one `?` makes it lazy; taking it for optional says less, not more.
                optional |= sign != "+"
                self.at += 1
            more = True
        return optional, more

    def _atom(self) -> tuple[str | None, _Texts]:
        """A text, or None and what is required."""
        sign = self._peek()
        self.at += 1
        if sign == "(":
            return self._group()
        if sign == "[":
            match = _TOKEN.match(self._text, self.at - 1)
            if not match:
                raise _Unknown
            self.at = match.end()
            return None, []
        if sign == "\\":
            escaped = self._text[self.at]
            self.at += 1
            if escaped in "wWdDsSbBAzntrfv":
                return None, []
            if escaped.isalnum():
                raise _Unknown
            return escaped, []
        return (None, []) if sign in ".^$" else (sign, [])

    def _group(self) -> tuple[str | None, _Texts]:
        if self._peek() == "?":
            match = re.compile(r"\?(?:P?<\w+>|[imsU-]*:)").match(self._text, self.at)
            flags = re.compile(r"\?[imsU-]+\)").match(self._text, self.at)
            if flags:
                self.at = flags.end()
                return None, []
            if not match:
                raise _Unknown
            self.at = match.end()
        found = self.alternatives()
        if self._peek() != ")":
            raise _Unknown
        self.at += 1
        return None, found
