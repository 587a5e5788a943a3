"""A process that runs a scenario and is killed by the system in the middle of it."""

from __future__ import annotations

import os
import signal

from faults.recording import Op, RecordingDisk
from faults.stage import Scenario, Stage

# A child that hangs ends all the same, and not by the signal that is expected of it.
_LONGEST = 300


class _LethalDisk(RecordingDisk):
    def __init__(self, stage: Stage, at: int, told: int) -> None:
        super().__init__(stage.root)
        self.at = at
        self._told = told

    def before(self, op: Op) -> None:
        if len(self.ops) == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def acknowledge(self, what: str) -> None:
        super().acknowledge(what)
        os.write(self._told, f"{what}\n".encode())


def killed(stage: Stage, scenario: Scenario, at: int) -> list[str]:
    """What a child acknowledged before it was killed before operation `at`.

    Forked and not started: importing took longer than most of these runs. Raises AssertionError where it ended by
    something else.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            os.close(reading)
            signal.alarm(_LONGEST)
            scenario.run(stage, _LethalDisk(stage, at, writing))
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    with open(reading, encoding="ascii") as told:
        acknowledged = told.read().split()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    # Without caches a run may do less than the one that was recorded, and come to its end.
    assert code == -signal.SIGKILL or (code == 0 and acknowledged), f"{scenario.name}, before {at}: ended with {code}"
    return acknowledged
