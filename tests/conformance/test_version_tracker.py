"""The VersionTracker contract, over git and over a strict one in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gitvault.core.interfaces import VersionTracker
from gitvault.core.models import Difference, Entry, Move, ObjectId, Snapshot, SnapshotId
from gitvault.core.versioning.history import GitHistory
from gitvault.errors import GitVaultError, NotFoundError

Files = Mapping[bytes, bytes]


class Clock:
    """A minute passes each time somebody looks."""

    def __init__(self) -> None:
        self.now = datetime(2024, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(minutes=1)
        return self.now


class MemoryTracker:
    """As strict as the contract, as simple as can be."""

    def __init__(self) -> None:
        self._now = Clock()
        self._versions: dict[SnapshotId, tuple[Snapshot, dict[bytes, bytes]]] = {}
        self._chains: dict[str, list[SnapshotId]] = {}

    def create_version(self, project: str, files: Files, *, message: str = "", tags: Sequence[str] = ()) -> SnapshotId:
        for path in files:
            parts = path.split(b"/")
            if {b"", b".", b".."} & set(parts) or b"\0" in path:
                raise GitVaultError("not a path below a project")
            if any(b"/".join(parts[:depth]) in files for depth in range(1, len(parts))):
                raise GitVaultError("a file and a folder of one name")
        if not all(tag.strip() for tag in tags):
            raise GitVaultError("an empty tag")
        made = SnapshotId(hashlib.sha1(repr((project, len(self._versions))).encode()).hexdigest())
        total = sum(map(len, files.values()))
        text = message or f"Snapshot of {project}"
        about = Snapshot(
            made, project, self._now(), text, tuple(tag.strip() for tag in tags), {}, len(files), total, "", "manual"
        )
        self._versions[made] = about, dict(files)
        self._chains.setdefault(project, []).append(made)
        return made

    def _find(self, snapshot: SnapshotId) -> tuple[Snapshot, dict[bytes, bytes]]:
        if snapshot not in self._versions:
            raise NotFoundError(f"{snapshot}: no such version")
        return self._versions[snapshot]

    def get_version(self, snapshot: SnapshotId) -> Snapshot:
        return self._find(snapshot)[0]

    def get_latest_version(self, project: str) -> Snapshot | None:
        return next(self.list_versions(project), None)

    def list_versions(self, project: str) -> Iterator[Snapshot]:
        return (self._versions[made][0] for made in reversed(self._chains.get(project, [])))

    def entries(self, snapshot: SnapshotId, path: bytes = b"") -> Iterator[Entry]:
        files = self._find(snapshot)[1]
        inside = path + b"/" if path else b""
        found = {name: content for name, content in files.items() if name == path or name.startswith(inside)}
        if path and not found:
            raise NotFoundError("no such path")
        folders = {b"/".join(p[:n]) for name in found for p in [name.split(b"/")] for n in range(1, len(p))}
        for name in sorted({*found, *(f for f in folders if f.startswith(inside))}, key=lambda n: n.split(b"/")):
            if name in found:
                yield Entry(name, "file", 0o644, len(found[name]), 0, _blob(found[name]))
            else:
                yield Entry(name, "folder", 0o755, 0, 0, ObjectId(bytes(20)))

    def read(self, snapshot: SnapshotId, path: bytes) -> bytes:
        files = self._find(snapshot)[1]
        if path not in files:
            raise NotFoundError("no such file")
        return files[path]

    def compare(self, a: SnapshotId, b: SnapshotId) -> Difference:
        old, new = self._find(a)[1], self._find(b)[1]
        deleted = sorted(old.keys() - new.keys())
        added = sorted(new.keys() - old.keys())
        moved = []
        for target in added[:]:
            source = next((path for path in deleted if old[path] == new[target] != b""), None)
            if source:
                moved.append(Move(source, target))
                deleted.remove(source)
                added.remove(target)
        changed = sorted(path for path in old.keys() & new.keys() if old[path] != new[path])
        return Difference(tuple(added), tuple(changed), tuple(deleted), tuple(moved))


def _blob(content: bytes) -> ObjectId:
    return ObjectId(hashlib.sha1(b"blob %d\0" % len(content) + content).digest())


@pytest.fixture(params=["git", "memory"])
def tracker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VersionTracker]:
    if request.param == "memory":
        yield MemoryTracker()
        return
    for folder in ("objects/pack", "refs/heads"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "HEAD").write_text("ref: refs/heads/main\n")
    history = GitHistory(tmp_path, now=Clock())
    yield history
    history.close()


ONE: Files = {b"a": b"1", b"sub/b": b"2", b"sub/deep/c": b"3", b"sub.txt": b"4", b"empty": b""}


def test_a_version_tells_what_was_said_and_holds_what_was_given(tracker: VersionTracker) -> None:
    made = tracker.create_version("acme", ONE, message="the first", tags=["x", "y z"])
    found = tracker.get_version(made)
    assert (found.id, found.project, found.message, found.tags) == (made, "acme", "the first", ("x", "y z"))
    assert (found.files, found.bytes, found.time.tzinfo) == (5, 4, UTC)
    assert {path: tracker.read(made, path) for path in ONE} == ONE


def test_without_a_message_there_is_one(tracker: VersionTracker) -> None:
    assert tracker.get_version(tracker.create_version("acme", {})).message


def test_versions_are_listed_newest_first_and_per_project(tracker: VersionTracker) -> None:
    made = [tracker.create_version("acme", {b"n": b"%d" % number}) for number in range(3)]
    other = tracker.create_version("other", {})
    assert [v.id for v in tracker.list_versions("acme")] == made[::-1]
    assert [v.id for v in tracker.list_versions("other")] == [other]
    latest = tracker.get_latest_version("acme")
    assert latest and latest.id == made[2]
    assert tracker.read(made[0], b"n") == b"0"


def test_an_unknown_project_has_no_versions(tracker: VersionTracker) -> None:
    assert list(tracker.list_versions("none")) == []
    assert tracker.get_latest_version("none") is None


def test_the_same_files_again_are_a_version_of_their_own(tracker: VersionTracker) -> None:
    one, two = tracker.create_version("acme", ONE), tracker.create_version("acme", ONE)
    assert one != two
    assert tracker.compare(one, two) == Difference((), (), (), ())


def test_entries_are_sorted_and_folders_come_before_their_content(tracker: VersionTracker) -> None:
    made = tracker.create_version("acme", ONE)
    assert [(e.path, e.kind, e.size) for e in tracker.entries(made)] == [
        (b"a", "file", 1),
        (b"empty", "file", 0),
        (b"sub", "folder", 0),
        (b"sub/b", "file", 1),
        (b"sub/deep", "folder", 0),
        (b"sub/deep/c", "file", 1),
        (b"sub.txt", "file", 1),
    ]
    assert [e.path for e in tracker.entries(made, b"sub")] == [b"sub/b", b"sub/deep", b"sub/deep/c"]
    assert [e.path for e in tracker.entries(made, b"sub/b")] == [b"sub/b"]
    assert {e.path: e.blob for e in tracker.entries(made)}[b"a"] == _blob(b"1")


def test_what_is_not_there_is_not_found(tracker: VersionTracker) -> None:
    made = tracker.create_version("acme", ONE)
    missing = SnapshotId("ab" * 20)
    for look in (
        lambda: tracker.get_version(missing),
        lambda: tracker.read(missing, b"a"),
        lambda: list(tracker.entries(missing)),
        lambda: tracker.compare(made, missing),
        lambda: tracker.read(made, b"none"),
        lambda: tracker.read(made, b"sub"),
        lambda: tracker.read(made, b"a/below"),
        lambda: list(tracker.entries(made, b"none")),
    ):
        with pytest.raises(NotFoundError):
            look()


@pytest.mark.parametrize("path", [b"", b"/a", b"../a", b"a/../b", b"a//b", b"a/", b".", b"a/./b", b"nul\0"])
def test_a_path_that_climbs_out_is_refused_and_nothing_is_made(path: bytes, tracker: VersionTracker) -> None:
    with pytest.raises(GitVaultError):
        tracker.create_version("acme", {b"good": b"", path: b""})
    assert tracker.get_latest_version("acme") is None


def test_a_file_that_is_a_folder_too_is_refused(tracker: VersionTracker) -> None:
    for files in ({b"a": b"", b"a/b": b""}, {b"a/b": b"", b"a": b""}):
        with pytest.raises(GitVaultError):
            tracker.create_version("acme", files)


def test_an_empty_tag_is_refused_and_blanks_around_one_are_no_part_of_it(tracker: VersionTracker) -> None:
    for tags in ([""], ["x", " "]):
        with pytest.raises(GitVaultError):
            tracker.create_version("acme", ONE, tags=tags)
    assert tracker.get_latest_version("acme") is None
    assert tracker.get_version(tracker.create_version("acme", ONE, tags=[" a b "])).tags == ("a b",)


def test_names_that_git_cannot_hold(tracker: VersionTracker) -> None:
    files = {b".git/config": b"1", b"a/.GIT/x": b"2", b"%2Egit": b"3", b"\xff\n": b"4", b".gitmodules": b"[x"}
    made = tracker.create_version("any name/\u00e4", files)
    assert {e.path: tracker.read(made, e.path) for e in tracker.entries(made) if e.kind == "file"} == files


def test_what_changed_and_what_moved(tracker: VersionTracker) -> None:
    one = tracker.create_version("acme", {**ONE, b"old": b"moving", b"edit": b"1"})
    two = tracker.create_version("acme", {**ONE, b"x/new": b"moving", b"edit": b"2", b"more": b"m", b"void": b""})
    there = tracker.compare(one, two)
    assert there == Difference((b"more", b"void"), (b"edit",), (), (Move(b"old", b"x/new"),))
    assert tracker.compare(two, one) == Difference((), (b"edit",), (b"more", b"void"), (Move(b"x/new", b"old"),))


def test_versions_of_two_projects_can_be_compared(tracker: VersionTracker) -> None:
    a, b = tracker.create_version("one", {b"x": b"1"}), tracker.create_version("two", {b"y": b"2"})
    assert tracker.compare(a, b) == Difference((b"y",), (), (b"x",), ())
