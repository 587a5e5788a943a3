"""A process that runs a scenario and is killed by the system in the middle of it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from faults.recording import Op, RecordingDisk
from faults.stage import SCENARIOS, Stage

from gitvault.core.storage import appender


class _LethalDisk(RecordingDisk):
    def __init__(self, root: Path, at: int) -> None:
        super().__init__(root)
        self.at = at

    def before(self, op: Op) -> None:
        if len(self.ops) == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def acknowledge(self, what: str) -> None:
        super().acknowledge(what)
        print(what, flush=True)


def main(base: str, name: str, at: int, saved: list[str]) -> None:
    """Run the scenario `name`; die before operation `at`. Prints what is acknowledged."""
    appender.PACK_SIZE = 100_000
    stage = Stage(Path(base))
    stage.saved = {snapshot: {} for snapshot in saved}
    scenario = next(scenario for scenario in SCENARIOS if scenario.name == name)
    scenario.run(stage, _LethalDisk(stage.root, at))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:])
