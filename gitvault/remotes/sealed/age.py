"""Large age files sealed to and opened with X25519 keys, piece by piece, by OpenSSL's ChaCha20-Poly1305.

pyrage knows every kind of key and says what is wrong; it does 0.5 to 0.8 GB/s and lets no other thread run meanwhile,
this does 2. The format: https://age-encryption.org/v1. What is opened here has passed all its checks: the stanza, the
header's MAC, each piece, and that the last is marked as the last.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from gitvault.remotes.sealed.keys import Identity, Recipient

_VERSION = b"age-encryption.org/v1"
_WRAPPING = _VERSION + b"/X25519"
_HEADER = re.compile(rb"age-encryption\.org/v1\n(?:[^\n]*\n)+?--- ([A-Za-z0-9+/]{43})\n")
_STANZA = re.compile(rb"-> X25519 ([A-Za-z0-9+/]{43})\n([A-Za-z0-9+/]{43})\n")
_LONGEST_HEADER = 64 << 10
_FILE_KEY = 16
_NONCE = 16
_PIECE = 64 << 10
_TAG = 16
_SECRET = "AGE-SECRET-KEY-1"
_PUBLIC = "age1"
_BECH32 = "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"
_CHECKSUM = 6
# Used again: of all a restore's page faults half were for such memory. One, as threads do this one after the other
# anyway: with one each a restore took 50 MB more.
_spare = [bytearray()]
_turn = threading.Lock()


@contextmanager
def opened(sealed: bytes, identities: Sequence[Identity]) -> Iterator[memoryview | None]:
    """What is in an age file, while in this context; None where that is nothing, it is sealed to none of the X25519
    keys, or anything is not as it has to be.
    """
    with _room(len(sealed)) as room:
        yield _opened(sealed, identities, room)


def sealed(text: Sequence[bytes], recipients: Sequence[Recipient]) -> bytes | None:
    """The age file of these bytes in a row, at least one; None where not every recipient is an X25519 key."""
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    points = [_decoded(str(recipient), _PUBLIC) for recipient in recipients]
    if not all(points):
        return None
    key = secrets.token_bytes(_FILE_KEY)
    header = b"\n".join((_VERSION, *(_stanza(key, point) for point in points), b"---"))
    mac = hmac.digest(_derived(key, b"", b"header"), header, "sha256")
    nonce = secrets.token_bytes(_NONCE)
    start = b"".join((header, b" ", _base64(mac), b"\n", nonce))
    cipher = ChaCha20Poly1305(_derived(key, nonce, b"payload"))
    length = sum(map(len, text))
    count = -(-length // _PIECE)
    size = len(start) + length + _TAG * count
    with _room(size) as room:
        room[: len(start)] = start
        at = len(start)
        for number, piece in enumerate(_pieces(text), 1):
            end = at + len(piece) + _TAG
            cipher.encrypt_into(_nonce(number - 1, number == count), piece, None, room[at:end])
            at = end
        return bytes(room[:size])


def _pieces(text: Sequence[bytes]) -> Iterator[bytes | memoryview]:
    """The same bytes 64 KiB at a time."""
    held = b""
    for part in text:
        wanted = -len(held) % _PIECE
        held += part[:wanted]
        rest = memoryview(part)[wanted:]
        if len(held) == _PIECE:
            yield held
            held = b""
        whole = len(rest) - len(rest) % _PIECE
        yield from (rest[at : at + _PIECE] for at in range(0, whole, _PIECE))
        held += bytes(rest[whole:])
    if held:
        yield held


@contextmanager
def _room(size: int) -> Iterator[memoryview]:
    """Memory for at least so many bytes, whatever is in it, for one thread at a time."""
    with _turn:
        if len(_spare[0]) < size:
            _spare[0] = bytearray(size)
        yield memoryview(_spare[0])


def _stanza(key: bytes, point: bytes) -> bytes:
    """A file's key for whoever has the secret key of that point."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    once = X25519PrivateKey.generate()
    share = once.public_key().public_bytes_raw()
    shared = once.exchange(X25519PublicKey.from_public_bytes(point))
    body = ChaCha20Poly1305(_derived(shared, share + point, _WRAPPING)).encrypt(bytes(12), key, None)
    return b"-> X25519 " + _base64(share) + b"\n" + _base64(body)


def _opened(sealed: bytes, identities: Sequence[Identity], into: memoryview) -> memoryview | None:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    header = _HEADER.match(sealed, 0, _LONGEST_HEADER)
    if not header:
        return None
    for key in _file_keys(header[0], identities):
        mac = hmac.digest(_derived(key, b"", b"header"), sealed[: header.start(1) - 1], "sha256")
        # As text: bits behind the last byte may be anything, only the MAC as it would be written is one.
        if not hmac.compare_digest(_base64(mac), header[1]):
            continue
        start = header.end() + _NONCE
        cipher = ChaCha20Poly1305(_derived(key, sealed[header.end() : start], b"payload"))
        starts = range(start, len(sealed), _PIECE + _TAG)
        if not starts or len(sealed) - starts[-1] <= _TAG:
            return None
        view = memoryview(sealed)
        with suppress(InvalidTag):
            for number, at in enumerate(starts):
                piece = view[at : at + _PIECE + _TAG]
                cipher.decrypt_into(
                    _nonce(number, at == starts[-1]), piece, None, into[number * _PIECE :][: len(piece) - _TAG]
                )
            return into[: len(sealed) - start - len(starts) * _TAG]
    return None


def _file_keys(header: bytes, identities: Sequence[Identity]) -> Iterator[bytes]:
    """What the stanzas for these keys hold."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    for secret in filter(None, (_decoded(str(identity), _SECRET) for identity in identities)):
        key = X25519PrivateKey.from_private_bytes(secret)
        own = key.public_key().public_bytes_raw()
        for stanza in _STANZA.finditer(header):
            share, body = (binascii.a2b_base64(word + b"=") for word in stanza.groups())
            # ValueError: a point that gives the same secret to everybody.
            with suppress(InvalidTag, ValueError):
                shared = key.exchange(X25519PublicKey.from_public_bytes(share))
                wrapping = _derived(shared, share + own, _WRAPPING)
                found = ChaCha20Poly1305(wrapping).decrypt(bytes(12), body, None)
                if len(found) == _FILE_KEY:
                    yield found


def _decoded(text: str, kind: str) -> bytes:
    """The 32 bytes of an X25519 key in Bech32, which the library has checked; nothing for another kind."""
    if not text.startswith(kind):
        return b""
    number = 0
    digits = text[len(kind) : -_CHECKSUM]
    for digit in digits:
        number = number << 5 | _BECH32.index(digit.upper())
    return (number >> len(digits) * 5 % 8).to_bytes(32, "big")


def _derived(key: bytes, salt: bytes, purpose: bytes) -> bytes:
    """HKDF-SHA-256, 32 bytes."""
    return hmac.digest(
        hmac.digest(salt or bytes(hashlib.sha256().digest_size), key, "sha256"), purpose + b"\1", "sha256"
    )


def _nonce(number: int, is_last: bool) -> bytes:
    """Of a piece."""
    return number.to_bytes(11, "big") + bytes([is_last])


def _base64(data: bytes) -> bytes:
    """As age writes it."""
    return binascii.b2a_base64(data, newline=False).rstrip(b"=")
