"""Whatever is asked of it: one clear line, the documented exit code, nothing lost. Through the real command."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from trees import contents, differences, records, write

from gitvault.core.stat_cache import CacheDamaged, StatCache
from gitvault.core.utils.lock import VaultLock
from gitvault.core.versioning.history import Details
from gitvault.errors import GitVaultError, NotFoundError
from gitvault.vault import Vault

Done = subprocess.CompletedProcess[str]
Command = Callable[..., Done]
FILES: dict[str | bytes, bytes | str] = {"a.txt": b"text", "sub/b.bin": bytes(range(256)) * 400, "link": "a.txt"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write(tmp_path / "acme", FILES)


@pytest.fixture
def intact(vault: Vault, project: Path, tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Checks at the end that what was saved before is whole and comes back."""
    taken = vault.create_snapshot(project, message="before the trouble")
    before = records(project)

    def check() -> None:
        vault.close()
        assert vault.verify(data=True).defects == ()
        vault.restore_snapshot(taken.snapshot, tmp_path / "intact")
        assert records(tmp_path / "intact") == before

    yield check
    check()


def fails(done: Done, code: int, *parts: str) -> None:
    """One line on standard error that has all `parts`, nothing on standard output."""
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert all(part in done.stderr for part in parts), done.stderr


# -- the shell ---------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
@pytest.mark.usefixtures("intact")
def test_streams_that_are_closed(vault: Vault, project: Path) -> None:
    """What is said leads nowhere; the exit code stays, and nothing of it lands in a file of the vault."""
    write(project, {"new": b"new"})
    for redirected, words, code in (
        (">&-", "log", 0),
        ("2>&-", "log", 0),
        (">&-", "cat acme:a.txt", 0),
        (">&- 2>&- <&-", f"snapshot {project}", 0),
        (">&- 2>&-", "show nothing", 128),
    ):
        line = f"exec {sys.executable} -m gitvault --vault {vault.path} {words} {redirected}"
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == code, done.stderr
        assert "internal error" not in done.stderr
    assert b"new" in {entry.path for entry in vault.entries("acme")}
    (project / "new").unlink()
    os.utime(project, ns=(0, 0))
    vault.create_snapshot(project)


# -- the vault -----------------------------------------------------------------------------------


def test_not_a_vault(command: Command, project: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "repository.git"], check=True)
    write(tmp_path, {"file": b"x"})
    for name in ("plain", "repository.git", "file", "missing"):
        for words in (["snapshot", project], ["log"], ["status"], ["verify"], ["restore", "acme", "--to", "x"]):
            fails(command("--vault", tmp_path / name, *words), 10, str(tmp_path / name), "init")
    assert not (tmp_path / "missing").exists()
    assert contents(tmp_path / "file") == {b"": b"x"}


def test_init_leaves_alone_what_is_there(command: Command, project: Path, tmp_path: Path) -> None:
    before = records(project)
    fails(command("--vault", project, "init"), 128, str(project), "not empty")
    assert records(project) == before


def test_init_goes_on_where_a_killed_one_stopped_and_takes_nothing_else_for_that(
    command: Command, tmp_path: Path
) -> None:
    half = tmp_path / "half.git"
    for folder in ("objects/info", "refs/heads", "info"):
        (half / folder).mkdir(parents=True)
    write(half, {"HEAD": b"ref: refs/heads/main\n", "config.123.tmp": b"[core"})
    assert command("--vault", half, "init").returncode == 0
    assert command("--vault", half, "verify").returncode == 0
    repository = tmp_path / "bare.git"
    subprocess.run(["git", "init", "-q", "--bare", "--template=", repository], check=True)
    for other in (repository, write(tmp_path / "a", {"HEAD": b"x", "x.tmp": b""}), write(tmp_path / "b", {"c/d": b""})):
        before = records(other)
        fails(command("--vault", other, "init"), 128, str(other), "not empty")
        assert records(other) == before


@pytest.mark.usefixtures("intact")
def test_a_vault_of_a_newer_format(command: Command, vault: Vault, project: Path, tmp_path: Path) -> None:
    config = vault.path / "config"
    text = config.read_text()
    config.write_text(text.replace("formatVersion = 1", "formatVersion = 2"))
    before = records(vault.path)
    for words in (["snapshot", project], ["log"], ["status", project], ["restore", "acme", "--to", tmp_path / "x"]):
        fails(command(*words), 20, str(vault.path), "2")
    assert records(vault.path) == before, "not a byte is written to what is not understood"
    config.write_text(text)


@pytest.mark.usefixtures("intact")
def test_a_wrong_setting(command: Command, vault: Vault, project: Path) -> None:
    config = vault.path / "config"
    text = config.read_text()
    for line in ("inlineLimit = lots", "inlineLimt = 5"):
        config.write_text(text + f"\t{line}\n")
        where = f"{config}, line {len(config.read_text().splitlines())}: vault."
        done = command("snapshot", project)
        fails(done, 128, where)
        assert line.split()[0].lower() in done.stderr.lower()
    config.write_text(text)


@pytest.mark.usefixtures("intact")
def test_a_vault_inside_the_project_is_skipped_and_said(
    command: Command, vault: Vault, project: Path, tmp_path: Path
) -> None:
    inner = project / "backups" / "vault.git"
    assert command("--vault", inner, "init").returncode == 0
    done = command("--vault", inner, "snapshot", project, "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["files"], report["problems"]) == (0, len(FILES), [])
    assert report["notes"] == [f"{inner} is the vault itself and is left out"]
    again = json.loads(command("--vault", inner, "snapshot", project, "--json").stdout)
    assert again["unchanged"], "writing to the vault is no change of the project"
    assert command("--vault", inner, "restore", "acme", "--to", tmp_path / "back").returncode == 0
    assert contents(tmp_path / "back").keys() == {b"a.txt", b"sub/b.bin", b"link"}
    subprocess.run(["rm", "-r", project / "backups"], check=True)


@pytest.mark.usefixtures("intact")
def test_a_project_inside_the_vault(command: Command, vault: Vault, tmp_path: Path) -> None:
    os.symlink(vault.path, tmp_path / "alias")
    for path in (vault.path, vault.path / "objects", tmp_path / "alias" / "refs"):
        fails(command("snapshot", path), 128, "lies inside the vault", "another vault")
    os.unlink(tmp_path / "alias")


# -- what is named -------------------------------------------------------------------------------


@pytest.mark.usefixtures("intact")
def test_paths_that_cannot_be_saved(command: Command, project: Path, tmp_path: Path) -> None:
    os.symlink("nowhere", tmp_path / "dangling")
    fails(command("snapshot", tmp_path / "missing"), 128, str(tmp_path / "missing"), "no such folder")
    fails(command("snapshot", project / "a.txt"), 128, str(project / "a.txt"), "not a folder")
    fails(command("snapshot", tmp_path / "dangling"), 128, "dangling", "not a folder")
    fails(command("snapshot", tmp_path / "new\nline"), 128, "new\\x0aline")
    fails(command("snapshot", project, "--project", " "), 128, "a project's name cannot be empty")
    fails(command("snapshot"), 129, "--all")


@pytest.mark.usefixtures("intact")
def test_snapshots_that_do_not_exist(command: Command, vault: Vault, project: Path, tmp_path: Path) -> None:
    for name in ("nothing", "f" * 40, "0000", "acme~5", "acme@{2001-01-01}", "2001-01-01", "acme~", "", "../x", "~"):
        with pytest.raises(NotFoundError, match=rf"^{re.escape(name)}: .*git-vault"):
            vault.resolve(name)
    for words in (["restore", "acme~", "--to", tmp_path / "x"], ["ls", "acme~"], ["diff", "acme~", "acme"]):
        fails(command(*words), 128, "acme~: the history of acme is not that long")
    fails(command("show", "nothing"), 128, "nothing: no such", "git-vault log")
    fails(command("log", "nothing"), 128, "nothing: no such project", "git-vault projects")
    assert not (tmp_path / "x").exists()


@pytest.mark.usefixtures("intact")
def test_an_ambiguous_snapshot_lists_the_candidates(command: Command, vault: Vault, project: Path) -> None:
    """Commits are made until two share the first four digits."""
    by_start: dict[str, str] = {}
    tree, meta_tree = vault.history.trees(vault.resolve("acme"))
    pack = vault.history.new_pack()
    number = 0
    while True:
        number += 1
        details = Details("twins", f"number {number}", vault.now(), 0, 0)
        recorded = vault.history.record(pack, tree, meta_tree or tree, details)
        found = recorded.commit.hex()
        if (start := found[:4]) in by_start:
            break
        by_start[start] = found
    made = pack.finish()
    assert made
    vault.history.publish([made])
    fails(command("show", start), 128, start, found[:12], by_start[start][:12])
    assert command("show", found[:12]).returncode == 0


@pytest.mark.usefixtures("intact")
def test_a_date_that_fits_several_projects_lists_them(command: Command, project: Path, tmp_path: Path) -> None:
    write(tmp_path / "other", {"x": b""})
    assert command("snapshot", tmp_path / "other").returncode == 0
    fails(command("show", "2100-01-01"), 128, "acme@{2100-01-01}", "other@{2100-01-01}")


@pytest.mark.usefixtures("intact")
def test_names_of_projects(command: Command, tmp_path: Path, project: Path) -> None:
    """Two folders of one name are two projects; a name that is taken is not taken over."""
    write(tmp_path / "elsewhere/acme", {"x": b"other"})
    second = json.loads(command("snapshot", tmp_path / "elsewhere/acme", "--json").stdout)
    assert second["project"] == "acme-2"
    write(tmp_path / "third", {"x": b""})
    fails(command("snapshot", tmp_path / "third", "--project", "acme"), 128, "acme", str(project), "--project")
    fails(command("snapshot", tmp_path / "third", "--project", "ACME"), 128, "only in case")
    for number, name in enumerate(("a/b c", "caf\u00e9", "HEAD", "..", "CON", "@{1}")):
        write(tmp_path / "p" / str(number), {"x": name.encode()})
        done = command("snapshot", tmp_path / "p" / str(number), f"--project={name}", "--json")
        assert json.loads(done.stdout)["project"] == name
        assert command("restore", f"--to={tmp_path}/r/{number}", "--", name).returncode == 0
        assert contents(tmp_path / "r" / str(number)) == {b"x": name.encode()}


def test_behind_two_dashes_nothing_is_an_option(command: Command, vault: Vault, tmp_path: Path) -> None:
    """Names that begin with a dash, and one that is `--`, for every verb that takes names."""
    files: dict[str | bytes, bytes | str] = {"-x": b"x", "--json": b"j", "--": b"dashes", "-r/-q": b"q", "plain": b"p"}
    write(tmp_path / "-p", files)
    write(tmp_path / "--all", {"f": b"f"})
    assert json.loads(command("add", "--json", "--name=dash", "--", "-p", cwd=tmp_path).stdout)["name"] == "dash"
    taken = json.loads(command("snapshot", "--json", "--", "-p", "--all", cwd=tmp_path).stdout)
    assert [report["files"] for report in taken] == [5, 1]
    states = json.loads(command("status", "--json", "--", "-x", "--", "--json", cwd=tmp_path / "-p").stdout)
    assert [(state["path"], state["state"]) for state in states] == [(n, "saved") for n in ("-x", "--", "--json")]
    for words in (["ls", "--json", "dash", "--", "-r"], ["ls", "--json", "--", "dash", "-r"]):
        assert [entry["path"] for entry in json.loads(command(*words).stdout)] == ["-r/-q"]
    assert command("cat", "--", "dash:--json").stdout == "j"
    assert command("log", "--", "--all").stdout.count("\n") == 2
    assert command("show", "--json", "--", "--all").returncode == 0
    assert command("diff", "--", "--all", "--all").returncode == 0
    for number, words in enumerate(
        (["dash", "--to", "{}", "--", "-x", "--"], ["--to", "{}", "--", "dash", "-x", "--"])
    ):
        back = tmp_path / f"back{number}"
        assert command("restore", *(word.format(back) for word in words)).returncode == 0
        assert contents(back) == {b"-x": b"x", b"--": b"dashes"}
    made = json.loads(command("init", "--json", "--", "-v.git", cwd=tmp_path).stdout)
    assert made == {"vault": str(tmp_path / "-v.git"), "created": True}
    fails(command("add", "--", "-p", "--surplus"), 129, "unrecognized arguments: --surplus;")
    fails(command("restore", "dash", "--to", "--", "-x"), 129, "argument --to: expected one argument")
    fails(command("status", "-x", cwd=tmp_path / "-p"), 129, "unrecognized arguments: -x")


def test_tags_and_facts(command: Command, vault: Vault, project: Path) -> None:
    """What cannot be found again is refused before anything is saved; blanks around are no part of it."""
    for words in (["--tag", ""], ["--tag", " "], ["--tag", "good", "--tag", ""]):
        fails(command("snapshot", project, *words), 129, "argument --tag: expected a word, found '")
        fails(command("log", *words), 129, "argument --tag: expected a word, found '")
    for words in (["--meta", "client"], ["--meta", "=x"], ["--meta", " = x"], ["--meta", ""]):
        fails(command("snapshot", project, *words), 129, "argument --meta: expected KEY=VALUE, found '")
        fails(command("log", *words), 129, "argument --meta: expected KEY=VALUE, found '")
    for verb in (["snapshot", project], ["log"]):
        fails(command(*verb, "--meta", "a=1", "--meta", "a=2"), 129, "argument --meta: 'a' is given twice")
    assert (vault.list_snapshots(), vault.projects()) == ([], [])
    said = ("--tag", "  before release ", "--tag", "before release", "--meta", " client =  Mr = X ", "--meta", "e=")
    saved = command("snapshot", project, *said)
    assert saved.returncode == 0
    [found] = json.loads(command("log", *said, "--json").stdout)
    assert (found["tags"], found["metadata"]) == (["before release"], {"client": "Mr = X", "e": ""})


def test_an_empty_word_names_nothing(command: Command, vault: Vault, project: Path, tmp_path: Path) -> None:
    """What a shell leaves of an unset variable must not mean the folder one is in, everything, or another vault."""
    here = write(tmp_path / "here", {"f": b"f"})
    before = records(tmp_path)
    for words, option in (
        (["snapshot", ""], "PATH"),
        (["snapshot", project, ""], "PATH"),
        (["snapshot", project, "--project", ""], "--project"),
        (["add", ""], "PATH"),
        (["add", project, "--name", ""], "--name"),
        (["status", ""], "PATH"),
        (["init", ""], "DIR"),
        (["--vault", "", "log"], "--vault"),
        (["log", "--vault="], "--vault"),
        (["log", ""], "PROJECT"),
        (["show", ""], "SNAPSHOT"),
        (["ls", "acme", ""], "PATH"),
        (["diff", "acme", ""], "B"),
        (["restore", "acme", "--to", ""], "--to"),
        (["restore", "acme", "", "--to", "x"], "PATH"),
        (["restore", "acme", "--in-place", "--exclude", ""], "--exclude"),
    ):
        fails(command(*words, cwd=here), 129, f"argument {option}: cannot be empty")
    assert records(tmp_path) == before


@pytest.mark.usefixtures("intact")
def test_numbers_and_dates_beyond_all_measure(command: Command, vault: Vault) -> None:
    assert json.loads(command("log", "-n", "9" * 30, "--json").stdout) == vault_log(command)
    fails(command("show", "acme@{99999999 weeks ago}"), 128, "acme@{99999999 weeks ago}: '99999999 weeks ago' is not a")
    fails(command("show", "a" * 5000), 128, "aaa: no such project")
    fails(command("cat", "acme:"), 128, ".: a folder; git-vault ls ")


def vault_log(command: Command) -> list[object]:
    """What log says without a limit."""
    found = json.loads(command("log", "--json").stdout)
    assert isinstance(found, list) and found
    return found


@pytest.mark.parametrize("letter", ["a", "\u00e9", "\u30ab", "\U0001f600"])
def test_folders_with_long_names(letter: str, vault: Vault, tmp_path: Path) -> None:
    """As long as a file system takes them: the project's name is shortened to what a ref can be called."""
    name = letter * (255 // len(letter.encode()))
    reports = [vault.create_snapshot(write(tmp_path / where / name, {"f": where.encode()})) for where in ("x", "y")]
    assert reports[0].project == reports[1].project.removesuffix("-2") == letter * len(reports[0].project)
    for report, content in zip(reports, (b"x", b"y"), strict=True):
        vault.restore_snapshot(report.project, tmp_path / "back" / report.project[-2:])
        assert contents(tmp_path / "back" / report.project[-2:]) == {b"f": content}
    with pytest.raises(GitVaultError, match=f"^{letter * 20}...: too long for a project's name; give a shorter one$"):
        vault.create_snapshot(tmp_path / "x" / name, project=name)
    assert vault.verify().ok


# -- the machine ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("intact")
def test_a_second_run_says_who_holds_the_vault(command: Command, vault: Vault, project: Path, tmp_path: Path) -> None:
    with (vault.path / "config").open("a") as config:
        config.write("\tlockTimeout = 0\n\tmachine = desk\n")
    write(project, {"a.txt": b"new"})
    with VaultLock(vault.path / "vault.lock", "snapshot of acme", 0, host="desk"):
        holder = f"process {os.getpid()} on desk (snapshot of acme, since "
        fails(command("snapshot", project, "-q"), 11, str(vault.path), holder, "vault.lockTimeout")
        # Reading needs no lock.
        assert command("log").returncode == 0
        assert command("restore", "acme", "--to", tmp_path / "back").returncode == 0
    write(project, {"a.txt": b"text"})
    os.utime(project / "a.txt", ns=(0, records(tmp_path / "back")[b"a.txt"].mtime_ns))
    assert command("snapshot", project).returncode == 0


@pytest.mark.usefixtures("intact")
def test_a_second_run_waits_and_says_so(
    command: Command, vault: Vault, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = VaultLock(vault.path / "vault.lock", "maintain", 0)
    waited: list[VaultLock] = []

    def pause(self: VaultLock, real: Callable[..., None] = VaultLock._pause, **how: bool) -> None:
        real(self, **how)
        waited.append(self)
        lock.__exit__(None, None, None)

    monkeypatch.setattr(VaultLock, "_pause", pause)
    with lock:
        done = command("snapshot", project, "--json")
    assert len(waited) == 1
    assert (done.returncode, json.loads(done.stdout)["unchanged"]) == (0, True)
    assert f"waiting for process {os.getpid()}" in done.stderr


@pytest.mark.usefixtures("intact")
def test_two_runs_at_once_both_save(command: Command, vault: Vault, project: Path, tmp_path: Path) -> None:
    others = [write(tmp_path / f"other{n}", {f"{m}": b"%d" % m for m in range(200)}) for n in range(3)]
    done: list[Done] = []
    threads = [threading.Thread(target=lambda p=p: done.append(command("snapshot", p))) for p in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [d.returncode for d in done] == [0, 0, 0]
    for other in others:
        vault.restore_snapshot(other.name, tmp_path / "back" / other.name)
        assert differences(other, tmp_path / "back" / other.name) == {}


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="needs root, to be somebody else")
def test_no_permission(
    vault: Vault,
    project: Path,
    tmp_path: Path,
    intact: Callable[[], None],
    as_nobody: Callable[[Callable[[], None]], None],
) -> None:
    from gitvault.cli.main import main

    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and folder.stat().st_mode & 0o005 != 0o005:
            os.chmod(folder, 0o755)
    os.chmod(project, 0o700)

    def work() -> None:
        said = os.open(tmp_path / "public" / "stderr", os.O_RDWR | os.O_CREAT)
        os.dup2(said, 2)
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
        os.environ["HOME"] = str(tmp_path / "public")
        mine = tmp_path / "public" / "mine.git"
        codes = [
            main(["--vault", str(vault.path), "log"]),
            main(["--vault", str(tmp_path / "x.git"), "init"]),
            main(["--vault", str(mine), "init", "-q"]),
            main(["--vault", str(mine), "snapshot", str(project)]),
        ]
        sys.stderr.flush()
        lines = (tmp_path / "public" / "stderr").read_text().splitlines()
        assert codes == [10, 128, 0, 128], lines
        assert len(lines) == 3, lines
        assert str(vault.path) in lines[0]
        assert str(tmp_path / "x.git") in lines[1] and "ermission" in lines[1]
        assert str(project) in lines[2] and "ermission" in lines[2]

    (tmp_path / "public").mkdir()
    os.chown(tmp_path / "public", 65534, 65534)
    as_nobody(work)
    os.chmod(project, 0o755)
    vault.create_snapshot(project)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", place], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield place
    subprocess.run(["umount", place], check=True)


def test_no_space_left(command: Command, project: Path, small_disk: Path, tmp_path: Path) -> None:
    there = small_disk / "vault.git"
    assert command("--vault", there, "init").returncode == 0
    first = json.loads(command("--vault", there, "snapshot", project, "--json").stdout)["snapshot"]
    before = records(project)
    write(project, {f"text{n}": os.urandom(20_000).replace(b"\0", b"") for n in range(250)})
    fails(command("--vault", there, "snapshot", project, "-q"), 12, str(there), "no space left", "free some space")
    for path in list(project.glob("text*")):
        path.unlink()
    write(project, {"large.bin": os.urandom(6 << 20)})
    fails(command("--vault", there, "snapshot", project, "-q"), 12, str(there), "no space left")
    assert command("--vault", there, "verify", "--data").returncode == 0
    assert command("--vault", there, "log").stdout.count("\n") >= 1
    assert command("--vault", there, "restore", first, "--to", tmp_path / "back").returncode == 0
    assert (
        contents(tmp_path / "back").keys()
        == {b"a.txt", b"link", b"sub/b.bin"}
        == contents(project).keys() - {b"large.bin"}
    )
    os.utime(tmp_path / "back", ns=(0, before[b""].mtime_ns))
    assert records(tmp_path / "back") == before
    # What the failed runs wrote is gone: there is room again for what fits.
    (project / "large.bin").unlink()
    write(project, {"fits": os.urandom(1 << 20)})
    assert command("--vault", there, "snapshot", project).returncode == 0


def test_restoring_onto_a_full_disk(command: Command, vault: Vault, tmp_path: Path, small_disk: Path) -> None:
    write(tmp_path / "big", {"a.bin": os.urandom(5 << 20), "b": b"small"})
    vault.create_snapshot(tmp_path / "big")
    fails(command("restore", "big", "--to", small_disk / "back", "-q"), 12, str(small_disk / "back"), "no space left")
    assert b"a.bin" not in contents(small_disk / "back"), "a file that is not whole must not pass for one"


@pytest.mark.usefixtures("intact")
def test_a_killed_run_leaves_nothing_and_loses_nothing(command: Command, vault: Vault, project: Path) -> None:
    write(project, {f"new/{n}": b"%d" % n for n in range(4000)})
    write(project, {"new/large.bin": os.urandom(20 << 20)})
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    for delay in (0.3, 0.5, 0.8, 1.2):
        started = subprocess.Popen(
            [sys.executable, "-m", "gitvault", "--vault", vault.path, "snapshot", project],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(delay)
        started.send_signal(signal.SIGKILL)
        started.wait()
        vault.close()
        assert vault.verify(data=True).defects == ()
    report = json.loads(command("snapshot", project, "--json").stdout)
    assert report["files"] == len(FILES) + 4001
    for folder in ("tmp", "chunks/tmp"):
        assert list((vault.path / folder).iterdir()) == []
    subprocess.run(["rm", "-r", project / "new"], check=True)
    os.utime(project, ns=(0, 0))
    assert command("snapshot", project).returncode == 0


@pytest.mark.usefixtures("intact")
def test_a_damaged_cache_is_as_good_as_none(command: Command, vault: Vault, project: Path) -> None:
    for damage in (b"not a database at all" * 500, b""):
        for cache in (vault.path / "cache").iterdir():
            cache.write_bytes(damage)
        done = command("snapshot", project, "--json")
        assert (done.returncode, json.loads(done.stdout)["unchanged"]) == (0, True)
        assert command("status", project / "a.txt").stdout.startswith("saved")


@pytest.mark.usefixtures("intact")
def test_damage_inside_the_cache_costs_reading_and_nothing_else(
    command: Command, vault: Vault, project: Path, tmp_path: Path
) -> None:
    """A wrong blob id in a row never becomes part of a snapshot; neither do files that a row has lost."""
    for damage in ("replace(entries, X'{}', X'{}')", "X'80'", "substr(entries, 5)"):
        [file] = (vault.path / "cache").glob("stat-*.db")
        blob = next(entry.blob for entry in vault.entries("acme") if entry.path == b"a.txt").hex()
        with sqlite3.connect(file) as db:
            db.execute(f"UPDATE folder SET entries = {damage.format(blob, 'ff' + blob[2:])} WHERE path = X''")
        db.close()
        assert command("status", project / "a.txt").stdout.startswith("saved")
        with sqlite3.connect(file) as db:
            db.execute("UPDATE folder SET entries = X'80'")
        db.close()
        write(project, {"sub/new": damage.encode()})
        report = json.loads(command("snapshot", project, "--json").stdout)
        assert (report["files"], report["problems"]) == (len(FILES) + 1, [])
        assert vault.verify(data=True).ok
        back = tmp_path / f"back{len(damage)}"
        vault.restore_snapshot(report["snapshot"], back)
        assert differences(project, back) == {}
    (project / "sub/new").unlink()


def test_a_cache_that_cannot_be_written_costs_no_snapshot(
    vault: Vault, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*_: object) -> None:
        raise CacheDamaged("database disk image is malformed")

    with monkeypatch.context() as patch:
        patch.setattr(StatCache, "replace", damaged)
        assert vault.create_snapshot(project).files == len(FILES)
    assert vault.create_snapshot(project).unchanged
    assert len(vault.list_snapshots()) == 1


@pytest.mark.parametrize("damage", [b"ref: r", b"ref{ refs/heads/acme", b"", b"\0" * 40])
def test_a_damaged_head_costs_no_snapshot(damage: bytes, command: Command, vault: Vault, project: Path) -> None:
    (vault.path / "HEAD").write_bytes(damage)
    assert command("snapshot", project).returncode == 0
    assert (vault.path / "HEAD").read_bytes() == b"ref: refs/heads/acme\n"
    assert vault.verify(data=True).ok
