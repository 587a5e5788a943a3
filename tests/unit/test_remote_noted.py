"""Names that are remembered of a remote."""

from __future__ import annotations

from pathlib import Path

from gitvault.core.utils.files import Disk
from gitvault.remotes.noted import read_names, write_names


def test_names_come_back_and_what_cannot_be_read_is_none(tmp_path: Path) -> None:
    path = tmp_path / "remotes" / "origin.read"
    assert read_names(path) == set()
    write_names(path, ["b", "a", "b"], Disk())
    assert read_names(path) == {"a", "b"}
    assert path.read_text() == "a\nb\n"
