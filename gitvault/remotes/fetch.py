"""What a remote has and the vault lacks: its packs as they are, then its refs, by the rules of a copy."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from gitvault.core.backup_engine.copy import project_of
from gitvault.core.interfaces import Progress
from gitvault.core.models import ChunkId, CopyReport, NotCopied, ObjectId, Pointer
from gitvault.core.storage.packs import format_table, read_table, table_hash
from gitvault.core.utils.files import Disk, FleetingDisk
from gitvault.core.utils.names import from_ref_component, ref_component
from gitvault.core.utils.process import git
from gitvault.core.versioning.history import HEADS, META, GitHistory
from gitvault.core.versioning.packfile import NewPack, publish
from gitvault.errors import CorruptionError, ExistsError, GitVaultError, NotFoundError, ToolFailed
from gitvault.remotes import settings
from gitvault.remotes.index import Index, Part
from gitvault.remotes.records import Record, name_of
from gitvault.remotes.remote import CHUNKS, GIT, Remote
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


def demand_vault(remote: Remote) -> str:
    """The id of the vault that is there. Raises NotFoundError, RemoteError and its kinds, CorruptionError."""
    there = remote.vault_id()
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
            git(vault.path, "config", "-f", vault.path / "config", "vault.id", there)
        vault.__dict__.pop("config", None)
        # `origin` last: with it the vault counts as joined.
        for name, values in sorted(known.items(), key=lambda item: item[0] == "origin"):
            settings.add(vault.path, name, values)
    return vault


def _remotes(folder: Path) -> Collection[str]:
    with suppress(GitVaultError):
        return settings.load(folder)
    return ()


def fetch(vault: Vault, remote: Remote, told: settings.Settings, *, progress: Progress) -> FetchReport:
    """Bring the vault to what other machines pushed; what is here stays.

    A project whose newest snapshot there does not follow the one here becomes another project, NAME@MACHINE.
    Raises RemoteError and its kinds, LockedError, StorageFullError, OSError.
    """
    known = remote.records(_id(vault, remote, told))
    others = sorted((record for chain, record in known.items() if chain != told.chain), key=lambda one: one.time)
    junk = remote.demand(others)
    missing: list[str] = []
    size = snapshots = refs = 0
    lines: list[str] = []
    left: list[NotCopied] = []
    if others:
        seen = _Seen(vault, told.name)
        with vault.write(f"fetch from {told.name}"):
            sound, wanted = _wanted(vault, remote, others, seen.names(), missing)
            size = _bring(vault, remote, wanted, remote.condemned(others), missing, progress)
        for record in sound:
            taken, named = take(vault, record.refs, record.machine, progress)
            snapshots += taken.snapshots
            refs += taken.refs
            left += taken.left
            lines += named
        if not missing:
            seen.note(remote.index(others).parts())
    return FetchReport(snapshots, refs, size, tuple(lines), tuple(left), tuple(missing), junk)


def _id(vault: Vault, remote: Remote, told: settings.Settings) -> str:
    there = remote.vault_id()
    remote.expect(there, told.id or vault.config.id)
    if not there:
        raise NotFoundError(f"{remote.shown}: no vault there; push to it first")
    return there


class _Seen:
    """The parts that were fetched: what is removed here later does not come back because it is missing. Disposable."""

    def __init__(self, vault: Vault, name: str) -> None:
        self._path = vault.path / "cache" / "remotes" / f"{name}.seen"
        self._disk = vault.disk

    def names(self) -> set[str]:
        with suppress(OSError):
            return set(self._path.read_text("ascii").split())
        return set()

    def note(self, names: Iterable[str]) -> None:
        with suppress(OSError, GitVaultError):
            self._disk.make_folder(self._path.parent)
            self._disk.write_durably(self._path, "".join(f"{name}\n" for name in sorted(names)).encode())


def _wanted(
    vault: Vault, remote: Remote, others: Iterable[Record], seen: Collection[str], missing: list[str]
) -> tuple[list[Record], list[Part]]:
    """The records whose index is sound, and the parts of these that hold anything that is not here.

    Whose is not keeps nobody from the others: anyone who may put can write a record.
    """
    sound: list[Record] = []
    wanted: dict[str, Part] = {}
    for record in others:
        try:
            wanted.update(_lacking(vault, remote.index([record]), seen))
        except (CorruptionError, NotFoundError, ValueError, IndexError) as error:
            missing.append(f"{name_of(record)}: {error}")
        else:
            sound.append(record)
    # Git first: small, and told by its progress; then the chunks in the order in which they were pushed.
    return sound, sorted(wanted.values(), key=lambda part: part.name.startswith(CHUNKS))


def _bring(
    vault: Vault, remote: Remote, wanted: list[Part], condemned: set[str], missing: list[str], progress: Progress
) -> int:
    """Fetch parts; their bytes. Those that were `condemned` may be gone: then what counts is in others."""
    total, done = sum(part.size for part in wanted), 0
    scratch = vault.path / "tmp"
    vault.disk.make_folder(scratch)
    vault.disk.make_folder(vault.path / "chunks" / "tmp")

    def failed(part: Part, error: GitVaultError) -> None:
        if part.name not in condemned:
            missing.append(f"{part.name}: {error}")

    for part, ready in remote.fetch(wanted, lambda part, content: store_part(vault, part, content), failed):
        if isinstance(ready, NewPack):
            publish(ready, vault.path / "objects" / "pack", vault.disk)
        else:
            vault.disk.rename(ready, vault.path / "chunks" / ready.name.removesuffix(".new"))
        done += part.size
        progress("fetching", done, total)
    vault.disk.sync_folder(vault.path / "objects" / "pack")
    vault.disk.sync_folder(vault.path / "chunks")
    vault.history.objects.refresh()
    return done


def store_part(vault: Vault, part: Part, content: bytes) -> NewPack | Path:
    """Write a part below a temporary name, synced and indexed, ready to be published. Raises CorruptionError."""
    if part.name.startswith(GIT):
        pack = vault.path / "tmp" / f"{secrets.token_hex(8)}.pack"
        with vault.disk.create(pack) as file:
            file.write(content)
            file.sync()
        index = pack.with_suffix(".idx")
        try:
            git(vault.path, "index-pack", pack)
        except ToolFailed as error:
            vault.disk.unlink(pack)
            raise CorruptionError(f"{part.name}: {error}") from error
        vault.disk.sync_file(index)
        return NewPack(f"pack-{content[-20:].hex()}", pack, index, 0, len(content))
    temporary = vault.path / "chunks" / "tmp" / f"{secrets.token_hex(8)}.zpk"
    with vault.disk.create(temporary) as file:
        file.write(content)
        file.sync()
    name = f"{table_hash(format_table(read_table(temporary)))}.zpk"
    ready = temporary.with_name(f"{name}.new")
    vault.disk.rename(temporary, ready)
    return ready


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
    with TemporaryDirectory(prefix="gitvault-") as folder:
        view = GitHistory(Path(folder), decode_pointer=vault.history.decode_pointer)
        view.objects = vault.history.objects
        refs, lines = _lines(vault.history, there, machine)
        write_refs(Path(folder), refs, FleetingDisk())
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


def write_refs(git_dir: Path, refs: Mapping[str, ObjectId], disk: Disk) -> None:
    """Let a bare repository that has no others have these refs."""
    branch = next((ref for ref in sorted(refs) if ref.startswith(HEADS)), f"{HEADS}main")
    lines = "".join(f"{oid.hex()} {ref}\n" for ref, oid in sorted(refs.items()))
    disk.write_durably(git_dir / "packed-refs", lines.encode())
    disk.write_durably(git_dir / "HEAD", f"ref: {branch}\n".encode())
