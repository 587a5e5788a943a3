"""What a parser is, for the tests that feed it whatever comes to mind."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from gitvault.errors import GitVaultError


@dataclass(frozen=True, slots=True)
class Target:
    """A parser. `seeds`: what it is meant to read; `allowed`: what it may raise beside GitVaultError.

    `found`: what it once could not take.
    """

    run: Callable[[bytes], object]
    seeds: Sequence[bytes]
    allowed: tuple[type[Exception], ...] = ()
    found: Sequence[bytes] = ()


def feed(target: Target, data: bytes) -> None:
    """Let the parser read `data`; what it must not raise comes through."""
    with contextlib.suppress(GitVaultError, *target.allowed):
        target.run(data)


class Place:
    """A file in a folder of its own, written anew for each input."""

    def __init__(self, name: str) -> None:
        self._folder = TemporaryDirectory()
        self.path = Path(self._folder.name, name)
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def put(self, data: bytes) -> Path:
        # Not in place: what has it mapped would see it change.
        self.path.unlink(missing_ok=True)
        self.path.write_bytes(data)
        return self.path
