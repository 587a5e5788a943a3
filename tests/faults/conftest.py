"""Small packs, so that a small project has several; memory instead of a disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.stage import fast_folder

from gitvault.core.storage import appender
from gitvault.core.utils import lock
from gitvault.core.versioning import refs


@pytest.fixture(autouse=True)
def small_and_impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appender, "PACK_SIZE", 100_000)
    monkeypatch.setattr(refs, "_STALE_SECONDS", 0.005)
    # A lease that a power cut left belongs to another run of the system: it is watched, here not for a minute.
    monkeypatch.setitem(lock.VaultLock.__init__.__kwdefaults__, "stale", 0.01)
    monkeypatch.setattr(lock, "_POLL_SECONDS", 0.002)


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Path]:
    """A folder where syncs cost nothing."""
    folder = fast_folder(tmp_path)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
