"""Objects over the pipes of a process that `start_python` started: pickles, for both ends are this program."""

from __future__ import annotations

import contextlib
import pickle
from typing import IO, Any

from gitvault.core.utils.process import Program


def send(pipe: IO[bytes], message: object) -> None:
    """Write a message. Raises BrokenPipeError where nobody reads any more."""
    pickle.dump(message, pipe)
    pipe.flush()


def receive(pipe: IO[bytes]) -> Any:
    """The next message; None when the other side has ended."""
    try:
        return pickle.load(pipe)
    except (EOFError, pickle.UnpicklingError):
        return None


def tell(worker: Program, message: object) -> None:
    """Send a worker a message; of one that is gone its end of the answers tells."""
    assert worker.stdin
    with contextlib.suppress(BrokenPipeError):
        send(worker.stdin, message)


def finish(worker: Program) -> None:
    """Send a worker nothing any more, and return when it has ended."""
    assert worker.stdin
    with contextlib.suppress(BrokenPipeError):
        worker.stdin.close()
    worker.wait()
