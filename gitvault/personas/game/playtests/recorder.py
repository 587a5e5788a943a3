"""Recording a playtest beside the game: a call costs microseconds, a crash at most what the last 200 ms brought.

The game's thread only makes a line of JSON and hands it over; a thread of its own appends lines to a file, which is
plain JSON lines from the first moment on (see docs/playtests.md for what they say).
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import msgspec

INTERVAL = 0.2
"""Seconds between two writes: with the write itself less than the 250 ms that a crash may cost."""
VERSION = 1
# Of a large state that is encoded beside the game: after so many pieces another thread may run.
_SLICE = 200
# Lines in one write: to join more holds the interpreter for longer.
_BATCH = 1000

_encode = msgspec.json.Encoder(enc_hook=str).encode
_encoder = json.JSONEncoder(separators=(",", ":"), default=str)


class Recorder:
    """Writes one session's events to a file. `event` and `state` are for the game's threads, any of them."""

    def __init__(self, file: Path, about: Mapping[str, Any], *, clock: Callable[[], float] = time.perf_counter) -> None:
        """`about`: what the first line says of the session. Raises FileExistsError, OSError."""
        self.file = file
        self._clock = clock
        self._began = clock()
        self._lines: list[tuple[float, bytes, str, Any]] = []
        self._add = self._lines.append
        self._ending = threading.Lock()
        self._ending.acquire()
        self._is_open = True
        self._failed: OSError | None = None
        self._fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        os.write(self._fd, _slowly({"v": VERSION, **about}) + b"\n")
        self._thread = threading.Thread(target=self._write, name="fork-safe playtest", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def event(self, name: str, /, **data: Any) -> None:
        """Something happened. Never blocks, and raises neither for a full disk nor for what JSON cannot hold.

        That is written as text, a set as a list, what is infinite or no number as null.
        """
        # Nothing here but what must be: nearly each call that is slow is the first of a frame, when the processor's
        # caches have forgotten all of it. To write the time as well took 9 us more then, to round it another 14.
        moment = self._clock()
        try:
            said = _encode(data)
        except Exception:
            # Halves of pairs.
            said = _slowly(data)
        self._add((moment, b"e", name, said))

    def state(self, name: str, data: Any) -> None:
        """How things stand; `data` must not be changed afterwards, since it is encoded later, beside the game."""
        self._add((self._clock(), b"s", name, data))

    def close(self) -> None:
        """Write what is left and the end. Raises OSError when something could not be written."""
        if self._is_open:
            self._is_open = False
            ended = self._clock() - self._began
            self._ending.release()
            self._thread.join()
            self._append(b'{"t":%.4f,"end":true}\n' % ended)
            os.close(self._fd)
        if self._failed:
            raise self._failed

    def _write(self) -> None:
        while True:
            is_last = self._ending.acquire(timeout=INTERVAL)
            while lines := self._lines[:_BATCH]:
                # Each is one step for the interpreter: what is added meanwhile stands behind.
                del self._lines[: len(lines)]
                self._append(b"".join([_line(at - self._began, *said) for at, *said in lines]))
            if is_last:
                return

    def _append(self, data: bytes) -> None:
        try:
            if not self._failed:
                _write_all(self._fd, data)
        except OSError as error:
            self._failed = error


def _line(moment: float, key: bytes, name: str, said: Any) -> bytes:
    data = said if key == b"e" else _slowly(said)
    return b'{"t":%.4f,"%b":%b,"d":%b}\n' % (moment, key, _encoder.encode(str(name)).encode(), data)


def _slowly(data: Any) -> bytes:
    """Data, encoded in pieces: in one a large state would hold the interpreter for as long as it takes.

    What cannot be written as JSON is written as Python shows it.
    """
    pieces: list[str] = []
    try:
        for number, piece in enumerate(_encoder.iterencode(data), 1):
            pieces.append(piece)
            if not number % _SLICE:
                time.sleep(0)
    except (TypeError, ValueError, RecursionError):
        pieces = [_encoder.encode(repr(data))]
    return "".join(pieces).encode()


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
