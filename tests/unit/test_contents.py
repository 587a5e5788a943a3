"""A snapshot's two trees, written together and read as one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from damage import lose
from trees import write

from gitvault.core.models import Entry, ObjectId, Pointer, Problem
from gitvault.core.versioning import contents, meta
from gitvault.core.versioning.history import NO_OBJECT, GitHistory, raw, tell_lost
from gitvault.core.versioning.objects import MODE_FILE, MODE_TREE
from gitvault.errors import CorruptionError, GitVaultError
from gitvault.vault import Vault

MTIME_NS = 1_700_000_000_000_000_000


@pytest.fixture
def history(tmp_path: Path) -> Iterator[GitHistory]:
    (tmp_path / "objects" / "pack").mkdir(parents=True)
    made = GitHistory(tmp_path)
    yield made
    made.close()


def add(history: GitHistory, files: dict[bytes, bytes]) -> tuple[ObjectId, ObjectId]:
    pack = history.new_pack()
    trees = contents.add_files(pack, files, MTIME_NS)
    made = pack.finish()
    history.publish([made] if made else [])
    return trees


def names_and_sizes(listing: contents.Listing) -> list[tuple[bytes, str, int, int]]:
    return [(entry.path, entry.kind, entry.size, entry.mtime_ns) for entry, _, _ in listing[1]]


def test_files_are_listed_under_their_own_names_with_their_attributes(history: GitHistory) -> None:
    trees = add(history, {b".git": b"three", b"b/a": b"1", b"b/c/d": b""})
    listing = contents.listing(history, *trees)
    assert names_and_sizes(listing) == [(b".git", "file", 5, MTIME_NS), (b"b", "folder", 0, 0)]
    assert listing[0] is not None
    assert (listing[0].mode, listing[0].mtime_ns) == (0o755, MTIME_NS)
    folder, _, below = listing[1][1]
    assert names_and_sizes(contents.listing(history, folder.blob, below)) == [
        (b"a", "file", 1, MTIME_NS),
        (b"c", "folder", 0, 0),
    ]


def test_a_tree_of_another_tool_is_listed_by_what_git_knows(history: GitHistory) -> None:
    tree, _ = add(history, {b"run": b"four"})
    blob = history.tree(tree)[b"run"][1]
    assert contents.listing(history, tree, None) == (None, [(Entry(b"run", "file", 0o644, 4, 0, blob), None, None)])


def test_a_lost_meta_tree_is_told_and_the_files_are_listed(history: GitHistory) -> None:
    tree, _ = add(history, {b"run": b"four"})
    lost = history.tree(tree)[b"run"][1]  # a blob where a tree should be
    with pytest.raises(CorruptionError, match="begins with 'four'"):
        contents.listing(history, tree, lost)
    told: list[Problem] = []
    assert names_and_sizes(contents.listing(history, tree, lost, told.append, b"art")) == [(b"run", "file", 4, 0)]
    assert [problem.path for problem in told] == [b"art"]
    assert told[0].reason.startswith("attributes lost: ") and "begins with 'four'" in told[0].reason


def test_who_does_not_listen_to_what_is_lost_is_stopped() -> None:
    error = CorruptionError("spoilt")
    with pytest.raises(CorruptionError, match="spoilt"):
        tell_lost(None, b"art", error)
    told: list[Problem] = []
    tell_lost(told.append, b"art", error)
    assert told == [Problem(b"art", "attributes lost: spoilt")]


def test_a_folder_without_files_is_in_the_meta_chain_only(history: GitHistory) -> None:
    pack = history.new_pack()
    own = pack.add(b"blob", meta.encode(0o700, MTIME_NS, (0, 0), []))
    empty = pack.add(b"tree", b"100644 %00meta\0" + own)
    above = pack.add(b"tree", b"100644 %00meta\0" + own + b"40000 hollow\0" + empty + b"100644 void\0" + own)
    made = pack.finish()
    assert made
    history.publish([made])
    found = contents.listing(history, NO_OBJECT, above)[1]
    assert found == [
        (Entry(b"hollow", "folder", 0o755, 0, 0, NO_OBJECT), None, empty),
        (Entry(b"void", "folder", 0o755, 0, 0, NO_OBJECT), None, own),
    ]
    for alone in (empty, own):
        said, inside = contents.listing(history, NO_OBJECT, alone)
        assert said and said.mode == 0o700 and not inside


def test_only_the_root_is_a_tree_for_its_attributes_alone(history: GitHistory) -> None:
    _, root = add(history, {b"top": b"", b"a/one": b"1", b"a/b/two": b"22"})
    assert set(history.tree(root)) == {meta.META_NAME, b"a"}
    assert history.tree(root)[b"a"][0] == MODE_TREE
    inner = history.tree(history.tree(root)[b"a"][1])
    assert inner[b"b"][0] == MODE_FILE
    assert set(meta.decode(history.blob(inner[b"b"][1]))[1]) == {b"two"}
    assert set(history.tree(add(history, {b"top": b""})[1])) == {meta.META_NAME}
    pack = history.new_pack()
    blob = pack.add(b"blob", b"")
    assert contents.add_meta_tree(pack, blob, [], top=False) == blob
    assert contents.add_meta_tree(pack, blob, [], top=True) != blob
    pack.abandon()


def test_a_commit_is_no_folders_attributes(history: GitHistory) -> None:
    snapshot = history.create_version("acme", {b"a": b""})
    with pytest.raises(CorruptionError, match="expected a folder's attributes, found a commit"):
        contents.mirror(history, raw(snapshot))


def test_no_files_make_gits_empty_tree(history: GitHistory) -> None:
    assert add(history, {})[0].hex() == "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


@pytest.mark.parametrize("files", [{b"../a": b""}, {b"/a": b""}, {b"a\0": b""}, {b"a": b"", b"a/b": b""}])
def test_what_is_no_path_below_a_project_is_refused(history: GitHistory, files: dict[bytes, bytes]) -> None:
    with pytest.raises(GitVaultError, match=r"not a path below a project|a file and a folder of one name"):
        add(history, files)


def test_an_outline_has_what_the_entries_have(vault: Vault, tmp_path: Path) -> None:
    files: dict[str | bytes, bytes | str] = {
        f"{a}/{b}/{c}.txt": f"{a}{b}{c}" for a in "xyz" for b in ".a" for c in "12"
    }
    files |= {"top": "1", "x/large.bin": bytes(range(256)) * 400, ".git/odd": "escaped", "y/link": "../top"}
    root = write(tmp_path / "acme", files)
    (root / "z/empty").mkdir()
    snapshot = vault.create_snapshot(root).snapshot
    small: dict[bytes, ObjectId] = {}
    large: dict[bytes, Pointer] = {}
    order = []
    for folder, blobs, pointers in contents.outline(vault.history, snapshot, lambda path: path != b"z/a"):
        order.append(folder)
        prefix = folder + b"/" if folder else b""
        small |= {prefix + name: blob for name, blob in blobs}
        large |= {prefix + name: pointer for name, pointer in pointers}
    entries = [entry for entry in vault.entries(snapshot, recursive=True) if not entry.path.startswith(b"z/a")]
    assert small == {e.path: e.blob for e in entries if e.kind != "folder" and not e.pointer}
    assert large == {e.path: e.pointer for e in entries if e.pointer} and len(large) == 1
    assert all(order.index(path.rpartition(b"/")[0]) < number for number, path in enumerate(order) if path)


def test_an_outline_is_given_as_far_as_there_is_one(vault: Vault, tmp_path: Path) -> None:
    root = write(tmp_path / "acme", {"a/one": "1", "b/two": "2", "large.bin": bytes(range(256)) * 400})
    snapshot = vault.create_snapshot(root).snapshot
    found = {entry.path: entry for entry in vault.entries(snapshot, recursive=True)}
    meta_tree = vault.history.trees(snapshot)[1]
    assert meta_tree
    own = contents.mirror(vault.history, meta_tree)[0]
    assert own
    lose(vault, found[b"a"].blob, own)
    outline = {folder: (small, large) for folder, small, large in contents.outline(vault.history, snapshot, bool)}
    # Where the attributes are lost, git's own blob says that it is a pointer.
    pointer = found[b"large.bin"].pointer
    assert outline == {
        b"": ([], [(b"large.bin", pointer)]),
        b"a": ([], []),
        b"b": ([(b"two", found[b"b/two"].blob)], []),
    }
