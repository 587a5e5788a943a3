"""Recording a playtest beside the game: a call costs microseconds, a crash at most what the last 200 ms brought.

The game's thread only makes a line of JSON and hands it over; a thread of its own appends lines to a file, which is
plain JSON lines from the first moment on (see docs/playtests.md for what they say).
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
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
        self._lines: list[bytes | dict[str, Any]] = []
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
        # caches have forgotten all of it. `round` alone took 14 us more then.
        said = {"t": int((self._clock() - self._began) * 1e4) / 1e4, "e": name, "d": data}
        try:
            self._lines.append(_encode(said))
        except Exception:
            # Halves of pairs.
            self._lines.append(_slowly(said))

    def state(self, name: str, data: Any) -> None:
        """How things stand; `data` must not be changed afterwards, since it is encoded later, beside the game."""
        self._lines.append({"t": self._time(), "s": name, "d": data})

    def close(self) -> None:
        """Write what is left and the end. Raises OSError when something could not be written."""
        if self._is_open:
            self._is_open = False
            self._lines.append(_slowly({"t": self._time(), "end": True}))
            self._ending.release()
            self._thread.join()
            os.close(self._fd)
        if self._failed:
            raise self._failed

    def _time(self) -> float:
        """Seconds since the start, to 0.1 ms."""
        return int((self._clock() - self._began) * 1e4) / 1e4

    def _write(self) -> None:
        while True:
            is_last = self._ending.acquire(timeout=INTERVAL)
            while lines := self._lines[:_BATCH]:
                # Each is one step for the interpreter: what is added meanwhile stands behind.
                del self._lines[: len(lines)]
                try:
                    if not self._failed:
                        _write_all(self._fd, _joined(lines))
                except OSError as error:
                    self._failed = error
            if is_last:
                return


def _joined(lines: Sequence[bytes | dict[str, Any]]) -> bytes:
    try:
        # Nearly always there are only events; the game waits while lines are looked at one by one.
        text = b"\n".join(lines)  # type: ignore[arg-type]
    except TypeError:
        text = b"\n".join(line if isinstance(line, bytes) else _slowly(line) for line in lines)
    return text + b"\n"


def _slowly(said: dict[str, Any]) -> bytes:
    """A line, encoded in pieces: in one a large state would hold the interpreter for as long as it takes.

    What cannot be written as JSON is written as Python shows it.
    """
    pieces: list[str] = []
    try:
        for number, piece in enumerate(_encoder.iterencode(said), 1):
            pieces.append(piece)
            if not number % _SLICE:
                time.sleep(0)
    except (TypeError, ValueError, RecursionError):
        pieces = [_encoder.encode({**said, "d": repr(said.get("d"))})]
    return "".join(pieces).encode()


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
