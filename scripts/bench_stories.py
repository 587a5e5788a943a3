"""What is run on each kind of data, and how samples are taken: alternately, from process start to exit."""

from __future__ import annotations

import filecmp
import os
import shutil
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import bench_data
from bench_data import MIB, DataSets, Step
from bench_developers import checkouts, history
from bench_rows import BEFORE, EDIT, FILES, OURS
from bench_tools import Failed, Git, GitVault, Run, Tool, run, size_of, tools


class Bench:
    """Samples by row and tool, and how they are taken."""

    def __init__(
        self,
        rows: Iterable[str],
        workdir: Path,
        scale: float,
        repeat: int,
        cold: bool,
        clones: Path | None = None,
        assets: Path | None = None,
    ) -> None:
        """`clones`, `assets`: folders of real repositories; without them what needs them is skipped."""
        self.clones = clones
        self.assets = assets
        self.scale = scale
        self.repeat = repeat
        self.workdir = workdir
        self.data = DataSets(self.workdir)
        self.samples: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.failures: dict[str, str] = {}
        self._cold = cold
        self._rows = set(rows)

    def wants(self, *rows: str) -> bool:
        """Whether one of the rows was asked for."""
        return not self._rows.isdisjoint(rows)

    def count(self, full: int) -> int:
        """A size of the order, scaled."""
        return max(1, int(full * self.scale))

    def tools(self, *names: str) -> dict[str, Tool]:
        """Those of the named tools that are installed."""
        return tools(names, self.workdir)

    def note(self, row: str, name: str, value: float) -> None:
        """Add a sample."""
        self.samples[row][name].append(value)

    def median(self, row: str, name: str = OURS) -> float | None:
        """Of the samples so far."""
        found = self.samples[row][name]
        return statistics.median(found) if found else None

    def derive(self, row: str, source: str, factor: float = 1.0) -> None:
        """Our sample of one row from our median of another, where it has one."""
        if (median := self.median(source)) is not None:
            self.note(row, OURS, median * factor)

    def take(
        self, row: str, name: str, action: Callable[[], Run], prepare: Callable[[], object] = lambda: None
    ) -> None:
        """Run and add its seconds; a tool that fails has no more samples in this row. `prepare` is not measured."""
        if f"{row}: {name}" in self.failures:
            return
        try:
            prepare()
            # What was left to write until now must not be written on this run's time.
            os.sync()
            if self._cold:
                Path("/proc/sys/vm/drop_caches").write_text("3")
            done = action()
        except (Failed, OSError) as error:
            self.failures[f"{row}: {name}"] = str(error)
            say(f"  {row}: {name} FAILED: {error}")
            return
        self.note(row, name, done.seconds)
        say(f"  {row}: {name} {done.seconds:.2f} s")

    def alternate(
        self,
        row: str,
        actions: Mapping[str, Callable[[], Run]],
        times: int = 1,
        prepare: Callable[[str], object] = lambda name: None,
    ) -> None:
        """Every tool in turn, another one first each time."""
        names = list(actions)
        for number in range(times):
            for i in range(len(names)):
                name = names[(number + i) % len(names)]
                self.take(row, name, actions[name], partial(prepare, name))

    def copy(self, source: Path) -> Path:
        """A copy to edit, as old as the original."""
        target = self.workdir / "source"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, symlinks=True)
        return target

    def first_saves(self, row: str, found: dict[str, Tool], source: Path) -> None:
        """Into a new repository each time; the last one stays."""
        actions = {name: partial(tool.save, source) for name, tool in found.items()}

        def prepare(name: str) -> None:
            found[name].init()
            self.warm(source)

        self.alternate(row, actions, self.repeat if self.wants(row) else 1, prepare)

    def restores(self, row: str, found: dict[str, Tool], source: Path) -> None:
        """Into an empty folder each time; ours is compared with the source."""
        targets = [self.workdir / f"restored-{number}" for number in range(self.repeat * len(found))]
        waiting = iter(targets)

        def restore(tool: Tool) -> Run:
            target = next(waiting)
            done = tool.restore(target)
            if tool.name == OURS and not same(source, target):
                raise Failed(f"{target} differs from {source}")
            return done

        for target in targets:
            shutil.rmtree(target, ignore_errors=True)
        self.use_room(size_of(source) * len(targets))
        actions = {name: partial(restore, tool) for name, tool in found.items()}
        self.alternate(row, actions, self.repeat)
        # Not in between: ext4 looks for a minute past every file that was just deleted, 62 s for a restore of 14 s.
        for target in targets:
            shutil.rmtree(target, ignore_errors=True)

    def use_room(self, size: int) -> None:
        """Write so much and delete it: a virtual disk is slow where nothing was ever written, 15.5 s instead of 8.9."""
        room = self.workdir / "room"
        with room.open("wb", buffering=0) as file:
            for _ in range(0, size, MIB):
                file.write(b"\1" * MIB)
            os.fsync(file.fileno())
        room.unlink()

    def saves(self, row: str, found: dict[str, Tool], source: Path, times: int = 1) -> None:
        """Of the folder as it is."""
        actions = {name: partial(tool.save, source) for name, tool in found.items()}
        self.alternate(row, actions, times, lambda name: self.warm(source))

    def warm(self, source: Path) -> None:
        """Read everything once: borg drops what it has read from the cache, and who comes next would pay for it."""
        if self._cold:
            return
        for folder, _, names in os.walk(source):
            for name in names:
                path = os.path.join(folder, name)
                if not os.path.islink(path):
                    with open(path, "rb", buffering=0) as file:
                        while file.read(1 << 20):
                            pass


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def same(a: Path, b: Path) -> bool:
    """Whether two trees hold the same names and bytes."""
    names = {path.relative_to(a) for path in a.rglob("*")}
    if names != {path.relative_to(b) for path in b.rglob("*")}:
        return False
    files = [str(name) for name in names if (a / name).is_file()]
    return len(filecmp.cmpfiles(a, b, files, shallow=False)[0]) == len(files)


def ours(found: dict[str, Tool]) -> GitVault:
    """git-vault among the tools."""
    tool = found[OURS]
    assert isinstance(tool, GitVault)
    return tool


def only(found: dict[str, Tool], *names: str) -> dict[str, Tool]:
    """Those of the tools that have these names."""
    return {name: tool for name, tool in found.items() if name in names}


def code(bench: Bench) -> None:
    """A source tree through its history."""
    files = bench.count(100_000)
    source = bench.copy(bench.data.code(files))
    found = bench.tools(OURS, "git", "restic", "borg zstd,3")
    logical = size_of(source)
    bench.first_saves("code-initial", found, source)
    bench.derive("K6-first", "code-initial")
    bench.note("K6-saved", FILES, logical)
    bench.note("K6-saved", OURS, found[OURS].size())
    compared = only(found, OURS, "git", "restic")
    if bench.wants("code-unchanged", "code-late"):
        bench.saves("code-unchanged", compared, source, bench.repeat)
    versions = 22 if bench.wants("code-stored", "code-late", "K6-history") else 1
    if bench.wants("code-increment", "K6-changed"):
        versions = max(versions, 1 + bench.repeat)
    for step in bench_data.code_steps(files, versions):
        bench_data.edit_source(source, step)
        logical += size_of(source)
        bench.saves("code-increment", compared, source)
    bench.derive("K6-changed", "code-increment")
    if bench.wants("code-late"):
        bench.samples["code-late"][BEFORE] = bench.samples["code-unchanged"][OURS]
        bench.saves("code-late", only(found, OURS), source, bench.repeat)
    restoring = {**only(found, OURS, "restic"), **bench.tools("casync")}
    if bench.wants("code-restore", "code-maintained") and "casync" in restoring:
        restoring["casync"].init()
        restoring["casync"].save(source)
    if bench.wants("code-restore"):
        bench.restores("code-restore", restoring, source)
    if bench.wants("code-stored", "K6-history", "code-maintained"):
        maintained(bench, ours(found))
        bench.note("K6-history", FILES, logical)
        stored(bench, only(found, OURS, "restic"), "code-stored", "K6-history")
    if bench.wants("code-stored") and isinstance(git := found.get("git"), Git):
        say(f"  git gc {git.collect().seconds:.1f} s")
        bench.note("code-stored", "git gc", git.size())
    if bench.wants("code-maintained"):
        bench.restores("code-maintained", restoring, source)


def maintained(bench: Bench, tool: GitVault) -> None:
    """All upkeep, before sizes are compared."""
    say(f"  git-vault maintain {tool.maintain().seconds:.1f} s")


def stored(bench: Bench, found: dict[str, Tool], *rows: str) -> None:
    """The size of each repository."""
    for name, tool in found.items():
        size = tool.size()
        say(f"  {rows[0]}: {name} {size / 1e6:.1f} MB")
        for row in rows:
            bench.note(row, name, size)


def assets(bench: Bench) -> None:
    """An asset library through its history."""
    files, total = bench.count(2262), bench.count(4300) * MIB
    source = bench.copy(bench.data.assets(files, total))
    timed = bench.tools(OURS, "restic", "borg lz4")
    keeping = {**only(timed, OURS, "restic"), **bench.tools("borg zstd,3", "bup")}
    logical = size = size_of(source)
    bench.first_saves("assets-initial", timed, source)
    bench.derive("C6-first", "assets-initial", 50e9 / size)
    bench.derive("G6-first", "assets-initial", 200e9 / size)
    vault = ours(timed)
    if bench.wants("G4-verified"):
        seconds = bench.median("assets-initial")
        verified = vault.call("verify", "--data").seconds
        if seconds is not None:
            bench.note("G4-verified", OURS, (seconds + verified) * 1e9 / size)
    if bench.wants("assets-restore"):
        bench.restores("assets-restore", only(timed, OURS, "restic"), source)
    if not bench.wants("assets-stored", "C4-history", "C6-day", "G2-delta"):
        return
    for tool in only(keeping, "borg zstd,3", "bup").values():
        tool.init()
        tool.save(source)
    for step in bench_data.asset_steps(files, total, 11):
        before = vault.size()
        bench_data.edit_assets(source, step)
        logical += size_of(source)
        bench.saves("C6-day", keeping, source)
        bench.note("G2-delta", FILES, touched(source, step))
        bench.note("G2-delta", OURS, vault.size() - before)
    maintained(bench, vault)
    bench.note("C4-history", FILES, logical)
    stored(bench, keeping, "assets-stored", "C4-history")


def touched(source: Path, step: Step) -> int:
    """Bytes of the files that were changed or made."""
    return sum((source / item.path).stat().st_size for item in (*step.changed, *step.new))


def big(bench: Bench) -> None:
    """One large file and edits in it."""
    source = bench.copy(bench.data.big(bench.count(4096) * MIB))
    found = bench.tools(OURS, "restic", "borg lz4")
    bench.first_saves("big-initial", found, source)
    if not bench.wants("big-edit", "big-edit-stored"):
        return
    for number in range(bench.repeat):
        before = found[OURS].size()
        bench.note("big-edit-stored", EDIT, bench_data.edit_big(source / "game.pak", number + 1))
        bench.saves("big-edit", only(found, OURS, "borg lz4"), source)
        bench.note("big-edit-stored", OURS, found[OURS].size() - before)


def tiny(bench: Bench) -> None:
    """Very many files."""
    source = bench.data.tiny(bench.count(500_000))
    found = bench.tools(OURS)
    vault = ours(found)
    vault.init()
    memory = [vault.save(source, sample=bench.wants("tiny-memory")).memory]
    if bench.wants("tiny-memory"):
        target = bench.workdir / "restored"
        shutil.rmtree(target, ignore_errors=True)
        memory += [vault.save(source, sample=True).memory, vault.restore(target, sample=True).memory]
        shutil.rmtree(target)
        bench.note("tiny-memory", OURS, max(memory))
    if bench.wants("tiny-unchanged"):
        fields = r"%p %y %i %n %m %U %G %s %T@ %C@\n"
        bench.alternate(
            "tiny-unchanged",
            {
                OURS: lambda: vault.save(source),
                "find": lambda: run(["find", source, "-printf", fields], env=vault.env),
            },
            bench.repeat,
        )
    one = next(Path(top) / names[0] for top, _, names in os.walk(source) if names)
    for row, *arguments in (("tiny-status", "status"), ("tiny-log", "log"), ("K6-status", "status", one)):
        if bench.wants(row):
            bench.alternate(row, {OURS: partial(vault.call, *arguments)}, max(5, bench.repeat))
    if bench.wants("K6-projects"):
        projects(bench, vault, bench.copy(source))


def projects(bench: Bench, vault: GitVault, source: Path) -> None:
    """The tree's top folders as projects of their own, some files changed in each."""
    folders = sorted(path for path in source.iterdir() if path.is_dir())
    vault.init()
    vault.call("snapshot", *folders)
    for folder in folders:
        for path, _ in zip(sorted(folder.glob("*/*/*.txt")), range(10), strict=False):
            path.write_bytes(path.read_bytes() + b"changed\n")
    bench.take("K6-projects", OURS, lambda: vault.call("snapshot", "--all"))


def catalog(bench: Bench) -> None:
    """Fifty projects with 400 snapshots each: said anew what they are, then asked for."""
    root = bench.workdir / "projects"
    shutil.rmtree(root, ignore_errors=True)
    folders = [root / f"project-{number:02}" for number in range(bench.count(50))]
    for number, folder in enumerate(folders):
        folder.mkdir(parents=True)
        (folder / ("pyproject.toml" if number % 2 else "Cargo.toml")).write_text("x\n")
    vault = ours(bench.tools(OURS))
    vault.init()
    vault.call("snapshot", *folders)
    vault.history([folder.name for folder in folders], 399)
    vault.call("projects", "edit", "name:*", "--client", "client 0")
    turn = iter(range(1_000_000))

    def reorganise() -> Run:
        number = next(turn)
        words = (f"client:client {number}", "--client", f"client {number + 1}", "--tag", f"t{number}")
        edited = vault.call("projects", "edit", *words)
        shown = vault.call("projects", f"client:client {number + 1}", "stack:rust", "--json")
        return replace(edited, seconds=edited.seconds + shown.seconds)

    def anew() -> Run:
        (vault.repository / "cache" / "counts.json").unlink(missing_ok=True)
        return vault.call("projects", "--json")

    if bench.wants("projects-shown"):
        bench.alternate("projects-shown", {OURS: reorganise}, max(5, bench.repeat))
    if bench.wants("projects-list"):
        bench.alternate("projects-list", {OURS: partial(vault.call, "projects", "--json")}, max(5, bench.repeat))
    if bench.wants("projects-counted"):
        bench.alternate("projects-counted", {OURS: anew}, bench.repeat)


def huge(bench: Bench) -> None:
    """One file far larger than memory should grow."""
    source = bench.data.big(bench.count(8192) * MIB)
    vault = ours(bench.tools(OURS))
    vault.init()
    target = bench.workdir / "restored"
    shutil.rmtree(target, ignore_errors=True)
    memory = [vault.save(source, sample=True).memory, vault.restore(target, sample=True).memory]
    shutil.rmtree(target)
    bench.note("huge-memory", OURS, max(memory))


STORIES = {
    "code": code,
    "assets": assets,
    "big": big,
    "tiny": tiny,
    "catalog": catalog,
    "checkouts": checkouts,
    "history": history,
    "huge": huge,
}
