"""age files of ours beside those of the library and of the program."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pyrage
import pytest

from gitvault.remotes.sealed import age
from gitvault.remotes.sealed.age import Damaged, Identity, NoKey, Recipient

PIECE = 64 << 10
SIZES = [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE]
SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN"


def pair() -> tuple[Recipient, Identity]:
    """The two keys of somebody."""
    made = pyrage.x25519.Identity.generate()
    public = str(made.to_public())
    return Recipient(made.to_public(), age.key_bytes(public)), Identity(made, age.key_bytes(str(made)))


def content(size: int) -> bytes:
    return bytes(range(251)) * (size // 251) + bytes(range(size % 251))


def own(sealed: bytes, identity: Identity) -> bytes | bytearray:
    """Opened here, or damaged: the library stands in nowhere."""
    return age.decrypt(sealed, [Identity(pyrage.x25519.Identity.generate(), identity.scalar)])


def test_the_bytes_of_a_key_are_those_of_its_text() -> None:
    """From https://age-encryption.org/v1: a key of the document's test vectors."""
    secret = "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33"
    recipient, identity = pair()
    assert len(age.key_bytes(secret)) == 32
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    assert identity.scalar and recipient.point
    assert X25519PrivateKey.from_private_bytes(identity.scalar).public_key().public_bytes_raw() == recipient.point
    public = str(pyrage.x25519.Identity.from_str(secret).to_public())
    found = X25519PrivateKey.from_private_bytes(age.key_bytes(secret)).public_key().public_bytes_raw()
    assert found == age.key_bytes(public)


@pytest.mark.parametrize("size", SIZES)
def test_the_library_opens_what_is_sealed_here_and_the_other_way_round(size: int) -> None:
    recipient, identity = pair()
    sealed = age.encrypt(content(size), [recipient])
    assert pyrage.decrypt(sealed, [identity.library]) == content(size)
    assert own(sealed, identity) == content(size)
    theirs = pyrage.encrypt(content(size), [recipient.library])
    assert own(theirs, identity) == content(size)
    # No two are alike.
    assert age.encrypt(content(size), [recipient]) != sealed


def test_the_program_opens_what_is_sealed_here(tmp_path: Path) -> None:
    (one, first), (two, second) = pair(), pair()
    (tmp_path / "sealed").write_bytes(age.encrypt(content(3 * PIECE + 5), [one, two]))
    assert shutil.which("age")
    for identity in (first, second):
        (tmp_path / "key").write_text(f"{identity.library}\n")
        opened = subprocess.run(
            ["age", "-d", "-i", tmp_path / "key", tmp_path / "sealed"], capture_output=True, check=True
        )
        assert opened.stdout == content(3 * PIECE + 5)


def test_each_of_several_keys_opens_it_and_a_strangers_does_not() -> None:
    (one, first), (two, second), (_, stranger) = pair(), pair(), pair()
    sealed = age.encrypt(b"both", [one, two])
    assert [own(sealed, each) for each in (first, second)] == [b"both", b"both"]
    assert age.decrypt(sealed, [stranger, second]) == b"both"
    with pytest.raises(NoKey):
        age.decrypt(sealed, [stranger])


def test_other_kinds_of_keys_are_the_librarys() -> None:
    one, first = pair()
    ssh = Recipient(pyrage.ssh.Recipient.from_str(SSH_KEY))
    sealed = age.encrypt(b"both", [one, ssh])
    assert b"-> ssh-ed25519" in sealed
    # The stanza of another kind is passed over.
    assert own(sealed, first) == b"both"
    with pytest.raises(NoKey):
        age.decrypt(age.encrypt(b"theirs", [ssh]), [first])


def test_no_byte_can_be_changed_left_out_or_added() -> None:
    """Where the library says that something is wrong, nothing else does."""
    recipient, identity = pair()
    sealed = age.encrypt(content(2 * PIECE + 100), [recipient])
    head = sealed.index(b"\n--- ") + 49 + 16
    places = [*range(0, head, 3), head, head + PIECE + 15, head + PIECE + 16, len(sealed) - 1]
    wrong = [sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :] for at in places]
    piece = PIECE + 16
    wrong += [sealed[:size] for size in (0, 10, head - 20, head, head + 5, head + piece, head + 2 * piece)]
    # The second piece in front, the first left out, something behind.
    wrong += [
        sealed[:head]
        + sealed[head + piece : head + 2 * piece]
        + sealed[head : head + piece]
        + sealed[head + 2 * piece :],
        sealed[:head] + sealed[head + piece :],
        sealed + bytes(16),
        sealed + sealed[head : head + piece],
    ]
    for bad in wrong:
        with pytest.raises((NoKey, Damaged)):
            own(bad, identity)
        with pytest.raises((NoKey, Damaged)):
            age.decrypt(bad, [identity])


def test_a_last_piece_of_nothing_is_damage() -> None:
    """Two files that say the same would be told apart by nothing."""
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    recipient, identity = pair()
    sealed = age.encrypt(b"", [recipient])
    start = len(sealed) - 32
    # With the file's own key: whoever may read may seal.
    [key] = age._file_keys(sealed[:start], [identity.scalar or b""])
    cipher = ChaCha20Poly1305(age._derived(key, sealed[start : start + 16], b"payload"))
    full = cipher.encrypt(bytes(12), bytes(PIECE), None)
    nothing = cipher.encrypt((1).to_bytes(11, "big") + b"\1", b"", None)
    with pytest.raises(Damaged):
        age.decrypt(sealed[: start + 16] + full + nothing, [identity])
    with pytest.raises((NoKey, Damaged)):
        own(sealed[: start + 16] + full + nothing, identity)


def test_a_share_that_gives_everybody_the_same_opens_nothing() -> None:
    recipient, identity = pair()
    sealed = age.encrypt(b"x", [recipient])
    share = sealed.split(b"\n")[1].split(b" ")[2]
    with pytest.raises((NoKey, Damaged)):
        age.decrypt(sealed.replace(share, b"A" * 43), [identity])


def test_without_the_primitives_the_library_opens_and_seals(monkeypatch: pytest.MonkeyPatch) -> None:
    recipient, identity = pair()
    sealed = age.encrypt(b"text", [recipient])
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    assert age.decrypt(sealed, [identity]) == b"text"
    assert pyrage.decrypt(age.encrypt(b"text", [recipient]), [identity.library]) == b"text"


def test_nothing_is_sealed_to_nobody() -> None:
    with pytest.raises(pyrage.EncryptError):
        age.encrypt(b"text", [])


def test_what_the_primitives_refuse_is_the_librarys() -> None:
    recipient, identity = pair()
    sealed = age.encrypt(b"text", [Recipient(recipient.library, bytes(32))])
    assert pyrage.decrypt(sealed, [identity.library]) == b"text"


def test_secret_keys_are_not_shown() -> None:
    _, identity = pair()
    assert identity.scalar and repr(identity.scalar) not in repr(identity)
    assert "AGE-SECRET" not in repr(identity)
