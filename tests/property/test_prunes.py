"""Whatever is pruned in whatever order: what the policy says stays, and nothing else, as it was."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitvault.core.backup_engine.retention import Retention, kept
from gitvault.core.models import ObjectId, Project, SnapshotId
from gitvault.core.versioning import catalog, contents, operations
from gitvault.core.versioning.commits import identity, rewritten
from gitvault.core.versioning.history import GitHistory
from gitvault.core.versioning.objects import Commit, Signature, format_message, parse_message
from gitvault.vault import Vault

START = datetime(2024, 3, 10, tzinfo=UTC)
COUNTS = st.sampled_from([0, 0, 1, 2, 5])
RULES = st.builds(
    Retention,
    last=st.sampled_from([0, 1, 2, 4]),
    hourly=COUNTS,
    daily=COUNTS,
    weekly=COUNTS,
    monthly=COUNTS,
    yearly=COUNTS,
    within=st.sampled_from(["", "1h", "36h", "2w", "1m"]),
).filter(bool)
GAPS = st.lists(st.integers(0, 400), min_size=1, max_size=12)
"""Hours between snapshots."""


def vault_at(base: Path, clock: list[datetime]) -> Vault:
    path = base / "vault.git"
    Vault.create(path).close()
    with (path / "config").open("a") as config:
        config.write("\tmaintenance = off\n")
    vault = Vault.open(path, now=lambda: clock[0])
    catalog.save(vault.history, [Project("p", "/nowhere", "host", START)], "Add p")
    return vault


@settings(max_examples=6)
@given(gaps=GAPS, steps=st.lists(st.one_of(RULES, st.none()), min_size=1, max_size=4))
def test_prunes_and_undos_against_a_list(
    tmp_path_factory: pytest.TempPathFactory, gaps: list[int], steps: list[Retention | None]
) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path_factory.getbasetemp()) as folder:
        clock = [START]
        with vault_at(Path(folder), clock) as vault:
            history: GitHistory = vault.history
            there: list[tuple[SnapshotId, datetime]] = []
            held: dict[SnapshotId, bytes] = {}
            before: list[list[tuple[SnapshotId, datetime]]] = []

            def save(number: int) -> None:
                content = b"%d" % number
                made = history.create_version("p", {b"a/b": content, b"same": b"same"}, message=f"number {number}")
                held[made] = content
                there.insert(0, (made, clock[0]))

            for number, gap in enumerate(gaps):
                clock[0] += timedelta(hours=gap)
                save(number)
            for step, rules in enumerate(steps):
                if rules is None:
                    if before:
                        undone = vault.undo()
                        # An undo is an operation as well: the next one takes it back.
                        now, there = list(there), before.pop()
                        before.append(now)
                        assert undone.what == "undo"
                else:
                    expected = kept(there, rules, clock[0], zone=None)
                    report = vault.prune(rules, yes=True)
                    assert set(report.kept) == expected.keys()
                    if report.removed:
                        before.append(list(there))
                    there = [one for one in there if one[0] in expected]
                assert [snapshot.id for snapshot in vault.list_snapshots()] == [name for name, _ in there]
                for name, _ in there:
                    assert history.read(name, b"a/b") == held[name]
                    assert [e.path for e in contents.entries(history, name)] == [b"a", b"a/b", b"same"]
                    assert vault.resolve(history.locate(name).hex()) == name
                for name in held.keys() - {name for name, _ in there}:
                    assert name not in history.index("p").commits
                assert step < len(steps)
            assert vault.verify(data=True).defects == ()
            numbers = [operation.number for operation in operations.log(history)]
            assert numbers == list(range(len(numbers), 0, -1))


TEXT = st.text("aK:#\n -\u00e9", max_size=60)


@given(
    body=TEXT,
    host=st.from_regex(r"[a-z]{1,9}( [a-z]{1,9})?", fullmatch=True),
    ids=st.lists(st.binary(min_size=20, max_size=20), min_size=1),
)
def test_a_message_written_anew_says_the_same_and_keeps_the_first_id(body: str, host: str, ids: list[bytes]) -> None:
    who = Signature("n", "e", 0)
    commit = Commit(
        ObjectId(bytes(20)), (), who, who, format_message(body, [("Vault-Host", host), ("Vault-Meta", "x")])
    )
    said = parse_message(commit.message)
    first = identity(ObjectId(ids[0]), commit)
    assert first == ids[0].hex()
    for oid in ids:
        message = rewritten(
            identity(ObjectId(oid), commit) if oid == ids[0] else first, commit, {"Vault-Meta": oid.hex()}
        )
        commit = Commit(ObjectId(bytes(20)), (), who, who, message)
        assert identity(ObjectId(oid), commit) == first
    text, trailers = parse_message(commit.message)
    assert text == said[0]
    assert trailers == [("Vault-Host", host), ("Vault-Meta", ids[-1].hex()), ("Vault-Snapshot", first)]
