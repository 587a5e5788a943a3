"""The developer's figures: checkouts made here, and, where a folder of clones is named, the search in their history."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import bench_search
import bench_vcs
from bench_rows import FULL, GIT_LOG, OURS, SCAN
from bench_tools import GitVault, git_vault

from gitvault.core.patterns import Patterns
from gitvault.core.scan import walk
from gitvault.policy.policy import Policy
from gitvault.vault import Vault

if TYPE_CHECKING:
    from bench_stories import Bench

_IDLE_SECONDS = 60
_WATCHED = ("dev-untouched-snapshot", "dev-untouched-status", "dev-untouched-vcs", "dev-idle")
_QUERIES = {"S": "zeroconf_ttl", "G": "parse_[a-z]+_header"}


def say(text: str) -> None:
    """What goes on, on standard error."""
    print(text, file=sys.stderr, flush=True)


def _cpu() -> float:
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in spent)


def _checkout(folder: Path, files: int) -> Path:
    """A clone with so many files, ten in a folder, all of them pushed."""
    origin, work = folder / f"{files}.git", folder / f"{files}"
    if not (work / ".git").exists():
        git = partial(bench_vcs.git, folder)
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(origin, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        git("init", "-q", "--bare", "-b", "main", str(origin))
        git("clone", "-q", str(origin), str(work))
        for number in range(files):
            path = work / f"s{number // 1000}" / f"d{number // 10 % 100}" / f"f{number % 10}.c"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"int value_{number} = {number};\n")
        git("-C", str(work), "add", "-A")
        git("-C", str(work), "commit", "-q", "-m", "All")
        git("-C", str(work), "push", "-q", "-u", "origin", "HEAD:main")
    return work


def _vault(bench: Bench) -> GitVault:
    found = bench.tools(OURS)[OURS]
    assert isinstance(found, GitVault)
    found.init()
    return found


def checkouts(bench: Bench) -> None:
    """What git's checkouts cost: classified, protected, untouched while a watcher runs, and the watcher itself."""
    folder = bench.workdir / "checkouts"
    if bench.wants("dev-classified"):
        _classified(bench, _checkout(folder, bench.count(50_000)))
    for row, files in (("dev-protect-400", 400), ("dev-protect-50000", bench.count(50_000))):
        if bench.wants(row):
            _protected(bench, row, _checkout(folder, files))
    if bench.wants(*_WATCHED):
        one = _checkout(folder, bench.count(10_000))
        for number in range(50):
            if not (folder / "fifty" / f"p{number}").exists():
                bench_vcs.git(folder, "clone", "-q", f"{one}.git", str(folder / "fifty" / f"p{number}"))
        _untouched(bench, folder / "fifty")


def _classified(bench: Bench, root: Path) -> None:
    """Seconds of processor time for the rules of all paths, over those of a walk that asks none."""
    for _ in range(bench.repeat):
        spent = []
        for rules in (Patterns(), Policy(root)):
            begun = time.process_time()
            for _ in walk(root, {}, rules, [], []):
                pass
            spent.append(time.process_time() - begun)
        bench.note("dev-classified", SCAN, spent[0])
        bench.note("dev-classified", OURS, max(0.0, spent[1] - spent[0]))


def _protected(bench: Bench, row: str, work: Path) -> None:
    """Processor seconds of a snapshot of nothing new in `protect`, over those in `full`."""
    opened = {}
    for mode in ("full", "protect"):
        place = bench.workdir / "tools" / f"{row}-{mode}.git"
        shutil.rmtree(place, ignore_errors=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        Vault.create(place).close()
        with (place / "config").open("a") as config:
            config.write("\tmaintenance = off\n")
        opened[mode] = Vault.open(place)
        opened[mode].add_project(work, mode=mode)
        opened[mode].create_snapshot(work)
    time.sleep(1)
    for _ in range(max(5, bench.repeat)):
        spent = {}
        for mode, vault in opened.items():
            vault.create_snapshot(work)
            begun = _cpu()
            vault.create_snapshot(work)
            spent[mode] = _cpu() - begun
        bench.note(row, OURS, max(0.0, spent["protect"] - spent["full"]))


def _untouched(bench: Bench, root: Path) -> None:
    vault = _vault(bench)
    vault.call("snapshot", root)
    command = [*git_vault(), "--vault", str(vault.repository), "watch"]
    with subprocess.Popen(command, env=vault.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as watcher:
        try:
            _until_settled(vault, root)
            begun, spent = time.monotonic(), _spent(watcher.pid)
            if bench.wants("dev-idle"):
                time.sleep(_IDLE_SECONDS)
                bench.note("dev-idle", OURS, (_spent(watcher.pid) - spent) / (time.monotonic() - begun))
            vault.call("vcs", "status")
            times = max(5, bench.repeat)
            bench.alternate("dev-untouched-snapshot", {OURS: partial(vault.call, "snapshot", root)}, times)
            bench.alternate("dev-untouched-status", {OURS: partial(vault.call, "status", root)}, times)
            bench.alternate("dev-untouched-vcs", {OURS: partial(vault.call, "vcs", "status")}, times)
        finally:
            watcher.terminate()
            watcher.wait()


def _until_settled(vault: GitVault, root: Path) -> None:
    """The watcher's own first look is over, and the list is in use."""
    for _ in range(600):
        time.sleep(1)
        with Vault.open(vault.repository) as opened:
            opened.create_snapshot(root)
            if (seen := opened.touched(opened.projects()[0])) and not seen.folders:
                return


def _spent(process: int) -> float:
    """Processor seconds of a process (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def history(bench: Bench) -> None:
    """Searches in the history of real repositories, and what `protect` stores of their dirty checkouts."""
    if bench.clones is None:
        say("  skipped: name a folder of clones with --clones DIR")
        return
    sources = bench_search.clones(bench.clones)
    if bench.wants("dev-stored"):
        folder = bench.workdir / "source"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for source in sources:
            protect, full = bench_vcs.measure(folder, Path(source.folder))
            bench.note("dev-stored", OURS, protect)
            bench.note("dev-stored", FULL, full)
            shutil.rmtree(folder / Path(source.folder).name.removesuffix(".git"), ignore_errors=True)
    vault = _vault(bench)
    for source in sources:
        vault.call("add", source.folder)
    built = vault.call("search", "--index", sample=True)
    bench.note("dev-search-built", OURS, built.memory)
    words = {
        "dev-search-S": ("-S", _QUERIES["S"], "--ids"),
        "dev-search-G": ("-G", _QUERIES["G"], "--ids"),
        "dev-search-any": ("-i", r"\b[a-z]+\d+\b.*(todo|fixme)"),
        "dev-search-symbol": ("--symbol", "main"),
        "dev-search-struct": ("--struct", "print($A)", "--lang", "python"),
    }
    for row, given in words.items():
        if bench.wants(row):
            bench.alternate(row, {OURS: partial(vault.call, "search", *given)}, max(3, bench.repeat))
    index = vault.repository / "cache" / "search"
    for kind, text in _QUERIES.items():
        row = f"dev-log-{kind}"
        if bench.wants(row):
            _, seconds = bench_search.ask(index, bench_search.Query(text, fixed=kind == "S"))
            bench.note(row, OURS, seconds)
            bench.note(row, GIT_LOG, bench_search.of_git(sources, kind, text)[1])
