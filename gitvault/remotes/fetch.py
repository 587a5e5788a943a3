"""What a remote has and the vault lacks: its packs as they are, then its refs, by the rules of a copy."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from gitvault import config
from gitvault.core.backup_engine.copy import project_of
from gitvault.core.interfaces import Progress
from gitvault.core.models import ChunkId, CopyReport, NotCopied, ObjectId, Pointer
from gitvault.core.storage.held import HeldPack
from gitvault.core.storage.packs import Table, format_table, read_table, table_hash
from gitvault.core.utils.files import copy_file
from gitvault.core.utils.names import from_ref_component, ref_component
from gitvault.core.versioning.history import HEADS, META, GitHistory
from gitvault.core.versioning.packfile import NewPack, publish
from gitvault.core.versioning.packindex import partial_index, write_index
from gitvault.core.versioning.packreader import PARTIAL
from gitvault.errors import CorruptionError, ExistsError, GitVaultError, NotFoundError
from gitvault.remotes import settings
from gitvault.remotes.hidden import hidden
from gitvault.remotes.index import Index, Part
from gitvault.remotes.noted import Noted
from gitvault.remotes.places import Content
from gitvault.remotes.records import Record, name_of
from gitvault.remotes.remote import CHUNKS, GIT, Remote
from gitvault.remotes.views import viewed
from gitvault.vault import Vault

_TAGS = "refs/tags/"
_BATCH = 4096


@dataclass(frozen=True, slots=True)
class FetchReport:
    """What came."""

    snapshots: int
    refs: int
    bytes: int
    lines: tuple[str, ...]
    """Projects that stand for another machine's line of one that is here."""
    left: tuple[NotCopied, ...]
    missing: tuple[str, ...]
    """Packs that could not be had, and why."""
    junk: tuple[str, ...]
    large: tuple[int, int] = (0, 0)
    """How many large files of what came, and their bytes, are on none of the remotes that were asked."""
    hidden: tuple[str, ...] = ()
    """What came that a machine's newest record leaves out, though nobody removed it."""


def clone(
    remote: Remote,
    url: str,
    folder: Path,
    extra: Mapping[str, str | tuple[str, ...]],
    *,
    progress: Progress,
    **options: object,
) -> tuple[Vault, FetchReport]:
    """A vault, open, with all that a remote holds, which becomes its `origin`; one that was interrupted goes on.

    `extra`: more settings of that. Raises ExistsError for a folder with something else in it, NotFoundError.
    """
    origin = {"url": url, "id": demand_vault(remote), **extra}
    vault = joined(folder, {"origin": origin}, **options)
    return vault, fetch(vault, remote, settings.get(vault.path, "origin"), progress=progress)


def demand_vault(remote: Remote, told: settings.Settings | None = None) -> str:
    """The id of the vault that is there. Raises NotFoundError, RemoteError and its kinds, CorruptionError.

    `told`: what this machine knows of the remote.
    """
    there = remote.known_id(told) if told else remote.vault_id()
    if not there:
        raise NotFoundError(f"{remote.shown}: no vault there; push one to it first")
    return there


def joined(folder: Path, known: Mapping[str, Mapping[str, str | tuple[str, ...]]], **options: object) -> Vault:
    """An empty vault, open, with these remotes, `origin` one of them; or the one that is there.

    `known`: the settings of each; it is the vault whose `id` one of them has. Raises ExistsError.
    """
    if folder.exists() and any(folder.iterdir()) and "origin" not in _remotes(folder):
        raise ExistsError(f"{folder}: not empty; name a folder that does not exist yet")
    vault = Vault.create(folder, **options)
    if "origin" not in settings.load(vault.path):
        for there in {str(values["id"]) for values in known.values() if "id" in values}:
            config.set(vault.path, "vault.id", there, disk=vault.disk)
        vault.__dict__.pop("config", None)
        # `origin` last: with it the vault counts as joined.
        for name, values in sorted(known.items(), key=lambda item: item[0] == "origin"):
            settings.add(vault.path, name, values, disk=vault.disk)
    return vault


def _remotes(folder: Path) -> Collection[str]:
    with suppress(GitVaultError):
        return settings.load(folder)
    return ()


def fetch(vault: Vault, remote: Remote, told: settings.Settings, *, progress: Progress) -> FetchReport:
    """Bring the vault to what other machines pushed; what is here stays.

    A project whose newest snapshot there does not follow the one here becomes another project, NAME@MACHINE. So does
    what a machine's newest record leaves out without having removed it, see hidden.py.
    Raises RemoteError and its kinds, LockedError, StorageFullError, OSError.
    """
    there = _id(vault, remote, told)
    known = remote.records(there)
    if remote.junk and not known:
        raise CorruptionError(f"{remote.shown}: no record there can be read; push again from a vault that has it")
    others = sorted((record for chain, record in known.items() if chain != told.chain), key=lambda one: one.time)
    remote.demand(others)
    running = _Fetch(vault, remote, told.name, remote.condemned(others), progress)
    if others:
        for record in running.bring(others):
            running.take(record)
        passed = {name_of(record) for record in known.values()}

        def older() -> Iterator[Record]:
            for record in remote.every_record(there, without=passed | running.seen):
                passed.add(name_of(record))
                if record.chain != told.chain:
                    yield record

        tips = vault.history.refs.list(HEADS).values()
        for record, refs in hidden(vault.history, tips, known.values(), older(), running.bring_commit):
            running.uncover(replace(record, refs=refs))
        running.note_read()
        if not running.missing:
            running.note_seen([*remote.index(others).parts(), *passed])
    return running.report(tuple(dict.fromkeys(remote.demand(others))))


class _Fetch:
    """One fetch, as far as it got."""

    def __init__(self, vault: Vault, remote: Remote, name: str, condemned: set[str], progress: Progress) -> None:
        self.missing: list[str] = []
        self._vault = vault
        self._remote = remote
        self._purpose = f"fetch from {name}"
        self._condemned = condemned
        self._progress = progress
        self._snapshots = self._refs = self._bytes = 0
        self._lines: list[str] = []
        self._left: list[NotCopied] = []
        self._hidden: list[str] = []
        self._read: set[str] = set()
        self._seen = Noted(vault, name, "seen")
        self._had = Noted(vault, name, "read")
        self.seen = self._seen.names()
        """What is removed here later does not come back as missing."""

    def bring(self, records: Iterable[Record]) -> list[Record]:
        """Fetch what the indexes of these records name and is not here; the records whose index is sound.

        Whose is not keeps nobody from the others: anyone who may put can write a record.
        """
        sound: list[Record] = []
        wanted: dict[str, Part] = {}
        with self._vault.write(self._purpose):
            for record in records:
                try:
                    wanted.update(_lacking(self._vault, self._remote.index([record]), self.seen))
                except (CorruptionError, NotFoundError, ValueError, IndexError) as error:
                    self.missing.append(f"{name_of(record)}: {error}")
                else:
                    sound.append(record)
            # Git first: small, and told by its progress; then the chunks in the order in which they were pushed.
            self._bring(sorted(wanted.values(), key=lambda part: part.name.startswith(CHUNKS)))
        return sound

    def bring_commit(self, record: Record, tip: ObjectId) -> None:
        """Fetch the pack with a commit that a record names, if it is not here and can be had."""
        if not self._vault.history.objects.contains(tip):
            rows = self._remote.index([record]).find([tip.hex()])
            with self._vault.write(self._purpose):
                self._bring([row.part for row in rows.values()])

    def _bring(self, wanted: Sequence[Part]) -> None:
        """Fetch parts. Those that were condemned may be gone: then what counts is in others."""
        vault = self._vault
        total, done = sum(part.size for part in wanted), 0

        def failed(part: Part, error: GitVaultError) -> None:
            if part.name not in self._condemned:
                self.missing.append(f"{part.name}: {error}")

        vault.store.settle()
        vault.disk.make_folder(vault.path / "tmp")
        vault.disk.make_folder(vault.path / "chunks" / "tmp")
        packs: dict[str, Part] = {}
        for part, ready in self._remote.fetch(wanted, lambda part, content: store_part(vault, part, content), failed):
            self._read.add(part.name)
            if isinstance(ready, NewPack):
                publish(ready, vault.path / "objects" / "pack", vault.disk)
            else:
                vault.disk.rename(ready.path, vault.path / "chunks" / ready.name)
                packs[ready.name] = part
            done += part.size
            self._progress("fetching", done, total)
        vault.disk.sync_folder(vault.path / "objects" / "pack")
        vault.disk.sync_folder(vault.path / "chunks")
        vault.history.objects.refresh()
        # What snapshots find here they do not store again: a pack with other bytes than it says would be believed.
        for name, reason in vault.store.unsound(packs).items():
            vault.disk.unlink(vault.path / "chunks" / name)
            self._read.discard(packs[name].name)
            failed(packs[name], CorruptionError(reason))
        self._bytes += done

    def take(self, record: Record) -> None:
        """Take over the refs of a record, as far as their packs are here."""
        try:
            report, named = take(self._vault, record.refs, record.machine, self._progress)
        except (CorruptionError, NotFoundError) as error:
            # Records, the catalog: what of them is not there stops a copy.
            self.missing.append(f"{name_of(record)}: {error}")
            return
        self._snapshots += report.snapshots
        self._refs += report.refs
        self._left += (one for one in report.left if one not in self._left)
        self._lines += (line for line in named if line not in self._lines)

    def uncover(self, record: Record) -> None:
        """Bring and take over what no newest record leads to."""
        for sound in self.bring([record]):
            self.take(sound)
            self._hidden += (
                f"{from_ref_component(ref.removeprefix(HEADS))} of {record.machine}, {record.time}: {oid.hex()}"
                for ref, oid in record.refs.items()
                if ref.startswith(HEADS)
            )

    def note_read(self) -> None:
        """Remember what was read: a push believes what others say is in it."""
        if self._read:
            self._had.note(self._had.names() | self._read)

    def note_seen(self, names: Iterable[str]) -> None:
        """Remember these parts and records as seen."""
        self._seen.note(names)

    def report(self, junk: tuple[str, ...]) -> FetchReport:
        """What came."""
        return FetchReport(
            self._snapshots,
            self._refs,
            self._bytes,
            tuple(self._lines),
            tuple(self._left),
            tuple(self.missing),
            junk,
            hidden=tuple(self._hidden),
        )


def commits_of(
    vault: Vault, remote: Remote, told: settings.Settings, progress: Progress
) -> Callable[[Record, ObjectId], None]:
    """What brings the commit that a record names, with the pack it is in, where it is not here and can be had."""
    return _Fetch(vault, remote, told.name, set(), progress).bring_commit


def _id(vault: Vault, remote: Remote, told: settings.Settings) -> str:
    there = demand_vault(remote, told)
    remote.expect(there, told.id or vault.config.id)
    return there


@dataclass(frozen=True, slots=True)
class NewChunks:
    """A pack of the chunk store, synced, under a temporary name; `held`: it keeps that."""

    name: str
    path: Path
    table: Table
    held: HeldPack | None = None


StoredPack = NewPack | NewChunks


def store_part(vault: Vault, part: Part, content: Content, offsets: Mapping[ObjectId, int] | None = None) -> StoredPack:
    """Write a part below a temporary name, synced and indexed, ready to be published. Raises CorruptionError.

    `offsets`: of a pack of git the objects that alone are wanted of it, by where they begin, see `partial_index`.
    """
    if part.name.startswith(GIT):
        content = bytes(content)
        pack = vault.path / "tmp" / f"{secrets.token_hex(8)}.pack"
        _write(vault, pack, content)
        if offsets is not None:
            index = partial_index(content[-20:], len(content), offsets)
            _write(vault, pack.with_suffix(".idx"), index)
            # Not the pack's own name: it may be wanted whole, too.
            name = f"{PARTIAL}{secrets.token_hex(20)}"
            return NewPack(name, pack, pack.with_suffix(".idx"), len(offsets), len(content) + len(index))
        try:
            made = write_index(pack, content, vault.disk)
        except CorruptionError as error:
            vault.disk.unlink(pack)
            raise CorruptionError(f"{part.name}: {error}") from error
        return NewPack(f"pack-{content[-20:].hex()}", pack, made, 0, len(content))
    temporary = vault.path / "chunks" / "tmp" / f"{secrets.token_hex(8)}.zpk"
    _write(vault, temporary, content)
    table = read_table(temporary)
    return NewChunks(f"{table_hash(format_table(table))}.zpk", temporary, table)


def index_some(vault: Vault, pack: Path, offsets: Mapping[ObjectId, int]) -> None:
    """Let more objects be found of a pack that `store_part` stored for others and that was published."""
    name = f"{PARTIAL}{secrets.token_hex(20)}"
    with pack.open("rb") as file:
        size = file.seek(-20, os.SEEK_END) + 20
        checksum = file.read()
    try:
        vault.disk.link(pack, pack.with_name(f"{name}.pack"))
    except OSError:
        copy_file(pack, pack.with_name(f"{name}.pack"), vault.disk)
    index = vault.path / "tmp" / f"{name}.idx"
    _write(vault, index, partial_index(checksum, size, offsets))
    vault.disk.rename(index, pack.with_name(index.name))


def _write(vault: Vault, path: Path, content: Content) -> None:
    with vault.disk.create(path) as file:
        file.write(content)
        file.sync()


def _lacking(vault: Vault, index: Index, seen: Collection[str]) -> dict[str, Part]:
    """The parts that hold anything that is not here, but for those seen before."""
    wanted: dict[str, Part] = {}
    for run in index.runs:
        parts = index.parts_of(run)
        if all(part.name in seen for part in parts):
            continue
        for batch in _batches(index.rows(run)):
            chunks = [ChunkId(bytes.fromhex(one)) for one, rest in batch if rest[0] == "c"]
            here = vault.store.known(chunks)

            def is_here(one: str, kind: str, here: Collection[ChunkId] = here) -> bool:
                if kind == "g":
                    return vault.history.objects.contains(ObjectId(bytes.fromhex(one)))
                return vault.store.has_manifest(one) if kind == "m" else bytes.fromhex(one) in here

            numbers = {int(rest.split(" ", 2)[1]) for one, rest in batch if not is_here(one, rest[0])}
            wanted.update((parts[number].name, parts[number]) for number in numbers)
    return {name: part for name, part in wanted.items() if name not in seen}


def _batches(rows: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    batch: list[tuple[str, str]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    yield batch


def take(
    vault: Vault,
    there: Mapping[str, ObjectId],
    machine: str,
    progress: Progress,
    lacking: set[Pointer] | None = None,
) -> tuple[CopyReport, list[str]]:
    """Take over refs of a machine, whose packs are here; the copy's report, and the lines that got a name."""
    refs, lines = _lines(vault.history, there, machine)
    with viewed(vault.history, refs) as view:
        return vault.take_in(view, vault.store, progress, lacking), lines


def _lines(history: GitHistory, there: Mapping[str, ObjectId], machine: str) -> tuple[dict[str, ObjectId], list[str]]:
    """Those refs without projects whose newest is known here, and with new names for other lines of history."""
    renamed: dict[str, str] = {}
    skipped: set[str] = set()
    for ref, tip in there.items():
        if not ref.startswith(HEADS):
            continue
        project = from_ref_component(ref.removeprefix(HEADS))
        mine = history.tip(project)
        with suppress(CorruptionError, NotFoundError):
            if mine is None or _follows(history, tip, mine):
                # A line that is in another project already, under the name that it got here, say.
                if mine is None and any(_follows(history, other, tip) for other in _tips(history, project)):
                    skipped.add(project)
                continue
            if _follows(history, mine, tip):
                skipped.add(project)
                continue
        line = f"{project}@{machine}"
        known = history.tip(line)
        if known and _follows(history, known, tip):
            skipped.add(project)
        else:
            renamed[project] = line
    refs = {}
    for ref, oid in there.items():
        project = project_of(ref)
        if project not in skipped:
            refs[under(ref, lambda name: renamed.get(name, name))] = oid
    return refs, sorted(renamed.values())


def _tips(history: GitHistory, line: str) -> Iterator[ObjectId]:
    """The newest snapshots of the project whose other line this one may be."""
    if "@" in line and (tip := history.tip(line.rpartition("@")[0])):
        yield tip


def _follows(history: GitHistory, tip: ObjectId, earlier: ObjectId) -> bool:
    """Whether the chain of `tip` holds `earlier`, or the snapshot that it stands for."""
    wanted = history.identify(earlier)
    return any(history.identify(oid) == wanted for oid in history.chain(tip))


def under(ref: str, named: Callable[[str], str]) -> str:
    """A project's ref, for the project as `named` calls it."""
    for prefix in (HEADS, META, _TAGS):
        if ref.startswith(prefix):
            component, slash, name = ref.removeprefix(prefix).partition("/")
            return f"{prefix}{ref_component(named(from_ref_component(component)))}{slash}{name}"
    return ref
