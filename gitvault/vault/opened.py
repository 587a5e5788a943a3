"""A vault's parts, opened and introduced to each other, and its lock."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from gitvault import config as settings
from gitvault.core import models
from gitvault.core.utils import layout, reserve
from gitvault.core.utils.files import Disk
from gitvault.core.utils.layout import is_vault
from gitvault.core.versioning.history import GitHistory
from gitvault.errors import GitVaultError, VaultNotFound

if TYPE_CHECKING:
    from gitvault.core.backup_engine.quota import Quota
    from gitvault.core.stat_cache import Caches
    from gitvault.core.storage.store import ChunkStore
    from gitvault.core.utils.lock import VaultLock

WHOLE_LIMIT = 16 << 20
"""Every file over this is stored in chunks, whatever it holds."""


class Opened:
    """The parts of one vault, each made when it is first asked for."""

    def __init__(
        self,
        path: Path | str,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        disk: Disk | None = None,
        waiting: Callable[[str], None] | None = None,
    ) -> None:
        """Nothing is read before it is needed. `waiting` is told what a run waits for."""
        self.path = Path(os.path.abspath(path))
        self.now = now
        self._disk = disk or Disk()
        self._waiting = waiting
        self._quota: Quota | None = None
        self._held: VaultLock | None = None

    @classmethod
    def create(cls, path: Path | str, **options: object) -> Self:
        """Make a vault, or open the one that is there. Raises ExistsError for a folder with something else in it."""
        vault = cls(path, **options)  # type: ignore[arg-type]
        vault.initialize_repository()
        vault._complete_if_free()
        return vault

    @classmethod
    def open(cls, path: Path | str, **options: object) -> Self:
        """Open a vault. Raises VaultNotFound, UnsupportedFormatVersion, ConfigError."""
        vault = cls(path, **options)  # type: ignore[arg-type]
        if wrong := layout.misplaced(vault.path):
            raise GitVaultError(f"{wrong}; nothing in a vault may lead out of it")
        if layout.is_damaged(vault.path):
            mend = f"git-vault --vault {vault.path} verify --repair"
            raise VaultNotFound(f"{vault.path}: its HEAD or its config is damaged or gone; write it anew with: {mend}")
        if not is_vault(vault.path):
            raise VaultNotFound(f"{vault.path}: not a vault; make one with: git-vault --vault {vault.path} init")
        _ = vault.config
        vault._complete_if_free()
        return vault

    def initialize_repository(self) -> None:
        """See BackupEngine."""
        if not is_vault(self.path):
            from gitvault.core.backup_engine.frame import make_frame

            make_frame(self.path, self._disk)
            reserve.keep(self.path, self.config.reserve, self._disk)
        _ = self.config

    @classmethod
    def mend(cls, path: Path | str, *, disk: Disk | None = None) -> list[models.Repair]:
        """Write `config` and `HEAD` anew where they are damaged, so that the vault can be opened; what was done."""
        from gitvault.core.backup_engine.frame import mend_frame

        return mend_frame(Path(os.path.abspath(path)), settings.is_setting, disk or Disk())

    def close(self) -> None:
        """Close files; the vault can still be used and opens them again."""
        for part in ("history", "store"):
            made = self.__dict__.pop(part, None)
            if made is not None:
                made.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- the parts -------------------------------------------------------------------------------

    @cached_property
    def config(self) -> settings.Config:
        """The settings that hold for this vault."""
        return settings.load(self.path)

    @cached_property
    def history(self) -> GitHistory:
        """The git side."""
        host = self.config.machine
        return GitHistory(
            self.path,
            name=self.config.user_name or "gitvault",
            email=self.config.user_email or f"gitvault@{host}",
            host=host,
            now=self.now,
            disk=self._disk,
            decode_pointer=_decode_pointer,
            guard=self._assert_held,
        )

    @cached_property
    def store(self) -> ChunkStore:
        """The chunk store."""
        from gitvault.core.storage.store import ChunkStore

        return ChunkStore(
            self.path / "chunks",
            cache=self.path / "cache",
            strategy=settings.chunking(self.config),
            level=self.config.compression_level,
            disk=self._disk,
            guard=self._assert_held,
            admit=self._admit,
        )

    def _admit(self, size: int) -> None:
        """A new pack: whether the quota, in a run that it is asked in, has room for it. Raises StorageFullError."""
        if self._quota:
            self._quota.admit(size)

    @contextlib.contextmanager
    def _lock(self, purpose: str, timeout: float | None = None) -> Iterator[None]:
        """Write alone; an operation that was interrupted is completed first.

        Raises LockedError, also from within when another machine took over meanwhile.
        """
        from gitvault.core.utils.lock import VaultLock

        self.demand_whole()
        config = self.config
        lock = VaultLock(
            self.path / layout.LOCK,
            purpose,
            config.lock_timeout if timeout is None else timeout,
            host=config.machine,
            disk=self._disk,
            waiting=self._waiting,
            fence=self.history.refs.clear_locks,
        )
        with lock:
            self._held = lock
            try:
                layout.clear_temporary(self.path, self._disk)
                if (self.path / layout.PENDING).exists():
                    from gitvault.core.versioning.operations import complete

                    complete(self.path, self.history.refs, self._disk)
                yield
            except OSError:
                # Its files are no longer there because whoever took over cleared them away?
                lock.assert_held()
                raise
            finally:
                self._held = None

    def demand_whole(self) -> None:
        """Raises GitVaultError for a vault that holds no more than was looked at."""
        if remote := self.config.inspects:
            raise GitVaultError(
                f"{self.path}: made to look at {remote}, and holds a part of it; for this use git-vault clone without "
                "--inspect"
            )

    def _assert_held(self) -> None:
        if self._held:
            self._held.assert_held()

    def _complete_if_free(self) -> None:
        """Who only reads sees an interrupted operation done; where that cannot be, what there is."""
        if not (self.path / layout.PENDING).exists():
            return
        with contextlib.suppress(OSError, GitVaultError), self._lock("complete an operation", timeout=0):
            pass

    @property
    def disk(self) -> Disk:
        """What the vault is written through."""
        return self._disk

    @property
    def caches(self) -> Caches:
        """What the last looks at projects saw."""
        from gitvault.core.stat_cache import Caches

        return Caches(self.path / "cache", self._disk)


def _decode_pointer(blob: bytes) -> models.Pointer | None:
    """A pointer in a tree is always ours: a user's own file that looks like one is in the store."""
    from gitvault.core.storage import pointers

    return pointers.decode(blob)
