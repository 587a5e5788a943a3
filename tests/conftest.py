"""What every test gets: an own home folder, a neutral git, `needs`, `--deep`, and the report that is kept."""

from __future__ import annotations

import ast
import importlib
import io
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import coverage
import hypothesis
import pytest
from servers import s3 as s3
from unsteady import Unsteady

from gitvault.cli import main
from gitvault.vault import Vault

if TYPE_CHECKING:
    from away import Counted

ROOT = Path(__file__).parent.parent

# What the tests of one run take at once, several times over.
_MEMORY = 3 << 30

# Measuring lines takes a quarter of the suite's time; what these run, others run too, all but the killing and waiting.
UNMEASURED = {
    "faults",
    "scenarios",
    "test_copy_of_pruned",
    "test_readme",
    "test_rescue_scripts",
    "test_several_at_once",
    "test_store_upkeep",
    "test_sweep_after_loss",
    "test_watch_list",
}
"""Folders and modules of tests during which no coverage is measured."""

UNRAISED = pytest.StashKey[list[str]]()

# Debian's names, where they differ from the program's.
PACKAGES = {
    "hg": "mercurial",
    "svn": "subversion",
    "setfattr": "attr",
    "setfacl": "acl",
    "man": "man-db",
    "mcs": "mono-mcs",
    "mono": "mono-runtime",
    "radosgw": "radosgw ceph-mon ceph-osd ceph-common",
    "borg": "borgbackup",
}

hypothesis.settings.register_profile("default", deadline=None, max_examples=40, derandomize=True)
hypothesis.settings.register_profile("deep", deadline=None, max_examples=2000)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--deep", action="store_true", help="many more examples, slow tests too")


def pytest_configure(config: pytest.Config) -> None:
    hypothesis.settings.load_profile("deep" if config.getoption("--deep") else "default")
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # A shell starts what runs in the background so, and programs that are to be interrupted inherit it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Unsteady())
    if config.option.basetemp is None and not hasattr(config, "workerinput") and (memory := _memory()):
        config.option.basetemp = memory
        config.add_cleanup(lambda: shutil.rmtree(memory, ignore_errors=True))


def _memory() -> str | None:
    """A folder where syncs cost nothing, if there is one that can hold what a disk can."""
    root = "/dev/shm"
    if not os.access(root, os.W_OK) or shutil.disk_usage(root).free < _MEMORY:
        return None
    folder = tempfile.mkdtemp(prefix="gitvault-tests-", dir=root)
    try:
        # Before Linux 6.6 memory has neither.
        os.setxattr(folder, "user.test", b"")
        os.close(os.open(f"{folder}/direct", os.O_WRONLY | os.O_CREAT | os.O_DIRECT))
    except OSError:
        shutil.rmtree(folder)
        return None
    return folder


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """pytest's, or, marked `disk`, a folder where a user's files would be."""
    if not request.node.get_closest_marker("disk"):
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="gitvault-tests-")).resolve()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if UNMEASURED & {item.path.parent.name, item.path.stem}:
            item.add_marker(pytest.mark.no_cover)


@pytest.fixture(autouse=True)
def _programs_are_measured_like_their_test(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("no_cover"):
        monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("deep") and not item.config.getoption("--deep"):
        pytest.skip("slow: runs with --deep")
    for mark in item.iter_markers("needs"):
        for tool in mark.args:
            if shutil.which(tool) is None:
                _missing(tool)


def _missing(tool: str) -> None:
    message = f"{tool} is not installed: apt-get install {PACKAGES.get(tool, tool)}"
    if os.environ.get("CI") == "true":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


@pytest.fixture(autouse=True, scope="session")
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test sees or changes the user's vault, git configuration or running hook; git knows an author."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("GIT_"):
                patch.delenv(name)
        for name in ("HOME", "USERPROFILE", "LOCALAPPDATA", "APPDATA"):
            patch.setenv(name, str(home))
        for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
            patch.delenv(name, raising=False)
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        (home / ".gitconfig").write_text(
            "[user]\n\tname = A Tester\n\temail = tester@example.invalid\n[init]\n\tdefaultBranch = main\n"
            '[protocol "file"]\n\tallow = always\n'
            # 8 MiB for each of a thousand vaults; the tests of a full disk have one.
            "[vault]\n\treserve = 0\n"
        )
        yield home


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    """An empty vault that starts no maintenance behind a test's back."""
    path = tmp_path / "vault.git"
    Vault.create(path).close()
    with (path / "config").open("a") as config:
        config.write("\tmaintenance = off\n")
    with Vault.open(path) as vault:
        yield vault


@pytest.fixture
def place(tmp_path: Path) -> Counted:
    """A folder that stands for a remote and counts what is asked of it."""
    # Most tests have nothing to do with remotes.
    from away import Counted

    return Counted(tmp_path / "place")


@pytest.fixture
def command(tmp_path: Path, vault: Vault) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs git-vault on `vault`; stops a test that sees a traceback.

    With options of `subprocess.run` but `cwd`, and beside other threads, as a program; else what the program runs:
    starting it takes three times as long as most commands do.
    """

    def run(*words: str | Path, cwd: Path = tmp_path, **options: Any) -> subprocess.CompletedProcess[str]:
        arguments = ["--vault", str(vault.path), *map(str, words)]
        alone = threading.current_thread() is threading.main_thread() and not options
        done = called(arguments, cwd) if alone else started(arguments, cwd, options)
        assert "Traceback" not in done.stderr
        return done

    return run


def started(arguments: list[str], folder: Path, options: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """The program, in a folder, with options of `subprocess.run`."""
    return subprocess.run(
        [sys.executable, "-m", "gitvault", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="surrogateescape",
        env={**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})},
        cwd=folder,
        timeout=120,
        check=False,
        **options,
    )


def called(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """What the program runs, in this process and in a folder."""
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", "surrogateescape", write_through=True) for _ in range(2)]
    with pytest.MonkeyPatch.context() as patch, open(os.devnull, encoding="utf-8") as nothing:
        patch.chdir(folder)
        patch.setattr(sys, "stdin", nothing)
        for name, stream in zip(("stdout", "stderr"), streams, strict=True):
            patch.setattr(sys, name, stream)
        code = main.main(arguments)
    out, err = (cast(io.BytesIO, stream.buffer).getvalue().decode("utf-8", "surrogateescape") for stream in streams)
    return subprocess.CompletedProcess(arguments, code, out, err)


@pytest.fixture
def as_nobody() -> Callable[[Callable[[], None]], None]:
    """Runs something in a child without root's right to read and write everything; its failure is the test's."""
    for folder in {*Path(__file__).parents, *Path(sys.prefix, "lib").parents}:
        if not folder.stat().st_mode & stat.S_IXOTH:
            pytest.skip(f"{folder}: only its owner may enter; clone into a folder that others may enter")

    def run(work: Callable[[], None]) -> None:
        # Python's own modules may be where only root may read: what is imported late is here before.
        sources = "".join(path.read_text("utf-8") for path in Path(main.__file__).parents[1].rglob("*.py"))
        # The second is importlib.resources' own.
        for name in {*re.findall(r"(?m)^ *(?:from|import) ([\w.]+)", sources), "importlib.readers"}:
            if name.split(".")[0] in sys.stdlib_module_names:
                with suppress(ImportError):
                    importlib.import_module(name)
        child = os.fork()
        if not child:
            code = 1
            try:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                work()
                code = 0
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    return run


@pytest.hookimpl(optionalhook=True)
def pytest_json_modifyreport(json_report: dict[str, Any]) -> None:
    """Keep what two runs on two machines can be compared by."""
    for key in ("root", "environment"):
        json_report.pop(key, None)
    for test in json_report.get("tests", ()):
        test.pop("lineno", None)
        for phase in ("setup", "call", "teardown"):
            if test.get(phase, {}).get("outcome") == "passed":
                del test[phase]
    json_report.get("tests", []).sort(key=lambda test: test["nodeid"])


def raise_sites(source: str) -> Iterator[tuple[int, str]]:
    """Line and class of every `raise SomeError(...)`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            yield node.lineno, ast.unparse(node.exc.func)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """In a run with coverage, an error that no test raised is a failure like a failed test."""
    config = session.config
    if hasattr(config, "workerinput") or not getattr(config.option, "cov_source", None):
        return
    config.stash[UNRAISED] = list(_unraised())
    if config.stash[UNRAISED] and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _unraised() -> Iterator[str]:
    measured = coverage.Coverage()
    measured.load()
    data = measured.get_data()
    for path in sorted((ROOT / "gitvault").rglob("*.py")):
        ran = set(data.lines(str(path)) or ())
        for line, error in sorted(raise_sites(path.read_text("utf-8"))):
            if line not in ran:
                yield f"{path.relative_to(ROOT)}:{line}: {error}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    counts: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "call":
                counts.update(dict(report.user_properties))
    if counts:
        tried = ", ".join(f"{count:,} {what}" for what, count in sorted(counts.items()))
        terminalreporter.line(f"faults: {tried}")
    if sites := config.stash.get(UNRAISED, []):
        terminalreporter.section("errors that no test raises", red=True)
        for site in sites:
            terminalreporter.line(site)
