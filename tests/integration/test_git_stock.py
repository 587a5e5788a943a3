"""What gitvault writes, git, dulwich and libgit2 read; what git writes, gitvault reads."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gitvault.core.models import ObjectId
from gitvault.core.utils.files import Disk
from gitvault.core.utils.process import git
from gitvault.core.versioning import refs
from gitvault.core.versioning.objects import (
    EMPTY_TREE,
    MODE_EXECUTABLE,
    MODE_FILE,
    MODE_SYMLINK,
    MODE_TREE,
    Commit,
    Signature,
    decode_commit,
    decode_tree,
    encode_commit,
    encode_tree,
    format_message,
    parse_message,
)
from gitvault.core.versioning.odb import ObjectStore
from gitvault.core.versioning.packfile import NewPack, PackWriter, encode_index, publish
from gitvault.core.versioning.refs import RefStore
from gitvault.errors import LockedError

pytestmark = pytest.mark.needs("git")
WHO = Signature("Ada", "ada@example.invalid", 1_700_000_000, 60)


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    path = tmp_path / "v.git"
    subprocess.run(["git", "init", "-q", "--bare", path], check=True)
    (path / "tmp").mkdir()
    return path


def out(vault: Path, *arguments: str | Path) -> str:
    return git(vault, *arguments).decode().strip()


def save(vault: Path, ref: str, files: dict[bytes, bytes], message: str = "m\n", who: Signature = WHO) -> NewPack:
    """A commit of one folder, published the way a snapshot is."""
    refs = RefStore(vault, Disk())
    writer = PackWriter(vault / "tmp", Disk())
    modes = (MODE_FILE, MODE_EXECUTABLE, MODE_SYMLINK)
    entries = [(name, modes[n % 3], writer.add(b"blob", data)) for n, (name, data) in enumerate(files.items())]
    inner = writer.add(b"tree", encode_tree(entries))
    tree = writer.add(b"tree", encode_tree([*entries, (b"folder", MODE_TREE, inner)]))
    parent = refs.read(ref)
    commit = writer.add(b"commit", encode_commit(Commit(tree, (parent,) if parent else (), who, who, message)))
    pack = writer.finish()
    assert pack is not None
    publish(pack, vault / "objects" / "pack", Disk())
    refs.update(ref, commit, old=parent)
    return pack


FILES = {b"empty": b"", b"text": b"hello\n" * 100, b"random": random.Random(1).randbytes(50_000), b"caf\xe9": b"x"}


def test_pack_passes_fsck_and_its_index_is_gits_own(vault: Path, tmp_path: Path) -> None:
    pack = save(vault, "refs/heads/main", FILES)
    assert git(vault, "fsck", "--full", "--strict") == b""
    path = vault / "objects" / "pack" / f"{pack.name}.pack"
    again = tmp_path / "again.idx"
    assert out(vault, "index-pack", "-o", again, path) == pack.name[5:]
    assert path.with_suffix(".idx").read_bytes() == again.read_bytes()
    assert git(vault, "cat-file", "blob", "main:folder/random") == FILES[b"random"]


def test_offsets_over_2_gib_are_what_git_reads(tmp_path: Path) -> None:
    places = {ObjectId(bytes([n]) * 20): (n << 30) << 32 | n for n in range(1, 9)}
    index = encode_index(places, bytes(20))
    shown = subprocess.run(["git", "show-index"], input=index, capture_output=True, check=True).stdout.decode()
    assert [line.split() for line in shown.splitlines()] == [
        [str(place >> 32), oid.hex(), f"({place & 0xFFFFFFFF:08x})"] for oid, place in places.items()
    ]


def test_dulwich_and_libgit2_read_our_packs(vault: Path) -> None:
    dulwich = pytest.importorskip("dulwich.repo")
    pygit2 = pytest.importorskip("pygit2")
    save(vault, "refs/heads/main", FILES)
    with dulwich.Repo(str(vault)) as repo:
        commit = repo[b"refs/heads/main"]
        names = {entry.path: entry.sha for entry in repo[commit.tree].items()}
        assert {name: repo[names[name]].data for name in FILES} == FILES
    repository = pygit2.Repository(str(vault))
    tree = repository.references["refs/heads/main"].peel().tree
    assert {name: tree[os.fsdecode(name)].data for name in FILES} == FILES


NASTY = [
    "",
    "\n",
    "<>",
    "a <b> c",
    "nul\0nul",
    "line\nline",
    "  ",
    "ünïcödé",
    "\udce9",
    "<",
    ">",
    "x" * 5000,
    "\r\n",
    ".",
]


def test_commits_pass_fsck_whatever_names_and_messages_hold(vault: Path) -> None:
    for n, text in enumerate(NASTY):
        who = Signature(text, text, n - 3, (n - 6) * 200)
        save(vault, "refs/heads/main", {b"n": b"%d" % n}, format_message(text, [("Vault-Tag", text)]), who)
    assert git(vault, "fsck", "--full", "--strict") == b""
    assert out(vault, "rev-list", "--count", "main") == str(len(NASTY))


def test_git_commits_are_decoded_byte_for_byte(vault: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    subprocess.run(["git", "clone", "-q", vault, work], check=True, capture_output=True)

    def run(*arguments: str) -> None:
        subprocess.run(["git", "-C", work, *arguments], check=True, capture_output=True)

    run("commit", "--allow-empty", "-m", "one\n\nbody\n\nSigned-off-by: x <y>", "--author", "Ünï <a@b>")
    run("-c", "i18n.commitEncoding=latin1", "commit", "--allow-empty", "-m", "two")
    run("checkout", "-q", "-b", "side", "HEAD~1")
    run("commit", "--allow-empty", "-m", "three")
    run("merge", "-q", "-m", "merged", "main")
    run("tag", "-m", "a tag", "v1")
    run("push", "-q", "--all")
    run("push", "-q", "--tags")
    with ObjectStore(vault / "objects") as store:
        merged = RefStore(vault, Disk()).read("refs/heads/side")
        assert merged is not None
        assert len(decode_commit(store.read(merged)[1]).parents) == 2
        for line in out(vault, "rev-list", "--all").splitlines():
            kind, data = store.read(ObjectId(bytes.fromhex(line)))
            assert kind == b"commit"
            assert encode_commit(decode_commit(data)) == data
            assert decode_commit(data).tree == EMPTY_TREE
        tag = RefStore(vault, Disk()).read("refs/tags/v1")
        assert tag is not None and store.read(tag)[0] == b"tag"


MESSAGES = [
    "Subject",
    "Key: value",
    "Key: value\n\nOther: thing\n",
    "\nKey: value\n",
    "Subject\n\nKey: value\nKey: value\nB-c : d\n",
    "Subject\n\nbody\nKey: value\n",
    "Subject\n\nbody\nSigned-off-by: me\n",
    "Subject\n\na\nb\nc\nd\nSigned-off-by: me\n",
    "Subject\n\n(cherry picked from commit 123)\nnot a trailer\n",
    "Subject\n\nKey: one\n two\n\tthree\nLast:\n",
    "Subject\n\n continued\nKey: v\n",
    "Subject\n\nKey: v\n\n\n# a comment\n",
    "Subject\n\nKey: v\n# a comment\nOther: w\n",
    "Subject\n\nhttp://example.invalid\n",
    "Subject\n\nno colon\n",
    "Subject\n\n: no key\n",
    "Subject\n\nKey: v \t\n   \n",
    "Subject\nKey: v\n",
    "Subject\n\nBody.\n---\n\nKey: v\n",
]


def test_trailers_are_what_git_reads(vault: Path) -> None:
    rng = random.Random(7)
    lines = ["", "Key: value", "K-2:v", "text", " cont", "# note", "Signed-off-by: a", "x y: z", "\t", ":", "a:\tb "]
    made = ["\n".join(rng.choices(lines, k=rng.randint(1, 7))) + "\n" for _ in range(150)]
    for message in MESSAGES + made:
        command = ["git", f"--git-dir={vault}", "interpret-trailers", "--parse", "--no-divider"]
        shown = subprocess.run(command, input=message.encode(), capture_output=True, check=True).stdout.decode()
        ours = [f"{key}: {value}" for key, value in parse_message(message)[1]]
        assert [line.rstrip() for line in ours] == [line.rstrip() for line in shown.splitlines()], message


def test_refs_are_what_git_sees(vault: Path) -> None:
    refs = RefStore(vault, Disk())
    for name in ("refs/heads/p", "refs/tags/p/one", "refs/vault/meta/p%20q", "refs/notes/vault/x"):
        save(vault, name, {b"name": name.encode()})

    def seen() -> dict[str, str]:
        lines = out(vault, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
        return dict(line.split() for line in lines)

    def ours() -> dict[str, str]:
        return {name: oid.hex() for name, oid in refs.list().items()}

    assert ours() == seen() and len(seen()) == 4
    git(vault, "tag", "-m", "annotated", "v1", "refs/heads/p")
    git(vault, "pack-refs", "--all")
    assert ours() == seen() and len(seen()) == 5
    save(vault, "refs/heads/p", {b"a": b"second"})
    assert out(vault, "rev-list", "--count", "p") == "2"
    refs.delete("refs/tags/p/one")
    refs.delete("refs/tags/v1")
    refs.delete("refs/heads/p")
    assert ours() == seen() and len(seen()) == 2
    # git leaves no empty folders in our way, and we none in git's
    save(vault, "refs/tags/p", {b"a": b"third"})
    git(vault, "update-ref", "-d", "refs/tags/p")
    git(vault, "update-ref", "refs/tags/p/deep/er", ours()["refs/vault/meta/p%20q"])
    assert ours() == seen() and len(seen()) == 3
    refs.set_head("refs/heads/elsewhere")
    assert out(vault, "symbolic-ref", "HEAD") == "refs/heads/elsewhere"


def test_git_and_we_respect_each_others_locks(vault: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Long before a lock counts as one that a killed process left.
    monkeypatch.setattr(refs, "_LOCK_SECONDS", 0.05)
    save(vault, "refs/heads/p", {b"a": b"1"})
    lock = vault / "refs" / "heads" / "p.lock"
    lock.touch()
    with pytest.raises(LockedError):
        save(vault, "refs/heads/p", {b"a": b"2"})
    assert subprocess.run(
        ["git", f"--git-dir={vault}", "update-ref", "-d", "refs/heads/p"], capture_output=True
    ).returncode
    lock.unlink()
    git(vault, "pack-refs", "--all")
    (vault / "packed-refs.lock").touch()
    with pytest.raises(LockedError, match=r"packed-refs\.lock"):
        RefStore(vault, Disk()).delete("refs/heads/p")
    assert RefStore(vault, Disk()).read("refs/heads/p") is not None


def history(seed: int) -> Iterator[dict[bytes, bytes]]:
    rng = random.Random(seed)
    words = [rng.randbytes(3).hex() for _ in range(400)]
    files = {b"f%02d" % n: [" ".join(rng.choices(words, k=8)) for _ in range(120)] for n in range(20)}
    for _ in range(12):
        for name in rng.sample(sorted(files), 4):
            files[name][rng.randrange(100)] = rng.choice(words)
            files[name].insert(rng.randrange(100), rng.choice(words))
        yield {name: "\n".join(lines).encode() for name, lines in files.items()}


def _pair(store: ObjectStore) -> Callable[[ObjectId], tuple[ObjectId, tuple[bytes, bytes]]]:
    return lambda oid: (oid, store.read(oid))


@pytest.mark.parametrize("ofs", ["true", "false"])
def test_packs_with_deltas_made_by_git_are_read_by_many_threads(vault: Path, ofs: str) -> None:
    versions = list(history(3))
    for files in versions:
        save(vault, "refs/heads/main", files)
    with ObjectStore(vault / "objects") as store:
        everything = [
            ObjectId(bytes.fromhex(line.split()[0]))
            for line in out(vault, "rev-list", "--objects", "main").splitlines()
        ]
        before = {oid: (kind, data) for oid, kind, data in store.read_many(everything)}
        git(vault, "-c", f"repack.useDeltaBaseOffset={ofs}", "repack", "-adfq", "--depth=50")
        packs = list((vault / "objects" / "pack").glob("*.idx"))
        assert len(packs) == 1
        deltas = [line.split() for line in out(vault, "verify-pack", "-v", packs[0]).splitlines()]
        assert sum(len(fields) == 7 for fields in deltas) > 40
        assert {oid: (kind, data) for oid, kind, data in store.read_many(everything)} == before
        with ObjectStore(vault / "objects") as fresh, ThreadPoolExecutor(4) as threads:
            for read in threads.map(lambda order: dict(map(_pair(fresh), order)), [everything, everything[::-1]] * 4):
                assert read == before
        # What is mapped can still be read; what was repacked is measured only after another look.
        store.refresh()
        sizes = {fields[0]: int(fields[3]) for fields in deltas if len(fields) in (5, 7) and len(fields[0]) == 40}
        assert {oid.hex(): store.stored_size(oid) for oid in everything} == sizes
        assert {oid: store.size(oid) for oid in everything} == {oid: len(data) for oid, (_, data) in before.items()}
    assert [
        name for name, _, _ in decode_tree(before[ObjectId(bytes.fromhex(out(vault, "rev-parse", "main:folder")))][1])
    ]


def test_loose_objects_and_packs_written_by_git_are_found_while_open(vault: Path) -> None:
    with ObjectStore(vault / "objects") as store:
        for content in (b"first", b"x" * 100_000):
            oid = ObjectId(bytes.fromhex(git(vault, "hash-object", "-w", "--stdin", stdin=content).decode().strip()))
            assert store.read(oid) == (b"blob", content)
            assert store.size(oid) == len(content)
