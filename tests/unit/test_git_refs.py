"""Refs: compare and swap under git's own lock, names that any system can hold, nothing lost in packed-refs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from gitvault.core.models import ObjectId
from gitvault.core.utils.files import Disk
from gitvault.core.versioning import refs as refs_module
from gitvault.core.versioning.refs import ANY, LockFile, RefStore
from gitvault.errors import CorruptionError, GitVaultError, LockedError

A = ObjectId(b"a" * 20)
B = ObjectId(b"b" * 20)
C = ObjectId(b"c" * 20)
STALE = refs_module._STALE_SECONDS


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "refs" / "heads").mkdir(parents=True)
    (tmp_path / "HEAD").write_text("ref: refs/heads/main\n")
    return tmp_path


@pytest.fixture
def refs(root: Path) -> RefStore:
    return RefStore(root, Disk())


def pack(root: Path, *lines: str) -> None:
    (root / "packed-refs").write_text(
        "# pack-refs with: peeled fully-peeled sorted \n" + "".join(f"{x}\n" for x in lines)
    )


def test_update_creates_moves_and_compares(refs: RefStore) -> None:
    assert refs.read("refs/heads/p") is None
    refs.update("refs/heads/p", A, old=None)
    refs.update("refs/heads/p", B, old=A)
    with pytest.raises(LockedError, match=f"expected {A.hex()}, found {B.hex()}"):
        refs.update("refs/heads/p", C, old=A)
    with pytest.raises(LockedError, match="expected no such ref"):
        refs.update("refs/heads/p", C, old=None)
    with pytest.raises(LockedError, match="found none"):
        refs.update("refs/heads/q", C, old=A)
    assert refs.list() == {"refs/heads/p": B}
    refs.update("refs/heads/p", C, old=ANY)
    refs.update("refs/heads/p", A)
    assert refs.read("refs/heads/p") == A


def test_list_joins_loose_and_packed_and_loose_wins(root: Path, refs: RefStore) -> None:
    pack(root, f"{A.hex()} refs/heads/p", f"{B.hex()} refs/tags/p/one", f"^{C.hex()}", f"{A.hex()} refs/x")
    refs.update("refs/heads/p", C, old=A)
    refs.update("refs/vault/meta/p", B)
    (root / "refs" / "heads" / "x.lock").write_bytes(b"")
    (root / "refs" / "heads" / ".DS_Store").write_bytes(b"junk")
    assert refs.list() == {"refs/heads/p": C, "refs/tags/p/one": B, "refs/vault/meta/p": B, "refs/x": A}
    assert refs.list("refs/tags/") == {"refs/tags/p/one": B}
    assert refs.list("refs/vault/me") == {"refs/vault/meta/p": B}
    assert refs.list("refs/none/") == {}


def test_delete_removes_from_both_places(root: Path, refs: RefStore) -> None:
    pack(root, f"{A.hex()} refs/heads/p", f"{B.hex()} refs/tags/p/one", f"^{C.hex()}", f"{A.hex()} refs/tags/q")
    refs.update("refs/heads/p", C)
    with pytest.raises(LockedError):
        refs.delete("refs/heads/p", old=A)
    refs.delete("refs/heads/p", old=C)
    refs.delete("refs/tags/p/one")
    refs.delete("refs/tags/p/none")
    refs.delete("refs/heads/none")
    assert refs.list() == {"refs/tags/q": A}
    assert C.hex() not in (root / "packed-refs").read_text()
    with pytest.raises(LockedError):
        refs.delete("refs/none/at/all", old=A)


def test_packed_refs_are_read_again_when_replaced(root: Path, refs: RefStore) -> None:
    pack(root, f"{A.hex()} refs/heads/p")
    assert refs.read("refs/heads/p") == A
    (root / "new").write_text(f"{B.hex()} refs/heads/p\n")
    (root / "new").replace(root / "packed-refs")
    assert refs.read("refs/heads/p") == B


def a_clock(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], None]) -> list[float]:
    """Time that goes on only while somebody sleeps, and what others do then; how long was slept."""
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        meanwhile()

    monkeypatch.setattr(refs_module, "time", SimpleNamespace(monotonic=lambda: sum(slept), sleep=sleep))
    return slept


def test_a_lock_that_a_killed_process_left_is_waited_for_and_removed(
    root: Path, refs: RefStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept = a_clock(monkeypatch, lambda: None)
    lock = root / "refs" / "heads" / "p.lock"
    lock.write_bytes(b"")
    refs.update("refs/heads/p", A)
    assert STALE <= sum(slept) < STALE + 0.1
    assert refs.read("refs/heads/p") == A
    assert not lock.exists()


def test_a_lock_that_others_keep_taking_is_respected(
    root: Path, refs: RefStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = root / "refs" / "heads" / "p.lock"
    lock.write_bytes(b"")

    def others() -> None:
        with lock.open("ab") as file:
            file.write(b"x")

    slept = a_clock(monkeypatch, others)
    with pytest.raises(LockedError, match=r"p\.lock: other programs keep writing"):
        refs.update("refs/heads/p", A)
    assert sum(slept) > STALE
    assert lock.exists()
    assert refs.read("refs/heads/p") is None


def test_the_lock_of_whoever_comes_next_is_left_alone(root: Path) -> None:
    """It has the same name from the moment in which the file is replaced."""

    class Contended(Disk):
        def rename(self, source: Path, target: Path) -> None:
            super().rename(source, target)
            source.write_bytes(b"theirs")

    with LockFile(root / "file", Contended()) as lock:
        lock.commit(b"ours")
    assert (root / "file").read_bytes() == b"ours"
    assert (root / "file.lock").read_bytes() == b"theirs"


def test_head_names_a_ref(root: Path, refs: RefStore) -> None:
    assert refs.head() == "refs/heads/main"
    assert refs.read("HEAD") is None
    refs.update("refs/heads/p", A)
    refs.set_head("refs/heads/p")
    assert (refs.head(), refs.read("HEAD")) == ("refs/heads/p", A)
    (root / "HEAD").write_text(f"{B.hex()}\n")
    assert (refs.head(), refs.read("HEAD")) == (None, B)
    (root / "HEAD").unlink()
    with pytest.raises(CorruptionError, match="HEAD: missing"):
        refs.head()


def test_symbolic_refs_in_a_circle_are_corruption(root: Path, refs: RefStore) -> None:
    (root / "refs" / "heads" / "a").write_text("ref: refs/heads/b\n")
    (root / "refs" / "heads" / "b").write_text("ref: refs/heads/a\n")
    with pytest.raises(CorruptionError, match="lead nowhere"):
        refs.read("refs/heads/a")


@pytest.mark.parametrize(
    "name",
    ["HEAD", "heads/p", "refs/", "refs/heads/", "refs/../x", "refs/a..b", "refs/.a", "refs/a.lock", "refs/a.lock/b"]
    + [f"refs/a{c}b" for c in (" ", "~", "^", ":", "?", "*", "[", "\\", "\0", "\n", "\x7f", "@{", "//", "./")]
    + ["refs/a.", "/refs/a"],
)
def test_names_that_are_no_refs_are_refused(refs: RefStore, name: str) -> None:
    with pytest.raises(GitVaultError, match="not the name of a ref"):
        refs.update(name, A)
    with pytest.raises(GitVaultError, match="not the name of a ref"):
        refs.delete(name)


def test_refs_below_refs_are_refused(root: Path, refs: RefStore) -> None:
    refs.update("refs/heads/a", A)
    refs.update("refs/heads/b/c", A)
    pack(root, f"{A.hex()} refs/heads/x", f"{A.hex()} refs/heads/y/z")
    for name in ("refs/heads/a/b", "refs/heads/a/b/c", "refs/heads/b", "refs/heads/x/y", "refs/heads/y"):
        with pytest.raises(GitVaultError, match="choose another name"):
            refs.update(name, B)
    assert sorted(refs.list()) == ["refs/heads/a", "refs/heads/b/c", "refs/heads/x", "refs/heads/y/z"]


def test_empty_folder_of_a_deleted_ref_gives_way(root: Path, refs: RefStore) -> None:
    (root / "refs" / "heads" / "a" / "b").mkdir(parents=True)
    assert refs.read("refs/heads/a") is None
    refs.update("refs/heads/a", A, old=None)
    assert refs.read("refs/heads/a") == A


def test_malformed_refs_are_corruption(root: Path, refs: RefStore) -> None:
    for content in ("", "xyz\n", A.hex()[:-1]):
        (root / "refs" / "heads" / "p").write_text(content)
        with pytest.raises(CorruptionError, match="expected 40 hex digits"):
            refs.read("refs/heads/p")
        with pytest.raises(CorruptionError, match="expected 40 hex digits"):
            refs.list()
    pack(root, f"{A.hex()} heads/p")
    with pytest.raises(CorruptionError, match="line 2 is no ref"):
        refs.read("refs/heads/q")


class Recorder(Disk):
    """Notes which folders were made durable, and when the ref got its name."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def rename(self, source: Path, target: Path) -> None:
        self.steps.append("rename")
        super().rename(source, target)

    def sync_folder(self, path: Path) -> None:
        self.steps.append(path.name)
        super().sync_folder(path)


def test_every_folder_above_a_ref_is_synced_even_when_it_was_there(root: Path) -> None:
    (root / "refs" / "vault" / "meta").mkdir(parents=True)
    disk = Recorder()
    RefStore(root, disk).update("refs/vault/meta/p", A)
    assert disk.steps == ["rename", "meta", "vault", "refs", root.name]


def test_what_a_killed_run_deleted_is_made_to_stay_so(root: Path, refs: RefStore) -> None:
    synced = []

    class Watching(Disk):
        def sync_folder(self, path: Path) -> None:
            synced.append(path.relative_to(root).as_posix())

    refs.update("refs/vault/undo/1/0", A)
    (root / "refs/vault/undo/1/0").unlink()
    RefStore(root, Watching()).sync()
    assert {".", "refs", "refs/vault", "refs/vault/undo", "refs/vault/undo/1"} <= set(synced)


def test_a_guard_keeps_every_ref_as_it_is(root: Path, refs: RefStore) -> None:
    """It is asked when the ref's lock is there: who removes all locks first can be sure of the refs it reads then."""
    refs.update("refs/heads/p", A)
    pack(root, f"{A.hex()} refs/heads/q")
    locked: list[bool] = []

    def refuse() -> None:
        locked.append(any(root.rglob("*.lock")))
        raise LockedError("taken over")

    guarded = RefStore(root, Disk(), refuse)
    for attempt in (
        lambda: guarded.update("refs/heads/p", B),
        lambda: guarded.update("refs/heads/new", B, old=None),
        lambda: guarded.delete("refs/heads/p"),
        lambda: guarded.delete("refs/heads/q"),
        lambda: guarded.set_head("refs/heads/q"),
    ):
        with pytest.raises(LockedError, match="taken over"):
            attempt()
    assert locked == [True] * 5
    assert refs.list() == {"refs/heads/p": A, "refs/heads/q": A}
    assert refs.head() == "refs/heads/main"
    assert not any(root.rglob("*.lock"))


def test_all_locks_of_refs_are_removed(root: Path, refs: RefStore) -> None:
    refs.update("refs/heads/p", A)
    for name in ("refs/heads/p.lock", "refs/vault/meta/p.lock", "HEAD.lock", "packed-refs.lock", "config.lock"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    refs.clear_locks()
    assert [path.name for path in root.rglob("*.lock")] == ["config.lock"], "which is no ref's"
    refs.update("refs/heads/p", B, old=A)


def test_who_was_taken_for_dead_cannot_move_a_ref_any_more(root: Path, refs: RefStore) -> None:
    """It stood still between its last look at the lease and the rename."""

    def stand_still() -> None:
        refs.clear_locks()

    with pytest.raises(FileNotFoundError):
        RefStore(root, Disk(), stand_still).update("refs/heads/p", A)
    assert refs.read("refs/heads/p") is None
