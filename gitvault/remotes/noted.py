"""Names that a vault remembers of a remote, in its cache: disposable."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from gitvault.errors import GitVaultError
from gitvault.vault import Vault


class Noted:
    """Of one remote and for one purpose: `seen`, parts and older records that were fetched or looked at once; `read`,
    parts whose bytes this machine has had, and found to be what they say.
    """

    def __init__(self, vault: Vault, remote: str, purpose: str) -> None:
        self._path = vault.path / "cache" / "remotes" / f"{remote}.{purpose}"
        self._disk = vault.disk

    def names(self) -> set[str]:
        """What is remembered."""
        with suppress(OSError):
            return set(self._path.read_text("ascii").split())
        return set()

    def note(self, names: Iterable[str]) -> None:
        """Remember these, and no others, as far as that can be."""
        with suppress(OSError, GitVaultError):
            self._disk.make_folder(self._path.parent)
            self._disk.write_durably(self._path, "".join(f"{name}\n" for name in sorted(set(names))).encode())
