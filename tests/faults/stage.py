"""What is recorded, and what must hold in whatever a bad day left of it."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from faults.recording import Medium, Op, RecordingDisk, State, read_state, write_state
from trees import Record, records, write

from gitvault.core.utils.files import Disk
from gitvault.errors import GitVaultError
from gitvault.vault import Vault, is_vault

NOISE = random.Random(4).randbytes(400_000)
LARGE = bytes(4096) + NOISE[:180_000]
"""Over the limit of what git holds: chunks, a manifest, packs; with a NUL at the start."""

TODAY: Mapping[str, bytes | str] = {
    "read.me": b"a line of text\n" * 40,
    "src/main.c": b"int main(void) { return 0; }\n" * 10,
    "src/deep/er/still": b"same",
    "art/hero.tga": LARGE,
    "art/one-chunk.bin": b"\0" + NOISE[200_000:268_000],
    "link": "src/main.c",
}


class Stage:
    """A folder that stands for a disk, with a vault on it, and a project elsewhere."""

    def __init__(self, base: Path) -> None:
        """Set up in an empty folder, or entered again by another process."""
        self.base = base
        self.root = base / "disk"
        self.vault = self.root / "vault.git"
        self.project = base / "project"
        self.saved: dict[str, dict[bytes, Record]] = {}
        """Snapshot -> what it must give back."""
        self._today = base / "today"
        self._tomorrow = base / "tomorrow"
        if not self.root.exists():
            self.root.mkdir()
            write(self.project, TODAY)
            (self.project / "empty").mkdir()
            self._rest()
            shutil.copytree(self.project, self._today, symlinks=True)

    def _rest(self) -> None:
        # What was written just now would be read again and again until it is certain that it is not being written.
        time.sleep(0.11)

    def work(self) -> None:
        """A day's work: new, changed, moved and deleted; text and large."""
        day = len(self.saved)
        project = self.project
        with (project / "read.me").open("ab") as file:
            file.write(b"more %d\n" % day)
        large = bytearray((project / "art/hero.tga").read_bytes())
        large[50_000:50_010] = b"a stroke %d" % day
        (project / "art/hero.tga").write_bytes(large)
        (project / f"new-{day}.txt").write_bytes(b"%d" % day)
        (project / f"new-{day}.bin").write_bytes(b"\0%d" % day + NOISE[270_000 + day : 340_000])
        (project / f"empty-{day}").mkdir()
        (project / f"link-{day}").symlink_to("read.me")
        if day == 1:
            (project / "src/main.c").unlink()
            (project / "src/deep").rename(project / "moved")
        self._rest()
        shutil.rmtree(self._today)
        shutil.copytree(project, self._today, symlinks=True)

    def snapshot(self, disk: Disk, **options: str) -> None:
        """Save the project; what it held is noted when the vault says that it is safe."""
        held = records(self.project)
        with opened(self.vault, disk) as vault:
            report = vault.create_snapshot(self.project, project="p", **options)  # type: ignore[arg-type]
        self.acknowledge(disk, report.snapshot, held)

    def acknowledge(self, disk: Disk, snapshot: str, held: dict[bytes, Record]) -> None:
        """The vault said that a snapshot with this content is safe."""
        self.saved.setdefault(snapshot, held)
        if isinstance(disk, RecordingDisk):
            disk.acknowledge(snapshot)

    def reset(self, state: State) -> None:
        """The disk as given, the project as it is today."""
        shutil.rmtree(self.root)
        self.root.mkdir()
        write_state(self.root, state)
        if records(self.project) != records(self._today):
            shutil.rmtree(self.project)
            shutil.copytree(self._today, self.project, symlinks=True)

    @contextmanager
    def tomorrow(self) -> Iterator[dict[bytes, Record]]:
        """Meanwhile the project is what will be saved next; its content."""
        if not self._tomorrow.exists():
            shutil.copytree(self._today, self._tomorrow, symlinks=True)
            (self._tomorrow / "read.me").write_bytes(b"tomorrow\n" * 30)
            (self._tomorrow / "art" / "hero.tga").write_bytes(LARGE[:90_000] + b"tomorrow" + LARGE[90_000:])
            (self._tomorrow / "tomorrow.txt").write_bytes(b"is another day")
            self._rest()
        aside = self.base / "aside"
        self.project.rename(aside)
        self._tomorrow.rename(self.project)
        try:
            yield records(self.project)
        finally:
            self.project.rename(self._tomorrow)
            aside.rename(self.project)


@contextmanager
def opened(path: Path, disk: Disk | None = None) -> Iterator[Vault]:
    """A vault, made when it is not there; that nothing more can be written when it is closed is no error."""
    vault = Vault.create(path, disk=disk)
    try:
        yield vault
    finally:
        if getattr(disk, "dead", False):
            with suppress(BaseException):
                vault.close()
        else:
            vault.close()


# -- what is recorded --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scenario:
    """`prepare` makes the day before, undisturbed; `run` is what may go wrong, at any operation, and again."""

    name: str
    prepare: Callable[[Stage], None]
    run: Callable[[Stage, Disk], None]


def _nothing(stage: Stage) -> None:
    pass


def _one(stage: Stage) -> None:
    stage.snapshot(Disk())


def _one_and_work(stage: Stage) -> None:
    stage.snapshot(Disk())
    stage.work()


def _three(stage: Stage) -> None:
    for _ in range(2):
        stage.snapshot(Disk())
        stage.work()
    stage.snapshot(Disk())


def _maintain(stage: Stage, disk: Disk) -> None:
    with opened(stage.vault, disk) as vault:
        vault.maintain()


def _restore(stage: Stage, disk: Disk) -> None:
    """In place: what is there now is saved first."""
    held = records(stage.project)
    first = next(iter(stage.saved))
    with opened(stage.vault, disk) as vault:
        report = vault.restore_snapshot(first)
    assert report.safety
    stage.acknowledge(disk, report.safety, held)


SCENARIOS = (
    Scenario("first", _nothing, Stage.snapshot),
    Scenario("second", _one_and_work, Stage.snapshot),
    Scenario("unchanged", _one, Stage.snapshot),
    Scenario("maintain", _three, _maintain),
    Scenario("restore", _one_and_work, _restore),
)
"""Add one for whatever writes to a vault."""


@dataclass(slots=True)
class Recording:
    """A run that went well: what it found, what it did, what the caches were after each operation."""

    before: State
    caches: list[State]
    ops: list[Op]
    acknowledged: tuple[str, ...]
    """Before it began."""


class _WatchingDisk(RecordingDisk):
    """Also keeps what the caches were: nothing of them passes the disk."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage.root)
        self.stage = stage
        self.caches: list[State] = []

    def after(self) -> None:
        self.caches.append(caches_of(self.stage))


def caches_of(stage: Stage) -> dict[str, bytes | None]:
    """The caches of a vault as they are now."""
    folder = stage.vault / "cache"
    found = read_state(folder) if folder.is_dir() else {}
    return {f"vault.git/cache/{path}": content for path, content in found.items()}


def prepared(base: Path, scenario: Scenario) -> Stage:
    """A stage, the day before."""
    stage = Stage(base)
    scenario.prepare(stage)
    return stage


def record(stage: Stage, scenario: Scenario) -> Recording:
    """Let it go well once, and write down what it does."""
    before = durable(read_state(stage.root))
    acknowledged = tuple(stage.saved)
    disk = _WatchingDisk(stage)
    scenario.run(stage, disk)
    return Recording(before, disk.caches, disk.ops, acknowledged)


def durable(state: State) -> dict[str, bytes | None]:
    """Without what is never synced and not needed."""
    return {path: content for path, content in state.items() if not path.startswith("vault.git/cache/")}


# -- what must hold ----------------------------------------------------------------------------------


class Lost(AssertionError):
    """A promise is broken."""


class Checker:
    """Makes states real and looks whether they keep the promises; states that were looked at are not made again."""

    def __init__(self, stage: Stage, scratch: Path) -> None:
        self.stage = stage
        self.states = 0
        self._scratch = scratch
        self._seen: dict[int, Lost | None] = {}

    def check(self, state: State, acknowledged: Sequence[str], caches: State, *, again: bool = True) -> None:
        """Raises Lost. `again`: the next snapshot too."""
        state = {path: content for path, content in state.items() if not path.startswith("vault.git/cache/")}
        if "vault.git" in state:
            state |= {"vault.git/cache": None, **caches} if caches else {}
        key = hash((frozenset(state.items()), tuple(acknowledged)))
        if key not in self._seen:
            self.states += 1
            self._seen[key] = self._look(state, acknowledged, again)
        if lost := self._seen[key]:
            raise lost

    def _look(self, state: State, acknowledged: Sequence[str], again: bool) -> Lost | None:
        disk = self._scratch / "disk"
        shutil.rmtree(self._scratch, ignore_errors=True)
        disk.mkdir(parents=True)
        write_state(disk, state)
        try:
            look(self.stage, disk / "vault.git", acknowledged, self._scratch, again=again)
        except (GitVaultError, OSError) as error:
            return Lost(f"{type(error).__name__}: {error}".replace(f"{disk}/", ""))
        except Lost as lost:
            return lost
        return None


def look(stage: Stage, path: Path, acknowledged: Sequence[str], scratch: Path, *, again: bool = True) -> None:
    """The vault verifies, what was acknowledged comes back byte for byte, and the next snapshot does. Raises Lost."""
    if acknowledged or is_vault(path):
        with Vault.open(path) as vault:
            _clean(vault, data=True)
            listed = {snapshot.id for snapshot in vault.list_snapshots()}
            if not listed >= set(acknowledged):
                raise Lost(f"not listed: {set(acknowledged) - listed}")
            if acknowledged and not vault.projects():
                raise Lost("the project is not listed")
            head = vault.history.refs.head()
            if head is None or not head.startswith("refs/heads/"):
                raise Lost(f"HEAD names {head}")
            if (path / "RESCUE.md").read_bytes() != (stage.vault / "RESCUE.md").read_bytes():
                raise Lost("RESCUE.md is not as it was written")
            for number, snapshot in enumerate(acknowledged):
                _comes_back(vault, snapshot, stage.saved[snapshot], scratch / f"out{number}")
    if again:
        with stage.tomorrow() as held, Vault.create(path) as vault:
            report = vault.create_snapshot(stage.project, project="p")
            if report.problems:
                raise Lost(f"the next snapshot is not whole: {report.problems}")
            _comes_back(vault, report.snapshot, held, scratch / "next")
            _clean(vault, data=False)


def _clean(vault: Vault, *, data: bool) -> None:
    report = vault.verify(data=data)
    if report.defects:
        raise Lost(f"verify: {report.defects[:3]}")


def _comes_back(vault: Vault, snapshot: str, held: dict[bytes, Record], target: Path) -> None:
    report = vault.restore_snapshot(snapshot, target)
    if report.problems:
        raise Lost(f"{snapshot[:10]}: {report.problems[:3]}")
    got = records(target)
    if got != held:
        wrong = sorted(name for name in got.keys() | held.keys() if got.get(name) != held.get(name))
        raise Lost(f"{snapshot[:10]}: came back otherwise: {wrong[:5]}")
    shutil.rmtree(target)


def cuts(recording: Recording, limit: int, seed: int) -> Iterator[tuple[int, State, tuple[str, ...], State]]:
    """The states after each operation: its number, the disk, what was acknowledged by then, caches as they may be."""
    medium = Medium(recording.before)
    acknowledged = recording.acknowledged
    for number, op in enumerate([None, *recording.ops]):
        if op is not None:
            medium.apply(op)
            if op.kind == "acknowledge":
                acknowledged = (*acknowledged, op.path)
        chance = random.Random(seed * 10_000 + number)
        for state in medium.states(limit, chance):
            yield number, state, acknowledged, any_caches(recording.caches[:number], chance)


def any_caches(seen: Sequence[State], chance: random.Random) -> State:
    """Caches as they were lately, or once, or half written, or gone."""
    kind = chance.randrange(4)
    if kind == 0 or not seen:
        return {}
    if kind == 1:
        return seen[-1]
    if kind == 2:
        return chance.choice(seen)
    torn = dict(seen[-1])
    for path, content in torn.items():
        if content and chance.random() < 0.5:
            torn[path] = content[: chance.randrange(len(content))] + bytes(512)
    return torn


def fast_folder(fallback: Path) -> Path:
    """A folder in memory where there is one."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        return fallback
    return Path(tempfile.mkdtemp(prefix="gitvault-faults-", dir=memory))
