"""Two machines on one remote that rely on each other's packs: whatever one of them removes or loses, the other's
snapshots come back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from away import Counted, age, edit, fill, made, opened, pushed, quiet, remote_of, told_of
from trees import contents

from gitvault.core.backup_engine.retention import Retention
from gitvault.core.models import ChunkId
from gitvault.core.storage.condemned import condemn
from gitvault.core.storage.packs import PackInMemory
from gitvault.core.utils.files import Disk
from gitvault.remotes import fetch, index, partial, records, settings
from gitvault.remotes.journal import Journal
from gitvault.remotes.noted import Noted
from gitvault.remotes.prune import RemotePruneReport, prune
from gitvault.remotes.push import PushReport, push
from gitvault.remotes.remote import name_of
from gitvault.remotes.verify import verify
from gitvault.vault import Vault


@pytest.fixture
def desk(tmp_path: Path, place: Counted) -> Iterator[Vault]:
    """`work` in two snapshots, pushed."""
    (tmp_path / "work").mkdir()
    with made(tmp_path / "desk.git", "desk") as vault:
        fill(tmp_path / "work", 1)
        vault.create_snapshot(tmp_path / "work")
        edit(tmp_path / "work", 50_000)
        vault.create_snapshot(tmp_path / "work")
        pushed(vault, place)
        yield vault


@pytest.fixture
def laptop(tmp_path: Path, place: Counted, desk: Vault) -> Iterator[Vault]:
    """A clone, with a project of its own, `mine`, whose files are the desk's, edited: deltas against what is there."""
    vault, _ = fetch.clone(remote_of(None, place), "/nowhere", tmp_path / "laptop.git", {}, progress=quiet)
    vault.close()
    with opened(tmp_path / "laptop.git", "laptop", 5) as vault:
        fill(tmp_path / "mine", 1)
        edit(tmp_path / "mine", 120_000)
        vault.create_snapshot(tmp_path / "mine")
        yield vault


def sent(vault: Vault, place: Counted, name: str = "origin") -> PushReport:
    return push(vault, remote_of(vault, place, name), settings.get(vault.path, name), progress=quiet)


def pruned(vault: Vault, place: Counted, grace: int = 0, name: str = "off") -> RemotePruneReport:
    told = settings.get(vault.path, name)
    return prune(vault, remote_of(vault, place, name), told, grace=grace, yes=True, progress=quiet)


def fetched(vault: Vault, place: Counted, name: str = "off") -> fetch.FetchReport:
    return fetch.fetch(vault, remote_of(vault, place, name), settings.get(vault.path, name), progress=quiet)


def comes_back(place: Counted, tmp_path: Path, number: int = 0) -> None:
    """The laptop's project, by a restore and by a clone."""
    out = tmp_path / f"out{number}"
    report = partial.restore(remote_of(None, place), told_of(), "mine", str(out), progress=quiet)
    assert not report.problems
    assert contents(out) == contents(tmp_path / "mine")
    is_cloned(place, tmp_path, number)


def is_cloned(place: Counted, tmp_path: Path, number: int = 0) -> None:
    vault, came = fetch.clone(remote_of(None, place), "/nowhere", tmp_path / f"new{number}.git", {}, progress=quiet)
    with vault:
        assert came.missing == ()
        assert vault.verify(data=True).ok
        assert vault.resolve("mine")


def test_a_record_leads_to_all_that_its_machine_relies_on(
    desk: Vault, laptop: Vault, place: Counted, tmp_path: Path
) -> None:
    report = sent(laptop, place)
    assert report.bytes < 40_000, "the large file is 200,000 bytes"
    # The desk's records are gone, its packs are not.
    for path in (tmp_path / "place" / "machines" / settings.get(desk.path, "off").chain).iterdir():
        path.unlink()
    comes_back(place, tmp_path)
    assert verify(remote_of(None, place), told_of(desk.config.id), data=True, progress=quiet).ok
    assert sent(laptop, place).uploaded == 0
    edit(tmp_path / "mine", 10_000)
    laptop.create_snapshot(tmp_path / "mine")
    assert sent(laptop, place).bytes < 40_000
    comes_back(place, tmp_path, 1)


def test_who_owns_the_other_machine_takes_nothing_away(
    desk: Vault, laptop: Vault, place: Counted, tmp_path: Path
) -> None:
    sent(laptop, place)
    [theirs] = [one for one in remote_of(None, place).records(desk.config.id).values() if one.machine == "desk"]
    emptied = replace(theirs, number=theirs.number + 1, runs=())
    place.put(records.name_of(emptied), emptied.encode())
    comes_back(place, tmp_path)


@pytest.mark.parametrize("order", ["push, then prune", "prune, then push", "prune between", "prune while it sleeps"])
def test_what_one_prunes_the_other_keeps(
    order: str, desk: Vault, laptop: Vault, place: Counted, tmp_path: Path
) -> None:
    """The desk removes all but its newest snapshot, and prunes the remote, the grace being over at once."""

    def remove() -> None:
        fill(tmp_path / "work", 8)
        desk.create_snapshot(tmp_path / "work")
        desk.prune(Retention(last=1), yes=True)
        desk.sweep()
        pushed(desk, place)

    def prune_all(times: int = 3) -> None:
        for _ in range(times):
            fetched(desk, place)
            pruned(desk, place)

    if order == "push, then prune":
        sent(laptop, place)
        remove()
        prune_all()
    elif order == "prune, then push":
        remove()
        prune_all()
        sent(laptop, place)
    else:
        remove()
        done: list[str] = []

        def fail(what: str, name: str) -> None:
            # The laptop has looked around, and its record is about to come.
            if what == "put" and name.startswith(records.FOLDER) and not done:
                done.append(name)
                if order == "prune while it sleeps":
                    # By now nobody tells what was removed.
                    prune_all(2)
                    asleep = laptop.now
                    laptop.now = lambda: asleep() + timedelta(days=8)  # type: ignore[method-assign]
                else:
                    prune_all(1)

        place.fail = fail
        sent(laptop, place)
        place.fail = lambda what, name: None
        assert done
    comes_back(place, tmp_path)
    for _ in range(3):
        prune_all(1)
        assert verify(remote_of(None, place), told_of(desk.config.id), data=True, progress=quiet).defects == ()
    comes_back(place, tmp_path, 1)
    # And the other way round.
    fetched(laptop, place, "origin")
    sent(laptop, place)
    for _ in range(3):
        pruned(laptop, place, name="origin")
    comes_back(place, tmp_path, 2)
    assert verify(remote_of(None, place), told_of(desk.config.id), data=True, progress=quiet).defects == ()


def test_what_is_fetched_does_not_go_with_a_sweep_that_was_killed(
    tmp_path: Path, place: Counted, desk: Vault, laptop: Vault
) -> None:
    """It had deleted a pack, and would have deleted others: the same ones come from the other machine."""
    before = set((desk.path / "chunks").glob("*.zpk"))
    fill(tmp_path / "work", 2)
    desk.create_snapshot(tmp_path / "work")
    pushed(desk, place)
    names = {path.name for path in (desk.path / "chunks").glob("*.zpk") if path not in before}
    assert names
    condemn(laptop.path / "chunks", [*names, f"{0:064}.zpk"], Disk())
    assert fetched(laptop, place, "origin").snapshots == 1
    laptop.sweep()
    assert laptop.verify(data=True).ok
    assert {path.name for path in (laptop.path / "chunks").glob("*.zpk")} >= names


def test_what_was_removed_is_no_defect_however_often_one_prunes(
    desk: Vault, laptop: Vault, place: Counted, tmp_path: Path
) -> None:
    """Until the machine that pushed it pushes again, its index names it."""
    sent(laptop, place)
    fill(tmp_path / "mine", 5)
    laptop.create_snapshot(tmp_path / "mine")
    sent(laptop, place)
    laptop.prune(Retention(last=1), yes=True)
    laptop.sweep()
    sent(laptop, place)
    fetched(desk, place)
    # What came in the second of the prune stays.
    age(tmp_path / "place", 5000)
    assert pruned(desk, place).deleted
    for number in range(3):
        pruned(desk, place)
        assert verify(remote_of(None, place), told_of(desk.config.id), data=True, progress=quiet).defects == ()
        comes_back(place, tmp_path, number)


def lie(place: Counted, desk: Vault, laptop: Vault, oid: str, chunks: list[str], rows: dict[str, str]) -> None:
    """The desk's record, with a pack of a manifest and no chunks, and rows that say more."""
    pack = PackInMemory()
    pack.add_manifest(oid, tuple(ChunkId(bytes.fromhex(one)) for one in chunks))
    pack.seal()
    name = name_of("chunks/", pack.content(), ".zpk")
    place.put(name, pack.content())
    # The laptop has read it.
    noted = Noted(laptop, "origin", "read")
    noted.note(noted.names() | {name})
    theirs = remote_of(None, place).records(desk.config.id)[settings.get(desk.path, "off").chain]
    known = remote_of(None, place).index([theirs])
    run = index.merge(known, (), [index.Part(name, len(pack.content()))], sorted(rows.items()), place.put)
    more = replace(theirs, number=theirs.number + 1, runs=(*theirs.runs, run))
    place.put(records.name_of(more), more.encode())


@pytest.mark.parametrize("kind", ["no chunks", "a base that is nowhere", "another manifest", "no row"])
def test_half_a_file_of_another_machine_is_sent_whole(
    kind: str, desk: Vault, laptop: Vault, place: Counted, tmp_path: Path
) -> None:
    """A manifest that was read, whose chunks nobody sent: the file is not there."""
    sent(laptop, place)
    fill(tmp_path / "mine", 6)
    laptop.create_snapshot(tmp_path / "mine")
    [pointer] = [e.pointer for e in laptop.entries(laptop.resolve("mine"), b"large.bin") if e.pointer]
    content = laptop.store.content(pointer)
    parts, chunks = ([one.hex() for one in each] for each in (content.parts, content.chunks))
    assert parts
    rows = {pointer.oid: " ".join(("m 0", *(parts if kind != "another manifest" else ["0" * 64])))}
    if kind != "no chunks":
        base = {"a base that is nowhere": " " + "e" * 64, "no row": " x"}.get(kind, "")
        rows |= {one: f"c 0 0 9 9 0 9{base}" for one in (*parts, *chunks)}
    lie(place, desk, laptop, pointer.oid, parts, rows)
    before = len(place.put_names)
    sent(laptop, place)
    packs = [name for name in place.put_names[before:] if name.startswith("chunks/")]
    if kind == "another manifest":
        # Its chunks lie in a pack that was read, the index says: only a verification would tell.
        assert packs
        return
    assert sum((tmp_path / "place" / name).stat().st_size for name in packs) > 190_000
    # A restore may believe the desk's rows, which lead nowhere, and says so; a clone has all.
    is_cloned(place, tmp_path)
    report = partial.restore(remote_of(None, place), told_of(), "mine", str(tmp_path / "out"), progress=quiet)
    assert {problem.path for problem in report.problems} <= {b"large.bin"}


def test_what_is_shared_is_noted_until_it_is_adopted(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db", Disk())
    row = index.Row("c", index.Part("chunks/a", 5), ("0", "9", "9", "0", "9"))
    journal.share({"aa": row, "bb": index.Row("g", index.Part("git/b", 7), ())})
    assert journal.known(["aa"]) == set()
    journal.unshare()
    journal.adopt()
    assert journal.count() == 0
    journal.add(index.Part("git/c", 3), [("cc", "g 0")])
    journal.share({"aa": row, "bb": index.Row("g", index.Part("git/b", 7), ())})
    journal.share({"aa": row})
    journal.adopt()
    assert [part.name for part in journal.parts()] == ["git/c", "chunks/a", "git/b"]
    assert dict(journal.rows()) == {"aa": "c 1 0 9 9 0 9", "bb": "g 2", "cc": "g 0"}
    assert journal.next_number() == 3
    assert row.stands_on() == ()
    assert index.Row("c", row.part, ("0", "9", "9", "0", "9", "e" * 64)).stands_on() == ("e" * 64,)
    assert index.Row("g", row.part, ()).stands_on() == ()
    journal.close()
