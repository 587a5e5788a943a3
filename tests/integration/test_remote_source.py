"""What a restore of a remote asks for: each pack once, whole where most of it is wanted, and what each stands on."""

from __future__ import annotations

import io
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pyrage
import pytest
from away import Counted, edit, fill, made, pushed, quiet, remote_of, told_of
from trees import contents, differences, write

from gitvault.core.backup_engine import restore
from gitvault.core.storage.packs import read_table
from gitvault.core.versioning.packfile import NewPack, publish
from gitvault.errors import RemoteUnreachable
from gitvault.remotes import partial, source
from gitvault.remotes.fetch import NewChunks, StoredPack, index_some, store_part
from gitvault.remotes.fetcher import Fetcher
from gitvault.remotes.index import Part
from gitvault.remotes.places import Place
from gitvault.remotes.remote import CHUNKS, GIT, Remote
from gitvault.remotes.sealed import Sealed, learn
from gitvault.remotes.sealed.objects import named_hash
from gitvault.remotes.source import Wanted
from gitvault.vault import Vault


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    """Several large files, and edits of one of them, each pushed by itself; `place` has it."""
    with made(tmp_path / "vault.git", "desk") as vault:
        yield vault


def saved(vault: Vault, place: Place, tmp_path: Path, times: int = 3) -> Path:
    folder = tmp_path / "work"
    fill(folder, 1)
    for number in range(4):
        (folder / f"more{number}.bin").write_bytes((folder / "large.bin").read_bytes()[number * 99 :][:90_000][::-1])
    for number in range(times):
        edit(folder, 50_000 * number)
        vault.create_snapshot(folder, project="work")
        pushed(vault, place)
    return folder


def restored(place: Place, target: Path, paths: Sequence[bytes] = ()) -> list[str]:
    done = partial.restore(remote_of(None, place), told_of(), "work", str(target), paths=paths, progress=quiet)
    return [problem.reason for problem in done.problems]


class Held(Counted):
    """No pack is given but two, with lists of chunks and with a file, until somebody says so."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.given = threading.Event()
        self.asked: list[str] = []

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        if name.startswith(CHUNKS):
            self.asked.append(name)
            if len(self.asked) > 2:
                assert self.given.wait(60), "nothing was restored while the rest was on its way"
        return super().get(name, start, length)


def test_what_came_first_is_restored_while_the_rest_is_on_its_way(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gitvault.remotes.push._PART_SIZE", 60_000)
    monkeypatch.setattr(source, "_FIRST_ROUND", 1)
    folder = tmp_path / "work"
    folder.mkdir()
    rng = random.Random(1)
    for number in range(3):
        (folder / f"{number}.bin").write_bytes(rng.randbytes(100_000))
    vault.create_snapshot(folder, project="work")
    place = Held(tmp_path / "place")
    pushed(vault, place)

    def progress(what: str, done: int, total: int) -> None:
        if what == "restoring" and done >= 100_000:
            place.given.set()

    assert not partial.restore(
        remote_of(None, place), told_of(), "work", str(tmp_path / "out"), progress=progress
    ).problems
    assert differences(folder, tmp_path / "out") == {}
    assert len(place.asked) == 4


def test_files_come_as_they_lie_in_packs(vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by their paths, of which ten neighbours came there in ten pushes."""
    monkeypatch.setattr("gitvault.remotes.push._PART_SIZE", 200_000)
    monkeypatch.setattr(source, "_FIRST_ROUND", 650_000)
    folder = tmp_path / "work"
    folder.mkdir()
    rng = random.Random(3)
    place = Counted(tmp_path / "place")
    for push in range(10):
        for number in range(6):
            (folder / f"{number}{push}.bin").write_bytes(rng.randbytes(70_000))
        vault.create_snapshot(folder, project="work")
        pushed(vault, place)
    written = threading.Event()
    got: list[str] = []

    def hold(what: str, name: str) -> None:
        if what == "get" and name.startswith(CHUNKS):
            got.append(name)
            assert len(set(got)) < 10 or written.wait(20), "nothing was written before the tenth pack came"

    def progress(what: str, done: int, total: int) -> None:
        if what == "restoring" and done:
            written.set()

    place.fail = hold
    assert not partial.restore(
        remote_of(None, place), told_of(), "work", str(tmp_path / "out"), progress=progress
    ).problems
    assert differences(folder, tmp_path / "out") == {}
    assert len(set(got)) > 20


def test_what_is_wanted_comes_once(vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gitvault.remotes.push._PART_SIZE", 60_000)
    # Several rounds: one is restored while the next one comes.
    monkeypatch.setattr(source, "_ROUND", 150_000)
    place = Counted(tmp_path / "place")
    folder = saved(vault, place, tmp_path, times=1)
    place.requests.clear()
    assert restored(place, tmp_path / "out") == []
    assert differences(folder, tmp_path / "out") == {}
    there = sum(stored.size for stored in Counted(tmp_path / "place").names())
    # A pack of which the manifest of the next files came by itself may come once more.
    assert place.requests["down"] < 1.1 * there + 60_000
    place.requests.clear()
    assert restored(place, tmp_path / "part", [b"mid.bin"]) == []
    assert place.requests["down"] < 0.2 * there, "of one file only the frames"


def test_a_sealed_pack_is_opened_once_whatever_is_wanted_of_it(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gitvault.remotes.push._PART_SIZE", 60_000)
    monkeypatch.setattr(source, "_MANY", 100_000)
    identity = pyrage.x25519.Identity.generate()
    (tmp_path / "key").write_text(f"{identity}\n")
    inner = Counted(tmp_path / "place")
    place = Sealed(inner, [str(identity.to_public())], b"k" * 32, tmp_path / "key")
    folder = saved(vault, place, tmp_path)
    names: Counter[str] = Counter()
    inner.fail = lambda what, name: names.update([name] if what == "get" else [])
    assert restored(place, tmp_path / "out") == []
    assert differences(folder, tmp_path / "out") == {}
    assert {name: count for name, count in names.items() if count > 1} == {}


def test_a_pack_that_came_says_what_is_in_it(vault: Vault, tmp_path: Path) -> None:
    place = Counted(tmp_path / "place")
    saved(vault, place, tmp_path, times=1)
    vault.disk.make_folder(vault.path / "chunks/tmp")
    for stored in list(place.names(CHUNKS)):
        made: StoredPack = store_part(vault, Part(stored.name, stored.size), place.get(stored.name))
        assert isinstance(made, NewChunks)
        assert made.table == read_table(made.path)
        # Under its name, as a pack of this vault, it is sound.
        made.path.rename(vault.path / "chunks" / made.name)
        assert read_table(vault.path / "chunks" / made.name, strict=True) == made.table


@pytest.fixture
def ahead(vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sealed:
    """A sealed place from which packs come before they are asked for, to which several rounds of files were pushed."""
    monkeypatch.setattr("gitvault.remotes.push._PART_SIZE", 60_000)
    monkeypatch.setattr(source, "_MANY", 100_000)
    monkeypatch.setattr(source, "_ROUND", 80_000)
    identity = pyrage.x25519.Identity.generate()
    (tmp_path / "key").write_text(f"{identity}\n")
    place = Sealed(Counted(tmp_path / "place"), [str(identity.to_public())], b"k" * 32, tmp_path / "key")
    saved(vault, place, tmp_path)
    return place


def test_packs_come_once_and_before_they_are_asked_for(
    ahead: Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gitvault.remotes.fetcher._AHEAD", 2)
    remote = remote_of(None, ahead)
    parts = [Part(stored.name, stored.size) for stored in ahead.names(CHUNKS)]
    assert len(parts) > 5
    came: list[str] = []
    get = remote.get
    monkeypatch.setattr(remote, "get", lambda name: came.append(name) or get(name))
    with Vault.create(tmp_path / "part.git") as part, closing(Fetcher(part, remote, parts)) as fetcher:
        part.disk.make_folder(part.path / "chunks/tmp")
        first = list(fetcher.fetch(parts[3:5], lambda part, error: None))
        deadline = time.monotonic() + 20
        while len(came) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert sorted(came) == sorted(part.name for part in (*parts[3:5], *parts[:2]))
        second = list(fetcher.fetch(parts[:3], lambda part, error: None))
        assert [one for one, _ in first + second] == [*parts[3:5], *parts[:3]]
        packs = [made.path.read_bytes() for _, made in first + second if isinstance(made, NewChunks)]
        assert [named_hash(one.name) for one, _ in first + second] == [sha256(pack).hexdigest() for pack in packs]
    assert len(came) == len(set(came))


def test_a_pack_that_comes_ahead_and_cannot_be_had_is_told_when_it_is_asked_for(ahead: Sealed, tmp_path: Path) -> None:
    remote = remote_of(None, ahead)
    parts = [Part(stored.name, stored.size) for stored in ahead.names(CHUNKS)]
    ahead.delete([parts[1].name])
    lost: list[Part] = []
    with Vault.create(tmp_path / "part.git") as part, closing(Fetcher(part, remote, parts)) as fetcher:
        part.disk.make_folder(part.path / "chunks/tmp")
        assert [one for one, _ in fetcher.fetch(parts[:1], lambda part, error: lost.append(part))] == parts[:1]
        assert lost == []
        assert [one for one, _ in fetcher.fetch(parts[1:3], lambda part, error: lost.append(part))] == parts[2:3]
    assert lost == [parts[1]]


def test_what_was_read_whole_is_asked_for_again_where_it_is_wanted_again(
    ahead: Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gitvault.core.storage.held._KEPT", 0)
    # Each frame is decoded anew.
    monkeypatch.setattr("gitvault.core.storage.reader._CACHE_BYTES", 1)
    assert restored(ahead, tmp_path / "out") == []
    assert differences(tmp_path / "work", tmp_path / "out") == {}


def test_packs_do_not_come_long_before_somebody_reads_them(
    ahead: Sealed, vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gitvault.remotes.fetcher._AHEAD", 0)
    remote = remote_of(None, ahead)
    part, origin = partial.open_partial(remote, remote.records(remote.vault_id()).values(), tmp_path / "part.git")
    rounds: list[int] = []
    fetch_round = origin._fetch_round
    monkeypatch.setattr(
        origin, "_fetch_round", lambda plan, some, more: rounds.append(1) or fetch_round(plan, some, more)
    )
    files = [entry.pointer for entry in vault.entries(vault.resolve("work"), recursive=True) if entry.pointer]
    with part, origin.ahead([Wanted(b"", [], files)]):
        until = time.monotonic() + 20
        while len(rounds) < 3 and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.2)
        assert len(rounds) == 3
        *_, last = sorted(files, key=lambda pointer: origin._rounds[pointer.oid])
        assert origin._rounds[last.oid] > 3
        part.store.retrieve_file(last, io.BytesIO())
        assert len(rounds) > origin._rounds[last.oid]
    # And whoever asks for nothing waits for nothing.


def test_whoever_asks_before_the_walk_has_ended_is_counted_too(ahead: Sealed, vault: Vault, tmp_path: Path) -> None:
    """All readers wait already when it becomes known in which rounds their files come."""
    remote = remote_of(None, ahead)
    part, origin = partial.open_partial(remote, remote.records(remote.vault_id()).values(), tmp_path / "part.git")
    files = [entry.pointer for entry in vault.entries(vault.resolve("work"), recursive=True) if entry.pointer]
    walked = threading.Event()

    def walk() -> Iterator[Wanted]:
        assert walked.wait(20)
        yield Wanted(b"", [], files)

    with part, origin.ahead(walk()), ThreadPoolExecutor(len(files)) as readers:
        read = [readers.submit(part.store.retrieve_file, pointer, io.BytesIO()) for pointer in files]
        time.sleep(0.2)
        walked.set()
        try:
            for future in read:
                future.result(20)
        finally:
            # So that a test that fails ends.
            with origin._arrived:
                origin._ended = True
                origin._arrived.notify_all()
        assert max(origin._rounds.values()) > 3


def test_files_come_in_the_order_in_which_their_packs_were_pushed(
    ahead: Sealed, vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the packs' names, which are hashes, each pack of a large file would lie among others."""
    for number in range(12):
        (tmp_path / "work" / f"other{number}.bin").write_bytes(random.Random(number).randbytes(90_000))
    vault.create_snapshot(tmp_path / "work", project="work")
    pushed(vault, ahead)
    remote = remote_of(None, ahead)
    pushed_order = list(remote.index(remote.records(remote.vault_id()).values()).parts())
    asked: list[str] = []

    class Noted(Fetcher):
        def __init__(self, vault: Vault, remote: Remote, expected: Iterable[Part]) -> None:
            some = list(expected)
            asked.extend(part.name for part in some)
            super().__init__(vault, remote, some)

    monkeypatch.setattr(source, "Fetcher", Noted)
    assert restored(ahead, tmp_path / "out") == []
    assert asked == [name for name in pushed_order if name in set(asked)]
    assert len(asked) > 2


def test_a_pack_whose_bases_are_gone_gives_what_is_whole(vault: Vault, tmp_path: Path) -> None:
    place = Counted(tmp_path / "place")
    folder = saved(vault, place, tmp_path)
    packs = {path: read_table(path) for path in (tmp_path / "place/chunks").iterdir()}
    first = next(path for path, table in packs.items() if not any(frame.bases for frame in table.frames))
    assert any(frame.bases for table in packs.values() for frame in table.frames), "the edits are coded against it"
    first.unlink()
    said = restored(place, tmp_path / "out")
    assert len(said) == 6
    assert (tmp_path / "out/src/file3.txt").read_text() == (folder / "src/file3.txt").read_text()


def test_without_network_a_restore_waits_once(vault: Vault, tmp_path: Path) -> None:
    place = Counted(tmp_path / "place")
    saved(vault, place, tmp_path, times=1)
    tries: list[str] = []

    def cut(what: str, name: str) -> RemoteUnreachable | None:
        if not name.startswith(CHUNKS):
            return None
        tries.append(name)
        return RemoteUnreachable("the cable")

    place.fail = cut
    with pytest.raises(RemoteUnreachable, match="the cable"):
        restored(place, tmp_path / "out")
    assert len(tries) <= 8, "those under way, not one for each file"


def test_older_versions_are_asked_for_only_when_the_newest_says_nothing(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = pyrage.x25519.Identity.generate()
    (tmp_path / "key").write_text(f"{identity}\n")
    place = Counted(tmp_path / "place")
    recipients = [str(identity.to_public())]
    saved(vault, Sealed(place, recipients, b"k" * 32, tmp_path / "key"), tmp_path, times=1)

    def never(name: str) -> Iterator[bytes]:
        yield from ()
        raise AssertionError(name)

    monkeypatch.setattr(place, "versions", never)
    assert learn(place, tmp_path / "key") == (b"k" * 32, recipients)
    sealed = Sealed(place, recipients, b"k" * 32, tmp_path / "key")
    assert Remote(sealed, "the place").vault_id() == vault.config.id


def test_what_is_asked_for_comes_and_no_more(vault: Vault, tmp_path: Path) -> None:
    place = Counted(tmp_path / "place")
    saved(vault, place, tmp_path, times=1)
    remote = remote_of(None, place)
    tip = vault.history.tip("work")
    assert tip
    large = {entry.path: entry.pointer for entry in vault.entries("work") if entry.pointer}
    part, bringing = partial.open_partial(remote, remote.records(vault.config.id).values(), tmp_path / "part.git")
    with part:
        assert not part.history.objects.contains(tip)
        assert bringing.fetch_objects(tip.hex()[:10])
        assert not bringing.fetch_objects("0" * 40)
        assert part.history.objects.contains(tip)
        [text] = [entry.blob for entry in vault.entries("work", b"src/file3.txt")]
        bringing.fetch_many([text])
        assert part.history.objects.contains(text)
        bringing.fetch_files([large[b"mid.bin"]])
        assert part.store.has(large[b"mid.bin"])
        assert not part.store.has(large[b"large.bin"])


@pytest.fixture
def small(vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of small files in many folders, in a snapshot that goes into many packs of git; restored by workers."""
    monkeypatch.setattr("gitvault.remotes.push._PART_SIZE", 6_000)
    monkeypatch.setattr(restore, "_WORKERS_FROM", 0)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    noise = random.Random(2)
    names = [f"{a}/{b}/{c}.bin" for a in range(4) for b in "abc" for c in "xy"]
    folder = write(tmp_path / "work", {name: noise.randbytes(1_500) for name in names})
    os.link(folder / "0/a/x.bin", folder / "3/other name.bin")
    (folder / "0/large.bin").write_bytes(noise.randbytes(30_000))
    vault.create_snapshot(folder, project="work")
    return folder


def packs_of_files(vault: Vault, place: Place) -> list[str]:
    """The packs on a remote that hold files, in the order in which a restore needs them."""
    known = remote_of(vault, place).records(vault.config.id).values()
    rows = remote_of(vault, place).index(known)
    blobs = [entry.blob.hex() for entry in vault.entries("work", recursive=True) if entry.blob and not entry.pointer]
    return list(dict.fromkeys(rows.find([blob])[blob].part.name for blob in blobs if rows.find([blob])))


@pytest.mark.parametrize("cores", [1, 3])
def test_small_files_are_restored_while_the_rest_is_on_its_way(
    vault: Vault, tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    place = Counted(tmp_path / "place")
    pushed(vault, place)
    packs = packs_of_files(vault, place)
    assert len(packs) > 5
    written = threading.Event()

    def hold(what: str, name: str) -> None:
        if name == packs[-1]:
            assert written.wait(60), "nothing was restored while the last pack was on its way"

    place.fail = hold

    def progress(what: str, done: int, total: int) -> None:
        if what == "restoring" and done >= 1_500:
            written.set()

    done = partial.restore(remote_of(None, place), told_of(), "work", str(tmp_path / "out"), progress=progress)
    assert done.problems == ()
    assert differences(small, tmp_path / "out") == {}
    assert os.path.samefile(tmp_path / "out/0/a/x.bin", tmp_path / "out/3/other name.bin")


def test_of_a_pack_that_is_gone_the_files_are_named_and_the_others_restored(
    vault: Vault, tmp_path: Path, small: Path
) -> None:
    place = Counted(tmp_path / "place")
    pushed(vault, place)
    lost = packs_of_files(vault, place)[2]
    (tmp_path / "place" / lost).unlink()
    asked: list[str] = []
    place.fail = lambda what, name: asked.append(name)
    done = partial.restore(remote_of(None, place), told_of(), "work", str(tmp_path / "out"), progress=quiet)
    assert done.problems
    assert all(lost in problem.reason for problem in done.problems)
    named = {problem.path for problem in done.problems}
    assert contents(tmp_path / "out") == {path: data for path, data in contents(small).items() if path not in named}
    assert asked.count(lost) <= 3, "not once for each file"


def test_without_network_for_small_files_a_restore_ends(vault: Vault, tmp_path: Path, small: Path) -> None:
    place = Counted(tmp_path / "place")
    pushed(vault, place)
    last = packs_of_files(vault, place)[-1]
    place.fail = lambda what, name: RemoteUnreachable("the cable") if name == last else None
    with pytest.raises(RemoteUnreachable, match="the cable"):
        partial.restore(remote_of(None, place), told_of(), "work", str(tmp_path / "out"), progress=quiet)


def rows_of(monkeypatch: pytest.MonkeyPatch, say: Callable[[int, int], str]) -> None:
    """From now on a push says otherwise where a git object is, by the number of its pack and where it begins."""
    monkeypatch.setattr("gitvault.remotes.index.git_row", say)


def test_what_pushes_of_before_do_not_say_is_found_out(
    vault: Vault, tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows_of(monkeypatch, lambda part, offset: f"g {part}")
    place = Counted(tmp_path / "place")
    pushed(vault, place)
    assert restored(place, tmp_path / "out") == []
    assert differences(small, tmp_path / "out") == {}


@pytest.mark.parametrize("wrong", [lambda offset: offset + 1, lambda offset: 1 << 80, lambda offset: "-1"])
def test_rows_that_lead_to_a_wrong_place_hide_nothing(
    vault: Vault, tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch, wrong: Callable[[int], object]
) -> None:
    """Whoever may put can write them: every file is compared with its hash, and looked for in the whole pack."""
    rows_of(monkeypatch, lambda part, offset: f"g {part} {wrong(offset)}")
    place = Counted(tmp_path / "place")
    pushed(vault, place)
    assert restored(place, tmp_path / "out") == []
    assert differences(small, tmp_path / "out") == {}


@pytest.mark.parametrize("wanted", [[], [b"9"], [b"0/a"]])
def test_what_is_wanted_of_a_pack_that_was_fetched_for_less_is_found_too(
    vault: Vault, tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch, wanted: list[bytes]
) -> None:
    """A folder got a name behind all others: some of a pack is wanted first, some when the walk had gone past it.

    The pack comes once.
    """
    monkeypatch.setattr(source, "_LOOKED_FOR", 1)
    place = Counted(tmp_path / "place")
    pushed(vault, place)
    (small / "0/b").rename(small / "9")
    vault.create_snapshot(small, project="work")
    pushed(vault, place)
    names: Counter[str] = Counter()
    place.fail = lambda what, name: names.update([name] if what == "get" else [])
    assert restored(place, tmp_path / "out", wanted) == []
    below = wanted[0].decode() if wanted else ""
    assert differences(small / below, tmp_path / "out" / below) == {}
    assert max(count for name, count in names.items() if name.startswith(GIT)) == 1


def test_more_objects_of_a_pack_that_is_here_are_found(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Counted(tmp_path / "place")
    saved(vault, place, tmp_path, times=1)
    remote = remote_of(None, place)
    known = remote.records(vault.config.id).values()
    blobs = [
        entry.blob for entry in vault.entries("work", recursive=True) if entry.kind == "file" and not entry.pointer
    ]
    rows = {blob: remote.index(known).find([blob.hex()])[blob.hex()] for blob in blobs}
    [part] = {row.part for row in rows.values()}
    offsets = {blob: row.offset() or 0 for blob, row in rows.items()}
    one, other, third = blobs[:3]
    with Vault.create(tmp_path / "part.git") as here:
        made = store_part(here, part, place.get(part.name), {one: offsets[one]})
        assert isinstance(made, NewPack)
        assert made.objects == 1
        publish(made, here.path / "objects/pack", here.disk)
        index_some(here, here.path / f"objects/pack/{made.name}.pack", {other: offsets[other]})

        def refused(source: Path, target: Path) -> None:
            raise PermissionError(1, "no links here")

        monkeypatch.setattr(here.disk, "link", refused)
        index_some(here, here.path / f"objects/pack/{made.name}.pack", {third: offsets[third]})
        objects = here.history.objects
        objects.refresh()
        assert [objects.contains(blob) for blob in blobs] == [True] * 3 + [False] * (len(blobs) - 3)
        assert all(objects.read(blob) == vault.history.objects.read(blob) for blob in (one, other, third))


def test_what_is_walked_comes_while_it_is_walked(vault: Vault, tmp_path: Path) -> None:
    """Small files are told of by their folders, large ones by their order; who asks for one of these waits for it."""
    place = Counted(tmp_path / "place")
    saved(vault, place, tmp_path, times=1)
    remote = remote_of(None, place)
    text = list(vault.entries("work", b"src/file3.txt"))
    large = [entry.pointer for entry in vault.entries("work") if entry.pointer]
    part, bringing = partial.open_partial(remote, remote.records(vault.config.id).values(), tmp_path / "part.git")
    with part:
        wanted = [Wanted(b"", [], large), Wanted(b"src", [entry.blob for entry in text], [])]
        with bringing.ahead(wanted):
            arrivals = part.history.objects.arrivals
            assert arrivals
            arrivals.wait([b"src"])
            assert set(arrivals.order()) == {pointer.oid for pointer in large}
            bringing.fetch_file(large[0])
            assert part.store.has(large[0])
            assert arrivals.objects == 1
        part.history.objects.refresh()
        assert all(map(part.history.objects.contains, wanted[1].blobs))
