"""The programs that are measured, each as a person would call it, and how a run is measured."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

LONGEST = 3600
"""Seconds; what takes longer hangs."""


class Failed(Exception):
    """A program ended with an error."""


@dataclass(frozen=True)
class Run:
    """One finished run."""

    seconds: float
    """From the start of the process to its exit; of all, when there were several."""
    memory: int
    """The largest sum over the process tree in bytes, pages shared by several counted once; 0 when not sampled."""
    output: bytes


def run(
    *commands: Sequence[str | Path],
    cwd: Path | None = None,
    env: Mapping[str, str],
    ok: Sequence[int] = (0,),
    sample: bool = False,
    output: bool = False,
) -> Run:
    """Run programs one after the other. `sample`: measure memory too, which costs time. Raises Failed."""
    seconds, memory, data = 0.0, 0, b""
    # Compiled modules are kept, as on the machine of anyone who uses what is measured.
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    for command in commands:
        with open(os.devnull, "rb") as nothing:
            start = time.perf_counter()
            process = subprocess.Popen(
                list(map(str, command)),
                cwd=cwd,
                env={**inherited, **env},
                stdin=nothing,
                stdout=subprocess.PIPE if output else subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            watch = _Memory(process.pid) if sample else None
            try:
                data, errors = process.communicate(timeout=LONGEST)
            except subprocess.TimeoutExpired as error:
                process.kill()
                raise Failed(f"{' '.join(map(str, command[:4]))}: still running after {LONGEST} s") from error
            seconds += time.perf_counter() - start
        if watch:
            memory = max(memory, watch.stop())
        if process.returncode not in ok:
            last = errors.decode("utf-8", "replace").strip().splitlines()[-1:]
            raise Failed(f"{' '.join(map(str, command[:4]))}: code {process.returncode}: {' '.join(last)}")
    return Run(seconds, memory, data)


class _Memory:
    """Looks at a process tree 20 times a second. Linux only; elsewhere 0."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._most = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> int:
        self._done.set()
        self._thread.join()
        return self._most

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            self._most = max(self._most, sum(_resident(pid) for pid in _tree(self._root)))


def _tree(pid: int) -> Iterator[int]:
    yield pid
    try:
        children = [t.read_text().split() for t in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return
    for child in [int(c) for found in children for c in found]:
        yield from _tree(child)


def _resident(pid: int) -> int:
    """Proportional set size: a page that n processes share counts 1/n in each."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:")), 0)


def size_of(*folders: Path) -> int:
    """Bytes of all files below the folders."""
    return sum(
        os.lstat(os.path.join(top, name)).st_size
        for folder in folders
        for top, _, names in os.walk(folder)
        for name in names
    )


@dataclass(frozen=True)
class Tool:
    """A program that saves folders. `home` holds its repository and caches, all its own."""

    name: str
    home: Path
    env: dict[str, str] = field(default_factory=dict)

    @property
    def repository(self) -> Path:
        """Where it keeps what it saves."""
        return self.home / "repository"

    def init(self) -> None:
        """An empty repository."""
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(parents=True)
        self._init()

    def _init(self) -> None:
        raise NotImplementedError

    def save(self, source: Path, *, sample: bool = False) -> Run:
        """Save the folder as it is now."""
        raise NotImplementedError

    def restore(self, target: Path, *, sample: bool = False) -> Run:
        """Everything of the newest version, into an empty folder."""
        raise NotImplementedError

    def size(self) -> int:
        """Stored bytes, without caches."""
        return size_of(self.repository)


class GitVault(Tool):
    """What all this is about."""

    project = "bench"

    def call(self, *arguments: str | Path, sample: bool = False, cwd: Path | None = None) -> Run:
        """`git-vault ARGUMENTS` on the vault."""
        return run(
            [*git_vault(), "--vault", self.repository, *arguments], env=self.env, sample=sample, output=True, cwd=cwd
        )

    def _init(self) -> None:
        self.call("init")
        # Background work would share the processor with the next tool. The reserve (4 MiB) holds nothing of what was
        # saved: sizes leave it out, and making it is no part of what is timed, since `init` is not.
        run(["git", "-C", self.repository, "config", "vault.maintenance", "off"], env=self.env)

    def save(self, source: Path, *, sample: bool = False) -> Run:
        """`git-vault snapshot`."""
        return self.call("snapshot", source, "--project", self.project, "--json", sample=sample)

    def restore(self, target: Path, *, sample: bool = False) -> Run:
        """`git-vault restore`."""
        return self.call("restore", self.project, "--to", target, "--json", sample=sample)

    def history(self, projects: Iterable[str], count: int) -> None:
        """So many more snapshots of each project that differ from its newest in nothing but the time."""
        lines = []
        for project in projects:
            for number in range(count):
                lines.append(
                    f"commit refs/heads/{project}\ncommitter bench <b@localhost> {1_800_000_000 + number} +0000"
                )
                lines.append("data 2\nx" + ("" if number else f"\nfrom refs/heads/{project}^0") + "\n")
        stream = "\n".join(lines)
        subprocess.run(["git", "-C", self.repository, "fast-import", "--quiet"], input=stream, text=True, check=True)

    def maintain(self) -> Run:
        """All upkeep that is due."""
        return self.call("maintain")

    def size(self) -> int:
        """Without `cache/`, as for the others, and without the room that it keeps for a full disk."""
        reserve = self.repository / "reserve"
        kept = reserve.stat().st_size if reserve.exists() else 0
        return size_of(self.repository) - size_of(self.repository / "cache") - kept


def git_vault() -> list[str]:
    """The command of the environment that runs this."""
    beside = shutil.which("git-vault", path=str(Path(sys.executable).parent))
    return [beside] if beside else [sys.executable, "-m", "gitvault"]


class Git(Tool):
    """`git add -A` and `git commit`; `gc` packs as git does."""

    def _init(self) -> None:
        run(["git", "init", "--quiet", self.repository], env=self.env)
        for key, value in (("gc.auto", "0"), ("user.name", "bench"), ("user.email", "bench@localhost")):
            run(["git", "-C", self.repository, "config", key, value], env=self.env)

    def _git(self, source: Path) -> list[str | Path]:
        return ["git", f"--git-dir={self.repository / '.git'}", f"--work-tree={source}"]

    def save(self, source: Path, *, sample: bool = False) -> Run:
        """Nothing to commit is fine."""
        git = self._git(source)
        return run(
            [*git, "add", "-A"],
            [*git, "commit", "--quiet", "-m", "version"],
            cwd=source,
            env=self.env,
            ok=(0, 1),
            sample=sample,
        )

    def collect(self, *how: str) -> Run:
        """`git gc`."""
        return run(["git", "-C", self.repository, "gc", "--quiet", *how], env=self.env)

    def size(self) -> int:
        """Objects only."""
        return size_of(self.repository / ".git" / "objects")


@dataclass(frozen=True)
class Restic(Tool):
    """With its default compression, or another."""

    compression: str = "auto"

    def _restic(self, *arguments: str | Path) -> list[str | Path]:
        how = ["restic", "--quiet", "--compression", self.compression, "--repo", self.repository]
        return [*how, "--cache-dir", self.home / "cache", *arguments]

    def _init(self) -> None:
        self.env["RESTIC_PASSWORD"] = "bench"
        run(self._restic("init"), env=self.env)

    def save(self, source: Path, *, sample: bool = False) -> Run:
        """`restic backup`."""
        return run(self._restic("backup", "."), cwd=source, env=self.env, sample=sample)

    def restore(self, target: Path, *, sample: bool = False) -> Run:
        """`restic restore`."""
        return run(self._restic("restore", "latest", "--target", target), env=self.env, sample=sample)


@dataclass(frozen=True)
class Borg(Tool):
    """Without encryption."""

    compression: str = "zstd,3"

    def _init(self) -> None:
        self.env["BORG_BASE_DIR"] = str(self.home / "base")
        self.env["BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK"] = "yes"
        run(["borg", "init", "--encryption", "none", self.repository], env=self.env)

    def save(self, source: Path, *, sample: bool = False) -> Run:
        """`borg create`."""
        archive = f"{self.repository}::{time.time_ns()}"
        return run(
            ["borg", "create", "--compression", self.compression, archive, "."], cwd=source, env=self.env, sample=sample
        )

    def restore(self, target: Path, *, sample: bool = False) -> Run:
        """`borg extract` of the newest archive."""
        target.mkdir(parents=True)
        listed = run(["borg", "list", "--last", "1", "--short", self.repository], env=self.env, output=True)
        archive = f"{self.repository}::{listed.output.decode().strip()}"
        return run(["borg", "extract", archive], cwd=target, env=self.env, sample=sample)


class Bup(Tool):
    """`bup index` and `bup save`."""

    def _init(self) -> None:
        self.env["BUP_DIR"] = str(self.repository)
        run(["bup", "init"], env=self.env)

    def save(self, source: Path, *, sample: bool = False) -> Run:
        """Both steps."""
        return run(
            ["bup", "index", source],
            ["bup", "save", "--quiet", "-n", "main", "--strip", source],
            env=self.env,
            sample=sample,
        )

    def restore(self, target: Path, *, sample: bool = False) -> Run:
        """`bup restore`."""
        return run(["bup", "restore", "--quiet", "-C", target, "main/latest/."], env=self.env, sample=sample)

    def size(self) -> int:
        """Objects only."""
        return size_of(self.repository / "objects")


class Casync(Tool):
    """`casync make` and `casync extract`."""

    def _init(self) -> None:
        self.repository.mkdir()

    def _arguments(self) -> list[str | Path]:
        return [f"--store={self.repository / 'chunks.castr'}", self.repository / "tree.caidx"]

    def save(self, source: Path, *, sample: bool = False) -> Run:
        """`casync make`."""
        store, index = self._arguments()
        return run(["casync", "make", store, index, source], env=self.env, sample=sample)

    def restore(self, target: Path, *, sample: bool = False) -> Run:
        """`casync extract`."""
        store, index = self._arguments()
        return run(["casync", "extract", store, index, target], env=self.env, sample=sample)


def tools(names: Sequence[str], workdir: Path) -> dict[str, Tool]:
    """Those of the named programs that are installed; git-vault always."""
    env = {"HOME": str(workdir / "home"), "LC_ALL": "C"}
    (workdir / "home").mkdir(parents=True, exist_ok=True)
    made: dict[str, Tool] = {}
    for name in names:
        home = workdir / "tools" / name.replace(" ", "-").replace(",", "-")
        match name.split():
            case ["git-vault"]:
                made[name] = GitVault(name, home, dict(env))
            case ["git"]:
                made[name] = Git(name, home, dict(env))
            case ["restic", *compression]:
                made[name] = Restic(name, home, dict(env), *compression)
            case ["borg", compression]:
                made[name] = Borg(name, home, dict(env), compression)
            case ["bup"]:
                made[name] = Bup(name, home, dict(env))
            case ["casync"]:
                made[name] = Casync(name, home, dict(env))
    return {name: tool for name, tool in made.items() if name == "git-vault" or shutil.which(name.split()[0])}
