"""One object as a sealed remote has it: an age file. What is in it is, in this order,

    gitvault NAME LENGTH MAC          a line: the object's name, LENGTH decimal, MAC 64 hex digits
    the object's LENGTH bytes
    zeros, up to a power of two below 64 KiB, at least 1 KiB; above, up to a multiple of 64 KiB

so that the age program, `head` and `tail` give it back. MAC is HMAC-SHA-256(K, "NAME LENGTH" newline, the bytes), where
K is HMAC-SHA-256(KEY, "gitvault object"): anyone may know a public key and write age files to it, this one was written
by somebody who has KEY. What has the SHA-256 that its name asks for needs no such proof, and is not asked for it: there
MAC is of the line alone.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence

from gitvault.errors import CorruptionError
from gitvault.remotes.places import Content
from gitvault.remotes.sealed import age
from gitvault.remotes.sealed.age import Identity, Recipient
from gitvault.remotes.sealed.names import derived

_LEAST = 1 << 10
_STEP = 64 << 10
_LONGEST_LINE = 512
_BY_HASH = re.compile(r"(?:(?:git|chunks)/([0-9a-f]{64})\.(?:pack|zpk))|index/([0-9a-f]{64})")


def named_hash(name: str) -> str:
    """The SHA-256 of its bytes that the name of a pack or of an object of the index says; empty for other names."""
    found = _BY_HASH.fullmatch(name)
    return found[1] or found[2] if found else ""


def padded(length: int) -> int:
    """How long something is when it is padded."""
    if length >= _STEP:
        return -(-length // _STEP) * _STEP
    return max(_LEAST, 1 << (length - 1).bit_length())


def seal(name: str, content: bytes, key: bytes, recipients: Sequence[Recipient]) -> bytes:
    """The age file for an object."""
    line = f"gitvault {name} {len(content)} {_mac(key, name, content)}\n".encode("ascii")
    length = len(line) + len(content)
    return age.encrypt(b"".join((line, content, bytes(padded(length) - length))), recipients)


def unseal(name: str, sealed: Content, key: bytes, identities: Sequence[Identity]) -> Content:
    """The object in an age file. Raises NoKey, CorruptionError for what was not sealed under this name."""
    text = decrypt(name, sealed, identities)
    line, newline, _ = text[:_LONGEST_LINE].partition(b"\n")
    words = line.decode("ascii", "replace").split(" ")
    if not newline or len(words) != 4 or not words[2].isdecimal():
        raise CorruptionError(f"{name}: sealed by another program; git-vault remote verify says what it is needed for")
    # Of 8 MiB, several at once: no copies.
    content = memoryview(text)[len(line) + 1 :][: int(words[2])]
    if expected := named_hash(name):
        proven = hashlib.sha256(content).hexdigest() == expected
    else:
        # As bytes: text that is not ASCII is not compared.
        proven = hmac.compare_digest(line.rpartition(b" ")[2], _mac(key, name, content).encode("ascii"))
    if words[:2] != ["gitvault", name] or not proven:
        raise CorruptionError(f"{name}: what is there was not sealed as that; somebody put it there")
    return content


def decrypt(name: str, sealed: Content, identities: Sequence[Identity]) -> bytes | bytearray:
    """What is in an age file. Raises NoKey, CorruptionError."""
    try:
        return age.decrypt(sealed, identities)
    except age.Damaged as error:
        raise CorruptionError(f"{name}: damaged there ({error}); push again from a vault that has it") from None


def _mac(key: bytes, name: str, content: Content) -> str:
    found = hmac.new(derived(key, "gitvault object"), f"{name} {len(content)}\n".encode("ascii"), "sha256")
    if not named_hash(name):
        found.update(content)
    return found.hexdigest()
