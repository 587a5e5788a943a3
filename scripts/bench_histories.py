"""The story of real asset histories: every version of the assets of real repositories, saved by each tool in turn.

A folder of clones, bare or not, is named with --assets. What is compressed by its own format and what is not are saved
apart, so that each has its figure; together they are the whole.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bench_rows import OURS
from bench_tools import Failed, Git, GitVault, Tool

from gitvault.core.utils.kinds import kind_of

if TYPE_CHECKING:
    from bench_stories import Bench

_KINDS = {"image", "audio", "video", "model", "archive", "font"}
_OTHERS = set(
    [
        "wad",
        "lmp",
        "uasset",
        "umap",
        "unity",
        "prefab",
        "asset",
        "anim",
        "mat",
        "controller",
        "tscn",
        "tres",
        "res",
        "scn",
        "mesh",
    ]
)
_OWN = set(
    [
        "png",
        "jpg",
        "jpeg",
        "webp",
        "gif",
        "mp3",
        "ogg",
        "oga",
        "opus",
        "flac",
        "mp4",
        "webm",
        "zip",
        "unitypackage",
        "exr",
        "kra",
        "ora",
        "woff",
        "woff2",
    ]
)
"""Types with a compression of their own."""
_VERSIONS = 120
"""Of each repository at most, evenly spread, when the scale is 1."""
_SMALLEST = 200
"""What is smaller may be a pointer of git-lfs, and weighs nothing."""
_CHECKED = 6
"""Versions that are restored and compared."""

Version = Mapping[str, str]
"""Ids of blobs by path."""


def say(text: str) -> None:
    """What goes on, on standard error."""
    print(text, file=sys.stderr, flush=True)


def histories(bench: Bench) -> None:
    """Sizes after all upkeep, and versions restored bit for bit."""
    if not bench.assets:
        say("  skipped: name a folder of real repositories with --assets DIR")
        return
    totals: dict[str, float] = {}
    for row, own in (("histories-plain", False), ("histories-compressed", True)):
        if bench.wants(row, "histories-all"):
            for name, size in _saved(bench, row, bench.tools(OURS, "restic max", "git"), own).items():
                totals[name] = totals.get(name, 0) + size
    if bench.wants("histories-all"):
        for name, size in totals.items():
            bench.note("histories-all", name, size)


def _saved(bench: Bench, row: str, tools: Mapping[str, Tool], own: bool) -> dict[str, float]:
    """All versions of one half by every tool; what each takes in the end."""
    source = bench.workdir / "source"
    for tool in tools.values():
        tool.init()
    logical, versions = 0, 0
    seconds = dict.fromkeys(tools, 0.0)
    kept: list[tuple[str, dict[str, str]]] = []
    assert bench.assets
    for clone in sorted(path for path in bench.assets.iterdir() if path.is_dir()):
        shutil.rmtree(source, ignore_errors=True)
        source.mkdir()
        for number, added in enumerate(_versions(clone, source, own, bench.count(_VERSIONS))):
            logical += added[1]
            versions += added[0]
            for name, tool in tools.items():
                seconds[name] += tool.save(source).seconds
            if number % max(1, bench.count(_VERSIONS) // _CHECKED) == 0:
                kept.append((_newest(tools[OURS]), _hashes(source)))
    vault, git = tools[OURS], tools.get("git")
    assert isinstance(vault, GitVault)
    seconds[f"{OURS} maintain"] = vault.maintain().seconds + vault.call("sweep").seconds
    sizes = {name: float(tool.size()) for name, tool in tools.items() if name != "git"}
    if isinstance(git, Git):
        seconds["git gc --aggressive"] = git.collect("--aggressive").seconds
        sizes["git aggressive"] = git.size()
    for snapshot, expected in kept:
        target = bench.workdir / "restored"
        shutil.rmtree(target, ignore_errors=True)
        vault.call("restore", snapshot, "--to", target)
        if _hashes(target) != expected:
            raise Failed(f"{snapshot}: restored, it is not what was saved")
    say(f"  {row}: {versions} versions of {logical / 1e6:.1f} MB, {len(kept)} snapshots restored and compared")
    for name, size in sizes.items():
        bench.note(row, name, size)
        say(f"  {row}: {name} {size / 1e6:.1f} MB, {logical / size:.2f}:1")
    for name, spent in seconds.items():
        say(f"  {row}: {name} {spent:.1f} s")
    return sizes


def _newest(vault: Tool) -> str:
    assert isinstance(vault, GitVault)
    return str(json.loads(vault.call("log", vault.project, "--json").output)[0]["snapshot"])


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def _versions(clone: Path, source: Path, own: bool, most: int) -> Iterator[tuple[int, int]]:
    """Bring the folder from version to version; how many files that wrote, and their bytes."""
    git = ["git", "-C", str(clone)]
    found = list(_history(git, own, most))
    chosen = [found[number * len(found) // most] for number in range(most)] if len(found) > most else found
    present: Version = {}
    with subprocess.Popen([*git, "cat-file", "--batch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as blobs:
        for version in chosen:
            written = _brought(source, present, version, blobs)
            present = version
            if written[0]:
                yield written
        assert blobs.stdin
        blobs.stdin.close()


def _history(git: list[str], own: bool, most: int) -> Iterator[Version]:
    """The wanted files after commits that are evenly spread, four for each version that is wanted, oldest first."""
    listed = subprocess.run([*git, "rev-list", "--first-parent", "--reverse", "HEAD"], capture_output=True, check=True)
    commits = listed.stdout.decode().split()
    last: Version = {}
    for number in range(min(4 * most, len(commits))):
        commit = commits[number * len(commits) // min(4 * most, len(commits))]
        tree = subprocess.run([*git, "ls-tree", "-r", "-z", commit], capture_output=True, check=False)
        # A clone may lack some of its trees.
        if tree.returncode:
            continue
        version = {}
        for line in tree.stdout.decode("utf-8", "surrogateescape").split("\0"):
            about, _, path = line.partition("\t")
            if about.startswith("100") and _is_wanted(path, own):
                version[path] = about.split(" ")[2]
        if version and version != last:
            yield version
            last = version


def _is_wanted(path: str, own: bool) -> bool:
    extension = path.rpartition("/")[2].rpartition(".")[2].lower()
    is_asset = kind_of(path.encode("utf-8", "surrogateescape")) in _KINDS or extension in _OTHERS
    return is_asset and "." in path and (extension in _OWN) == own


def _brought(source: Path, present: Version, version: Version, blobs: subprocess.Popen[bytes]) -> tuple[int, int]:
    assert blobs.stdin and blobs.stdout
    for path in present.keys() - version.keys():
        (source / path).unlink(missing_ok=True)
    written = total = 0
    for path, oid in version.items():
        if present.get(path) == oid:
            continue
        blobs.stdin.write(f"{oid}\n".encode())
        blobs.stdin.flush()
        answer = blobs.stdout.readline().split()
        # A clone may lack its largest files.
        if answer[1] != b"blob":
            continue
        size = int(answer[2])
        data = blobs.stdout.read(size + 1)[:-1]
        if size < _SMALLEST:
            continue
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(data)
        written += 1
        total += size
    return written, total
