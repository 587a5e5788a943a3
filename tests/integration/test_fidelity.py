"""Restore gives back everything: one test for each promise about what a folder can hold."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from trees import NS, contents, differences, records, write

from gitvault.core.backup_engine import intake, reading
from gitvault.core.models import Problem, SnapshotReport
from gitvault.core.utils.files import open_source
from gitvault.vault import Vault

pytestmark = pytest.mark.disk

if sys.platform != "linux":
    pytest.skip("this suite's means to look are Linux's", allow_module_level=True)

RANDOM = bytes(range(256)) * 400
ROOT_USER = os.geteuid() == 0
as_root = pytest.mark.skipif(not ROOT_USER, reason="only root can do this")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project").mkdir()
    return tmp_path / "project"


@pytest.fixture
def round_trip(vault: Vault, tmp_path: Path) -> Callable[[Path], Path]:
    """Saves a folder, restores it elsewhere, checks that the two are alike and that git likes the vault."""

    def run(project: Path) -> Path:
        before = records(project)
        report = vault.create_snapshot(project)
        assert report.problems == ()
        done = vault.restore_snapshot(report.snapshot, tmp_path / "back")
        assert done.problems == ()
        assert differences(project, tmp_path / "back") == {}
        assert records(project) == before, "the original was touched"
        assert done.files == sum(r.kind != "folder" for r in before.values())
        assert vault.verify(data=True).defects == ()
        fsck(vault)
        return tmp_path / "back"

    return run


def fsck(vault: Vault) -> None:
    done = subprocess.run(
        ["git", f"--git-dir={vault.path}", "fsck", "--full", "--strict"], capture_output=True, text=True, check=False
    )
    # .gitignore and .mailmap as symlinks are worth a warning to git, no more.
    harmless = ("gitignoreSymlink", "mailmapSymlink")
    said = [line for line in done.stderr.splitlines() if not any(word in line for word in harmless)]
    assert (done.returncode, said) == (0, []), done.stdout


def reasons(report: SnapshotReport) -> dict[bytes, str]:
    return {problem.path: problem.reason for problem in report.problems}


# -- content -------------------------------------------------------------------------------------


def test_bytes_of_every_size_around_the_borders(
    project: Path, round_trip: Callable[[Path], Path], vault: Vault
) -> None:
    limit = vault.config.inline_limit
    whole = 16 << 20
    sizes = {0, 1, limit - 1, limit, limit + 1}
    write(project, {f"binary-{size}": (b"\0\1" * (size // 2 + 1))[:size] for size in sizes})
    write(project, {f"text-{size}": (b"words\n" * (size // 6 + 1))[:size] for size in (*sizes, whole, whole + 1)})
    round_trip(project)
    stored = {e.path: e.pointer is not None for e in vault.entries("project")}
    assert {path for path, pointer in stored.items() if pointer} == {
        b"binary-%d" % (limit + 1),
        b"text-%d" % (whole + 1),
    }


def test_a_file_that_looks_like_a_pointer_comes_back_as_it_is(
    project: Path, round_trip: Callable[[Path], Path]
) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"ab" * 32 + b"\nsize 12345\n"
    write(project, {"model.bin": pointer, "almost": pointer[:-1], "crlf": pointer.replace(b"\n", b"\r\n")})
    write(project, {"old": b"version https://hawser.github.com/spec/v1\noid sha256:" + b"cd" * 32 + b"\nsize 1\n"})
    round_trip(project)


def test_sparse_files_stay_sparse(project: Path, round_trip: Callable[[Path], Path]) -> None:
    for name, size in (("small", 60_000), ("large", 40 << 20)):
        with open(project / name, "wb") as file:
            file.write(b"head\0")
            file.seek(size // 2 // 4096 * 4096)
            file.write(b"middle")
            file.truncate(size)
    with open(project / "hole", "wb") as file:
        file.truncate(5 << 20)
    write(project, {"zeros-that-are-written": bytes(1 << 20)})
    back = round_trip(project)
    for name in ("small", "large", "hole"):
        assert (back / name).stat().st_blocks <= (project / name).stat().st_blocks


def test_a_large_file_needs_bounded_memory(project: Path, tmp_path: Path, vault: Vault) -> None:
    """400 MB of bytes that do not compress are saved and restored in under 250 MiB."""
    with open(project / "disk.img", "wb") as file:
        block = os.urandom(1 << 20)
        for number in range(400):
            file.write(number.to_bytes(8, "big") + block[8:])
    program = (
        "import re, sys\n"
        "from gitvault.vault import Vault\n"
        "vault = Vault.open(sys.argv[1])\n"
        "vault.create_snapshot(sys.argv[2])\n"
        "vault.restore_snapshot('project', sys.argv[3])\n"
        # ru_maxrss would count what the parent had before exec.
        "print(re.search('VmHWM: *\\t *([0-9]+) kB', open('/proc/self/status').read())[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, vault.path, project, tmp_path / "back"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert int(done.stdout) < 250 << 10, f"{done.stdout.strip()} KiB"
    assert subprocess.run(["cmp", project / "disk.img", tmp_path / "back" / "disk.img"], check=False).returncode == 0


# -- attributes ----------------------------------------------------------------------------------


def test_times_to_the_nanosecond_of_files_folders_and_links(project: Path, round_trip: Callable[[Path], Path]) -> None:
    write(project, {"file": b"x", "folder/inner": b"y", "link": "file", "folder/large": RANDOM})
    moments = {"file": NS, "folder/inner": 1, "link": NS + 1, "folder/large": -1_500_000_001, "folder": NS + 7, ".": 7}
    for name, moment in moments.items():
        os.utime(project / name, ns=(moment, moment), follow_symlinks=False)
    back = round_trip(project)
    assert {name: os.lstat(back / name).st_mtime_ns for name in moments} == moments


def test_permission_bits(project: Path, round_trip: Callable[[Path], Path]) -> None:
    for mode in (0o000, 0o400, 0o444, 0o600, 0o644, 0o666, 0o700, 0o755, 0o777, 0o1777, 0o2750, 0o4755, 0o6711):
        write(project, {f"file-{mode:o}": b"x", f"folder-{mode:o}/inside": b"y", f"large-{mode:o}": RANDOM})
        for kind in ("file", "folder", "large"):
            os.chmod(project / f"{kind}-{mode:o}", mode)
    round_trip(project)


@as_root
def test_setuid_and_setgid_only_from_an_own_vault(project: Path, vault: Vault, tmp_path: Path) -> None:
    write(project, {"tool": b"#!/bin/sh\n", "shared/file": b"", "plain": b""})
    os.chmod(project / "tool", 0o6755)
    os.chmod(project / "shared", 0o2775)
    os.chmod(project / "plain", 0o1640)
    taken = vault.create_snapshot(project)
    os.chown(vault.path, 12345, 12345)
    done = vault.restore_snapshot(taken.snapshot, tmp_path / "back")
    back = records(tmp_path / "back")
    assert [back[name].mode for name in (b"tool", b"shared", b"plain")] == [0o755, 0o775, 0o1640]
    dropped = "setuid and setgid dropped: another user made this vault"
    assert done.problems == (Problem(b"shared", dropped), Problem(b"tool", dropped))


@as_root
def test_owners_when_root(project: Path, round_trip: Callable[[Path], Path]) -> None:
    write(project, {"file": b"x", "folder/inner": b"y", "link": "nowhere", "large": RANDOM})
    for number, name in enumerate(("file", "folder", "folder/inner", "link", "large")):
        os.chown(project / name, 1000 + number, 2000 + number, follow_symlinks=False)
    back = round_trip(project)
    assert os.lstat(back / "link").st_uid == 1003


@as_root
def test_a_folder_given_to_another_owner_is_noticed(project: Path, vault: Vault, tmp_path: Path) -> None:
    write(project, {"folder/one": b"1", "folder/two": b"2"})
    vault.create_snapshot(project)
    os.chown(project / "folder", 4321, 4321)
    vault.create_snapshot(project)
    vault.restore_snapshot("project", tmp_path / "back")
    assert differences(project, tmp_path / "back") == {}


@pytest.mark.needs("setfacl", "setfattr")
def test_extended_attributes_and_acls(project: Path, round_trip: Callable[[Path], Path]) -> None:
    write(project, {"file": b"x", "folder/inner": b"y", "large": RANDOM})
    os.setxattr(project / "file", "user.colour", b"\0\xff bytes\n")
    os.setxattr(project / "folder", "user.empty", b"")
    os.setxattr(project / "large", "user.n\u00e4me with space=", b"x" * 1000)
    subprocess.run(["setfacl", "-m", "u:12345:rw,g:54321:r", project / "file"], check=True)
    subprocess.run(["setfacl", "-m", "d:u:12345:rwx", project / "folder"], check=True)
    back = round_trip(project)
    assert b"12345" in subprocess.run(["getfacl", "-n", back / "file"], capture_output=True, check=True).stdout


@as_root
def test_capabilities_are_as_dangerous_as_setuid(project: Path, vault: Vault, tmp_path: Path) -> None:
    write(project, {"ping": b"program"})
    raw = bytes.fromhex("0100000200200000000000000000000000000000")
    os.setxattr(project / "ping", "security.capability", raw)
    taken = vault.create_snapshot(project)
    vault.restore_snapshot(taken.snapshot, tmp_path / "own")
    assert os.getxattr(tmp_path / "own" / "ping", "security.capability") == raw
    os.chown(vault.path, 12345, 12345)
    done = vault.restore_snapshot(taken.snapshot, tmp_path / "foreign")
    assert os.listxattr(tmp_path / "foreign" / "ping") == []
    assert [p.path for p in done.problems] == [b"ping"]


def test_attributes_alone_make_a_new_snapshot(project: Path, vault: Vault, tmp_path: Path) -> None:
    write(project, {"file": b"x", "folder/inner": b"y"})
    first = vault.create_snapshot(project)
    os.chmod(project / "folder", 0o700)
    os.setxattr(project / "file", "user.note", b"new")
    second = vault.create_snapshot(project)
    assert not second.unchanged
    for number, snapshot in enumerate((first.snapshot, second.snapshot)):
        vault.restore_snapshot(snapshot, tmp_path / str(number))
    assert differences(project, tmp_path / "1") == {}
    assert records(tmp_path / "0")[b"file"].xattrs == ()


def test_a_folder_of_which_other_rules_hold_keeps_its_attributes(project: Path, vault: Vault, tmp_path: Path) -> None:
    write(project, {"folder/inner": b"y", "folder/left.tmp": b"z"})
    os.setxattr(project / "folder", "user.note", b"kept")
    vault.create_snapshot(project)
    # Nothing in the folder is another, and all of it is looked at.
    write(project, {".gitvault.toml": b'skip = ["*.tmp"]\n'})
    report = vault.create_snapshot(project)
    assert report.deleted == 1
    vault.restore_snapshot(report.snapshot, tmp_path / "back")
    assert os.getxattr(tmp_path / "back/folder", "user.note") == b"kept"


# -- kinds ---------------------------------------------------------------------------------------


def test_symlinks_of_every_sort(project: Path, round_trip: Callable[[Path], Path], tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"not part of the project")
    write(project, {"folder/file": b"x", "to-file": "folder/file", "to-folder": "folder", "dangling": "no/where"})
    write(project, {"absolute": str(tmp_path / "outside"), "up": "../outside", "self": "self", "long": "x" * 4000})
    write(project, {b"bytes": os.fsdecode(b"caf\xe9\n\t")})
    back = round_trip(project)
    assert os.path.islink(back / "to-folder")
    assert b"up/secret" not in contents(back)


def test_hard_links_within_and_across_folders(project: Path, round_trip: Callable[[Path], Path]) -> None:
    write(project, {"a/small": b"x", "b/large": RANDOM, "same content": b"x"})
    (project / "z").mkdir()
    for source, name in (("a/small", "a/again"), ("a/small", "z/third"), ("b/large", "a/large"), ("b/large", "0")):
        os.link(project / source, project / name)
    os.symlink("a", project / "link")
    os.link(project / "link", project / "link2", follow_symlinks=False)
    back = round_trip(project)
    assert os.stat(back / "a/small").st_ino == os.stat(back / "z/third").st_ino
    assert os.stat(back / "a/small").st_ino != os.stat(back / "same content").st_ino


def test_one_name_of_a_hard_linked_file_alone(project: Path, vault: Vault, tmp_path: Path) -> None:
    """Its first name is not selected, or cannot be written: the content comes all the same."""
    write(project, {"a/first": b"content", "z/large": RANDOM})
    (project / "b").mkdir()
    os.link(project / "a/first", project / "b/second")
    os.link(project / "z/large", project / "b/other")
    vault.create_snapshot(project)
    done = vault.restore_snapshot("project", tmp_path / "back", paths=["b/second", "z"])
    assert done.problems == ()
    assert contents(tmp_path / "back") == {b"b/second": b"content", b"z/large": RANDOM}


def test_a_hard_link_that_becomes_two_files(project: Path, vault: Vault, tmp_path: Path) -> None:
    write(project, {"one": b"shared"})
    os.link(project / "one", project / "two")
    vault.create_snapshot(project)
    (project / "two").unlink()
    write(project, {"two": b"shared"})
    vault.create_snapshot(project)
    vault.restore_snapshot("project", tmp_path / "back")
    assert os.stat(tmp_path / "back/one").st_nlink == 1


def test_empty_folders(project: Path, round_trip: Callable[[Path], Path]) -> None:
    (project / "a/b/c").mkdir(parents=True)
    (project / "beside").mkdir()
    write(project, {"beside.txt": b""})
    back = round_trip(project)
    assert (back / "a/b/c").is_dir()


def test_an_empty_project(project: Path, round_trip: Callable[[Path], Path]) -> None:
    round_trip(project)


def test_sockets_fifos_and_devices_are_reported_and_not_read(project: Path, vault: Vault, tmp_path: Path) -> None:
    write(project, {"file": b"kept"})
    os.mkfifo(project / "fifo")
    with socket.socket(socket.AF_UNIX) as listening, contextlib.chdir(project):
        listening.bind("socket")
    expected = {b"fifo": "not saved: a FIFO", b"socket": "not saved: a socket"}
    if ROOT_USER:
        os.mknod(project / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        os.mknod(project / "loop", stat.S_IFBLK | 0o600, os.makedev(7, 0))
        expected |= {b"null": "not saved: a character device", b"loop": "not saved: a block device"}
    for _ in range(2):
        assert reasons(vault.create_snapshot(project)) == expected, "also when nothing else changed"
    vault.restore_snapshot("project", tmp_path / "back")
    assert contents(tmp_path / "back") == {b"file": b"kept"}


def test_kinds_that_take_each_others_place(project: Path, vault: Vault, tmp_path: Path) -> None:
    """A folder that becomes a file, a link, and back; each snapshot is what was there then."""
    shapes: list[dict[str | bytes, bytes | str]] = [
        {"a": b"file", "b/c": b"in folder", "d": "b", "e": RANDOM},
        {"a/x": b"now a folder", "b": b"now a file", "d/y": b"", "e": "a"},
        {"a": "b", "b/c": b"in folder again", "d": b"small", "e/f/g": RANDOM},
        {"a/x": b"", "b": RANDOM, "d": "a", "e": b"\n"},
    ]
    taken = []
    for shape in shapes:
        shutil.rmtree(project)
        write(project, shape)
        taken.append((vault.create_snapshot(project).snapshot, records(project)))
    for number, (snapshot, expected) in enumerate(taken):
        vault.restore_snapshot(snapshot, tmp_path / f"{number}")
        assert records(tmp_path / f"{number}") == expected
    assert vault.verify(data=True).ok


# -- names ---------------------------------------------------------------------------------------

NAMES = [
    b"caf\xe9",
    b"\xff\xfe",
    "caf\u00e9".encode(),
    "cafe\u0301".encode(),
    b"new\nline",
    b"tab\tand\rreturn",
    b"quote\"and'",
    b"back\\slash",
    b"\\x41",
    b"\\x5Cx41",
    b"\\\\x41",
    b"%2Egit",
    b"%252Egit",
    b"%00meta",
    b"100%",
    b" ",
    b"-rf",
    b"--",
    b"*",
    b"a:b",
    b"trailing.",
    b"trailing ",
    b"NUL",
    b"con.txt",
    b"HEAD",
    b"\x01\x02\x7f",
    b"...",
    b".gitvault-1-1",
    b"x" * 255,
    "\u200b\u202e\ufeff".encode(),
]


def test_names_of_every_sort(project: Path, round_trip: Callable[[Path], Path]) -> None:
    write(project, {name: b"file " + name for name in NAMES})
    write(project, {b"folders/" + name + b"/" + name: RANDOM + name for name in NAMES})
    round_trip(project)


GIT_NAMES = [
    b".git",
    b".GIT",
    b".Git",
    b"git~1",
    b"GIT~1",
    b".git.",
    b".git ",
    b".git . .",
    b".git::$INDEX_ALLOCATION",
    b".git:stream",
    b"x\\.git",
    b".git\\config",
    b"a\\.git\\b",
    b".g\xe2\x80\x8cit",
    b"\xef\xbb\xbf.git",
    b"%2Egit",
    b"%2egit",
    b"%252Egit",
    b".gitignore",
    b".gitmodules",
    b".gitattributes",
    b".GITMODULES",
    b"gitmod~1",
    b"gitatt~2",
    b"gi7eba~1",
    b".gitmodules ",
    b".git\xe2\x80\x8cattributes",
    b".mailmap",
]


@pytest.mark.parametrize("kind", ["file", "folder", "symlink", "deeper"])
def test_names_that_git_acts_on(kind: str, project: Path, round_trip: Callable[[Path], Path]) -> None:
    """Whatever they are, git's strictest check passes and they come back."""
    value: dict[str, Callable[[bytes], bytes | str]] = {
        "file": lambda name: b'[submodule "../../x"]\n\tpath = -u\n\turl = --upload-pack=touch /tmp/x\n' + name,
        "symlink": lambda name: "../../etc/passwd",
    }
    make = value.get(kind, value["file"])
    inside = {"file": b"", "symlink": b"", "folder": b"/inner", "deeper": b"/.git/config"}[kind]
    write(project, {name + inside: make(name) for name in GIT_NAMES})
    round_trip(project)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"* text=auto eol=crlf\n*.c ident export-subst\n*.bin filter=lfs\n[attr]x y\n",
        b"x" * 5000 + b" text\n",
        b"a b\n" * 40_000 + b"\0" + b"z" * 70_000,
        b"# words\n" * (300_000),
        b"\xff\xfe\x00",
    ],
    ids=["empty", "rules", "long line", "binary and large", "over 2 MB", "bytes"],
)
def test_gitattributes_and_gitmodules_with_any_content(
    content: bytes, project: Path, round_trip: Callable[[Path], Path]
) -> None:
    write(project, {".gitattributes": content, "sub/.gitattributes": content})
    write(project, {".gitmodules": content, "sub/.gitmodules": content})
    round_trip(project)


def test_a_git_repository_inside_works_after_restore(
    project: Path, vault: Vault, round_trip: Callable[[Path], Path]
) -> None:
    def git(folder: Path, *words: str) -> str:
        return subprocess.run(["git", "-C", folder, *words], capture_output=True, text=True, check=True).stdout

    for folder in (project, project / "vendor/lib"):
        folder.mkdir(parents=True, exist_ok=True)
        git(folder, "init", "-q")
        write(folder, {"main.c": b"int x;\n", "big.bin": RANDOM})
        git(folder, "add", "main.c", "big.bin")
        git(folder, "commit", "-q", "-m", "first")
        write(folder, {"main.c": b"int y;\n", "untracked": b""})
        hook = folder / ".git/hooks/pre-commit"
        hook.write_text("#!/bin/sh\nexit 1\n")
        hook.chmod(0o755)
    before = git(project, "status", "--porcelain")
    back = round_trip(project)
    assert git(back, "status", "--porcelain") == before
    for folder in (back, back / "vendor/lib"):
        git(folder, "fsck", "--full", "--strict")
        assert git(folder, "log", "--format=%s") == "first\n"
    stored = subprocess.run(
        ["git", f"--git-dir={vault.path}", "ls-tree", "--name-only", "project"], capture_output=True, check=True
    ).stdout
    assert b"%2Egit" in stored.splitlines()


def test_names_that_differ_only_in_case_and_renames_of_case(project: Path, vault: Vault, tmp_path: Path) -> None:
    write(project, {"Readme": b"1", "README": b"2", "folder/a": b"3", "Folder/a": b"4"})
    vault.create_snapshot(project)
    os.rename(project / "Readme", project / "readme")
    os.rename(project / "folder", project / "FOLDER")
    vault.create_snapshot(project)
    vault.restore_snapshot("project", tmp_path / "back")
    assert differences(project, tmp_path / "back") == {}


# -- sizes ---------------------------------------------------------------------------------------


def deep(folder: Path, name: bytes, levels: int, content: bytes) -> Iterator[bytes]:
    """Folders in folders, made step by step, as no path may be that long; yields the path at last."""
    fd = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=fd)
        inner = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    with open(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=fd), "wb") as file:
        file.write(content)
    with open(os.open("large", os.O_WRONLY | os.O_CREAT, dir_fd=fd), "wb") as file:
        file.write(RANDOM + content)
    os.symlink("file", "link", dir_fd=fd)
    os.mkdir("empty", dir_fd=fd)
    os.close(fd)
    yield (name + b"/") * levels + b"file"
    # Nothing that pytest tidies up with reaches down there.
    subprocess.run(["rm", "-rf", folder, *folder.parent.glob("back*")], check=True)


@pytest.mark.parametrize(
    ("name", "levels"), [(b"n" * 200, 19), (b"n" * 249, 16), (b"n" * 250, 40)], ids=["3800", "4000", "10000"]
)
def test_long_paths(name: bytes, levels: int, project: Path, round_trip: Callable[[Path], Path]) -> None:
    """Also those over PATH_MAX, which only a step-by-step walk reaches."""
    for _ in deep(project, name, levels, b"at the bottom"):
        round_trip(project)


def test_folders_2000_deep(project: Path, vault: Vault, tmp_path: Path) -> None:
    """4,000 bytes of path can be 2,000 folders; neither recursion nor open files may run out."""
    for path in deep(project, b"d", 2000, b"at the bottom"):
        report = vault.create_snapshot(project)
        assert (report.files, report.problems) == (3, ())
        assert vault.verify().ok
        write(project, {"second": b""})
        second = vault.create_snapshot(project).snapshot
        assert vault.get_version_diff(report.snapshot, second).added == (b"second",)
        assert vault.get_storage_stats().snapshots == 2
        assert sum(1 for _ in vault.entries(second, recursive=True)) == 2005
        done = vault.restore_snapshot(second, tmp_path / "back")
        assert (done.files, done.problems) == (4, ())
        shutil.rmtree(vault.path / "cache")
        assert vault.create_snapshot(project).unchanged
        fd = os.open(tmp_path / "back", os.O_RDONLY)
        for _ in range(2000):
            fd, outer = os.open("d", os.O_RDONLY, dir_fd=fd), fd
            os.close(outer)
        with open(os.open("file", os.O_RDONLY, dir_fd=fd), "rb") as file:
            assert file.read() == b"at the bottom"
        os.close(fd)
        assert path.count(b"/") == 2000


@pytest.mark.parametrize("count", [20_000, pytest.param(100_000, marks=pytest.mark.deep)])
def test_100_000_entries_in_one_folder(count: int, project: Path, vault: Vault, tmp_path: Path) -> None:
    write(project, {"0": b"even", "1": b"odd"})
    for number in range(2, count):
        # Four times as fast as new files, and what is tried is the folder.
        os.link(project / str(number % 2), project / f"{number:06}")
    write(project, {"last": b"!"})
    report = vault.create_snapshot(project)
    assert (report.files, report.problems) == (count + 1, ())
    write(project, {"last": b"?"})
    assert vault.create_snapshot(project).changed == 1
    assert sum(1 for _ in vault.entries("project")) == count + 1
    vault.restore_snapshot("project", tmp_path / "back", paths=["last", f"{count - 1:06}"])
    assert contents(tmp_path / "back") == {b"%06d" % (count - 1): b"odd", b"last": b"?"}


# -- trouble while reading -----------------------------------------------------------------------


def test_a_file_that_keeps_changing_is_saved_and_reported(project: Path, vault: Vault, tmp_path: Path) -> None:
    write(project, {"log": b"line\n", "video": RANDOM, "calm": b"calm", "folder/calm": b"calm"})
    stop = threading.Event()

    def keep_writing() -> None:
        with open(project / "log", "ab", 0) as log, open(project / "video", "ab", 0) as video:
            while not stop.is_set():
                log.write(b"line\n")
                video.write(b"\0frame")
                time.sleep(0.002)

    thread = threading.Thread(target=keep_writing)
    thread.start()
    try:
        report = vault.create_snapshot(project)
    finally:
        stop.set()
        thread.join()
    assert reasons(report).keys() == {b"log", b"video"}
    assert all("kept changing" in reason for reason in reasons(report).values())
    vault.restore_snapshot("project", tmp_path / "back")
    back = contents(tmp_path / "back")
    assert back[b"calm"] == back[b"folder/calm"] == b"calm"
    assert (project / "log").read_bytes().startswith(back[b"log"])
    assert (project / "video").read_bytes().startswith(back[b"video"])
    # The next run must not believe the stat it has.
    assert vault.create_snapshot(project).problems == ()
    vault.restore_snapshot("project", tmp_path / "again")
    assert differences(project, tmp_path / "again") == {}


def test_a_write_that_leaves_the_same_stat_is_seen_by_the_next_run(
    project: Path, vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file replaced right after it was read, same size, same mtime."""
    write(project, {"file": b"before"})
    os.utime(project / "file", ns=(NS, NS))
    real = reading.Reader.read_slice

    def then_write(self: reading.Reader, part: reading.Slice) -> reading.Batch:
        found = real(self, part)
        if not found.put_off:
            (project / "file").write_bytes(b"after!")
            os.utime(project / "file", ns=(NS, NS))
        return found

    monkeypatch.setattr(reading.Reader, "read_slice", then_write)
    vault.create_snapshot(project)
    monkeypatch.undo()
    assert vault.create_snapshot(project).changed == 1
    vault.restore_snapshot("project", tmp_path / "back")
    assert contents(tmp_path / "back") == {b"file": b"after!"}


@pytest.mark.parametrize("size", [10, 200_000], ids=["small", "large"])
def test_files_that_vanish_while_the_run_goes_on(
    size: int, project: Path, vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project, {"gone": b"\0" * size, "stays": b"\1\0" * size, "folder/gone-too": b"x"})
    real = intake.Intake.submit

    def submit(self: intake.Intake, part: reading.Slice) -> None:
        for name, _ in part.files:
            if b"gone" in name:
                os.unlink(os.path.join(project, os.fsdecode(part.folder), os.fsdecode(name)))
        real(self, part)

    monkeypatch.setattr(intake.Intake, "submit", submit)
    report = vault.create_snapshot(project)
    assert (report.files, report.problems) == (1, ())
    monkeypatch.undo()
    vault.create_snapshot(project)
    vault.restore_snapshot("project", tmp_path / "back")
    assert differences(project, tmp_path / "back") == {}


@pytest.mark.parametrize("size", [0, 1, 6, 100_000])
@pytest.mark.parametrize("module", ["reading", "snapshot"])
def test_a_fifo_that_takes_a_files_place_is_not_read(
    module: str, size: int, project: Path, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the last moment, before either of the two places that open files; what is in the pipe stays in it."""
    write(project, {"file": b"\0" * (size if module == "reading" else 100_000 + size), "other": b"y"})
    real = open_source
    pipes: list[int] = []

    def swapped(path: str) -> int:
        if path.endswith("/file") and not pipes:
            os.unlink(path)
            os.mkfifo(path)
            pipes.append(os.open(path, os.O_RDWR | os.O_NONBLOCK))
            os.write(pipes[0], b"pipe's")
        return real(path)

    monkeypatch.setattr(f"gitvault.core.backup_engine.{module}.open_source", swapped)
    report = vault.create_snapshot(project)
    left = os.read(pipes[0], 100)
    os.close(pipes[0])
    assert left == b"pipe's"
    assert reasons(report) == {b"file": reading.NOT_REGULAR}
    assert report.files == 1


@pytest.fixture
def nobodys(tmp_path: Path) -> Iterator[Path]:
    """A folder of the user nobody, reachable for it."""
    place = Path("/var/tmp") / f"gitvault-test-{os.getpid()}"
    place.mkdir(mode=0o755)
    os.chown(place, 65534, 65534)
    yield place
    shutil.rmtree(place)


@as_root
def test_unreadable_files_and_folders_are_named_and_the_rest_is_saved(
    nobodys: Path, as_nobody: Callable[[Callable[[], None]], None]
) -> None:
    project = nobodys / "project"

    def work() -> None:
        vault = Vault.create(nobodys / "vault.git")
        write(project, {"open": b"1", "locked": b"2", "closed/inner": b"3", "closed/deep/er": b"4"})
        first = vault.create_snapshot(project)
        assert first.problems == ()
        write(project, {"open": b"1 changed", "locked": b"2 changed", "new": b"5", "new-closed/x": b""})
        os.chmod(project / "locked", 0)
        os.chmod(project / "new", 0)
        os.chmod(project / "closed", 0)
        os.chmod(project / "new-closed", 0)
        second = vault.create_snapshot(project)
        said = reasons(second)
        assert said[b"locked"] == "cannot be read: Permission denied; the version saved before is kept"
        assert said[b"new"] == "cannot be read: Permission denied"
        assert "folder cannot be read: Permission denied" in said[b"closed"]
        assert said.keys() == {b"locked", b"new", b"closed", b"new-closed"}
        vault.restore_snapshot(second.snapshot, nobodys / "back")
        assert contents(nobodys / "back") == {
            b"open": b"1 changed",
            b"locked": b"2",
            b"closed/inner": b"3",
            b"closed/deep/er": b"4",
        }
        for name in ("locked", "new", "closed", "new-closed"):
            os.chmod(project / name, 0o700)
        third = vault.create_snapshot(project)
        assert third.problems == ()
        vault.restore_snapshot(third.snapshot, nobodys / "again")
        assert differences(project, nobodys / "again") == {}

    as_nobody(work)


@as_root
def test_without_root_the_owner_is_whoever_restores(
    nobodys: Path, as_nobody: Callable[[Callable[[], None]], None]
) -> None:
    project = nobodys / "project"
    write(project, {"file": b"root's"})

    def work() -> None:
        vault = Vault.create(nobodys / "vault.git")
        assert vault.create_snapshot(project).problems == ()
        assert vault.restore_snapshot("project", nobodys / "back").problems == ()
        assert os.stat(nobodys / "back/file").st_uid == 65534

    as_nobody(work)


# -- originals -----------------------------------------------------------------------------------


def test_originals_are_untouched_also_their_access_time(project: Path, vault: Vault) -> None:
    write(project, {"file": b"x", "folder/large": RANDOM, "link": "file"})
    long_ago = 1_000_000_000 * 10**9
    everything = [project, *(project / name for name in ("file", "folder", "folder/large", "link"))]
    for path in everything[::-1]:
        os.utime(path, ns=(long_ago, NS), follow_symlinks=False)
    before = [os.lstat(path) for path in everything]
    vault.create_snapshot(project)
    shutil.rmtree(vault.path / "cache")
    vault.create_snapshot(project)
    vault.status([project / "file"])
    after = [os.lstat(path) for path in everything]
    # Reading a link's target has no way to leave its access time alone.
    assert [s.st_atime_ns for s in after[:-1]] == [s.st_atime_ns for s in before[:-1]]
    assert [(s.st_mtime_ns, s.st_ctime_ns) for s in after] == [(s.st_mtime_ns, s.st_ctime_ns) for s in before]


def test_a_file_system_without_extended_attributes(
    project: Path, vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the place of restore cannot hold is named, and the file is there."""
    write(project, {"file": b"x"})
    os.setxattr(project / "file", "user.note", b"y")
    vault.create_snapshot(project)

    def refused(*_: object, **__: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", refused)
    done = vault.restore_snapshot("project", tmp_path / "back")
    assert done.problems == (Problem(b"file", "extended attribute user.note not set: Operation not supported"),)
    assert contents(tmp_path / "back") == {b"file": b"x"}


def test_a_place_that_refuses_owner_and_mode_gets_the_bytes(
    project: Path, vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAT, some network shares, containers without the right to chown."""
    write(project, {"file": b"x", "folder/large": RANDOM, "link": "file"})
    vault.create_snapshot(project)

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    for name in ("chown", "fchown", "chmod", "fchmod", "utime"):
        monkeypatch.setattr(os, name, refused)
    done = vault.restore_snapshot("project", tmp_path / "back")
    monkeypatch.undo()
    assert contents(tmp_path / "back") == contents(project)
    assert {problem.path for problem in done.problems} >= {b"file", b"folder/large"}
