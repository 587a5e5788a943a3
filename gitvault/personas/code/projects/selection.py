"""Selections: words that say which projects are meant, such as `client:acme stack:python -tag:old`.

A word is a name, or KEY:VALUE; `-` before a KEY turns it around. All KEY words must fit, and one of the names if there
are any. Names and values may be patterns with `*`, `?` and `[...]`, case does not matter, and an empty value asks for
projects that have none. What is archived counts only when it is asked for: by `archived:` or by its whole name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from gitvault.core.models import Project
from gitvault.core.utils.names import near, to_line
from gitvault.errors import GitVaultError, NotFoundError

KEYS: dict[str, Callable[[Project], tuple[str, ...]]] = {
    "name": lambda project: (project.name,),
    "client": lambda project: (project.client,),
    "stack": lambda project: (project.stack,),
    "phase": lambda project: (project.phase,),
    "tag": lambda project: project.tags or ("",),
    "path": lambda project: (project.path,),
    "host": lambda project: (project.host,),
    "mode": lambda project: (project.mode,),
    "related": lambda project: tuple(other for _, other in project.relations) or ("",),
    "archived": lambda project: ("any", "yes" if project.archived else "no"),
}
"""What of a project a word can ask for; one value that fits is enough."""


class _Word(NamedTuple):
    key: str
    value: str
    turned: bool

    def fits(self, project: Project, related: dict[str, set[str]]) -> bool:
        values = KEYS[self.key](project)
        if self.key == "related":
            values = (*values, *related.get(project.name, ()))
        return self.turned != any(_like(value, self.value) for value in values)


def select(projects: Sequence[Project], words: Sequence[str], *, home: str = "") -> list[Project]:
    """The projects that are meant, in their order; without words all that are not archived.

    `home`: what `~` at the beginning of a path stands for. Raises GitVaultError for a word that means nothing,
    NotFoundError for a name without `*`, `?` or `[` that no project has.
    """
    read = [_read(word, home) for word in words]
    for word in read:
        plain = word.key == "name" and not word.turned and not re.search(r"[*?\[]", word.value)
        if plain and not any(_like(project.name, word.value) for project in projects):
            like = near(word.value, {project.name for project in projects})
            raise NotFoundError(f"{_shown(word.value)}: no such project{like}; git-vault projects lists them")
    names = [word for word in read if word.key == "name" and not word.turned]
    others = [word for word in read if word not in names]
    related: dict[str, set[str]] = {}
    for project in projects:
        for _, other in project.relations:
            related.setdefault(other, set()).add(project.name)
    asked = any(word.key == "archived" for word in others)

    def meant(project: Project) -> bool:
        called = any(project.name.casefold() == word.value.casefold() for word in names)
        return (
            (asked or called or not project.archived)
            and (not names or any(word.fits(project, related) for word in names))
            and all(word.fits(project, related) for word in others)
        )

    return [project for project in projects if meant(project)]


def chosen(projects: Sequence[Project], words: Sequence[str], *, home: str = "") -> list[str]:
    """The names of the projects that are meant, each once. Raises NotFoundError when there is none, as `select`."""
    found = list(dict.fromkeys(project.name for project in select(projects, words, home=home)))
    if not found:
        raise NotFoundError(f"{' '.join(map(_shown, words))}: no project is so; git-vault projects lists them")
    return found


def _read(word: str, home: str) -> _Word:
    key, colon, value = word.partition(":")
    turned = key.startswith("-")
    key = key.removeprefix("-")
    if not colon:
        if turned or not word:
            raise GitVaultError(f"{_shown(word)!r}: expected a name, or -KEY:VALUE with one of {', '.join(KEYS)}")
        return _Word("name", word, False)
    if key not in KEYS:
        allowed = ", ".join(KEYS)
        raise GitVaultError(f"{_shown(word)}: no key {_shown(key)}; expected {allowed}, or name:... for such a name")
    if key == "archived" and value not in ("yes", "no", "any"):
        raise GitVaultError(f"{_shown(word)}: expected archived:yes, archived:no or archived:any")
    if key == "path" and home and (value == "~" or value.startswith("~/")):
        value = home + value[1:]
    return _Word(key, value, turned)


def _like(value: str, pattern: str) -> bool:
    value, pattern = value.casefold(), pattern.casefold()
    # A name may hold brackets; `client:*` is any client, not none.
    return value == pattern or (value != "" and fnmatchcase(value, pattern))


def _shown(text: str) -> str:
    return to_line(text.encode("utf-8", "surrogateescape"))
