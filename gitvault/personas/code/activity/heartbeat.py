"""What editors say of themselves: lines of JSON with the fields of WakaTime's heartbeats.

An editor's plug-in sends them to the watcher's socket, or appends them to the file `heartbeats` beside it.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

FILE = "heartbeats.jsonl"
"""In the vault's folder `cache`."""
_LONGEST = 1 << 16
_PAST_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A sign of life of an editor."""

    entity: str
    """The absolute path of the file that is worked on."""
    is_write: bool
    time: float | None = None
    """Seconds since 1970."""


def parse(document: object) -> list[Heartbeat]:
    """The heartbeats of a document: one, or a list of them. Raises ValueError for anything else."""
    beats: list[Heartbeat] = []
    for one in document if isinstance(document, list) else [document]:
        if not isinstance(one, dict):
            raise ValueError(f"expected an object with `entity`, found {type(one).__name__}")
        entity, time = one.get("entity"), one.get("time")
        if not isinstance(entity, str) or not os.path.isabs(entity):
            raise ValueError(f"expected an absolute path as `entity`, found {entity!r}")
        if time is not None and (isinstance(time, bool) or not isinstance(time, int | float)):
            raise ValueError(f"expected seconds since 1970 as `time`, found {time!r}")
        beats.append(Heartbeat(entity, one.get("is_write") is True, time))
    return beats


class HeartbeatFile:
    """The file that heartbeats are appended to. What was in it before is of no interest."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = self._size()

    def read(self, now: float) -> list[Heartbeat]:
        """Those that were added since; `now` in seconds since 1970. What is no heartbeat is passed over."""
        size = self._size()
        if size < self._at:
            self._at = 0
        if size == self._at:
            return []
        with self._path.open("rb") as file:
            file.seek(max(self._at, size - _LONGEST))
            data = file.read(_LONGEST)
        whole, _, rest = data.rpartition(b"\n")
        self._at = size - len(rest)
        beats: list[Heartbeat] = []
        for line in whole.splitlines():
            try:
                beats += parse(json.loads(line))
            except (ValueError, RecursionError):
                continue
        return [beat for beat in beats if beat.time is None or beat.time > now - _PAST_SECONDS]

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except OSError:
            return 0
