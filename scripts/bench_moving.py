"""Stories of moving in: what restic and borg keep becomes snapshots, beside their own restore of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench_data import MIB
from bench_rows import OURS
from bench_stories import Bench, ours
from bench_tools import Failed, GitVault, Run, Tool, git_vault, run, size_of

_PEERS = {"restic": "restic", "borg": "borg lz4"}


def moving(bench: Bench) -> None:
    """An asset library."""
    _moved(bench, "import", bench.data.assets(bench.count(2262), bench.count(4300) * MIB))


def moving_files(bench: Bench) -> None:
    """A source tree."""
    _moved(bench, "import-files", bench.data.code(bench.count(100_000)))


def _moved(bench: Bench, prefix: str, source: Path) -> None:
    vault = ours(bench.tools(OURS))
    size = size_of(source)
    for kind, name in _PEERS.items():
        row = f"{prefix}-{kind}"
        peers = bench.tools(name)
        if not (bench.wants(row) and name in peers):
            continue
        peer = peers[name]
        peer.init()
        peer.save(source)
        # Gone at the end, not in between: see Bench.restores.
        targets = [bench.workdir / f"restored-{number}" for number in range(bench.repeat)]
        for target in targets:
            shutil.rmtree(target, ignore_errors=True)
        bench.use_room(size * len(targets))
        waiting = iter(targets)
        actions: dict[str, Callable[[], Run]] = {
            OURS: partial(_imported, vault, peer, kind, size),
            name: partial(_restored, peer, waiting),
        }
        bench.alternate(row, actions, bench.repeat, lambda name: vault.init())
        for target in targets:
            shutil.rmtree(target, ignore_errors=True)


def _restored(peer: Tool, targets: Iterator[Path]) -> Run:
    return peer.restore(next(targets))


def _imported(vault: GitVault, peer: Tool, kind: str, size: int) -> Run:
    """Into an empty vault, with what the peer's user has in the environment. Raises Failed when a byte is missing."""
    words: list[str | Path] = ["import", kind, peer.repository, "--project", vault.project, "--json"]
    done = run([*git_vault(), "--vault", vault.repository, *words], env={**peer.env, **vault.env}, output=True)
    if json.loads(done.output)["bytes"] != size:
        raise Failed(f"import {kind}: {done.output.decode()}, expected {size} bytes")
    return done
