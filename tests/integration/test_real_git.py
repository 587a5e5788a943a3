"""A vault is real git: stock git, git-lfs, dulwich and libgit2 read every kind of content that gitvault writes."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from trees import contents, write

from gitvault.core.models import SnapshotId
from gitvault.vault import Vault

LARGE = bytes(range(256)) * 400
SOURCE = b"$Id$\n$Format:%H$\nint main;\r\nint x;\n"
FILES: dict[str | bytes, bytes | str] = {
    "main.c": SOURCE,
    "empty": b"",
    "unix.txt": b"a\nb\n",
    "dos.txt": b"a\r\nb\r\n",
    "utf16.txt": "wide\r\n".encode("utf-16"),
    "small.bin": b"\0\1\2",
    "model.bin": LARGE,
    "run.sh": b"#!/bin/sh\n",
    "link": "main.c",
    "dangling": "no/where",
    "hidden/.secret": b"export-ignore",
    b'caf\xe9/quote"new\nline': b"odd name",
    "100% \u00e4 -x": b"x",
    ".gitattributes": b"* text=auto eol=crlf ident export-subst working-tree-encoding=UTF-16\n"
    b"hidden export-ignore\n*.bin filter=lfs diff=lfs merge=lfs -text\n",
    "sub/.gitattributes": b"* eol=lf\n",
    ".git/config": b"[core]\n\tsshCommand = touch /tmp/evil\n",
    ".git/hooks/post-checkout": b"#!/bin/sh\ntouch evil\n",
    ".gitignore": b"*\n",
}


@pytest.fixture
def snapshots(vault: Vault, tmp_path: Path) -> list[SnapshotId]:
    project = write(tmp_path / "acme", FILES)
    os.chmod(project / "run.sh", 0o755)
    (project / "hollow/inner").mkdir(parents=True)
    first = vault.create_snapshot(project, message="first words\n\nmore of them", tags=["one"]).snapshot
    write(project, {"main.c": SOURCE + b"int y;\n", "new": b"new\n"})
    (project / "empty").unlink()
    return [first, vault.create_snapshot(project, message="second").snapshot]


def git(vault: Vault, *words: str | Path) -> bytes:
    return subprocess.run(["git", f"--git-dir={vault.path}", *words], capture_output=True, check=True).stdout


def in_git(path: bytes) -> bytes:
    return path.replace(b".git/", b"%2Egit/") if path.startswith(b".git/") else path.replace(b"100% ", b"100% ")


def expected(vault: Vault, project: Path) -> dict[bytes, bytes]:
    """What git shows: the content, or for a large binary its pointer."""
    found = {}
    for path, content in contents(project).items():
        shown = content
        if len(content) > vault.config.inline_limit and b"\0" in content:
            import hashlib

            oid = hashlib.sha256(content).hexdigest()
            shown = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n".encode()
        found[in_git(path)] = shown
    return found


def test_log_and_show(vault: Vault, snapshots: list[SnapshotId], tmp_path: Path) -> None:
    assert (
        git(vault, "log", "--format=%H %s", "acme").decode() == f"{snapshots[1]} second\n{snapshots[0]} first words\n"
    )
    assert git(vault, "log", "-1", "--format=%(trailers:key=Vault-Tag,valueonly)", snapshots[0]).strip() == b"one"
    assert b"first words\n\nmore of them" in git(vault, "log", "-1", "--format=%B", snapshots[0])
    for path, content in expected(vault, tmp_path / "acme").items():
        assert git(vault, "show", b"acme:" + path) == content  # type: ignore[arg-type]
    assert git(vault, "show", f"{snapshots[0]}:empty") == b""
    assert b"create mode" in git(vault, "show", "--summary", "acme")


def test_diff(vault: Vault, snapshots: list[SnapshotId]) -> None:
    assert git(vault, "diff", "--name-status", *snapshots).decode() == "D\tempty\nM\tmain.c\nA\tnew\n"
    assert b"+int y;" in git(vault, "diff", *snapshots)


def test_fsck(vault: Vault, snapshots: list[SnapshotId]) -> None:
    for words in (["--full", "--strict"], ["--full", "--strict", "--unreachable"]):
        done = subprocess.run(
            ["git", f"--git-dir={vault.path}", "fsck", *words], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_nothing_is_a_loose_object(vault: Vault, snapshots: list[SnapshotId]) -> None:
    assert {p.name for p in (vault.path / "objects").iterdir()} == {"info", "pack"}


def test_clone_gives_the_project(vault: Vault, snapshots: list[SnapshotId], tmp_path: Path) -> None:
    """Straight from the path and through the transport, which checks every object."""
    for number, source in enumerate((str(vault.path), f"file://{vault.path}")):
        clone = tmp_path / f"clone{number}"
        command = ["git", "-c", "transfer.fsckObjects=true", "clone", "-q", "-b", "acme", source, clone]
        subprocess.run(command, check=True, env={**os.environ, "GIT_LFS_SKIP_SMUDGE": "1"})
        head = subprocess.run(["git", "-C", clone, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        assert head.stdout.strip() == snapshots[1]
        assert os.access(clone / "run.sh", os.X_OK)
        assert os.readlink(clone / "dangling") == "no/where"
    plain = tmp_path / "plain"
    subprocess.run(["git", "clone", "-q", vault.path, plain], check=True)
    assert (plain / "new").exists(), "HEAD names a branch that is there"


def test_archive_and_checkout_give_exact_bytes(vault: Vault, snapshots: list[SnapshotId], tmp_path: Path) -> None:
    """In spite of the project's own eol, ident, encoding and export rules."""
    whole = expected(vault, tmp_path / "acme")
    with tarfile.open(fileobj=io.BytesIO(git(vault, "archive", "acme")), errors="surrogateescape") as tar:
        found = {}
        for member in tar:
            if member.isreg():
                file = tar.extractfile(member)
                assert file
                found[os.fsencode(member.name)] = file.read()
            elif member.issym():
                found[os.fsencode(member.name)] = os.fsencode(member.linkname)
    assert found == whole
    (tmp_path / "out").mkdir()
    git(vault, f"--work-tree={tmp_path / 'out'}", "checkout", "acme", "--", ".")
    assert contents(tmp_path / "out") == whole
    assert not (tmp_path / "out/evil").exists()


def test_blobs_have_gits_own_ids(vault: Vault, snapshots: list[SnapshotId], tmp_path: Path) -> None:
    entries = {e.path: e for e in vault.entries("acme", recursive=True)}
    for path in contents(tmp_path / "acme"):
        entry = entries[path]
        if entry.kind != "file" or entry.pointer:
            continue
        full = os.fsencode(tmp_path / "acme") + b"/" + path
        own = subprocess.run(["git", "hash-object", "--no-filters", "--", full], capture_output=True, check=True)
        assert entry.blob.hex() == own.stdout.decode().strip()


@pytest.mark.needs("git-lfs")
def test_git_lfs_accepts_our_pointers(vault: Vault, snapshots: list[SnapshotId], tmp_path: Path) -> None:
    [(path, pointer)] = [(e.path, e.pointer) for e in vault.entries("acme") if e.pointer]
    text = git(vault, "show", b"acme:" + path)  # type: ignore[arg-type]
    (tmp_path / "pointer").write_bytes(text)
    subprocess.run(["git", "lfs", "pointer", "--check", "--strict", "--file", tmp_path / "pointer"], check=True)
    said = subprocess.run(
        ["git", "lfs", "pointer", "--file", tmp_path / "acme" / os.fsdecode(path)], capture_output=True, check=True
    )
    assert said.stdout == text
    assert pointer is not None and pointer.size == len(LARGE)


def test_dulwich_reads_everything(vault: Vault, snapshots: list[SnapshotId], tmp_path: Path) -> None:
    from dulwich.object_store import iter_tree_contents
    from dulwich.repo import Repo

    with Repo(str(vault.path)) as repo:
        assert [w.commit.id.decode() for w in repo.get_walker([snapshots[1].encode()])] == snapshots[::-1]
        tree = repo[snapshots[1].encode()].tree
        found = {e.path: repo[e.sha].data for e in iter_tree_contents(repo.object_store, tree)}
        meta_ref = repo.refs[b"refs/vault/meta/acme"]
        assert repo[meta_ref].type_name == b"commit"
    assert found == expected(vault, tmp_path / "acme")


def test_libgit2_reads_everything(vault: Vault, snapshots: list[SnapshotId], tmp_path: Path) -> None:
    import pygit2

    repo = pygit2.Repository(str(vault.path))
    assert [str(commit.id) for commit in repo.walk(repo.branches["acme"].target)] == snapshots[::-1]
    found: dict[bytes, bytes] = {}
    pending = [(b"", repo[snapshots[1]].tree)]
    while pending:
        prefix, tree = pending.pop()
        for entry in tree:
            if entry.type_str == "tree":
                pending.append((prefix + entry.raw_name + b"/", entry))
            else:
                found[prefix + entry.raw_name] = entry.data
    assert found == expected(vault, tmp_path / "acme")
    changed = {d.new_file.path for d in repo.diff(snapshots[0], snapshots[1]).deltas}
    assert changed == {"empty", "main.c", "new"}


def test_git_works_on_after_maintenance(vault: Vault, snapshots: list[SnapshotId], tmp_path: Path) -> None:
    before = git(vault, "rev-list", "--objects", "--all")
    vault.maintain()
    assert sorted(git(vault, "rev-list", "--objects", "--all").splitlines()) == sorted(before.splitlines())
    test_fsck(vault, snapshots)
    assert vault.verify(data=True).ok
