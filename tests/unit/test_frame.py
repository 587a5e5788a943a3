"""Making a vault: what is in it from the start, and the folder it may be made in."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from gitvault.core.backup_engine.frame import constant_files, make_frame
from gitvault.core.utils.files import Disk
from gitvault.core.utils.layout import is_vault
from gitvault.errors import ExistsError


def test_a_new_vault_is_a_bare_repository_with_its_constant_files(tmp_path: Path) -> None:
    path = tmp_path / "above" / "v.git"
    make_frame(path, Disk())
    assert is_vault(path)
    for name, content in constant_files().items():
        assert (path / name).read_bytes() == content
    bare = subprocess.check_output(["git", "-C", path, "rev-parse", "--is-bare-repository"])
    assert bare == b"true\n"
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_vault_is_made_only_in_an_empty_folder_or_upon_an_unfinished_one(tmp_path: Path) -> None:
    unfinished = tmp_path / "unfinished"
    make_frame(unfinished, Disk())
    (unfinished / "config").unlink()
    (unfinished / "HEAD.123.tmp").touch()
    make_frame(unfinished, Disk())
    assert is_vault(unfinished) and not (unfinished / "HEAD.123.tmp").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "novel.txt").touch()
    with pytest.raises(ExistsError, match="not a vault and not empty"):
        make_frame(tmp_path / "other", Disk())
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["novel.txt"]
