"""How much of the stored bytes one verification reads: all, or the share whose turn it is.

What must be known for that is in `cache/verify.json`: without it a run begins anew.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from gitvault.core.utils.files import Disk
from gitvault.errors import StorageFullError

# What was read before that is read again: media lose bits with time.
_STALE = timedelta(days=7)
_SAVE_SECONDS = 10.0


class ReadExtent:
    """An Extent. A context: how it is left says how the run went."""

    def __init__(
        self, cache: Path, disk: Disk, now: datetime, *, share: tuple[int, int] | None = None, restart: bool = False
    ) -> None:
        """`cache`: the vault's folder of that name. `share`: so many parts of so many; None: all.

        Then what an interrupted run of the last week has read is not read again, unless `restart`.
        """
        self._file = cache / "verify.json"
        self._disk = disk
        self._state = _load(self._file)
        self._parts, self._of = share or (1, 1)
        self._first = self._state["next"] if self._state["of"] == self._of else 0
        since = self._state["since"]
        fresh = since is not None and now - _STALE <= datetime.fromisoformat(since) <= now
        if share is None and (restart or not fresh):
            self._state |= {"since": now.isoformat(), "packs": []}
        self._read = set(self._state["packs"]) if share is None else set()
        self._whole = share is None
        self._saved = time.monotonic()
        self.said = f"part {self._first + 1} of {self._of}" if self._parts == 1 else self._several()
        """What this run reads, for people."""
        if share is None:
            self.said = f"went on where an interrupted run stopped, {len(self._read)} files" if self._read else ""

    def __enter__(self) -> ReadExtent:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind:
            self.end()
        else:
            self.finish()

    def _several(self) -> str:
        return f"parts {', '.join(str((self._first + n) % self._of + 1) for n in range(self._parts))} of {self._of}"

    def wants(self, digest: bytes) -> bool:
        """See Extent."""
        return (int.from_bytes(digest[:8], "big") - self._first) % self._of < self._parts

    def was_read(self, pack: str) -> bool:
        """See Extent."""
        return pack in self._read

    def read(self, pack: str) -> None:
        """See Extent."""
        if self._whole:
            self._read.add(pack)
            if time.monotonic() - self._saved > _SAVE_SECONDS:
                self.end()

    def end(self) -> None:
        """Remember how far the run came."""
        self._saved = time.monotonic()
        if self._whole:
            self._save(packs=sorted(self._read))

    def finish(self) -> None:
        """Everything was read that was to be."""
        if self._whole:
            self._save(since=None, packs=[])
        else:
            self._save(of=self._of, next=(self._first + self._parts) % self._of)

    def _save(self, **changes: object) -> None:
        self._state |= changes
        # A vault that cannot be written is verified all the same.
        with suppress(OSError, StorageFullError):
            self._disk.make_folder(self._file.parent)
            self._disk.write_durably(self._file, json.dumps(self._state).encode())


def _load(file: Path) -> dict[str, Any]:
    try:
        state = json.loads(file.read_bytes())
        since = state["since"]
        if since is not None and datetime.fromisoformat(since).tzinfo is None:
            raise ValueError
        return {"of": int(state["of"]), "next": int(state["next"]), "since": since, "packs": list(state["packs"])}
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return {"of": 0, "next": 0, "since": None, "packs": []}
