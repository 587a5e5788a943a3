"""The harness can fail: leave out any sync, swap any order, and a power cut loses something that `Checker` sees.

A mutant is an edit of what was recorded: every sync that one place of the product asks for is taken out, or operations
come before what they must come after. It is caught by a cut in one run, or by kill, second run and cut.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import pytest
from faults.recording import Killed, KillingDisk, Medium, Op, site
from faults.stage import SCENARIOS, Checker, Lost, Scenario, prepared, record

from gitvault.errors import GitVaultError

# What the other tests of these scenarios run, over and over.
_OLD_PACKS = "the new packs are durable before the old ones move; only should they not read back, are those needed"
_NEITHER = "only with a pack in neither folder, which six states seldom have: sixty do, in the sweep"
_KILLED_PUSH = "for who relies on the record that a killed push had named; killed and run again, these do not show it"
_OLD_REMOTE = "for a push that was killed when it made the folder; the new remote shows it"
NOT_NEEDED = {
    "sync_folder of refs/vault/restored by refs.commit": "a note on where files come from, promised to nobody",
    "sync_folder of refs/vault/meta by history.sync_tip": "was synced before the branch moved",
    "sync_folder of trash by repack._retire": _OLD_PACKS,
    "sync_folder of objects/pack by repack._retire": _OLD_PACKS,
    "sync_folder of chunks by repair.repair_vault": "for a repair that was killed and is run again, then cut",
    "sync_folder of objects/pack by repair.repair_vault": "for a repair that was killed and is run again, then cut",
    "sync_folder of chunks by condemned.condemn": _NEITHER,
    "sync of chunks/condemned.*.tmp by condemned.condemn": _NEITHER,
    "sync_folder of chunks/trash by rounds.replace": "only a second sweep that is cut too would miss it",
    "sync_folder of vault.git by operations.complete": "what is completed again stays as it is",
    "sync_folder of refs/vault by refs.delete": "a list of losses that is back names what is whole: no loss",
    "sync_folder of vault.git by repair.constants": "the list of losses goes afterwards, which syncs it again",
    "sync_folder of quarantine by repair.set_aside": "kept for people; here all of it was healed",
    "sync_folder of objects/pack by repair.set_aside": "what is fetched afterwards syncs it again",
    "sync of tmp/*.pack by a thread": "the disk works while the checksum is made; synced again with that",
    "sync of tmp/repack-*/out/*.pack by a thread": "as above",
    **{
        f"sync_folder of {folder} by folder._below": _KILLED_PUSH
        for folder in ("new/machines", "new/machines/*", "old/machines", "old/machines/*")
    },
    **{f"sync_folder of {folder} by folder._settle": _OLD_REMOTE for folder in ("old", "old/machines")},
}
"""Syncs that no state needs, by their place, and why they are there all the same.

Those of caches are not here: each state is tried with old, torn and lost ones, whatever was synced.
One order is not here either: a git pack's index may be there without the pack, every reader passes over it. The pack
comes first for those who read meanwhile.
"""

_AT_THE_END = "sync_folder of {} by repair.repair_vault"

ELSEWHERE = {
    "sync_folder of vault.git by refs.delete",
    *(f"sync_folder of {folder} by rounds.move" for folder in ("chunks", "chunks/trash")),
    *(
        f"sync_folder of {folder} by refs.sync"
        for folder in ("refs", "refs/heads", "refs/tags", "refs/vault", "refs/vault/meta", "vault.git")
    ),
    *(f"sync_folder of refs/vault/{folder} by refs.sync" for folder in ("undo", "undo/2")),
}
"""Syncs for what these runs do not leave; `test_left_by_others` shows that they are needed."""

COVERED = {
    "sync_folder of vault.git by refs.update": ("sync_folder of vault.git by refs.commit",),
    "sync_folder of vault.git by refs.commit": ("sync_folder of vault.git by refs.update",),
    "sync_folder of refs/vault by refs.commit": ("sync_folder of refs/vault by refs.update",),
    "sync_folder of objects/pack by history.publish": ("sync_folder of objects/pack by packfile.publish",),
    "sync_folder of refs/vault/undo/2 by refs.delete": ("sync_folder of refs/vault/undo/2 by refs.sync",),
    "sync_folder of objects/pack by repair._replace": (
        "sync_folder of objects/pack by repair.git_packs",
        _AT_THE_END.format("objects/pack"),
    ),
    "sync_folder of objects/pack by repair.git_packs": (_AT_THE_END.format("objects/pack"),),
    "sync_folder of chunks by repair._replace": (_AT_THE_END.format("chunks"),),
    "sync_folder of chunks by repair.set_aside": (_AT_THE_END.format("chunks"),),
    "sync_folder of new by folder.put": ("sync_folder of new by folder._settle",),
    "sync_folder of new/machines by folder._settle": ("sync_folder of new/machines by folder._below",),
    "sync_folder of new/machines/* by folder.put": ("sync_folder of new/machines/* by folder._below",),
    "sync_folder of old/machines/* by folder.put": ("sync_folder of old/machines/* by folder._below",),
}
"""Syncs that others make good, in these runs: without all of them something is lost."""

LIMIT = 6
"""States for each cut of one run; the corners are first. Of two runs the first will do: nothing pending is there."""

TWICE = ("first", "second", "copy")
"""Scenarios that are also killed and run again. The others would take minutes for nothing that these do not show."""

Runs = Sequence[Sequence[Op]]
"""What processes did, one after the other; all but the last were killed."""


class Mill:
    """A scenario, recorded, and what its mutants cost."""

    def __init__(self, ground: Path, scenario: Scenario) -> None:
        self.scenario = scenario
        self.stage = prepared(ground, scenario)
        self.recording = record(self.stage, scenario)
        self.checker = Checker(self.stage, ground / "check")

    @cached_property
    def twice(self) -> list[Runs]:
        """Killed before each of its operations, then run again."""
        runs = []
        for at in range(len(self.recording.ops)):
            self.stage.reset(self.recording.before)
            first, second = KillingDisk(self.stage.root, at), KillingDisk(self.stage.root, 1 << 30)
            with suppress(Killed, GitVaultError):
                self.scenario.run(self.stage, first)
            self.scenario.run(self.stage, second)
            runs.append((first.ops, second.ops))
        return runs

    def caught(self, edit: Callable[[Sequence[Op]], list[Op]], twice: bool) -> str:
        """How a mutant shows; empty when it does not."""
        if twice and self.scenario.name not in TWICE:
            return ""
        for runs in self.twice if twice else [[self.recording.ops]]:
            edited = [edit(ops) for ops in runs]
            if edited == [list(ops) for ops in runs]:
                continue
            # A second run is cut when it has said that all is safe: cuts within it are like those of one run.
            ends = [len(edited[-1])] if twice else range(len(edited[-1]), 0, -1)
            for end in ends:
                if shown := self._cut(edited, end):
                    return shown
        return ""

    def _cut(self, runs: Runs, end: int) -> str:
        medium = Medium(self.recording.before)
        acknowledged = self.recording.acknowledged
        for number, ops in enumerate(runs):
            medium.new_process()
            for op in ops[:end] if number == len(runs) - 1 else ops:
                medium.apply(op)
                if op.kind == "acknowledge":
                    acknowledged = (*acknowledged, op.path)
        for state in medium.states(LIMIT if len(runs) == 1 else 1, random.Random(end)):
            try:
                self.checker.check(state, acknowledged, {}, again=False)
            except Lost as lost:
                twice = "killed, run again, " if len(runs) > 1 else ""
                return f"{self.scenario.name}, {twice}cut after {end}: {lost}"
        return ""


def leave_out(*places: str) -> Callable[[Sequence[Op]], list[Op]]:
    """No sync at these places."""
    return lambda ops: [op for op in ops if op.kind not in SYNCS or site(op) not in places]


def rename_first(ops: Sequence[Op]) -> list[Op]:
    """Every file gets its name before its content is synced."""
    edited = list(ops)
    for sync in [op for op in ops if op.kind == "sync"]:
        at = edited.index(sync)
        name = next(
            (n for n in range(at, len(edited)) if edited[n].kind == "rename" and edited[n].path == sync.path), 0
        )
        if name:
            edited[at : name + 1] = [*edited[at + 1 : name + 1], sync]
    return edited


def earlier(what: str, than: str) -> Callable[[Sequence[Op]], list[Op]]:
    """What happens to the one kind of path after the last rename to the other comes before it."""

    def edit(ops: Sequence[Op]) -> list[Op]:
        at = max((n for n, op in enumerate(ops) if re.search(than, op.target)), default=len(ops))
        moved = [op for op in ops[at:] if re.search(what, op.target or op.path)]
        return [*ops[:at], *moved, *(op for op in ops[at:] if op not in moved)]

    return edit


SYNCS = ("sync", "sync_folder")
SWAPS = {
    "names before contents": rename_first,
    "refs before git packs": earlier(r"/refs/|/refs$|vault.git$", r"objects/pack/.*\.pack$"),
    "refs before chunk packs": earlier(r"/refs/|/refs$|vault.git$", r"chunks/[0-9a-f]+\.zpk$"),
    "old git packs go before the new one comes": earlier(r"vault.git/trash", r"objects/pack/.*\.pack$"),
    "old chunk packs go before the new one comes": earlier(r"chunks/trash", r"chunks/[0-9a-f]+\.zpk$"),
}


def mills(ground: Path, scenarios: Sequence[Scenario]) -> list[Mill]:
    made = []
    for scenario in scenarios:
        (ground / scenario.name).mkdir()
        made.append(Mill(ground / scenario.name, scenario))
    return made


QUICK = {
    "names before contents": rename_first,
    "refs before git packs": SWAPS["refs before git packs"],
    "refs before chunk packs": SWAPS["refs before chunk packs"],
    **{
        f"without {place}": leave_out(place)
        for place in (
            "sync of chunks/tmp/*.zpk by packs.publish",
            "sync of tmp/*.pack by packfile.finish",
            "sync of refs/heads/p.lock by refs.commit",
            "sync_folder of refs/heads by refs.commit",
        )
    },
}


def test_a_sync_that_is_left_out_and_an_order_that_is_swapped_show(ground: Path, record_property) -> None:
    """The harness can fail."""
    ready = mills(ground, SCENARIOS[:1])
    assert [name for name, edit in QUICK.items() if not show(ready, edit)] == []
    record_property("mutants", len(QUICK))


@pytest.mark.deep
def test_every_sync_is_needed_and_every_order(ground: Path, record_property) -> None:
    ready = mills(ground, SCENARIOS)
    places = {site(op) for mill in ready for op in mill.recording.ops if op.kind in SYNCS}
    places = {place for place in places if not place.partition(" of ")[2].startswith("cache")}
    assert places >= NOT_NEEDED.keys() | COVERED.keys() | ELSEWHERE
    others = NOT_NEEDED.keys() | COVERED.keys() | ELSEWHERE
    mutants = {f"without {place}": leave_out(place) for place in places - others}
    mutants |= {f"without {' and '.join((place, *more))}": leave_out(place, *more) for place, more in COVERED.items()}
    mutants |= SWAPS
    shown = {}
    for name, edit in sorted(mutants.items()):
        shown[name] = show(ready, edit)
        print(f"| {name} | {shown[name] or 'NOT CAUGHT'} |", flush=True)
    for place, why in NOT_NEEDED.items():
        print(f"| without {place} | not needed: {why} |")
    record_property("mutants", len(mutants))
    record_property("states", sum(mill.checker.states for mill in ready))
    assert [name for name, how in shown.items() if not how] == []


def show(ready: Sequence[Mill], edit: Callable[[Sequence[Op]], list[Op]]) -> str:
    """Where a mutant is caught first."""
    for twice in (False, True):
        for mill in ready:
            if how := mill.caught(edit, twice):
                return how
    return ""
