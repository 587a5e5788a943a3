"""From a name or a URL to a remote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gitvault.core.utils.files import Disk
from gitvault.remotes.places import open_place
from gitvault.remotes.remote import Remote
from gitvault.remotes.settings import Settings


def open_remote(
    told: Settings, environment: Mapping[str, str], *, vault: Path | None = None, disk: Disk | None = None
) -> Remote:
    """The remote that settings tell of. `vault`: whose caches keep what is read of its index. Raises ConfigError."""
    place = open_place(told.url, environment, rate=told.rate, disk=disk)
    cache = vault / "cache" / "remotes" / f"{told.name}.index" if vault else None
    return Remote(place, told.url, cache=cache, disk=disk)
