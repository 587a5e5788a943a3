"""The BackupEngine contract, over the vault and over a strict one in memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from trees import contents, write

from gitvault.core.interfaces import BackupEngine, Progress
from gitvault.core.models import (
    Difference,
    Filter,
    KindSize,
    RestoreReport,
    Snapshot,
    SnapshotId,
    SnapshotReport,
    StorageStats,
    VerifyReport,
)
from gitvault.errors import AmbiguousError, ExistsError, NotFoundError

Files = dict[bytes, bytes]


class MemoryEngine:
    """Snapshots of regular files, in memory: what a scheduler's or a persona's test can stand on."""

    def __init__(self) -> None:
        self._folders: dict[str, str] = {}
        self._taken: dict[SnapshotId, tuple[Snapshot, Files]] = {}
        self._restored: dict[str, SnapshotId] = {}

    def initialize_repository(self) -> None:
        pass

    def create_snapshot(
        self,
        path: Path | str,
        *,
        project: str | None = None,
        message: str = "",
        tags: Sequence[str] = (),
        metadata: Mapping[str, str] | None = None,
        trigger: str = "manual",
        progress: Progress | None = None,
    ) -> SnapshotReport:
        folder = os.path.realpath(path)
        if not os.path.isdir(folder):
            raise NotFoundError(f"{folder}: not a folder")
        name = project or next((n for n, f in self._folders.items() if f == folder), os.path.basename(folder))
        self._folders[name] = folder
        files = contents(folder)
        last = next((s for s in reversed(self._taken.values()) if s[0].project == name), None)
        before = last[1] if last else {}
        new, deleted = files.keys() - before.keys(), before.keys() - files.keys()
        changed = {path for path in files.keys() & before.keys() if files[path] != before[path]}
        unchanged = last is not None and not (new or deleted or changed)
        restored = self._restored.pop(folder, None)
        if last and unchanged:
            made = last[0].id
        else:
            made = SnapshotId(hashlib.sha1(repr((name, len(self._taken))).encode()).hexdigest())
            total = sum(map(len, files.values()))
            said = message or f"{name}: {len(new)} new"
            about = dict(metadata or {})
            self._taken[made] = (
                Snapshot(
                    made, name, datetime.now(UTC), said, tuple(tags), about, len(files), total, "", trigger, restored
                ),
                files,
            )
        read = sum(len(files[path]) for path in new | changed)
        return SnapshotReport(
            made, name, unchanged, len(files), len(new), len(changed), len(deleted), read, 0 if unchanged else read, 0.0
        )

    def _resolve(self, name: str) -> tuple[Snapshot, Files]:
        of_project = [taken for taken in self._taken.values() if taken[0].project == name]
        if of_project:
            return of_project[-1]
        found = [taken for made, taken in self._taken.items() if made.startswith(name)]
        if len(found) > 1:
            raise AmbiguousError(name)
        if not found:
            raise NotFoundError(name)
        return found[0]

    def restore_snapshot(
        self,
        snapshot: str,
        target: Path | str | None = None,
        *,
        paths: Iterable[str | bytes] = (),
        excluded_paths: Iterable[str | bytes] = (),
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> RestoreReport:
        about, files = self._resolve(snapshot)
        safety = None
        if target is None:
            target, overwrite = self._folders[about.project], True
            safety = self.create_snapshot(target, project=about.project).snapshot
        wanted, excluded = list(map(os.fsencode, paths)), list(map(os.fsencode, excluded_paths))
        for path in wanted:
            if not any(_within(name, path) for name in files):
                raise NotFoundError(os.fsdecode(path))
        chosen = {
            name: content
            for name, content in files.items()
            if (not wanted or any(_within(name, w) for w in wanted)) and not any(_within(name, e) for e in excluded)
        }
        for name in chosen:
            if not overwrite and os.path.lexists(os.path.join(target, os.fsdecode(name))):
                raise ExistsError(os.fsdecode(name))
        write(Path(target), chosen)  # type: ignore[arg-type]
        self._restored[os.path.realpath(target)] = about.id
        return RestoreReport(about.id, len(chosen), sum(map(len, chosen.values())), 0.0, safety=safety)

    def list_snapshots(self, filter_criteria: Filter | None = None) -> list[Snapshot]:
        wanted = filter_criteria or Filter()
        if wanted.project and wanted.project not in self._folders:
            raise NotFoundError(wanted.project)
        return [
            s
            for s, _ in reversed(self._taken.values())
            if wanted.project in (None, s.project)
            and wanted.tags <= set(s.tags)
            and wanted.metadata.items() <= dict(s.metadata).items()
        ]

    def get_snapshot_info(self, snapshot: str) -> Snapshot:
        return self._resolve(snapshot)[0]

    def get_version_diff(self, a: str, b: str) -> Difference:
        old, new = self._resolve(a)[1], self._resolve(b)[1]
        changed = sorted(path for path in old.keys() & new.keys() if old[path] != new[path])
        return Difference(
            tuple(sorted(new.keys() - old.keys())), tuple(changed), tuple(sorted(old.keys() - new.keys())), ()
        )

    def get_storage_stats(self) -> StorageStats:
        unique = {content for _, files in self._taken.values() for content in files.values()}
        size = sum(map(len, unique))
        logical = sum(s.bytes for s, _ in self._taken.values())
        kinds = (KindSize("other", len(unique), size, size),)
        return StorageStats(len(self._folders), len(self._taken), logical, size, size, kinds)

    def verify(self, *, data: bool = False, progress: Progress | None = None) -> VerifyReport:
        return VerifyReport(len(self._taken), 0)


def _within(path: bytes, folder: bytes) -> bool:
    return path == folder or path.startswith(folder + b"/")


@pytest.fixture(params=["vault", "memory"])
def engine(request: pytest.FixtureRequest) -> BackupEngine:
    engine: BackupEngine = request.getfixturevalue("vault") if request.param == "vault" else MemoryEngine()
    engine.initialize_repository()
    return engine


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write(tmp_path / "acme", {"a": b"one", "src/b": b"two", "art/c": bytes(range(256)) * 400})


def test_making_it_twice_changes_nothing(engine: BackupEngine, project: Path) -> None:
    taken = engine.create_snapshot(project)
    engine.initialize_repository()
    assert engine.get_snapshot_info("acme").id == taken.snapshot


def test_what_a_report_counts(engine: BackupEngine, project: Path) -> None:
    first = engine.create_snapshot(project)
    assert (first.project, first.unchanged, first.files, first.new) == ("acme", False, 3, 3)
    assert (first.changed, first.deleted, first.bytes_read, first.problems) == (0, 0, 102_406, ())
    assert first.bytes_stored > 0
    write(project, {"a": b"changed", "d": b"new", "e": b"new"})
    (project / "src/b").unlink()
    second = engine.create_snapshot(project)
    assert (second.files, second.new, second.changed, second.deleted, second.bytes_read) == (4, 2, 1, 1, 13)


def test_nothing_changed_is_no_new_snapshot(engine: BackupEngine, project: Path) -> None:
    first = engine.create_snapshot(project)
    again = engine.create_snapshot(project, message="again", tags=["t"])
    assert (again.snapshot, again.unchanged, again.bytes_stored) == (first.snapshot, True, 0)
    assert len(engine.list_snapshots()) == 1


def test_what_was_said_is_kept(engine: BackupEngine, project: Path) -> None:
    taken = engine.create_snapshot(
        project, project="a name", message="why", tags=["t", "u"], metadata={"k": "v"}, trigger="timer"
    )
    found = engine.get_snapshot_info(taken.snapshot)
    assert (found.project, found.message, found.tags, dict(found.metadata), found.trigger) == (
        "a name",
        "why",
        ("t", "u"),
        {"k": "v"},
        "timer",
    )
    assert (found.files, found.bytes) == (3, 102_406)


def test_a_missing_folder_is_not_found(engine: BackupEngine, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        engine.create_snapshot(tmp_path / "missing")


def test_every_snapshot_comes_back(engine: BackupEngine, project: Path, tmp_path: Path) -> None:
    first, before = engine.create_snapshot(project).snapshot, contents(project)
    write(project, {"a": b"changed", "new": b"x"})
    second, after = engine.create_snapshot(project).snapshot, contents(project)
    for number, (taken, expected) in enumerate([(first, before), (second, after), (first[:12], before)]):
        done = engine.restore_snapshot(taken, tmp_path / str(number))
        assert contents(tmp_path / str(number)) == expected
        assert (done.files, done.bytes) == (len(expected), sum(map(len, expected.values())))
    assert engine.verify(data=True).ok


def test_selection(engine: BackupEngine, project: Path, tmp_path: Path) -> None:
    engine.create_snapshot(project)
    engine.restore_snapshot("acme", tmp_path / "some", paths=["src", b"a"])
    assert contents(tmp_path / "some").keys() == {b"a", b"src/b"}
    engine.restore_snapshot("acme", tmp_path / "most", excluded_paths=["art"])
    assert contents(tmp_path / "most").keys() == {b"a", b"src/b"}
    with pytest.raises(NotFoundError):
        engine.restore_snapshot("acme", tmp_path / "none", paths=["nothing"])
    assert not (tmp_path / "none").exists()


def test_nothing_is_overwritten_unless_told_to(engine: BackupEngine, project: Path, tmp_path: Path) -> None:
    engine.create_snapshot(project)
    write(tmp_path / "there", {"src/b": b"precious"})
    with pytest.raises(ExistsError):
        engine.restore_snapshot("acme", tmp_path / "there")
    assert contents(tmp_path / "there") == {b"src/b": b"precious"}
    engine.restore_snapshot("acme", tmp_path / "there", overwrite=True)
    assert contents(tmp_path / "there") == contents(project)


def test_in_place_is_safe_and_remembered(engine: BackupEngine, project: Path, tmp_path: Path) -> None:
    first = engine.create_snapshot(project).snapshot
    write(project, {"a": b"not saved yet"})
    done = engine.restore_snapshot(first)
    assert contents(project)[b"a"] == b"one"
    assert done.safety
    engine.restore_snapshot(done.safety, tmp_path / "safe")
    assert contents(tmp_path / "safe")[b"a"] == b"not saved yet"
    assert engine.get_snapshot_info(engine.create_snapshot(project).snapshot).restored_from == first
    engine.restore_snapshot(project.name, project, overwrite=True)
    assert engine.create_snapshot(project).unchanged
    write(project, {"a": b"edited"})
    assert engine.get_snapshot_info(engine.create_snapshot(project).snapshot).restored_from is None


def test_lists_and_filters(engine: BackupEngine, project: Path, tmp_path: Path) -> None:
    one = engine.create_snapshot(project, tags=["x"], metadata={"k": "1"}).snapshot
    write(project, {"a": b"2"})
    two = engine.create_snapshot(project, tags=["x", "y"]).snapshot
    other = engine.create_snapshot(write(tmp_path / "other", {"f": b""})).snapshot

    def listed(**wanted: object) -> list[str]:
        return [s.id for s in engine.list_snapshots(Filter(**wanted))]  # type: ignore[arg-type]

    assert listed(project="acme") == [two, one]
    assert listed(tags=frozenset({"x"})) == [two, one]
    assert listed(tags=frozenset({"y"})) == [two]
    assert listed(metadata={"k": "1"}) == [one]
    assert set(listed()) == {one, two, other}
    with pytest.raises(NotFoundError):
        listed(project="unknown")


def test_snapshots_that_do_not_exist(engine: BackupEngine, project: Path, tmp_path: Path) -> None:
    engine.create_snapshot(project)
    for look in (
        lambda: engine.get_snapshot_info("unknown"),
        lambda: engine.get_version_diff("acme", "unknown"),
        lambda: engine.restore_snapshot("unknown", tmp_path / "x"),
    ):
        with pytest.raises(NotFoundError):
            look()


def test_differences(engine: BackupEngine, project: Path) -> None:
    one = engine.create_snapshot(project).snapshot
    write(project, {"a": b"2", "d": b"4"})
    (project / "src/b").unlink()
    two = engine.create_snapshot(project).snapshot
    assert engine.get_version_diff(one, two) == Difference((b"d",), (b"a",), (b"src/b",), ())


def test_stats(engine: BackupEngine, project: Path) -> None:
    engine.create_snapshot(project)
    write(project, {"d": b"one"})
    engine.create_snapshot(project)
    stats = engine.get_storage_stats()
    assert (stats.projects, stats.snapshots) == (1, 2)
    assert (stats.logical_bytes, stats.unique_bytes) == (102_406 + 102_409, 102_406)
    assert stats.stored_bytes > 0
