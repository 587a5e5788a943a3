"""Pushes in the background: started after a snapshot, and told with the next one when they did not arrive."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gitvault.core.utils import process
from gitvault.core.utils.files import Disk
from gitvault.errors import GitVaultError


@dataclass(frozen=True, slots=True)
class Last:
    """The last push to a remote that arrived, and why those since did not."""

    pushed: str = ""
    """When, in UTC; empty: never."""
    said: str = ""
    """Empty: nothing waits."""


def last(vault: Path, name: str) -> Last:
    """What is noted of a remote."""
    with suppress(OSError, ValueError, TypeError, AttributeError, RecursionError):
        said = json.loads(_file(vault, name).read_text("utf-8"))
        return Last(str(said.get("pushed", "")), str(said.get("said", "")))
    return Last()


def note(vault: Path, name: str, now: datetime, said: str, disk: Disk) -> None:
    """Note that a push arrived, or, `said`, why not. Where nothing can be noted, nothing is."""
    moment = last(vault, name).pushed if said else now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    file = _file(vault, name)
    with suppress(OSError, GitVaultError):
        disk.make_folder(file.parent)
        disk.write_durably(file, json.dumps({"pushed": moment, "said": said}).encode())


def notes(vault: Path, names: Iterable[str]) -> Iterator[str]:
    """What a snapshot says of remotes that pushes did not reach."""
    for name in names:
        if said := last(vault, name).said:
            yield f"not yet pushed to {name}: {said}"


def start(vault: Path) -> None:
    """Push to what is pushed to by itself, in the background."""
    process.start_detached(["-m", "gitvault", "--vault", os.fspath(vault), "push", "--auto", "--quiet"])


def _file(vault: Path, name: str) -> Path:
    return vault / "cache" / "remotes" / f"{name}.last"
