"""What else counts when a snapshot may be due: what version control is in the middle of, load, battery."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from gitvault.personas.code.activity.detector import Around

_OPERATIONS = {
    "rebase-merge": "a rebase",
    "rebase-apply": "a rebase",
    "MERGE_HEAD": "a merge",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
    "index.lock": "git is writing",
    "HEAD.lock": "git is writing",
    "wlock": "hg is writing",
    "rebasestate": "a rebase",
    "histedit-state": "a histedit",
    "graftstate": "a graft",
}
_POWER = Path("/sys/class/power_supply")


def around(repositories: Iterable[bytes], power: Path = _POWER) -> Around:
    """As things are now; `repositories`: folders `.git` and `.hg`, wherever they are."""
    load = os.getloadavg()[0] / (os.cpu_count() or 1) if hasattr(os, "getloadavg") else 0.0
    return Around(operation(repositories), load, on_battery(power))


def operation(repositories: Iterable[bytes]) -> str:
    """What version control is in the middle of, for people; empty for nothing."""
    for place in repositories:
        for name, what in _OPERATIONS.items():
            if os.path.lexists(os.path.join(place, os.fsencode(name))):
                return what
    return ""


def on_battery(power: Path = _POWER) -> bool:
    """Whether a battery is being used up; where that cannot be told, not."""
    with contextlib.suppress(OSError):
        for status in power.glob("BAT*/status"):
            if status.read_text().strip() == "Discharging":
                return True
    return False
