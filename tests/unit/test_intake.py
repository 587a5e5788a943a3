"""Small files into git packs: in this process, and by workers, with the same result."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from trees import contents, write

from gitvault.core.backup_engine import intake, reading
from gitvault.core.backup_engine.intake import Intake, serve
from gitvault.core.backup_engine.reading import ATTEMPTS, Batch, Limits, Outcome, Slice, read_stable, tree_mode
from gitvault.core.stat_cache import RACY_NS, Known, Stat, pack_known, stat_of
from gitvault.core.utils.process import run
from gitvault.core.versioning.objects import object_id
from gitvault.errors import GitVaultError, StorageFullError
from gitvault.vault import Vault

LIMITS = Limits(inline=1000, whole=5000, binary=frozenset({".dat"}))


def a_slice(root: Path, *names: str, attempt: int = 0) -> Slice:
    """Files of the root as a walk finds them now."""
    return Slice(1, b"", (0, 0), [(os.fsencode(name), stat_of(os.stat(root / name))) for name in names], attempt)


def outcomes(part: Slice, batch: Batch) -> dict[bytes, Outcome]:
    """What became of each file of a slice, by its path."""
    inside = part.folder + b"/" if part.folder else b""
    found = {inside + part.files[place][0]: outcome for place, outcome in batch.odd}
    for name, _, blob, line in batch.rows(batch.ordinary(part)):
        found[inside + name] = Outcome(blob, line)
    return found


@pytest.fixture
def take(vault: Vault, tmp_path: Path) -> Callable[[Path, dict[bytes, Stat]], dict[bytes, Outcome]]:
    """Sends files through an Intake as the walk found them; their outcomes by path."""

    def run(root: Path, found_by_walk: dict[bytes, Stat]) -> dict[bytes, Outcome]:
        pack = vault.history.new_pack()
        made = Intake(root, LIMITS, pack, vault.history.objects, vault.path)
        found: dict[bytes, Outcome] = {}
        for key, (path, known) in enumerate(found_by_walk.items()):
            folder, _, name = path.rpartition(b"/")
            made.submit(Slice(key, folder, (0, 0), [(name, known)]))
        while made.under_way:
            for part, batch in made.next():
                found |= outcomes(part, batch)
        assert made.ready() == []
        packs = made.finish()
        own = pack.finish()
        vault.history.publish([*packs, *([own] if own else [])])
        return found

    return run


FILES: dict[str | bytes, bytes | str] = {
    "text": b"text",
    "same": b"text",
    "empty": b"",
    "small.bin": b"\0" * 1000,
    "big.bin": b"\0" * 1001,
    "late.bin": b"x" * 4000 + b"\0",
    "named.dat": b"text" * 300,
    "long.txt": b"text" * 1250,
    "longer.txt": b"text" * 1251,
    "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1\n",
    "sub/.gitattributes": b"x" * 3000,
    b"caf\xe9": b"bytes",
}
LARGE = {b"big.bin", b"late.bin", b"named.dat", b"longer.txt", b"pointer"}


def test_names_and_beginnings_that_are_binary_as_git_has_it() -> None:
    assert LIMITS.is_plainly_binary("a.DAT", b"text") and LIMITS.is_plainly_binary("a", b"x" * 7999 + b"\0")
    assert not LIMITS.is_plainly_binary("a.txt", b"x" * 8000 + b"\0")


@pytest.mark.parametrize("workers", [False, True])
def test_what_goes_where(
    workers: bool,
    vault: Vault,
    tmp_path: Path,
    take: Callable[[Path, dict[bytes, Stat]], dict[bytes, Outcome]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if workers:
        monkeypatch.setattr(intake, "_WORKERS_FROM", 3)
    root = write(tmp_path / "project", FILES)
    (root / "folder").mkdir()
    stats = {path: stat_of(os.lstat(os.fsencode(root) + b"/" + path)) for path in contents(root)}
    found = take(root, {**stats, b"gone": stats[b"text"], b"folder": stats[b"text"]})
    assert {path for path, outcome in found.items() if outcome.large} == LARGE
    assert found.pop(b"gone") == Outcome(gone=True)
    assert found.pop(b"folder").problem
    for path, content in contents(root).items():
        outcome = found[path]
        if path in LARGE:
            assert outcome == Outcome(large=True)
            continue
        assert outcome.blob == object_id(b"blob", content)
        assert vault.history.blob(outcome.blob) == content  # type: ignore[arg-type]
        assert (outcome.torn, outcome.problem) == (False, "")
        # As the walk found it, which need not be said, or as it was when it was read.
        assert (outcome.stat or stats[path]) == stats[path]
        assert (outcome.size if outcome.stat else stats[path].size) == len(content)
    assert found[b"sub/.gitattributes"].tree_name == b"%2Egitattributes"


def test_copies_of_a_folder_are_stored_once_by_workers(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "_WORKERS_FROM", 3)
    files = {
        f"{number}/{name}": b"%d of " % number + name.encode() for number in range(20) for name in ("a", "bc", "def")
    }
    root = write(
        tmp_path / "project", {f"{copy}/{path}": data for copy in ("one", "two") for path, data in files.items()}
    )
    vault.create_snapshot(root)
    packs = list((vault.path / "objects" / "pack").glob("*.idx"))
    listed = [run(["git", "show-index"], stdin=pack.read_bytes()).split() for pack in packs]
    objects = [oid for lines in listed for oid in lines[1::3]]
    blobs = {object_id(b"blob", data).hex().encode() for data in files.values()}
    assert len(packs) > 2
    assert sorted(oid for oid in objects if oid in blobs) == sorted(blobs)


def test_workers_and_this_process_make_the_same_snapshot(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write(tmp_path / "project", {**FILES, **{f"many/{n}": b"%d" % n for n in range(600)}})
    first = vault.create_snapshot(root, project="alone")
    monkeypatch.setattr(intake, "_WORKERS_FROM", 3)
    second = vault.create_snapshot(root, project="workers")
    trees = [vault.history.trees(report.snapshot) for report in (first, second)]
    assert trees[0] == trees[1]
    assert (first.files, first.new, first.bytes_read) == (second.files, second.new, second.bytes_read)
    assert vault.verify(data=True).ok


def test_a_killed_worker_is_a_clear_error_and_nothing_is_saved(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write(tmp_path / "project", {f"{n}": b"%d" % n for n in range(2000)})
    monkeypatch.setattr(intake, "_WORKERS_FROM", 3)
    real = Intake.submit

    def submit(self: Intake, part: Slice) -> None:
        real(self, part)
        self._workers[0]._process.kill()

    monkeypatch.setattr(Intake, "submit", submit)
    with pytest.raises(GitVaultError, match="a worker process ended unexpectedly; run again, nothing was saved"):
        vault.create_snapshot(root)
    assert vault.list_snapshots() == []
    monkeypatch.undo()
    assert vault.create_snapshot(root).files == 2000
    assert list((vault.path / "tmp").iterdir()) == []
    assert vault.verify(data=True).ok


def messages(*all_of_them: object) -> io.BytesIO:
    pipe = io.BytesIO()
    for message in all_of_them:
        intake._send(pipe, message)
    pipe.seek(0)
    return pipe


def test_a_worker_whose_parent_is_gone_leaves_nothing(vault: Vault, tmp_path: Path) -> None:
    root = write(tmp_path / "project", {"a": b"a"})
    settings = {"root": str(root), "limits": (1000, 5000, [], True), "git_dir": str(vault.path), "number": 1}
    replies = io.BytesIO()
    serve(messages(settings, [a_slice(root, "a")]), replies)
    replies.seek(0)
    assert intake._receive(replies)[0] == "done"
    assert intake._receive(replies) is None
    assert list((vault.path / "tmp").iterdir()) == []


def test_a_worker_on_a_full_disk_says_so(vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(tmp_path / "project", {"a": b"a"})
    settings = {"root": str(root), "limits": (1000, 5000, [], True), "git_dir": str(vault.path), "number": 1}

    def full(*_: object) -> None:
        raise StorageFullError("tmp: no space left")

    monkeypatch.setattr(reading.PackWriter, "add_deflated", full)
    replies = io.BytesIO()
    serve(messages(settings, [a_slice(root, "a", attempt=ATTEMPTS - 1)], []), replies)
    replies.seek(0)
    assert intake._receive(replies) == ("full", "tmp: no space left")
    assert list((vault.path / "tmp").iterdir()) == []


def test_a_read_is_repeated_until_it_is_one_moment(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    tries = []

    def read(fd: int, size: int) -> bytes:
        tries.append(size)
        if len(tries) == 1:
            path.write_bytes(b"changed meanwhile")
        os.lseek(fd, 0, os.SEEK_SET)
        return os.read(fd, 100)

    fd = os.open(path, os.O_RDONLY)
    data, found, stable = read_stable(fd, read)
    os.close(fd)
    assert (data, found.st_size, stable, len(tries)) == (b"changed meanwhile", 17, True, 2)


def test_files_that_are_being_written_cost_one_wait_together(vault: Vault, tmp_path: Path) -> None:
    root = write(tmp_path / "project", {f"{number}": b"%d" % number for number in range(40)})
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        time.sleep(seconds)
        (root / "7").write_bytes(b"changes each time we look")

    pack = vault.history.new_pack()
    taken = Intake(root, LIMITS, pack, vault.history.objects, vault.path, sleep=sleep)
    for number in range(40):
        path = root / str(number)
        path.touch()
        taken.submit(a_slice(root, path.name))
    done: dict[bytes, Outcome] = {}
    while taken.under_way:
        for part, batch in taken.next():
            done |= outcomes(part, batch)
    taken.finish()
    pack.finish()
    assert done.keys() == {b"%d" % number for number in range(40)}
    assert [name for name, outcome in done.items() if outcome.torn] == [b"7"]
    assert len(waits) == 3
    assert sum(waits) < 1


def test_what_a_worker_puts_off_is_given_to_it_again(
    take: Callable[[Path, dict[bytes, Stat]], dict[bytes, Outcome]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "_WORKERS_FROM", 1)
    real = intake._Worker.submit
    attempts: list[int] = []

    def submit(self: intake._Worker, part: Slice, size: int) -> None:
        attempts.append(part.attempt)
        # Until then the files, which were written just now, rest.
        later = Batch(b"", "", b"", [], [(place, 2 * RACY_NS) for place, _ in enumerate(part.files)])
        self._done.put([(part, later)]) if not part.attempt else real(self, part, size)

    monkeypatch.setattr(intake._Worker, "submit", submit)
    root = write(tmp_path / "project", {"a": b"a", "b": b"bb"})
    done = take(root, {name: stat_of(os.stat(root / name.decode())) for name in (b"a", b"b")})
    assert {name: outcome.blob for name, outcome in done.items()} == {
        b"a": object_id(b"blob", b"a"),
        b"b": object_id(b"blob", b"bb"),
    }
    assert attempts == [0, 0, 1, 1]


def test_a_worker_puts_off_what_is_being_written(vault: Vault, tmp_path: Path) -> None:
    root = write(tmp_path / "project", {"a": b"a"})
    settings = {"root": str(root), "limits": (1000, 5000, [], False), "git_dir": str(vault.path), "number": 1}
    replies = io.BytesIO()
    serve(messages(settings, [a_slice(root, "a")], []), replies)
    replies.seek(0)
    kind, [[blobs, text, packed, odd, [(place, wait)]]] = intake._receive(replies)
    assert (kind, blobs, text, packed, odd, place) == ("done", b"", "", b"", (), 0)
    assert 0 < wait <= 2 * 10**9


def test_what_is_not_ordinary_is_read_on_its_own(vault: Vault, tmp_path: Path) -> None:
    """And becomes what it would be alone: its name escaped, its attributes and links in its line."""
    root = write(tmp_path / "project", {"plain": b"1", ".gitattributes": b"x" * 3000, "linked": b"2", "pro%41": b"3"})
    os.link(root / "linked", root / "twin")
    os.chmod(root / "plain", 0o755)
    pack = vault.history.new_pack()
    reader = reading.Reader(str(root), LIMITS, pack, None, 7)
    names = ("plain", ".gitattributes", "linked", "pro%41")
    part = a_slice(root, *names)
    time.sleep(0.15)
    batch = reader.read_slice(part)
    assert [name for name, _ in batch.ordinary(part)] == [b"plain"]
    found = outcomes(part, batch)
    assert found[b".gitattributes"].tree_name == b"%2Egitattributes"
    assert found[b"pro%41"].tree_name == b"pro%2541"
    assert "\tlink=" in found[b"linked"].line
    assert pack_known(b"plain", Known(part.files[0][1], tree_mode(0o755), b"plain", batch.blobs, 7)) == batch.packed
    pack.abandon()


def test_a_file_that_never_rests_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    tries = []

    def read(fd: int, size: int) -> bytes:
        tries.append(size)
        with path.open("ab") as file:
            file.write(b"more")
        return b"torn"

    fd = os.open(path, os.O_RDONLY)
    data, _, stable = read_stable(fd, read, sleep=lambda _: None)
    os.close(fd)
    assert (data, stable, len(tries)) == (b"torn", False, 4)


def test_what_may_be_torn_is_said_also_when_its_stat_is_that_of_the_walk(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last write is always too recent to tell: a server's clock is ahead of ours."""
    root = write(tmp_path / "project", {"file": b"content"})
    monkeypatch.setattr(reading, "racy_ns", lambda *_: 1)
    for _ in range(2):
        report = vault.create_snapshot(root)
        assert [(problem.path, problem.reason.split(";")[0]) for problem in report.problems] == [
            (b"file", "kept changing while it was read")
        ]
