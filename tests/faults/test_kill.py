"""SIGKILL in the middle of a run: what was acknowledged is there, and the next run works."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from faults.child import killed
from faults.recording import Killed, KillingDisk, RecordingDisk
from faults.stage import DONE, SCENARIOS, Lost, Scenario, Stage, look, prepared, record, sampled
from trees import records

from gitvault.core.utils.files import Disk
from gitvault.errors import GitVaultError
from gitvault.vault import Vault

ROOT = Path(__file__).parents[2]
# A process for each. The others are killed in this process by test_power_cut.
KILLED = {"first", "restore", "maintain", "prune", "sweep", "repair", "copy"}
NAMED = [
    pytest.param(scenario, id=scenario.name, marks=() if scenario.name in KILLED else pytest.mark.deep)
    for scenario in SCENARIOS
]


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("scenario", NAMED)
def test_killed_before_any_operation(
    scenario: Scenario, ground: Path, request: pytest.FixtureRequest, record_property
) -> None:
    stage = prepared(ground, scenario)
    recording = record(stage, scenario)
    prior = dict(list(stage.saved.items())[: len(recording.acknowledged)])
    kills = 0
    for at in sampled(range(len(recording.ops) - 1), 2, request.config.getoption("--deep")):
        kills += 1
        stage.reset(recording.before)
        stage.saved = dict(prior)
        held = records(stage.project)
        acknowledged = killed(stage, scenario, at)
        stage.saved.update((snapshot, held) for snapshot in acknowledged if snapshot not in (*prior, DONE))
        known = [*stage.saved, DONE]
        try:
            scenario.run(stage, Disk())
            look(stage, stage.vault, known, ground / "out")
            assert not leftovers(stage.vault), f"{scenario.name}, killed before {at} ({recording.ops[at]})"
        except (Lost, GitVaultError) as lost:
            pytest.fail(f"{scenario.name}, killed before {at} ({recording.ops[at]}): {lost}")
    record_property("kills", kills)


def leftovers(vault: Path) -> list[Path]:
    """What nobody needs any more, and is not one of git's packs or a chunk pack without a ref."""
    unfinished = [path for folder in ("tmp", "chunks/tmp") for path in (vault / folder).rglob("*") if path.is_file()]
    return [
        *unfinished,
        *vault.glob("*.tmp"),
        *vault.glob("info/*.tmp"),
        *vault.glob("refs/**/*.lock"),
        *vault.glob("[!v]*.lock"),
    ]


def test_what_a_killed_run_has_stored_is_not_stored_again(ground: Path) -> None:
    scenario = SCENARIOS[0]
    stage = prepared(ground, scenario)
    recording = record(stage, scenario)
    at = next(n for n, op in enumerate(recording.ops) if op.kind == "create" and "refs/heads/" in op.path)
    stage.reset(recording.before)
    first, second = KillingDisk(stage.root, at), RecordingDisk(stage.root)
    with suppress(Killed, GitVaultError):
        scenario.run(stage, first)
    scenario.run(stage, second)
    written = [sum(len(op.data) for op in disk.ops) for disk in (first, second)]
    assert written[0] > 250_000
    assert written[1] < 10_000
    assert not [op for op in second.ops if op.target.endswith(".zpk")]


@pytest.mark.deep
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_while_worker_processes_read(ground: Path, record_property) -> None:
    """From 3,000 files on others read and write packs too; they end with their parent, and nothing of theirs counts."""
    stage = Stage(ground)
    for number in range(4000):
        path = stage.project / "many" / str(number % 40) / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d\n" % number * 50)
    time.sleep(0.2)
    kills = 0
    for wait in (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.5, 2.0):
        command = [sys.executable, "-m", "gitvault", "--vault", str(stage.vault)]
        if not stage.vault.exists():
            Vault.create(stage.vault).close()
        child = subprocess.Popen(
            [*command, "snapshot", str(stage.project)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(wait)
        child.kill()
        kills += child.wait() == -signal.SIGKILL
        with Vault.open(stage.vault) as vault:
            assert vault.verify(data=True).ok
    assert kills >= 2
    held = records(stage.project)
    with Vault.open(stage.vault) as vault:
        report = vault.create_snapshot(stage.project)
        vault.restore_snapshot(report.snapshot, ground / "out")
        assert records(ground / "out") == held
        assert vault.verify(data=True).ok
        assert not list((stage.vault / "tmp").glob("*.pack"))
    record_property("kills", kills)
