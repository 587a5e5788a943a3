"""What is recorded, and what must hold in whatever a bad day left of it."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from faults.recording import Killed, KillingDisk, Medium, Op, RecordingDisk, State, read_state, write_state
from trees import Record, records, write

from gitvault.core.backup_engine.retention import Retention
from gitvault.core.models import SnapshotId
from gitvault.core.utils.files import Disk
from gitvault.core.versioning.edits import Edit
from gitvault.core.versioning.operations import can_undo
from gitvault.errors import GitVaultError
from gitvault.remotes import fetch, settings
from gitvault.remotes.opening import open_remote
from gitvault.remotes.push import push
from gitvault.vault import Vault, is_vault

_T = TypeVar("_T")

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


Content = Mapping[bytes, Record]

DONE = "done"
"""What a scenario that takes no snapshot acknowledges."""


class Stage:
    """A folder that stands for a disk, with a vault on it, and a project elsewhere."""

    def __init__(self, base: Path) -> None:
        """Set up in an empty folder, or entered again by another process."""
        self.base = base
        self.root = base / "disk"
        self.vault = self.root / "vault.git"
        self.project = base / "project"
        self.saved: dict[str, Content | None] = {}
        """Snapshot -> what it must give back; None: it is not there."""
        self.becomes: dict[str, Content | None] = {}
        """What a scenario changes, all of it or nothing; None: the snapshot goes."""
        self.heal: Callable[[Vault], None] | None = None
        """What makes a vault whole again that was damaged before the scenario began."""
        self.also: Callable[[Vault], bool] | None = None
        """What else holds when the scenario is done."""
        self.remotes: dict[str, tuple[str, ...]] = {}
        """Remotes on the disk, by the names of their folders, with the snapshots that they have before it begins."""
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

    def acknowledge(self, disk: Disk, snapshot: str, held: Content) -> None:
        """The vault said that a snapshot with this content is safe."""
        self.saved.setdefault(snapshot, held)
        self.tell(disk, snapshot)

    def tell(self, disk: Disk, what: str = DONE) -> None:
        """The vault said that something is done."""
        if isinstance(disk, RecordingDisk):
            disk.acknowledge(what)

    def setting(self, key: str, value: str) -> None:
        """Make the vault if it is missing, and set something in it."""
        Vault.create(self.vault).close()
        with (self.vault / "config").open("a") as config:
            config.write(f"\t{key} = {value}\n")

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


def _days(stage: Stage, number: int) -> None:
    for _ in range(number):
        stage.snapshot(Disk())
        stage.work()


def _three(stage: Stage) -> None:
    _days(stage, 2)
    stage.snapshot(Disk())


def _maintain(stage: Stage, disk: Disk) -> None:
    with opened(stage.vault, disk) as vault:
        vault.maintain()
    stage.tell(disk)


def _restore(stage: Stage, disk: Disk) -> None:
    """In place: what is there now is saved first."""
    held = records(stage.project)
    first = next(iter(stage.saved))
    with opened(stage.vault, disk) as vault:
        report = vault.restore_snapshot(first)
    assert report.safety
    stage.acknowledge(disk, report.safety, held)


def _to_prune(stage: Stage) -> None:
    """A milestone follows its snapshot; another one goes."""
    _three(stage)
    with Vault.open(stage.vault) as vault:
        first, second, third = stage.saved
        for name, snapshot in ("goes", first), ("follows", third):
            vault.history.refs.update(f"refs/tags/p/{name}", vault.history.locate(SnapshotId(snapshot)))
    stage.becomes = {first: None, second: None}
    stage.also = lambda vault: _is_recorded(vault, follows=third)


def _is_recorded(vault: Vault, **tags: str) -> bool:
    """Tags lead to the commits that stand for their snapshots now, and all can be taken back."""
    history = vault.history
    wanted = {f"refs/tags/p/{name}": history.locate(SnapshotId(snapshot)) for name, snapshot in tags.items()}
    return history.refs.list("refs/tags/") == wanted and can_undo(history, vault.operations()[0])


def _prune(stage: Stage, disk: Disk) -> None:
    with opened(stage.vault, disk) as vault:
        vault.prune(Retention(last=1), yes=True)
    stage.tell(disk)


def _to_undo(stage: Stage) -> None:
    _to_prune(stage)
    held = dict(stage.saved)
    _prune(stage, Disk())
    _settle(stage)
    stage.becomes = held
    first, _, third = held
    stage.also = lambda vault: _is_recorded(vault, goes=first, follows=third)


def _undo(stage: Stage, disk: Disk) -> None:
    with opened(stage.vault, disk) as vault:
        if vault.operations()[0].what != "undo":
            vault.undo()
    stage.tell(disk)


def _to_rename(stage: Stage) -> None:
    """Every snapshot stays; branch, tags, records and list have the other name, all of them or none."""
    _to_prune(stage)
    stage.becomes = {}
    with Vault.open(stage.vault) as vault:
        vault.area("feedback/p").add({b"said": b"fun"}, "a record")
    first, _, third = stage.saved

    def renamed(vault: Vault) -> bool:
        history = vault.history
        tags = {"refs/tags/q/goes": first, "refs/tags/q/follows": third}
        wanted = {tag: history.locate(SnapshotId(snapshot)) for tag, snapshot in tags.items()}
        names = [project.name for project in vault.projects()]
        if list(history.refs.list("refs/vault/feedback/")) != ["refs/vault/feedback/q"]:
            return False
        return names == history.projects() == ["q"] and history.refs.list("refs/tags/") == wanted

    stage.also = renamed


def _rename(stage: Stage, disk: Disk) -> None:
    with opened(stage.vault, disk) as vault:
        if vault.history.tip("p"):
            vault.rename_project("p", "q")
    stage.tell(disk)


def _to_edit(stage: Stage) -> None:
    _three(stage)
    stage.also = lambda vault: [p.client for p in vault.projects()] == ["acme"]


def _edit(stage: Stage, disk: Disk) -> None:
    with opened(stage.vault, disk) as vault:
        vault.edit_projects(["p"], Edit({"client": "acme"}))
        stage.tell(disk)


def _to_annotate(stage: Stage) -> None:
    _one(stage)
    [snapshot] = stage.saved

    def noted(vault: Vault) -> bool:
        lines = vault.annotations("review", SnapshotId(snapshot))
        return lines == [{"text": "good"}] and vault.area("feedback/p").read(b"said") == b"fun"

    stage.also = noted


def _annotate(stage: Stage, disk: Disk) -> None:
    """A note on a snapshot, and a record."""
    with opened(stage.vault, disk) as vault:
        vault.annotate("review", SnapshotId(next(iter(stage.saved))), {"text": "good"}, "A review")
        vault.area("feedback/p").add({b"said": b"fun"}, "A record")
    stage.tell(disk)


def _to_forget(stage: Stage) -> None:
    _days(stage, 2)
    _pack(stage.project / "kept.git")
    stage.snapshot(Disk())
    stage.becomes = {
        snapshot: {path: record for path, record in held.items() if path not in (b"art/hero.tga", b"read.me")}
        for snapshot, held in stage.saved.items()
        if held
    }
    # How git writes a pack anew, only git knows.
    last = list(stage.saved)[-1]
    away = stage.base / "away"
    shutil.copytree(stage.vault, away / "vault.git", symlinks=True)
    with opened(away / "vault.git") as vault:
        vault.forget(["hero.tga", "read.me"], repositories=True, yes=True)
        vault.restore_snapshot(SnapshotId(last), away / "p")
    kept = {path: record for path, record in records(away / "p").items() if _is_packed(path)}
    shutil.rmtree(away)
    rest = {path: record for path, record in (stage.becomes[last] or {}).items() if not _is_packed(path)}
    stage.becomes[last] = rest | kept


def _is_packed(path: bytes) -> bool:
    return path.startswith(b"kept.git/objects/pack/")


def _pack(repository: Path) -> None:
    """A repository with one pack, which is large also without what is to be forgotten."""
    subprocess.run(["git", "init", "-q", "--bare", "--template=", repository], check=True)
    told = [b"commit refs/heads/main\ncommitter A <a@b.example> 0 +0000\ndata 0\n"]
    for name, content in ((b"hero.tga", LARGE), (b"other", NOISE[200_000:300_000])):
        told.append(b"M 644 inline %s\ndata %d\n%s\n" % (name, len(content), content))
    command = ["git", "-C", repository, "-c", "fastimport.unpackLimit=0", "fast-import", "--quiet"]
    subprocess.run(command, input=b"".join(told), check=True)


def _forget(stage: Stage, disk: Disk) -> None:
    with opened(stage.vault, disk) as vault:
        assert not vault.forget(["hero.tga", "read.me"], repositories=True, yes=True).held
    stage.tell(disk)


def _settle(stage: Stage) -> None:
    """What was to become has."""
    stage.saved |= stage.becomes
    stage.becomes = {}


def _to_sweep(stage: Stage) -> None:
    """After everything that leaves something behind."""
    _to_forget(stage)
    _forget(stage, Disk())
    _settle(stage)
    stage.work()
    stage.snapshot(Disk())
    with opened(stage.vault) as vault:
        vault.prune(Retention(last=2), yes=True)
    stage.saved |= dict.fromkeys(list(stage.saved)[:-2])
    stage.work()
    with suppress(Killed):
        stage.snapshot(KillingDisk(stage.root, 40))


def _sweep(stage: Stage, disk: Disk) -> None:
    with opened(stage.vault, disk) as vault:
        vault.sweep()
    stage.tell(disk)


def _damaged(stage: Stage) -> None:
    for pattern in ("chunks/*.zpk", "objects/pack/*.pack"):
        # The largest: a pack that holds no more than an old list of projects is in no copy.
        for path in sorted(stage.vault.glob(pattern), key=lambda path: (path.stat().st_size, path.name))[-2:]:
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 0xFF
            path.chmod(0o600)
            path.write_bytes(data)
    max(stage.vault.glob("objects/pack/*.idx")).unlink()
    wrong = {"refs/heads/p": b"no id", "rescue.sh": b"no script"}
    for name, content in wrong.items():
        (stage.vault / name).write_bytes(content)
    stage.also = lambda vault: set(wrong.values()) <= {p.read_bytes() for p in vault.path.glob("quarantine/*")}
    stage.heal = lambda vault: _repair_with(vault)


def _repair_with(vault: Vault) -> None:
    report = vault.verify(repair=True)
    assert report.ok and not report.quarantined, report


def _to_repair(stage: Stage) -> None:
    """From parity."""
    stage.setting("parity", "10")
    _three(stage)
    _damaged(stage)


def _to_repair_from_copy(stage: Stage) -> None:
    _three(stage)
    with opened(stage.vault) as vault:
        vault.copy_to(stage.base / "copy.git")
    _damaged(stage)


def _repair(stage: Stage, disk: Disk) -> None:
    with opened(stage.vault, disk) as vault:
        _repair_with(vault)
    stage.tell(disk)


def _to_copy(stage: Stage) -> None:
    """The vault on the disk is the copy."""
    target, stage.vault = stage.vault, stage.base / "source.git"
    stage.snapshot(Disk())
    with opened(stage.vault) as vault:
        vault.copy_to(target)
    stage.work()
    stage.snapshot(Disk())
    stage.vault = target
    newest = list(stage.saved)[-1]
    stage.becomes = {newest: stage.saved[newest]}
    stage.saved[newest] = None


def _copy(stage: Stage, disk: Disk) -> None:
    with opened(stage.base / "source.git", disk) as vault:
        vault.copy_to(stage.vault)
    stage.tell(disk)


def _to_push(stage: Stage) -> None:
    """One remote has the first of two snapshots, one is new; both are on the same disk."""
    stage.snapshot(Disk())
    settings.add(stage.vault, "old", {"url": os.fspath(stage.root / "old")})
    _push(stage, Disk())
    stage.remotes = {"old": tuple(stage.saved), "new": ()}
    stage.work()
    stage.snapshot(Disk())
    settings.add(stage.vault, "new", {"url": os.fspath(stage.root / "new")})


def _push(stage: Stage, disk: Disk) -> None:
    with opened(stage.vault, disk) as vault:
        for told in settings.load(vault.path).values():
            with open_remote(told, {}, vault=vault.path, disk=disk) as remote:
                push(vault, remote, told, progress=lambda what, done, total: None)
    stage.tell(disk)


SCENARIOS = (
    Scenario("first", _nothing, Stage.snapshot),
    Scenario("second", _one_and_work, Stage.snapshot),
    Scenario("unchanged", _one, Stage.snapshot),
    Scenario("maintain", _three, _maintain),
    Scenario("restore", _one_and_work, _restore),
    Scenario("prune", _to_prune, _prune),
    Scenario("undo", _to_undo, _undo),
    Scenario("rename", _to_rename, _rename),
    Scenario("edit", _to_edit, _edit),
    Scenario("annotate", _to_annotate, _annotate),
    Scenario("forget", _to_forget, _forget),
    Scenario("sweep", _to_sweep, _sweep),
    Scenario("repair", _to_repair, _repair),
    Scenario("repair-from-copy", _to_repair_from_copy, _repair),
    Scenario("copy", _to_copy, _copy),
    Scenario("push", _to_push, _push),
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


# Unfinished: that it is there may matter, what is in it is read by nobody.
_UNREAD = re.compile(r"(^|/)tmp/|[.]lock$|[.]tmp$")


class Checker:
    """Makes states real and looks whether they keep the promises.

    A state of the disk is looked at once, with the caches that it comes with first: they are others for each. Two that
    differ only in what unfinished files hold are one.
    """

    def __init__(self, stage: Stage, scratch: Path) -> None:
        self.stage = stage
        self.states = 0
        self._scratch = scratch
        self._seen: dict[int, Lost | None] = {}

    def check(self, state: State, acknowledged: Sequence[str], caches: State, *, again: bool = True) -> None:
        """Raises Lost. `again`: the next snapshot too."""
        state = durable(state)
        told = (
            (path, bool(content) if content and _UNREAD.search(path) else content) for path, content in state.items()
        )
        key = hash((frozenset(told), tuple(acknowledged)))
        if "vault.git" in state:
            state |= {"vault.git/cache": None, **caches} if caches else {}
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
            if stage.heal and DONE not in acknowledged:
                stage.heal(vault)
            _clean(vault, data=True)
            if acknowledged and not vault.projects():
                raise Lost("the project is not listed")
            head = vault.history.refs.head()
            if head is None or not head.startswith("refs/heads/"):
                raise Lost(f"HEAD names {head}")
            if (path / "RESCUE.md").read_bytes() != (stage.vault / "RESCUE.md").read_bytes():
                raise Lost("RESCUE.md is not as it was written")
            _holds(stage, vault, acknowledged, scratch)
            if stage.also and DONE in acknowledged and not stage.also(vault):
                raise Lost("not all that was done is there")
    for name, pushed in stage.remotes.items():
        if snapshots := tuple(stage.saved) if DONE in acknowledged else pushed:
            _comes_back(stage, path.parent / name, snapshots, scratch)
    if again:
        with stage.tomorrow() as held, Vault.create(path) as vault:
            report = vault.create_snapshot(stage.project, project="p")
            if report.problems:
                raise Lost(f"the next snapshot is not whole: {report.problems}")
            vault.restore_snapshot(report.snapshot, scratch / "next")
            if (got := records(scratch / "next")) != held:
                raise Lost(f"the next snapshot came back otherwise: {_wrong(got, held)}")
            shutil.rmtree(scratch / "next")
            _clean(vault, data=False)


def _comes_back(stage: Stage, place: Path, snapshots: Sequence[str], scratch: Path) -> None:
    """What a push said was there is, on an empty machine."""
    told = settings.Settings("off", os.fspath(place))
    with open_remote(told, {}, disk=Disk()) as remote:
        clone, report = fetch.clone(remote, told.url, scratch / "clone.git", {}, progress=lambda *_: None)
    with clone:
        if report.missing:
            raise Lost(f"the clone lacks {report.missing[:3]}")
        _clean(clone, data=True)
        listed = {snapshot.id for snapshot in clone.list_snapshots()}
        for number, snapshot in enumerate(snapshots):
            if snapshot not in listed:
                raise Lost(f"{snapshot[:10]}: not in the clone of {place.name}")
            clone.restore_snapshot(snapshot, scratch / f"clone{number}")
            if (got := records(scratch / f"clone{number}")) != stage.saved[snapshot]:
                wrong = _wrong(got, stage.saved[snapshot] or {})
                raise Lost(f"{snapshot[:10]}: came back from {place.name} otherwise: {wrong}")
    for path in scratch.glob("clone*"):
        shutil.rmtree(path)


def _holds(stage: Stage, vault: Vault, acknowledged: Sequence[str], scratch: Path) -> None:
    before = {snapshot: stage.saved[snapshot] for snapshot in acknowledged if snapshot != DONE}
    legal = [before | stage.becomes] if DONE in acknowledged else [before, before | stage.becomes]
    listed = {snapshot.id for snapshot in vault.list_snapshots()}
    missing = []
    for state in legal:
        gone = {snapshot for snapshot, held in state.items() if held is None}
        missing.append((state.keys() - gone - listed) | (gone & listed))
    legal = [state for state, wrong in zip(legal, missing, strict=True) if not wrong]
    if not legal:
        raise Lost(f"not listed, or not gone: {missing}")
    for number, snapshot in enumerate(sorted(legal[0].keys() & listed)):
        target = scratch / f"out{number}"
        report = vault.restore_snapshot(snapshot, target)
        if report.problems:
            raise Lost(f"{snapshot[:10]}: {report.problems[:3]}")
        got = records(target)
        fits = [state for state in legal if state[snapshot] == got]
        if not fits:
            raise Lost(f"{snapshot[:10]}: came back otherwise: {_wrong(got, legal[0][snapshot] or {})}")
        legal = fits
        shutil.rmtree(target)


def _wrong(got: Content, held: Content) -> list[bytes]:
    return sorted(name for name in got.keys() | held.keys() if got.get(name) != held.get(name))[:5]


def _clean(vault: Vault, *, data: bool) -> None:
    report = vault.verify(data=data)
    if report.defects:
        raise Lost(f"verify: {report.defects[:3]}")


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


def sampled(everything: Iterable[_T], count: int, deep: bool) -> Iterable[_T]:
    """All of it when deep; else that many, always the same ones, the last among them."""
    if deep:
        return everything
    *others, last = everything
    return [*random.Random(7).sample(others, min(count - 1, len(others))), last]


def fast_folder(fallback: Path) -> Path:
    """A folder in memory where there is one."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        return fallback
    return Path(tempfile.mkdtemp(prefix="gitvault-faults-", dir=memory))
