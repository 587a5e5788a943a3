"""A vault's folder from the outside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gitvault.core.utils import reserve
from gitvault.core.utils.files import Disk
from gitvault.core.utils.layout import LOCK, clear_temporary, disk_usage, is_within, packs


@pytest.mark.parametrize(
    "path, folder, inside",
    [("/a", "/a", True), ("/a/b", "/a", True), ("/ab", "/a", False), ("/a", "/a/b", False), ("/a", "/", True)],
)
def test_what_is_within_a_folder(path: str, folder: str, inside: bool) -> None:
    assert is_within(path.replace("/", os.sep), folder.replace("/", os.sep)) is inside


def test_only_files_in_temporary_folders_are_cleared(tmp_path: Path) -> None:
    for name in ("tmp/half.pack", "chunks/tmp/half.zpk", "tmp/repack-1/HEAD", "chunks/whole.zpk", LOCK):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    clear_temporary(tmp_path, Disk())
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"tmp/repack-1/HEAD", "chunks/whole.zpk", LOCK}


def test_a_vault_takes_what_its_files_take_without_caches_and_reserve(tmp_path: Path) -> None:
    for name in ("chunks/a.zpk", "cache/chunks.db", "chunks/cache/b", reserve.NAME, f"chunks/{reserve.NAME}"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"1234567")
    assert disk_usage(tmp_path) == 3 * 7, "only those of the vault's own top folder are left out"


def test_packs_of_both_kinds_come_newest_first(tmp_path: Path) -> None:
    names = ("chunks/a.zpk", "objects/pack/pack-b.pack", "chunks/c.zpk", "chunks/tmp/d.zpk", "objects/pack/pack-b.idx")
    for number, name in enumerate(names):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (number, number))
    assert [path.name for path in packs(tmp_path)] == ["c.zpk", "pack-b.pack", "a.zpk"]
