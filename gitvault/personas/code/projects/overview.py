"""What there is to say about projects: each with the number of its snapshots and the newest of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gitvault.core.models import Project, Snapshot
from gitvault.errors import CorruptionError, NotFoundError
from gitvault.personas.code.projects.selection import select
from gitvault.vault import Vault


class Standing(NamedTuple):
    """A project, and how well it is saved."""

    project: Project
    snapshots: int
    newest: Snapshot | None
    """None: never saved, or damaged."""


def overview(vault: Vault, words: Sequence[str] = (), *, home: str = "") -> list[Standing]:
    """The selected projects, one for each machine that has it. Raises what `select` raises."""
    projects = select(vault.projects(), words, home=home)
    numbers = vault.snapshot_counts([project.name for project in projects])
    return [Standing(project, numbers[project.name], _newest(vault, project)) for project in projects]


def _newest(vault: Vault, project: Project) -> Snapshot | None:
    try:
        return vault.get_snapshot_info(project.name)
    except (NotFoundError, CorruptionError):
        return None
