"""One object as a sealed remote has it: an age file. What is in it is, in this order,

    gitvault NAME LENGTH MAC          a line: the object's name, LENGTH decimal, MAC 64 hex digits
    the object's LENGTH bytes
    zeros, up to a power of two below 64 KiB, at least 1 KiB; above, up to a multiple of 64 KiB

so that the age program, `head` and `tail` give it back. MAC is HMAC-SHA-256(K, "NAME LENGTH" newline, the bytes), where
K is HMAC-SHA-256(KEY, "gitvault object"): anyone may know a public key and write age files to it, this one was written
by somebody who has KEY.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from gitvault.errors import CorruptionError
from gitvault.remotes.sealed import age
from gitvault.remotes.sealed.keys import Identity, Recipient
from gitvault.remotes.sealed.names import derived

_LEAST = 1 << 10
_STEP = 64 << 10
_LONGEST_LINE = 512
# From here on it pays to load what is quicker.
_LARGE = 1 << 20


class NoKey(Exception):
    """Sealed to none of the identities."""


def padded(length: int) -> int:
    """How long something is when it is padded."""
    if length >= _STEP:
        return -(-length // _STEP) * _STEP
    return max(_LEAST, 1 << (length - 1).bit_length())


def seal(name: str, content: bytes, key: bytes, recipients: Sequence[Recipient]) -> bytes:
    """The age file for an object."""
    import pyrage

    line = f"gitvault {name} {len(content)} {_mac(key, name, content)}\n".encode("ascii")
    length = len(line) + len(content)
    text = line, content, bytes(padded(length) - length)
    if length >= _LARGE and (found := age.sealed(text, recipients)):
        return found
    return bytes(pyrage.encrypt(b"".join(text), recipients))


def unseal(name: str, sealed: bytes, key: bytes, identities: Sequence[Identity]) -> bytes:
    """The object in an age file. Raises NoKey, CorruptionError for what was not sealed under this name."""
    found = None
    if len(sealed) >= _LARGE:
        with age.opened(sealed, identities) as text:
            found = text and _cut(name, text)
    line, content = found or _cut(name, memoryview(decrypt(name, sealed, identities)))
    # As bytes: text that is not ASCII is not compared.
    written = hmac.compare_digest(line.rpartition(b" ")[2], _mac(key, name, content).encode("ascii"))
    if line.decode("ascii", "replace").split(" ")[:2] != ["gitvault", name] or not written:
        raise CorruptionError(f"{name}: what is there was not sealed as that; somebody put it there")
    return content


def _cut(name: str, text: memoryview) -> tuple[bytes, bytes]:
    """The line, and the object behind it. Raises CorruptionError."""
    line, newline, _ = bytes(text[:_LONGEST_LINE]).partition(b"\n")
    words = line.decode("ascii", "replace").split(" ")
    if not newline or len(words) != 4 or not words[2].isdecimal():
        raise CorruptionError(f"{name}: sealed by another program; git-vault remote verify says what it is needed for")
    # Of 8 MiB, several at once: no copies but the one that is given back.
    return line, bytes(text[len(line) + 1 :][: int(words[2])])


def decrypt(name: str, sealed: bytes, identities: Sequence[Identity]) -> bytes:
    """What is in an age file. Raises NoKey, CorruptionError."""
    import pyrage

    try:
        return bytes(pyrage.decrypt(sealed, identities))
    except pyrage.DecryptError as error:
        # The library tells them apart by nothing else.
        if "No matching keys" in str(error):
            raise NoKey from None
        raise CorruptionError(f"{name}: damaged there ({error}); push again from a vault that has it") from None


def _mac(key: bytes, name: str, content: bytes) -> str:
    found = hmac.new(derived(key, "gitvault object"), f"{name} {len(content)}\n".encode("ascii"), "sha256")
    found.update(content)
    return found.hexdigest()
