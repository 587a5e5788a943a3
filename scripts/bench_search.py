"""Measure the search index against `git log -S` and `-G` over a folder of clones (bare or not, one below the other).

    python scripts/bench_search.py CLONES [--index DIR] [--text TEXT ...] [--regex REGEX ...]

The index is built in a process of its own, whose CPU time and peak memory are told; each query is asked in a fresh
process (time from its start), and then twice in one that is warm, the answers compared with git's.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from gitvault.core.utils.files import Disk
from gitvault.personas.code.search.history import is_repository
from gitvault.personas.code.search.index import Index
from gitvault.personas.code.search.model import Query, Source

MIB = 1 << 20


def clones(folder: Path) -> list[Source]:
    """The repositories in a folder."""
    found = [path for path in sorted([*folder.glob("*"), *folder.glob("*/*")]) if path.is_dir() and is_repository(path)]
    return [Source(path.relative_to(folder).as_posix(), path) for path in found]


def build(index: Path, folder: Path) -> None:
    """Make the index, and tell what that took."""
    with Index.open(index, Disk()) as opened:
        start = time.process_time()
        done = opened.update(clones(folder))
        own, git = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        said = {
            "versions": done.versions,
            "problems": len(done.problems),
            "cpu": round(time.process_time() - start, 1),
            "cpu_of_git": round(git.ru_utime + git.ru_stime, 1),
            "peak_mib": own.ru_maxrss // 1024,
            "changes": sum(len(segment["version"]) for segment in opened.segments()),
            "events": sum(len(segment["change"]) for segment in opened.segments()),
            "lines": sum(segment.size for segment in opened.segments()),
            "segments": len(opened.segments()),
            "index_mib": sum(path.stat().st_size for path in index.iterdir()) // MIB,
        }
    print(json.dumps(said))


def ask(index: Path, query: Query) -> tuple[list[str], float]:
    """The versions, and the seconds of asking a second time."""
    with Index.open(index, Disk()) as opened:
        opened.pickaxe(query)
        start = time.perf_counter()
        found = [version.id for version in opened.pickaxe(query)]
        return found, time.perf_counter() - start


def one(index: Path, text: str, kind: str) -> None:
    """What a fresh process does: start, ask, tell its memory."""
    with Index.open(index, Disk()) as opened:
        opened.pickaxe(Query(text, fixed=kind == "S"))
        found = len(opened.find(Query(text, fixed=kind == "S")))
    print(json.dumps({"hits": found, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}))


def of_git(sources: Sequence[Source], kind: str, text: str) -> tuple[set[str], float]:
    """git's answer, and its seconds."""
    found: set[str] = set()
    start = time.perf_counter()
    for source in sources:
        heads = ["for-each-ref", "--no-merged=HEAD", "--format=%(refname)", "refs/heads"]
        others = subprocess.run(["git", "-C", source.folder, *heads], capture_output=True, text=True, check=True)
        words = ["log", "--first-parent", "--no-renames", "--format=%H", f"-{kind}{text}", "HEAD"]
        said = subprocess.run(
            ["git", "-C", source.folder, *words, *others.stdout.split()], capture_output=True, text=True, check=True
        )
        found |= set(said.stdout.split())
    return found, time.perf_counter() - start


def again(*words: str) -> dict[str, float]:
    """What another process of this script tells, and its seconds."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=True)
    return {**json.loads(done.stdout), "seconds": time.perf_counter() - start}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clones", type=Path)
    parser.add_argument("--index", type=Path, default=None)
    parser.add_argument("--text", action="append", default=[])
    parser.add_argument("--regex", action="append", default=[])
    parser.add_argument("--without-git", action="store_true")
    for name in ("--build", "--one"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.build:
        build(Path(chosen.build), chosen.clones)
        return
    if chosen.one:
        one(chosen.index, chosen.one[1:], chosen.one[0])
        return
    index = chosen.index or Path(tempfile.mkdtemp()) / "index"
    sources = clones(chosen.clones)
    print("build", json.dumps(again(str(chosen.clones), "--build", str(index))), flush=True)
    for kind, text in [*(("S", text) for text in chosen.text), *(("G", text) for text in chosen.regex)]:
        fresh = again(str(chosen.clones), "--index", str(index), "--one", kind + text)
        found, seconds = ask(index, Query(text, fixed=kind == "S"))
        row = f"-{kind}{text}: {len(found)} versions, {fresh['hits']} hits; {seconds * 1000:.1f} ms warm, "
        row += f"{fresh['seconds'] * 1000:.0f} ms in a fresh process (both questions), {fresh['peak_mib']} MiB"
        if not chosen.without_git:
            theirs, of = of_git(sources, kind, text)
            missing, more = len(theirs - set(found)), len(set(found) - theirs)
            row += f"; git {of:.1f} s = {of / seconds:.0f} x; {missing} missing, {more} too many"
        print(row, flush=True)


if __name__ == "__main__":
    main()
