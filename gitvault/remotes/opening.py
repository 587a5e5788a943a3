"""From a name or a URL to a remote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gitvault.core.utils.files import Disk
from gitvault.errors import ConfigError, NotFoundError, RemoteSealed
from gitvault.remotes import sealed, settings
from gitvault.remotes.places import Place, open_place, scheme_of
from gitvault.remotes.remote import MARKER, Remote
from gitvault.remotes.settings import Settings


def open_remote(
    told: Settings, environment: Mapping[str, str], *, vault: Path | None = None, disk: Disk | None = None
) -> Remote:
    """The remote that settings tell of. `vault`: whose caches keep what is read of its index, and whose settings note
    what was learned of a sealed one.

    Raises ConfigError, and for a sealed remote RemoteError and its kinds.
    """
    place = open_place(told.url, environment, rate=told.rate, disk=disk)
    learned: dict[str, str | tuple[str, ...]] = {}
    if told.encrypt or told.identity:
        learned = _learned(place, told)
        if vault and (new := learned.keys() - told.values.keys()):
            settings.note(vault, told.name, {key: learned[key] for key in sorted(new)}, disk=disk)
        place = sealed.Sealed(
            place,
            learned["encrypt"],
            bytes.fromhex(str(learned["sealing"])),
            Path(told.identity) if told.identity else None,
            memory=vault / "remotes" / told.name if vault else None,
            disk=disk,
        )
    cache = vault / "cache" / "remotes" / f"{told.name}.index" if vault else None
    hasty = scheme_of(told.url) in ("s3", "gs", "az")
    return Remote(place, told.url, cache=cache, disk=disk, learned=learned, hasty=hasty)


def _learned(place: Place, told: Settings) -> dict[str, str | tuple[str, ...]]:
    """What a machine has to know of a sealed remote: from its settings, from the remote, or, of a new one, made up."""
    recipients = told.encrypt
    if told.sealing:
        key = bytes.fromhex(told.sealing)
    elif told.identity and sealed.is_sealed(place):
        key, known = sealed.learn(place, Path(told.identity))
        recipients = recipients or tuple(known)
    elif sealed.is_sealed(place):
        raise RemoteSealed(
            f"{told.url}: another machine encrypted it; give the key that opens it once: --identity FILE"
        )
    elif _is_plain(place):
        raise ConfigError(f"{told.url}: the vault there is not encrypted; encrypt into an empty place")
    else:
        key = sealed.new_key()
        if told.identity and recipients:
            sealed.demand_pair(recipients, Path(told.identity))
    if not recipients:
        raise ConfigError(f"{told.url}: no vault there that a key opens; --encrypt RECIPIENT makes one")
    found: dict[str, str | tuple[str, ...]] = {"encrypt": recipients, "sealing": key.hex()}
    return {**found, "identity": told.identity} if told.identity else found


def _is_plain(place: Place) -> bool:
    try:
        place.get(MARKER, 0, 1)
    except NotFoundError:
        return False
    return True
