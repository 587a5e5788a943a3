"""A project's snapshots that come from elsewhere, with a vault's lock, limits and quota."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gitvault.core.utils.layout import disk_usage
from gitvault.vault.opened import WHOLE_LIMIT, Opened

if TYPE_CHECKING:
    from gitvault.core.backup_engine.incoming import Incoming


def incoming(vault: Opened, project: str) -> Incoming:
    """See Vault.incoming."""
    from gitvault.core.backup_engine.incoming import Incoming
    from gitvault.core.backup_engine.quota import Quota
    from gitvault.core.backup_engine.reading import Limits
    from gitvault.core.versioning import catalog

    history, config = vault.history, vault.config
    known = catalog.load(history)
    if history.tip(project) is None and not any(one.name == project for one in known):
        catalog.check_new(known, project)

    @contextmanager
    def lock() -> Iterator[None]:
        with vault._lock(f"import into {project}"):
            vault._quota = Quota(vault.path, config.quota, disk_usage(vault.path)) if config.quota else None
            try:
                yield
            finally:
                vault._quota = None

    limits = Limits(config.inline_limit, WHOLE_LIMIT, config.binary_extensions)
    return Incoming(project, history, vault.store, limits, lock=lock, admit=vault._admit)
