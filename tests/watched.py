"""A watcher in a thread of the test, and what is to hold of its list."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from gitvault.core.models import Project
from gitvault.core.touched import Touched
from gitvault.personas.code.activity.detector import Around, Timing
from gitvault.personas.code.activity.settings import Settings
from gitvault.personas.code.activity.watcher import Happening, Watcher
from gitvault.vault import Vault
from gitvault.vault.saving import watch

SLOW = Settings(Timing(quiet=3600, interval=3600), rescan=3600)


def calm(_: object) -> Around:
    return Around()


class Running:
    """A watcher in a thread."""

    def __init__(self, vault: Path, settings: Settings = SLOW) -> None:
        self.vault = vault
        self.happened: list[Happening] = []
        self._opened = Vault.open(vault)
        self.watcher = Watcher(self._opened, (), settings, surroundings=calm)
        self.failure: list[BaseException] = []
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            for happening in self.watcher.run():
                self.happened.append(happening)
        except BaseException as error:
            self.failure.append(error)

    def until(self, event: str, count: int = 1) -> Happening:
        """Wait for something to have happened so often; the last of it."""
        for _ in range(12_000):
            found = [h for h in self.happened if h.event == event]
            if len(found) >= count:
                return found[count - 1]
            if self.failure:
                raise self.failure[0]
            time.sleep(0.01)
        raise AssertionError(f"no {event} in {self.happened}")

    def stop(self) -> None:
        self.watcher.stop()
        self.thread.join(60)
        self._opened.close()
        assert not self.thread.is_alive()
        if self.failure:
            raise self.failure[0]


@contextlib.contextmanager
def watching(vault: Vault, settings: Settings = SLOW) -> Iterator[Running]:
    running = Running(vault.path, settings)
    try:
        yield running
    finally:
        running.stop()


def told(vault: Vault, project: Project) -> Touched | None:
    """What the watcher would tell the next snapshot."""
    cache = vault.caches.open(project.name)
    mark = cache.about().get("watch", b"")
    cache.close()
    return watch(vault, project).touched(mark)


def settled(running: Running, vault: Vault, project: Project) -> None:
    """The watcher's own first snapshot is there, and the list in use."""
    running.until("snapshot")
    vault.create_snapshot(project.path)
    seen = told(vault, project)
    assert seen and seen.folders == frozenset()


def proven(vault: Vault, project: Project) -> None:
    """The last snapshot is what a look at everything finds, and the list was right."""
    seen = told(vault, project)
    assert seen is not None and seen.folders == frozenset(), seen
    report = vault.create_snapshot(project.path, scan=True)
    assert report.unchanged, report
    assert not [note for note in report.notes if "missed" in note]
