"""What may have changed in a project since it was last looked at, as its watcher says.

A watcher listens on a socket among the vault's caches while it runs: a line of JSON for each question and answer.
It takes in every change that the system has told it of before it answers, so what happened before the question is in
the answer. Nothing here is evidence: whoever doubts looks at everything.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitvault.core.utils.layout import WATCH

if TYPE_CHECKING:
    from _socket import socket

# A watcher that takes in a burst; one that stands still must not keep anybody from saving.
_PATIENCE_SECONDS = 2.0
_LONGEST = 1 << 20
MOST = 1000
"""Touched folders that are worth telling one by one; with more a scan costs no more."""


@dataclass(frozen=True, slots=True)
class Touched:
    """A watcher's answer."""

    mark: bytes
    """The moment of the answer: kept beside what was seen, and asked with the next time."""
    folders: frozenset[bytes] | None
    """Folders whose own entries may have changed since the mark that was asked with; None: any may have."""
    below: frozenset[bytes] = frozenset()
    """Folders that may have changed with all that is below them."""
    reason: str = ""
    """Why any may have."""

    def covers(self, path: bytes) -> bool:
        """Whether a folder's own entries may have changed."""
        return self.folders is None or path in self.folders or is_below(path, self.below)

    def reaches(self, path: bytes) -> bool:
        """Whether a folder, or anything below it, may have changed."""
        prefix = path + b"/" if path else b""
        return self.covers(path) or any(
            one == path or one.startswith(prefix) for one in (*(self.folders or ()), *self.below)
        )

    def on_the_way(self) -> frozenset[bytes]:
        """Every folder that was touched, and those around it; the root is always among them."""
        found = {b""}
        for path in (*(self.folders or ()), *self.below):
            found.update(_above(path))
        return frozenset(found)


def is_below(path: bytes, folders: Set[bytes]) -> bool:
    """Whether a path is one of these folders or lies in one."""
    return any(map(folders.__contains__, _above(path)))


def _above(path: bytes) -> Iterator[bytes]:
    """A path and the folders around it, the root last."""
    while path:
        yield path
        path = path.rpartition(b"/")[0]
    yield b""


class Watch:
    """The watcher of one project, if there is one, as those see it who ask."""

    def __init__(self, caches: Path, root: str, rules: bytes, terms: str = "") -> None:
        """`root`: of the project. `rules`: the digest of its Rules: a watcher that goes by others knows nothing.

        `terms`: what else has to be as it was at the last look, such as the project's mode. Without a tab.
        """
        self.caches = caches
        self._terms = terms.encode()
        self._about = {"root": _text(os.fsencode(root)), "rules": rules.hex()}

    def answers(self) -> bool:
        """Whether there is somebody to ask, it seems."""
        return is_socket(self.caches / WATCH)

    def touched(self, mark: bytes) -> Touched | None:
        """What may have changed since a mark, b"" for none; None when no watcher answers."""
        given, _, terms = mark.partition(b"\t")
        answer = self._ask({"touched": given.decode("ascii", "replace") if terms == self._terms else ""})
        try:
            if answer is None:
                return None
            said, folders = str(answer["mark"]).encode("ascii"), answer["folders"]
            if said:
                said += b"\t" + self._terms
            if folders is None:
                return Touched(said, None, reason=str(answer["reason"]))
            return Touched(said, frozenset(map(_path, folders)), frozenset(map(_path, answer["below"])))
        except (KeyError, TypeError, ValueError, AttributeError):
            return None

    def distrust(self, path: bytes) -> None:
        """Tell the watcher of a change that it did not tell of."""
        self._ask({"missed": _text(path)})

    def _ask(self, question: Mapping[str, str]) -> dict[str, Any] | None:
        return ask(self.caches, {**self._about, **question})


def ask(caches: Path, question: Mapping[str, object]) -> dict[str, Any] | None:
    """A watcher's answer to any question; None when there is no watcher, or none that answers in time."""
    if not is_socket(caches / WATCH):
        return None
    try:
        with connection(caches) as talk:
            talk.settimeout(_PATIENCE_SECONDS)
            talk.sendall(json.dumps(question).encode() + b"\n")
            said = b""
            while not said.endswith(b"\n") and len(said) < _LONGEST and (part := talk.recv(1 << 16)):
                said += part
        answer = json.loads(said)
    except (OSError, ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def is_socket(path: Path) -> bool:
    """Whether a path is a socket, without the module of that name, whose import takes 10 ms."""
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return False


@contextlib.contextmanager
def connection(caches: Path) -> Iterator[socket]:
    """A connected socket. Raises OSError where nobody listens."""
    # `socket` itself makes four enumerations out of 400 names: 5 of the 60 ms that an answer takes.
    from _socket import AF_UNIX, socket

    with contextlib.closing(socket(AF_UNIX)) as talk, address(caches) as where:
        talk.connect(where)
        yield talk


@contextlib.contextmanager
def address(caches: Path) -> Iterator[str]:
    """The socket's name, short enough for the system (108 bytes on Linux, 104 elsewhere), however deep the vault is."""
    if sys.platform != "linux":
        yield os.fspath(caches / WATCH)
        return
    folder = os.open(caches, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{WATCH}"
    finally:
        os.close(folder)


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def _path(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
