"""What words on the command line mean."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from gitvault.core.utils.names import from_text

if TYPE_CHECKING:
    from gitvault.core.models import Project
    from gitvault.personas.base import Session
    from gitvault.vault import Vault

_Read = TypeVar("_Read")
# Projects that an error names.
_NAMED = 8

SNAPSHOT = "an id, PROJECT, PROJECT~2, PROJECT@{yesterday} or a date"
"""What SNAPSHOT may be, for the help."""


def disk_path(text: str) -> str:
    """A path of this system: as typed when something is there, else as JSON spells it."""
    if "\\x" not in text or os.path.lexists(text):
        return text
    return os.fsdecode(from_text(text))


def inner_path(text: str) -> bytes:
    """A path inside a snapshot: `./src/` and `src` are the same folder, `.` is everything."""
    return b"/".join(part for part in from_text(text).split(b"/") if part not in (b"", b"."))


def filled(read: Callable[[str], _Read]) -> Callable[[str], _Read]:
    """A reader of words that are not empty: what a shell leaves of a variable that is not set must name nothing."""

    def checked(text: str) -> _Read:
        if not text:
            raise argparse.ArgumentTypeError("cannot be empty")
        return read(text)

    return checked


def tag(text: str) -> str:
    """A tag without the blanks around it."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"expected a word, found {text!r}")
    return text.strip()


def pair(text: str) -> tuple[str, str]:
    """KEY=VALUE in two, without the blanks around them."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, found {text!r}")
    return key.strip(), value.strip()


def facts(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The values of all `--meta` by their keys; one key twice is wrong usage."""
    found = dict(pairs)
    for key in found:
        if [given for given, _ in pairs].count(key) > 1:
            raise wrong(f"argument --meta: {key!r} is given twice")
    return found


def count(text: str) -> int:
    """A number from 0 up."""
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected a number, found {text!r}")
    return min(int(text), sys.maxsize)


def date(*, end: bool) -> Callable[[str], datetime]:
    """A reader of dates; with `end` a day means its last moment."""

    def read(text: str) -> datetime:
        from gitvault.core.utils import dates

        try:
            return dates.parse(text, datetime.now(UTC), end=end)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


FACTS = {
    "client": "whom it is for",
    "chosen": "what it is made with (else: as its files show)",
    "phase": "how far it is",
}
"""What can be said of a project, as the catalog calls it, with the help for it."""


def add_facts(parser: argparse.ArgumentParser) -> None:
    """`--client`, `--stack`, `--phase`, `--tag`: an empty word takes away what was said."""
    for key, what in FACTS.items():
        name = key.replace("chosen", "stack")
        parser.add_argument(f"--{name}", dest=key, metavar=name[0].upper(), type=str.strip, help=what)
    what = "a word to find it by; repeatable"
    parser.add_argument("--tag", metavar="T", type=tag, action="append", default=[], help=what)


def add_selection(parser: argparse.ArgumentParser, what: str) -> None:
    """`--select WORDS`."""
    how = f"{what}: 'client:acme stack:python'; more in: git-vault projects -h"
    parser.add_argument("--select", metavar="WORDS", type=filled(_words), action="extend", default=[], help=how)


def _words(text: str) -> list[str]:
    import shlex

    try:
        return shlex.split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}, in {text!r}") from None


def selected(session: Session, words: Sequence[str]) -> list[Project]:
    """The projects that the words of a selection mean, see `projects -h`. Raises NotFoundError when they mean none."""
    from gitvault.personas.code.projects import chosen, select

    projects, home = session.vault.projects(), os.path.expanduser("~")
    if words:
        chosen(projects, words, home=home)
    return select(projects, words, home=home)


def names(session: Session, words: Sequence[str]) -> list[str]:
    """The names of `selected`, each once; none for no words."""
    return list(dict.fromkeys(project.name for project in selected(session, words))) if words else []


def project(session: Session, given: str | None) -> str:
    """The name of the project that is given, or that one stands in, or of the only one. Raises NotFoundError."""
    if given:
        return session.vault.project(given).name
    if standing := around(session, os.curdir):
        return standing.name
    known = sorted({one.name for one in session.vault.projects()})
    if not known:
        raise wrong("--project P: which one? there is none yet")
    if len(known) > 1:
        more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
        raise wrong(f"--project P: which one? there are {', '.join(known[:_NAMED])}{more}")
    return known[0]


def around(session: Session, path: str) -> Project | None:
    """The project of this machine in which a path lies, the innermost."""
    from gitvault.core.utils.layout import is_within

    where = os.path.realpath(path)
    found = [one for one in here(session, session.vault.projects()) if is_within(where, os.path.realpath(one.path))]
    return max(found, key=lambda one: len(one.path), default=None)


def here(session: Session, projects: Sequence[Project]) -> list[Project]:
    """Those that lie on this machine."""
    machine = session.vault.config.machine
    return [project for project in projects if project.host == machine]


def vault_for(session: Session, folder: str) -> Vault:
    """The vault to save a folder into; the default one is not made for one that is not there. Raises NotFoundError."""
    if not session.vault_path.exists():
        from gitvault.core.versioning.catalog import folder_of

        folder_of(folder)
    return session.vault


def command_line() -> list[str]:
    """How git-vault is run by others than this shell."""
    import shutil

    found = shutil.which("git-vault")
    return [found] if found else [sys.executable, "-P", "-m", "gitvault"]


def wrong(message: str) -> argparse.ArgumentError:
    """The error for arguments that do not go together; the command ends as with any wrong usage."""
    return argparse.ArgumentError(None, message)
