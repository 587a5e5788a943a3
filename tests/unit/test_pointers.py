"""Pointers: exactly git-lfs's canonical text, and nothing else, is ours."""

from __future__ import annotations

import pytest

from gitvault.core.models import Pointer
from gitvault.core.storage import pointers

OID = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393"
TEXT = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + OID.encode() + b"\nsize 12345\n"


def test_the_text_is_the_one_of_git_lfs() -> None:
    assert pointers.encode(Pointer(OID, 12345)) == TEXT
    assert pointers.decode(TEXT) == Pointer(OID, 12345)
    assert len(pointers.encode(Pointer(OID, 2**63 - 1))) <= pointers.MAX_LENGTH


def test_empty_content_is_its_own_pointer() -> None:
    assert pointers.encode(Pointer("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", 0)) == b""


@pytest.mark.parametrize(
    "text",
    [
        b"",
        TEXT[:-1],
        TEXT + b"\n",
        TEXT.replace(b"\n", b"\r\n"),
        TEXT.replace(b"size 12345", b"size 012345"),
        TEXT.replace(b"size 12345", b"size -1"),
        TEXT.replace(OID.encode(), OID.upper().encode()),
        TEXT.replace(OID.encode(), OID[1:].encode()),
        TEXT.replace(b"oid", b"ext-0-foo sha256:1\noid"),
        TEXT + b"x" * 1000,
    ],
)
def test_anything_else_is_no_pointer_of_ours(text: bytes) -> None:
    assert pointers.decode(text) is None


@pytest.mark.parametrize(
    "head",
    [
        TEXT,
        TEXT.replace(b"\n", b"\r\n"),
        b"version http://git-media.io/v/2\noid sha256:1\n",
        b"version https://hawser.github.com/spec/v1\n",
        b"\nversion https://git-lfs.github.com/spec/v2\nfuture: 1\n",
    ],
)
def test_what_git_lfs_might_take_for_a_pointer_is_noticed(head: bytes) -> None:
    assert pointers.looks_like_pointer(head)


@pytest.mark.parametrize("head", [b"", b"version 1.0\n", b"#!/bin/sh\n# version https://git-lfs.github.com/spec/v1\n"])
def test_other_text_is_left_alone(head: bytes) -> None:
    assert not pointers.looks_like_pointer(head)
