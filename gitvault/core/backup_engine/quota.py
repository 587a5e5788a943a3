"""How much a vault may take, and how much of it a run has used."""

from __future__ import annotations

from pathlib import Path

from gitvault.core.utils.sizes import size
from gitvault.errors import StorageFullError

_NEARLY = 0.9


class Quota:
    """`limit` bytes for the vault at `path`, of which it takes `used` already. Safe for several threads that add up."""

    def __init__(self, path: Path, limit: int, used: int) -> None:
        self._path = path
        self._limit = limit
        self._used = used
        self.reached = False
        """Whether something was kept out."""

    def admit(self, count: int) -> None:
        """Account for a new file of `count` bytes. Raises StorageFullError for one that does not fit."""
        if self._used + count > self._limit:
            self.reached = True
            raise StorageFullError(
                f"{self._path}: {size(self._used)} of the {size(self._limit)} that vault.quota allows are taken, "
                f"{size(count)} more are needed; git-vault prune and then sweep, or raise vault.quota"
            )
        self._used += count

    def note(self) -> str | None:
        """What to tell when little is left."""
        if self._used < _NEARLY * self._limit:
            return None
        return (
            f"the vault takes {size(self._used)} of the {size(self._limit)} that vault.quota allows; "
            "git-vault prune and then sweep give space back"
        )
