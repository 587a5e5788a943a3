"""One piece of feedback: what somebody said, or what their game reported, with the build it is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

VERSION = 1


@dataclass(frozen=True, slots=True)
class Feedback:
    """A record. What its source does not say is empty."""

    id: str
    """32 hex digits that follow from the source and its own id."""
    time: str
    """ISO 8601 in UTC; empty where the source says none that can be."""
    source: str
    """What it was imported from, `steam` say; `added` by hand."""
    kind: str
    """What the source itself calls it: review, comment, issue, bug, request, crash, error, event, session."""
    text: str = ""
    player: str = ""
    """A hash with the vault's own key, see players.py."""
    build: str = ""
    """What the source says of the build: a build id, a version, a commit."""
    branch: str = ""
    platform: str = ""
    session: str = ""
    scene: str = ""
    """The level, scene or screen it is about."""
    rating: float | None = None
    """From 0 (bad) to 1 (good)."""
    playtime: float | None = None
    """Seconds played by then."""
    count: int = 1
    """For how many times it stands: a crash report may be of many."""
    sig: str = ""
    """What the source groups it under: an issue's id, a fingerprint, the first line of an error."""
    stack: tuple[str, ...] = ()
    """Frames as text, the innermost first."""
    snapshot: str = ""
    """What the build is in the vault, as far as is known now; never stored."""
    confidence: float = 0.0
    """How sure that is, see builds.py."""
    purged: bool = False
    """Whether text, player and raw record were taken out on request."""
    raw: Mapping[str, Any] = field(default_factory=dict)
    """The source's own record with hashes for identities; empty unless it was asked for."""
