"""Where settings are read from: a folder on disk, or a snapshot."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.core.models import Problem
from gitvault.core.utils.files import open_source, scan_source
from gitvault.core.utils.names import from_text, to_text
from gitvault.errors import NotFoundError
from gitvault.personas.game.platforms.nodes import decoded

if TYPE_CHECKING:
    from gitvault.vault import Vault

_LARGEST = 16 << 20
_MOST_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class Tree:
    """A project's files. Paths are relative, with `/`, as JSON of the command line spells them; "" is the project."""

    names: Callable[[str], dict[str, bool]]
    """What a folder holds, with whether it is a folder; nothing for what is no folder."""
    read: Callable[[str], bytes | None]
    """A file's bytes; None where there is none. Raises ValueError for one that is too large, OSError."""

    def below(self, folder: str) -> Tree:
        """One of its folders."""
        return Tree(lambda path: self.names(_joined(folder, path)), lambda path: self.read(_joined(folder, path)))


class Reader:
    """Texts of a tree; what cannot be read, or not be understood, becomes a problem."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.problems: list[Problem] = []
        self._counts: dict[str, int] = {}

    def text(self, path: str) -> str | None:
        """A file's text; None for one that is not there or not readable."""
        try:
            data = self.tree.read(path)
            if data is None:
                return None
            text, guessed = decoded(data)
        except (ValueError, OSError) as error:
            self.problem(path, error)
            return None
        if guessed:
            self.problem(path, "not UTF-8; read as Latin-1")
        return text

    def problem(self, path: str, why: Exception | str) -> None:
        """Note what is wrong with a file."""
        reason = (why.strerror or str(why)) if isinstance(why, OSError) else str(why)
        self.problems.append(Problem(from_text(path), reason))
        self._counts[path] = self._counts.get(path, 0) + 1
        if self.gave_up(path):
            self.problems.append(Problem(from_text(path), "the rest of it is not read"))

    def gave_up(self, path: str) -> bool:
        """Whether so much is wrong with a file that the rest of it is not worth reading."""
        return self._counts.get(path, 0) >= _MOST_PROBLEMS


def on_disk(root: Path) -> Tree:
    """A folder. Raises NotFoundError."""
    if not root.is_dir():
        raise NotFoundError(f"{to_text(os.fsencode(root))}: no such folder")

    def place(path: str) -> str:
        return os.path.join(root, os.fsdecode(from_text(path)))

    def names(path: str) -> dict[str, bool]:
        try:
            with scan_source(place(path)) as entries:
                return {to_text(os.fsencode(entry.name)): entry.is_dir() for entry in entries}
        except (FileNotFoundError, NotADirectoryError):
            return {}

    def read(path: str) -> bytes | None:
        try:
            # Not waiting for a writer where a pipe has the name.
            fd = open_source(place(path)) if stat.S_ISREG(os.stat(place(path)).st_mode) else None
        except (FileNotFoundError, NotADirectoryError):
            return None
        if fd is None:
            return None
        with open(fd, "rb") as file:
            return _bounded(file.read(_LARGEST + 1))

    return Tree(names, read)


def in_snapshot(vault: Vault, snapshot: str) -> Tree:
    """A snapshot's files. Raises NotFoundError."""
    vault.get_snapshot_info(snapshot)

    def names(path: str) -> dict[str, bool]:
        try:
            held = list(vault.entries(snapshot, from_text(path)))
        except NotFoundError:
            return {}
        # Of a file: itself.
        inner = [entry for entry in held if entry.path != from_text(path)]
        return {to_text(entry.path.rpartition(b"/")[2]): entry.kind == "folder" for entry in inner}

    def read(path: str) -> bytes | None:
        above, _, name = path.rpartition("/")
        if names(above).get(name, True):
            return None
        [entry] = vault.entries(snapshot, from_text(path))
        if entry.size > _LARGEST:
            return _bounded(bytes(_LARGEST + 1))
        target = BytesIO()
        vault.read_file(snapshot, entry.path, target)
        return target.getvalue()

    return Tree(names, read)


def _bounded(data: bytes) -> bytes:
    if len(data) > _LARGEST:
        raise ValueError("larger than 16 MiB; settings are not")
    return data


def _joined(folder: str, path: str) -> str:
    return f"{folder}/{path}".strip("/")
