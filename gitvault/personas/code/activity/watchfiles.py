"""Changes in a project's folders as the package watchfiles tells them, on every system.

It does not say when changes were lost, so the list of what was touched is never made from it.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.core.scan import scopes
from gitvault.errors import ToolMissing
from gitvault.personas.code.activity.detector import Notice
from gitvault.personas.code.activity.touched_list import relative

if TYPE_CHECKING:
    from gitvault.core.interfaces import Rules

_STEP_MS = 100


class Watchfiles:
    """The folders of one project, with all that is in them. `read` when `fileno` is readable."""

    def __init__(self, root: Path, rules: Rules) -> None:
        """Raises ToolMissing where the package is not installed."""
        try:
            import watchfiles
        except ImportError:
            raise ToolMissing("watchfiles: not installed; pip install gitvault[code]") from None
        self.root = root
        self._rules = rules
        self._real = os.path.realpath(root)
        self._found: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
        self._bell, self._ringing = socket.socketpair()
        self._bell.setblocking(False)
        self._stop = threading.Event()
        self._changes = watchfiles.watch(
            self._real, watch_filter=None, step=_STEP_MS, stop_event=self._stop, raise_interrupt=False
        )
        self._thread = threading.Thread(target=self._listen, name=f"watch {root}", daemon=True)
        self._thread.start()

    @property
    def repositories(self) -> dict[bytes, bytes]:
        """`.git`, `.hg`, `.svn` of the project, and where they are."""
        places = {name: os.fsencode(self._real) + b"/" + name for name in (b".git", b".hg", b".svn")}
        return {name: place for name, place in places.items() if os.path.isdir(place)}

    def fileno(self) -> int:
        """For `select`."""
        return self._bell.fileno()

    def close(self) -> None:
        """Watch no longer."""
        self._stop.set()
        self._thread.join(2)
        self._bell.close()
        self._ringing.close()

    def check(self) -> None:
        """There is no list that could be doubted."""

    def read(self) -> list[Notice]:
        """Everything that was told so far."""
        try:
            self._bell.recv(4096)
        except OSError:
            return []
        paths: set[bytes] = set()
        while not self._found.empty():
            paths.update(p for text in self._found.get() if (p := relative(text, self._real)))
        left_out: dict[bytes, bool] = {}
        return [Notice(path, kept=not self._left_out(path, left_out)) for path in sorted(paths)]

    def _left_out(self, path: bytes, known: dict[bytes, bool]) -> bool:
        if path not in known:
            around = path.rpartition(b"/")[0]
            if around and self._left_out(around, known):
                known[path] = True
            else:
                *_, (scope, name) = scopes(self.root, self._rules, path)
                known[path] = bool(scope.omits(name, os.path.isdir(os.fsencode(self._real) + b"/" + path)))
        return known[path]

    def _listen(self) -> None:
        for changes in self._changes:
            self._found.put([path for _, path in changes])
            # A bell that was not heard yet rings on.
            self._ringing.send(b"\0")
