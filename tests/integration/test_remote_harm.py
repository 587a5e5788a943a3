"""Remotes under machines that work against each other, by accident or not: nothing that counts is lost."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from away import Counted, age, fill, made, opened, pushed, quiet, remote_of, told_of
from trees import contents

from gitvault.core.backup_engine.copy import read_refs
from gitvault.core.backup_engine.retention import Retention
from gitvault.core.models import ChunkId, Filter, ObjectId
from gitvault.core.storage import checks, frames
from gitvault.core.storage.packs import Chunk, Frame, PackInMemory
from gitvault.core.versioning.transfer import Reach
from gitvault.errors import NotFoundError, RemoteRefused, RemoteUnreachable, ToolFailed, without_passwords
from gitvault.remotes import fetch, index, partial, records, settings
from gitvault.remotes import prune as remote_prune
from gitvault.remotes.index import Run
from gitvault.remotes.noted import Noted
from gitvault.remotes.prune import RemotePruneReport
from gitvault.remotes.prune import prune as prune_remote
from gitvault.remotes.push import PushReport, push
from gitvault.remotes.records import Record
from gitvault.remotes.remote import name_of
from gitvault.remotes.verify import verify
from gitvault.remotes.views import viewed
from gitvault.vault import Vault


@pytest.fixture
def one(tmp_path: Path, place: Counted) -> Iterator[Vault]:
    """The desk: `work` in two snapshots with other files, pushed."""
    (tmp_path / "work").mkdir()
    with made(tmp_path / "one.git", "desk") as vault:
        for seed in (1, 2):
            fill(tmp_path / "work", seed)
            vault.create_snapshot(tmp_path / "work")
            pushed(vault, place)
        yield vault


def cloned(place: Counted, folder: Path, machine: str) -> tuple[Vault, fetch.FetchReport]:
    vault, report = fetch.clone(remote_of(None, place), "/nowhere", folder, {}, progress=quiet)
    vault.close()
    return opened(folder, machine, 5), report


def pruned(vault: Vault, place: Counted, grace: int, name: str = "off") -> RemotePruneReport:
    told = settings.get(vault.path, name)
    return prune_remote(vault, remote_of(vault, place, name), told, grace=grace, yes=True, progress=quiet)


def again(vault: Vault, place: Counted) -> PushReport:
    return push(vault, remote_of(vault, place, "origin"), settings.get(vault.path, "origin"), progress=quiet)


def comes_back_without(chain: str, place: Counted, tmp_path: Path) -> None:
    """A clone has all three snapshots, whole, when the records of a chain are gone."""
    for path in (tmp_path / "place" / "machines" / chain).iterdir():
        path.unlink()
    two, report = cloned(place, tmp_path / "two.git", "laptop")
    with two:
        assert report.missing == ()
        assert len(two.list_snapshots()) == 3
        assert two.verify(data=True).ok


def forget_older(vault: Vault) -> None:
    vault.prune(Retention(last=1), yes=True)
    vault.sweep()


def test_what_is_condemned_while_a_push_relies_on_it_is_sent_again(one: Vault, place: Counted, tmp_path: Path) -> None:
    two, _ = cloned(place, tmp_path / "two.git", "laptop")
    forget_older(one)
    pushed(one, place)
    with two:
        done = False

        def fail(what: str, name: str) -> None:
            nonlocal done
            # The push has looked around, and its record is about to come.
            if what == "put" and name.startswith(records.FOLDER) and not done:
                done = True
                pruned(one, place, 1000)

        place.fail = fail
        again(two, place)
        place.fail = lambda what, name: None
        assert done
    three, report = cloned(place, tmp_path / "three.git", "tower")
    with three:
        assert report.missing == ()
        assert three.verify(data=True).ok
        assert {name: len(three.list_snapshots(Filter(project=name))) for name in three.history.projects()} in (
            {"work": 2, "work@desk": 1},
            {"work": 1, "work@laptop": 2},
        )


def test_what_a_prune_removed_nobody_misses(one: Vault, place: Counted, tmp_path: Path) -> None:
    two, _ = cloned(place, tmp_path / "two.git", "laptop")
    with two:
        (tmp_path / "third").mkdir()
        fill(tmp_path / "third", 3)
        two.create_snapshot(tmp_path / "third")
        again(two, place)
        fill(tmp_path / "third", 4)
        two.create_snapshot(tmp_path / "third")
        again(two, place)
        forget_older(two)
        again(two, place)
    told = settings.get(one.path, "off")
    fetch.fetch(one, remote_of(one, place), told, progress=quiet)
    pushed(one, place)
    # What came in the second of the prune stays.
    age(tmp_path / "place", 5000)
    pruned(one, place, 1000)
    assert pruned(one, place, 0).deleted
    assert verify(remote_of(None, place), told_of(one.config.id), data=True, progress=quiet).defects == ()
    assert fetch.fetch(one, remote_of(one, place), told, progress=quiet).missing == ()
    three, report = cloned(place, tmp_path / "three.git", "tower")
    with three:
        assert report.missing == ()
        assert three.verify(data=True).ok


def test_what_comes_again_after_it_was_condemned_goes_in_its_time(
    one: Vault, place: Counted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_older(one)
    pushed(one, place)
    age(tmp_path / "place", 5000)
    pruned(one, place, 1000)
    [mine] = remote_of(None, place).records(settings.get(one.path, "off").id).values()
    dead = next(name for name in mine.condemned if name.startswith("chunks/"))
    came = int(time.time()) + 100
    os.utime(tmp_path / "place" / dead, (came, came))
    for later, left in ((60, True), (120, False)):
        # The place's clock goes on.
        monkeypatch.setattr(remote_prune, "_server_now", lambda remote, now=came + later: now)
        pruned(one, place, 50)
        assert (dead in {stored.name for stored in place.names()}) is left


def put_record(place: Counted, record: Record) -> None:
    place.put(records.name_of(record), record.encode())


def put_index(place: Counted, text: str) -> str:
    stored = index.frames.compress(text.encode(), 3)
    name = hashlib.sha256(stored).hexdigest()
    place.put(index.FOLDER + name, stored)
    return name


HOSTILE = {
    "nowhere": lambda place: Run(1, "a" * 64, (("0" * 40, "b" * 64),)),
    "no frame": lambda place: Run(1, put_index(place, "git/" + "a" * 64 + ".pack 5\n"), (("0" * 40, "b" * 64),)),
    "no words": lambda place: Run(
        1, put_index(place, "git/" + "a" * 64 + ".pack 5\n"), (("0" * 40, put_index(place, "abc\n")),)
    ),
    "no part": lambda place: Run(
        1, put_index(place, "git/" + "a" * 64 + ".pack 1\n"), (("0" * 40, put_index(place, "0" * 40 + " g 7\n")),)
    ),
    "no hex": lambda place: Run(
        1, put_index(place, "git/" + "a" * 64 + ".pack 1\n"), (("0" * 40, put_index(place, "z z 0 1\n")),)
    ),
    "climbs": lambda place: Run(
        1, put_index(place, "git/../../../x 1\n"), (("0" * 40, put_index(place, "0" * 40 + " g 0\n")),)
    ),
    "letters": lambda place: Run(
        1, put_index(place, "chunks/" + "a" * 64 + ".zpk 1\n"), (("0" * 40, put_index(place, "0" * 64 + " c x y z\n")),)
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_record_whose_index_is_junk_keeps_nobody_from_the_others(
    kind: str, one: Vault, place: Counted, tmp_path: Path
) -> None:
    mine = next(iter(remote_of(None, place).records(one.config.id).values()))
    sound = {stored.name for stored in place.names()}
    run = HOSTILE[kind](place)
    put_record(place, replace(mine, chain="f" * 32, machine="evil", number=9, runs=(run,)))
    two, report = cloned(place, tmp_path / "two.git", "laptop")
    with two:
        assert len(two.list_snapshots()) == 2
        assert two.verify(data=True).ok
        assert report.junk or report.missing
    found = verify(remote_of(None, place), told_of(one.config.id), data=True, progress=quiet).defects
    assert found
    assert not any(defect.object in sound for defect in found)
    age(tmp_path / "place", 5000)
    pruned(one, place, 1000)
    partial.restore(remote_of(None, place), told_of(one.config.id), "work", str(tmp_path / "out"), progress=quiet)
    assert contents(tmp_path / "out") == contents(tmp_path / "work")
    (tmp_path / "after").mkdir()
    fill(tmp_path / "after", 3)
    one.create_snapshot(tmp_path / "after")
    pushed(one, place)
    three, _ = cloned(place, tmp_path / "three.git", "tower")
    with three:
        assert three.history.projects() == ["after", "work"]
        assert three.verify(data=True).ok


@pytest.mark.parametrize(
    "ref",
    [
        "refs/heads/../../x",
        "refs/heads/a..b",
        "refs/heads/a~1",
        "refs/heads/a.lock",
        "refs/x/../../../config",
        "refs/heads/.x",
    ],
)
def test_refs_that_are_none(ref: str, one: Vault, place: Counted, tmp_path: Path) -> None:
    mine = next(iter(remote_of(None, place).records(one.config.id).values()))
    oid = next(iter(mine.refs.values()))
    put_record(
        place,
        replace(mine, chain="f" * 32, machine="evil", number=9, refs={ref: oid, "refs/heads/z": ObjectId(bytes(20))}),
    )
    two, _ = cloned(place, tmp_path / "two.git", "laptop")
    with two:
        assert len(two.list_snapshots(Filter(project="work"))) == 2
        assert two.verify(data=True).ok


def test_a_prune_keeps_what_only_a_damaged_record_names(one: Vault, place: Counted, tmp_path: Path) -> None:
    two, _ = cloned(place, tmp_path / "two.git", "laptop")
    with two:
        (tmp_path / "third").mkdir()
        fill(tmp_path / "third", 3)
        two.create_snapshot(tmp_path / "third")
        again(two, place)
        theirs = settings.get(two.path, "origin").chain
    names = {stored.name for stored in place.names()}
    age(tmp_path / "place", 5000)
    spoiled = [name for name in names if name.startswith(f"machines/{theirs}/")]
    place.spoil = lambda name, content: b"x" + content if name in spoiled else content
    place._inner.versions = lambda name: iter(())
    report = pruned(one, place, 1000)
    assert (report.deleted, report.junk) == (0, tuple(spoiled))
    assert names <= {stored.name for stored in place.names()}
    # Whoever knows that it is nobody's says so.
    place.put(stray := name_of("git/", b"stray", ".pack"), b"stray")
    age(tmp_path / "place", 5000)
    told = settings.get(one.path, "off")
    for grace in (1000, 0):
        without = prune_remote(one, remote_of(one, place), told, grace=grace, yes=True, junk=True, progress=quiet)
        assert without.junk == ()
        assert without.deleted
    assert not {*spoiled, stray} & {stored.name for stored in place.names()}
    three, _ = cloned(place, tmp_path / "three.git", "tower")
    with three:
        assert three.verify(data=True).ok


def test_a_prune_goes_on_without_what_came_before_a_damaged_record(one: Vault, place: Counted, tmp_path: Path) -> None:
    place.put(f"machines/{'e' * 32}/{5:020d}-{'a' * 64}", b"junk")
    age(tmp_path / "place", 5000)
    place.put(stray := name_of("git/", b"stray", ".pack"), b"stray")
    os.utime(tmp_path / "place" / stray, (time.time() - 4000, time.time() - 4000))
    before = {stored.name for stored in place.names()}
    pruned(one, place, 1000)
    report = pruned(one, place, 0)
    assert len(report.junk) == 1
    assert before - {stored.name for stored in place.names()} == {stray}


def test_a_prune_keeps_what_a_record_in_the_proper_form_hides(one: Vault, place: Counted, tmp_path: Path) -> None:
    """Also where the machine that prunes has not fetched since."""
    two, _ = cloned(place, tmp_path / "two.git", "laptop")
    with two:
        (tmp_path / "third").mkdir()
        fill(tmp_path / "third", 3)
        two.create_snapshot(tmp_path / "third")
        again(two, place)
        chain = settings.get(two.path, "origin").chain
        third = two.list_snapshots(Filter(project="third"))[0].id
    theirs = remote_of(None, place).records(one.config.id)[chain]
    put_record(place, replace(theirs, number=theirs.number + 1, refs={}, runs=(), previous=records.digest(theirs)))
    age(tmp_path / "place", 5000)
    before = {stored.name for stored in place.names()}
    with pytest.raises(NotFoundError, match="git-vault fetch off first"):
        pruned(one, place, 1000)
    assert before <= {stored.name for stored in place.names()}
    told = settings.get(one.path, "off")
    assert fetch.fetch(one, remote_of(one, place), told, progress=quiet).hidden
    report = pruned(one, place, 1000)
    assert report.hidden == (records.name_of(theirs),)
    assert (
        partial.restore(remote_of(None, place), told_of(), third, str(tmp_path / "out"), progress=quiet).snapshot
        == third
    )
    # Once it is pushed by somebody who has it, it stays for that.
    pushed(one, place)
    age(tmp_path / "place", 5000)
    assert pruned(one, place, 1000).hidden == ()
    age(tmp_path / "place", 5000)
    pruned(one, place, 1000)
    three, _ = cloned(place, tmp_path / "three.git", "tower")
    with three:
        assert third in {snapshot.id for snapshot in three.list_snapshots()}
        assert three.verify(data=True).ok


def test_a_prune_says_what_helps_where_a_fetch_does_not(one: Vault, place: Counted, tmp_path: Path) -> None:
    two, _ = cloned(place, tmp_path / "two.git", "laptop")
    with two:
        again(two, place)
        forget_older(two)
        told = settings.get(two.path, "origin")
        with pytest.raises(NotFoundError, match=r"laptop: .* git-vault push origin first"):
            pruned(two, place, 1000, "origin")
        again(two, place)
        fetch.fetch(two, remote_of(two, place, "origin"), told, progress=quiet)
        with pytest.raises(NotFoundError, match=r"desk: .* where that brings nothing, prune from a new clone"):
            pruned(two, place, 1000, "origin")


def test_what_somebody_else_wrote_into_its_chain_a_machine_does_not_go_on(one: Vault, place: Counted) -> None:
    forged(place, one.config.id, refs={})
    with pytest.raises(RemoteRefused, match="push to it first"):
        pruned(one, place, 1000)
    pushed(one, place)
    pruned(one, place, 1000)


def test_an_interrupted_push_goes_on_beside_a_prune(one: Vault, place: Counted, tmp_path: Path, monkeypatch) -> None:

    two, _ = cloned(place, tmp_path / "two.git", "laptop")
    with two:
        (tmp_path / "third").mkdir()
        fill(tmp_path / "third", 3)
        two.create_snapshot(tmp_path / "third")
        place.fail = lambda what, name: (
            RemoteUnreachable("x") if what == "put" and name.startswith("machines/") else None
        )
        with pytest.raises(RemoteUnreachable):
            again(two, place)
        age(tmp_path / "place", 5000)
        done = []

        def fail(what: str, name: str) -> None:
            if what == "put" and name.startswith("machines/") and not done:
                done.append(1)
                pruned(one, place, 1000)

        place.fail = fail
        again(two, place)
        place.fail = lambda what, name: None
    three, _ = cloned(place, tmp_path / "three.git", "tower")
    with three:
        assert three.verify(data=True).ok
        assert len(three.list_snapshots()) == 3


@pytest.mark.parametrize(
    "url",
    [
        "https://me:SECRET@host/x",
        "git+https://me:SECRET@host/x",
        "sftp://[::1",
        "sftp://h:abc/x",
        "sftp://h:99999/x",
        "s3://b\x1b/x",
    ],
)
def test_urls_that_are_none_and_passwords_are_refused_and_not_written(url: str, tmp_path: Path, command) -> None:  # type: ignore[no-untyped-def]
    command("init")
    said = command("remote", "add", "off", url)
    assert said.returncode == 128
    assert "internal" not in said.stderr
    assert "SECRET" not in said.stderr + command("remote", "list", "--json").stdout


def test_a_url_is_verified_as_a_name_is(one: Vault, place: Counted, tmp_path: Path, command) -> None:  # type: ignore[no-untyped-def]
    command("init")
    assert command("remote", "verify", tmp_path / "place", "--data", "--json").returncode == 0


def test_no_error_shows_a_password() -> None:
    error = ToolFailed("restic --repo rest:https://me:SECRET@host/", 1, "cannot open rest:https://me:SECRET@host/")
    assert "SECRET" not in f"{error}{error.stderr}"
    assert without_passwords("ssh://me@host/a:b@c") == "ssh://me@host/a:b@c"


def test_what_was_done_without_is_remembered_and_damage_is_told_from_junk(one: Vault, place: Counted) -> None:
    remote = remote_of(one, place)
    assert remote.done_without() == set()
    remote.note_done_without(["git/b", "git/a"])
    assert remote_of(one, place).done_without() == {"git/a", "git/b"}
    [record] = remote.records(one.config.id).values()
    with pytest.raises(records.Torn):
        records.decode(records.name_of(record), record.encode() + b" ", one.config.id)


def test_whoever_writes_the_last_record_of_a_chain_keeps_nobody_from_pushing(
    one: Vault, place: Counted, tmp_path: Path
) -> None:
    told = settings.get(one.path, "off")
    mine = remote_of(one, place).records(told.id)[told.chain]
    put_record(place, replace(mine, number=records.LAST))
    (tmp_path / "after").mkdir()
    fill(tmp_path / "after", 3)
    one.create_snapshot(tmp_path / "after")
    pushed(one, place)
    assert settings.get(one.path, "off").chain != told.chain
    two, report = cloned(place, tmp_path / "two.git", "laptop")
    with two:
        assert report.missing == ()
        assert two.history.projects() == ["after", "work"]


def forged(place: Counted, vault: str, **changes: object) -> None:
    """A record in the proper form that follows the newest of the only chain there is."""
    [mine] = remote_of(None, place).records(vault).values()
    put_record(place, replace(mine, number=mine.number + 7, previous=records.digest(mine), **changes))


@pytest.mark.parametrize("kind", ["no refs", "no runs", "an older state", "another history"])
def test_a_record_in_the_proper_form_hides_nothing_from_a_clone(
    kind: str, one: Vault, place: Counted, tmp_path: Path
) -> None:
    first = next(record for record in remote_of(None, place).every_record(one.config.id) if record.number == 1)
    if kind == "another history":
        (tmp_path / "evil" / "work").mkdir(parents=True)
        fill(tmp_path / "evil" / "work", 9)
        with made(tmp_path / "evil.git", "desk", 9) as evil:
            evil.create_snapshot(tmp_path / "evil" / "work")
            other = Counted(tmp_path / "other")
            pushed(evil, other)
            vault = settings.get(evil.path, "off").id
            [theirs] = remote_of(None, other).records(vault).values()
        for stored in list(other.names()):
            if not stored.name.startswith(("machines/", "vault")):
                place.put(stored.name, other.get(stored.name))
        forged(place, one.config.id, refs=theirs.refs, runs=theirs.runs)
    elif kind == "no refs":
        forged(place, one.config.id, refs={})
    elif kind == "no runs":
        forged(place, one.config.id, runs=())
    else:
        forged(place, one.config.id, refs=first.refs, runs=first.runs)
    wanted = {snapshot.id for snapshot in one.list_snapshots()}
    two, report = cloned(place, tmp_path / "two.git", "laptop")
    with two:
        assert wanted <= {snapshot.id for snapshot in two.list_snapshots()}
        assert report.hidden
        assert two.verify(data=True).ok
        # What came is known from now on.
        told = settings.get(two.path, "origin")
        assert fetch.fetch(two, remote_of(two, place), told, progress=quiet).hidden == ()


def test_what_a_machine_removed_itself_is_not_hidden(one: Vault, place: Counted, tmp_path: Path) -> None:
    forget_older(one)
    pushed(one, place)
    one.create_snapshot(tmp_path / "work", message="again")
    pushed(one, place)
    two, report = cloned(place, tmp_path / "two.git", "laptop")
    with two:
        assert report.hidden == ()
        assert [s.id for s in two.list_snapshots()] == [s.id for s in one.list_snapshots()]


def test_what_another_machine_says_is_there_is_sent_all_the_same(one: Vault, place: Counted, tmp_path: Path) -> None:
    """Until this machine has read it: a record in the proper form, with rows that lead to a pack that is there."""
    (tmp_path / "after").mkdir()
    fill(tmp_path / "after", 3)
    one.create_snapshot(tmp_path / "after")
    reach = Reach(one.history).walk(read_refs(one.history))
    known = remote_of(None, place).index(remote_of(None, place).records(one.config.id).values())
    git, chunks = (next(p for p in known.parts().values() if p.name.startswith(kind)) for kind in ("git/", "chunks/"))
    rows = [(oid.hex(), "g 0") for oid in reach.objects()] + [(file.oid, "c 1 0 9 9 0 9") for file in reach.pointers]
    lie = index.merge(known, (), [git, chunks], sorted(rows), place.put)
    [mine] = remote_of(None, place).records(one.config.id).values()
    put_record(place, replace(mine, chain="f" * 32, machine="evil", refs=read_refs(one.history), runs=(lie,)))
    report = pushed(one, place)
    assert report.snapshots == 1
    lies = verify(remote_of(None, place), told_of(one.config.id), data=True, progress=quiet).defects
    assert {(defect.object, defect.reason.partition(" of ")[0]) for defect in lies} == {
        (git.name, "the index says"),
        (chunks.name, "the index says"),
    }
    comes_back_without("f" * 32, place, tmp_path)


def test_what_was_read_of_another_machine_is_not_sent_again(one: Vault, place: Counted, tmp_path: Path) -> None:
    two, _ = cloned(place, tmp_path / "two.git", "laptop")
    with two:
        before = len(place.put_names)
        assert again(two, place).bytes < 10_000
        assert not any(name.startswith("chunks/") for name in place.put_names[before:])
        (tmp_path / "work" / "new.bin").write_bytes((tmp_path / "work" / "large.bin").read_bytes()[:100_000])
        two.create_snapshot(tmp_path / "work")
        assert again(two, place).bytes < 60_000


def test_who_writes_into_the_chain_of_another_is_not_believed(one: Vault, place: Counted, tmp_path: Path) -> None:
    (tmp_path / "after").mkdir()
    fill(tmp_path / "after", 3)
    one.create_snapshot(tmp_path / "after")
    # It says that what is about to be pushed is there.
    forged(place, one.config.id, refs=read_refs(one.history))
    chain = settings.get(one.path, "off").chain
    before = len(place.put_names)
    report = pushed(one, place)
    assert report.snapshots == 1
    assert settings.get(one.path, "off").chain != chain
    # What the machine had pushed itself is not sent again.
    assert len(place.put_names) - before < 8
    assert pushed(one, place).uploaded == 0
    comes_back_without(chain, place, tmp_path)


def test_a_place_that_shows_an_old_list_costs_nothing(one: Vault, place: Counted, tmp_path: Path) -> None:
    old = {stored.name for stored in place.names("machines/")}
    (tmp_path / "after").mkdir()
    fill(tmp_path / "after", 3)
    one.create_snapshot(tmp_path / "after")
    pushed(one, place)
    new = {stored.name for stored in place.names("machines/")} - old
    everything = place.names
    place.names = lambda prefix="": (stored for stored in everything(prefix) if stored.name not in new)  # type: ignore[method-assign]
    fill(tmp_path / "after", 4)
    one.create_snapshot(tmp_path / "after")
    before = len(place.put_names)
    pushed(one, place)
    place.names = everything  # type: ignore[method-assign]
    numbers = [parsed[1] for stored in place.names("machines/") if (parsed := records.parse_name(stored.name))]
    assert sorted(numbers) == [1, 2, 3, 4]
    assert len(place.put_names) - before < 8
    two, report = cloned(place, tmp_path / "two.git", "laptop")
    with two:
        assert (report.hidden, report.missing) == ((), ())
        assert len(two.list_snapshots()) == 4


def test_a_pack_with_other_bytes_than_it_says_is_not_taken_in(one: Vault, place: Counted, tmp_path: Path) -> None:
    """What a snapshot finds in the vault it does not store again."""
    content = random.Random(7).randbytes(4096)
    pack = PackInMemory()
    stored = frames.compress(bytes(50_000), 1)
    frame, victim = Frame(0, 0, len(stored), 50_000, ()), ChunkId(hashlib.sha256(content).digest())
    pack.add_copy(frame, stored, [Chunk(victim, 0, 0, 4096)])
    pack.seal()
    name = name_of("chunks/", pack.content(), ".zpk")
    place.put(name, pack.content())
    [mine] = remote_of(None, place).records(one.config.id).values()
    known = remote_of(None, place).index([mine])
    row = index.chunk_row(0, pack.table.frames[0], pack.table.chunks[0])
    run = index.merge(known, (), [index.Part(name, len(pack.content()))], [(victim.hex(), row)], place.put)
    put_record(place, replace(mine, chain="f" * 32, machine="evil", refs={}, runs=(run,)))
    two, report = cloned(place, tmp_path / "two.git", "laptop")
    with two:
        assert any(victim.hex() in one for one in report.missing)
        assert not two.store.known([victim])
        assert two.verify(data=True).ok
        assert name not in Noted(two, "origin", "read").names()


def test_a_pack_of_git_that_is_none_is_a_defect(one: Vault, place: Counted) -> None:
    content = b"PACK" + bytes(40)
    name = name_of("git/", content, ".pack")
    place.put(name, content)
    [mine] = remote_of(None, place).records(one.config.id).values()
    known = remote_of(None, place).index([mine])
    run = index.merge(known, (), [index.Part(name, len(content))], [], place.put)
    put_record(place, replace(mine, chain="f" * 32, machine="evil", refs={}, runs=(run,)))
    found = verify(remote_of(None, place), told_of(one.config.id), data=True, progress=quiet).defects
    assert [(defect.kind, defect.object) for defect in found] == [("pack", name)]


def test_whatever_answer_gets_lost_no_pushed_snapshot_does(one: Vault, place: Counted, tmp_path: Path) -> None:
    """Two machines in turn, clocks apart; one put after the other fails, or arrives and nobody hears of it."""
    two, _ = cloned(place, tmp_path / "two.git", "laptop")
    projects = {vault: tmp_path / name for vault, name in ((one, "work"), (two, "other"))}
    (tmp_path / "other").mkdir()
    count = 0

    def put(name: str, content: bytes) -> None:
        nonlocal count
        count += 1
        if count == number and not arrives:
            raise RemoteUnreachable("before it arrived")
        sound(name, content)
        if count == number:
            raise RemoteUnreachable("after it arrived")

    sound = place.put
    with two:
        for arrives in (False, True):
            for number in range(1, 7):
                for vault, folder in projects.items():
                    fill(folder, 10 * number + arrives, size=20_000)
                    vault.create_snapshot(folder)
                    count = 0
                    place.put = put  # type: ignore[method-assign]
                    with contextlib.suppress(RemoteUnreachable):
                        (pushed if vault is one else again)(vault, place)
                    place.put = sound  # type: ignore[method-assign]
                    (pushed if vault is one else again)(vault, place)
        saved = {snapshot.id for vault in projects for snapshot in vault.list_snapshots()}
    chains = records.by_chain(stored.name for stored in place.names("machines/"))
    # No number twice: which of two counts nobody could tell.
    assert all(len({number for number, _ in each}) == len(each) for each in chains.values())
    assert len(chains) == 2
    three, report = cloned(place, tmp_path / "three.git", "tower")
    with three:
        assert (report.hidden, report.missing, report.left) == ((), (), ())
        assert {snapshot.id for snapshot in three.list_snapshots()} == saved
        assert three.verify(data=True).ok


def test_what_is_sent_and_put_twice_or_late_changes_nothing(one: Vault, place: Counted, tmp_path: Path) -> None:
    """A server that answers late may store the first of two puts after the second, and lose a removal."""
    objects = {stored.name: place.get(stored.name) for stored in place.names()}
    forget_older(one)
    pushed(one, place)
    age(tmp_path / "place", 5000)
    pruned(one, place, 1000)
    assert pruned(one, place, 0).deleted
    for name, content in objects.items():
        place.put(name, content)
    fetched = fetch.fetch(one, remote_of(one, place), settings.get(one.path, "off"), progress=quiet)
    assert fetched.hidden == ()
    (tmp_path / "after").mkdir()
    fill(tmp_path / "after", 3)
    one.create_snapshot(tmp_path / "after")
    pushed(one, place)
    two, report = cloned(place, tmp_path / "two.git", "laptop")
    with two:
        assert (report.hidden, report.missing) == ((), ())
        assert {s.id for s in two.list_snapshots()} == {s.id for s in one.list_snapshots()}
        assert two.verify(data=True).ok


def test_what_is_known_of_records(one: Vault, place: Counted, tmp_path: Path) -> None:
    told = settings.get(one.path, "off")
    [mine] = remote_of(None, place).records(told.id).values()
    assert remote_of(one, place).last_own(told.id, told.chain, mine) == (mine, 2)
    assert remote_of(one, place).last_own(told.id, told.chain, None) == (mine, 2)
    assert remote_of(one, place).last_own(told.id, "0" * 32, None) == (mine, 0)
    assert remote_of(None, place).last_own(told.id, told.chain, mine) == (None, 0)
    with viewed(one.history, mine.refs) as view:
        assert view.refs.list() == mine.refs
        assert view.projects() == ["work"]
    tip = mine.refs["refs/heads/work"]
    with made(tmp_path / "tower.git", "tower") as tower:
        bring = fetch.commits_of(tower, remote_of(None, place), told, quiet)
        bring(mine, ObjectId(bytes(20)))
        bring(mine, tip)
        assert tower.history.commit(tip).parents
    packs = sorted((one.path / "chunks").glob("*.zpk"))
    assert one.store.unsound([pack.name for pack in packs]) == {}
    assert all(checks.check_pack(pack, one.store._reader, one.store._pool) == [] for pack in packs)
    (one.path / "chunks" / f"{'0' * 64}.zpk").write_bytes(b"no pack")
    assert list(one.store.unsound([f"{'0' * 64}.zpk"])) == [f"{'0' * 64}.zpk"]
