"""The programming languages that are understood: which one a file is in, and its tree-sitter grammar."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from gitvault.errors import NotFoundError, ToolMissing

if TYPE_CHECKING:
    from tree_sitter import Language, Query

_VERSION = re.compile(r"[\d.]+$")
_ALIASES = {"c++": "cpp", "c#": "csharp", "js": "javascript", "ts": "typescript", "py": "python", "sh": "bash"}


@dataclass(frozen=True, slots=True)
class Grammar:
    """What is needed to read one language."""

    name: str
    language: Language
    definitions: Query
    calls: Query
    comments: Query


@cache
def _table() -> dict[str, dict[str, Any]]:
    text = files(__package__).joinpath("languages.toml").read_text("utf-8")
    table: dict[str, dict[str, Any]] = tomllib.loads(text)
    return {name: {**table[row["same"]], **row} if "same" in row else row for name, row in table.items()}


@cache
def _by(key: str) -> dict[str, str]:
    own = (
        (word, name)
        for name, row in tomllib.loads(files(__package__).joinpath("languages.toml").read_text("utf-8")).items()
        for word in row.get(key, ())
    )
    return dict(own)


def languages() -> list[str]:
    """The names that `--lang` takes."""
    return sorted(_table())


def named(name: str) -> str:
    """A language by what people call it. Raises NotFoundError for one that is not known."""
    wanted = name.strip().lower()
    wanted = _ALIASES.get(wanted) or _by("extensions").get(wanted.removeprefix(".")) or wanted
    if wanted not in _table():
        raise NotFoundError(f"{name!r}: not a language that is known; give one of {', '.join(languages())}")
    return wanted


def globs(language: str) -> tuple[str, ...]:
    """Patterns, as in .gitignore, for the names of files in a language."""
    row = _table()[language]
    return (*(f"*.{ending}" for ending in row.get("extensions", ())), *row.get("names", ()))


def language_of(path: bytes, head: bytes = b"") -> str | None:
    """The language of a file by its name, else by the `#!` line that its content `head` begins with."""
    name = path.rpartition(b"/")[2].decode("utf-8", "replace")
    stem, dot, ending = name.rpartition(".")
    found = _by("names").get(name) or (_by("extensions").get(ending.lower()) if dot and stem else None)
    if found or (dot and stem) or not head.startswith(b"#!"):
        return found
    program = _program(head[2:200].partition(b"\n")[0].decode("utf-8", "replace").split())
    return _by("programs").get(program) or _by("programs").get(_VERSION.sub("", program))


def _program(words: list[str]) -> str:
    """The interpreter that a `#!` line names, also through `env`."""
    names = [word.rpartition("/")[2] for word in words if not word.startswith("-") and "=" not in word]
    return next((name for name in names if name != "env"), "")


@cache
def grammar(name: str) -> Grammar:
    """A language's grammar and queries. Raises ToolMissing when its wheel is not installed."""
    row = _table()[name]
    module, _, function = row["grammar"].partition(":")
    try:
        from tree_sitter import Language, Query

        made = getattr(import_module(module), function or "language")
    except ImportError as error:
        package = module.replace("_", "-")
        raise ToolMissing(f"{package}: not installed; get it with: pip install 'gitvault[code]'") from error
    language = Language(made())
    comments = " ".join(f"({kind}) @comment" for kind in row["comments"])
    return Grammar(
        name, language, Query(language, row["definitions"]), Query(language, row["calls"]), Query(language, comments)
    )
