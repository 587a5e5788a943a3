"""The one door to other programs: argument lists, a scrubbed environment, errors with names."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Self, cast

from gitvault.errors import NotFoundError, StorageFullError, ToolFailed, ToolMissing, ToolStopped, ToolTimeout

_STOP_POLL = 0.1
# What children write into a vault is for its owner alone, whatever the shell's umask.
_UMASK = 0o077
# Importing numpy starts a thread for each processor, which spin: half of the time that a short process took.
_WORKERS = {"OPENBLAS_NUM_THREADS": "1"}

# 16 times what a pipe holds by default: fewer turns between us and who writes.
_PIPE = 1 << 20

Program = subprocess.Popen[bytes]
"""A program that runs, see `start`."""

_SIZE = struct.Struct("<Q")

# Of glibc's mallopt.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8

FORK_SAFE = "fork-safe"
"""Names of threads that hold nothing a copy of the process would wait for begin so."""

# `git rev-parse --local-env-vars`: a hook exports these, and git would then work on the
# repository the hook runs in instead of the vault.
_GIT_LOCAL = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_CONFIG",
    "GIT_CONFIG_PARAMETERS",
    "GIT_CONFIG_COUNT",
    "GIT_OBJECT_DIRECTORY",
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_GRAFT_FILE",
    "GIT_INDEX_FILE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_REPLACE_REF_BASE",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_CEILING_DIRECTORIES",
    "GIT_QUARANTINE_PATH",
)


def clean_environment() -> dict[str, str]:
    """This process's environment without what would redirect or delay git, or look for programs where one stands."""
    environment = {k: v for k, v in os.environ.items() if k not in _GIT_LOCAL}
    path = environment.get("PATH", os.defpath).split(os.pathsep)
    # An empty entry is the current folder, too.
    environment["PATH"] = os.pathsep.join(folder for folder in path if os.path.isabs(folder))
    # Windows looks in the current folder first unless told otherwise.
    environment["NoDefaultCurrentDirectoryInExePath"] = "1"
    environment["LC_ALL"] = "C"
    environment["GIT_TERMINAL_PROMPT"] = "0"
    return environment


def run(
    command: Sequence[str | Path],
    *,
    stdin: bytes = b"",
    cwd: Path | None = None,
    ok: Sequence[int] = (0,),
    idle: bool = False,
    stop: Callable[[], bool] | None = None,
    timeout: float | None = None,
    variables: Mapping[str, str] | None = None,
) -> bytes:
    """Run a program to its end; its standard output.

    `ok`: exit codes that are no error. `idle`: at the lowest CPU and disk priority. `stop`: asked ten times
    a second; true ends the program. `timeout`: seconds, after which it is ended with all that it started; such a
    program has no terminal to ask anything on. `variables`: set in its environment.
    Raises ToolMissing, NotFoundError, ToolFailed, ToolStopped, ToolTimeout, StorageFullError.
    """
    waits = f"{command[0]}: stopped, another run waits; it goes on next time"
    if stop and stop():
        raise ToolStopped(waits)
    pipe = subprocess.PIPE
    process = _started(
        [*(_idle_prefix() if idle else ()), *command],
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        cwd=cwd,
        variables=variables,
        start_new_session=timeout is not None,
    )
    with process:
        given: bytes | None = stdin
        while True:
            try:
                output, said = process.communicate(given, timeout=_STOP_POLL if stop else timeout)
                break
            except subprocess.TimeoutExpired:
                given = None
                if stop and stop():
                    process.kill()
                    raise ToolStopped(waits) from None
                if not stop:
                    end(process)
                    raise ToolTimeout(f"{command[0]}: no answer after {timeout:g} seconds; it was ended") from None
            except BaseException:
                process.kill()
                raise
    if process.returncode not in ok:
        if b"No space left on device" in said:
            raise StorageFullError(f"{command[0]}: no space left on the disk; free some and run it again")
        raise ToolFailed(" ".join(map(str, command[:6])), process.returncode, said.decode("utf-8", "replace"))
    return output


def git(
    vault: Path,
    *arguments: str | Path,
    stdin: bytes = b"",
    ok: Sequence[int] = (0,),
    idle: bool = False,
    stop: Callable[[], bool] | None = None,
) -> bytes:
    """Run git on the bare repository `vault`; its standard output. See `run`."""
    command = ["git", "--no-optional-locks", f"--git-dir={vault}", *arguments]
    return run(command, stdin=stdin, ok=ok, idle=idle, stop=stop)


def end(process: Program) -> None:
    """End a program in a session of its own, and what it started: ssh outlives a git that is killed."""
    if sys.platform == "win32":
        process.kill()
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _started(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    variables: Mapping[str, str] | None = None,
    **options: Any,
) -> Program:
    """A program in a clean environment; `options`: of `Popen`. Raises ToolMissing, NotFoundError for the folder."""
    environment = {**clean_environment(), **(variables or {})}
    try:
        return subprocess.Popen(
            [_program(str(command[0]), environment), *map(str, command[1:])],
            cwd=cwd,
            env=environment,
            umask=_UMASK,
            **options,
        )
    except FileNotFoundError as error:
        if cwd is not None and not cwd.is_dir():
            raise NotFoundError(f"{cwd}: no such folder") from error
        raise ToolMissing(f"{command[0]}: not found; install it and make sure it is on PATH") from error


def _program(name: str, environment: Mapping[str, str]) -> str:
    """What to run for a name. Windows would look in the current folder: there, the file that PATH leads to."""
    if sys.platform != "win32" or os.path.dirname(name):
        return name
    endings = ("", *environment.get("PATHEXT", ".EXE").lower().split(os.pathsep))
    places = (os.path.join(folder, name) for folder in environment["PATH"].split(os.pathsep))
    return next((file for place in places for ending in endings if os.path.isfile(file := place + ending)), name)


def _python() -> tuple[list[str], dict[str, str]]:
    """How to start this Python, and with what variables: it imports the package this process did, wherever that is.

    `-P`: a module of the folder one stands in, such as a project's `json.py`, is not for us.
    """
    variables = {**_WORKERS, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return [sys.executable, "-P"], variables


def start_python(module: str, arguments: Sequence[str] = ()) -> Program:
    """A worker: this Python running `module`, spoken to through its standard input and output.

    Ctrl-C, which reaches every process of the terminal, waits until the module asks for it (`heed_interrupts`): in the
    middle of an import it would be told by a page of Python.
    """
    python, variables = _python()
    command = [*python, "-m", module, *arguments]
    held = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT]) if sys.platform != "win32" else None
    try:
        return _started(command, variables=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    finally:
        if held is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)


def heed_interrupts() -> None:
    """In a worker: from now on Ctrl-C raises KeyboardInterrupt; at once where it came before."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


class Twin:
    """A copy of this process that is spoken to through pipes, as a worker is; leaving it waits for its end."""

    def __init__(self, pid: int, stdin: int, stdout: int) -> None:
        self.stdin = open(stdin, "wb")  # noqa: SIM115
        self.stdout = open(stdout, "rb")  # noqa: SIM115
        self._pid = pid

    def kill(self) -> None:
        """End it, whatever it does."""
        if self._pid and sys.platform != "win32":
            os.kill(self._pid, signal.SIGKILL)

    def wait(self) -> None:
        """Return when it has ended."""
        pid, self._pid = self._pid, 0
        if pid:
            os.waitpid(pid, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for pipe in (self.stdin, self.stdout):
            # What was not sent has nobody who would read it.
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        self.wait()


def twin(work: Callable[[], object]) -> Twin | None:
    """Run `work` in a copy of this process that has nothing of it but its memory: no open files, no handlers.

    There 0 and 1 are the pipes to here. It starts 60 ms sooner than `start_python`, with all modules imported. None
    where that is not safe: elsewhere than on Linux, without an input or output of our own, and beside other threads,
    also those that a library started.
    """
    if not _may_copy() or len(os.listdir("/proc/self/task")) > threading.active_count():
        return None
    asked, told = os.pipe(), os.pipe()
    if min(*asked, *told) <= 2:
        for fd in (*asked, *told):
            os.close(fd)
        return None

    def alone() -> None:
        # What was made before stays: a file that was collected would close one of ours that has its number.
        gc.freeze()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(asked[0], 0)
        os.dup2(told[1], 1)
        # Among them are locks, which would outlive the parent in here, and the pipes of other copies.
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        sys.stdin, sys.stdout = open(0), open(1, "w", errors="backslashreplace")  # noqa: SIM115
        os.umask(_UMASK)
        clean = {**_WORKERS, **clean_environment()}
        os.environ.clear()
        os.environ.update(clean)
        work()

    child = _forked(alone)
    os.close(asked[0])
    os.close(told[1])
    return Twin(child, asked[1], told[0])


def _may_copy() -> bool:
    """Whether a copy of this process would find no lock that a thread it has not holds."""
    others = [thread for thread in threading.enumerate() if not thread.name.startswith(FORK_SAFE)]
    return sys.platform == "linux" and len(others) <= 1


def _forked(work: Callable[[], object]) -> int:
    """Run `work` in a copy of this process, which ends with it: its number."""
    child = os.fork()
    if child == 0:
        # Nothing of the parent's may run here: no handlers, no buffers flushed twice.
        failed = 1
        try:
            work()
            failed = 0
        finally:
            os._exit(failed)
    return child


def keep_memory() -> None:
    """Have what is freed used again, by all threads: the C library gives large pieces back, and each is new pages the
    next time.

    Of two 4K images those were 60,000, a third of all processor time; of a first push of 430 MB 233,000 became 56,000,
    and 3.1 s of processor 2.4; of a first save of 4.5 GB 330,000 became 35,000, and 180 MB of memory 147.
    """
    import ctypes

    try:
        set_option = ctypes.CDLL(None).mallopt
    # Other systems' libraries have no such option.
    except (AttributeError, OSError, TypeError):
        return
    set_option(_TRIM_THRESHOLD, 1 << 30)
    set_option(_MMAP_THRESHOLD, 32 << 20)
    set_option(_ARENA_MAX, 1)


def start(
    command: Sequence[str | Path], *, cwd: Path | None = None, variables: Mapping[str, str] | None = None
) -> Program:
    """A program that is spoken to through its standard input and output, without a terminal; `end` ends it.

    `variables`: added to its environment. It goes by itself when this process does. Raises ToolMissing, NotFoundError.
    """
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    return _started(
        command, cwd=cwd, variables=variables, stdin=pipe, stdout=pipe, stderr=nowhere, start_new_session=True
    )


@contextlib.contextmanager
def reading(command: Sequence[str | Path]) -> Iterator[BinaryIO]:
    """A program's standard output while it comes; an error inside ends the program.

    Raises ToolMissing, and at the end ToolFailed.
    """
    import tempfile

    with tempfile.TemporaryFile() as said:
        process = _started(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said, bufsize=_PIPE)
        with process:
            assert process.stdout
            if sys.platform == "linux":
                import fcntl

                # Not everybody may have as many of these as there are.
                with contextlib.suppress(OSError):
                    fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, _PIPE)
            try:
                yield cast(BinaryIO, process.stdout)
                # Something behind what was wanted must not look like a failure.
                while process.stdout.read(1 << 20):
                    pass
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            said.seek(0)
            shown = " ".join(map(str, command[:6]))
            raise ToolFailed(shown, process.returncode, said.read().decode("utf-8", "replace"))


class Child:
    """A copy of this process that works out one answer."""

    def __init__(self, pid: int, pipe: int) -> None:
        self._pid = pid
        self._pipe = pipe
        self._said: bytes | None = None

    def result(self) -> bytes:
        """Wait for the answer; b"" when the task failed. The process is gone afterwards."""
        if self._said is None:
            with open(self._pipe, "rb") as pipe:
                said = pipe.read()
            self._said = said if os.waitpid(self._pid, 0)[1] == 0 else b""
        return self._said


def in_child(task: Callable[[], bytes]) -> Child | None:
    """Run `task` in a copy of this process.

    None where processes cannot be copied safely: elsewhere than on Linux, and beside other threads.
    """
    copied = _copied(lambda pipe: pipe.write(task()))
    return copied and Child(*copied)


class Ahead:
    """Messages of a copy of this process, which makes the next one while this process has the last. Close it."""

    def __init__(self, pid: int, pipe: int) -> None:
        self._pid = pid
        self._pipe = open(pipe, "rb")  # noqa: SIM115

    def __iter__(self) -> Iterator[bytes]:
        """In order. Raises ChildProcessError when the copy did not come to its end."""
        while len(head := self._pipe.read(_SIZE.size)) == _SIZE.size:
            [size] = _SIZE.unpack(head)
            if len(message := self._pipe.read(size)) < size:
                break
            yield message
        pid, self._pid = self._pid, 0
        if code := os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
            raise ChildProcessError(f"a process that worked beside this one ended with code {code}; run it again")

    def close(self) -> None:
        """Leave no process behind."""
        self._pipe.close()
        if self._pid and sys.platform != "win32":
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0


def ahead(messages: Iterator[bytes]) -> Ahead | None:
    """Let a copy of this process go on with an iterator, which is not to be touched here any more.

    None as for `in_child`.
    """

    def send(pipe: BinaryIO) -> None:
        for message in messages:
            pipe.write(_SIZE.pack(len(message)))
            pipe.write(message)
            pipe.flush()

    copied = _copied(send)
    return copied and Ahead(*copied)


def _copied(task: Callable[[BinaryIO], object]) -> tuple[int, int] | None:
    """Run a task in a copy of this process: its number, and the pipe that it writes to."""
    if not _may_copy() or (os.cpu_count() or 1) < 2:
        return None
    reading, writing = os.pipe()

    def work() -> None:
        os.close(reading)
        with open(writing, "wb") as pipe:
            task(pipe)

    child = _forked(work)
    os.close(writing)
    return child, reading


def start_detached(arguments: Sequence[str]) -> None:
    """Start this Python with `arguments` in the background at idle priority; it outlives this process."""
    start_idle(arguments, None)


def start_idle(arguments: Sequence[str], output: BinaryIO | None) -> Program:
    """Start this Python with `arguments` at idle priority, out of reach of this terminal's signals.

    What it prints, errors too, goes to the file `output`, or nowhere.
    """
    python, variables = _python()
    return _started(
        [*_idle_prefix(), *python, *arguments],
        variables=variables,
        stdin=subprocess.DEVNULL,
        stdout=output or subprocess.DEVNULL,
        stderr=output or subprocess.DEVNULL,
        **{"creationflags": 0x00000008 | 0x00000040} if sys.platform == "win32" else {"start_new_session": True},
    )


def _idle_prefix() -> tuple[str, ...]:
    import shutil

    prefix: tuple[str, ...] = ()
    if shutil.which("nice"):
        prefix += ("nice", "-n", "19")
    if shutil.which("ionice"):
        prefix += ("ionice", "-c", "3")
    return prefix
