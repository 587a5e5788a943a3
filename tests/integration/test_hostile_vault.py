"""A vault that somebody else made and means harm with: every verb may refuse, none may be led astray.

What a restore makes of forged names is also in test_restore.py and tests/unit/test_target.py.
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from trees import NS, contents, records, write

from gitvault.cli import main
from gitvault.core.backup_engine import writer
from gitvault.core.models import ObjectId, Project, SnapshotId
from gitvault.core.utils.layout import misplaced, open_to_others
from gitvault.core.utils.names import from_windows_name, ref_component, spelled, windows_name
from gitvault.core.utils.target import TargetFolder
from gitvault.core.versioning import catalog, commits, history, meta
from gitvault.core.versioning.history import Details
from gitvault.core.versioning.objects import Commit, Signature, encode_commit, encode_tree
from gitvault.core.versioning.packfile import PackWriter
from gitvault.errors import ConfigError, CorruptionError, ExistsError, GitVaultError
from gitvault.vault import Vault

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links, pipes and modes of POSIX")

Command = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).parents[2]
LOOKING = (["log"], ["ls", "acme"], ["cat", "acme:a.txt"], ["stats"], ["verify", "--data"], ["projects"], ["status"])


@pytest.fixture
def saved(vault: Vault, tmp_path: Path) -> Path:
    """A vault with one snapshot of `acme`, and closed: what follows is done to it from outside."""
    project = write(tmp_path / "acme", {"a.txt": b"text", "sub/b.bin": b"\0" * 100_000, "link": "a.txt"})
    vault.create_snapshot(project)
    vault.close()
    return vault.path


Make = Callable[[PackWriter], tuple[ObjectId, ObjectId]]


def forge(
    vault: Vault, make: Make, *, files: int = 0, time: int = 1_700_000_000, message: str | None = None
) -> SnapshotId:
    """A snapshot of `forged` whose tree and meta tree `make` adds to a pack, and whose commit says what it likes."""
    pack = vault.history.new_pack()
    tree, meta_tree = make(pack)
    who = Signature("x", "x", time)
    meta_commit = pack.add(b"commit", encode_commit(Commit(meta_tree, (), who, who, "")))
    details = Details("forged", "why", datetime.now(UTC), files, 0)
    text = message if message is not None else commits.message(details, meta_commit, "host")
    commit = pack.add(b"commit", encode_commit(Commit(tree, (), who, who, text)))
    made = pack.finish()
    vault.history.publish([made] if made else [])
    catalog.save(vault.history, [Project("forged", "/nowhere", "host", datetime.now(UTC))], "Add forged")
    vault.history.advance(history.Recorded("forged", commit, meta_commit, vault.history.tip("forged")))
    return SnapshotId(commit.hex())


def flat(lines: list[str], files: dict[bytes, bytes], *, modes: dict[bytes, int] | None = None) -> Make:
    """One folder of files, described by these lines."""

    def make(pack: PackWriter) -> tuple[ObjectId, ObjectId]:
        tree = encode_tree(
            (name, (modes or {}).get(name, 0o100644), pack.add(b"blob", data)) for name, data in files.items()
        )
        blob = pack.add(b"blob", meta.encode(0o755, 10**18, (0, 0), lines))
        return pack.add(b"tree", tree), pack.add(b"tree", encode_tree([(meta.META_NAME, 0o100644, blob)]))

    return make


# -- nothing is executed -----------------------------------------------------------------------------


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A program that leaves a trace when it is run; the test fails when it was."""
    trace = tmp_path / "trace"
    program = tmp_path / "canary"
    program.write_text(f"#!/bin/sh\necho \"$0 $*\" >> '{trace}'\n")
    program.chmod(0o755)
    yield program
    assert not trace.exists(), trace.read_text()


def arm(git_dir: Path, canary: Path) -> None:
    """Let a repository's own settings and hooks run the canary at every occasion git knows."""
    occasions = {
        "core.fsmonitor": canary,
        "core.hooksPath": git_dir / "hooks",
        "core.sshCommand": canary,
        "core.gitProxy": canary,
        "core.editor": canary,
        "core.pager": canary,
        "core.askPass": canary,
        "core.alternateRefsCommand": canary,
        "pager.config": canary,
        "sequence.editor": canary,
        "credential.helper": f"!{canary}",
        "diff.external": canary,
        "diff.x.textconv": canary,
        "filter.vault.clean": canary,
        "filter.vault.smudge": canary,
        "filter.vault.process": canary,
        "filter.x.clean": canary,
        "filter.x.smudge": canary,
        "filter.x.required": "true",
        "gpg.program": canary,
        "uploadpack.packObjectsHook": canary,
        "alias.config": f"!{canary}",
        "alias.pack-objects": f"!{canary}",
        "alias.index-pack": f"!{canary}",
        "remote.o.url": f"ext::{canary}",
        "remote.o.promisor": "true",
        "remote.o.uploadpack": canary,
        "extensions.partialClone": "o",
        "protocol.ext.allow": "always",
        "core.repositoryFormatVersion": "1",
    }
    for key, value in occasions.items():
        subprocess.run(["git", "config", "-f", git_dir / "config", key, value], check=True)
    (git_dir / "hooks").mkdir(exist_ok=True)
    for name in (
        *("pre-auto-gc", "post-index-change", "reference-transaction", "post-checkout", "pre-commit", "post-commit"),
        *("pre-receive", "post-receive", "update", "fsmonitor-watchman", "post-rewrite", "applypatch-msg"),
    ):
        (git_dir / "hooks" / name).unlink(missing_ok=True)
        (git_dir / "hooks" / name).symlink_to(canary)


@pytest.mark.no_cover
def test_a_vault_runs_nothing(saved: Path, canary: Path, command: Command, tmp_path: Path) -> None:
    arm(saved, canary)
    (saved / "info" / "attributes").write_text("* filter=x diff=x\n")
    project = write(tmp_path / "acme", {"more.txt": b"more"})
    assert command("snapshot", project, cwd=saved).returncode == 0
    for words in (*LOOKING, ["diff", "acme~1", "acme"], ["show", "acme"], ["maintain"], ["doctor"]):
        assert command(*words, cwd=saved).returncode in (0, 1, 20), words
    assert command("restore", "acme", "--to", tmp_path / "back", cwd=saved).returncode == 0
    assert contents(tmp_path / "back") == contents(project)


@pytest.mark.no_cover
def test_a_projects_repository_runs_nothing(vault: Vault, canary: Path, command: Command, tmp_path: Path) -> None:
    """Hooks, filters and fsmonitor of a checkout; and modules and programs where one stands."""
    project = tmp_path / "acme"
    subprocess.run(["git", "init", "-q", project], check=True)
    arm(project / ".git", canary)
    write(project, {".gitattributes": b"* filter=x diff=x\n", **{f"f/{n}": b"%d" % n for n in range(3100)}})
    # What a worker, or a program that is looked for in the current folder, would take instead of the real one.
    planted = f"import os; os.system({str(canary)!r})\n".encode()
    modules = ("msgpack", "json", "gitvault", "typing", "sitecustomize", "isal", "zlib", "encodings")
    write(project, {f"{name}.py": planted for name in modules})
    write(project, {f"{name}/__init__.py": planted for name in ("gitvault", "msgpack", "encodings")})
    for name in ("git", "nice", "ionice", "sh"):
        (project / name).symlink_to(canary)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PATH": f".::{os.environ['PATH']}:",
        "GIT_DIR": str(project / ".git"),
        "GIT_WORK_TREE": str(project),
        "GIT_INDEX_FILE": str(project / ".git/index"),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.fsmonitor",
        "GIT_CONFIG_VALUE_0": str(canary),
        "GIT_CONFIG_PARAMETERS": f"'core.fsmonitor={canary}'",
    }

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-P", "-m", "gitvault", "--vault", str(vault.path), *words]
        return subprocess.run(argv, cwd=project, env=environment, capture_output=True, text=True, timeout=120)

    done = run("snapshot", ".", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["files"] > 3100
    for words in (["maintain"], ["doctor"], ["status", "."], ["verify"], ["restore", "acme", "--to", "back"]):
        assert run(*words).returncode in (0, 1), words
    assert (project / "back/.git/hooks/pre-commit").is_symlink(), "it is saved, and only saved"


# -- nothing leads out of the vault ------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("tmp", "trash", "chunks", "chunks/tmp", "chunks/trash", "cache", "objects", "objects/pack", "refs"),
        *("refs/heads", "refs/vault", "refs/vault/meta", "info"),
        *("vault.lock", "config", "HEAD", "packed-refs", "cache/chunks.db"),
    ],
)
def test_a_link_in_the_place_of_a_part(name: str, saved: Path, tmp_path: Path, command: Command) -> None:
    """Upkeep empties `tmp` and `trash`, locks `vault.lock`, writes refs: elsewhere, if links were followed."""
    part = saved / name
    victim = tmp_path / "victim"
    if part.is_dir():
        write(victim, {"precious": b"data", "repack-x/precious": b"data"})
    else:
        victim.write_bytes(part.read_bytes() if part.exists() else b"precious")
    if part.exists():
        part.rename(tmp_path / "original")
    part.symlink_to(victim)
    before = records(tmp_path / "victim")
    assert str(part) in str(misplaced(saved))
    with pytest.raises(GitVaultError, match="nothing in a vault may lead out of it"):
        Vault.open(saved)
    if name in ("tmp", "chunks/tmp", "vault.lock"):
        for words in (["snapshot", tmp_path / "acme"], ["maintain"], ["restore", "acme", "--to", tmp_path / "b"]):
            assert command(*words).returncode == 128
    assert records(tmp_path / "victim") == before


def test_a_cache_that_leads_elsewhere_is_replaced(saved: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim.db"
    victim.write_bytes(b"a database of somebody else")
    cache = saved / "cache" / f"stat-{ref_component('acme')}.db"
    cache.unlink()
    cache.symlink_to(victim)
    write(tmp_path / "acme", {"new": b"new"})
    with Vault.open(saved) as vault:
        assert vault.create_snapshot(tmp_path / "acme").new == 1
    assert victim.read_bytes() == b"a database of somebody else"
    assert not cache.is_symlink()


@pytest.mark.parametrize(
    "name",
    [
        *("config", "HEAD", "packed-refs", "refs/heads/acme", "refs/heads/pipe", "objects/pack/pack-x.idx"),
        f"chunks/{'0' * 64}.zpk",
    ],
)
def test_a_pipe_in_the_place_of_a_file_makes_nobody_wait(name: str, saved: Path, command: Command) -> None:
    (saved / name).unlink(missing_ok=True)
    os.mkfifo(saved / name)
    (saved / "objects/pack/pack-x.pack").touch()
    began = time.monotonic()
    assert command("verify").returncode in (10, 20, 128)
    assert command("log").returncode in (0, 10, 20, 128)
    assert time.monotonic() - began < 120


def test_a_device_in_the_place_of_a_ref_is_not_read(saved: Path, command: Command) -> None:
    (saved / "refs/heads/zero").symlink_to("/dev/zero")
    done = command("log")
    assert done.returncode == 20 and "zero: expected a file" in done.stderr
    (saved / "refs/heads/zero").unlink()
    (saved / "refs/heads/zero").symlink_to(saved.parent / "secret")
    (saved.parent / "secret").write_bytes(b"s3cret" * 20_000)
    assert "s3cret" not in command("log").stderr


def test_settings_include_nothing(saved: Path, tmp_path: Path, command: Command) -> None:
    os.mkfifo(tmp_path / "pipe")
    before = (saved / "config").read_text()
    forms = ("[include]\n\tpath = {}\n", "[core][INCLUDE] path={}\n", '[includeIf "gitdir:/"]\npath = {}\n')
    for form in forms:
        (saved / "config").write_text(before + form.format(tmp_path / "pipe"))
        with pytest.raises(ConfigError, match="includes other files"):
            Vault.open(saved)
        assert command("log").returncode == 128


# -- numbers that nobody can mean --------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "f 644 99999999999999999999.000000000 - 4 a.txt\n",
        "f 644 1.9999999999 - 4 a.txt\n",
        "f 644 1.000000000 99999999999:0 4 a.txt\n",
        "f 644 1.000000000 -5:0 4 a.txt\n",
        f"f 644 1.000000000 - {1 << 70} a.txt\tsha256={'ab' * 32}\n",
        "f 644 1.000000000 - -4 a.txt\n",
        "f 644 1.000000000 - 4 a.txt\tsha256=../../etc\n",
        "f 644 1.000000000 - 4 a.txt\txattr.user.a\\x00b=AAAA\n",
        f"f 644 {'9' * 5000}.000000000 - 4 a.txt\n",
    ],
)
def test_attributes_that_no_system_takes_cost_the_attributes(line: str, vault: Vault, tmp_path: Path) -> None:
    name = forge(vault, flat([line], {b"a.txt": b"text"}), files=1)
    done = vault.restore_snapshot(name, tmp_path / "back")
    assert contents(tmp_path / "back") == {b"a.txt": b"text"}
    assert any("attributes lost" in problem.reason for problem in done.problems)
    assert not vault.verify().ok


def test_a_link_to_no_possible_name(vault: Vault, tmp_path: Path) -> None:
    files = {b"a": b"x\0y", b"b": b"", b"c": b"/" * 9000, b"d": b"fine"}
    name = forge(vault, flat([], files, modes=dict.fromkeys((b"a", b"b", b"c"), 0o120000)), files=4)
    done = vault.restore_snapshot(name, tmp_path / "back")
    assert contents(tmp_path / "back") == {b"d": b"fine"}
    assert [problem.path for problem in done.problems] == [b"a", b"b", b"c"]


def test_commits_from_the_end_of_time(vault: Vault, command: Command) -> None:
    text = f"why\n\nVault-Project: forged\nVault-Files: {'9' * 5000}\nVault-Bytes: \u0667\nVault-Meta: {'ab' * 20}\n"
    name = forge(vault, flat([], {}), time=2**53, message=text)
    found = vault.get_snapshot_info(name)
    assert (found.files, found.bytes) == (0, 0)
    for words in (["log"], ["show", name], ["log", "--json"], ["show", name, "--json"]):
        assert command(*words).returncode == 0
    assert vault.resolve("forged") == name


def test_a_message_of_nothing_but_continued_lines_is_read_in_no_time(vault: Vault) -> None:
    began = time.monotonic()
    name = forge(vault, flat([], {}), message="why\n\nVault-Tag: a\n" + " b\n" * 300_000)
    assert vault.history.get_version(name).tags[0].startswith("a b b")
    assert time.monotonic() - began < 120


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 100_000,
        b'{"added":"0001-01-01T00:00:00+23:59","host":"h","name":"n","path":"/"}\n',
        b'{"added":5,"host":"h","name":"n","path":"/"}\n',
        b'{"added":"2026-01-02T03:15:05Z"}\n',
        b'["added"]\n',
        b"9" * 5000,
        b"\xff\xfe\n",
    ],
)
def test_a_catalog_that_is_none(text: bytes, vault: Vault, command: Command) -> None:
    vault.history.write_file(catalog.REF, catalog.FILE, text, "forged")
    with pytest.raises(CorruptionError, match="a line cannot be read"):
        vault.projects()
    assert command("projects").returncode == 20


# -- trees that go on for ever -----------------------------------------------------------------------


def test_folders_deeper_than_any_path(vault: Vault, tmp_path: Path, command: Command) -> None:
    """400 folders of 200 letters each: no system has such a path, and what it costs grows with the square."""

    def make(pack: PackWriter) -> tuple[ObjectId, ObjectId]:
        blob = pack.add(b"blob", b"text")
        tree = pack.add(b"tree", encode_tree([(b"deep", 0o100644, blob)]))
        for _ in range(400):
            tree = pack.add(b"tree", encode_tree([(b"d" * 200, 0o040000, tree)]))
        top = encode_tree([(b"a.txt", 0o100644, blob), (b"d", 0o040000, tree)])
        return pack.add(b"tree", top), pack.add(b"tree", b"")

    name = forge(vault, make, files=2)
    other = forge(vault, flat([], {}))
    done = vault.restore_snapshot(name, tmp_path / "back", overwrite=True)
    assert (tmp_path / "back/a.txt").read_bytes() == b"text", "the rest is restored"
    assert any("a path of more than" in problem.reason for problem in done.problems)
    with pytest.raises(CorruptionError, match="a path of more than"):
        vault.get_version_diff(name, other)
    with pytest.raises(CorruptionError, match="a path of more than"):
        list(vault.entries(name, recursive=True))
    subprocess.run(["rm", "-rf", tmp_path / "back"], check=True)


def test_a_handful_of_trees_that_are_more_files_than_a_disk_holds(vault: Vault, tmp_path: Path) -> None:
    def make(pack: PackWriter) -> tuple[ObjectId, ObjectId]:
        tree = pack.add(b"tree", encode_tree((b"%02d" % n, 0o100644, pack.add(b"blob", b"x")) for n in range(100)))
        for _ in range(8):
            tree = pack.add(b"tree", encode_tree((b"%d" % n, 0o040000, tree) for n in range(10)))
        return tree, pack.add(b"tree", b"")

    name = forge(vault, make, files=100)
    began = time.monotonic()
    with pytest.raises(CorruptionError, match="many more files than it says"):
        vault.restore_snapshot(name, tmp_path / "back")
    assert vault.verify().ok, "each tree is looked at once"
    assert time.monotonic() - began < 120


# -- what reaches the terminal -----------------------------------------------------------------------

ESCAPES = "\x1b[2J\x1b]0;title\x07\r\x08\x9b31m\u009d\x7f\n\u202e\u2066"


def test_no_name_or_message_speaks_to_the_terminal(
    vault: Vault, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def run(*words: str | Path) -> None:
        main.main(["--vault", str(vault.path), *map(str, words)])
        for text in capfd.readouterr():
            assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in re.sub("[\n\t]", "", text)), words
            assert not re.search("[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]", text), words
            if "--json" in words and text and not text.startswith("git-vault: "):
                json.loads(text)
                assert text.count("\n") == 1, "one document"

    evil = ESCAPES.encode()
    who = f"x{ESCAPES}"
    project = write(tmp_path / f"p{ESCAPES}", {b"a" + evil: b"text", b"d" + evil + b"/b": b"\0" * 100_000})
    write(project, {b"key" + evil + b".env": b"A=b"})
    run("snapshot", project, "-m", f"{ESCAPES}x", "--tag", ESCAPES, "--meta", f"k{ESCAPES}=v", "--project", who)
    raw = f"why \x1b[2J\n\nVault-Project: \x1b[31m\nVault-Host: \x9b\nVault-Tag: \x1b\nVault-Meta: {'ab' * 20}\n"
    name = forge(vault, flat([], {b"zz\x1b[2J": evil}), message=raw)
    assert vault.history.tip(who)
    for at in (vault.resolve(who), name):
        for verb in (["show", at], ["ls", "-r", at], ["diff", name, who], ["cat", f"{at}:no{ESCAPES}"]):
            run(*verb)
            run(*verb, "--json")
        run("restore", at, "--to", tmp_path / f"back{at}{ESCAPES}")
    run("cat", f"{name}:zz\x1b[2J", "--json")
    for path in (vault.path / "objects" / "pack").glob("*.pack"):
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[:-300] + b"\x1b" * 300)
    for verb in (["log"], ["projects"], ["status", str(project)], ["verify"], ["stats"], [ESCAPES], ["log", ESCAPES]):
        run(*verb)
        run(*verb, "--json")


# -- where names meet --------------------------------------------------------------------------------

ALIKE = {
    b"Readme": b"one",
    b"README": b"other",
    b"Sub/x": b"in Sub",
    b"sub/x": b"in sub",
    b"sub/only": b"only in sub",
    "é.txt".encode(): b"composed",
    "e\u0301.txt".encode(): b"decomposed",
    b"BIG.bin": b"\0" * 70_000 + b"1",
    b"big.bin": b"\0" * 70_000 + b"2",
    b"plain": b"plain",
}
KEPT = {
    b"README": b"other",
    b"Sub/x": b"in Sub",
    "e\u0301.txt".encode(): b"decomposed",
    b"BIG.bin": b"\0" * 70_000 + b"1",
    b"plain": b"plain",
}


@pytest.fixture
def folding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A target that takes names for one that differ in case or in how letters are composed."""
    import unicodedata

    checked = TargetFolder._checked

    def fold(self: TargetFolder, name: bytes) -> str:
        text = checked(self, name)
        with os.scandir(self.fd) as there:
            same = [entry.name for entry in there if key(entry.name) == key(text)]
        return same[0] if same else text

    def key(text: str) -> str:
        return unicodedata.normalize("NFC", text).lower()

    monkeypatch.setattr(TargetFolder, "_checked", fold)


def check_alike(vault: Vault, tmp_path: Path, target: Path, *, overwrite: bool) -> None:
    vault.create_snapshot(write(tmp_path / "acme", ALIKE))
    done = vault.restore_snapshot("acme", target, overwrite=overwrite)
    alike = [b"Readme", b"sub", "é.txt".encode(), b"big.bin"]
    for _ in range(2):
        found = {path: content for path, content in contents(target).items() if not path.startswith(b"lost+found")}
        kept = {path: found.pop(path) for path in KEPT}
        assert kept == KEPT, "the first of each, whole, and nothing mixed"
        others = {path: content for path, content in ALIKE.items() if path not in KEPT}
        renamed = {b"/".join((spelled(path.split(b"/")[0]), *path.split(b"/")[1:])): c for path, c in others.items()}
        assert found == renamed, "the others, whole, under names that no other can have"
        assert sorted(problem.path for problem in done.problems) == sorted(alike)
        assert all("here its name is that of another; it is called" in problem.reason for problem in done.problems)
        done = vault.restore_snapshot("acme", target, overwrite=True)
    elsewhere = vault.restore_snapshot("acme", target / "elsewhere", paths=["sub", "Readme"])
    assert not elsewhere.problems
    assert contents(target / "elsewhere") == {b"sub/x": b"in sub", b"sub/only": b"only in sub", b"Readme": b"one"}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.usefixtures("folding")
def test_names_that_are_one_where_they_are_restored(overwrite: bool, vault: Vault, tmp_path: Path) -> None:
    """Nothing is overwritten silently, whatever was asked about files that were there before."""
    target = tmp_path / "back"
    if overwrite:
        write(target, {"readme": b"before", "SUB/y": b"stays"})
        write(tmp_path / "acme", {})
        vault.create_snapshot(write(tmp_path / "acme", ALIKE))
        done = vault.restore_snapshot("acme", target, overwrite=True)
        found = contents(target)
        assert found[b"SUB/x" if b"SUB/x" in found else b"Sub/x"] == b"in Sub"
        assert sorted({b"other", b"one", b"before"} & {*found.values()}) == [b"one", b"other"]
        assert {problem.path for problem in done.problems} >= {b"Readme", b"sub"}
        return
    check_alike(vault, tmp_path, target, overwrite=False)


@pytest.mark.needs("mkfs.ext4", "chattr")
@pytest.mark.parametrize("overwrite", [False, True])
def test_names_that_are_one_on_a_real_file_system(overwrite: bool, vault: Vault, tmp_path: Path) -> None:
    image, place = tmp_path / "image", tmp_path / "place"
    with image.open("wb") as file:
        file.truncate(16 << 20)
    place.mkdir()
    made = subprocess.run(["mkfs.ext4", "-q", "-O", "casefold", image], capture_output=True, check=False)
    if made.returncode or subprocess.run(["mount", "-o", "loop", image, place], capture_output=True).returncode:
        pytest.skip("mounting a file system that folds case needs root and a kernel with it")
    try:
        (place / "back").mkdir()
        if subprocess.run(["chattr", "+F", place / "back"], capture_output=True).returncode:
            pytest.skip("this kernel folds no case")
        check_alike(vault, tmp_path, place / "back", overwrite=overwrite or True)
    finally:
        subprocess.run(["umount", place], check=True)


def test_names_that_windows_cannot_hold(vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows: each gets one that it can hold, which is said. `aux` would be a device, `x.` would be `x`."""
    fine = {b"a.txt": b"a", "ü.txt".encode(): b"u", b"console": b"c", b"100%41": b"%"}
    never = [b"C:evil", b"..\\..\\evil", b"AUX", b"nul.txt", b"x.", b"x ", b"q?", b"a|b", b"\xff", b"tab\t", b"com1"]
    below = {b"con/inner": b"deep", b"con/in:ner/big": b"\0" * 70_000, b"con/link": b"two names"}
    project = write(tmp_path / "acme", fine | dict.fromkeys(never, b"x") | {"\uf041".encode(): b"p"} | below)
    os.link(project / "con/link", project / "other name?")
    os.utime(project / "con", ns=(NS, NS))
    saved = contents(project)
    vault.create_snapshot(project)
    monkeypatch.setattr(writer, "on_disk", windows_name)
    done = vault.restore_snapshot("acme", tmp_path / "back")
    found = contents(tmp_path / "back")
    assert {b"/".join(map(from_windows_name, path.split(b"/"))): held for path, held in found.items()} == saved
    assert {path: found[path] for path in fine} == fine
    mapped = {*never, b"con", b"con/in:ner", "\uf041".encode(), b"other name?"}
    assert {problem.path for problem in done.problems} == mapped
    assert all("no file here can have its name; it is called " in problem.reason for problem in done.problems)
    con = tmp_path / "back" / os.fsdecode(windows_name(b"con"))
    assert con.stat().st_mtime_ns == NS
    assert (con / "link").samefile(tmp_path / "back" / os.fsdecode(windows_name(b"other name?")))
    # A second time they are in the way, and are replaced by themselves.
    with pytest.raises(ExistsError):
        vault.restore_snapshot("acme", tmp_path / "back")
    vault.restore_snapshot("acme", tmp_path / "back", overwrite=True)
    assert contents(tmp_path / "back") == found


def test_folders_that_become_links_while_a_restore_runs(vault: Vault, tmp_path: Path) -> None:
    """Somebody else replaces the folders that are being written by links, as fast as they can."""
    outside = write(tmp_path / "outside", {"victim": b"untouched"})
    files = {f"d{n}/sub/f{m}": b"evil" for n in range(150) for m in range(6)}
    vault.create_snapshot(write(tmp_path / "acme", files | {f"d{n}/large": b"\0" * 70_000 for n in range(150)}))
    back = tmp_path / "back"
    stop = threading.Event()
    swaps = 0

    def swap() -> None:
        nonlocal swaps
        while not stop.is_set():
            for folder in (*back.glob("d*"), *back.glob("d*/sub")):
                if not folder.is_symlink():
                    try:
                        os.rename(folder, f"{folder}.moved-{swaps}")
                        os.symlink(outside, folder)
                        swaps += 1
                    except OSError:
                        continue

    racer = threading.Thread(target=swap)
    racer.start()
    try:
        for n in range(3):
            subprocess.run(["rm", "-rf", back], check=False)
            vault.restore_snapshot("acme", back, overwrite=bool(n))
    finally:
        stop.set()
        racer.join()
    assert swaps > 10, "it did race"
    assert contents(outside) == {b"victim": b"untouched"}
    assert stat.S_IMODE((outside / "victim").stat().st_mode) & 0o111 == 0


# -- who may read a vault ----------------------------------------------------------------------------


@pytest.mark.no_cover
def test_a_vault_is_its_owners_alone(tmp_path: Path) -> None:
    """Every folder 0700, every file 0600 or less, without any umask; those that git and workers write too."""
    project = write(tmp_path / "acme", {f"f/{n}": b"%d" % n for n in range(3100)})
    write(project, {"large.bin": os.urandom(300_000)})
    vault = tmp_path / "new" / "vault.git"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for words in (["init"], ["snapshot", project], ["maintain"], ["snapshot", project]):
        subprocess.run(
            [sys.executable, "-m", "gitvault", "--vault", vault, *words],
            check=True,
            env=environment,
            umask=0,
            capture_output=True,
        )
        write(project, {"f/1": str(words).encode()})
    found = {path: stat.S_IMODE(path.stat().st_mode) for path in (vault, *vault.rglob("*"))}
    assert len(found) > 20
    assert {f"{mode:o} {path}" for path, mode in found.items() if path.is_dir() and mode != 0o700} == set()
    assert {f"{mode:o} {path}" for path, mode in found.items() if mode & 0o177 and not path.is_dir()} == set()
    assert stat.S_IMODE(vault.parent.stat().st_mode) == 0o700
    assert open_to_others(vault) == []
    (vault / "config").chmod(0o640)
    (vault / "chunks").chmod(0o755)
    assert {path.name for path in open_to_others(vault)} == {"config", "chunks"}
