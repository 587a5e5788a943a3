"""What a persona is: a name and verbs for the command line. Packages add theirs by entry point.

The command line's own verbs are the same records.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from gitvault.core.interfaces import Progress
    from gitvault.core.models import Problem
    from gitvault.plugins import Plugin
    from gitvault.vault import Vault


@dataclass(frozen=True, slots=True)
class Answer:
    """What a verb found or did, for programs and for people."""

    document: Mapping[str, object] | Sequence[object] | Callable[[TextIO], None]
    """What `--json` prints: strings, numbers, booleans, None, lists and dicts.

    What is too large to hold: a function that writes the document and a newline.
    """
    lines: Iterable[str] = ()
    """What people read; taken lazily, and not at all for `--json`."""
    hints: Sequence[str] = ()
    """Commands that may come next; left out with `--quiet`."""
    code: int = 0
    """The exit code."""
    problems: Sequence[Problem] = ()
    """What can only be given in part, known when the lines are taken: said on standard error, exit code 1 if 0."""


class Session(Protocol):
    """What a verb is given."""

    @property
    def vault_path(self) -> Path:
        """Where the vault is, or would be."""

    @property
    def vault(self) -> Vault:
        """The vault, opened on first use. Raises VaultNotFound and what opening raises."""

    @property
    def command(self) -> str:
        """How a command on this vault begins: `git vault`, when it is not the default with its `--vault DIR`."""

    def command_for(self, vault: str | None) -> str:
        """`command`, for another vault when there is one."""

    @property
    def progress(self) -> Progress:
        """Shows how far the work is, when somebody is looking."""


@dataclass(frozen=True, slots=True)
class Verb:
    """One command."""

    name: str
    summary: str
    """One line, lower case."""
    example: str
    """Commands to copy, one per line."""
    configure: Callable[[ArgumentParser], None]
    """Adds the arguments; `--json`, `-h` and the global options are there already."""
    run: Callable[[Session, Namespace], Answer]
    creates: bool = False
    """Whether it makes the default vault when there is none."""


@dataclass(frozen=True, slots=True)
class Persona:
    """A group of people that gitvault serves, and the verbs they need."""

    name: str
    summary: str
    verbs: tuple[Verb, ...] = ()


def chosen_vault(given: str | None = None) -> Path:
    """Where the vault is: as `given`, else what GIT_VAULT_DIR says, else the default vault."""
    named = given or os.environ.get("GIT_VAULT_DIR")
    if named:
        return Path(named).absolute()
    from gitvault import config

    return config.default_vault()


def personas() -> tuple[Persona, ...]:
    """Every persona there is. Raises ConfigError for a plug-in that does not work."""
    from gitvault import plugins

    return tuple(map(persona_plugin, plugins.installed(plugins.PERSONAS)))


def persona_plugin(plugin: Plugin) -> Persona:
    """The persona that a plug-in brings. Raises ConfigError when it brings something else."""
    record = plugin.load()
    if not isinstance(record, Persona):
        raise plugin.wrong(record, "a gitvault.personas.base.Persona")
    return record
