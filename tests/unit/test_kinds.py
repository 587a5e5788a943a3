"""Kinds of files, by name and by content."""

from __future__ import annotations

import random

import pytest

from gitvault.core.utils.kinds import SNIFF, is_binary, kind_of


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


FAR = 100_000
RUSSIAN, JAPANESE = "Съешь ещё этих мягких французских булок\n", "素早い茶色の狐が飛ぶ\n"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x",
        b"one line without an end " * 9000,
        "Zażółć gęślą jaźń ".encode() * 5000,
        # A character is cut wherever a look begins or ends.
        *(b"x" * shift + ("\N{FOX FACE}" * FAR).encode() for shift in range(4)),
        *((RUSSIAN * 3000).encode(encoding) for encoding in ("koi8-r", "cp1251", "iso8859-5", "mac-cyrillic")),
        *((JAPANESE * 9000).encode(encoding) for encoding in ("shift_jis", "euc_jp", "iso2022_jp")),
        ("Fuß\r" * 30_000).encode("latin-1"),
        b"\x1b[31merror\x1b[0m\a\b \xe9\n" * 9000,
        b"8=FIX.4.4\x019=63\x0135=A\x0149=A\x01" * 3000,
    ],
)
def test_text_of_every_encoding_is_text(content: bytes) -> None:
    assert not is_binary(content)


@pytest.mark.parametrize(
    "content",
    [
        b"\0",
        b"x" * FAR + b"\0" + b"x" * FAR,
        (RUSSIAN * 3000).encode("utf-16"),
        # Pixels brighter than any line break; and none that is quite black.
        b"P6\n200 200\n255\n" + bytes(random.Random(1).choices(range(0x60, 0x100), k=FAR)),
        b"P6\n200 200\n255\n" + bytes(random.Random(2).choices(range(1, 0x100), k=FAR)),
        b"header\n" * 5000 + bytes(random.Random(3).choices(range(1, 0x100), k=FAR)) + b"trailer\n" * 5000,
        b"line\n" * FAR + bytes(random.Random(4).choices(range(1, 0x100), k=SNIFF)),
    ],
)
def test_what_only_begins_as_text_is_binary(content: bytes) -> None:
    assert is_binary(content)
