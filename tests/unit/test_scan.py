"""Walking a project and the cache behind it."""

from __future__ import annotations

import gc
import os
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from trees import write

from gitvault.core.interfaces import Rules, Scope
from gitvault.core.models import Problem
from gitvault.core.patterns import Patterns
from gitvault.core.scan import (
    Folder,
    Same,
    collection_paused,
    scopes,
    walk,
)
from gitvault.core.stat_cache import (
    RACY_COARSE_NS,
    RACY_NS,
    CacheDamaged,
    Caches,
    Known,
    Row,
    Stat,
    StatCache,
    join_packed,
    pack_entries,
    pack_known,
    racy_ns,
    stat_of,
)
from gitvault.core.utils.files import Disk

NO_ROWS: dict[bytes, Row] = {}


def looked(root: Path, rows: dict[bytes, Row] = NO_ROWS, rules: Patterns | None = None) -> list[Same | Folder]:
    problems: list[Problem] = []
    found = list(walk(root, rows, rules or Patterns(), problems, []))
    assert problems == []
    return found


class Deciding:
    """Rules that leave out what they are told, and remember what they were asked for."""

    def __init__(self, omitted: dict[bytes, str]) -> None:
        self.omitted = omitted
        self.entered: list[tuple[bytes, Sequence[str], bytes]] = []

    def marks(self, names: Iterable[str]) -> Sequence[str]:
        return sorted(name for name in names if name.startswith("mark"))

    def scope(self, path: bytes, marks: Sequence[str], outer: Scope | None) -> Scope:
        self.entered.append((path, marks, outer.digest if outer else b""))
        return Deciding.Inside(self, path)

    @dataclass
    class Inside:
        rules: Deciding
        digest: bytes

        def omits(self, name: bytes, is_folder: bool) -> str:
            return self.rules.omitted.get(self.digest + b"/" + name, "")


def row_of(folder: Same | Folder) -> Row:
    assert isinstance(folder, Folder)
    return Row(folder.signature, folder.scope, b"t" * 20, b"m" * 20, b"b" * 20, len(folder.entries), 0)


# -- the walk ------------------------------------------------------------------------------------


def test_every_folder_once_parents_first_entries_sorted(tmp_path: Path) -> None:
    write(tmp_path, {"b": b"", "a": b"", "z/x/y": b"", "c/d": b"", "link": "z"})
    found = looked(tmp_path)
    assert [f.path for f in found] == [b"", b"c", b"z", b"z/x"]
    assert isinstance(found[0], Folder)
    assert [name for name, _ in found[0].entries] == [b"a", b"b", b"link"]
    assert found[0].folders == [b"c", b"z"]


def test_a_folder_is_the_same_until_anything_in_it_changes(tmp_path: Path) -> None:
    write(tmp_path, {"a": b"1", "sub/b": b"2"})
    rows = {f.path: row_of(f) for f in looked(tmp_path)}
    assert all(isinstance(f, Same) for f in looked(tmp_path, rows))
    for change in (
        lambda: os.chmod(tmp_path / "sub/b", 0o600),
        lambda: write(tmp_path, {"sub/b": b"3"}),
        lambda: os.utime(tmp_path / "sub/b", ns=(0, 0)),
        lambda: write(tmp_path, {"sub/c": b""}),
        lambda: os.rename(tmp_path / "sub/c", tmp_path / "sub/d"),
        lambda: (tmp_path / "sub/d").unlink(),
        lambda: (tmp_path / "sub/new").mkdir(),
        lambda: os.chmod(tmp_path / "sub", 0o700),
        lambda: os.setxattr(tmp_path / "sub", "user.x", b"y"),
    ):
        change()
        found = {f.path: f for f in looked(tmp_path, rows)}
        assert isinstance(found[b"sub"], Folder), change
        assert isinstance(found[b""], Same), "the folder above has its own row"
        rows = {path: row_of(f) if isinstance(f, Folder) else f.row for path, f in found.items()}


def test_other_rules_look_at_everything_again(tmp_path: Path) -> None:
    write(tmp_path, {"a": b"", "b.tmp": b""})
    rows = {f.path: row_of(f) for f in looked(tmp_path)}
    [found] = looked(tmp_path, rows, Patterns(["*.tmp"]))
    assert isinstance(found, Folder)
    assert [name for name, _ in found.entries] == [b"a"]


def test_a_root_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        looked(tmp_path / "missing")
    write(tmp_path, {"file": b""})
    with pytest.raises(NotADirectoryError):
        looked(tmp_path / "file")


def test_a_special_file_is_a_problem_each_time(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for _ in range(2):
        problems: list[Problem] = []
        [found] = walk(tmp_path, {}, Patterns(), problems, [])
        assert isinstance(found, Folder)
        assert (found.signature, problems) == (b"", [Problem(b"pipe", "not saved: a FIFO")])


# -- rules ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "kept"),
    [
        ([], {"a.o", "b/a.o", "b/keep.o", "build/x", "c/build/y", "doc/a.txt"}),
        (["*.o"], {"build/x", "c/build/y", "doc/a.txt"}),
        (["*.o", "!keep.o"], {"b/keep.o", "build/x", "c/build/y", "doc/a.txt"}),
        (["/build/"], {"a.o", "b/a.o", "b/keep.o", "c/build/y", "doc/a.txt"}),
        (["build/"], {"a.o", "b/a.o", "b/keep.o", "doc/a.txt"}),
        (["b/*.o", "doc"], {"a.o", "build/x", "c/build/y"}),
        (["**/a.*"], {"b/keep.o", "build/x", "c/build/y"}),
    ],
)
def test_ignore_patterns_mean_what_they_mean_to_git(patterns: list[str], kept: set[str], tmp_path: Path) -> None:
    write(tmp_path, {n: b"" for n in ("a.o", "b/a.o", "b/keep.o", "build/x", "c/build/y", "doc/a.txt")})
    found = {
        (f.path + b"/" + name if f.path else name).decode()
        for f in looked(tmp_path, rules=Patterns(patterns))
        if isinstance(f, Folder)
        for name, _ in f.entries
    }
    assert found == kept


def test_the_vault_itself_is_left_out_and_noted(tmp_path: Path) -> None:
    write(tmp_path, {"a": b"", "sub/vault.git/config": b""})
    notes: list[str] = []
    found = list(walk(tmp_path, {}, Patterns(), [], notes, vault=tmp_path / "sub/vault.git"))
    assert [f.path for f in found] == [b"", b"sub"]
    assert notes == [f"{tmp_path}/sub/vault.git is the vault itself and is left out"]


# -- trust in times ------------------------------------------------------------------------------


def test_a_fresh_file_is_not_trusted_yet(tmp_path: Path) -> None:
    write(tmp_path, {"f": b""})
    st = os.stat(tmp_path / "f")
    written = st.st_ctime_ns
    window = RACY_NS if written % 10**9 else RACY_COARSE_NS
    assert racy_ns(st, written) == window
    assert racy_ns(st, written + 1000) == window - 1000
    assert racy_ns(st, written + window) == 0
    assert racy_ns(st, written - 10**12) == window, "a server's clock ahead of ours"


# -- the cache -----------------------------------------------------------------------------------

KNOWN = Known(Stat(0o100644, 3, 1, 2, 4), 0o100644, b"a", b"\1" * 20, 7)


def filled(file: Path) -> StatCache:
    cache = StatCache(file)
    entries = {b"a": KNOWN, b".git": KNOWN._replace(tree_name=b"%2Egit")}
    row = Row(b"s" * 20, b"r" * 20, b"t" * 20, b"m" * 20, b"b" * 20, 2, 6)
    one_by_one = join_packed(len(entries), [pack_known(name, known) for name, known in entries.items()])
    assert one_by_one == pack_entries(entries)
    cache.replace({"snapshot": b"x"}, [(b"", row, pack_entries(entries)), (b"sub", row, b"\x90")], (), (), (7, "id7"))
    return cache


def test_what_is_put_in_is_found(tmp_path: Path) -> None:
    filled(tmp_path / "c.db").close()
    cache = StatCache(tmp_path / "c.db")
    assert cache.about() == {"snapshot": b"x"}
    assert cache.rows().keys() == {b"", b"sub"}
    assert cache.row(b"") == Row(b"s" * 20, b"r" * 20, b"t" * 20, b"m" * 20, b"b" * 20, 2, 6)
    assert cache.entries(b"") == {b"a": KNOWN, b".git": KNOWN._replace(tree_name=b"%2Egit")}
    assert (cache.row(b"none"), cache.entries(b"none")) == (None, {})
    assert (cache.version(7), cache.version(8)) == ("id7", None)
    cache.replace({"snapshot": b"y"}, (), [(b"", b"T" * 20, b"M" * 20)], [b"sub"])
    row = cache.row(b"")
    assert row and (row.tree, row.meta, row.signature) == (b"T" * 20, b"M" * 20, b"s" * 20)
    assert cache.row(b"sub") is None
    cache.clear()
    assert (cache.about(), cache.rows(), cache.version(7)) == ({}, {}, None)
    cache.close()


def test_a_replacement_happens_whole_or_not_at_all(tmp_path: Path) -> None:
    cache = filled(tmp_path / "c.db")

    def broken() -> object:
        yield b"new", Row(b"", b"", b"", b"", b"", 0, 0), b""
        raise OSError("the vault's disk")

    with pytest.raises(OSError, match="the vault's disk"):
        cache.replace({"snapshot": b"y"}, broken(), (), [b""])  # type: ignore[arg-type]
    assert cache.about() == {"snapshot": b"x"}
    assert cache.rows().keys() == {b"", b"sub"}
    cache.close()


@pytest.mark.parametrize("damage", [b"", b"no database", b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_cache_is_as_good_as_none(damage: bytes, tmp_path: Path) -> None:
    filled(tmp_path / "c.db").close()
    (tmp_path / "c.db").write_bytes(damage)
    cache = StatCache(tmp_path / "c.db")
    assert (cache.about(), cache.rows()) == ({}, {})
    cache.replace({"snapshot": b"z"}, (), (), ())
    assert cache.about() == {"snapshot": b"z"}
    cache.close()


def test_damage_that_shows_later_is_named_and_forgotten(tmp_path: Path) -> None:
    for place in ("entries=X'80'", "entries=X'93c0c0c0'", "path='text'", "tree=NULL, entries=substr(entries,2)"):
        file = tmp_path / "c.db"
        filled(file).close()
        with sqlite3.connect(file) as db:
            db.execute(f"UPDATE folder SET {place} WHERE path=X''")
            db.execute("UPDATE about SET value='x'")
        db.close()
        cache = StatCache(file)
        if place.startswith("path"):
            assert cache.entries(b"") == {}
        else:
            with pytest.raises(CacheDamaged):
                cache.entries(b"")
        cache.forget()
        assert (cache.about(), cache.rows(), cache.entries(b"")) == ({}, {}, {})
        cache.replace({"snapshot": b"z"}, (), (), ())
        cache.close()
        file.unlink()


def test_work_with_a_damaged_cache_is_done_again_without_what_it_said(tmp_path: Path) -> None:
    cache = filled(tmp_path / "c.db")
    seen: list[dict[bytes, Row]] = []

    def work() -> str:
        seen.append(cache.rows())
        if len(seen) == 1:
            raise CacheDamaged("database disk image is malformed")
        return "done"

    assert cache.use(work) == "done"
    assert [len(rows) > 0 for rows in seen] == [True, False]
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        cache.replace({}, (), (), ())


def test_each_project_has_a_cache_of_its_own_that_can_be_removed(tmp_path: Path) -> None:
    caches = Caches(tmp_path / "cache", Disk())
    for name in ("acme", "a/b", "ACME 2"):
        cache = caches.open(name)
        cache.replace({"snapshot": name.encode()}, (), (), ())
        cache.close()
    caches.remove("acme")
    caches.remove("never there")
    for name, about in (("acme", {}), ("a/b", {"snapshot": b"a/b"}), ("ACME 2", {"snapshot": b"ACME 2"})):
        cache = caches.open(name)
        assert cache.about() == about
        cache.close()


def test_pages_that_are_damaged(tmp_path: Path) -> None:
    """Every page of a larger file in turn: entries are what was put in, or there is CacheDamaged, or nothing."""
    file = tmp_path / "c.db"
    cache = StatCache(file)
    row = Row(b"s" * 20, b"r" * 20, b"t" * 20, b"m" * 20, b"b" * 20, 1, 3)
    paths = [b"folder%03d" % number for number in range(200)]
    cache.replace({"number": b"1"}, [(path, row, pack_entries({b"a": KNOWN})) for path in paths], (), (), (1, "id"))
    cache.close()
    whole = file.read_bytes()
    damaged = written = 0
    for at in range(0, len(whole), 4096):
        file.write_bytes(whole[:at] + b"\xc7" * 300 + whole[at + 300 :])
        cache = StatCache(file)
        try:
            cache.about()
            cache.version(1)
            cache.row(paths[0])
            cache.rows()
            assert all(cache.entries(path) in ({}, {b"a": KNOWN}) for path in paths)
            cache.replace({}, [(paths[0], row, pack_entries({}))], [(path, b"", b"") for path in paths], paths[1:2])
            cache.clear()
        except CacheDamaged:
            damaged += 1
            cache.forget()
            assert cache.rows() == {}
        cache.close()
        file.write_bytes(whole[:at] + b"\xc7" * 300 + whole[at + 300 :])
        cache = StatCache(file)
        try:
            cache.replace({}, [(path, row, pack_entries({})) for path in paths], (), ())
        except CacheDamaged:
            written += 1
        cache.close()
    assert damaged > 1
    assert written > 1


def test_a_foreign_database_is_as_good_as_none(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "c.db") as db:
        db.execute("CREATE TABLE about(other INT)")
    db.close()
    cache = StatCache(tmp_path / "c.db")
    assert cache.about() == {}
    cache.close()


def test_a_place_that_cannot_be_written_needs_no_cache(tmp_path: Path) -> None:
    cache = StatCache(tmp_path / "missing" / "c.db")
    cache.replace({"snapshot": b"x"}, (), (), ())
    assert cache.about() == {"snapshot": b"x"}
    cache.close()


def test_rules_are_asked_for_each_folder_that_is_entered(tmp_path: Path) -> None:
    write(tmp_path, {"mark1": b"", "a/x": b"", "a/y": b"", "b/z": b"", "a/b/mark2": b""})
    deciding = Deciding({b"/b": "said so", b"a/x": "too"})
    rules: Rules = deciding
    found = {f.path: f for f in walk(tmp_path, {}, rules, [], [])}
    assert deciding.entered == [(b"", ["mark1"], b""), (b"a", [], b""), (b"a/b", ["mark2"], b"a")]
    inner = found[b"a"]
    assert isinstance(inner, Folder)
    assert [name for name, _ in inner.entries] == [b"y"]
    assert (inner.scope, found.keys()) == (b"a", {b"", b"a", b"a/b"})


def test_what_tells_files_apart(tmp_path: Path) -> None:
    write(tmp_path, {"a": b"1", "b": b"1"})
    assert stat_of(os.stat(tmp_path / "a")) != stat_of(os.stat(tmp_path / "b"))


def test_the_rule_that_leaves_something_out_is_named() -> None:
    rules = Patterns(["*.o", "build/"])
    assert rules.excluded_by(b"a/b.o", False) == "*.o"
    assert rules.excluded_by(b"x/build", True) == "build/"
    assert rules.excluded_by(b"build", False) is None
    assert rules.digest == Patterns(["*.o", "build/"]).digest != Patterns(["*.o"]).digest
    [_, (scope, name)] = scopes(Path("missing"), rules, b"x/build")
    assert (name, scope.omits(name, True)) == (b"build", "left out by vault.ignore = build/")


def test_the_search_for_garbage_goes_on_as_it_was() -> None:
    gc.enable()
    with pytest.raises(KeyError), collection_paused():
        assert not gc.isenabled()
        with collection_paused():
            pass
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()


def test_other_snapshots_take_the_place_of_those_that_are_gone(tmp_path: Path) -> None:
    cache = StatCache(tmp_path / "c.db")
    for number in range(1, 4):
        cache.replace({}, (), (), (), (number, f"s{number}"))
    cache.replace_versions({"s1": "s3", "s2": "s3", "nowhere": "x"})
    assert [cache.version(number) for number in range(1, 5)] == ["s3", "s3", "s3", None]
    cache.close()
