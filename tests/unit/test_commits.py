"""What a snapshot's commit says of it, and what is read from one that says less."""

from __future__ import annotations

from datetime import UTC, datetime

from gitvault.core.models import ObjectId, Snapshot, SnapshotId
from gitvault.core.versioning import commits
from gitvault.core.versioning.history import Details
from gitvault.core.versioning.objects import Commit, Signature

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
META = ObjectId(b"\x11" * 20)
NAME = SnapshotId("22" * 20)


def commit(message: str) -> Commit:
    who = Signature("a", "a@b", int(NOW.timestamp()))
    return Commit(ObjectId(bytes(20)), (), who, who, message)


def test_all_that_is_said_is_read_back() -> None:
    details = Details(
        "caf\N{LATIN SMALL LETTER E WITH ACUTE} \udcff",
        "why\n\nand: how",
        NOW,
        12,
        1 << 40,
        ("one", "two words\nand a line"),
        {"client": "acme=x", "empty": ""},
        "safety",
        SnapshotId("33" * 20),
    )
    made = commit(commits.message(details, META, "box"))
    assert commits.snapshot(NAME, made) == Snapshot(
        NAME,
        details.project,
        NOW,
        details.message,
        tuple(details.tags),
        details.metadata or {},
        12,
        1 << 40,
        "box",
        "safety",
        SnapshotId("33" * 20),
    )
    assert commits.meta_commit(made) == META


def test_a_commit_of_another_tool_is_a_snapshot_that_says_less() -> None:
    made = commit("Fix it\n\nVault-Files: many\nVault-Meta: 1234\n")
    assert commits.snapshot(NAME, made) == Snapshot(NAME, "", NOW, "Fix it")
    assert commits.meta_commit(made) is None
