"""Parts of hg and svn checkouts in mode protect that need no client to be shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gitvault.core.backup_engine.trees import Walked
from gitvault.core.utils import layout
from gitvault.core.utils.files import Disk
from gitvault.core.versioning import index
from gitvault.core.versioning.indexed import Indexes
from gitvault.core.versioning.objects import object_id
from gitvault.personas.code.search import foreign
from gitvault.personas.code.search.model import CONVERTED, SVN, Source
from gitvault.vcs import hg, lean, remotes
from gitvault.vcs.carried import Left
from gitvault.vcs.protect.worktree import WorkTree
from gitvault.vcs.servers import Server


def entry(path: bytes, text: bytes, mode: int = index.MODE_FILE) -> index.IndexEntry:
    return index.IndexEntry(path, mode, object_id(b"blob", text), len(text), 0, 0)


def test_a_work_tree_is_held_against_its_base_by_bytes(tmp_path: Path) -> None:
    entries = [entry(b"a", b"one"), entry(b"gone/x", b"x"), entry(b"run", b"#!", index.MODE_EXECUTABLE)]
    walked = WorkTree(str(tmp_path), b"", Indexes(tmp_path / "cache").made("x", index.encode(entries)))
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "run").write_bytes(b"#!")
    (tmp_path / "gone").write_bytes(b"a file now")
    os.utime(tmp_path / "a", (1, 1))
    os.utime(tmp_path / "run", (1, 1))
    walked.visited(b"")
    for name in (b"a", b"run", b"gone"):
        walked.present(b"", name)
    assert walked.is_base(b"", b"a")[0] and not walked.is_base(b"", b"run")[0], "it is not executable"
    assert walked.is_base(b"", b"unknown") == (False, False)
    assert walked.deleted(Walked(), None) == (b"gone/x",)
    (tmp_path / "a").write_bytes(b"two")
    assert walked.is_base(b"", b"a") == (False, False)


def test_a_base_with_strange_paths_does_not_spoil_the_record(tmp_path: Path) -> None:
    names = (b"../evil", b"a/../b", b"a//b", b"./c", b"good", b"..good", b"a/.good")
    data = index.encode([entry(path, b"x") for path in sorted(names)])
    walked = WorkTree(str(tmp_path), b"", Indexes(tmp_path / "cache").made("x", data))
    walked.visited(b"")
    assert walked.deleted(Walked(), None) == (b"..good", b"a/.good", b"good")


def test_what_is_left_out_of_a_folder() -> None:
    nothing, some, rest = Left(), Left(frozenset((b"a",))), Left(frozenset((b"a",)), all_but=True)
    assert [left.omits(b"a") for left in (nothing, some, rest)] == [False, True, False]
    assert [left.omits(b"b") for left in (nothing, some, rest)] == [False, False, True]
    assert len({left.digest for left in (nothing, some, rest)}) == 3 and nothing.digest == b""


def test_a_record_without_a_base_relies_on_nobody() -> None:
    record = lean.Record("hg", "", "/home/x", full="it has no default path")
    assert not lean.Attached(record, {lean.RECORD: object_id(b"blob", b"")}).has_base
    with_base = lean.Attached(record, {b"index.000": object_id(b"blob", b"")})
    assert with_base.has_base and {lean.BUNDLE, lean.TEXTS} == {b"local.hg", b"texts"}


def test_versions_of_other_version_control_have_names_of_their_own(tmp_path: Path) -> None:
    folder = foreign.folder_of(tmp_path, tmp_path / "work")
    assert folder.parent == tmp_path / layout.HISTORIES and folder.name.endswith(CONVERTED)
    assert Source("x", folder).names_versions and not Source("x", tmp_path).names_versions
    assert Source("x", tmp_path, "refs/heads/x").names_versions and len(SVN) == 12
    assert not foreign.is_read(folder) and foreign.commit_of(folder, "r1") == ""
    one = foreign.Revision("r1", (), "me", 0, "subject")
    assert one.changed == {}


def test_what_a_purge_clears_holds_nothing_of_other_histories(tmp_path: Path) -> None:
    (tmp_path / layout.SEARCH).mkdir(parents=True)
    (tmp_path / layout.HISTORIES / "x" / "objects").mkdir(parents=True)
    (tmp_path / layout.HISTORIES / "x" / "objects" / "pack").write_bytes(b"secret")
    layout.clear_search(tmp_path, Disk())
    assert not (tmp_path / layout.HISTORIES).exists() and (tmp_path / layout.SEARCH).is_dir()


def test_where_an_hg_checkout_comes_from_is_read_from_its_own_files(tmp_path: Path) -> None:
    (tmp_path / "work" / ".hg").mkdir(parents=True)
    (tmp_path / "work" / ".hg" / "sharedpath").write_text(f"{tmp_path}/other/.hg\n")
    assert hg.shared_of(tmp_path / "work") == tmp_path / "other" / ".hg"
    assert "public()" in hg.BUILT_ON
    assert Server(tmp_path, "hg", "../x").place() == tmp_path / "../x" and Server(tmp_path, "hg", "").place() is None
    assert Server(tmp_path, "svn", "file:///a%20b").place() == Path("/a b")
    assert Server(tmp_path, "svn", "svn://host/x").place() is None


@pytest.mark.parametrize("said", ["E170001: Authorization failed", "HTTP Error 403: forbidden", "Permission denied"])
def test_a_refusal_is_told_from_silence(said: str) -> None:
    assert remotes.REFUSED.search(said) and not remotes.REFUSED.search("Connection timed out")
