"""A snapshot brought back without gitvault, by the script that lies in each vault, under dash where there is one."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path

from bench_data import MIB
from bench_rows import OURS
from bench_stories import Bench, ours, same
from bench_tools import Failed, GitVault, Run, run, size_of

_VERSIONS = 5
_FILES = 2
_APART = 50_000
"""Bytes between two edits: closer than chunks are long, so that none of them stays as it was."""


def rescue(bench: Bench) -> None:
    """An asset library, all of it new; then a few large files that were edited everywhere, again and again."""
    tool = ours(bench.tools(OURS))
    if bench.wants("rescue-plain"):
        source = bench.data.assets(bench.count(2262), bench.count(4300) * MIB)
        tool.init()
        tool.save(source)
        _restored(bench, "rescue-plain", tool, source, 80_000_000)
    if bench.wants("rescue-deltas"):
        tool.init()
        source = bench.workdir / "source"
        shutil.rmtree(source, ignore_errors=True)
        source.mkdir()
        for version in range(_VERSIONS):
            _edit(source, version, bench.count(250) * MIB // _FILES)
            tool.save(source)
        _restored(bench, "rescue-deltas", tool, source, 10_000_000)


def _edit(source: Path, version: int, size: int) -> None:
    for number in range(_FILES):
        path = source / f"{number}.bin"
        content = bytearray(path.read_bytes() if version else random.Random(number).randbytes(size))
        for at in range(version, size, _APART):
            content[at] ^= 0xFF
        path.write_bytes(content)


def _restored(bench: Bench, row: str, tool: GitVault, source: Path, amount: int) -> None:
    """The samples are of so many bytes of what there is."""
    target = bench.workdir / "restored"
    shell = shutil.which("dash") or "sh"

    def restore() -> Run:
        done = run([shell, tool.repository / "rescue.sh", "restore", tool.project, target], env=tool.env)
        if not same(source, target):
            raise Failed(f"{target} differs from {source}")
        return replace(done, seconds=done.seconds * amount / size_of(source))

    bench.alternate(row, {OURS: restore}, bench.repeat, lambda name: shutil.rmtree(target, ignore_errors=True))
