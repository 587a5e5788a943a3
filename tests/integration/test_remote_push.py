"""Remotes: what is pushed can be cloned and restored, nothing is sent twice, two machines never conflict."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from away import Counted, edit, fill, made, opened, pushed, quiet, remote_of
from trees import differences

from gitvault.errors import ExistsError, NotFoundError, RemoteRefused, RemoteUnreachable
from gitvault.remotes import fetch, partial, records, settings
from gitvault.remotes.remote import CHUNKS, GIT, MARKER
from gitvault.remotes.verify import verify
from gitvault.vault import Vault


@pytest.fixture
def place(tmp_path: Path) -> Counted:
    return Counted(tmp_path / "place")


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Vault]:
    """A vault with a project in three snapshots, the large file edited twice."""
    project = tmp_path / "work"
    project.mkdir()
    fill(project, 1)
    with made(tmp_path / "one.git", "desk") as vault:
        for at in (None, 50_000, 120_000):
            if at:
                edit(project, at)
            vault.create_snapshot(project)
        yield vault


def cloned(place: Counted, folder: Path, machine: str, hour: int = 5) -> Vault:
    vault, report = fetch.clone(remote_of(None, place), "/nowhere", folder, {}, progress=quiet)
    vault.close()
    assert not (report.left or report.missing or report.junk)
    return opened(folder, machine, hour)


def same(vault: Vault, snapshot: str, folder: Path, tmp_path: Path) -> None:
    target = tmp_path / f"out-{snapshot[:30]}-{vault.path.stem}"
    assert not vault.restore_snapshot(snapshot, target).problems
    assert differences(folder, target) == {}


def test_a_clone_holds_every_snapshot_and_is_the_same_vault(one: Vault, place: Counted, tmp_path: Path) -> None:
    report = pushed(one, place)
    assert report.snapshots == 3
    assert report.uploaded == len(place.put_names) - 1  # all but the mark of the place
    with cloned(place, tmp_path / "two.git", "laptop") as two:
        assert [s.id for s in two.list_snapshots()] == [s.id for s in one.list_snapshots()]
        assert two.config.id == one.config.id
        assert two.verify(data=True).ok
        same(two, "work", tmp_path / "work", tmp_path)
        assert [p.name for p in two.projects()] == ["work"]
        assert "origin" in settings.load(two.path)


def test_what_is_there_is_not_sent_again(one: Vault, place: Counted, tmp_path: Path) -> None:
    pushed(one, place)
    before = len(place.put_names)
    again = pushed(one, place)
    assert (again.uploaded, again.bytes, again.snapshots) == (0, 0, 0)
    assert again.skipped == sum(name.startswith((GIT, CHUNKS)) for name in place.put_names)
    assert len(place.put_names) == before
    # Upkeep packs everything anew here; nothing of that is new there.
    one.maintain()
    assert pushed(one, place).uploaded == 0
    edit(tmp_path / "work", 10_000)
    one.create_snapshot(tmp_path / "work")
    later = pushed(one, place)
    assert later.snapshots == 1
    assert later.bytes < 20_000


def test_names_are_hashes_and_records_come_last(one: Vault, place: Counted) -> None:
    pushed(one, place)
    assert place.put_names[0] == MARKER
    assert place.put_names[-1].startswith(records.FOLDER)
    kinds = [name.partition("/")[0] for name in place.put_names[1:-1]]
    assert kinds == sorted(kinds, key=lambda kind: kind == "index")
    report = verify(remote_of(None, place), one.config.id, data=True, progress=quiet)
    assert report.ok
    assert report.objects_checked == len(place.put_names) - 1


def test_only_chosen_projects_are_pushed_and_the_others_stay_as_they_were(
    one: Vault, place: Counted, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    fill(tmp_path / "other", 2)
    one.create_snapshot(tmp_path / "other")
    assert pushed(one, place, ["other"]).snapshots == 1
    with cloned(place, tmp_path / "two.git", "laptop") as two:
        assert two.history.projects() == ["other"]
    assert pushed(one, place).snapshots == 3
    edit(tmp_path / "work", 5)
    one.create_snapshot(tmp_path / "work")
    edit(tmp_path / "other", 5)
    one.create_snapshot(tmp_path / "other")
    assert pushed(one, place, ["other"]).snapshots == 1
    with cloned(place, tmp_path / "three.git", "laptop") as three:
        assert three.history.projects() == ["other", "work"]
        assert len(three.list_snapshots()) == 3 + 2


def test_two_machines_push_and_fetch_one_line(one: Vault, place: Counted, tmp_path: Path) -> None:
    pushed(one, place)
    with cloned(place, tmp_path / "two.git", "laptop") as two:
        two.move_project("work", tmp_path / "work")
        edit(tmp_path / "work", 77_000)
        two.create_snapshot(tmp_path / "work", project="work")
        told = settings.get(two.path, "origin")
        from gitvault.remotes.push import push

        assert push(two, remote_of(two, place, "origin"), told, progress=quiet).snapshots == 1
        came = fetch.fetch(one, remote_of(one, place), settings.get(one.path, "off"), progress=quiet)
        assert came.snapshots == 1
        assert came.lines == ()
        assert [s.id for s in one.list_snapshots()] == [s.id for s in two.list_snapshots()]
        same(one, "work", tmp_path / "work", tmp_path)
        assert fetch.fetch(one, remote_of(one, place), settings.get(one.path, "off"), progress=quiet).bytes == 0


def test_separate_ways_become_two_lines(one: Vault, place: Counted, tmp_path: Path) -> None:
    pushed(one, place)
    with cloned(place, tmp_path / "two.git", "laptop") as two:
        (tmp_path / "mine").mkdir()
        fill(tmp_path / "mine", 9)
        two.move_project("work", tmp_path / "mine")
        two.create_snapshot(tmp_path / "mine", project="work")
        edit(tmp_path / "work", 1_000)
        one.create_snapshot(tmp_path / "work")
        from gitvault.remotes.push import push

        # At once: neither has fetched what the other did.
        push(two, remote_of(two, place, "origin"), settings.get(two.path, "origin"), progress=quiet)
        pushed(one, place)
        came = fetch.fetch(one, remote_of(one, place), settings.get(one.path, "off"), progress=quiet)
        assert came.lines == ("work@laptop",)
        assert one.history.projects() == ["work", "work@laptop"]
        same(one, "work@laptop", tmp_path / "mine", tmp_path)
        same(one, "work", tmp_path / "work", tmp_path)
        # Pushed and fetched again, the lines stay two.
        pushed(one, place)
        back = fetch.fetch(two, remote_of(two, place, "origin"), settings.get(two.path, "origin"), progress=quiet)
        assert back.lines == ("work@desk",)
        assert two.history.projects() == ["work", "work@desk"]
        again = fetch.fetch(one, remote_of(one, place), settings.get(one.path, "off"), progress=quiet)
        assert again.lines == ()
    with cloned(place, tmp_path / "three.git", "tower", 9) as three:
        assert three.verify(data=True).ok
        assert len(three.history.projects()) == 2


def test_a_file_comes_back_with_few_requests(one: Vault, place: Counted, tmp_path: Path) -> None:
    pushed(one, place)
    place.requests.clear()
    done = partial.restore(
        remote_of(None, place), "", "work~1", str(tmp_path / "out"), paths=[b"src/deep/er/one.txt"], progress=quiet
    )
    assert done.files == 1
    assert (tmp_path / "out/src/deep/er/one.txt").read_text() == "plain words of 1\n"
    assert place.requests["get"] + place.requests["list"] <= 20
    assert place.requests["down"] < 60_000, "the large file is 200,000 bytes"
    everything = partial.restore(remote_of(None, place), one.config.id, "work", str(tmp_path / "all"), progress=quiet)
    assert not everything.problems
    assert differences(tmp_path / "work", tmp_path / "all") == {}


def test_a_snapshot_is_found_by_how_its_id_begins(one: Vault, place: Counted, tmp_path: Path) -> None:
    oldest = one.list_snapshots()[-1].id
    pushed(one, place)
    for name in (oldest, oldest[:12]):
        done = partial.restore(
            remote_of(None, place), "", name, str(tmp_path / name), paths=[b"mid.bin"], progress=quiet
        )
        assert done.snapshot == oldest
    with pytest.raises(NotFoundError):
        partial.restore(remote_of(None, place), "", "0123456789", str(tmp_path / "x"), progress=quiet)


def test_a_snapshot_that_newer_records_hide_is_restored(one: Vault, place: Counted, tmp_path: Path) -> None:
    """Who owns the laptop can write a record without any refs, in its own chain; older ones stay."""
    pushed(one, place)
    oldest = one.list_snapshots()[-1].id
    remote = remote_of(None, place)
    [record] = remote.records(one.config.id).values()
    from dataclasses import replace

    emptied = replace(record, number=record.number + 1, refs={}, runs=(), previous=records.digest(record))
    place.put(records.name_of(emptied), emptied.encode())
    place.put(f"{records.FOLDER}{'0' * 32}/{5:020d}-{'a' * 64}", b"junk")
    place.put(f"{records.FOLDER}strange", b"junk")
    done = partial.restore(remote_of(None, place), "", oldest, str(tmp_path / "out"), progress=quiet)
    assert done.snapshot == oldest
    assert not done.problems


def test_an_interrupted_push_goes_on(one: Vault, place: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gitvault.remotes.push._PART_SIZE", 20_000)
    monkeypatch.setattr("gitvault.remotes.push.THREADS", 1)
    place.fail = lambda what, name: (
        RemoteUnreachable("the cable") if what == "put" and len(place.put_names) >= 3 else None
    )
    with pytest.raises(RemoteUnreachable):
        pushed(one, place)
    assert not list(place.names(records.FOLDER))
    sent = set(place.put_names)
    place.fail = lambda what, name: None
    place.put_names.clear()
    report = pushed(one, place)
    assert report.snapshots == 3
    assert not sent & set(place.put_names)
    assert verify(remote_of(None, place), one.config.id, data=True, progress=quiet).ok


def test_what_was_damaged_there_is_found_and_pushed_again(one: Vault, place: Counted, tmp_path: Path) -> None:
    pushed(one, place)
    chunk = next(stored.name for stored in place.names(CHUNKS))
    pack = next(stored.name for stored in place.names(GIT))
    (tmp_path / "place" / pack).unlink()
    content = bytearray((tmp_path / "place" / chunk).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "place" / chunk).write_bytes(content)
    quick = verify(remote_of(one, place), one.config.id, progress=quiet)
    assert [defect.object for defect in quick.defects] == [pack]
    found = verify(remote_of(one, place), one.config.id, data=True, progress=quiet)
    assert {defect.object for defect in found.defects} == {pack, chunk}
    assert pushed(one, place).uploaded
    assert verify(remote_of(one, place), one.config.id, data=True, progress=quiet).ok
    with cloned(place, tmp_path / "two.git", "laptop") as two:
        assert two.verify(data=True).ok
        same(two, "work", tmp_path / "work", tmp_path)


def test_another_vault_and_a_place_that_was_emptied_are_refused(one: Vault, place: Counted, tmp_path: Path) -> None:
    pushed(one, place)
    with made(tmp_path / "two.git", "laptop") as two, pytest.raises(RemoteRefused, match="holds another vault"):
        pushed(two, place)
    (tmp_path / "place" / MARKER).unlink()
    with pytest.raises(RemoteRefused, match="is gone; is it mounted"):
        pushed(one, place)
    with pytest.raises(NotFoundError, match="no vault there"):
        fetch.fetch(one, remote_of(one, place), settings.get(one.path, "off"), progress=quiet)
    with pytest.raises(NotFoundError, match="no vault there"):
        fetch.clone(remote_of(None, place), "/nowhere", tmp_path / "c.git", {}, progress=quiet)
    with pytest.raises(NotFoundError, match="no vault there"):
        partial.restore(remote_of(None, place), "", "work", str(tmp_path / "o"), progress=quiet)


def test_a_clone_leaves_other_folders_alone(one: Vault, place: Counted, tmp_path: Path) -> None:
    pushed(one, place)
    with pytest.raises(ExistsError):
        fetch.clone(remote_of(None, place), "/nowhere", tmp_path / "work", {}, progress=quiet)


def test_a_clone_that_was_interrupted_goes_on(one: Vault, place: Counted, tmp_path: Path) -> None:
    pushed(one, place)
    place.fail = lambda what, name: RemoteUnreachable("the cable") if name.startswith(CHUNKS) else None
    with pytest.raises(RemoteUnreachable):
        fetch.clone(remote_of(None, place), "/nowhere", tmp_path / "two.git", {}, progress=quiet)
    place.fail = lambda what, name: None
    with cloned(place, tmp_path / "two.git", "laptop") as two:
        assert two.verify(data=True).ok


def test_a_place_that_lies_is_asked_again(one: Vault, place: Counted, tmp_path: Path) -> None:
    pushed(one, place)
    lies: set[str] = set()

    def lie(name: str, content: bytes) -> bytes:
        if name in lies or len(content) < 100:
            return content
        lies.add(name)
        return content[:-10] if len(lies) % 2 else content[:50] + b"?" + content[51:]

    place.spoil = lie
    with cloned(place, tmp_path / "two.git", "laptop") as two:
        assert two.verify(data=True).ok


def test_the_documents_of_the_commands(one: Vault, place: Counted, tmp_path: Path, command) -> None:  # type: ignore[no-untyped-def]
    url = tmp_path / "elsewhere"
    (tmp_path / "p").mkdir()
    fill(tmp_path / "p", 4)
    command("snapshot", tmp_path / "p")
    assert json.loads(command("remote", "add", "off", url, "--json").stdout)["url"] == str(url)
    assert command("remote", "add", "off", url).returncode == 128
    first = json.loads(command("push", "off", "--json").stdout)
    assert {key: type(first[key]) for key in ("uploaded", "bytes", "skipped", "snapshots")} == dict.fromkeys(
        ("uploaded", "bytes", "skipped", "snapshots"), int
    )
    assert json.loads(command("push", "--json").stdout)["uploaded"] == 0
    assert json.loads(command("remote", "verify", "off", "--data", "--json").stdout)["ok"] is True
    assert json.loads(command("remote", "list", "--json").stdout)[0]["name"] == "off"
    assert json.loads(command("fetch", "off", "--json").stdout)["snapshots"] == 0
    done = command("restore", "--remote", "off", "p", "mid.bin", "--to", tmp_path / "back", "--json")
    assert json.loads(done.stdout)["files"] == 1
    done = command("--vault", tmp_path / "none.git", "restore", "--remote", url, "p", "--to", tmp_path / "all")
    assert done.returncode == 0
    assert differences(tmp_path / "p", tmp_path / "all") == {}
    assert json.loads(command("clone", url, tmp_path / "c.git", "--json").stdout)["snapshots"] == 1
    assert command("remote", "remove", "off").returncode == 0
    assert command("push", "off").returncode == 128
    assert command("push").returncode == 128
