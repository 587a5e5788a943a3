"""Categories of feedback by rules that can be read and changed: `categories.toml`, and a project's own file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from gitvault.errors import ConfigError
from gitvault.personas.game.feedback import Feedback

FILE = ".gitvault-feedback.toml"
"""A project's own rules, in its folder."""
_LONGEST = 1 << 20
_TEXT = 20_000
_KEYS = ("kinds", "words", "but", "rating_from", "rating_to")


class Match(NamedTuple):
    """A category of a record."""

    category: str
    why: str
    """The kind, word or rating that put it there."""


@dataclass(frozen=True, slots=True)
class Category:
    """What one category's rules say."""

    name: str
    kinds: tuple[str, ...] = ()
    words: re.Pattern[str] | None = None
    but: re.Pattern[str] | None = None
    rating_from: float | None = None
    rating_to: float | None = None

    def why(self, record: Feedback, text: str) -> str:
        """The rule that fits a record, whose text is given in small letters; empty for none."""
        if record.kind in self.kinds:
            return f"a {record.kind}"
        if self.words and text and not (self.but and self.but.search(text)) and (found := self.words.search(text)):
            return f"“{found[0]}”"
        if record.rating is not None and (
            (self.rating_from is not None and record.rating >= self.rating_from)
            or (self.rating_to is not None and record.rating <= self.rating_to)
        ):
            return f"rated {record.rating:g}"
        return ""


@dataclass(frozen=True, slots=True)
class Rules:
    """All categories, and what words say of files."""

    categories: tuple[Category, ...]
    topics: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By word the endings of the files that it is about."""

    def matches(self, record: Feedback) -> Iterator[Match]:
        """The categories of a record, with the reason."""
        text = _plain(record.text[:_TEXT])
        for category in self.categories:
            if why := category.why(record, text):
                yield Match(category.name, why)


@cache
def builtin() -> Rules:
    """The rules that come with gitvault."""
    return _rules(tomllib.loads(files(__package__).joinpath("categories.toml").read_text("utf-8")), "categories.toml")


def of_project(folder: Path) -> Rules:
    """The rules for a project in that folder: its own file's, and then those of gitvault. Raises ConfigError."""
    try:
        data = (folder / FILE).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return builtin()
    if len(data) > _LONGEST:
        raise ConfigError(f"{FILE}: larger than 1 MiB; expected categories of feedback")
    try:
        own = _rules(tomllib.loads(data.decode("utf-8")), FILE)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f'{FILE}: {error}; expected TOML, such as: [category.boss] words = ["boss"]') from None
    given = builtin()
    replaced = {category.name for category in own.categories}
    kept = tuple(category for category in given.categories if category.name not in replaced)
    # One that has no rules is how a category is done without.
    return Rules((*(one for one in own.categories if one != Category(one.name)), *kept), {**given.topics, **own.topics})


def _rules(table: Mapping[str, Any], source: str) -> Rules:
    if unknown := set(table) - {"category", "topics"}:
        raise ConfigError(f"{source}: {min(unknown)}: unknown; expected [category.NAME] and [topics]")
    named, topics = table.get("category", {}), table.get("topics", {})
    if not isinstance(named, dict) or not all(isinstance(said, dict) for said in named.values()):
        raise ConfigError(f"{source}: category: expected [category.NAME] with {', '.join(_KEYS)}")
    if not isinstance(topics, dict) or not all(map(_is_words, topics.values())):
        raise ConfigError(f"{source}: topics: expected lists of endings, such as: pink = ['.shader']")
    return Rules(tuple(_category(name, said, f"{source}: category.{name}") for name, said in named.items()), topics)


def _category(name: str, said: Mapping[str, Any], where: str) -> Category:
    if unknown := set(said) - set(_KEYS):
        raise ConfigError(f"{where}: {min(unknown)}: unknown; expected {', '.join(_KEYS)}")
    for key in ("kinds", "words", "but"):
        if not _is_words(said.get(key, [])):
            raise ConfigError(f"{where}: {key}: expected a list of words")
    for key in ("rating_from", "rating_to"):
        if key in said and (isinstance(said[key], bool) or not isinstance(said[key], int | float)):
            raise ConfigError(f"{where}: {key}: expected a number from 0 to 1")
    return Category(
        name,
        tuple(said.get("kinds", ())),
        _pattern(said.get("words", ())),
        _pattern(said.get("but", ())),
        said.get("rating_from"),
        said.get("rating_to"),
    )


def _is_words(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) and word.strip(" *") for word in value)


def _pattern(said: Sequence[str]) -> re.Pattern[str] | None:
    """One pattern for all words: escaped, so that nobody's rules can take time without end."""
    if not said:
        return None
    plain = (_plain(word) for word in said)
    parts = (
        re.escape(word.rstrip("*")).replace(r"\ ", r"\s+") + (r"\w*" if word.endswith("*") else "") for word in plain
    )
    return re.compile(rf"(?<!\w)(?:{'|'.join(parts)})(?!\w)")


def _plain(text: str) -> str:
    """In small letters, apostrophes as they are typed."""
    return text.casefold().replace("\u2019", "'")
