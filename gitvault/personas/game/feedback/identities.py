"""Who somebody is, taken out of records: hashes stand where a source names people, their addresses and machines."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from math import isfinite
from typing import Any

_KEYS = frozenset(
    [
        "accountid",
        "assignee",
        "assignees",
        "author",
        "authors",
        "avatar",
        "avatarurl",
        "buyeremail",
        "closedby",
        "contact",
        "createdby",
        "deviceid",
        "deviceuniqueidentifier",
        "discriminator",
        "displayname",
        "email",
        "emailaddress",
        "firstname",
        "fullname",
        "gravatarid",
        "hostname",
        "ip",
        "ipaddress",
        "lastname",
        "login",
        "macaddress",
        "mail",
        "mentions",
        "nickname",
        "participants",
        "playerid",
        "playername",
        "playfabid",
        "platformuserid",
        "platformusername",
        "realname",
        "remoteaddr",
        "remoteip",
        "reporter",
        "reviewer",
        "steamid",
        "steamid64",
        "updatedby",
        "user",
        "useremail",
        "userid",
        "username",
    ]
)
_PLAIN = str.maketrans("", "", "_-. ")
_ADDRESS = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
# What of somebody's description names them best.
_NAMES = ("steamid", "id", "login", "username", "name", "email")
_DEEPEST = 64
_SPELLINGS = 1 << 12
"""How many keys are kept in mind."""
_WORD = "(address)"


def without_addresses(text: str) -> str:
    """The text with a word for each mail address."""
    return _ADDRESS.sub(_WORD, text) if "@" in text else text


def scrubber(hashed: Callable[[str], str], more: Iterable[str] = ()) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What makes of a raw record one without identities; `more`: further keys that hold some, however they are spelt.

    It raises ValueError for a record that is nested too deeply, and for a number that no JSON can hold.
    """
    keys = _KEYS | {_plain(key) for key in more}

    class Known(dict[str, bool]):
        """By key whether it names somebody: asked for each key of each record, so a look-up and no call."""

        def __missing__(self, key: str) -> bool:
            found = _plain(key) in keys
            if len(self) < _SPELLINGS:
                self[key] = found
            return found

    names_somebody = Known()

    def of(inside: dict[str, Any], depth: int) -> dict[str, Any]:
        if depth > _DEEPEST:
            raise ValueError(f"nested more than {_DEEPEST} deep")
        made = inside.copy()
        # A call for each value would take as long as everything else.
        for key, value in inside.items():
            kind = type(value)
            if names_somebody[key] and value:
                made[key] = somebody(value)
            elif kind is str:
                if "@" in value:
                    made[key] = _ADDRESS.sub(_WORD, value)
            elif kind is dict:
                made[key] = of(value, depth + 1)
            elif kind is list:
                made[key] = each(value, depth + 1)
            elif kind is float and not isfinite(value):
                raise ValueError(f"{key}: expected a finite number")
        return made

    def each(values: list[Any], depth: int) -> list[Any]:
        return [inner for value in values for inner in of({"": value}, depth).values()]

    def somebody(value: Any) -> Any:
        if isinstance(value, list):
            return [somebody(inner) for inner in value]
        if isinstance(value, dict):
            value = next((value[name] for name in _NAMES if isinstance(value.get(name), str | int)), repr(value))
        return {"player": hashed(str(value))}

    return lambda raw: of(raw, 0)


def _plain(key: str) -> str:
    return key.translate(_PLAIN).lower()
