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
        if len(self._folders) > _LIMIT:
            self.doubt(f"more than {_LIMIT:,} folders were touched")

    def touch_below(self, folder: bytes) -> None:
        """Something may have changed anywhere in and below the folder, or it is another one than before."""
        if not folder:
            self.doubt("rules of the whole project changed")
            return
        self._below[folder] = self._now
        if len(self._below) > MOST:
            self.doubt(f"more than {MOST:,} folders came, went or moved")

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
            return Touched(said, None, reason=self._reason or "asked for a time before the last answer")
        # Who asks has seen what was before: nobody needs it again, and who knows less is told to look.
        self._folders = {path: at for path, at in self._folders.items() if at > since}
        self._below = {path: at for path, at in self._below.items() if at > since}
        self._complete_after, self._reason = since, ""
        if len(self._folders) + len(self._below) > MOST:
            return Touched(said, None, reason=f"more than {MOST:,} folders were touched")
        return Touched(said, frozenset(self._folders), frozenset(self._below))


def relative(path: str, root: str) -> bytes | None:
    """A path from the project's folder on, with `/`; None outside of it."""
    if path == root:
        return b""
    if not path.startswith(root.rstrip(os.sep) + os.sep):
        return None
    return os.fsencode(path[len(root.rstrip(os.sep)) + 1 :]).replace(os.fsencode(os.sep), b"/")
