"""age files (age-encryption.org/v1). pyrage knows every kind of key; X25519 ones, with which nearly everything is
sealed, are done here with the primitives of `cryptography`: per GB opening takes 0.3 s of processor instead of 1.7,
sealing 0.5 instead of 1.2, and other threads get the interpreter after 64 KiB instead of 8 MiB.

What is not opened here for any reason is pyrage's to open, or to say why not.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

_VERSION = b"age-encryption.org/v1\n"
_LONGEST_HEADER = 64 << 10
_STANZA = re.compile(rb"-> X25519 ([A-Za-z0-9+/]{43})\n([A-Za-z0-9+/]{43})\n")
_WRAP = b"age-encryption.org/v1/X25519"
_FIRST_NONCE = bytes(12)
_NONCE = 16
_TAG = 16
_PIECE = 64 << 10
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_POINT = 32


class NoKey(Exception):
    """Sealed to none of the identities."""


class Damaged(Exception):
    """No age file, or not as it was written; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """A public key, as pyrage has it; `point`: the 32 bytes of an X25519 one."""

    library: object
    point: bytes | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """A secret key, likewise."""

    library: object = field(repr=False)
    scalar: bytes | None = field(default=None, repr=False)


def key_bytes(text: str) -> bytes:
    """The 32 bytes of an X25519 key from its text, `age1...` or `AGE-SECRET-KEY-1...`, which pyrage has accepted."""
    number = 0
    digits = text.lower().rpartition("1")[2][:-6]
    for digit in digits:
        number = number << 5 | _BECH32.index(digit)
    return (number >> 5 * len(digits) - 8 * _POINT).to_bytes(_POINT, "big")


def encrypt(content: bytes, recipients: Sequence[Recipient]) -> bytes:
    """An age file that each of the recipients can open."""
    points = [recipient.point for recipient in recipients if recipient.point]
    # ImportError: the primitives are missing. ValueError: a key with which everybody would have the same secret.
    with suppress(ImportError, ValueError):
        if points and len(points) == len(recipients):
            return bytes(_sealed(content, points))
    import pyrage

    return bytes(pyrage.encrypt(content, [recipient.library for recipient in recipients]))


def decrypt(sealed: bytes | memoryview, identities: Sequence[Identity]) -> bytes | bytearray:
    """What is in an age file. Raises NoKey, Damaged."""
    scalars = [identity.scalar for identity in identities if identity.scalar]
    content = _opened(memoryview(sealed), scalars)
    if content is not None:
        return content
    import pyrage

    try:
        return bytes(pyrage.decrypt(bytes(sealed), [identity.library for identity in identities]))
    except pyrage.DecryptError as error:
        # The library tells them apart by nothing else.
        if "No matching keys" in str(error):
            raise NoKey from None
        raise Damaged(str(error)) from None


def _sealed(content: bytes, points: Sequence[bytes]) -> bytearray:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    file_key = secrets.token_bytes(16)
    header = _VERSION
    for point in points:
        ephemeral = X25519PrivateKey.generate()
        share = ephemeral.public_key().public_bytes_raw()
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(point))
        wrapped = ChaCha20Poly1305(_derived(shared, share + point, _WRAP)).encrypt(_FIRST_NONCE, file_key, None)
        header += b"-> X25519 %b\n%b\n" % (_text(share), _text(wrapped))
    header += b"---"
    nonce = secrets.token_bytes(_NONCE)
    header += b" %b\n%b" % (_text(_header_mac(file_key, header)), nonce)
    cipher = ChaCha20Poly1305(_derived(file_key, nonce, b"payload"))
    view = memoryview(content)
    out = bytearray(header) + bytearray(len(content) + _TAG * _count(len(content), _PIECE))
    at, target = len(header), memoryview(out)
    for piece_nonce, start in _pieces(len(content), _PIECE):
        piece = view[start : start + _PIECE]
        at += cipher.encrypt_into(piece_nonce, piece, None, target[at : at + len(piece) + _TAG])
    return out


def _opened(sealed: memoryview, scalars: Sequence[bytes]) -> bytearray | None:
    """What is in an age file that one of these opens and that is whole; None for any other."""
    try:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
    except ImportError:
        return None
    head, mark, _ = bytes(sealed[:_LONGEST_HEADER]).partition(b"\n--- ")
    start = len(head) + len(mark) + 44
    if not mark or not head.startswith(_VERSION):
        return None
    mac, nonce, payload = bytes(sealed[start - 44 : start]), sealed[start : start + _NONCE], sealed[start + _NONCE :]
    signed = head + b"\n---"
    for file_key in _file_keys(head + b"\n", scalars):
        if not hmac.compare_digest(mac, _text(_header_mac(file_key, signed)) + b"\n"):
            continue
        cipher = ChaCha20Poly1305(_derived(file_key, bytes(nonce), b"payload"))
        pieces = _count(len(payload), _PIECE + _TAG)
        if len(payload) < pieces * _TAG:
            return None
        out = bytearray(len(payload) - pieces * _TAG)
        target = memoryview(out)
        at = 0
        with suppress(InvalidTag):
            for piece_nonce, start in _pieces(len(payload), _PIECE + _TAG):
                piece = payload[start : start + _PIECE + _TAG]
                at += cipher.decrypt_into(piece_nonce, piece, None, target[at : at + len(piece) - _TAG])
            # An empty last piece is the only one.
            return out if len(piece) > _TAG or pieces == 1 else None
    return None


def _file_keys(head: bytes, scalars: Sequence[bytes]) -> Iterator[bytes]:
    """The keys of the file that these open."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    for scalar in scalars:
        secret = X25519PrivateKey.from_private_bytes(scalar)
        point = secret.public_key().public_bytes_raw()
        for stanza in _STANZA.finditer(head):
            share, wrapped = (base64.b64decode(text + b"=") for text in stanza.groups())
            # ValueError: a share that gives the same secret to everybody.
            with suppress(InvalidTag, ValueError):
                shared = secret.exchange(X25519PublicKey.from_public_bytes(share))
                cipher = ChaCha20Poly1305(_derived(shared, share + point, _WRAP))
                yield cipher.decrypt(_FIRST_NONCE, wrapped, None)


def _count(size: int, step: int) -> int:
    """How many pieces a payload has; of nothing there is one, too."""
    return max(1, -(-size // step))


def _pieces(size: int, step: int) -> Iterator[tuple[bytes, int]]:
    """The nonce of each piece of a payload, and where it begins."""
    last = _count(size, step) - 1
    for number in range(last + 1):
        yield number.to_bytes(11, "big") + (b"\1" if number == last else b"\0"), number * step


def _header_mac(file_key: bytes, header: bytes) -> bytes:
    return hmac.digest(_derived(file_key, b"", b"header"), header, hashlib.sha256)


def _derived(secret: bytes, salt: bytes, purpose: bytes) -> bytes:
    """HKDF-SHA-256, of which age takes 32 bytes everywhere."""
    return hmac.digest(hmac.digest(salt, secret, hashlib.sha256), purpose + b"\1", hashlib.sha256)


def _text(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")
