"""A project's snapshots that come from elsewhere, with a vault's lock, limits and quota."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from gitvault.core.utils.layout import disk_usage
from gitvault.core.utils.names import to_line
from gitvault.vault.opened import WHOLE_LIMIT, Opened

if TYPE_CHECKING:
    from gitvault.core.backup_engine.incoming import Incoming


def incoming(vault: Opened, project: str, path: str, host: str, archived: bool) -> Incoming:
    """See Vault.incoming."""
    from gitvault.core.backup_engine.incoming import Incoming
    from gitvault.core.backup_engine.quota import Quota
    from gitvault.core.backup_engine.reading import Limits

    config = vault.config
    _register(vault, project, path, host or config.machine, archived)

    @contextmanager
    def lock() -> Iterator[None]:
        with vault._lock(f"import into {project}"):
            vault._quota = Quota(vault.path, config.quota, disk_usage(vault.path)) if config.quota else None
            try:
                yield
            finally:
                vault._quota = None

    limits = Limits(config.inline_limit, WHOLE_LIMIT, config.binary_extensions)
    return Incoming(project, vault.history, vault.store, limits, lock=lock, admit=vault._admit)


def _register(vault: Opened, name: str, path: str, host: str, archived: bool) -> None:
    from gitvault.core.versioning import catalog
    from gitvault.policy.stack import stack_of

    with vault._lock(f"import into {name}"):
        known = catalog.lines(vault.history)
        live = [project for project in known if not project.removed]
        if any(project.name == name for project in live):
            return
        taken = any((project.path, project.host) == (path, host) for project in live)
        if host == vault.config.machine and (taken or not os.path.isdir(path)):
            archived = True
        found, *others = catalog.add(known, path, host, name, vault.now())
        found = replace(found, archived=archived, detected="" if archived else stack_of(path))
        catalog.save(vault.history, [found, *others], f"Add {to_line(os.fsencode(name))}")
