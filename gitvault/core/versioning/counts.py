"""How many snapshots projects have, without walking their chains each time."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from gitvault.core.utils.files import Disk
from gitvault.core.versioning.history import GitHistory
from gitvault.errors import CorruptionError, NotFoundError, StorageFullError

FILE = "counts.json"


def counts(history: GitHistory, projects: Iterable[str], cache: Path, disk: Disk) -> dict[str, int]:
    """The number of each project's snapshots, as far as its chain can be read.

    What was counted, and up to which commit, is in a file of the folder `cache`: only what came since is walked.
    """
    known = _load(cache / FILE)
    found: dict[str, int] = {}
    fresh: dict[str, list[object]] = {}
    for project in dict.fromkeys(projects):
        tip = history.tip(project)
        before, counted = known.get(project, ("", 0))
        number = 0
        try:
            for oid in history.chain(tip) if tip else ():
                if oid.hex() == before:
                    number += counted
                    break
                number += 1
        except (CorruptionError, NotFoundError):
            # Not remembered: a repair may bring back the rest.
            found[project] = number
            continue
        found[project] = number
        if tip and tip.hex() != before:
            fresh[project] = [tip.hex(), number]
    if fresh:
        # A vault that cannot be written is counted all the same.
        with suppress(OSError, StorageFullError):
            disk.make_folder(cache)
            disk.write_durably(cache / FILE, json.dumps({**known, **fresh}).encode())
    return found


def _load(file: Path) -> dict[str, Any]:
    try:
        return {str(name): (str(tip), int(number)) for name, (tip, number) in json.loads(file.read_bytes()).items()}
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return {}
