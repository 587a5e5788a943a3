"""What a file is, by its name: category and language, from `kinds.toml`."""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from gitvault.policy.ecosystems import ECOSYSTEMS, ecosystems, string_lines

KINDS = Path(__file__).parent / "kinds.toml"


class Kind(NamedTuple):
    """What a path is, and the line of the data that says so."""

    category: str
    language: str | None
    rule: str
    source: str
    line: int


@cache
def _tables() -> tuple[dict[str, Any], dict[tuple[str, str], int]]:
    text = KINDS.read_text("utf-8")
    return tomllib.loads(text), string_lines(text)


def hint(table: str, category: str) -> Any:
    """What `kinds.toml` suggests for a category: its `importance`, `every` or `keep_for`."""
    return _tables()[0][table][category]


def kind_of(path: str, is_folder: bool = False, *, isnt: Collection[str] = ()) -> Kind:
    """What lies at a path, with `/` between its names, judged by them alone; `isnt`: categories that it is not."""
    *folders, name = path.split("/")
    for kind in _by_folder([*folders, name]) if is_folder else _by_name(folders, name):
        if kind.category not in isnt:
            return kind
    category = "source" if is_folder else _tables()[0]["default"]["category"]
    return _kind("default", "asset", category, None, "a folder" if is_folder else "any other file")


def _by_name(folders: list[str], name: str) -> Iterator[Kind]:
    tables = _tables()[0]
    by_ending = _endings().get(_ending(name))
    language = by_ending[1] if by_ending else None
    for category, listed in tables["names"].items():
        for one in listed:
            text, _, spoken = one.partition(" = ")
            if name == text or (category == "documentation" and name.partition(".")[0] == text):
                yield _kind("names", one, category, spoken or language)
    if name in ecosystems().manifests:
        yield Kind("configuration", language, name, str(ECOSYSTEMS), ecosystems().manifests[name])
    for table in ("generated", "secret"):
        for one in tables[table]["patterns"]:
            text, _, spoken = one.partition(" = ")
            if fnmatch.fnmatchcase(name, text):
                yield _kind(table, one, table, spoken or language)
    for kind in _by_folder(folders):
        # Code among documents is code.
        if kind.category != "documentation" or not by_ending or by_ending[0] != "source":
            yield kind._replace(language=language)
    if by_ending:
        yield _kind(f"endings.{by_ending[0]}", by_ending[2], by_ending[0], language)


def _by_folder(folders: list[str]) -> Iterator[Kind]:
    for category, listed in _tables()[0]["folders"].items():
        for one in listed:
            if one in folders:
                yield _kind("folders", one, category, None)


def _kind(table: str, text: str, category: str, language: str | None, rule: str = "") -> Kind:
    line = _tables()[1].get((table, text), 0)
    return Kind(category, language, rule or text.partition(" = ")[0], str(KINDS), line)


@cache
def _endings() -> dict[str, tuple[str, str | None, str]]:
    """By ending: category, language, the ending."""
    return {
        ending: (category, language or None, ending)
        for category, languages in _tables()[0]["endings"].items()
        for language, endings in languages.items()
        for ending in endings
    }


def _ending(name: str) -> str:
    dot = name.rfind(".")
    ending = name[dot:] if dot > 0 else ""
    return ending if ending in _endings() else ending.lower()
