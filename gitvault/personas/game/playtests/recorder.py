"""Recording a playtest beside the game: a call costs microseconds, a crash at most what the last 200 ms brought.

The game's thread only makes a line of JSON and hands it over; a thread of its own appends lines to a file, which is
plain JSON lines from the first moment on (see docs/playtests.md for what they say).
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

INTERVAL = 0.2
"""Seconds between two writes: with the write itself less than the 250 ms that a crash may cost."""
VERSION = 1
# Of a large state that is encoded beside the game: after so many pieces another thread may run.
_SLICE = 200

_encode = json.JSONEncoder(separators=(",", ":"), default=str, check_circular=False).encode


class Recorder:
    """Writes one session's events to a file. `event` and `state` are for the game's threads, any of them."""

    def __init__(self, file: Path, about: Mapping[str, Any], *, clock: Callable[[], float] = time.perf_counter) -> None:
        """`about`: what the first line says of the session. Raises FileExistsError, OSError."""
        self.file = file
        self._clock = clock
        self._began = clock()
        self._lines: deque[str | tuple[float, str, Any]] = deque()
        self._stop = threading.Event()
        self._failed: OSError | None = None
        self._fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        os.write(self._fd, _encode({"v": VERSION, **about}).encode() + b"\n")
        self._thread = threading.Thread(target=self._write, name="fork-safe playtest", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def event(self, name: str, /, **data: Any) -> None:
        """Something happened. What JSON cannot hold is written as text. Never blocks, never raises for a full disk."""
        self._lines.append(_encode({"t": round(self._clock() - self._began, 4), "e": name, "d": data}))

    def state(self, name: str, data: Any) -> None:
        """How things stand; `data` must not be changed afterwards, since it is encoded later, beside the game."""
        self._lines.append((round(self._clock() - self._began, 4), name, data))

    def close(self) -> None:
        """Write what is left and the end. Raises OSError when something could not be written."""
        if not self._stop.is_set():
            self._lines.append(_encode({"t": round(self._clock() - self._began, 4), "end": True}))
            self._stop.set()
            self._thread.join()
            os.close(self._fd)
        if self._failed:
            raise self._failed

    def _write(self) -> None:
        while True:
            is_last = self._stop.wait(INTERVAL)
            lines: list[bytes] = []
            while self._lines:
                line = self._lines.popleft()
                lines.append((line if isinstance(line, str) else _state(*line)).encode("utf-8", "surrogatepass"))
                if not len(lines) % _SLICE:
                    time.sleep(0)
            try:
                if lines and not self._failed:
                    _write_all(self._fd, b"\n".join([*lines, b""]))
            except OSError as error:
                self._failed = error
            if is_last and not self._lines:
                return


def _state(moment: float, name: str, data: Any) -> str:
    """The line of a state, encoded in pieces: in one it would hold the interpreter for as long as it takes."""
    pieces: list[str] = []
    encoder = json.JSONEncoder(separators=(",", ":"), default=str)
    for number, piece in enumerate(encoder.iterencode({"t": moment, "s": name, "d": data})):
        pieces.append(piece)
        if not number % _SLICE:
            time.sleep(0)
    return "".join(pieces)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
