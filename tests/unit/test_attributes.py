"""What a file has besides its bytes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from gitvault.core.utils import attributes
from gitvault.core.utils.attributes import (
    is_privilege,
    is_sparse,
    made_by_this_user,
    may_set_owner,
    not_kept,
    read_xattrs,
    write_xattrs,
)

pytestmark = pytest.mark.disk

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux has them")


@linux
def test_extended_attributes_are_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    values = {"user.a": b"\0\xff", "user.b": b""}
    assert list(write_xattrs(os.fspath(path), values)) == []
    fd = os.open(path, os.O_RDONLY)
    assert read_xattrs(fd) == values
    os.close(fd)
    [trouble] = write_xattrs(os.fspath(path), {"user.x" * 100: b""})
    assert trouble.startswith("extended attribute user.x")


@linux
@pytest.mark.parametrize("number", [95, 61, 13, 2], ids=["unsupported", "no data", "permission", "gone"])
def test_where_there_are_none_nothing_is_read(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> list[str]:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "listxattr", refused)
    fd = os.open(tmp_path, os.O_RDONLY)
    assert read_xattrs(fd) == {}
    os.close(fd)


@linux
def test_a_broken_medium_is_no_missing_attribute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> list[str]:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "listxattr", broken)
    fd = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(OSError, match="Input/output error"):
        read_xattrs(fd)
    os.close(fd)


def test_elsewhere_they_are_named_when_they_cannot_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attributes.sys, "platform", "win32")
    assert list(write_xattrs("file", {"user.a": b""})) == ["extended attribute user.a cannot be set on this system"]
    assert not_kept()
    monkeypatch.setattr(attributes.sys, "platform", "linux")
    assert not_kept() is None


def test_what_gives_a_program_rights() -> None:
    assert is_privilege("security.capability")
    assert is_privilege("trusted.overlay.opaque")
    assert not is_privilege("user.note")
    assert not is_privilege("system.posix_acl_access")


def test_a_file_with_holes_is_sparse(tmp_path: Path) -> None:
    with open(tmp_path / "hole", "wb") as file:
        file.truncate(1 << 20)
    (tmp_path / "full").write_bytes(b"x" * 100)
    assert is_sparse(os.stat(tmp_path / "hole")) == (sys.platform != "win32")
    assert not is_sparse(os.stat(tmp_path / "full"))


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="there are no owners")
def test_whose_a_vault_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert made_by_this_user(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert (made_by_this_user(tmp_path), may_set_owner()) == (False, False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert may_set_owner()
