"""A disk that fails or is full at any operation: one clear error, nothing saved is lost, the next run works."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection
from pathlib import Path
from types import SimpleNamespace

import pytest
from faults.recording import NEEDS_SPACE, FailingDisk
from faults.stage import DONE, SCENARIOS, Lost, Scenario, look, prepared, record, sampled

from gitvault.core.utils import files
from gitvault.core.utils.files import Disk
from gitvault.errors import GitVaultError, StorageFullError

NAMED = [pytest.param(scenario, id=scenario.name) for scenario in SCENARIOS]
KINDS = {
    "eio-once": (errno.EIO, False, False),
    "eio-sticky": (errno.EIO, True, False),
    "enospc-once": (errno.ENOSPC, False, False),
    "enospc-sticky": (errno.ENOSPC, True, False),
    "short-write": (errno.ENOSPC, False, True),
}


def fails(kind: str) -> Collection[str]:
    """The operations that can fail so: with others it would be the next one that can, and that is tried by itself."""
    if kind == "short-write":
        return ("write",)
    return NEEDS_SPACE if kind.startswith("enospc") else (*NEEDS_SPACE, "unlink", "remove_folder", "sync_folder")


@pytest.mark.parametrize("scenario", NAMED)
def test_an_error_at_any_operation(
    scenario: Scenario, ground: Path, request: pytest.FixtureRequest, record_property
) -> None:
    stage = prepared(ground, scenario)
    recording = record(stage, scenario)
    ops = [op.kind for op in recording.ops if op.kind != "acknowledge"]
    tries = [(kind, at) for at, op in enumerate(ops) for kind in KINDS if op in fails(kind)]
    tried = 0
    for kind, at in sampled(tries, 5, request.config.getoption("--deep")):
        tried += 1
        error, sticky, short = KINDS[kind]
        stage.reset(recording.before)
        disk = FailingDisk(stage.root, at, error, sticky=sticky, short=short)
        failure: BaseException | None = None
        try:
            scenario.run(stage, disk)
        except (GitVaultError, OSError) as raised:
            failure = raised
        what = f"{scenario.name}, {kind} at {at}: {failure!r}"
        if failure is not None:
            assert disk.failed, what
            assert "\n" not in str(failure), what
            if error == errno.ENOSPC:
                assert isinstance(failure, StorageFullError), what
        acknowledged = [op.path for op in disk.ops if op.kind == "acknowledge"]
        try:
            scenario.run(stage, Disk())
            again = [snapshot for snapshot in stage.saved if snapshot in (*recording.acknowledged, *acknowledged)]
            look(stage, stage.vault, [*again, DONE], ground / "out")
        except (Lost, GitVaultError, OSError) as lost:
            pytest.fail(f"{what}; then: {type(lost).__name__}: {lost}")
    record_property("errors", tried)


def test_writes_that_the_system_takes_in_pieces(ground: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`write` may take less than it was given and call that success."""

    def write(fd: int, data: bytes) -> int:
        return os.write(fd, data[: len(data) // 2 or 1])

    monkeypatch.setattr(files, "os", SimpleNamespace(**{**vars(os), "write": write}))
    stage = prepared(ground, SCENARIOS[1])
    stage.snapshot(Disk())
    look(stage, stage.vault, list(stage.saved), ground / "out")
