"""What others left unsynced, or a disk that does not keep what it was given: mutants that no run alone shows."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from faults.recording import Medium, Op, RecordingDisk, State, read_state
from faults.stage import SCENARIOS, Checker, Lost, Stage, durable, opened, prepared
from faults.test_mutants import leave_out

from gitvault.core.backup_engine.retention import Retention
from gitvault.core.storage import rounds
from gitvault.core.utils.files import Disk
from gitvault.errors import CorruptionError
from gitvault.vault import Vault

# What the other tests of these scenarios run, over and over.
STATES = 6


def lost(stage: Stage, before: State, ops: Sequence[Op], ends: Sequence[int]) -> str:
    """The first cut after which something is lost; empty when nothing is."""
    checker = Checker(stage, stage.base / "check")
    for end in ends:
        medium = Medium(before)
        for op in ops[:end]:
            medium.apply(op)
        for state in medium.states(STATES, random.Random(end)):
            try:
                checker.check(state, list(stage.saved), {}, again=False)
            except Lost as broken:
                return f"cut after {end}: {broken}"
    return ""


@pytest.mark.parametrize(
    ("ref", "mutant"),
    [
        ("refs/x", "refs by refs.sync"),
        ("refs/heads/x", "refs/heads by refs.sync"),
        ("refs/tags/x", "refs/tags by refs.sync"),
        ("refs/vault/x", "refs/vault by refs.sync"),
        ("refs/vault/meta/x", "refs/vault/meta by refs.sync"),
        ("refs/vault/undo/x", "refs/vault/undo by refs.sync"),
        ("refs/vault/undo/2/x", "refs/vault/undo/2 by refs.sync"),
        ("packed-refs", "vault.git by refs.sync"),
    ],
)
def test_a_ref_that_somebody_removed_does_not_come_back_after_a_sweep(ref: str, mutant: str, ground: Path) -> None:
    """git syncs no folder: when the sweep does not either, a cut brings the ref back, and what it held is gone."""
    stage = Stage(ground)
    stage.snapshot(Disk())
    stage.work()
    stage.snapshot(Disk())
    with Vault.open(stage.vault) as vault:
        vault.prune(Retention(last=1), yes=True)
        vault.sweep()
        stage.saved.pop(next(iter(stage.saved)))
        pack = vault.history.new_pack()
        theirs = vault.history.add_commit(pack, pack.add(b"tree", b""), None, "theirs")
        made = pack.finish()
        assert made
        vault.history.publish([made])
        if ref == "packed-refs":
            (stage.vault / ref).write_bytes(b"%b refs/heads/x\n" % theirs.hex().encode())
        else:
            vault.history.refs.update(ref, theirs)
    before = durable(read_state(stage.root))
    (stage.vault / ref).unlink()
    disk = RecordingDisk(stage.root)
    with opened(stage.vault, disk) as vault:
        vault.sweep()
        assert not vault.history.objects.contains(theirs)
    ops = [Op("unlink", f"vault.git/{ref}"), *disk.ops]
    assert not lost(stage, before, ops, range(len(ops), 0, -8))
    # A sweep that removes refs itself syncs this one once more.
    without = leave_out(f"sync_folder of {mutant}", "sync_folder of vault.git by refs.delete")(ops)
    assert len(without) < len(ops)
    assert lost(stage, before, without, [len(without)])


def test_old_packs_are_safe_until_the_new_ones_read_back(ground: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk keeps something else than it was given: what upkeep moves out of the way must not be gone.

    At each moment when packs have moved, there or back. While they move, a cut may leave them in neither folder where
    a rename is two changes; then the new packs, durable before that began, are all there is.
    """
    stage = prepared(ground, next(scenario for scenario in SCENARIOS if scenario.name == "maintain"))
    before = durable(read_state(stage.root))

    def unreadable(*_: object) -> None:
        raise CorruptionError("not what was written")

    monkeypatch.setattr(rounds, "_prove", unreadable)
    disk = RecordingDisk(stage.root)
    with opened(stage.vault, disk) as vault, suppress(CorruptionError):
        vault.store.repack(asked=True)
    new = {op.file for op in disk.ops if op.kind == "create" and "chunks/tmp/" in op.path}
    ops = [replace(op, data=bytes(len(op.data))) if op.kind == "write" and op.file in new else op for op in disk.ops]

    def moved(ops: Sequence[Op]) -> list[int]:
        syncs = [at for at, op in enumerate(ops, 1) if op.kind == "sync_folder" and op.caller == "rounds.move"]
        return [at for at in syncs if at + 1 not in syncs]

    assert len(moved(ops)) == 2 and new

    def heal(vault: Vault) -> None:
        report = vault.verify(repair=True)
        if not report.ok or report.quarantined:
            raise Lost(f"not healed: {report.defects}")

    stage.heal = heal
    assert not lost(stage, before, ops, [*moved(ops), len(ops)])
    for folder in ("chunks", "chunks/trash"):
        without = leave_out(f"sync_folder of {folder} by rounds.move")(ops)
        assert len(without) < len(ops)
        assert lost(stage, before, without, [*moved(without), len(without)]), folder
