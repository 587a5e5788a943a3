"""A record as a row of the table of SQLite."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple


class Row(NamedTuple):
    """A record for the table, see `row_of`."""

    key: int
    digest: int
    build: str
    cells: tuple[Any, ...]
    """The columns of `said` in the table, from `id` on.

    Nothing in them leads further: held as records, the search for garbage took a quarter of an import's time.
    """
    start: int = 0
    """Where in its segment the line begins, in bytes."""
    length: int = 0


def row_of(said: Mapping[str, Any], digest: int, start: int = 0, length: int = 0) -> Row:
    """What the table has of a record. Raises ValueError for an id, a player or a time that is none."""
    get = said.get
    id, time, player, stack = said["id"], get("time"), get("player"), get("stack")
    cells = (
        bytes.fromhex(id),
        int(datetime.fromisoformat(time).timestamp()) if time else None,
        said["source"],
        said["kind"],
        get("text", ""),
        bytes.fromhex(player) if player else None,
        key_of(player) if player else None,
        get("branch", ""),
        get("platform", ""),
        get("session", ""),
        get("scene", ""),
        get("rating"),
        get("playtime"),
        get("count", 1),
        get("sig", ""),
        "\n".join(stack) if stack else "",
        1 if get("purged") else 0,
    )
    return Row(key_of(id), digest, get("build", ""), cells, start, length)


def key_of(id: str) -> int:
    """The key of a record, or of a player, in the table."""
    return int(id[:16], 16) - (1 << 63)
