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
    from gitvault.core.models import Project


def incoming(vault: Opened, project: str, path: str, host: str, archived: bool) -> Incoming:
    """See Vault.incoming."""
    from gitvault.core.backup_engine.incoming import Incoming
    from gitvault.core.backup_engine.quota import Quota
    from gitvault.core.backup_engine.reading import Limits
    from gitvault.core.versioning import catalog

    config = vault.config

    def added() -> list[Project]:
        return _added(vault, project, path, host or config.machine, archived)

    # A name that no project can have is told before anything is read.
    with vault._lock(f"import into {project}"):
        added()

    def register() -> None:
        if projects := added():
            catalog.save(vault.history, projects, f"Add {to_line(os.fsencode(project))}")

    @contextmanager
    def lock() -> Iterator[None]:
        with vault._lock(f"import into {project}"):
            vault._quota = Quota(vault.path, config.quota, disk_usage(vault.path)) if config.quota else None
            try:
                yield
            finally:
                vault._quota = None

    limits = Limits(config.inline_limit, WHOLE_LIMIT, config.binary_extensions)
    return Incoming(project, vault.history, vault.store, limits, lock=lock, admit=vault._admit, register=register)


def _added(vault: Opened, name: str, path: str, host: str, archived: bool) -> list[Project]:
    """All projects with the new one; none when it is there already."""
    from gitvault.core.versioning import catalog
    from gitvault.policy.stack import stack_of

    known = catalog.lines(vault.history)
    live = [project for project in known if not project.removed]
    if any(project.name == name for project in live):
        return []
    taken = any((project.path, project.host) == (path, host) for project in live)
    if host == vault.config.machine and (taken or not os.path.isdir(path)):
        archived = True
    found, *others = catalog.add(known, path, host, name, vault.now())
    return [replace(found, archived=archived, detected="" if archived else stack_of(path)), *others]
