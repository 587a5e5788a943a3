"""`.gitvault.toml`: what a project's owner says of it. The global file has the same form."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gitvault.errors import ConfigError
from gitvault.policy.patterns import Rule, parse
from gitvault.policy.tracked import read_small

LONGEST = 1 << 20
"""Bytes of such a file."""
CATEGORIES = ("source", "configuration", "asset", "documentation", "generated", "dependency", "secret", "cache")
_KEYS = ("keep", "skip", "category", "importance", "every", "keep_for")
_DURATION = re.compile(r"[1-9][0-9]{0,4} ?(?:minute|hour|day|week|month|year)s?")


@dataclass(frozen=True, slots=True)
class Said:
    """What one file says."""

    rules: tuple[Rule, ...] = ()
    """What is left out and what is not; the last that matches counts."""
    categories: tuple[Rule, ...] = ()
    """Patterns that name what they match: `category`."""
    importance: tuple[tuple[Rule, int], ...] = ()
    """Patterns with 0 to 100."""
    every: Mapping[str, str] = field(default_factory=dict)
    """By category: how often it is worth saving."""
    keep_for: Mapping[str, str] = field(default_factory=dict)
    """By category: how long."""


def read(source: str, data: bytes, level: int) -> Said:
    """What a file says. Raises ConfigError, which names the file, the line and what is allowed."""
    try:
        text = data.decode("utf-8")
        table = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{source}, line {line}: not UTF-8; save it as UTF-8") from None
    except ValueError as error:
        found = re.search(r"\(at (?:line (\d+), column \d+|end of document)\)", str(error))
        line = int(found[1]) if found and found[1] else text.count("\n") + 1
        what = str(error).partition(" (at ")[0]
        raise ConfigError(f'{source}, line {line}: {what}; expected TOML, such as: skip = ["data/raw/"]') from None
    except RecursionError:
        raise ConfigError(f"{source}, line 1: nested too deeply; expected {', '.join(_KEYS)}") from None
    return _Reader(source, text, level).said(table)


class _Reader:
    def __init__(self, source: str, text: str, level: int) -> None:
        self.source = source
        self.lines = text.splitlines()
        self.level = level

    def said(self, table: dict[str, Any]) -> Said:
        for key in table:
            if key not in _KEYS:
                import difflib

                near = difflib.get_close_matches(key, _KEYS, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise self._wrong(key, "", f"unknown key {key!r}; allowed are {', '.join(_KEYS)}{hint}")
        return Said(
            # Of one file, what is kept wins: nothing is lost by a contradiction.
            (*self._patterns(table, "skip", False), *self._patterns(table, "keep", True)),
            tuple(self._pair(table, "category", key, value)[0] for key, value in self._table(table, "category")),
            tuple(self._pair(table, "importance", key, value) for key, value in self._table(table, "importance")),
            dict(self._duration("every", key, value) for key, value in self._table(table, "every")),
            dict(self._duration("keep_for", key, value) for key, value in self._table(table, "keep_for")),
        )

    def _patterns(self, table: dict[str, Any], key: str, keep: bool) -> list[Rule]:
        listed = table.get(key, [])
        if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
            raise self._wrong(key, "", f'{key}: expected a list of gitignore patterns, such as ["data/raw/"]')
        return [self._rule(key, text, keep, "") for text in listed]

    def _rule(self, key: str, text: str, keep: bool, category: str) -> Rule:
        pattern = parse(text.encode("utf-8", "surrogateescape"))
        if pattern is None or pattern.negated or "\n" in text:
            other = "keep" if key == "skip" else "skip"
            way = f"write it under {other} without the !" if pattern and pattern.negated else "such as build/ or *.log"
            raise self._wrong(key, text, f"{key}: found {text!r}, expected a gitignore pattern; {way}")
        line = self._line(key, text)
        return Rule(text, keep, self.level, self.source, line, pattern.segments, pattern.folders_only, category)

    def _table(self, table: dict[str, Any], key: str) -> list[tuple[str, Any]]:
        found = table.get(key, {})
        if not isinstance(found, dict):
            raise self._wrong(key, "", f"{key}: expected a table, [{key}]")
        return list(found.items())

    def _pair(self, table: dict[str, Any], key: str, text: str, value: Any) -> tuple[Rule, int]:
        if key == "category":
            if value not in CATEGORIES:
                raise self._wrong(key, text, f"{key}: found {value!r}, expected one of {', '.join(CATEGORIES)}")
            return self._rule(key, text, True, value), 0
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 100:
            raise self._wrong(key, text, f"{key}: found {value!r}, expected a number from 0 to 100")
        return self._rule(key, text, True, ""), value

    def _duration(self, key: str, category: str, value: Any) -> tuple[str, str]:
        if category not in CATEGORIES:
            raise self._wrong(key, category, f"{key}: found {category!r}, expected one of {', '.join(CATEGORIES)}")
        if not isinstance(value, str) or not _DURATION.fullmatch(value):
            raise self._wrong(key, category, f"{key}: found {value!r}, expected a time, such as 4 hours or 90 days")
        return category, value

    def _wrong(self, key: str, text: str, what: str) -> ConfigError:
        return ConfigError(f"{self.source}, line {self._line(key, text)}: {what}")

    def _line(self, key: str, text: str) -> int:
        """Where a key is set, or below that, where `text` stands."""
        start = next(
            (n for n, line in enumerate(self.lines) if re.match(rf"\s*\[?\s*[\"']?{re.escape(key)}\b", line)), 0
        )
        if not text:
            return start + 1
        # In TOML a backslash of a pattern may be written twice.
        spellings = (text, text.replace("\\", "\\\\"))
        quoted = [mark + one + mark for one in spellings for mark in "\"'"]
        rest = range(start, len(self.lines))
        exact = next((n for n in rest if any(one in self.lines[n] for one in quoted)), None)
        return (next((n for n in rest if text in self.lines[n]), start) if exact is None else exact) + 1


def load(path: Path, level: int) -> Said:
    """What the file at `path` says. Raises ConfigError, also when there is none that can be read."""
    try:
        data = read_small(str(path), LONGEST)
    except OSError as error:
        raise ConfigError(f"{path}, line 1: cannot be read: {error.strerror or error}") from None
    return read(str(path), data, level)
