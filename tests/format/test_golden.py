"""A vault made by the first release of format version 1 is read by this one, byte for byte.

`fixtures/golden.git` and `golden.json` are never made again. A failure here means that vaults which people
have can no longer be read.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gitvault import Filter, Vault
from gitvault.core.utils.attributes import read_xattrs
from gitvault.core.utils.names import from_text

FIXTURES = Path(__file__).parents[2] / "fixtures"
EXPECTED: dict[str, Any] = json.loads((FIXTURES / "golden.json").read_bytes())
# Names that only file systems of Linux can hold.
ODD = "odd"


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """A copy, without the empty folders, caches and permissions that a checkout does not bring."""
    return Path(shutil.copytree(FIXTURES / "golden.git", tmp_path / "golden.git"))


def found(folder: Path) -> dict[bytes, list[Any]]:
    """As `describe` of make_golden.py saw the project: kind, mode, mtime, hash or link target."""
    sys.path.insert(0, str(FIXTURES))
    try:
        from make_golden import describe  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(FIXTURES))
    return {from_text(path): entry for path, entry in describe(folder).items()}


@pytest.mark.parametrize("snapshot", EXPECTED)
def test_every_snapshot_comes_back(golden: Path, tmp_path: Path, snapshot: str) -> None:
    linux = sys.platform == "linux"
    with Vault.open(golden) as vault:
        report = vault.restore_snapshot(snapshot, tmp_path / "out", excluded_paths=() if linux else (ODD,))
    assert report.problems == ()
    expected = {from_text(path): entry for path, entry in EXPECTED[snapshot]["entries"].items()}
    if not linux:
        expected = {path: entry for path, entry in expected.items() if path.split(b"/")[0] != ODD.encode()}
    there = found(tmp_path / "out")
    if sys.platform == "win32":
        # Windows has no such modes and times of its own for links.
        there = {path: [entry[0], entry[3]] for path, entry in there.items()}
        expected = {path: [entry[0], entry[3]] for path, entry in expected.items()}
    elif not linux:
        there = {path: entry for path, entry in there.items() if entry[0] != "symlink"}
        expected = {path: entry for path, entry in expected.items() if entry[0] != "symlink"}
    assert there == expected


def test_hard_links_holes_and_attributes_come_back(golden: Path, tmp_path: Path) -> None:
    with Vault.open(golden) as vault:
        vault.restore_snapshot("golden", tmp_path / "out", paths=["art", "README.md"])
    art = tmp_path / "out" / "art"
    assert art.joinpath("noise.dat").samefile(art / "noise-again.dat")
    if sys.platform == "linux":
        assert art.joinpath("sparse.img").stat().st_blocks * 512 < 100_000
        assert read_xattrs(os.fspath(tmp_path / "out" / "README.md")) == {"user.origin": b"golden\0\xff"}


def test_what_is_said_about_each_snapshot(golden: Path) -> None:
    with Vault.open(golden) as vault:
        snapshots = {snapshot.id: snapshot for snapshot in vault.list_snapshots()}
        assert {s: (EXPECTED[s]["project"], EXPECTED[s]["message"]) for s in EXPECTED} == {
            s.id: (s.project, s.message) for s in snapshots.values()
        }
        oldest, middle, newest = reversed(vault.list_snapshots(Filter(project="golden")))
        assert [project.name for project in vault.projects()] == ["Caf\u00e9 / 2.lock", "golden"]
    assert oldest.tags == ("alpha", "50 %")
    assert (middle.metadata, middle.trigger) == ({"client": "ACME = us", "build": "412"}, "scheduled")
    assert (newest.restored_from, newest.host) == (oldest.id, "golden machine")


def test_it_is_sound_to_us_and_to_git(golden: Path) -> None:
    with Vault.open(golden) as vault:
        report = vault.verify(data=True)
    assert report.defects == ()
    git = ["git", f"--git-dir={golden}"]
    done = subprocess.run([*git, "fsck", "--full", "--strict"], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


def test_it_can_be_continued(golden: Path, tmp_path: Path) -> None:
    """The next snapshot stands on what is there: nothing that is known is stored again."""
    with Vault.open(golden) as vault:
        vault.restore_snapshot("golden", tmp_path / "golden", excluded_paths=[ODD])
        hero = tmp_path / "golden" / "art" / "hero.tga"
        hero.write_bytes(hero.read_bytes() + b"one more stroke")
        os.utime(hero, (1_800_000_000, 1_800_000_000))
        report = vault.create_snapshot(tmp_path / "golden", project="golden")
        assert report.problems == ()
        assert report.bytes_stored < 20_000
        vault.restore_snapshot(report.snapshot, tmp_path / "again", paths=["art/hero.tga"])
        assert vault.verify(data=True).ok
    assert (tmp_path / "again" / "art" / "hero.tga").read_bytes() == hero.read_bytes()
