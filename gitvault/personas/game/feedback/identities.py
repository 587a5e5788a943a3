"""Who somebody is, taken out of records: hashes stand where a source names people, their addresses and machines."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

_KEYS = frozenset(
    "accountid assignee assignees author authors avatar avatarurl buyeremail closedby contact createdby deviceid"
    " deviceuniqueidentifier discriminator displayname email emailaddress firstname fullname gravatarid hostname ip"
    " ipaddress lastname login macaddress mail mentions nickname participants playerid playername playfabid"
    " platformuserid platformusername realname remoteaddr remoteip reporter reviewer steamid steamid64 updatedby user"
    " useremail userid username".split()
)
_PLAIN = str.maketrans("", "", "_-. ")
_ADDRESS = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
# What of somebody's description names them best.
_NAMES = ("steamid", "id", "login", "username", "name", "email")
_DEEPEST = 64


def without_addresses(text: str) -> str:
    """The text with a word for each mail address."""
    return _ADDRESS.sub("(address)", text) if "@" in text else text


def scrubber(hashed: Callable[[str], str], more: Iterable[str] = ()) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """What makes of a raw record one without identities; `more`: further keys that hold some, however they are spelt.

    It raises ValueError for a record that is nested too deeply.
    """
    keys = _KEYS | {_plain(key) for key in more}

    @lru_cache(1 << 12)
    def names_somebody(key: str) -> bool:
        return _plain(key) in keys

    def of(value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return _ADDRESS.sub("(address)", value) if "@" in value else value
        if isinstance(value, dict):
            if depth > _DEEPEST:
                raise ValueError(f"nested more than {_DEEPEST} deep")
            return {
                key: somebody(inner) if names_somebody(key) and inner else of(inner, depth + 1)
                for key, inner in value.items()
            }
        if isinstance(value, list):
            if depth > _DEEPEST:
                raise ValueError(f"nested more than {_DEEPEST} deep")
            return [of(inner, depth + 1) for inner in value]
        return value

    def somebody(value: Any) -> Any:
        if isinstance(value, list):
            return [somebody(inner) for inner in value]
        if isinstance(value, dict):
            value = next((value[name] for name in _NAMES if isinstance(value.get(name), str | int)), repr(value))
        return {"player": hashed(str(value))}

    return lambda raw: dict(of(raw, 0))


def _plain(key: str) -> str:
    return key.translate(_PLAIN).lower()
