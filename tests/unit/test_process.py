"""Other programs: the environment they get, how their failures are named, copies and workers of this process."""

from __future__ import annotations

import itertools
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gitvault.core.utils import process
from gitvault.errors import (
    NotFoundError,
    StorageFullError,
    ToolError,
    ToolFailed,
    ToolMissing,
    ToolStopped,
    ToolTimeout,
)


def test_git_is_not_redirected_by_what_a_hook_exports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "mine.git"], check=True)
    subprocess.run(["git", "init", "-q", tmp_path / "theirs"], check=True)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "theirs" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "theirs"))
    assert "GIT_DIR" not in process.clean_environment()
    found = process.git(tmp_path / "mine.git", "rev-parse", "--absolute-git-dir")
    assert found.strip() == os.fsencode(tmp_path / "mine.git")


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(ToolMissing, match="no-such-program-here: not found; install it"):
        process.run(["no-such-program-here"])


def test_a_program_that_fails_is_named_with_its_code_and_last_words() -> None:
    with pytest.raises(ToolFailed, match=r"failed with code 7: the last line") as failed:
        process.run([sys.executable, "-c", "import sys; print('first\\nthe last line', file=sys.stderr); sys.exit(7)"])
    assert failed.value.code == 7
    assert "first" in failed.value.stderr
    assert isinstance(failed.value, ToolError)


def test_of_several_lines_the_one_that_says_why_is_told() -> None:
    said = "warning: x\nssh: Could not resolve hostname h\nfatal: Could not read.\n\nMake sure\nthe repository exists."
    failed = ToolFailed("git ls-remote", 128, said)
    assert failed.reason == "ssh: Could not resolve hostname h"
    assert str(failed) == f"git ls-remote failed with code 128: {failed.reason}"
    assert ToolFailed("restic", 1, "Fatal: no config\nIs it here?\nacme\n").reason == "Fatal: no config"
    assert ToolFailed("x", 1, "one\ntwo\n").reason == "two"
    assert ToolFailed("x", 1, "\n").reason == "no message"


def test_a_program_that_finds_the_disk_full_says_so() -> None:
    program = "import sys; sys.exit('fatal: write error: No space left on device')"
    with pytest.raises(StorageFullError, match="no space left on the disk; free some"):
        process.run([sys.executable, "-c", program])


def test_codes_that_are_no_error() -> None:
    assert process.run([sys.executable, "-c", "import sys; sys.exit(5)"], ok=(0, 5)) == b""


@pytest.mark.skipif(sys.platform != "linux", reason="processes are copied on Linux only")
def test_a_child_answers_with_what_its_task_returns() -> None:
    child = process.in_child(lambda: b"answer of %d" % os.getpid())
    assert isinstance(child, process.Child)
    said = child.result()
    assert said.startswith(b"answer of ")
    assert said != b"answer of %d" % os.getpid()
    assert child.result() == said


@pytest.mark.skipif(sys.platform != "linux", reason="processes are copied on Linux only")
def test_a_child_whose_task_fails_answers_nothing_and_is_gone(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> bytes:
        raise OSError("no")

    child = process.in_child(fail)
    assert child is not None
    assert child.result() == b""
    assert capfd.readouterr() == ("", "")
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are copied on Linux only")
def test_a_copy_goes_on_with_an_iterator_and_is_gone_at_the_end() -> None:
    others = (b"%d " % os.getpid() + b"x" * size for size in (0, 3, 3 << 20))
    beside = process.ahead(others)
    assert isinstance(beside, process.Ahead)
    said = [message.partition(b" ") for message in beside]
    beside.close()
    assert [len(rest) for _, _, rest in said] == [0, 3, 3 << 20]
    assert {int(pid) for pid, _, _ in said} != {os.getpid()}
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are copied on Linux only")
@pytest.mark.parametrize("end", [lambda: 1 / 0, lambda: os._exit(9), lambda: os.kill(os.getpid(), signal.SIGKILL)])
def test_a_copy_that_does_not_come_to_its_end_is_told(
    end: Callable[[], object], capfd: pytest.CaptureFixture[str]
) -> None:
    def messages() -> Iterator[bytes]:
        yield b"first"
        end()

    beside = process.ahead(messages())
    assert beside is not None
    said = iter(beside)
    assert next(said) == b"first"
    with pytest.raises(ChildProcessError, match=r"worked beside this one ended with code (1|9|-9); run it again"):
        next(said)
    beside.close()
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform != "linux", reason="processes are copied on Linux only")
def test_a_copy_that_nobody_listens_to_any_more_is_ended() -> None:
    beside = process.ahead(itertools.repeat(b"x" * 100_000))
    assert beside is not None
    assert next(iter(beside))
    beside.close()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_no_copy_is_made_beside_other_threads() -> None:
    stop = threading.Event()
    other = threading.Thread(target=stop.wait)
    other.start()
    try:
        assert process.in_child(lambda: b"") is None
        assert process.ahead(iter([b""])) is None
        other.name = f"{process.FORK_SAFE}-waits"
        if sys.platform == "linux" and (os.cpu_count() or 1) > 1:
            child = process.in_child(lambda: b"said")
            assert child is not None
            assert child.result() == b"said"
    finally:
        stop.set()
        other.join()


def test_a_worker_imports_the_same_package() -> None:
    worker = process.start_python("gitvault.core.backup_engine.intake")
    assert worker.stdin is not None
    # No settings at all: it ends by itself when its input does.
    _, _ = worker.communicate(b"", timeout=120)
    assert worker.returncode is not None


@pytest.mark.skipif(sys.platform == "win32", reason="no signals between processes")
def test_a_worker_hears_of_an_interrupt_when_it_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not while it imports, which would end in a page of Python; and who starts it goes on hearing of its own."""
    (tmp_path / "slow_to_start.py").write_text(
        "import sys\nprint('begins', flush=True)\nsys.stdin.readline()\n"
        "from gitvault.core.utils.process import heed_interrupts\n"
        "try:\n    heed_interrupts()\n    print('nothing', flush=True)\n"
        "except KeyboardInterrupt:\n    print('heard', flush=True)\n"
    )
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    for asked, said in ((True, b"heard\n"), (False, b"nothing\n")):
        with process.start_python("slow_to_start") as worker:
            assert worker.stdin
            assert worker.stdout
            assert worker.stdout.readline() == b"begins\n"
            if asked:
                worker.send_signal(signal.SIGINT)
            worker.stdin.write(b"go on\n")
            worker.stdin.flush()
            assert worker.stdout.readline() == said
        assert worker.returncode == 0
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


@pytest.mark.skipif(sys.platform == "win32", reason="no signals between processes")
def test_an_interrupt_that_came_before_is_heard_at_once() -> None:
    handler, held = signal.getsignal(signal.SIGINT), signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        # To this thread alone: others of a test run do not hold it back.
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            process.heed_interrupts()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        signal.signal(signal.SIGINT, handler)


def test_what_is_detached_outlives_the_call(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    process.start_detached(["-c", f"open({str(mark)!r}, 'w').write('done')"])
    for _ in range(2400):
        if mark.exists() and mark.read_text() == "done":
            return
        time.sleep(0.05)
    raise AssertionError("the detached program did not run")


def test_what_runs_idle_says_all_into_a_file_and_leaves_the_processor_to_others(tmp_path: Path) -> None:
    code = (
        "import os, subprocess, sys; print(os.nice(0), flush=True); sys.platform != 'linux' or subprocess.run('ionice')"
    )
    code += "; print('said', file=sys.stderr); sys.exit(3)"
    with (tmp_path / "out").open("w+b") as output:
        assert process.start_idle(["-c", code], output).wait(120) == 3
        output.seek(0)
        assert output.read() == (b"19\nidle\nsaid\n" if sys.platform == "linux" else b"0\nsaid\n")


def test_a_program_ends_when_something_more_urgent_waits() -> None:
    began = time.monotonic()
    answers = iter([False, False, True])
    with pytest.raises(ToolStopped, match="stopped, another run waits"):
        process.run([sys.executable, "-c", "import time; time.sleep(600)"], stop=lambda: next(answers))
    assert time.monotonic() - began < 300
    asked: list[int] = []
    said = process.run(
        [sys.executable, "-c", "import sys, time; time.sleep(0.3); print(sys.stdin.read())"],
        stdin=b"given",
        stop=lambda: bool(asked.append(1)),
    )
    assert said.strip() == b"given"
    assert asked


def test_a_program_that_gives_no_answer_is_ended_with_all_it_started(tmp_path: Path) -> None:
    child = f"import time, pathlib; time.sleep(2); pathlib.Path({str(tmp_path / 'alive')!r}).touch()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    started = time.monotonic()
    with pytest.raises(ToolTimeout, match=r"no answer after 0\.3 seconds; it was ended"):
        process.run([sys.executable, "-c", parent], timeout=0.3)
    time.sleep(max(0, 2.2 - (time.monotonic() - started)))
    assert not (tmp_path / "alive").exists()


def test_a_folder_to_run_in_that_is_gone_is_not_a_missing_program(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="gone: no such folder"):
        process.run([sys.executable, "-c", ""], cwd=tmp_path / "gone")


def test_variables_reach_the_program() -> None:
    show = "import os; print(os.environ['OF_OURS'])"
    assert process.run([sys.executable, "-c", show], variables={"OF_OURS": "x"}).strip() == b"x"


TWIN = """
import json, os, signal, sys, threading
from gitvault.core.utils import process
signal.signal(signal.SIGTERM, signal.SIG_IGN)
kept = open(sys.argv[1])
os.environ["GIT_DIR"] = "/elsewhere"
made_before = ["in memory"]

def work():
    said = {"asked": sys.stdin.readline(), "memory": made_before, "git": os.environ.get("GIT_DIR"),
            "open": [n for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")],
            "ends": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, "umask": os.umask(0)}
    print(json.dumps(said), flush=True)
    sys.stdin.read()

def one():
    return process.twin(work)

with one() as twin:
    twin.stdin.write(b"hello\\n")
    twin.stdin.flush()
    print(twin.stdout.readline().decode(), end="")
    twin.kill()
os.close(0)
print(one())
os.open(os.devnull, os.O_RDONLY)
waiting = threading.Event()
thread = threading.Thread(target=waiting.wait)
thread.start()
print(one())
thread.name = process.FORK_SAFE
with one() as first, one() as second:
    # The other has not the pipe that this one waits at.
    first.stdin.close()
    first.wait()
    second.kill()
waiting.set()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="processes are copied on Linux only")
def test_a_twin_that_has_ended_is_neither_killed_nor_waited_for_again() -> None:
    child = os.fork()
    if not child:
        os._exit(0)
    twin = process.Twin(child, os.open(os.devnull, os.O_WRONLY), os.open(os.devnull, os.O_RDONLY))
    with twin:
        twin.wait()
        twin.kill()
    with pytest.raises(ChildProcessError):
        os.waitpid(child, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are copied on Linux only")
def test_a_twin_has_the_memory_of_its_process_and_none_of_its_files_and_is_not_made_beside_threads(
    tmp_path: Path,
) -> None:
    (tmp_path / "kept").write_text("")
    found = subprocess.run(
        [sys.executable, "-c", TWIN, tmp_path / "kept"], capture_output=True, check=True, text=True, timeout=60
    )
    told, without_input, beside_a_thread = found.stdout.splitlines()
    said = json.loads(told)
    assert (said["asked"], said["memory"], said["git"], said["ends"]) == ("hello\n", ["in memory"], None, True)
    assert said["umask"] == 0o077
    assert sorted(said["open"]) == ["0", "1", "2"]
    assert without_input == beside_a_thread == "None"


_PATH = {"PYTHONPATH": os.pathsep.join(sys.path)}
_ALLOCATING = """
import resource, sys, threading
from gitvault.core.utils import process
if sys.argv[1:]:
    getattr(process, sys.argv[1])()
def work():
    for _ in range(20):
        bytearray(8 << 20)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
before = faults()
for _ in range(3):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such options")
def test_memory_that_was_freed_is_used_again_by_all_threads() -> None:
    plain, kept = (
        int(subprocess.check_output([sys.executable, "-c", _ALLOCATING, *words], env={**os.environ, **_PATH}))
        for words in ([], [process.keep_memory.__name__])
    )
    assert kept < plain / 4
