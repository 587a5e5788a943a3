"""Exports, read as a stream: JSON in every shape in which services write lists of it, and CSV. Never more than a record
is in memory, and what is broken costs no more than itself where that can be told.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from io import BufferedReader, TextIOWrapper
from typing import Any, BinaryIO, NamedTuple, cast

import msgspec

from gitvault.errors import UnsupportedMedia

LONGEST = 16 << 20
"""Characters of one record."""
_CHUNK = 1 << 20
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_UNREADABLE = (OSError, EOFError, zlib.error)
_TOP, _LIST, _MEMBERS = range(3)
_ENDS = ("", "]", "}")
_SPACE = re.compile(r"[\s,\x1e]*")
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
_decode_line = msgspec.json.Decoder().decode
_decode = json.JSONDecoder().raw_decode


class Read(NamedTuple):
    """One record of an export."""

    number: int
    """Counted from 1."""
    document: dict[str, Any] | None
    reason: str = ""
    """Why there is none."""


def opened(file: BinaryIO) -> BinaryIO:
    """The content of a file, unpacked if it is gzip. Raises UnsupportedMedia for what is no text."""
    buffered: Any = file if hasattr(file, "peek") else BufferedReader(file)
    head: bytes = buffered.peek(4)[:4]
    if head[:2] == b"\x1f\x8b":
        return BufferedReader(gzip.GzipFile(fileobj=buffered))
    if head in (b"PK\3\4", b"%PDF") or (b"\0" in head and head[:2] not in _UTF16):
        raise UnsupportedMedia("no text; expected what the service exports as JSON or CSV, also packed by gzip")
    return cast(BinaryIO, buffered)


def json_records(file: BinaryIO, lists: frozenset[str] = frozenset(), encoding: str = "") -> Iterator[Read]:
    """The objects of an export: lines, one list, several behind each other, or lists in an object under one of `lists`.

    A line that is broken is passed over. In a list that is broken what comes behind can only be told apart when its
    brackets fit; else it ends there.
    """
    text = _Text(file, encoding)
    number = 0
    # Where a list's end leads back to.
    place, around = _TOP, _TOP
    while start := text.skip():
        if place == _TOP and start == "{":
            for found in text.lines():
                for document in _unwrapped(found, lists) if lists else (found,):
                    number += 1
                    yield _read(number, document)
            if text.skip() != start:
                continue
        if start == _ENDS[place]:
            place = around if place == _LIST else _TOP
            text.at += 1
            continue
        if place == _TOP and start == "[":
            place, around = _LIST, _TOP
            text.at += 1
            continue
        try:
            if place == _MEMBERS:
                key = text.key()
                if text.skip() == "[" and key in lists:
                    place, around = _LIST, _MEMBERS
                    text.at += 1
                else:
                    text.value()
                continue
            found = text.value()
        except (ValueError, RecursionError) as error:
            if place == _TOP and start == "{" and lists:
                # Too long for memory, or broken somewhere within: its list is read one by one.
                place = _MEMBERS
                text.at += 1
                continue
            number += 1
            why = "nested too deeply" if isinstance(error, RecursionError) else _why(error)
            if place == _LIST and not text.skip_value():
                yield Read(number, None, f"not JSON: {why}; what follows cannot be told apart, export it again")
                return
            yield Read(number, None, f"not JSON: {why}")
            if place != _LIST:
                place = _TOP
                text.skip_line()
            continue
        for document in _unwrapped(found, lists):
            number += 1
            yield _read(number, document)
    if text.broken or place != _TOP:
        yield Read(number + 1, None, text.broken or "the file ends in the middle of a list; export it again")


def _read(number: int, document: Any) -> Read:
    if isinstance(document, dict):
        return Read(number, document)
    return Read(number, None, f"expected an object, found {type(document).__name__}")


def csv_records(file: BinaryIO, encoding: str = "") -> Iterator[Read]:
    """The rows below a header as objects. Raises UnsupportedMedia for a file without a header."""
    csv.field_size_limit(LONGEST)
    lines = TextIOWrapper(file, encoding or _guessed(file), errors="surrogateescape", newline="")
    number = 0
    try:
        sample = lines.readline(_CHUNK)
        between = max(",;\t", key=sample.count)
        header = [name.strip() for name in next(csv.reader([sample], delimiter=between), [])]
        if len(header) < 2:
            raise UnsupportedMedia(f"has no header of several columns; found {sample.strip()[:80]!r}")
        rows = csv.reader(_lines(lines), delimiter=between)
        while True:
            number += 1
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield Read(number, None, f"not CSV: {error}")
                continue
            if not row:
                number -= 1
            elif len(row) != len(header):
                yield Read(number, None, f"has {len(row)} cells; the header has {len(header)}")
            else:
                yield Read(number, dict(zip(header, row, strict=True)))
    except (*_UNREADABLE, UnicodeDecodeError) as error:
        # UTF-16 that ends in the middle of a character, say.
        yield Read(max(number, 1), None, f"the file cannot be read further: {error}")
    finally:
        lines.detach()


def _lines(file: TextIOWrapper) -> Iterator[str]:
    """A file may be one line of 10 GB: such a line becomes a cell that is too long."""
    most = 2 * LONGEST
    while line := file.readline(most):
        if is_long := len(line) == most and not line.endswith("\n"):
            while line and not line.endswith("\n"):
                line = file.readline(most)
        yield "x" * (LONGEST + 1) if is_long else line


def _unwrapped(found: Any, lists: frozenset[str]) -> Iterator[Any]:
    """The records of a page, or the record itself."""
    if isinstance(found, dict) and lists:
        pages = [found[key] for key in lists if isinstance(found.get(key), list)]
        if pages:
            for page in pages:
                yield from page
            return
    yield found


def _guessed(file: BinaryIO) -> str:
    """By the file's first bytes."""
    try:
        head = file.peek(4)[:2] if hasattr(file, "peek") else b""
    except _UNREADABLE:
        # Whoever reads it hears of that.
        head = b""
    return "utf-16" if head in _UTF16 else "utf-8-sig"


class _Text:
    """What of a stream of text is in memory, and where the reader is in it."""

    def __init__(self, file: BinaryIO, encoding: str) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder(encoding or _guessed(file))("surrogateescape")
        self._text = ""
        self._ended = False
        self.at = 0
        # Behind the line that was found to be no value of its own.
        self._tried = 0
        self.broken = ""

    def _more(self, size: int = 0) -> bool:
        if self._ended:
            return False
        try:
            data = self._file.read1(size or _CHUNK)  # type: ignore[attr-defined]
        except _UNREADABLE as error:
            # A gzip stream that was cut off, or is damaged.
            data, self.broken = b"", f"the file cannot be read further: {error}"
        try:
            text = self._decoder.decode(data, not data)
        except UnicodeDecodeError as error:
            # UTF-16 that ends in the middle of a character, say: nothing escapes that.
            data, text, self.broken = b"", "", f"the file cannot be read further: {error.reason}"
        self._ended = not data
        self._text = self._text[self.at :] + text
        self._tried -= self.at
        self.at = 0
        return True

    def skip(self) -> str:
        """To the next value; its first character, empty at the end."""
        while True:
            self.at = _SPACE.match(self._text, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self._text):
                return self._text[self.at]
            if not self._more():
                return ""

    def lines(self) -> Iterator[dict[str, Any]]:
        """The objects here that have a line each, up to the first that has not: in half the time of `value`."""
        while self.at >= self._tried and self._text.startswith("{", self.at):
            end = self._text.find("\n", self.at)
            if end < 0:
                if not self._is_long() and self._more():
                    continue
                self._tried = len(self._text)
                return
            try:
                found = _decode_line(self._text[self.at : end])
            except (ValueError, RecursionError):
                self._tried = end
                return
            self.at = end + 1
            yield found

    def value(self) -> Any:
        """The value here; reading goes on behind it. Raises ValueError, RecursionError."""
        size = _CHUNK
        while True:
            try:
                found, end = _decode(self._text, self.at)
                # A number may go on in what was not read yet.
                if end < len(self._text) or self._ended or self._text[end - 1] in "]}":
                    self.at = end
                    return found
                why = "a number without an end"
            except ValueError as error:
                # The error itself would keep all text that was read alive until the next search for garbage.
                why = _why(error)
            if self._is_long() or not self._more(size):
                raise ValueError(why)
            size = min(2 * size, LONGEST)

    def key(self) -> str:
        """The key here; reading goes on behind its colon. Raises ValueError."""
        key = self.value()
        if self.skip() != ":" or not isinstance(key, str):
            raise ValueError("expected a key and a colon")
        self.at += 1
        return key

    def _is_long(self) -> bool:
        return len(self._text) - self.at > LONGEST

    def skip_line(self) -> None:
        """To the next line, if there is one."""
        while (end := self._text.find("\n", self.at)) < 0:
            self.at = len(self._text)
            if not self._more():
                return
        self.at = end + 1

    def skip_value(self) -> bool:
        """Behind a value that cannot be decoded, by its brackets; False where they do not fit."""
        while not self._is_long() and self._more():
            pass
        depth = 0
        for match in _TOKEN.finditer(self._text, self.at):
            if match[0] in "[{":
                depth += 1
            elif match[0] in "]}":
                depth -= 1
                if depth == 0:
                    self.at = match.end()
                    return True
                if depth < 0:
                    return False
        return False


def _why(error: ValueError) -> str:
    # Where it was does not count from the file's beginning.
    return error.msg if isinstance(error, json.JSONDecodeError) else " ".join(str(error).split())[:200]
