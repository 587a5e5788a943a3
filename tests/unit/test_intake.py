"""Small files into git packs: in this process, and by workers, with the same result."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from trees import contents, write

from gitvault.core.backup_engine import intake
from gitvault.core.backup_engine.intake import Intake, Job, Limits, Outcome, read_stable, serve
from gitvault.core.stat_cache import Stat, stat_of
from gitvault.core.versioning.objects import object_id
from gitvault.errors import GitVaultError, StorageFullError
from gitvault.vault import Vault

LIMITS = Limits(inline=1000, whole=5000, binary=frozenset({".dat"}))


@pytest.fixture
def take(vault: Vault, tmp_path: Path) -> Callable[[Path, dict[bytes, Stat]], dict[bytes, Outcome]]:
    """Sends files through an Intake as the walk found them; their outcomes by path."""

    def run(root: Path, found_by_walk: dict[bytes, Stat]) -> dict[bytes, Outcome]:
        pack = vault.history.new_pack()
        made = Intake(root, LIMITS, pack, vault.history.objects, vault.path)
        names = dict(enumerate(found_by_walk, 1))
        found: dict[bytes, Outcome] = {}
        for key, name in names.items():
            made.submit(Job(key, name, found_by_walk[name], (0, 0)))
        while made.under_way:
            found |= {names[key]: outcome for key, outcome in made.next()}
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

    def submit(self: Intake, job: Job) -> None:
        real(self, job)
        if job.key == 1000:
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
    settings = {"root": str(root), "limits": (1000, 5000, [], True), "git_dir": str(vault.path)}
    replies = io.BytesIO()
    serve(messages(settings, [Job(1, b"a", stat_of(os.stat(root / "a")), (0, 0))]), replies)
    replies.seek(0)
    assert intake._receive(replies)[0] == "done"
    assert intake._receive(replies) is None
    assert list((vault.path / "tmp").iterdir()) == []


def test_a_worker_on_a_full_disk_says_so(vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(tmp_path / "project", {"a": b"a"})
    settings = {"root": str(root), "limits": (1000, 5000, [], True), "git_dir": str(vault.path)}

    def full(*_: object) -> None:
        raise StorageFullError("tmp: no space left")

    monkeypatch.setattr(intake.PackWriter, "add_deflated", full)
    replies = io.BytesIO()
    serve(messages(settings, [Job(1, b"a", stat_of(os.stat(root / "a")), (0, 0), 3)], []), replies)
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
        taken.submit(Job(number, path.name.encode(), stat_of(os.stat(path)), (0, 0)))
    done: dict[int, Outcome] = {}
    while taken.under_way:
        done |= dict(taken.next())
    taken.finish()
    pack.finish()
    assert done.keys() == set(range(40))
    assert {number: outcome.torn for number, outcome in done.items() if outcome.torn} == {7: True}
    assert len(waits) == 3
    assert sum(waits) < 1


def test_what_a_worker_puts_off_is_given_to_it_again(
    take: Callable[[Path, dict[bytes, Stat]], dict[bytes, Outcome]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "_WORKERS_FROM", 1)
    real = intake._Worker.submit
    attempts: list[int] = []

    def submit(self: intake._Worker, job: Job) -> None:
        attempts.append(job.attempt)
        self._done.put(intake._Done([], [(1000, job)])) if not job.attempt else real(self, job)

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
    settings = {"root": str(root), "limits": (1000, 5000, [], False), "git_dir": str(vault.path)}
    job = Job(1, b"a", stat_of(os.stat(root / "a")), (0, 0))
    replies = io.BytesIO()
    serve(messages(settings, [job], []), replies)
    replies.seek(0)
    kind, (outcomes, [(wait, again)]) = intake._receive(replies)
    assert (kind, outcomes, intake._job(again)) == ("done", (), job)
    assert 0 < wait <= 2 * 10**9


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
    monkeypatch.setattr(intake, "racy_ns", lambda *_: 1)
    for _ in range(2):
        report = vault.create_snapshot(root)
        assert [(problem.path, problem.reason.split(";")[0]) for problem in report.problems] == [
            (b"file", "kept changing while it was read")
        ]
