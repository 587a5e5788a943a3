"""The real command on a real vault; also as a program of its own."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from conftest import called, started

from gitvault.core.storage.packs import read_table

ROOT = Path(__file__).parent.parent.parent
HEAVY = ("numpy", "pygit2", "dulwich", "rich", "zstandard", "platformdirs", "pyfastcdc", "importlib.metadata")
HEAVY += ("gitvault.core.models.reports", "gitvault.core.utils.lock", "gitvault.core.versioning.packfile")

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    return home


@pytest.fixture
def git_vault(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs git-vault on an own default vault; raises when the exit code is not `code`.

    With an environment as a program, else what the program runs.
    """
    for name, value in (("HOME", home), ("USERPROFILE", home), ("XDG_DATA_HOME", home / "data")):
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("GIT_VAULT_DIR", raising=False)

    def run(*words: str | Path, code: int = 0, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        arguments = [*map(str, words)]
        if env is None:
            done = called(arguments, tmp_path)
        else:
            done = started(arguments, tmp_path, {"env": {"PYTHONIOENCODING": "utf-8", **env}})
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small project with text, a large binary, a folder, and a name that is not UTF-8 where there can be one."""
    project = tmp_path / "acme"
    (project / "src").mkdir(parents=True)
    (project / "src" / "main.c").write_bytes(b"int main(void) { return 0; }\n")
    (project / "logo.psd").write_bytes(b"8BPS" + bytes(range(256)) * 1200)
    (project / "empty").mkdir()
    if sys.platform == "linux":
        Path(os.fsdecode(os.fsencode(project) + b"/caf\xe9.txt")).write_bytes(b"coffee\n")
    return project


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every path below with its content, None for a folder."""
    return {
        path.relative_to(folder).as_posix(): None if path.is_dir() else path.read_bytes() for path in folder.rglob("*")
    }


def document(done: subprocess.CompletedProcess[str]) -> Any:
    """What `--json` printed: exactly one document."""
    return json.loads(done.stdout)


def test_save_look_and_get_back(git_vault: Command, project: Path, tmp_path: Path) -> None:
    vault = tmp_path / "v.git"
    git_vault("--vault", vault, "init", env={})
    first = document(git_vault("--vault", vault, "snapshot", project, "-m", "first", "--tag", "v1", "--json"))
    count = len(tree(project)) - 2
    assert (first["project"], first["files"], first["new"], first["unchanged"]) == ("acme", count, count, False)
    assert first["problems"] == []
    original = tree(project)

    (project / "src" / "main.c").write_bytes(b"changed\n")
    (project / "logo.psd").rename(project / "art.psd")
    second = document(git_vault("snapshot", project, "--meta", "k=v", "--json", "--vault", vault))
    assert second["snapshot"] != first["snapshot"]
    again = document(git_vault("--vault", vault, "snapshot", project, "--json"))
    assert (again["snapshot"], again["unchanged"], again["new"]) == (second["snapshot"], True, 0)

    log = document(git_vault("--vault", vault, "log", "acme", "--json"))
    assert [snapshot["snapshot"] for snapshot in log] == [second["snapshot"], first["snapshot"]]
    assert log[1]["message"] == "first"
    assert log[1]["tags"] == ["v1"]
    for words in (["--tag", "v1"], ["--until", log[1]["time"], "-n", "1"]):
        found = document(git_vault("--vault", vault, "log", *words, "--json"))
        assert found[-1]["snapshot"] == first["snapshot"] or words[0] == "--until"
    assert [s["snapshot"] for s in document(git_vault("--vault", vault, "log", "--meta", "k=v", "--json"))] == [
        second["snapshot"]
    ]
    assert (
        document(git_vault("--vault", vault, "log", "--since", "2 hours ago", "--until", "1 hour ago", "--json")) == []
    )
    assert document(git_vault("--vault", vault, "show", "acme~1", "--json"))["snapshot"] == first["snapshot"]

    difference = document(git_vault("--vault", vault, "diff", "acme~1", "acme", "--json", code=1))
    assert difference == {
        "added": [],
        "changed": ["src/main.c"],
        "deleted": [],
        "moved": [{"from": "logo.psd", "to": "art.psd"}],
    }
    git_vault("--vault", vault, "diff", "acme", "acme")

    restored = document(
        git_vault("--vault", vault, "restore", first["snapshot"][:10], "--to", tmp_path / "r", "--json")
    )
    assert restored["files"] == count
    assert tree(tmp_path / "r") == original
    part = tmp_path / "part"
    git_vault("--vault", vault, "restore", "acme~1", "src", "--to", part)
    assert tree(part) == {"src": None, "src/main.c": original["src/main.c"]}
    git_vault("--vault", vault, "restore", "acme~1", "--to", tmp_path / "less", "--exclude", "src")
    assert "src/main.c" not in tree(tmp_path / "less")


def test_what_is_said_next_works_as_it_is_said(git_vault: Command, tmp_path: Path) -> None:
    """The vault that was just made is the one named; a project whose name looks like an option is no option."""
    made = tmp_path / "my vault.git"
    hint = git_vault("init", made).stdout.splitlines()[-1]
    assert hint == f"next: git vault --vault '{made}' snapshot PATH"
    assert "no projects of this machine yet; git vault" in git_vault("--vault", made, "snapshot", "--all").stdout
    (tmp_path / "-n").mkdir()
    (tmp_path / "-n" / "file").write_bytes(b"x")
    said = git_vault("--vault", made, "snapshot", "--", "-n").stdout.splitlines()[-2:]
    for number, line in enumerate(said):
        words = shlex.split(line.removeprefix("next: ").strip().replace("DIR", f"back{number}"))[2:]
        git_vault(*words)
    assert (tmp_path / "back1" / "file").read_bytes() == b"x"


def test_restore_never_overwrites_unless_told_to(git_vault: Command, project: Path, tmp_path: Path) -> None:
    git_vault("snapshot", project)
    target = tmp_path / "t"
    (target / "src").mkdir(parents=True)
    (target / "src" / "main.c").write_bytes(b"mine\n")
    done = git_vault("restore", "acme", "--to", target, "--json", code=128)
    assert done.stdout == ""
    assert "main.c" in done.stderr
    assert tree(target) == {"src": None, "src/main.c": b"mine\n"}
    git_vault("restore", "acme", "--to", target, "--overwrite")
    assert tree(target) == tree(project)


def test_restore_in_place_keeps_what_was_there(git_vault: Command, project: Path) -> None:
    first = document(git_vault("snapshot", project, "--json"))["snapshot"]
    before = tree(project)
    (project / "src" / "main.c").write_bytes(b"a bad idea\n")
    done = document(git_vault("restore", "acme", "--in-place", "--json"))
    assert tree(project)["src/main.c"] == before["src/main.c"]
    assert done["safety"] not in (None, first)
    assert git_vault("cat", f"{done['safety']}:src/main.c").stdout == "a bad idea\n"
    newest = document(git_vault("snapshot", project, "--json"))["snapshot"]
    assert document(git_vault("show", newest, "--json"))["restored_from"] == first


def test_ls_and_cat(git_vault: Command, project: Path) -> None:
    git_vault("snapshot", project)
    listed = document(git_vault("ls", "acme", "--json"))
    assert {entry["path"]: entry["kind"] for entry in listed}.items() >= {
        "empty": "folder",
        "src": "folder",
        "logo.psd": "file",
    }.items()
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", entry["time"]) for entry in listed)
    sizes = {entry["path"]: entry["size"] for entry in document(git_vault("ls", "acme", "-r", "--json"))}
    assert sizes["logo.psd"] == (project / "logo.psd").stat().st_size
    assert sizes["src/main.c"] == 29
    assert [entry["path"] for entry in document(git_vault("ls", "acme", "src/", "--json"))] == ["src/main.c"]
    assert git_vault("cat", "acme:src/main.c").stdout == "int main(void) { return 0; }\n"
    held = document(git_vault("cat", "acme:logo.psd", "--json"))
    assert (held["encoding"], held["size"]) == ("base64", 256 * 1200 + 4)
    assert (
        "no such" in git_vault("cat", "acme:nope", code=128).stderr.lower()
        or "nope" in git_vault("cat", "acme:nope", code=128).stderr
    )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names that are not UTF-8")
def test_a_name_that_is_not_utf_8_is_escaped_and_accepted_back(
    git_vault: Command, project: Path, tmp_path: Path
) -> None:
    git_vault("snapshot", project)
    assert "caf\\xe9.txt" in {entry["path"] for entry in document(git_vault("ls", "acme", "--json"))}
    assert git_vault("cat", "acme:caf\\xe9.txt").stdout == "coffee\n"
    git_vault("restore", "acme", "caf\\xe9.txt", "--to", tmp_path / "r")
    assert os.listdir(os.fsencode(tmp_path / "r")) == [b"caf\xe9.txt"]
    (state,) = document(git_vault("status", f"{project}/caf\\xe9.txt", "--json"))
    assert state["path"].endswith("caf\\xe9.txt")
    assert state["state"] == "saved"


def test_status_of_files_folders_and_everything(git_vault: Command, project: Path, tmp_path: Path) -> None:
    first = document(git_vault("snapshot", project, "--json"))["snapshot"]
    (project / "src" / "main.c").write_bytes(b"changed\n")
    (project / "new.txt").write_bytes(b"new\n")
    (project / "logo.psd").unlink()
    names = ("src/main.c", "new.txt", "logo.psd")
    states = document(git_vault("status", *(project / name for name in names), tmp_path / "elsewhere", "--json"))
    assert [state["state"] for state in states] == ["changed", "new", "deleted", "unknown"]
    assert all(set(state) == {"path", "state", "snapshot", "reason"} for state in states)
    assert states[0]["snapshot"] == first
    (everything,) = document(git_vault("status", "--scan", "--json"))
    assert everything["state"] == "changed"
    assert "changed" in git_vault("status", "--scan").stdout


def test_several_projects_at_once(git_vault: Command, project: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "f").write_bytes(b"f\n")
    done = git_vault("snapshot", project, tmp_path / "missing", other, "--json", code=128)
    found = document(done)
    assert [item.get("project") for item in found] == ["acme", None, "other"]
    assert str(tmp_path / "missing") in found[1]["error"]
    assert len([line for line in done.stderr.splitlines() if "missing" in line]) == 1
    everything = document(git_vault("snapshot", "--all", "--json"))
    assert [(item["project"], item["unchanged"]) for item in everything] == [("acme", True), ("other", True)]
    listed = document(git_vault("projects", "--json"))
    assert [(item["name"], item["path"]) for item in listed] == [("acme", str(project)), ("other", str(other))]


def test_a_registered_project_that_was_never_saved_is_listed(git_vault: Command, project: Path) -> None:
    assert document(git_vault("add", project, "--name", "client work", "--json"))["name"] == "client work"
    (listed,) = document(git_vault("projects", "--json"))
    assert (listed["name"], listed["snapshot"]) == ("client work", None)
    assert document(git_vault("log", "client work", "--json")) == []
    assert document(git_vault("snapshot", "--all", "--json"))[0]["project"] == "client work"


def test_status_says_once_that_scan_looks_now(git_vault: Command, project: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    git_vault("snapshot", project, tmp_path / "other")
    told = git_vault("status").stdout
    assert told.count("as of the last look") == 2 and told.count("--scan") == 1
    assert told.endswith("\nnext: the same with --scan   looks now\n")
    assert all(state["reason"].endswith("; --scan looks now") for state in document(git_vault("status", "--json")))
    assert "looks now" not in git_vault("status", "--scan").stdout


def test_names_that_are_no_text_are_told_as_they_can_be_typed(git_vault: Command, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    (folder / os.fsdecode(b"n\xff")).write_bytes(b"x")
    done = git_vault("snapshot", folder)
    assert "next: git vault log caf_\n" in done.stdout
    assert document(git_vault("log", "caf_", "--json"))[0]["project"] == "caf_"
    file = f"{tmp_path}/caf\\xe9/n\\xff"
    assert git_vault("status", file).stdout.split() == ["saved", ANY, file, "as", "in", "the", "newest", "snapshot"]


def test_where_all_projects_are_archived_that_is_said(git_vault: Command, project: Path) -> None:
    git_vault("snapshot", project)
    git_vault("projects", "archive", "acme")
    said = git_vault("projects").stdout
    assert said == "all projects are archived; git vault projects archived:yes   lists them\n"
    assert "acme" in git_vault("projects", "archived:yes").stdout
    assert document(git_vault("projects", "--json")) == []


def test_the_default_vault_is_made_on_first_use_and_said(git_vault: Command, project: Path, home: Path) -> None:
    assert "git vault snapshot PATH" in git_vault("log", code=10).stderr
    done = git_vault("snapshot", project, "--json")
    assert done.stderr.startswith("git-vault: making the default vault ")
    assert document(done)["project"] == "acme"
    assert git_vault("snapshot", project, "--json").stderr == ""
    made = document(git_vault("init", "--json"))
    assert made["created"] is False
    assert Path(made["vault"]).is_relative_to(home)


@pytest.mark.parametrize(
    "words",
    [
        ("snapshot", "acmee"),
        ("snapshot", "acmee", "acme/f", "--with-links"),
        ("add", "acmee"),
        ("import", "folder", "acmee"),
        ("import", "git", "acmee"),
    ],
)
def test_a_mistyped_first_path_leaves_no_vault_behind(
    git_vault: Command, project: Path, home: Path, words: tuple[str, ...]
) -> None:
    done = git_vault(*words, code=128)
    assert "acmee: no such folder" in done.stderr and "making" not in done.stderr and done.stdout == ""
    assert list(home.iterdir()) == []


def test_of_several_first_paths_one_that_is_there_is_enough(git_vault: Command, project: Path) -> None:
    found = document(git_vault("snapshot", "acmee", project, "--json", code=128))
    assert [item.get("project") for item in found] == [None, "acme"]
    assert len(document(git_vault("log", "--json"))) == 1


def test_vault_dir_of_git_config_and_the_environment(
    git_vault: Command, project: Path, home: Path, tmp_path: Path
) -> None:
    (home / ".gitconfig").write_text(f"[vault]\n\tdir = {(tmp_path / 'mine.git').as_posix()}\n")
    git_vault("snapshot", project)
    assert (tmp_path / "mine.git" / "HEAD").exists()
    done = git_vault("log", "--json", env={"GIT_VAULT_DIR": str(tmp_path / "none.git")}, code=10)
    assert "none.git" in done.stderr
    assert len(document(git_vault("--vault", tmp_path / "mine.git", "log", "--json"))) == 1


def test_a_wrong_setting_names_file_and_line(git_vault: Command, project: Path, tmp_path: Path) -> None:
    vault = tmp_path / "v.git"
    git_vault("--vault", vault, "init")
    lines = len((vault / "config").read_text().splitlines())
    subprocess.run(["git", "-C", vault, "config", "vault.compresionLevel", "3"], check=True)
    done = git_vault("--vault", vault, "snapshot", project, "--json", code=128)
    assert done.stdout == ""
    assert done.stderr == (
        f"git-vault: {vault / 'config'}, line {lines + 1}: vault.compresionlevel: "
        "unknown setting; did you mean vault.compressionLevel?\n"
    )
    found = document(git_vault("--vault", vault, "doctor", "--json", code=1))
    assert [check["name"] for check in found["checks"] if check["state"] == "wrong"] == ["vault"]


def test_a_vault_of_a_newer_format_is_left_alone(git_vault: Command, project: Path, tmp_path: Path) -> None:
    vault = tmp_path / "v.git"
    git_vault("--vault", vault, "init")
    subprocess.run(["git", "-C", vault, "config", "vault.formatVersion", "99"], check=True)
    for verb in ("log", "init"):
        assert "format version 99" in git_vault("--vault", vault, verb, code=20).stderr
    assert git_vault("--vault", vault, "snapshot", project, code=20).stdout == ""


@pytest.mark.parametrize("kind", ["file", "folder", "repository"])
def test_what_is_no_vault_is_10(git_vault: Command, tmp_path: Path, kind: str) -> None:
    place = tmp_path / "place"
    if kind == "file":
        place.write_text("x")
    elif kind == "folder":
        place.mkdir()
        (place / "x").write_text("x")
    else:
        subprocess.run(["git", "init", "-q", "--bare", place], check=True)
    assert str(place) in git_vault("--vault", place, "log", code=10).stderr
    assert str(place) in git_vault("--vault", place, "init", code=128).stderr


def test_verify_stats_maintain_doctor(git_vault: Command, project: Path) -> None:
    git_vault("snapshot", project)
    for words in (["verify"], ["verify", "--data"]):
        found = document(git_vault(*words, "--json"))
        assert (found["ok"], found["defects"]) == (True, [])
        assert found["objects_checked"] > 0
        assert git_vault(*words).stdout.startswith("all is well")
    stats = document(git_vault("stats", "--json"))
    assert (stats["projects"], stats["snapshots"]) == (1, 1)
    assert stats["logical_bytes"] >= 256 * 1200
    assert sum(kind["files"] for kind in stats["kinds"]) >= 2
    assert "on disk" in git_vault("stats").stdout
    assert document(git_vault("maintain", "--json"))["bytes_after"] > 0
    git_vault("maintain")
    found = document(git_vault("doctor", "--json"))
    assert found["ok"] is True
    states = {check["name"]: check["state"] for check in found["checks"]}
    assert {states[name] for name in ("python", "git", "vault", "writable", "gc.auto", "locks")} == {"ok"}


def test_doctor_tells_what_is_wrong_and_how_to_mend_it(
    git_vault: Command, project: Path, home: Path, tmp_path: Path
) -> None:
    advice = [check for check in document(git_vault("doctor", "--json"))["checks"] if check["name"] == "vault"]
    assert [(check["state"], check["mend"]) for check in advice] == [("advice", "git vault init")]
    git_vault("snapshot", project)
    vault = Path(document(git_vault("init", "--json"))["vault"])
    subprocess.run(["git", "-C", vault, "config", "gc.auto", "1"], check=True)
    (vault / "refs" / "heads" / "acme.lock").touch()
    if sys.platform != "win32":
        vault.chmod(0o755)
    found = document(git_vault("doctor", "--json", code=1))
    states = {check["name"]: (check["state"], check["mend"]) for check in found["checks"]}
    assert states["gc.auto"] == ("wrong", f"git --git-dir={vault} config gc.auto 0")
    assert states["locks"][0] == "advice"
    if sys.platform != "win32":
        assert states["private"][0] == "advice"
    lines = git_vault("doctor", code=1).stdout.splitlines()
    assert any(line.startswith("wrong   gc.auto ") for line in lines)
    assert any(line.strip().startswith("-> git --git-dir=") for line in lines)


def test_a_missing_git_is_one_line(git_vault: Command, project: Path, tmp_path: Path) -> None:
    empty = tmp_path / "bin"
    empty.mkdir()
    done = git_vault("--vault", tmp_path / "v", "doctor", "--json", env={"PATH": str(empty)}, code=1)
    states = {check["name"]: check for check in document(done)["checks"]}
    assert "install" in states["git"]["mend"]
    assert states["zstd"]["state"] == "advice"
    assert "git: not found" in git_vault("snapshot", project, env={"PATH": str(empty)}, code=128).stderr


def test_status_and_log_import_nothing_heavy(git_vault: Command, project: Path, home: Path) -> None:
    git_vault("snapshot", project)
    program = (
        "import sys; from gitvault.cli.main import main; code = main(sys.argv[1:]); "
        f"heavy = [n for n in {HEAVY!r} if n in sys.modules]; sys.exit(f'imported {{heavy}}' if heavy else code)"
    )
    environment = {**os.environ, "HOME": str(home), "USERPROFILE": str(home), "PYTHONPATH": str(ROOT)}
    environment["GIT_VAULT_DIR"] = document(git_vault("init", "--json"))["vault"]
    for words in (["status"], ["status", str(project / "src" / "main.c")], ["log"], ["log", "acme", "--json"]):
        done = subprocess.run(
            [sys.executable, "-c", program, *words], capture_output=True, text=True, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and pipes")
@pytest.mark.no_cover  # whose tracer, interrupted, waits for itself
def test_a_reader_that_leaves_and_ctrl_c_are_quiet(git_vault: Command, project: Path, home: Path) -> None:
    for number in range(3000):
        (project / f"a rather long name to fill the pipe {number}").touch()
    git_vault("snapshot", project)
    vault = document(git_vault("init", "--json"))["vault"]
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT), "GIT_VAULT_DIR": vault}
    command = [sys.executable, "-m", "gitvault", "ls", "acme", "-r"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as left:
        assert left.stdout is not None
        assert left.stderr is not None
        left.stdout.readline()
        left.stdout.close()
        assert left.stderr.read() == b""
        assert left.wait() == 141

    def as_from_a_terminal() -> None:
        # A shell's background jobs ignore Ctrl-C and hand that down, to a test run as well.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, preexec_fn=as_from_a_terminal
    ) as stopped:
        assert stopped.stdout is not None
        assert stopped.stderr is not None
        stopped.stdout.readline()
        stopped.send_signal(signal.SIGINT)
        assert b"Traceback" not in stopped.stderr.read()
        stopped.stdout.read()
        assert stopped.wait() == 130


PYPROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "acme-gitvault"
version = "0.3"

[project.entry-points."gitvault.chunking"]
halves = "acme_gitvault:Halves"

[project.entry-points."gitvault.formats"]
acme = "acme_gitvault:FORMAT"

[project.entry-points."gitvault.personas"]
acme = "acme_gitvault:PERSONA"
"""
# Builds the wheel with the standard library alone: a test must not need a network.
BACKEND = """\
import pathlib
import tomllib
import zipfile


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    project = tomllib.loads(pathlib.Path("pyproject.toml").read_text())["project"]
    base = f"acme_gitvault-{project['version']}"
    points = "".join(
        f"[{group}]\\n" + "".join(f"{name} = {value}\\n" for name, value in names.items())
        for group, names in project["entry-points"].items()
    )
    files = {
        "acme_gitvault.py": pathlib.Path("acme_gitvault.py").read_text(),
        f"{base}.dist-info/METADATA": "Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n".format(**project),
        f"{base}.dist-info/WHEEL": "Wheel-Version: 1.0\\nGenerator: us\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        f"{base}.dist-info/entry_points.txt": points,
    }
    record = "".join(f"{name},,\\n" for name in files) + f"{base}.dist-info/RECORD,,\\n"
    name = f"{base}-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(wheel_directory, name), "w") as wheel:
        for path, text in {**files, f"{base}.dist-info/RECORD": record}.items():
            wheel.writestr(path, text)
    return name
"""
PLUGIN = '''\
from gitvault.core.models import ChunkPlan
from gitvault.formats import Format
from gitvault.personas.base import Answer, Persona, Verb


class Halves:
    """Cuts whatever it is given in two."""

    name = "halves"

    def __init__(self, min_size, avg_size, max_size):
        self.bounds = min_size, avg_size, max_size

    def plan(self, head, size, file_extension=None):
        return ChunkPlan(*self.bounds, level=3, delta=False, reason="halves")

    def chunk_data(self, buffer, file_extension=None, plan=None):
        size = min(self.bounds[2], (len(buffer) + 1) // 2)
        for start in range(0, len(buffer), size or 1):
            yield buffer[start : start + size]


def configure(parser):
    parser.add_argument("word", metavar="WORD")


def run(session, arguments):
    count = len(session.vault.projects())
    return Answer({"word": arguments.word, "projects": count}, [f"{arguments.word} to {count}"], code=1)


FORMAT = Format("acme", "Acme drawings", lambda head: head.startswith(b"ACME"), (".acme",))
PERSONA = Persona("acme", "Acme people", (Verb("greet", "greet the vault", "git-vault greet hello", configure, run),))
'''


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """A folder with an installed package that extends gitvault in all three ways."""
    source = tmp_path / "plugin"
    source.mkdir()
    (source / "pyproject.toml").write_text(PYPROJECT)
    (source / "backend.py").write_text(BACKEND)
    (source / "acme_gitvault.py").write_text(PLUGIN)
    installed = tmp_path / "installed"
    options = ["--quiet", "--no-index", "--no-build-isolation", "--no-deps", "--target", str(installed)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(source)], check=True, capture_output=True)
    return installed


def test_a_package_adds_a_strategy_a_format_and_a_persona(git_vault: Command, plugin: Path, tmp_path: Path) -> None:
    env = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(plugin)])}
    vault = tmp_path / "v.git"
    git_vault("--vault", vault, "init")
    subprocess.run(["git", "-C", vault, "config", "vault.chunkingStrategy", "halves"], check=True)
    project = tmp_path / "art"
    project.mkdir()
    content = os.urandom(300_000)
    (project / "big.bin").write_bytes(content)

    git_vault("--vault", vault, "snapshot", project, env=env)
    chunks = [chunk for pack in (vault / "chunks").glob("*.zpk") for chunk in read_table(pack).chunks]
    assert [chunk.length for chunk in chunks if chunk.length > 1000] == [150_000, 150_000]
    git_vault("--vault", vault, "restore", "art", "--to", tmp_path / "r", env=env)
    assert (tmp_path / "r" / "big.bin").read_bytes() == content

    assert document(git_vault("--vault", vault, "greet", "hello", "--json", env=env, code=1)) == {
        "word": "hello",
        "projects": 1,
    }
    assert git_vault("greet", "hello", "--vault", vault, env=env, code=1).stdout == "hello to 1\n"
    assert re.search("greet +greet the vault", git_vault("-h", env=env).stdout)
    assert "git-vault greet hello" in git_vault("greet", "-h", env=env).stdout

    found = document(git_vault("--vault", vault, "doctor", "--json", env=env))
    assert found["plugins"] == [
        {"group": f"gitvault.{group}", "name": name, "distribution": "acme-gitvault 0.3"}
        for group, name in (("chunking", "halves"), ("formats", "acme"), ("personas", "acme"))
    ]
    assert sum(check["name"] == "plug-in" and check["state"] == "ok" for check in found["checks"]) == 3
    gone = git_vault("--vault", vault, "snapshot", project, code=128)
    assert "vault.chunkingStrategy: found 'halves', expected one of asset-aware, fixed, rolling-hash" in gone.stderr


def test_a_broken_plugin_is_named_in_one_line(git_vault: Command, plugin: Path, tmp_path: Path) -> None:
    env = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(plugin)])}
    (plugin / "acme_gitvault.py").write_text("import a_module_that_is_not_there\n")
    shutil.rmtree(plugin / "__pycache__", ignore_errors=True)
    done = git_vault("greet", "hello", env=env, code=128)
    assert len(done.stderr.splitlines()) == 1
    assert "of package acme-gitvault 0.3: cannot be loaded: ModuleNotFoundError" in done.stderr
    found = document(git_vault("doctor", "--json", env=env, code=1))
    assert [check["mend"] for check in found["checks"] if check["state"] == "wrong"] == [
        "update or uninstall acme-gitvault"
    ] * 3
    assert "snapshot" in git_vault("-h", env=env).stdout


def test_a_verb_that_is_taken_is_an_error(git_vault: Command, plugin: Path) -> None:
    env = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(plugin)])}
    (plugin / "acme_gitvault.py").write_text(PLUGIN.replace('Verb("greet"', 'Verb("log"'))
    shutil.rmtree(plugin / "__pycache__", ignore_errors=True)
    done = git_vault("greet", "hello", env=env, code=128)
    assert "persona acme: its verb log is taken" in done.stderr
