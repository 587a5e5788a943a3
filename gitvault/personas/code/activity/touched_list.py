"""The list of what was touched in one project since its watcher began."""

from __future__ import annotations

import os
import secrets

from gitvault.core.touched import MOST, Touched

_LIMIT = 20_000


class TouchedList:
    """Folders with the time, counted in answers, of their last change. Whatever is in doubt is answered "all"."""

    def __init__(self, token: str | None = None) -> None:
        """`token`: tells this list from any other; by chance."""
        self._token = token or secrets.token_hex(8)
        self._now = 1
        self._complete_after = 0
        self._folders: dict[bytes, int] = {}
        self._below: dict[bytes, int] = {}
        self._reason = ""
        self.distrusted = ""
        """Why nothing it says is believed any more."""

    def touch(self, folder: bytes) -> None:
        """Something may have changed in the folder itself."""
        self._folders[folder] = self._now
        self._bound(self._folders)

    def touch_below(self, folder: bytes) -> None:
        """Something may have changed anywhere in and below the folder, or it is another one than before."""
        if not folder:
            self.doubt("rules of the whole project changed")
            return
        self._below[folder] = self._now
        self._bound(self._below)

    def _bound(self, grown: dict[bytes, int]) -> None:
        """Forget what was touched longest ago, when there is too much: who asks with a mark of then has to look."""
        if len(grown) > _LIMIT:
            self._reason = f"more than {_LIMIT:,} folders were touched"
            self._complete_after = sorted(grown.values())[len(grown) // 2]
            self._folders = {path: at for path, at in self._folders.items() if at > self._complete_after}
            self._below = {path: at for path, at in self._below.items() if at > self._complete_after}

    def doubt(self, reason: str) -> None:
        """Changes may have been missed up to now; from now on the list is right again."""
        self._folders.clear()
        self._below.clear()
        self._reason = reason
        self._complete_after = self._now

    def distrust(self, reason: str) -> None:
        """It was wrong and nobody knows why: it says nothing any more."""
        self.distrusted = self.distrusted or reason

    def answer(self, mark: bytes) -> Touched:
        """What was touched since a mark that was given with an earlier answer."""
        said = f"{self._token} {self._now}".encode()
        token, _, number = mark.decode("ascii", "replace").partition(" ")
        since = int(number) if token == self._token and number.isdecimal() else -1
        self._now += 1
        if self.distrusted:
            return Touched(b"", None, reason=self.distrusted)
        if since < 0:
            return Touched(said, None, reason="it began after the last look")
        if since < self._complete_after:
            return Touched(said, None, reason=self._reason)
        folders = frozenset(path for path, at in self._folders.items() if at > since)
        below = frozenset(path for path, at in self._below.items() if at > since)
        if len(folders) + len(below) > MOST:
            return Touched(said, None, reason=f"more than {MOST:,} folders were touched")
        return Touched(said, folders, below)


def relative(path: str, root: str) -> bytes | None:
    """A path from the project's folder on, with `/`; None outside of it."""
    if path == root:
        return b""
    if not path.startswith(root.rstrip(os.sep) + os.sep):
        return None
    return os.fsencode(path[len(root.rstrip(os.sep)) + 1 :]).replace(os.fsencode(os.sep), b"/")
