"""A power cut after any operation of a run, whatever of the unsynced ones reached the disk: nothing is lost.

`recording` has the model of what a disk may do, `stage` what is run and what must hold.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from faults.recording import Killed, KillingDisk, Medium, read_state
from faults.stage import SCENARIOS, Checker, Lost, Scenario, caches_of, cuts, durable, prepared, record, sampled

from gitvault.errors import GitVaultError

NAMED = [pytest.param(scenario, id=scenario.name) for scenario in SCENARIOS]
HELD = {"vault.git/vault.lock"}
"""Empty, for the kernel's lock."""


@pytest.mark.parametrize("scenario", NAMED)
def test_a_power_cut_after_any_operation(
    scenario: Scenario, ground: Path, request: pytest.FixtureRequest, record_property
) -> None:
    deep = request.config.getoption("--deep")
    stage = prepared(ground, scenario)
    recording = record(stage, scenario)
    checker = Checker(stage, ground / "check")
    states = cuts(recording, 60 if deep else 6, seed=1)
    for number, state, acknowledged, caches in sampled(states, 10, deep):
        try:
            checker.check(state, acknowledged, caches, again=checker.states % 4 == 0)
        except Lost as lost:
            done = recording.ops[max(0, number - 6) : number]
            pytest.fail(f"{scenario.name}, cut after {number}: {lost}\n" + "\n".join(map(str, done)))
    record_property("states", checker.states)


@pytest.mark.parametrize("scenario", NAMED)
def test_nothing_is_written_past_the_disk(scenario: Scenario, ground: Path) -> None:
    """What the harness does not see it cannot cut: what was recorded makes the vault that there is, byte for byte."""
    stage = prepared(ground, scenario)
    recording = record(stage, scenario)
    medium = Medium(recording.before)
    for op in recording.ops:
        medium.apply(op)
    made, there = (
        {path: kept for path, kept in state.items() if path not in HELD}
        for state in (durable(medium.now()), durable(read_state(stage.root)))
    )
    assert made.keys() == there.keys()
    assert [path for path, content in there.items() if made[path] != content] == []


@pytest.mark.parametrize("scenario", NAMED)
def test_a_kill_then_a_whole_run_then_a_power_cut(
    scenario: Scenario, ground: Path, request: pytest.FixtureRequest, record_property
) -> None:
    """What the killed run had not synced and the next one took for granted."""
    deep = request.config.getoption("--deep")
    stage = prepared(ground, scenario)
    recording = record(stage, scenario)
    checker = Checker(stage, ground / "check")
    for at in sampled(range(len(recording.ops)), 2, deep):
        stage.reset(recording.before)
        first = KillingDisk(stage.root, at)
        try:
            scenario.run(stage, first)
        except (Killed, GitVaultError):
            assert first.dead
        medium = Medium(recording.before)
        for op in first.ops:
            medium.apply(op)
        medium.new_process()
        second = KillingDisk(stage.root, 1 << 30)
        scenario.run(stage, second)
        for op in second.ops:
            medium.apply(op)
        acknowledged = (*recording.acknowledged, *(op.path for op in second.ops if op.kind == "acknowledge"))
        chance = random.Random(at)
        caches = caches_of(stage)
        for state in medium.states(12 if deep else 2, chance):
            try:
                checker.check(state, acknowledged, chance.choice([caches, {}]))
            except Lost as lost:
                done = [*first.ops[-4:], "killed, again", *second.ops[-4:]]
                pytest.fail(f"{scenario.name}, killed before {at}: {lost}\n" + "\n".join(map(str, done)))
    record_property("states", checker.states)
