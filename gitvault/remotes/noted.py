"""Names that a vault remembers of a remote, in its cache: disposable."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.core.utils.files import Disk
from gitvault.errors import GitVaultError

if TYPE_CHECKING:
    from gitvault.vault import Vault


def read_names(path: Path) -> set[str]:
    """The names in a file; none where it cannot be read."""
    with suppress(OSError):
        return set(path.read_text("ascii").split())
    return set()


def write_names(path: Path, names: Iterable[str], disk: Disk) -> None:
    """Let a file hold these names, durably. Raises OSError, StorageFullError."""
    disk.make_folder(path.parent)
    disk.write_durably(path, "".join(f"{name}\n" for name in sorted(set(names))).encode())


class Noted:
    """Of one remote and for one purpose: `seen`, parts and older records that were fetched or looked at once; `read`,
    parts whose bytes this machine has had, and found to be what they say.
    """

    def __init__(self, vault: Vault, remote: str, purpose: str) -> None:
        self._path = vault.path / "cache" / "remotes" / f"{remote}.{purpose}"
        self._disk = vault.disk

    def names(self) -> set[str]:
        """What is remembered."""
        return read_names(self._path)

    def note(self, names: Iterable[str]) -> None:
        """Remember these, and no others, as far as that can be."""
        with suppress(OSError, GitVaultError):
            write_names(self._path, names, self._disk)
