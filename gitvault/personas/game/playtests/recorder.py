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
from collections.abc import Callable, Iterable, Mapping
from json.encoder import encode_basestring_ascii as _quoted
from pathlib import Path
from typing import Any, Self

INTERVAL = 0.2
"""Seconds between two writes: with the write itself less than the 250 ms that a crash may cost."""
VERSION = 1
# Of a large state that is encoded beside the game: after so many pieces another thread may run.
_SLICE = 200
# Lines in one write: to join them holds the interpreter for 60 us.
_BATCH = 1000

_encoder = json.JSONEncoder(separators=(",", ":"), default=str, check_circular=False)


def _pieces_of() -> Callable[[object, int], Iterable[str]]:
    """What encodes in C; `JSONEncoder.encode` makes it anew for each call, a third of what an event costs."""
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return _encoder.iterencode  # type: ignore[return-value]
    found: Callable[[object, int], Iterable[str]] = make(None, str, _quoted, None, ":", ",", False, False, True)
    return found


_pieces = _pieces_of()


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
        os.write(self._fd, _encoder.encode({"v": VERSION, **about}).encode() + b"\n")
        self._thread = threading.Thread(target=self._write, name="fork-safe playtest", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def event(self, name: str, /, **data: Any) -> None:
        """Something happened. What JSON cannot hold is written as text. Never blocks, never raises for a full disk."""
        moment, said = self._clock() - self._began, "".join(_pieces(data, 0))
        self._lines.append(f'{{"t":{moment:.4f},"e":{_quoted(str(name))},"d":{said}}}')

    def state(self, name: str, data: Any) -> None:
        """How things stand; `data` must not be changed afterwards, since it is encoded later, beside the game."""
        self._lines.append((round(self._clock() - self._began, 4), name, data))

    def close(self) -> None:
        """Write what is left and the end. Raises OSError when something could not be written."""
        if not self._stop.is_set():
            self._lines.append(f'{{"t":{self._clock() - self._began:.4f},"end":true}}')
            self._stop.set()
            self._thread.join()
            os.close(self._fd)
        if self._failed:
            raise self._failed

    def _write(self) -> None:
        while True:
            is_last = self._stop.wait(INTERVAL)
            while count := min(len(self._lines), _BATCH):
                lines = (self._lines.popleft() for _ in range(count))
                text = "".join([(line if isinstance(line, str) else _state(*line)) + "\n" for line in lines])
                try:
                    if not self._failed:
                        _write_all(self._fd, text.encode())
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
