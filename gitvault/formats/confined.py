"""Reading files that may be hostile in a process of its own, with a limit on time and, where there is one, on memory.

Run as a program this is that process: a line of JSON in, a line of JSON out.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from functools import partial
from importlib import import_module
from threading import Lock, Timer
from typing import Any, Self

from gitvault import errors
from gitvault.errors import GitVaultError, UnsupportedMedia

MEMORY = 6 << 30
"""Address space, in bytes; libraries reserve more than they use."""
SECONDS = 120.0


class Confined:
    """A process that calls functions, one at a time; it starts with the first call, and again when one has ended it."""

    def __init__(self, *, memory: int = MEMORY) -> None:
        self._memory = memory
        self._process: Any = None
        # Two threads on one pipe would read each other's answers, or none.
        self._turn = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process:
            process.kill()
            with process:
                pass

    def call(self, function: str, *arguments: str | int | float | None, seconds: float = SECONDS) -> Any:
        """What `module:name` answers, as JSON knows it: records as dicts, paths as text.

        The first argument is the file it is about. Raises UnsupportedMedia, also when it takes longer than `seconds`,
        needs more memory than it may, or crashes; and what the function raises on purpose.
        """
        from gitvault.core.utils.process import start_python, twin

        with self._turn:
            if not self._process:
                copy = twin(partial(_serve, self._memory))
                self._process = copy or start_python(__spec__.name, [str(self._memory)])
            process = self._process
            began = time.monotonic()
            timer = Timer(seconds, process.kill)
            timer.start()
            try:
                process.stdin.write(json.dumps([function, *arguments]).encode() + b"\n")
                process.stdin.flush()
                said = process.stdout.readline()
            except BrokenPipeError:
                said = b""
            finally:
                timer.cancel()
            what = os.path.basename(str(arguments[0])) if arguments else function
            if not said.endswith(b"\n"):
                self.close()
                is_late = time.monotonic() - began >= seconds
                why = f"not read within {seconds:g} seconds" if is_late else "the process that read it ended"
                raise UnsupportedMedia(f"{what}: {why}; the file may be damaged; its bytes are saved")
        answer = json.loads(said)
        if "error" in answer:
            kind = getattr(errors, answer["error"], None)
            text = answer["text"]
            if isinstance(kind, type) and issubclass(kind, GitVaultError):
                raise kind(text)
            raise UnsupportedMedia(f"{what}: cannot be read: {answer['error']}: {text}; its bytes are saved")
        return answer["result"]


def _limit(memory: int) -> None:
    if sys.platform != "win32":
        import resource

        # Not every system knows the limit, or lets it be lowered.
        try:
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        except (OSError, ValueError):
            pass


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return str(value)


def _answer(line: bytes) -> dict[str, object]:
    function, *arguments = json.loads(line)
    module, _, name = function.partition(":")
    try:
        return {"result": getattr(import_module(module), name)(*arguments)}
    # A parser of somebody's file may raise anything, and this process is there for it.
    except Exception as error:
        return {"error": type(error).__name__, "text": " ".join(str(error).split())[:500]}


def _serve(memory: int) -> None:
    from gitvault.core.utils.process import keep_memory

    _limit(memory)
    keep_memory()
    # What libraries print is not an answer, and nobody reads it.
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    for line in sys.stdin.buffer:
        answers.write(json.dumps(_answer(line), default=_plain).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
