"""The command line over a strict fake vault: arguments, JSON forms, exit codes, errors in one line."""

from __future__ import annotations

import base64
import io
import json
import os
import random
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import pytest

from gitvault import errors
from gitvault.__main__ import run as run_as_a_process
from gitvault.cli import arguments, history, main, progress, restore, save
from gitvault.config import SETTINGS, Config
from gitvault.core.models import (
    Affected,
    CopyReport,
    Defect,
    Difference,
    Entry,
    Filter,
    KindSize,
    MaintenanceReport,
    Move,
    NotCopied,
    ObjectId,
    PathState,
    Problem,
    Project,
    RestoreReport,
    Snapshot,
    SnapshotId,
    SnapshotReport,
    StorageStats,
    SweepReport,
    VerifyReport,
)

DOCS = Path(main.__file__).parent.parent / "docs"
ID = SnapshotId("0123456789abcdef0123456789abcdef01234567")
TIME = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FILES = {
    b"caf\xe9.txt": b"old\n",
    b"src/a:b.c": b"int main;\n",
    b"src/\x1b[2Jevil": b"\xff\x00",
    b"text": '\u00e9\u20ac\U0001f600\n"\\\0\x7f'.encode(),
    b"cut": "\u20ac".encode()[:2],
    b"ten": bytes(range(246, 256)),
    b"void": b"",
}


class FakeVault:
    """Holds one project with one snapshot; refuses whatever the real one would be surprised by."""

    config = Config(machine="here")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.saved: list[Mapping[str, Any]] = []
        self.hurt = False

    @classmethod
    def open(cls, path: Path, *, waiting: Callable[[str], None] | None = None) -> FakeVault:
        assert isinstance(path, Path)
        assert path.is_absolute()
        if not (path / "fake").exists():
            raise errors.VaultNotFound(f"{path}: not a vault")
        return VAULTS.setdefault(path, cls(path))

    @classmethod
    def create(cls, path: Path, *, waiting: Callable[[str], None] | None = None) -> FakeVault:
        path.mkdir(parents=True)
        (path / "fake").touch()
        return cls.open(path)

    def projects(self) -> list[Project]:
        return [
            Project("acme", "/p/acme", "here", TIME),
            Project("never", "/p/never", "here", TIME),
            Project("other", "/q", "elsewhere", TIME),
        ]

    def snapshot_counts(self, names: Sequence[str]) -> dict[str, int]:
        return {name: {"acme": 3, "other": 1}.get(name, 0) for name in names}

    def add_project(self, path: str, name: str | None = None, *, mode: str | None = None) -> Project:
        assert isinstance(path, str)
        return Project(name or Path(path).name, os.path.abspath(path), "here", TIME, mode or "protect")

    def resolve(self, name: str) -> SnapshotId:
        if name.startswith("two"):
            raise errors.AmbiguousError(f"{name}: fits several")
        if name not in ("acme", "other", ID[:8], ID, "2026-01-02T03:04:05Z", "2026-01-02T03:04"):
            raise errors.NotFoundError(f"{name}: no such snapshot")
        return ID

    def create_snapshot(
        self,
        path: str,
        *,
        project: str | None = None,
        message: str = "",
        tags: Sequence[str] = (),
        metadata: Mapping[str, str] | None = None,
        trigger: str = "manual",
        scan: bool = False,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> SnapshotReport:
        assert isinstance(path, str)
        assert callable(progress)
        progress("saving", 1, 2)
        name = os.path.basename(path)
        if name == "missing":
            raise errors.NotFoundError(f"{path}: no such folder")
        if name == "secret":
            raise PermissionError(13, "Permission denied", path)
        self.saved.append({"path": path, "project": project, "message": message, "tags": tags, "metadata": metadata})
        problems = (Problem(b"caf\xe9", "vanished"),) if name == "torn" else ()
        same = name == "same"
        return SnapshotReport(
            ID, project or name, same, 12, 0 if same else 3, 2, 1, 4096, 0 if same else 1024, 0.12345, problems, ("hm",)
        )

    def restore_snapshot(
        self,
        snapshot: str,
        target: str | None = None,
        *,
        paths: Sequence[bytes] = (),
        excluded_paths: Sequence[bytes] = (),
        overwrite: bool = False,
        progress: object = None,
    ) -> RestoreReport:
        assert all(isinstance(path, bytes) for path in (*paths, *excluded_paths))
        self.restored = (snapshot, target, list(paths), list(excluded_paths), overwrite)
        problems = (Problem(b"x", "setuid bit dropped"),) if b"setuid" in paths else ()
        return RestoreReport(self.resolve(snapshot), 3, 5, 0.5, problems, None if target else ID)

    def close(self) -> None:
        self.closed = True

    def list_snapshots(self, filter_criteria: Filter | None = None) -> list[Snapshot]:
        if filter_criteria and filter_criteria.project not in (None, "acme"):
            raise errors.NotFoundError(f"{filter_criteria.project}: no such project")
        self.filtered = filter_criteria
        return ([self.get_snapshot_info("acme")] * 3)[: filter_criteria.limit if filter_criteria else None]

    def get_snapshot_info(self, snapshot: str) -> Snapshot:
        return Snapshot(
            self.resolve(snapshot), "acme", TIME, "why\x07\n\nmore", ("v1",), {"k": "v"}, 3, 5, "here", "manual"
        )

    def entries(
        self,
        snapshot: str,
        path: bytes = b"",
        recursive: bool = False,
        damaged: Callable[[Problem], None] | None = None,
    ) -> Iterator[Entry]:
        self.resolve(snapshot)
        assert damaged
        if path == b"damaged":
            damaged(Problem(b"", "attributes lost: why"))
            damaged(Problem(b"x\xff", "attributes lost: why"))
        self.listed = (path, recursive)
        yield Entry(b"src", "folder", 0o755, 0, 0, ObjectId(bytes(20)))
        yield Entry(b"caf\xe9.txt", "file", 0o4644, 1234, int(TIME.timestamp()) * 10**9, ObjectId(bytes(20)))
        yield Entry(b"src/\x1b[2Jevil", "symlink", 0o777, 2, 10**30, ObjectId(bytes(20)))

    def read_file(
        self, snapshot: str, path: bytes, target: BinaryIO, damaged: Callable[[Problem], None] | None = None
    ) -> None:
        if path == b"caf\xe9.txt" and self.hurt and damaged:
            damaged(Problem(b"", "attributes lost: why"))
        if path not in FILES:
            raise errors.NotFoundError(f"{path!r}: not in {self.resolve(snapshot)}")
        for byte in memoryview(FILES[path]):
            target.write(bytes([byte]))

    def get_version_diff(self, a: str, b: str) -> Difference:
        if self.resolve(a) and b == "other":
            return Difference((), (), (), ())
        return Difference((b"a\xff",), (b"m",), (b"z",), (Move(b"from", b"to\n"),))

    def get_storage_stats(self) -> StorageStats:
        return StorageStats(2, 3, 3000, 2000, 1000, (KindSize("text", 2, 1500, 500),))

    def verify(self, *, data: bool = False, progress: object = None, **options: object) -> VerifyReport:
        assert callable(progress)
        self.asked = options
        if not data:
            return VerifyReport(7, 100)
        return VerifyReport(7, 100, (Defect("chunk", "ab12", "hash differs", (Affected("acme", ID, b"p\xff"),)),))

    def status(self, paths: Sequence[str], scan: bool = False) -> list[PathState]:
        assert all(isinstance(path, str) for path in paths)
        paths = paths or [project.path for project in self.projects() if project.host == "here"]
        self.scanned = scan
        return [PathState(path, "saved" if path != "/p/never" else "new", ID, "as of now") for path in paths]

    left: tuple[NotCopied, ...] = ()

    def copy_to(self, target: str, *, projects: Sequence[str], progress: object) -> CopyReport:
        assert callable(progress)
        self.copied = tuple(projects)
        return CopyReport(target, 3, 20, 5, 2, 2048, 4, 1.5, self.left)

    def maintain(self, *, idle: bool = False, progress: object = None) -> MaintenanceReport:
        return MaintenanceReport(2048, 1024, 1.5, ("repacked 3 packs",))

    def sweep(self, *, progress: object = None) -> SweepReport:
        return SweepReport(2048, 1.5, ("chunk store: 3 packs are now 1",))


VAULTS: dict[Path, FakeVault] = {}


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeVault:
    """The vault that GIT_VAULT_DIR names."""
    VAULTS.clear()
    monkeypatch.setitem(sys.modules, "gitvault.vault", SimpleNamespace(Vault=FakeVault))  # type: ignore[arg-type]
    monkeypatch.setenv("GIT_VAULT_DIR", str(tmp_path / "v.git"))
    return FakeVault.create(tmp_path / "v.git")


class Run:
    """One command that was run: its exit code and what it printed."""

    def __init__(self, capfd: pytest.CaptureFixture[str], words: Sequence[str]) -> None:
        self.code = main.main(words)
        self.out, self.err = capfd.readouterr()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run(vault: FakeVault, capfd: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    return lambda *words: Run(capfd, words)


# -- saving


def test_snapshot_of_one_path_is_an_object(run: Callable[..., Run], vault: FakeVault) -> None:
    done = run(
        "snapshot", "/p/acme", "--project", "x", "-m", "why", "--tag", "a", "--tag", "b", "--meta", "k=v=w", "--json"
    )
    assert (done.code, done.err) == (0, "")
    assert done.json == {
        "snapshot": ID,
        "project": "x",
        "unchanged": False,
        "files": 12,
        "new": 3,
        "changed": 2,
        "deleted": 1,
        "bytes_read": 4096,
        "bytes_stored": 1024,
        "seconds": 0.123,
        "problems": [],
        "notes": ["hm"],
        "secrets": [],
    }
    assert vault.saved == [
        {"path": "/p/acme", "project": "x", "message": "why", "tags": ["a", "b"], "metadata": {"k": "v=w"}}
    ]


def test_a_snapshot_says_what_was_saved_what_it_cost_and_what_to_type_next(run: Callable[..., Run]) -> None:
    done = run("snapshot", "/p/acme")
    assert done.out.splitlines() == [
        "saved acme as 0123456789ab",
        "  12 files: 3 new, 2 changed, 1 deleted",
        "  read 4.0 KiB, stored 1.0 KiB, in 0.12 s",
        "  note: hm",
        "next: git vault log acme",
        "      git vault restore acme --to DIR",
    ]
    assert "next:" not in run("-q", "snapshot", "/p/acme").out
    assert "next:" not in run("snapshot", "/p/acme", "--quiet").out


def test_hints_carry_the_vault_that_was_given(run: Callable[..., Run], tmp_path: Path) -> None:
    FakeVault.create(tmp_path / "my v.git")
    done = run("--vault", str(tmp_path / "my v.git"), "snapshot", "/p/a b")
    assert f"next: git vault --vault '{tmp_path}/my v.git' log 'a b'" in done.out


def test_nothing_changed(run: Callable[..., Run]) -> None:
    assert run("snapshot", "/p/same", "--json").json["unchanged"] is True
    assert run("snapshot", "/p/same").out.startswith("same: nothing changed since 0123456789ab (12 files, 0.12 s)\n")


def test_an_incomplete_snapshot_is_3_and_lists_its_problems(run: Callable[..., Run]) -> None:
    done = run("snapshot", "/p/torn", "--json")
    assert done.code == save.INCOMPLETE == 3
    assert done.json["problems"] == [{"path": "caf\\xe9", "reason": "vanished"}]
    assert "    caf\\xe9: vanished" in run("snapshot", "/p/torn").out


def test_several_paths_are_a_list_and_one_that_fails_does_not_stop_the_others(
    run: Callable[..., Run], vault: FakeVault
) -> None:
    done = run("snapshot", "/p/a", "/p/missing", "/p/secret", "/p/torn", "/p/z", "--json")
    assert done.code == 128
    assert [item.get("project") for item in done.json] == ["a", None, None, "torn", "z"]
    assert done.json[1] == {"path": "/p/missing", "project": None, "error": "/p/missing: no such folder"}
    assert [saved["path"] for saved in vault.saved] == ["/p/a", "/p/torn", "/p/z"]
    assert done.err.splitlines() == [
        "git-vault: /p/missing: no such folder",
        "git-vault: /p/secret: Permission denied",
    ]
    assert run("snapshot", "/p/a", "/p/torn").code == 3


def test_all_saves_every_project_of_this_machine(run: Callable[..., Run], vault: FakeVault) -> None:
    assert [item["project"] for item in run("snapshot", "--all", "--json").json] == ["acme", "never"]
    assert [saved["project"] for saved in vault.saved] == ["acme", "never"]


def test_a_path_is_taken_as_typed_when_it_is_there_else_as_json_spells_it(
    run: Callable[..., Run], vault: FakeVault, tmp_path: Path
) -> None:
    literal = tmp_path / "a\\x41"
    if sys.platform != "win32":
        literal.mkdir()
        run("snapshot", str(literal))
        assert vault.saved[-1]["path"] == str(literal)
    run("snapshot", str(tmp_path / "caf\\xe9"))
    assert vault.saved[-1]["path"] == os.fsdecode(bytes(tmp_path / "caf") + b"\xe9")


def test_add_and_projects(run: Callable[..., Run]) -> None:
    assert run("add", "/p/new", "--name", "n", "--json").json == {
        "name": "n",
        "path": "/p/new",
        "host": "here",
        "added": "2026-01-02T03:04:05Z",
        "client": "",
        "stack": "",
        "phase": "",
        "tags": [],
        "relations": [],
        "mode": "protect",
        "archived": False,
    }
    assert run("add", "/p/new").out.startswith("added new: /p/new\n")
    assert run("add", "/p/new", "--mode", "full").out.startswith("added new: /p/new (full)\n")
    listed = run("projects", "--json").json
    assert listed[0]["snapshot"] == ID
    assert listed[0]["time"] == listed[0]["last"] == "2026-01-02T03:04:05Z"
    assert [one["snapshots"] for one in listed] == [3, 0, 1]
    assert (listed[1]["name"], listed[1]["snapshot"], listed[1]["last"]) == ("never", None, None)
    text = run("projects").out
    assert re.search(r"^never +0 +never saved +/p/never$", text, re.MULTILINE)
    assert text.rstrip().endswith("on elsewhere")


def test_status(run: Callable[..., Run], vault: FakeVault) -> None:
    assert run("status", "/p/acme/x", "--json").json == [
        {"path": "/p/acme/x", "state": "saved", "snapshot": ID, "reason": "as of now"}
    ]
    assert vault.scanned is False
    assert [item["path"] for item in run("status", "--scan", "--json").json] == ["/p/acme", "/p/never"]
    assert vault.scanned is True
    assert "saved  0123456789ab  /p/acme   as of now" in run("status").out


def test_a_vault_without_projects_says_what_to_type(run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeVault, "projects", lambda self: [])
    for verb in ("status", "projects"):
        assert run(verb).out == "no projects yet; git vault snapshot PATH\n"
        assert run(verb, "--json").json == []
    assert run("snapshot", "--all", "--json").json == []


# -- vaults


def test_init_makes_a_vault_once(run: Callable[..., Run], tmp_path: Path) -> None:
    new = tmp_path / "deep" / "new.git"
    assert run("--vault", str(new), "init", "--json").json == {"vault": str(new), "created": True}
    assert run("init", str(new), "--json").json == {"vault": str(new), "created": False}
    assert "already a vault" in run("init").out


def test_a_vault_that_is_not_there_is_10_with_the_command_that_makes_it(
    run: Callable[..., Run], tmp_path: Path
) -> None:
    done = run("--vault", str(tmp_path / "no"), "snapshot", str(tmp_path), "--json")
    assert (done.code, done.out) == (10, "")
    assert done.err == f"git-vault: {tmp_path / 'no'}: no vault; make one with: git vault --vault {tmp_path}/no init\n"
    (tmp_path / "folder").mkdir()
    assert run("--vault", str(tmp_path / "folder"), "log").code == 10


def test_the_default_vault_is_made_by_the_first_verb_that_saves(
    run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GIT_VAULT_DIR")
    monkeypatch.setattr("gitvault.config.default_vault", lambda: tmp_path / "default.git")
    done = run("log")
    assert (done.code, done.out) == (10, "")
    assert "no vault yet; make it with: git vault snapshot PATH" in done.err
    (tmp_path / "acme").mkdir()
    done = run("snapshot", str(tmp_path / "acme"), "--json")
    assert done.code == 0
    assert done.json["project"] == "acme"
    assert done.err == f"git-vault: making the default vault {tmp_path / 'default.git'}\n"
    assert run("snapshot", str(tmp_path / "acme"), "--json").err == ""


# -- looking


def test_log(run: Callable[..., Run], vault: FakeVault) -> None:
    found = run("log", "--json").json
    assert len(found) == 3
    assert {key: found[0][key] for key in ("snapshot", "project", "time", "message", "tags")} == {
        "snapshot": ID,
        "project": "acme",
        "time": "2026-01-02T03:04:05Z",
        "message": "why\x07\n\nmore",
        "tags": ["v1"],
    }
    assert len(run("log", "-n", "2", "--json").json) == 2
    assert run("log", "-n", "1").out.splitlines()[0].endswith("  acme  why\\x07 [v1]")


def test_log_folds_a_day_of_very_many(
    run: Callable[..., Run], vault: FakeVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Builds that a machine makes: the newest, the oldest and what has a tag stay, and a quiet day as it is."""
    made = vault.get_snapshot_info("acme")
    noon = datetime(2026, 1, 2, 12, tzinfo=UTC)
    builds = [
        replace(made, id=f"{n:040x}", time=noon - timedelta(minutes=n), tags=("v1",) * (n == 30)) for n in range(60)
    ]
    quiet = [replace(made, id=f"{n:040x}", time=noon - timedelta(days=2, minutes=n), tags=()) for n in range(60, 110)]
    monkeypatch.setattr(vault, "list_snapshots", lambda _: [*builds, *quiet])
    lines = [line for line in run("log").out.splitlines() if "acme" in line]
    assert [line.split()[0] for line in lines[:4]] == [builds[n].id[:12] for n in (0, 1, 30, 59)]
    assert lines[1].endswith("... and 56 older ones of this day")
    assert len(lines) == 4 + len(quiet)
    assert len(run("log", "--all").out.splitlines()) >= 110 and len(run("log", "--json").json) == 110


def test_log_filters(run: Callable[..., Run], vault: FakeVault) -> None:
    run("log", "acme", "--tag", "a", "--tag", "b", "--meta", "k=v", "--since", "2026-01-02T00:00:00Z", "--until", "now")
    assert vault.filtered is not None
    assert vault.filtered.project == "acme"
    assert vault.filtered.tags == {"a", "b"}
    assert vault.filtered.metadata == {"k": "v"}
    assert vault.filtered.since == datetime(2026, 1, 2, tzinfo=UTC)
    assert vault.filtered.until is not None
    assert datetime.now(UTC) - vault.filtered.until < timedelta(minutes=5)
    day = run("log", "--since", "2026-01-02", "--until", "2026-01-02")
    assert day.code == 0
    assert vault.filtered.until is not None
    assert vault.filtered.since is not None
    assert timedelta(hours=22) < vault.filtered.until - vault.filtered.since < timedelta(hours=26)


def test_the_vault_is_closed_at_the_end(run: Callable[..., Run], vault: FakeVault) -> None:
    run("ls", "acme")
    assert vault.closed


def test_log_of_an_unknown_project_is_an_error(run: Callable[..., Run]) -> None:
    done = run("log", "nope", "--json")
    assert (done.code, done.out) == (128, "")
    assert done.err == "git-vault: nope: no such project\n"


def test_show(run: Callable[..., Run]) -> None:
    found = run("show", "acme", "--json").json
    assert found["metadata"] == {"k": "v"}
    assert found["files"] == 3
    text = run("show", "acme").out
    assert f"snapshot: {ID}\n" in text
    assert "meta:     k=v\n" in text
    assert "    why\\x07\n\n    more\n" in text


def test_ls(run: Callable[..., Run], vault: FakeVault) -> None:
    assert run("ls", "acme", "--json").json == [
        {"path": "src", "kind": "folder", "mode": "0755", "size": 0, "time": None},
        {"path": "caf\\xe9.txt", "kind": "file", "mode": "4644", "size": 1234, "time": "2026-01-02T03:04:05Z"},
        {
            "path": "src/\x1b[2Jevil",
            "kind": "symlink",
            "mode": "0777",
            "size": 2,
            "time": "9999-01-01T00:00:00Z",
        },
    ]
    assert vault.listed == (b"", False)
    lines = run("ls", "acme", "./caf\\xe9//dir/", "-r").out.splitlines()
    assert vault.listed == (b"caf\xe9/dir", True)
    assert lines[0].startswith("drwxr-xr-x ") and "1970" not in lines[0]
    assert lines[0].endswith("  src/")
    assert lines[1].startswith("-rwSr--r--          1,234  ")
    assert lines[2].endswith("  src/\\x1b[2Jevil")


def test_cat_writes_the_bytes(run: Callable[..., Run], capfd: pytest.CaptureFixture[str]) -> None:
    assert run("cat", "acme:caf\\xe9.txt").out == "old\n"
    assert run("cat", "acme:src/a:b.c").out == "int main;\n"
    assert run("cat", "2026-01-02T03:04:05Z:src/a:b.c").out == "int main;\n"


def test_cat_in_json(run: Callable[..., Run]) -> None:
    assert run("cat", "acme:caf\\xe9.txt", "--json").json == {
        "snapshot": ID,
        "path": "caf\\xe9.txt",
        "size": 4,
        "encoding": "utf-8",
        "content": "old\n",
    }
    found = run("cat", "acme:src/\x1b[2Jevil", "--json").json
    assert (found["encoding"], found["content"]) == ("base64", "/wA=")
    for path in (b"text", b"void"):
        found = run("cat", f"acme:{path.decode()}", "--json").json
        assert (found["encoding"], found["size"]) == ("utf-8", len(FILES[path]))
        assert found["content"].encode() == FILES[path]
    for path in (b"cut", b"ten"):
        found = run("cat", f"acme:{path.decode()}", "--json").json
        assert (found["encoding"], found["size"]) == ("base64", len(FILES[path]))
        assert base64.b64decode(found["content"], validate=True) == FILES[path]
    done = run("cat", "acme:nope", "--json")
    assert (done.code, done.out) == (128, "")


@pytest.mark.skipif(sys.platform == "win32", reason="a folder in use cannot be removed there")
def test_a_folder_that_is_gone(run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    done = run("--vault", "relative", "log")
    assert (done.code, done.out) == (128, "")
    assert done.err == "git-vault: the folder you are in is gone; change to one that exists\n"


def test_lost_attributes_are_problems(run: Callable[..., Run], vault: FakeVault) -> None:
    """What is there is printed, what is lost is said beside it."""
    for words in (["ls", "acme", "damaged"], ["ls", "acme", "damaged", "--json"]):
        done = run(*words)
        assert (done.code, done.out) == (1, run(*words[:2], *words[3:]).out)
        assert done.err.splitlines() == [
            "git-vault: 2 problems:",
            "git-vault: .: attributes lost: why",
            "git-vault: x\\xff: attributes lost: why",
        ]
    vault.hurt = True
    assert json.loads(run("cat", "acme:caf\\xe9.txt", "--json").out)["content"] == "old\n"
    done = run("cat", "acme:caf\\xe9.txt")
    assert (done.code, done.out) == (1, "old\n")
    assert done.err == "git-vault: 1 problem:\ngit-vault: .: attributes lost: why\n"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("acme", "expected SNAPSHOT:PATH"),
        ("nope:x", "nope: no such snapshot"),
        ("nope:x:y", "nope: no such snapshot"),
        ("two:x", "two: fits several"),
        ("acme:nope", "not in"),
    ],
)
def test_cat_of_what_is_not_there(run: Callable[..., Run], argument: str, message: str) -> None:
    done = run("cat", argument)
    assert (done.code, done.out) == (128, "")
    assert message in done.err


def test_diff(run: Callable[..., Run]) -> None:
    done = run("diff", "acme", ID[:8], "--json")
    assert done.code == history.DIFFERENT == 1
    assert done.json == {
        "added": ["a\\xff"],
        "changed": ["m"],
        "deleted": ["z"],
        "moved": [{"from": "from", "to": "to\n"}],
    }
    assert run("diff", "acme", ID).out == "A\ta\\xff\nR\tfrom\tto\\x0a\nM\tm\nD\tz\n"
    same = run("diff", "acme", "other")
    assert (same.code, same.out) == (0, "")


# -- getting back


def test_restore(run: Callable[..., Run], vault: FakeVault) -> None:
    done = run("restore", "acme", "src/", "--to", "/t", "caf\\xe9", "--exclude", "src/x", "--json")
    assert vault.restored == ("acme", "/t", [b"src", b"caf\xe9"], [b"src/x"], False)
    assert done.code == 0
    assert done.json == {
        "snapshot": ID,
        "target": "/t",
        "files": 3,
        "bytes": 5,
        "seconds": 0.5,
        "safety": None,
        "problems": [],
    }
    assert run("restore", "acme", "--to", "/t", "--overwrite").out == (
        "restored 3 files, 5 B, of 0123456789ab into /t in 0.50 s\n"
    )
    assert vault.restored[4] is True


def test_restore_in_place_takes_a_safety_snapshot_and_says_how_to_go_back(
    run: Callable[..., Run], vault: FakeVault
) -> None:
    assert run("restore", "acme", "--in-place", "--json").json["safety"] == ID
    assert vault.restored == ("acme", None, [], [], True)
    assert "next: git vault restore 0123456789ab --in-place" in run("restore", "acme", "--in-place").out


def test_restore_with_problems_is_1(run: Callable[..., Run]) -> None:
    done = run("restore", "acme", "setuid", "--to", "/t")
    assert done.code == restore.PROBLEMS == 1
    assert "    x: setuid bit dropped" in done.out


# -- care


def test_verify(run: Callable[..., Run]) -> None:
    done = run("verify", "--json")
    assert done.code == 0
    nothing: dict[str, object] = {"defects": [], "repaired": [], "quarantined": [], "drilled": 0, "note": ""}
    assert done.json == {"ok": True, "objects_checked": 7, "bytes_checked": 100} | nothing
    assert run("verify").out.startswith("all is well: checked 7 objects, 100 B;")
    done = run("verify", "--data", "--json")
    assert done.code == 20
    assert done.json["defects"] == [
        {
            "kind": "chunk",
            "object": "ab12",
            "reason": "hash differs",
            "affects": [{"project": "acme", "snapshot": ID, "path": "p\\xff"}],
        }
    ]
    assert run("verify", "--data").out.splitlines() == [
        "1 defect; checked 7 objects, 100 B",
        "  chunk ab12: hash differs",
        "    in 0123456789ab acme:p\\xff",
        "next: git vault verify --repair",
    ]


def test_verify_passes_on_what_to_read(run: Callable[..., Run], vault: FakeVault) -> None:
    run("verify", "--share", "2/30", "--restart", "--drill", "3", "--seed", "7")
    chance = vault.asked.pop("chance")
    assert isinstance(chance, random.Random)
    assert chance.random() == random.Random(7).random()
    assert vault.asked == {"share": (2, 30), "restart": True, "drill": 3}
    for wrong in ("1", "0/3", "4/3", "1/x", "1/10001", "-1/3"):
        assert run("verify", f"--share={wrong}").code == main.USAGE


def test_copy(run: Callable[..., Run], vault: FakeVault) -> None:
    done = run("copy", "--to", "/mnt/second", "--project", "a", "--project", "b", "--json")
    assert done.code == 0
    assert done.json == {
        "target": "/mnt/second",
        "snapshots": 3,
        "objects": 20,
        "chunks": 5,
        "packs": 2,
        "bytes": 2048,
        "refs": 4,
        "seconds": 1.5,
        "left": [],
    }
    assert vault.copied == ("a", "b")
    assert run("copy", "--to", "/mnt/second").out == "3 snapshots copied to /mnt/second: 2.0 KiB in 2 packs, 1.50 s\n"
    assert run("copy").code == main.USAGE
    vault.left = (NotCopied("refs/heads/a", "a", "went another way", False),)
    done = run("copy", "--to", "/mnt/second")
    assert (done.code, done.out.splitlines()[1:]) == (128, ["left as it was there: a: went another way"])
    vault.left = (*vault.left, NotCopied("refs/notes/x", "", "gone", True))
    done = run("copy", "--to", "/mnt/second")
    assert done.code == 20
    assert "left as it was there: refs/notes/x: gone\n" in done.out
    assert "verify --data" in done.out


def test_stats(run: Callable[..., Run]) -> None:
    assert run("stats", "--json").json == {
        "projects": 2,
        "snapshots": 3,
        "logical_bytes": 3000,
        "unique_bytes": 2000,
        "stored_bytes": 1000,
        "ratio": 3.0,
        "kinds": [{"kind": "text", "files": 2, "bytes": 1500, "stored": 500}],
    }
    assert "3.0:1" in run("stats").out


def test_maintain(run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("maintain", "--json").json == {
        "bytes_before": 2048,
        "bytes_after": 1024,
        "seconds": 1.5,
        "actions": ["repacked 3 packs"],
    }
    assert run("maintain").out == "repacked 3 packs\non disk: 2.0 KiB before, 1.0 KiB now; took 1.50 s\n"
    monkeypatch.setattr(FakeVault, "maintain", lambda self, idle, progress: MaintenanceReport(1, 1, 0.0))
    assert run("maintain").out == "nothing was due\n"


def test_sweep(run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    actions = ["chunk store: 3 packs are now 1"]
    assert run("sweep", "--json").json == {"bytes_freed": 2048, "seconds": 1.5, "actions": actions}
    assert run("sweep").out == "chunk store: 3 packs are now 1\n2.0 KiB freed; took 1.50 s\n"
    monkeypatch.setattr(FakeVault, "sweep", lambda self, progress: SweepReport(0, 0.0))
    assert run("sweep").out == "nothing to remove: all that is stored is needed\n"


# -- wrong usage, errors


@pytest.mark.parametrize(
    "words",
    [
        ["snapshot"],
        ["snapshot", "--all", "/p"],
        ["snapshot", "/p", "/q", "--project", "x"],
        ["snapshot", "/p", "--meta", "novalue"],
        ["snapshot", "/p", "--meta", "=v"],
        ["snapshot", "/p", "--frobnicate"],
        ["snapshot", "/p", "--mess", "abbreviated"],
        ["restore", "acme"],
        ["restore", "acme", "--to", "/t", "--in-place"],
        ["log", "--since", "frog"],
        ["log", "-n", "-1"],
        ["log", "-n", "many"],
        ["diff", "acme"],
        ["frobnicate"],
        ["--frobnicate", "log"],
    ],
)
def test_wrong_usage_is_129_in_one_line_that_names_the_help(run: Callable[..., Run], words: list[str]) -> None:
    done = run(*words)
    assert (done.code, done.out) == (main.USAGE, "")
    assert re.fullmatch(r"git-vault: .*; see: git-vault( \w+)? -h\n", done.err)


def test_a_mistyped_verb_is_guessed(run: Callable[..., Run]) -> None:
    assert "did you mean snapshot?" in run("snapshto").err


def test_without_a_verb_the_help_is_printed(run: Callable[..., Run]) -> None:
    done = run()
    assert (done.code, done.out) == (129, "")
    assert all(f"\n  {verb} " in done.err for verb in main.VERBS)
    done = run("-h")
    assert (done.code, done.err) == (0, "")
    assert "get files back" in done.out
    assert run("--version").out.startswith("git-vault ")


def test_help_fits_the_terminal(run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = []
    for columns in (60, 120):
        monkeypatch.setenv("COLUMNS", str(columns))
        options = run("snapshot", "-h").out.partition("options:")[2].partition("example:")[0]
        lengths.append(max(map(len, options.splitlines())))
    assert lengths[0] <= 60 < lengths[1] <= 120


def test_the_script_runs_what_the_package_runs() -> None:
    project = tomllib.loads((Path(__file__).parent.parent.parent / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["scripts"] == {"git-vault": f"{run_as_a_process.__module__}:{run_as_a_process.__name__}"}


ERRORS = [
    (errors.ConfigError("c"), 128),
    (errors.AmbiguousError("a"), 128),
    (errors.ExistsError("e"), 128),
    (errors.LockedError("l"), 11),
    (errors.StorageFullError("s"), 12),
    (errors.CorruptionError("c"), 20),
    (errors.ChecksumMismatch("chunk 1", "aa", "bb"), 20),
    (errors.ContentMissing("m"), 20),
    (errors.UnsupportedFormatVersion("f"), 20),
    (errors.ToolMissing("t"), 128),
    (errors.ToolFailed("git gc", 3, "one\ntwo"), 128),
    (PermissionError(13, "Permission denied", "/v"), 128),
    (OSError(28, "No space left on device", "/v"), 12),
    (KeyboardInterrupt(), main.INTERRUPTED),
    (ZeroDivisionError("division\nby zero"), 128),
]


@pytest.mark.parametrize(("error", "code"), ERRORS, ids=lambda value: type(value).__name__)
def test_an_error_is_one_line_and_its_code_and_a_traceback_only_for_debug(
    run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    def fail(self: FakeVault, filter_criteria: Filter) -> list[Snapshot]:
        raise error

    monkeypatch.setattr(FakeVault, "list_snapshots", fail)
    done = run("log", "--json")
    assert (done.code, done.out) == (code, "")
    assert re.fullmatch(r"git-vault: [^\n]+\n", done.err)
    if isinstance(error, Exception):
        assert "Traceback" in run("--debug", "log").err
        assert "Traceback" in run("log", "--debug").err
    if isinstance(error, ZeroDivisionError):
        assert "internal error: ZeroDivisionError: division\\x0aby zero; run again with --debug" in done.err


def test_a_reader_that_leaves_is_no_error(
    run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    kept = os.dup(1)
    try:
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 1)
        os.close(writer)
        with open(1, "w", closefd=False) as out:
            monkeypatch.setattr(sys, "stdout", out)
            assert main.main(["log"]) == main.BROKEN_PIPE
    finally:
        os.dup2(kept, 1)
        os.close(kept)
    assert capfd.readouterr().err == ""


# -- progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_drawn_on_a_terminal_once_it_takes_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    bar = progress.Bar()
    bar("saving", 1 << 20, 4 << 20)
    assert screen.getvalue() == ""
    now[0] = progress.PATIENCE + 0.01
    bar("saving", 2 << 20, 4 << 20)
    now[0] += 1
    bar("checking packs", 3, 4)
    bar.close()
    drawn = screen.getvalue()
    assert "2.0/4.0 MiB" in drawn
    assert "3/4" in drawn
    now[0] += 1
    bar("saving", 3 << 20, 4 << 20)
    assert screen.getvalue() == drawn


def test_the_bar_is_gone_before_the_answer_is_printed(vault: FakeVault, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(sys, stream, screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "PATIENCE", -1.0)
    assert main.main(["snapshot", "/p/acme"]) == 0
    drawn = screen.getvalue()
    assert 0 <= drawn.rindex("saving") < drawn.index("saved acme")
    assert drawn.endswith("restore acme --to DIR\n")


def test_progress_ends_with_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(progress, "PATIENCE", -1.0)
    session = main.Session("v", creates=False, quiet=False)
    session.end_progress()
    session.progress("saving", 1, 2)
    session.end_progress()
    shown = screen.getvalue()
    assert shown
    session.progress("saving", 2, 2)
    assert screen.getvalue() == shown


@pytest.mark.parametrize("quiet", [True, False])
def test_nothing_is_drawn_when_nobody_looks(monkeypatch: pytest.MonkeyPatch, quiet: bool) -> None:
    screen = Terminal() if quiet else io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(progress, "PATIENCE", -1.0)
    bar = progress.Bar(quiet)
    bar("saving", 1, 2)
    bar.close()
    assert screen.getvalue() == ""


# -- documentation


def options_of(verb: str) -> Iterator[str]:
    found = main.builtin_verb(verb)
    assert found is not None
    for action in main.verb_parser(found)._actions:
        yield from action.option_strings


@pytest.mark.parametrize("verb", main.VERBS)
def test_every_verb_and_option_is_documented_and_has_an_example(verb: str) -> None:
    found = main.builtin_verb(verb)
    assert found is not None
    assert found.name == verb
    assert f"git-vault {verb}" in found.example
    text = (DOCS / "commands.md").read_text("utf-8")
    common = text[: text.index("## Words")]
    section = re.search(rf"^### {verb}\n(.*?)(?=^##)", text, re.MULTILINE | re.DOTALL)
    assert section is not None
    page = (DOCS / "git-vault.1").read_text("utf-8").replace("\\-", "-")
    for option in options_of(verb):
        assert re.search(rf"`{option}\b|\[{option}\b| {option}\b", section[1] + common), option
        assert option in page or option in ("--message", "--recursive"), option
    assert f"\\fB{verb}\\fR" in (DOCS / "git-vault.1").read_text("utf-8")


def test_every_option_before_the_verb_is_documented() -> None:
    text = (DOCS / "commands.md").read_text("utf-8")
    for action in main.main_parser()._actions:
        for option in action.option_strings:
            assert f"`{option}" in text


def test_every_setting_is_documented_with_its_default() -> None:
    text = (DOCS / "commands.md").read_text("utf-8")
    for setting in SETTINGS.values():
        assert f"`{setting.key}`" in text
    default = Config()
    bounds = ", ".join(f"{size >> 10}k" for size in (default.min_chunk, default.avg_chunk, default.max_chunk))
    assert f"| {bounds} |" in text
    assert f"| `vault.inlineLimit` | {default.inline_limit >> 10}k |" in text
    assert f"| `vault.lockTimeout` | {default.lock_timeout} |" in text


def test_what_a_snapshot_may_be_is_in_the_help() -> None:
    found = main.builtin_verb("show")
    assert found is not None
    assert "PROJECT~2" in arguments.SNAPSHOT
    assert arguments.SNAPSHOT.split(",")[0] in main.verb_parser(found).format_help()
