"""What a vault's configuration says of its remotes: `vault.remote.NAME.KEY`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from gitvault import config
from gitvault.core.utils.files import Disk
from gitvault.core.utils.process import git
from gitvault.errors import ConfigError, ExistsError, NotFoundError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_TRUE = ("true", "yes", "on", "1")


@dataclass(frozen=True, slots=True)
class Settings:
    """One remote."""

    name: str
    url: str
    auto: bool = False
    """Pushed to after each snapshot, in the background."""
    rate: int = 0
    """Bytes a second, both ways together; 0: no limit."""
    id: str = ""
    """Of the vault that the remote holds, once that is known."""
    chain: str = ""
    """Of the records that this vault writes there."""
    chunks: str = ""
    """Of a git remote: the remote that the large files go to; empty: none."""
    encrypt: tuple[str, ...] = ()
    """Who can read what is pushed: public keys; empty: it is not encrypted."""
    identity: str = ""
    """A file with the secret keys that open what is there."""
    sealing: str = ""
    """The key of names on an encrypted remote, in hex. It opens nothing."""
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """All keys, lower case, with all their values: for what wraps a place."""


def load(vault: Path) -> dict[str, Settings]:
    """The remotes by name. Raises ConfigError."""
    listing = git(vault, "config", "-z", "--get-regexp", r"^vault\.remote\.", ok=(0, 1))
    found: dict[str, dict[str, list[str]]] = {}
    for pair in listing.decode("utf-8", "surrogateescape").split("\0"):
        key, _, value = pair.partition("\n")
        name, dot, last = key.removeprefix("vault.remote.").rpartition(".")
        if dot:
            found.setdefault(name, {}).setdefault(last, []).append(value)
    return {name: _read(name, values) for name, values in sorted(found.items()) if "url" in values}


def get(vault: Path, name: str) -> Settings:
    """The remote of that name. Raises NotFoundError, ConfigError."""
    known = load(vault)
    if name not in known:
        there = f"there are {', '.join(known)}" if known else "there is none"
        raise NotFoundError(f"{name}: no such remote, {there}; add it with: git-vault remote add {name} URL")
    return known[name]


def add(vault: Path, name: str, values: Mapping[str, str | tuple[str, ...]], *, disk: Disk | None = None) -> None:
    """Note a remote. Raises ExistsError, ConfigError for a name or value that cannot be, what `config.edit` does."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r}: not a name for a remote; use letters, digits, - and _")
    if urlsplit(str(values["url"])).password:
        raise ConfigError(f"{name}: a password does not belong into a URL; use a key, or git's credential helper")
    if name in load(vault):
        raise ExistsError(f"{name}: there is such a remote; remove it first, or choose another name")
    _read(name, {key: [value] if isinstance(value, str) else list(value) for key, value in values.items()})
    note(vault, name, values, disk=disk)


def note(vault: Path, name: str, values: Mapping[str, str | tuple[str, ...]], *, disk: Disk | None = None) -> None:
    """Write keys of a remote, instead of what there is of them; all or none. Raises what `config.edit` does."""
    changes = [
        change
        for key, value in values.items()
        for change in config.assign(f"vault.remote.{name}.{key}", (value,) if isinstance(value, str) else value)
    ]
    config.edit(vault, *changes, disk=disk)


def remove(vault: Path, name: str, *, disk: Disk | None = None) -> None:
    """Forget a remote; what is there stays. Raises NotFoundError, what `config.edit` does."""
    get(vault, name)
    config.edit(vault, ("--remove-section", f"vault.remote.{name}"), disk=disk)


def _read(name: str, values: Mapping[str, list[str]]) -> Settings:
    def last(key: str) -> str:
        return values.get(key, [""])[-1]

    return Settings(
        name,
        last("url"),
        last("auto").lower() in _TRUE,
        _rate(name, last("rate")),
        last("id"),
        last("chain"),
        last("chunks"),
        tuple(values.get("encrypt", ())),
        last("identity"),
        last("sealing"),
        {key: tuple(each) for key, each in values.items()},
    )


def _rate(name: str, text: str) -> int:
    if not text:
        return 0
    found = re.fullmatch(r"([0-9]{1,15})([kmg]?)", text.lower())
    if not found:
        raise ConfigError(
            f"vault.remote.{name}.rate = {text}: expected bytes a second, such as 500k or 2m; 0: no limit"
        )
    return int(found[1]) * _SIZES[found[2]]
