"""Remotes: what is pushed can be cloned and restored, nothing is sent twice, two machines never conflict."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from away import Counted, age, edit, fill, made, opened, pushed, quiet, remote_of, told_of
from trees import differences

from gitvault.cli.care import verify_document, verify_lines
from gitvault.core.backup_engine.copy import DOINGS, grouped, read_refs
from gitvault.core.backup_engine.retention import Retention
from gitvault.core.models import ObjectId, RestoreReport
from gitvault.core.utils.files import FleetingDisk
from gitvault.core.versioning.refs import RefStore
from gitvault.core.versioning.transfer import Reach, Walk
from gitvault.errors import CorruptionError, ExistsError, NotFoundError, RemoteRefused, RemoteUnreachable
from gitvault.remotes import fetch, git, index, lines, partial, records, settings, source, views
from gitvault.remotes.index import Part
from gitvault.remotes.prune import RemotePruneReport
from gitvault.remotes.prune import prune as prune_remote
from gitvault.remotes.push import push
from gitvault.remotes.records import Record
from gitvault.remotes.remote import CHUNKS, GIT, MARKER, Remote
from gitvault.remotes.verify import verify
from gitvault.vault import Vault, waiting


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
    report: fetch.FetchReport
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
    report = verify(remote_of(None, place), told_of(one.config.id), data=True, progress=quiet)
    assert report.ok
    assert report.objects_checked == len(place.put_names) - 1
    assert verify_document(report)["ok"] is True
    assert "all is well" in next(verify_lines(report, (), True))
    remote = remote_of(None, place)
    unread = verify(remote, told_of(one.config.id), progress=quiet).bytes_checked
    thirds = [
        verify(remote, told_of(one.config.id), data=True, share=(1, 3), turn=turn, progress=quiet).bytes_checked
        for turn in range(3)
    ]
    # Names are random here: how much is read in which turn is chance, but in three it is everything, once.
    assert sum(third - unread for third in thirds) == report.bytes_checked - unread > 0


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
        remote_of(None, place),
        told_of(),
        "work~1",
        str(tmp_path / "out"),
        paths=[b"src/deep/er/one.txt"],
        progress=quiet,
    )
    assert done.files == 1
    assert (tmp_path / "out/src/deep/er/one.txt").read_text() == "plain words of 1\n"
    assert place.requests["get"] + place.requests["list"] <= 20
    assert place.requests["down"] < 60_000, "the large file is 200,000 bytes"
    everything = partial.restore(
        remote_of(None, place), told_of(one.config.id), "work", str(tmp_path / "all"), progress=quiet
    )
    assert not everything.problems
    assert differences(tmp_path / "work", tmp_path / "all") == {}


def test_a_snapshot_is_found_by_how_its_id_begins(one: Vault, place: Counted, tmp_path: Path) -> None:
    oldest = one.list_snapshots()[-1].id
    pushed(one, place)
    for name in (oldest, oldest[:12]):
        done = partial.restore(
            remote_of(None, place), told_of(), name, str(tmp_path / name), paths=[b"mid.bin"], progress=quiet
        )
        assert done.snapshot == oldest
    with pytest.raises(NotFoundError):
        partial.restore(remote_of(None, place), told_of(), "0123456789", str(tmp_path / "x"), progress=quiet)


def test_a_snapshot_that_newer_records_hide_is_restored(one: Vault, place: Counted, tmp_path: Path) -> None:
    """Who owns the laptop can write a record without any refs, in its own chain; older ones stay."""
    pushed(one, place)
    oldest = one.list_snapshots()[-1].id
    remote = remote_of(None, place)
    [record] = remote.records(one.config.id).values()
    emptied = replace(record, number=record.number + 1, refs={}, runs=(), previous=records.digest(record))
    place.put(records.name_of(emptied), emptied.encode())
    place.put(f"{records.FOLDER}{'0' * 32}/{5:020d}-{'a' * 64}", b"junk")
    place.put(f"{records.FOLDER}strange", b"junk")
    done = partial.restore(remote_of(None, place), told_of(), oldest, str(tmp_path / "out"), progress=quiet)
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
    assert verify(remote_of(None, place), told_of(one.config.id), data=True, progress=quiet).ok


def test_what_was_damaged_there_is_found_and_pushed_again(one: Vault, place: Counted, tmp_path: Path) -> None:
    pushed(one, place)
    chunk = next(stored.name for stored in place.names(CHUNKS))
    pack = next(stored.name for stored in place.names(GIT))
    (tmp_path / "place" / pack).unlink()
    content = bytearray((tmp_path / "place" / chunk).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "place" / chunk).write_bytes(content)
    quick = verify(remote_of(one, place), told_of(one.config.id), progress=quiet)
    assert [defect.object for defect in quick.defects] == [pack]
    found = verify(remote_of(one, place), told_of(one.config.id), data=True, progress=quiet)
    assert {defect.object for defect in found.defects} == {pack, chunk}
    assert pushed(one, place).uploaded
    assert verify(remote_of(one, place), told_of(one.config.id), data=True, progress=quiet).ok
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
    with pytest.raises(RemoteRefused, match="is gone; is it mounted"):
        fetch.fetch(one, remote_of(one, place), settings.get(one.path, "off"), progress=quiet)
    with pytest.raises(RemoteRefused, match="is gone; is it mounted"):
        verify(remote_of(one, place), settings.get(one.path, "off"), progress=quiet)
    with pytest.raises(NotFoundError, match="no vault there"):
        verify(remote_of(one, place), told_of(), progress=quiet)
    assert remote_of(one, place).known_id(told_of()) == ""
    assert not remote_of(one, place).can_be_had("index/" + "0" * 64)
    with pytest.raises(NotFoundError, match="no vault there"):
        fetch.clone(remote_of(None, place), "/nowhere", tmp_path / "c.git", {}, progress=quiet)
    with pytest.raises(NotFoundError, match="no vault there"):
        partial.restore(remote_of(None, place), told_of(), "work", str(tmp_path / "o"), progress=quiet)


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


def test_prune_condemns_first_and_removes_when_the_grace_is_over(one: Vault, place: Counted, tmp_path: Path) -> None:
    pushed(one, place)
    (tmp_path / "other").mkdir()
    fill(tmp_path / "other", 2)
    one.create_snapshot(tmp_path / "other")
    fill(tmp_path / "work", 77)
    one.create_snapshot(tmp_path / "work")
    pushed(one, place)
    one.prune(Retention(last=1), yes=True)
    one.sweep()
    pushed(one, place)
    there = {stored.name for stored in place.names()}
    told = settings.get(one.path, "off")

    def prune(grace: int, yes: bool = True) -> RemotePruneReport:
        return prune_remote(one, remote_of(one, place), told, grace=grace, yes=yes, progress=quiet)

    assert prune(1000, yes=False).condemned
    assert {stored.name for stored in place.names()} == there
    first = prune(1000)
    assert first.deleted == 0
    assert first.condemned
    # Whoever pushes now sends again what it needs of that.
    age(tmp_path / "place", 2000)
    # Old records and their rows go, and nothing that was condemned a moment ago.
    assert prune(1000).deleted
    record = next(iter(remote_of(one, place).records(one.config.id).values()))
    assert len(record.condemned) == first.condemned
    assert record.condemned.keys() <= {stored.name for stored in place.names()}
    last = prune(0)
    assert last.deleted >= first.condemned
    assert there - {stored.name for stored in place.names()} >= record.condemned.keys()
    assert verify(remote_of(None, place), told_of(one.config.id), data=True, progress=quiet).ok
    with cloned(place, tmp_path / "two.git", "laptop") as two:
        assert two.verify(data=True).ok
        assert len(two.list_snapshots()) == 2
        same(two, "work", tmp_path / "work", tmp_path)
        same(two, "other", tmp_path / "other", tmp_path)


def test_prune_keeps_what_another_machine_needs(one: Vault, place: Counted, tmp_path: Path) -> None:
    pushed(one, place)
    with cloned(place, tmp_path / "two.git", "laptop") as two:
        told = settings.get(two.path, "origin")
        with pytest.raises(RemoteRefused, match="nothing of this vault"):
            prune_remote(two, remote_of(two, place, "origin"), told, grace=0, yes=True, progress=quiet)
        (tmp_path / "third").mkdir()
        fill(tmp_path / "third", 3)
        two.create_snapshot(tmp_path / "third")
        push(two, remote_of(two, place, "origin"), told, progress=quiet)
        with pytest.raises(NotFoundError, match="git-vault fetch off first"):
            prune_remote(one, remote_of(one, place), settings.get(one.path, "off"), grace=0, yes=True, progress=quiet)
        fetch.fetch(one, remote_of(one, place), settings.get(one.path, "off"), progress=quiet)
        prune_remote(one, remote_of(one, place), settings.get(one.path, "off"), grace=0, yes=True, progress=quiet)
    with cloned(place, tmp_path / "three.git", "tower") as three:
        assert three.verify(data=True).ok
        assert three.history.projects() == ["third", "work"]


def test_a_snapshot_is_pushed_by_itself_and_what_waits_is_said(
    one: Vault, place: Counted, tmp_path: Path, command, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    started: list[list[str]] = []
    monkeypatch.setattr("gitvault.core.utils.process.start_detached", lambda words: started.append(list(words)))
    (tmp_path / "p").mkdir()
    fill(tmp_path / "p", 4)
    assert command("remote", "add", "off", tmp_path / "mount" / "off", "--auto", "--rate", "900m").returncode == 0
    command("snapshot", tmp_path / "p")
    assert [words for words in started if "push" in words and "--auto" in words]
    done = json.loads(command("push", "--auto", "--json").stdout)
    assert "mount" in done[0]["error"]
    said = command("snapshot", tmp_path / "p")
    assert "not yet pushed to off" in said.stdout + said.stderr
    assert json.loads(command("remote", "list", "--json").stdout)[0]["waiting"]
    (tmp_path / "mount").mkdir()
    assert json.loads(command("push", "--auto", "--json").stdout) == [{"remote": "off", "error": None}]
    listed = json.loads(command("remote", "list", "--json").stdout)[0]
    assert listed["pushed"]
    assert listed["waiting"] is None
    said = command("snapshot", tmp_path / "p")
    assert "not yet pushed" not in said.stdout + said.stderr
    assert command("push", "off", "--auto").returncode == 129
    assert json.loads(command("remote", "prune", "off", "--json").stdout)["deleted"] == 0


def test_git_takes_everything_but_large_files(one: Vault, tmp_path: Path) -> None:
    url = f"git+file://{tmp_path}/host.git"
    subprocess.run(["git", "init", "--bare", "-q", f"{tmp_path}/host.git"], check=True)
    settings.add(one.path, "hub", {"url": url})
    report = git.push(one, settings.get(one.path, "hub"))
    assert report.snapshots == 3
    assert git.push(one, settings.get(one.path, "hub")).uploaded == 0
    shown = subprocess.run(
        ["git", "-C", f"{tmp_path}/host.git", "show", "work:src/deep/er/one.txt"], capture_output=True, check=True
    )
    assert shown.stdout == b"plain words of 1\n"
    with made(tmp_path / "two.git", "laptop") as two:
        (tmp_path / "b" / "work").mkdir(parents=True)
        fill(tmp_path / "b" / "work", 9)
        two.create_snapshot(tmp_path / "b" / "work")
        settings.add(two.path, "hub", {"url": url})
        assert git.push(two, settings.get(two.path, "hub")).snapshots == 1
    listed = subprocess.run(
        ["git", "-C", f"{tmp_path}/host.git", "branch", "--format=%(refname:short)"], capture_output=True, text=True
    )
    assert listed.stdout.split() == ["work", "work%40laptop"]
    settings.add(one.path, "gone", {"url": f"file://{tmp_path}/nowhere.git"})
    with pytest.raises(RemoteRefused):
        git.push(one, settings.get(one.path, "gone"))


def test_the_view_of_several_machines_names_each_line(one: Vault, place: Counted, tmp_path: Path) -> None:
    a, b, c = (ObjectId(bytes([n]) * 20) for n in (1, 2, 3))
    heads, tags = "refs/heads/x", "refs/tags/x/v1"

    def said(machine: str, number: int, refs: dict[str, ObjectId]) -> Record:
        return Record(one.config.id, machine, "0" * 32, number, records.time_text(one.now()), "", refs, ())

    merged = lines.merged_refs(
        [said("desk", 1, {heads: a, tags: a}), said("laptop", 4, {heads: b}), said("laptop", 3, {heads: c})]
    )
    assert merged == {heads: a, tags: a, "refs/heads/x%40laptop": b, "refs/heads/x%40laptop.3": c}
    assert fetch.under("refs/vault/meta/x", str.upper) == "refs/vault/meta/X"
    assert fetch.under("refs/vault/catalog", str.upper) == "refs/vault/catalog"
    (tmp_path / "bare").mkdir()
    views.write_refs(tmp_path / "bare", merged, FleetingDisk())
    assert RefStore(tmp_path / "bare", FleetingDisk()).list() == merged


def test_what_is_pushed_is_what_others_can_use(one: Vault, place: Counted, tmp_path: Path) -> None:
    """A vault's own doings (what was restored where, what can be undone) stay at home."""
    one.restore_snapshot("work~1", tmp_path / "somewhere")
    refs = read_refs(one.history)
    groups = grouped(refs, frozenset({"work"}), DOINGS)
    assert any(ref.startswith(DOINGS) for ref in refs)
    assert not any(ref.startswith(DOINGS) for group in groups.values() for ref in group)
    pushed(one, place)
    [record] = remote_of(None, place).every_record(one.config.id)
    assert set(record.refs) == {ref for group in groups.values() for ref in group}
    known = remote_of(None, place).index([record])
    assert {part.name for run in known.runs for part in known.parts_of(run)} == known.parts().keys()


def test_walks_leave_out_what_is_known(one: Vault) -> None:
    tips = {ref: oid for ref, oid in read_refs(one.history).items() if ref.startswith("refs/heads/")}
    reach = Reach(one.history)
    everything = reach.walk(tips)
    assert isinstance(everything, Walk)
    assert len(everything.snapshots) == 3
    reach.know(one.history, {ref: one.history.commit(oid).parents[0] for ref, oid in tips.items()})
    assert len(reach.walk(tips).snapshots) == 1
    reach.keep(everything)
    assert list(reach.walk(tips).objects()) == []


def test_a_remote_whose_rows_lead_nowhere_is_told(one: Vault, place: Counted, tmp_path: Path) -> None:
    pushed(one, place)
    remote = remote_of(None, place)
    [record] = remote.records(one.config.id).values()
    known = remote.index([record])
    pointer = next(entry.pointer for entry in one.entries("work") if entry.pointer)

    numbers = count(record.number + 1)

    def rewritten(change: Callable[[str, str], str]) -> Remote:
        """The same remote, with other rows."""
        rows = [(one, change(one, rest)) for run in known.runs for one, rest in known.rows(run)]
        parts = [part for run in known.runs for part in known.parts_of(run)]
        made = index.merge(known, (), parts, rows, place.put)
        other = replace(record, number=next(numbers), runs=(made,))
        place.put(records.name_of(other), other.encode())
        return remote_of(None, place)

    def restore(remote: Remote, name: str) -> RestoreReport:
        return partial.restore(remote, told_of(), "work", str(tmp_path / name), paths=[b"large.bin"], progress=quiet)

    chunks = next(number for number, part in enumerate(known.parts_of(known.runs[0])) if part.name.startswith(CHUNKS))
    wrong = rewritten(lambda one, rest: f"{rest[0]} {chunks}{rest[3:]}" if rest[0] == "g" else rest)
    with pytest.raises(NotFoundError):
        restore(wrong, "a")
    lost = rewritten(lambda one, rest: "m 0" if rest[0] == "c" else rest)
    [problem] = restore(lost, "b").problems
    assert "verify the remote" in problem.reason
    circle = rewritten(lambda one, rest: f"{rest} {digits_of(one)}" if rest[0] == "c" else rest)
    part, bringing = partial.open_partial(circle, circle.records(record.vault).values(), tmp_path / "part.git")
    with part, pytest.raises((NotFoundError, CorruptionError)):
        bringing.fetch_file(pointer)
    short = Part(f"{GIT}{'0' * 64}.pack", 5)
    with pytest.raises(CorruptionError, match="not a pack"):
        fetch.store_part(one, short, b"PACK\0")


def digits_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_a_vault_takes_in_another_history(one: Vault, tmp_path: Path) -> None:
    with made(tmp_path / "two.git", "laptop") as two:
        assert two.take_in(one.history, one.store).snapshots == 3
        assert two.verify(data=True).ok
        pointer = next(entry.pointer for entry in one.entries("work") if entry.pointer)
        assert two.store.has_manifest(pointer.oid) == one.store.has_manifest(pointer.oid)
        chunks = [chunk for chunk, _ in one.store.chunks(pointer)]
        assert set(two.store.known(chunks)) == set(chunks)


def test_wrong_usage(command, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for words in (
        ("remote", "add", "off"),
        ("remote", "add", "off", "s3://x/y", "--chunks", "other"),
        ("restore", "--remote", "/x", "--to", "y"),
    ):
        assert command(*words).returncode == 129
    added = command("remote", "add", "hub", "https://host/x.git", "--chunks", "off")
    assert (added.returncode, "large files go to off" in added.stdout) == (0, True)
    mistyped = command("remote", "add", "cloud", "ss3://bucket/vault")
    assert (mistyped.returncode, "ss3://: expected s3://, gs://" in mistyped.stderr) == (128, True)
    assert "cloud" not in command("remote", "list").stdout


def test_a_place_that_does_not_list_cannot_be_pruned(one: Vault, place: Counted, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    pushed(one, place)
    names = place.names
    monkeypatch.setattr(place, "names", lambda prefix="": iter(()) if prefix == "clock/" else names(prefix))
    with pytest.raises(RemoteRefused, match="does not list"):
        prune_remote(one, remote_of(one, place), settings.get(one.path, "off"), grace=0, yes=False, progress=quiet)


def test_what_became_of_a_push_is_remembered(one: Vault) -> None:
    assert waiting.last(one.path, "off") == waiting.Last()
    waiting.note(one.path, "off", one.now(), "no answer", one.disk)
    assert list(waiting.notes(one.path, ["off", "other"])) == ["not yet pushed to off: no answer"]
    waiting.note(one.path, "off", one.now(), "", one.disk)
    assert waiting.last(one.path, "off").pushed.startswith("2026-01-01T")
    assert list(waiting.notes(one.path, ["off"])) == []


def test_records_and_notes_of_both_machines_are_in_both(one: Vault, place: Counted, tmp_path: Path) -> None:
    newest = one.list_snapshots()[0].id
    one.annotate("review", newest, {"who": "first"}, "note")
    one.area("workspaces").add({b"a": b"from the desk"}, "records")
    pushed(one, place)
    with cloned(place, tmp_path / "two.git", "laptop") as two:
        one.annotate("review", newest, {"who": "desk"}, "note")
        one.area("workspaces").add({b"b": b"later from the desk"}, "records")
        two.annotate("review", newest, {"who": "laptop"}, "note")
        two.area("workspaces").add({b"c": b"from the laptop"}, "records")
        push(two, remote_of(two, place, "origin"), settings.get(two.path, "origin"), progress=quiet)
        pushed(one, place)
        came = fetch.fetch(one, remote_of(one, place), settings.get(one.path, "off"), progress=quiet)
        assert came.left == ()
        fetch.fetch(two, remote_of(two, place, "origin"), settings.get(two.path, "origin"), progress=quiet)
        for vault in (one, two):
            assert {line["who"] for line in vault.annotations("review", newest)} == {"first", "desk", "laptop"}
            assert list(vault.area("workspaces").paths()) == [b"a", b"b", b"c"]
        # What one machine has and the other lacks is not taken away by what is older there.
        one.annotate("review", newest, {"who": "desk again"}, "note")
        one.area("workspaces").add({b"d": b"last"}, "records")
        assert fetch.fetch(one, remote_of(one, place), settings.get(one.path, "off"), progress=quiet).left == ()
        assert len(one.annotations("review", newest)) == 4
        assert b"d" in set(one.area("workspaces").paths())


def test_of_a_remote_with_another_vault_and_with_endless_chains_nothing_is_restored(
    one: Vault, place: Counted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed(one, place)
    with pytest.raises(RemoteRefused, match="holds another vault"):
        partial.restore(remote_of(None, place), told_of("f" * 32), "work", str(tmp_path / "x"), progress=quiet)
    monkeypatch.setattr(source, "_DEEPEST", 0)
    problems = partial.restore(remote_of(None, place), told_of(), "work", str(tmp_path / "y"), progress=quiet).problems
    assert any("more than 0 frames stand on each other" in problem.reason for problem in problems)
