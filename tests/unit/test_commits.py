"""What a snapshot's commit says of it, and what is read from one that says less."""

from __future__ import annotations

from datetime import UTC, datetime

from gitvault.core.models import ObjectId, Snapshot, SnapshotId
from gitvault.core.versioning import commits
from gitvault.core.versioning.history import Details
from gitvault.core.versioning.objects import Commit, Signature

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
META = ObjectId(b"\x11" * 20)
OID = ObjectId(b"\x22" * 20)
NAME = SnapshotId("22" * 20)
OTHER = SnapshotId("44" * 20)


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
    assert commits.snapshot(OID, made) == Snapshot(
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
    assert commits.snapshot(OID, made) == Snapshot(NAME, "", NOW, "Fix it")
    assert commits.meta_commit(made) is None


def test_a_commit_that_stands_for_another_has_its_id_and_says_all_else() -> None:
    made = commit("Why\n\nVault-Host: box\nVault-Meta: 1234\nVault-Tag: a\nVault-Tag: b\n")
    assert commits.identity(OID, made) == NAME
    message = commits.rewritten(OTHER, made, {"Vault-Meta": META.hex(), "Vault-Files": "3"})
    expected = f"Why\n\nVault-Host: box\nVault-Meta: {META.hex()}\nVault-Tag: a\nVault-Tag: b\n"
    assert message == f"{expected}Vault-Files: 3\nVault-Snapshot: {OTHER}\n"
    again = commit(message)
    assert commits.identity(OID, again) == commits.snapshot(OID, again).id == OTHER
    assert commits.rewritten(OTHER, again, {}) == message


def test_what_is_no_id_names_no_other_snapshot() -> None:
    for text in ("Vault-Snapshot: 1234", f"Vault-Snapshot: {OTHER}\n\nin the text only", f"Vault-Snapshot: {OTHER}0"):
        assert commits.identity(OID, commit(f"Why\n\n{text}\n")) == NAME
