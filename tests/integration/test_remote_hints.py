"""A file that was edited in many pushes, out of a vault with a large index."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from away import Counted, edit, fill, made, pushed, quiet, remote_of, told_of

from gitvault import config
from gitvault.core.models import ObjectId
from gitvault.errors import CorruptionError, GitVaultError
from gitvault.remotes import index, partial, push
from gitvault.remotes.index import Part, Row


def edited_often(tmp_path: Path, place: Counted, pushes: int = 12) -> Path:
    """A file edited elsewhere in each push; its path."""
    work = tmp_path / "work"
    with made(tmp_path / "one.git", "desk") as vault:
        config.set(vault.path, "vault.inlineLimit", "100")
        fill(work, 1, 300_000)
        rows = random.Random(3)
        for number in range(pushes):
            edit(work, number * 300_000 // pushes, b"edit %d" % number + rows.randbytes(300))
            vault.create_snapshot(work)
            pushed(vault, place)
    return work / "large.bin"


def taken(place: Counted, target: Path) -> Counter[str]:
    """The requests of a restore of that file."""
    place.requests.clear()
    report = partial.restore(
        remote_of(None, place), told_of(), "work", str(target), paths=[b"large.bin"], progress=quiet
    )
    assert not report.problems
    return Counter(place.requests)


def test_its_row_says_where_all_of_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As in a large vault: pieces of a few rows each.
    monkeypatch.setattr(index, "_PIECE", 400)
    counts = {}
    for hints in (True, False):
        monkeypatch.setattr(push, "_HINTS_FROM", 10 if hints else 1 << 60)
        base = tmp_path / str(hints)
        place = Counted(base / "place")
        base.mkdir()
        file = edited_often(base, place)
        counts[hints] = taken(place, base / "out")["get"]
        assert (base / "out" / "large.bin").read_bytes() == file.read_bytes()
    assert counts[True] < counts[False] - 20


def test_what_moved_since_is_found_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "_HINTS_FROM", 10)
    place = Counted(tmp_path / "place")
    file = edited_often(tmp_path, place, 8)
    wrong: list[str] = []

    def elsewhere(row: Row) -> dict[str, Row]:
        found = hints(row)
        wrong.extend(found)
        return {one: Row("c", Part(f"chunks/{'0' * 64}.zpk", 0), row.words) for one, row in found.items()}

    hints = Row.hints
    monkeypatch.setattr(Row, "hints", elsewhere)
    taken(place, tmp_path / "out")
    assert wrong
    assert (tmp_path / "out" / "large.bin").read_bytes() == file.read_bytes()


def test_hints_are_read_as_they_were_noted() -> None:
    pack, chunk, base = "a" * 64, "b" * 64, "c" * 64
    part = Part(f"chunks/{pack}.zpk", 0)
    row = index.row_of(f"c 0 10 20 30 40 50 {base}", [part])
    noted = row.hint(chunk)
    file = index.row_of(f"m 0 {base} {noted} a:b {noted[1:]}", [part])
    assert [one.hex() for one in file.manifest()] == [base]
    assert file.hints() == {chunk: row}


def test_a_file_that_cannot_be_read_here_is_pushed_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "_HINTS_FROM", 0)
    place = Counted(tmp_path / "place")
    with made(tmp_path / "one.git", "desk") as vault:
        fill(tmp_path / "work", 1)
        vault.create_snapshot(tmp_path / "work")

        def damaged(content: bytes, oid: str) -> None:
            raise CorruptionError("damaged")

        def commit(running: push._Push, refs: Mapping[str, ObjectId]) -> None:
            with monkeypatch.context() as patched:
                patched.setattr(push.manifests, "decode", damaged)
                sound(running, refs)

        sound = push._Push._commit
        monkeypatch.setattr(push._Push, "_commit", commit)
        assert pushed(vault, place).snapshots == 1
    assert taken(place, tmp_path / "out")["get"]
    with pytest.raises(GitVaultError, match="no vault there"):
        partial.restore(remote_of(None, Counted(tmp_path / "none")), "", "work", str(tmp_path / "x"), progress=quiet)
