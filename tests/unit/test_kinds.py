"""Kinds of files by name."""

from __future__ import annotations

import pytest

from gitvault.core.utils.kinds import kind_of


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (b"main.c", "code"),
        (b"MAIN.PY", "code"),
        (b"a.tar.gz", "archive"),
        (b"scene.blend", "model"),
        (b"x.PNG", "image"),
        (b"song.ogg", "audio"),
        (b"Makefile", "other"),
        (b"x.unknown", "other"),
        (b"dot.", "other"),
        (b"caf\xe9.\xff", "other"),
        (b".gitignore", "text"),
    ],
)
def test_kind_by_extension(name: bytes, kind: str) -> None:
    assert kind_of(name) == kind
