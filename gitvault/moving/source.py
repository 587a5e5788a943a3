"""What a place to move in from has to tell."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import BinaryIO, Protocol

from gitvault.core.backup_engine.incoming import Changes, Given
from gitvault.core.models import Problem
from gitvault.errors import NotFoundError


@dataclass(frozen=True, slots=True)
class Copy:
    """One state of some files, as the source keeps it: a snapshot, an archive, a commit, a folder."""

    id: str
    """What the source calls it, whatever is renamed there."""
    name: str
    """For people."""
    time: datetime
    """Aware."""
    line: tuple[str, ...]
    """Copies with the same value follow each other: states of the same files."""
    project: str
    """What the line may be called here."""
    root: str = ""
    """Where the files were, absolute; empty where that is not known."""
    host: str = ""
    message: str = ""
    tags: Sequence[str] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    """More that is said of it, by keys without their kind."""


def expect_folder(repository: str) -> None:
    """Raises NotFoundError for the repository of another program that is a folder and is not there."""
    if ":" not in repository and not os.path.isdir(repository):
        raise NotFoundError(f"{os.path.abspath(repository)}: no such folder")


class Source(Protocol):
    """A place to move in from. It is only read. Errors: ToolError, CorruptionError, NotFoundError, OSError."""

    kind: str
    place: str
    """Where it is."""
    problems: list[Problem]
    """What of the copies can be no file here; each once."""

    def copies(self) -> Sequence[Copy]:
        """All of them, the oldest of a line first."""

    def changes(self, copy: Copy, before: Copy | None) -> tuple[Changes, Mapping[bytes, Given]]:
        """What is different from `before`, an earlier one of its line, and what of that has to be read; by path.

        Where it need not be read, content is as it was at the path. None: from nothing.
        """

    def contents(self, copy: Copy, wanted: Mapping[bytes, Given]) -> Iterator[tuple[Given, BinaryIO | None]]:
        """What was asked for, in any order, with all that is known now; a stream ends with the next step.

        None instead of one: it cannot be read, as `problems` say.
        """

    def close(self) -> None:
        """End what runs, remove what was laid down."""
