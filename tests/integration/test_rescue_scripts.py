"""rescue.sh and rescue.py, as every vault has them, against what gitvault itself restores; gitvault is out of reach."""

from __future__ import annotations

import ast
import hashlib
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from trees import NS, records, write

from gitvault import config
from gitvault.core.backup_engine import rescue
from gitvault.core.backup_engine.retention import Retention
from gitvault.core.storage.packs import Table, format_table, read_table
from gitvault.vault import Vault

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="busybox, and names that only Linux has"),
    pytest.mark.needs("git", "zstd", "awk", "dash", "busybox"),
]

ROOT = Path(__file__).parents[2]
VERSIONS = 18
HEAD = [sys.executable, "-I", "-S"]


class Saved(NamedTuple):
    """A vault with one project, a snapshot for each version, and where gitvault has restored some of them."""

    vault: Path
    ids: list[str]
    expected: dict[int, Path]


Rescue = Callable[..., subprocess.CompletedProcess[bytes]]


def hard_names(noise: random.Random) -> dict[str | bytes, bytes | str]:
    """Whatever a name can be, and git, awk or a shell may trip over."""
    return {
        "README.md": b"# Acme\n",
        "empty": b"",
        b"new\nline \"quote' \\back \\n": b"1",
        b"-dash": b"2",
        b"-n": b"3",
        b" sp ace/ f ": b"4",
        b"caf\xe9\xff\x81\x88": b"5",
        b"caf\xc3\xa9/\xe2\x82\xac": b"6",
        b"%41%zz%2f%": b"7",
        b".git/config": b"[core]\n",
        b".git/big\n'.bin": b"\0" + noise.randbytes(9_000),
        b"sub/.GIT/%2e%2E/x": b"8",
        b"tab\there\r\x01": b"9",
        b"$(touch ran)`touch ran`;touch ran": b"10",
        b"*": b"11",
        b"?[a]": b"12",
        ".gitattributes": b"* text eol=crlf filter=ran ident\n*.md export-ignore export-subst\n",
        b"bin/\x01\x02 weird\n.bin": b"\0" + noise.randbytes(40_000),
        b"bin/-x\\": b"\0" + noise.randbytes(7_000),
        "user's pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 5\n",
        "as long as a pointer": b"x" * 130,
        "as long, with NUL": b"\0" * 131,
        "crlf.txt": b"a\r\nb $Id$\r\n",
        "link": "README.md",
        b"l nk\n": b"../x y\n".decode(),
        "-out": "/etc/passwd",
        "dir link": "sub",
    }


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """Versions of a large file that stand on each other as deep as gitvault lets them."""
    base = tmp_path_factory.mktemp("rescue")
    noise = random.Random(3)
    project = write(base / "acme", hard_names(noise))
    for empty in ("nothing/in/it", "e 2\n"):
        (project / empty).mkdir(parents=True)
    os.chmod(project / "README.md", 0o755)
    os.chmod(project / "empty", 0o600)
    hero = bytearray(b"\0" + noise.randbytes(40_000).translate(bytes(range(16)) * 16))
    write(project, {"art/hero.tga": bytes(hero), "art/copy": bytes(hero), "art/sparse": bytes(100_000) + b"end"})
    os.chmod(project / "art" / "copy", 0o4755)
    os.link(project / "art" / "hero.tga", project / "art" / "hard link.tga")
    with open(project / "art" / "holes", "wb") as holes:
        holes.write(b"\0first")
        holes.truncate(80_000)
    for path in (project / "README.md", project / "art" / "copy", project / "nothing" / "in"):
        os.setxattr(path, "user.note", b"\0\xff")
    for path in [*project.rglob("*"), project]:
        os.utime(path, ns=(NS, NS + 1), follow_symlinks=False)
    vault = base / "a vault's.git"
    Vault.create(vault).close()
    # What the shell does takes a program for each chunk: few chunks, in files of every kind.
    settings = {"minChunk": "1k", "avgChunk": "8k", "maxChunk": "16k", "inlineLimit": "2k", "maintenance": "off"}
    for key, value in settings.items():
        config.set(vault, f"vault.{key}", value)
    clock = iter(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hour) for hour in range(10_000))
    ids: list[str] = []
    expected: dict[int, Path] = {}
    with Vault.open(vault, now=lambda: next(clock)) as opened:
        for number in range(VERSIONS):
            done = opened.create_snapshot(project, project="a/b", message=f"Version {number}\n\nwith \x1b[31m more")
            ids.append(str(done.snapshot))
            for at in range(1000 + number, len(hero), 9000):
                hero[at : at + 3] = b"%03d" % number
            write(project, {"art/hero.tga": bytes(hero), f"new/{number}.bin": b"\0" + noise.randbytes(7_000)})
        for number in (0, 5, VERSIONS - 1):
            expected[number] = base / f"expected {number}"
            opened.restore_snapshot(ids[number], expected[number])
    return Saved(vault, ids, expected)


@pytest.fixture(scope="module")
def maintained(saved: Saved, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    vault = tmp_path_factory.mktemp("maintained") / "vault.git"
    shutil.copytree(saved.vault, vault, symlinks=True)
    with Vault.open(vault) as opened:
        assert any("chunk store" in action for action in opened.maintain().actions)
    return Saved(vault, saved.ids, saved.expected)


@pytest.fixture
def copy(saved: Saved, tmp_path: Path) -> Path:
    """A vault to be damaged."""
    shutil.copytree(saved.vault, tmp_path / "copy.git", symlinks=True)
    return tmp_path / "copy.git"


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with busybox's applets, git and zstd, and nothing else."""
    folder = tmp_path_factory.mktemp("bin")
    busybox = shutil.which("busybox")
    assert busybox
    for applet in subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split():
        (folder / applet).symlink_to(busybox)
    for program in ("git", "zstd"):
        (folder / program).symlink_to(str(shutil.which(program)))
    return folder


BASH = pytest.param("bash", marks=pytest.mark.deep)
EVERY = pytest.mark.parametrize("run", ["dash", BASH, "busybox", "rescue.py"], indirect=True)
PYTHON = pytest.mark.parametrize("run", ["rescue.py"], indirect=True)


@pytest.fixture(params=["dash", "rescue.py"])
def run(request: pytest.FixtureRequest, tools: Path, tmp_path: Path) -> Rescue:
    """Runs a script of a vault, gitvault and its packages being out of reach."""
    name = request.param
    if shutil.which(name) is None and name == "bash":
        pytest.skip("no bash here")

    def run(vault: Path, *words: str, **extra: str) -> subprocess.CompletedProcess[bytes]:
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "COVERAGE_PROCESS_START")}
        if name == "rescue.py":
            command = [*HEAD, str(vault / "rescue.py")]
        elif name == "busybox":
            command = [str(tools / "sh"), str(vault / "rescue.sh")]
            environment["PATH"] = str(tools)
        else:
            command = [str(shutil.which(name)), str(vault / "rescue.sh")]
        environment.update(extra)
        return subprocess.run([*command, *words], cwd=tmp_path, env=environment, capture_output=True, timeout=300)

    return run


def content(folder: Path) -> dict[bytes, tuple[str, bytes, bool]]:
    """What the shell restores: kind, content, whether it can be executed."""
    return {
        path: (record.kind, record.content, record.kind == "file" and bool(record.mode & 0o100))
        for path, record in records(folder, times=False).items()
    }


def restored(done: subprocess.CompletedProcess[bytes], folder: Path) -> dict[bytes, tuple[str, bytes, bool]]:
    assert done.returncode == 0, done.stderr
    return content(folder)


def packs(vault: Path) -> list[Path]:
    return sorted((vault / "chunks").glob("*.zpk"))


def depth(tables: list[Table]) -> int:
    bases = {c.id: t.frames[c.frame].bases for t in tables for c in t.chunks}
    known: dict[bytes, int] = {}

    def of(chunk: bytes) -> int:
        if chunk not in known:
            known[chunk] = 1 + max(map(of, bases[chunk]), default=-1)
        return known[chunk]

    return max(map(of, bases))


def only_damaged(done: subprocess.CompletedProcess[bytes], *names: str) -> None:
    assert done.returncode == 1
    said = [line for line in done.stderr.decode().splitlines() if line.startswith("damaged: ")]
    assert sorted(line.split(": ")[1] for line in said) == sorted(names), done.stderr


# -- what comes back ---------------------------------------------------------------------------------------------------


def test_the_vaults_that_are_read_are_hard_to_read(saved: Saved, maintained: Saved) -> None:
    for vault in (saved.vault, maintained.vault):
        tables = [read_table(pack) for pack in packs(vault)]
        assert depth(tables) == 16
        assert any(len(t.manifests) > 1 for t in tables) or len(tables) > 10
        assert {hashlib.sha256((vault / name).read_bytes()).digest() for name in rescue.SOURCES} == {
            hashlib.sha256(text).digest() for text in rescue.texts().values()
        }
    assert len(packs(maintained.vault)) == 1


@EVERY
@pytest.mark.parametrize("which", ["maintained", pytest.param("saved", marks=pytest.mark.deep)])
def test_all_bytes_names_links_and_folders_come_back(
    run: Rescue, which: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    from_: Saved = request.getfixturevalue(which)
    done = run(from_.vault, "restore", from_.ids[-1], "out '1")
    assert restored(done, tmp_path / "out '1") == content(from_.expected[VERSIONS - 1])
    assert not (tmp_path / "ran").exists()


@PYTHON
def test_python_gives_back_times_modes_owners_attributes_links_and_holes(
    run: Rescue, saved: Saved, tmp_path: Path
) -> None:
    assert run(saved.vault, "restore", saved.ids[-1], "out").returncode == 0
    assert records(tmp_path / "out") == records(saved.expected[VERSIONS - 1])


@PYTHON
def test_python_restores_one_path(run: Rescue, saved: Saved, tmp_path: Path) -> None:
    done = run(saved.vault, "restore", saved.ids[-1], "out", "art/hero.tga", "sub/")
    assert restored(done, tmp_path / "out").keys() == {
        *(b"", b"art", b"art/hero.tga", b"sub", b"sub/.GIT", b"sub/.GIT/%2e%2E", b"sub/.GIT/%2e%2E/x")
    }
    only_damaged(run(saved.vault, "restore", saved.ids[-1], "out2", "art/none"), "art/none")


def test_the_snapshots_are_listed(run: Rescue, saved: Saved) -> None:
    done = run(saved.vault, "list")
    assert done.returncode == 0 and done.stderr == b""
    lines = done.stdout.decode().splitlines()
    assert [line.split("  ")[0] for line in lines] == saved.ids[::-1]
    assert lines[0].split("  ")[2:] == ["a/b", f"Version {VERSIONS - 1}"]
    assert datetime.fromisoformat(lines[0].split("  ")[1]) > datetime.fromisoformat(lines[-1].split("  ")[1])


def test_a_vault_without_snapshots(run: Rescue, tmp_path: Path) -> None:
    Vault.create(tmp_path / "new.git").close()
    done = run(tmp_path / "new.git", "list")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_snapshot_is_named_as_git_names_it_and_by_its_first_id(run: Rescue, copy: Path, saved: Saved) -> None:
    def git(*words: str, given: bytes = b"") -> str:
        return subprocess.run(
            ["git", f"--git-dir={copy}", *words], input=given, capture_output=True, check=True
        ).stdout.decode()

    for number, name in enumerate((saved.ids[0][:9], f"a%2Fb~{VERSIONS - 1}")):
        assert run(copy, "restore", name, f"out{number}").returncode == 0
    commit = git("cat-file", "commit", saved.ids[0]) + f"Vault-Snapshot: {'12' * 20}\n"
    new = git("hash-object", "-w", "-t", "commit", "--stdin", given=commit.encode()).strip()
    git("update-ref", "refs/heads/a%2Fb", new)
    assert run(copy, "list").stdout.startswith(b"12" * 20)
    for number, name in enumerate(("refs/heads/a%2Fb", "121212")):
        assert run(copy, "restore", name, f"new{number}").returncode == 0


# -- what cannot be done -----------------------------------------------------------------------------------------------


def test_what_cannot_be_done_is_one_line_and_leaves_nothing(
    run: Rescue, copy: Path, saved: Saved, tmp_path: Path
) -> None:
    def fails(code: int, said: str, *words: str, **extra: str) -> None:
        done = run(copy, *words, **extra)
        assert done.returncode == code
        assert said in done.stderr.decode() and done.stderr.count(b"\n") == 1

    for name in ("nonsense", "f" * 40, "-x", "--all", "a b"):
        fails(128, "no such snapshot", "restore", name, "out")
    assert not (tmp_path / "out").exists()
    for words in ((), ("restore",), ("restore", "a%2Fb"), ("lists",), ("list", "x"), ("restore", "", "out")):
        fails(129, "usage: ", *words)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("kept")
    fails(128, "name a folder that does not exist yet", "restore", "a%2Fb", "full")
    fails(128, "name a folder that does not exist yet", "restore", "a%2Fb", "full/mine")
    assert (tmp_path / "full" / "mine").read_text() == "kept"
    fails(128, "lies inside the vault", "restore", "a%2Fb", str(copy / "new"))
    assert not (copy / "new").exists()
    text = (copy / "config").read_text()
    (copy / "config").write_text(text.replace("formatVersion = 1", "formatVersion = 2"))
    fails(128, "of format 2", "list")
    (copy / "config").write_text(text)
    fails(128, "not found; install it", "list", PATH="/nonexistent")


def test_an_empty_folder_is_used_and_nothing_else_is_left_in_it(run: Rescue, saved: Saved, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert restored(run(saved.vault, "restore", saved.ids[0], "out"), tmp_path / "out") == content(saved.expected[0])


# -- damage ------------------------------------------------------------------------------------------------------------


def frames_of(vault: Path, name: str, snapshot: str) -> list[tuple[Path, int, int, bool]]:
    """Where the chunks of a file lie: pack, offset, length of each frame, and whether it stands alone."""
    with Vault.open(vault) as opened:
        [entry] = opened.entries(snapshot, name.encode())
        assert entry.pointer
        chunks = {chunk for chunk, _ in opened.store.chunks(entry.pointer)}
    found = []
    for pack in packs(vault):
        table = read_table(pack)
        for number in sorted({c.frame for c in table.chunks if c.id in chunks}):
            frame = table.frames[number]
            found.append((pack, frame.offset, frame.stored, not frame.bases))
    return found


def flip(path: Path, at: int, count: int = 1) -> None:
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(at)
        old = file.read(count)
        file.seek(at)
        file.write(bytes(byte ^ 0x55 for byte in old))


def test_a_damaged_chunk_costs_the_files_it_is_in_and_no_others(
    run: Rescue, copy: Path, saved: Saved, tmp_path: Path
) -> None:
    pack, offset, stored, _ = frames_of(copy, "new/3.bin", saved.ids[5])[0]
    flip(pack, offset + stored // 2, 3)
    done = run(copy, "restore", saved.ids[5], "out")
    only_damaged(done, "new/3.bin")
    found = content(tmp_path / "out")
    expected = content(saved.expected[5])
    _, lost, _ = expected.pop(b"new/3.bin")
    kept = found.pop(b"new/3.bin.damaged", None)
    assert found == expected
    assert kept is None or len(kept[1]) == len(lost)


def test_what_could_be_had_of_a_file_has_zeros_for_what_is_lost(
    run: Rescue, copy: Path, saved: Saved, tmp_path: Path
) -> None:
    """Version 0 stands alone in several frames: one is lost."""
    frames = frames_of(copy, "art/hero.tga", saved.ids[0])
    assert all(alone for _, _, _, alone in frames)
    pack, offset, stored, _ = frames[0]
    flip(pack, offset + stored // 2, 3)
    done = run(copy, "restore", saved.ids[0], "out")
    damaged = [line for line in done.stderr.decode().splitlines() if line.startswith("damaged: art/")]
    assert done.returncode == 1 and {line.split(": ")[1] for line in damaged} >= {"art/hero.tga", "art/copy"}
    expected = content(saved.expected[0])
    if len(frames) > 1:
        whole = expected[b"art/hero.tga"][1]
        had = (tmp_path / "out" / "art" / "hero.tga.damaged").read_bytes()
        assert len(had) == len(whole)
        assert all(a in (0, b) for a, b in zip(had, whole, strict=True)) and sum(map(bool, had)) > 0
    assert (tmp_path / "out" / "README.md").read_bytes() == b"# Acme\n"


def test_another_copy_of_a_damaged_chunk_serves(run: Rescue, copy: Path, saved: Saved, tmp_path: Path) -> None:
    """Also one that a killed upkeep left in the trash."""
    pack, offset, stored, _ = frames_of(copy, "art/hero.tga", saved.ids[0])[0]
    (copy / "chunks" / "trash").mkdir(exist_ok=True)
    shutil.copy(pack, copy / "chunks" / "trash" / pack.name)
    flip(pack, offset + stored // 2, 3)
    assert restored(run(copy, "restore", saved.ids[5], "out"), tmp_path / "out") == content(saved.expected[5])


@pytest.mark.parametrize("run", ["busybox", "rescue.py"], indirect=True)
@pytest.mark.parametrize("what", ["first table", "trailer"])
def test_a_table_is_found_by_its_second_copy_or_without_the_trailer(
    run: Rescue, copy: Path, saved: Saved, tmp_path: Path, what: str
) -> None:
    for pack in packs(copy):
        offset = int(pack.read_bytes()[-57:].split()[2])
        size = pack.stat().st_size
        if what == "first table":
            flip(pack, offset + 20, 8)
        else:
            os.truncate(pack, size - 30)
    assert restored(run(copy, "restore", saved.ids[5], "out"), tmp_path / "out") == content(saved.expected[5])


def test_a_pack_that_is_cut_short_or_gone(run: Rescue, copy: Path, saved: Saved, tmp_path: Path) -> None:
    first, second = (frames_of(copy, f"new/{n}.bin", saved.ids[5])[0] for n in (3, 4))
    os.truncate(first[0], first[1] + 1000)
    second[0].unlink()
    done = run(copy, "restore", saved.ids[5], "out")
    assert done.returncode == 1
    named = {line.split(": ")[1] for line in done.stderr.decode().splitlines() if line.startswith("damaged: ")}
    assert named >= {"new/3.bin", "new/4.bin"}
    found, expected = content(tmp_path / "out"), content(saved.expected[5])
    assert {path for path in expected if path not in found} == {name.encode() for name in named}
    assert all(found[path] == expected[path] for path in expected if path in found)


def end_of_pack(offset: int, rows: bytes) -> bytes:
    """What stands behind a pack's frames; `offset`: where its table's zstd frame is to be."""
    text = rows + b"end %s\n" % hashlib.sha256(rows).hexdigest().encode()
    packed = subprocess.run(["zstd", "-qc"], input=text, capture_output=True, check=True).stdout
    end = b"gitvault table %020d %020d\n" % (offset, len(packed))
    return b"".join(
        bytes.fromhex("572a4d18") + len(part).to_bytes(4, "little") + part for part in (packed, packed, end)
    )


def test_a_pack_of_a_newer_format_is_said_so(run: Rescue, copy: Path, saved: Saved) -> None:
    pack = frames_of(copy, "new/3.bin", saved.ids[5])[0][0]
    data = pack.read_bytes()
    offset, length = map(int, data[-57:].split()[2:])
    text = subprocess.run(
        ["zstd", "-qdc"], input=data[offset : offset + length], capture_output=True, check=True
    ).stdout
    text = text[: text.rindex(b"end ")] + b"parity 1 2\n"
    pack.chmod(0o600)
    pack.write_bytes(data[: offset - 8] + end_of_pack(offset, text))
    done = run(copy, "restore", saved.ids[5], "out")
    assert done.returncode == 1 and b"rows of the kind parity: it is of a newer gitvault" in done.stderr


def loose(vault: Path) -> None:
    """Each git object becomes a file of its own."""
    for pack in list((vault / "objects" / "pack").glob("*.pack")):
        moved = vault / pack.name
        pack.rename(moved)
        for other in (vault / "objects" / "pack").glob(pack.stem + ".*"):
            other.unlink()
        with moved.open("rb") as given:
            subprocess.run(["git", f"--git-dir={vault}", "unpack-objects", "-q"], stdin=given, check=True)
        moved.unlink()


def object_file(vault: Path, name: str) -> Path:
    oid = subprocess.run(
        ["git", f"--git-dir={vault}", "rev-parse", name], capture_output=True, text=True, check=True
    ).stdout.strip()
    return vault / "objects" / oid[:2] / oid[2:]


@pytest.mark.parametrize("how", ["gone", "swapped"])
def test_a_damaged_git_object_costs_what_is_in_it_and_no_more(
    run: Rescue, copy: Path, saved: Saved, tmp_path: Path, how: str
) -> None:
    """A small file, a pointer, a folder."""
    loose(copy)
    other = object_file(copy, saved.ids[5] + ":caf\u00e9/\u20ac").read_bytes()
    for name in ("README.md", "new/3.bin", "sub"):
        path = object_file(copy, f"{saved.ids[5]}:{name}")
        path.chmod(0o600)
        if how == "gone":
            path.unlink()
        else:
            path.write_bytes(other)
    done = run(copy, "restore", saved.ids[5], "out")
    only_damaged(done, "README.md", "new/3.bin", "sub")
    found, expected = content(tmp_path / "out"), content(saved.expected[5])
    missing = {b"README.md", b"new/3.bin", b"sub/.GIT/%2e%2E/x"}
    assert {path for path in expected if path not in found} == missing
    assert all(found[path] == expected[path] for path in expected if path in found)


def test_an_object_damaged_in_a_pack_of_git(run: Rescue, copy: Path, saved: Saved, tmp_path: Path) -> None:
    """git stops at the first; the others are had all the same."""
    names = {"empty of sorts": b"q" * 400, "second": b"w" * 500, "third": b"e" * 600}
    project = write(tmp_path / "p", {n: hashlib.sha256(c).hexdigest().encode() * 30 for n, c in names.items()})
    write(project, {"a": b"a", "zz": b"z"})
    before = set((copy / "objects" / "pack").glob("*.idx"))
    with Vault.open(copy) as opened:
        opened.create_snapshot(project, project="p")
    at: dict[str, tuple[Path, int]] = {}
    for index in set((copy / "objects" / "pack").glob("*.idx")) - before:
        with index.open("rb") as given:
            shown = subprocess.run(
                ["git", "show-index"], stdin=given, capture_output=True, text=True, check=True
            ).stdout
        at |= {row.split()[1]: (index.with_suffix(".pack"), int(row.split()[0])) for row in shown.splitlines()}
    for name in ("second", "third"):
        oid = object_file(copy, f"p:{name}")
        pack, offset = at[oid.parent.name + oid.name]
        flip(pack, offset + 20, 6)
    done = run(copy, "restore", "p", "out")
    only_damaged(done, "second", "third")
    whole = {path for path in content(tmp_path / "out") if not path.endswith(b".damaged")}
    assert whole == {b"", b"a", b"zz", b"empty of sorts"}


@pytest.mark.parametrize("kib", [200, 300])
def test_a_full_disk_is_not_taken_for_success(run: Rescue, saved: Saved, tmp_path: Path, kib: int) -> None:
    (tmp_path / "disk").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(tmp_path / "disk")]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        done = run(saved.vault, "restore", saved.ids[0], "disk/out")
        if done.returncode == 0:
            assert content(tmp_path / "disk" / "out") == content(saved.expected[0])
        else:
            assert b"is the disk full?" in done.stderr or b"No space left" in done.stderr
    finally:
        subprocess.run(["umount", str(tmp_path / "disk")], check=True)


# -- hostile vaults ----------------------------------------------------------------------------------------------------


def test_nothing_is_written_outside_whatever_the_names_are(run: Rescue, tmp_path: Path) -> None:
    vault = tmp_path / "deep" / "hostile.git"
    Vault.create(vault).close()

    def make(kind: str, data: bytes) -> bytes:
        words = ["git", f"--git-dir={vault}", "hash-object", "-w", "--literally", "-t", kind, "--stdin"]
        return bytes.fromhex(subprocess.run(words, input=data, capture_output=True, check=True).stdout.decode())

    def tree(*entries: tuple[str, bytes, bytes]) -> bytes:
        return make("tree", b"".join(mode.encode() + b" " + name + b"\0" + oid for mode, name, oid in entries))

    evil = make("blob", b"evil")
    out = make("blob", os.fsencode(tmp_path / "outside"))
    below = tree(("100644", b"x", evil))
    (tmp_path / "outside").mkdir()
    whole = tree(
        ("100644", b"%2E%2E%2Fescaped", evil),
        ("40000", b"%2E%2e", below),
        ("40000", b"..", below),
        ("100644", b"%00", evil),
        ("120000", b"a", out),
        ("40000", b"a", below),
        ("40000", b"%61", below),
        ("40000", b"b", below),
        ("120000", b"%62", out),
        ("100644", b"good", evil),
        ("160000", b"module", evil),
    )
    commit = make("commit", b"tree " + whole.hex().encode() + b"\nauthor a <a> 1 +0000\ncommitter a <a> 1 +0000\n\nx\n")
    before = sorted(tmp_path.rglob("*"))
    done = run(vault, "restore", commit.hex(), "deep/out")
    assert done.returncode == 1
    found = {path for path in tmp_path.rglob("*") if path not in before}
    assert all(path.is_relative_to(tmp_path / "deep" / "out") for path in found)
    assert (tmp_path / "deep" / "out" / "good").read_bytes() == b"evil"
    assert (tmp_path / "deep" / "out" / "b" / "x").read_bytes() == b"evil"


def test_a_frame_that_decodes_to_more_than_it_says(run: Rescue, tmp_path: Path) -> None:
    """6 KB that are 100 MB: what is written stays small."""
    project = write(tmp_path / "p", {"big.bin": b"\0" + random.Random(1).randbytes(90_000), "small": b"s"})
    with Vault.create(tmp_path / "vault.git") as vault:
        vault.create_snapshot(project)
    [pack] = packs(vault.path)
    table = read_table(pack)
    bomb = subprocess.run(["zstd", "-qc", "-3"], input=bytes(100_000_000), capture_output=True, check=True).stdout
    frames = [replace(table.frames[0], stored=len(bomb))]
    rows = format_table(Table(frames, [c for c in table.chunks if not c.frame], table.manifests))
    head = pack.read_bytes()[:24]
    pack.chmod(0o600)
    pack.write_bytes(head + bomb + end_of_pack(32 + len(bomb), rows[: rows.rindex(b"end ")]))
    done = run(vault.path, "restore", "p", "out")
    only_damaged(done, "big.bin")
    assert sum(path.stat().st_size for path in (tmp_path / "out").rglob("*")) < 1_000_000


def test_nothing_that_the_vault_or_the_user_configured_is_run(
    run: Rescue, copy: Path, saved: Saved, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    script = tmp_path / "evil"
    script.write_text(f"#!/bin/sh\ntouch '{ran}'\ncat\n")
    script.chmod(0o755)
    evil = (
        f"[core]\n\tfsmonitor = '{script}'\n\tpager = '{script}'\n\tattributesFile = {tmp_path}/attributes\n"
        f"\thooksPath = {tmp_path}\n\tautocrlf = true\n\teol = crlf\n"
        f'[filter "ran"]\n\tsmudge = {script}\n\tclean = {script}\n\trequired = true\n'
        f"[log]\n\tshowSignature = true\n[gpg]\n\tprogram = {script}\n[pager]\n\tlog = {script}\n"
    )
    (tmp_path / "attributes").write_text("* filter=ran text eol=crlf\n")
    (copy / "info" / "attributes").write_text("* filter=ran text eol=crlf ident\n")
    (copy / "config").write_text((copy / "config").read_text() + evil)
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(evil)
    for hook in ("post-checkout", "post-index-change"):
        shutil.copy(script, tmp_path / hook)
        shutil.copy(script, copy / hook)
    assert run(copy, "list", HOME=str(home)).returncode == 0
    done = run(copy, "restore", saved.ids[5], "out", HOME=str(home), GIT_DIR=str(tmp_path), GIT_INDEX_FILE="x")
    assert restored(done, tmp_path / "out") == content(saved.expected[5])
    assert not ran.exists()


# -- the files of a vault ----------------------------------------------------------------------------------------------


def test_upkeep_writes_the_files_anew(tmp_path: Path) -> None:
    """As an older gitvault left them, damaged or gone."""
    with Vault.create(tmp_path / "vault.git") as vault:
        assert not vault.maintain().actions
        (vault.path / "RESCUE.md").unlink()
        (vault.path / "rescue.sh").write_text("an older one")
        assert vault.maintain().actions == ("wrote RESCUE.md, rescue.sh anew",)
        assert {name: (vault.path / name).read_bytes() for name in rescue.SOURCES} == rescue.texts()
        assert not vault.maintain().actions


def test_the_python_script_is_of_python_3_8_and_needs_nothing_else() -> None:
    tree = ast.parse((ROOT / "gitvault" / "rescue" / "rescue.py").read_text(), feature_version=(3, 8))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
    }
    assert imported <= sys.stdlib_module_names


CHANGES = ("pruned", "forgotten", "repaired", "copied")


@pytest.fixture(scope="module")
def changed(saved: Saved, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Vaults that more than snapshots and upkeep have been at, by what that was."""
    folder = tmp_path_factory.mktemp("changed")
    made = {name: folder / f"{name}.git" for name in CHANGES}
    for path in (made["pruned"], made["forgotten"], made["repaired"]):
        shutil.copytree(saved.vault, path, symlinks=True)
    with Vault.open(made["pruned"]) as vault:
        assert vault.prune(Retention(last=2), yes=True).removed
        assert vault.sweep().actions
    with Vault.open(made["forgotten"]) as vault:
        vault.forget(["no-such-name-*", "*.c"], yes=True)
        vault.sweep()
    pack = max(packs(made["repaired"]), key=lambda path: path.stat().st_size)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 0x20
    pack.write_bytes(data)
    with Vault.open(made["repaired"]) as vault:
        assert vault.verify(repair=True, copies=[saved.vault]).repaired
    with Vault.open(saved.vault) as vault:
        vault.copy_to(made["copied"])
    return made


@pytest.mark.parametrize("what", CHANGES)
def test_vaults_after_every_verb_are_listed_and_restored(
    what: str, run: Rescue, changed: dict[str, Path], tmp_path: Path
) -> None:
    """All that are there now are listed; the newest and the oldest come back."""
    path = changed[what]
    listed = run(path, "list")
    assert listed.returncode == 0, listed.stderr
    with Vault.open(path) as vault:
        for number, snapshot in enumerate(vault.list_snapshots()[:: len(vault.list_snapshots()) - 1]):
            commit = vault.history.locate(snapshot.id).hex()
            assert commit[:10].encode() in listed.stdout or snapshot.id[:10].encode() in listed.stdout
            vault.restore_snapshot(snapshot.id, tmp_path / f"ours-{number}")
            done = run(path, "restore", commit, str(tmp_path / f"theirs-{number}"))
            assert restored(done, tmp_path / f"theirs-{number}") == content(tmp_path / f"ours-{number}")


def test_frames_whose_numbers_awk_takes_for_one(run: Rescue, tmp_path: Path) -> None:
    """To awk 1.20 equals 1.2: a delta that stands on frames 20 and 2 of a pack needs the bytes of each."""
    noise = random.Random(7)
    scene = bytearray(b"\0" + noise.randbytes(3_500_000))
    project = write(tmp_path / "acme", {"other.bin": b"\0" + noise.randbytes(90_000)})
    vault = tmp_path / "vault.git"
    Vault.create(vault).close()
    config.set(vault, "vault.maintenance", "off")
    with Vault.open(vault) as opened:
        for number in range(10):
            scene[1_060_000:1_060_004] = b"%04d" % number
            write(project, {"scene.bin": bytes(scene)})
            opened.create_snapshot(project)
        opened.maintain()
    [table] = [read_table(pack) for pack in (vault / "chunks").glob("*.zpk")]
    place = {chunk.id: (chunk.frame, chunk.inner, chunk.length) for chunk in table.chunks}
    bases = [[place[base] for base in frame.bases] for frame in table.frames]
    both = [(a, b) for row in bases for a, b in pairwise(row) if (a[0], b[0]) == (20, 2)]
    assert both and all(a[1] + a[2] == b[1] for a, b in both), "as if the second went on where the first ends"
    done = run(vault, "restore", "acme", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "scene.bin").read_bytes() == scene


def test_a_list_of_chunks_that_is_cut_within_a_line(run: Rescue, tmp_path: Path) -> None:
    """Files of some hundred MB and more: their lists are in several chunks, which end anywhere."""
    vault = tmp_path / "vault.git"
    Vault.create(vault).close()
    for key, value in {"minChunk": "1k", "avgChunk": "2k", "maxChunk": "4k", "maintenance": "off"}.items():
        config.set(vault, f"vault.{key}", value)
    scene = b"\0" + random.Random(8).randbytes(4_000_000)
    project = write(tmp_path / "acme", {"scene.bin": scene})
    with Vault.open(vault) as opened:
        opened.create_snapshot(project)
    [(_, (first, *others))] = [manifest for pack in packs(vault) for manifest in read_table(pack).manifests]
    with Vault.open(vault) as opened:
        assert others and not opened.store.retrieve_chunk(first).endswith(b"\n")
    done = run(vault, "restore", "acme", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "scene.bin").read_bytes() == scene
