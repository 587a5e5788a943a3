"""What opens large age files by itself: the same bytes as the library gives, or nothing."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pyrage
import pytest

from gitvault.errors import CorruptionError
from gitvault.remotes.sealed import age, keys, objects

PIECE = 64 << 10
TAG = 16
ONE, TWO, STRANGER = (pyrage.x25519.Identity.generate() for _ in range(3))
BOTH = [ONE.to_public(), TWO.to_public()]


def read(sealed: bytes, identities: Sequence[object]) -> bytes | None:
    with age.opened(sealed, [keys.Identity(one) for one in identities]) as text:
        return None if text is None else bytes(text)


@pytest.mark.parametrize("size", [1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 1_000_003])
def test_it_gives_what_the_library_gives_to_each_of_the_keys(size: int) -> None:
    content = random.Random(size).randbytes(size)
    sealed = pyrage.encrypt(content, BOTH)
    assert read(sealed, [ONE]) == read(sealed, [TWO]) == read(sealed, [STRANGER, ONE]) == content
    assert pyrage.decrypt(sealed, [ONE]) == content


@pytest.mark.parametrize("size", [1, PIECE, 2 * PIECE, 2 * PIECE + 5])
def test_nothing_is_given_of_what_was_cut_prolonged_or_changed(size: int) -> None:
    content = random.Random(size).randbytes(size)
    sealed = pyrage.encrypt(content, [ONE.to_public()])
    payload = len(sealed) - size - TAG * -(-size // PIECE)
    for stop in {payload, payload - 16, len(sealed) - 1, len(sealed) - TAG, payload + PIECE + TAG, len(sealed) - 5}:
        if stop < len(sealed):
            assert read(sealed[:stop], [ONE]) is None, stop
    for more in (b"x", bytes(TAG), bytes(TAG + 1), bytes(PIECE + TAG)):
        assert read(sealed + more, [ONE]) is None, len(more)
    # Each line of the header, its MAC, the nonce, the first, a middle and the last byte of what is inside.
    for at in [*range(payload), payload, payload + size // 2, len(sealed) - 1]:
        changed = bytearray(sealed)
        changed[at] ^= 1
        assert read(bytes(changed), [ONE]) is None, at


def test_pieces_keep_their_order() -> None:
    sealed = pyrage.encrypt(bytes(3 * PIECE), [ONE.to_public()])
    start = len(sealed) - 3 * (PIECE + TAG)
    first, second, last = (sealed[at : at + PIECE + TAG] for at in range(start, len(sealed), PIECE + TAG))
    assert read(sealed[:start] + first + second + last, [ONE]) == bytes(3 * PIECE)
    for pieces in (second + first + last, first + last, first + last + second, first + first + last):
        assert read(sealed[:start] + pieces, [ONE]) is None


def test_nothing_is_given_for_other_keys_other_kinds_and_what_is_no_age_file(tmp_path: Path) -> None:
    sealed = pyrage.encrypt(b"content", [ONE.to_public()])
    assert read(sealed, [STRANGER]) is None
    assert read(sealed, []) is None
    assert read(b"age-encryption.org/v1\n", [ONE]) is None
    assert read(b"", [ONE]) is None
    assert read(b"something else", [ONE]) is None
    # A share that gives the same secret to everybody.
    lines = sealed.split(b"\n")
    low = b"\n".join([lines[0], b"-> X25519 " + b"A" * 43, *lines[2:]])
    assert read(low, [ONE]) is None
    # Of a passphrase: the library's, or nobody's.
    assert read(pyrage.passphrase.encrypt(b"content", "secret"), [ONE]) is None


def test_a_large_object_is_opened_by_it_and_what_it_does_not_open_the_library_judges() -> None:
    content = random.Random(1).randbytes(3 << 20)
    key = bytes(32)
    sealed = objects.seal("git/a", content, key, [keys.Recipient(one) for one in BOTH])
    assert objects.unseal("git/a", sealed, key, [keys.Identity(TWO)]) == content
    with pytest.raises(objects.NoKey):
        objects.unseal("git/a", sealed, key, [keys.Identity(STRANGER)])
    with pytest.raises(CorruptionError, match="damaged there"):
        objects.unseal("git/a", sealed[:-1], key, [keys.Identity(TWO)])
    with pytest.raises(CorruptionError, match="not sealed as that"):
        objects.unseal("git/b", sealed, key, [keys.Identity(TWO)])


@pytest.mark.parametrize("size", [1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 1_000_003])
def test_what_it_seals_each_of_the_keys_opens_and_nobody_else(size: int) -> None:
    content = random.Random(size).randbytes(size)
    sealed = age.sealed([content[:7], b"", content[7:]], [keys.Recipient(one) for one in BOTH])
    assert sealed is not None
    assert pyrage.decrypt(sealed, [ONE]) == pyrage.decrypt(sealed, [TWO]) == read(sealed, [TWO]) == content
    with pytest.raises(pyrage.DecryptError):
        pyrage.decrypt(sealed, [STRANGER])
    # As long as the library's, and never the same twice.
    assert len(sealed) <= len(pyrage.encrypt(content, BOTH))
    assert age.sealed([content], [keys.Recipient(one) for one in BOTH]) != sealed


def test_other_kinds_of_keys_are_left_to_the_library() -> None:
    kind = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJq9RdyLUwIm6Gd2b5E1FdiqHa3ypQHxFGn0OdQ7Gm3F"
    ssh = pyrage.ssh.Recipient.from_str(kind)
    assert age.sealed([b"content"], [keys.Recipient(one) for one in (*BOTH, ssh)]) is None
    content = bytes(2 << 20)
    sealed = objects.seal("git/a", content, bytes(32), [keys.Recipient(one) for one in (*BOTH, ssh)])
    assert objects.unseal("git/a", sealed, bytes(32), [keys.Identity(ONE)]) == content


@pytest.mark.needs("age")
def test_the_age_program_opens_what_it_seals(tmp_path: Path) -> None:
    content = random.Random(1).randbytes(3 << 20)
    (tmp_path / "key").write_text(f"{TWO}\n")
    (tmp_path / "sealed").write_bytes(age.sealed([content], [keys.Recipient(one) for one in BOTH]) or b"")
    command = ["age", "-d", "-i", tmp_path / "key", tmp_path / "sealed"]
    assert subprocess.run(command, check=True, capture_output=True).stdout == content
