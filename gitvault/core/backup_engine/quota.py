"""How much a vault may take, and how much of it a run has used."""

from __future__ import annotations

from pathlib import Path

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

    def admit(self, size: int) -> None:
        """Account for a new file of `size` bytes. Raises StorageFullError for one that does not fit."""
        if self._used + size > self._limit:
            self.reached = True
            raise StorageFullError(
                f"{self._path}: {_shown(self._used)} of the {_shown(self._limit)} that vault.quota allows are taken, "
                f"{_shown(size)} more are needed; git-vault prune and then sweep, or raise vault.quota"
            )
        self._used += size

    def note(self) -> str | None:
        """What to tell when little is left."""
        if self._used < _NEARLY * self._limit:
            return None
        return (
            f"the vault takes {_shown(self._used)} of the {_shown(self._limit)} that vault.quota allows; "
            "git-vault prune and then sweep give space back"
        )


def _shown(size: int) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if size >= unit:
            return f"{size / unit:.2f} {name}"
    return f"{size / 1e3:.0f} kB"
