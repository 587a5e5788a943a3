"""Names on a sealed remote: keyed hashes, which whoever has the key turns back.

Each word between slashes is hidden by itself, so that a folder can be listed. Padded with NUL to a multiple of 32 bytes
it becomes

    base32(TAG || WORD xor STREAM)     TAG    = HMAC-SHA-256(K1, FOLDER "/" WORD), its first 16 bytes
                                       STREAM = HMAC-SHA-256(K2, TAG || 1), HMAC-SHA-256(K2, TAG || 2) ...

where FOLDER is what stands before it, in plain, K1 and K2 are HMAC-SHA-256(KEY, "gitvault name tag") and "gitvault name
stream", and numbers are single bytes. It is the construction of SIV modes: the same name is always hidden in the same
way, nothing else can be told without the key, and nobody without it makes a name that counts.
"""

from __future__ import annotations

import base64
import hmac
import re

KEY_SIZE = 32
_TAG = 16
_BLOCK = 32
_MOST = 255 // 8 * 5
_HIDDEN = re.compile(r"[a-z2-7]+")


class Names:
    """Hides names and finds out what hidden ones say. Thread-safe."""

    def __init__(self, key: bytes) -> None:
        self._tag_key = derived(key, "gitvault name tag")
        self._stream_key = derived(key, "gitvault name stream")

    def hide(self, name: str) -> str:
        """What stands on the server for a name, or for a folder, which ends with `/`."""
        words = name.split("/")
        return "/".join(self._hide("/".join(words[:depth]), word) if word else "" for depth, word in enumerate(words))

    def show(self, hidden: str) -> str | None:
        """The name that is hidden so; None for what was not made with this key."""
        name = ""
        for part in hidden.split("/"):
            word = self._show(name, part)
            if word is None:
                return None
            name = f"{name}/{word}" if name else word
        return name

    def _hide(self, folder: str, word: str) -> str:
        plain = word.encode("ascii")
        plain += bytes(-len(plain) % _BLOCK)
        tag = self._tag(folder, word)
        return base64.b32encode(tag + self._crossed(tag, plain)).decode("ascii").rstrip("=").lower()

    def _show(self, folder: str, hidden: str) -> str | None:
        if len(hidden) > _MOST * 8 // 5 or not _HIDDEN.fullmatch(hidden):
            return None
        try:
            content = base64.b32decode(hidden.upper() + "=" * (-len(hidden) % 8))
            tag = content[:_TAG]
            word = self._crossed(tag, content[_TAG:]).rstrip(b"\0").decode("ascii")
        except ValueError:
            return None
        # Bits behind the last byte may be anything: only the name as it would be written is one.
        return word if word and "/" not in word and self._hide(folder, word) == hidden else None

    def _tag(self, folder: str, word: str) -> bytes:
        return hmac.digest(self._tag_key, f"{folder}/{word}".encode("ascii"), "sha256")[:_TAG]

    def _crossed(self, tag: bytes, text: bytes) -> bytes:
        stream = b"".join(
            hmac.digest(self._stream_key, tag + bytes([number]), "sha256")
            for number in range(1, len(text) // _BLOCK + 2)
        )
        size = len(text)
        return (int.from_bytes(text, "big") ^ int.from_bytes(stream[:size], "big")).to_bytes(size, "big")


def derived(key: bytes, purpose: str) -> bytes:
    """A key for one purpose."""
    return hmac.digest(key, purpose.encode("ascii"), "sha256")
