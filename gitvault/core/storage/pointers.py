"""The text that stands for a large file in a git tree: a canonical git-LFS pointer."""

from __future__ import annotations

import re

from gitvault.core.models import Pointer

MAX_LENGTH = 200
"""No pointer of ours is longer, in bytes."""

_CANONICAL = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\noid sha256:([0-9a-f]{64})\nsize (0|[1-9][0-9]{0,18})\n"
)
# git-lfs also takes the names of its alpha versions, and other keys, for pointers.
_LIKE = re.compile(rb"\s*version\s+(?:https?://(?:git-lfs\.github\.com|git-media\.io|hawser\.github\.com)/)")


def encode(pointer: Pointer) -> bytes:
    """The three lines that git-lfs itself would write; empty content is, as in git-lfs, its own pointer: `b""`."""
    if pointer.size == 0:
        return b""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{pointer.oid}\nsize {pointer.size}\n".encode()


def decode(text: bytes) -> Pointer | None:
    """The pointer that `text` is, byte for byte; None when it is anything else."""
    match = _CANONICAL.fullmatch(text) if len(text) <= MAX_LENGTH else None
    return Pointer(match[1].decode(), int(match[2])) if match else None


def looks_like_pointer(head: bytes) -> bool:
    """Whether git-lfs might take content that begins with `head` for a pointer.

    A user's own file that does is stored like a large one, so that a pointer in a tree is always ours.
    """
    return _LIKE.match(head) is not None
