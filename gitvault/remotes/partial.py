"""A vault that holds a part of a remote, and fetches what is asked of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from gitvault import config
from gitvault.core.backup_engine.writer import Selection
from gitvault.core.interfaces import Progress
from gitvault.core.models import ObjectId, Pointer, RestoreReport, SnapshotId
from gitvault.core.utils.files import FleetingDisk
from gitvault.core.utils.names import ref_component
from gitvault.core.versioning import contents
from gitvault.core.versioning.history import HEADS
from gitvault.core.versioning.naming import named_project
from gitvault.errors import CorruptionError, ExistsError, NotFoundError
from gitvault.remotes.fetch import demand_vault, joined
from gitvault.remotes.index import Index
from gitvault.remotes.lines import Leading, leading, merged_refs
from gitvault.remotes.noted import Noted
from gitvault.remotes.places import Stored
from gitvault.remotes.records import Record, name_of
from gitvault.remotes.remote import Remote
from gitvault.remotes.settings import Settings
from gitvault.remotes.source import Source, Wanted
from gitvault.remotes.views import write_refs
from gitvault.vault import Vault


def open_partial(remote: Remote, records: Iterable[Record], folder: Path) -> tuple[Vault, Source]:
    """A new vault in `folder` with the refs of these records, see `merged_refs`.

    What is read of it comes from the remote when it is asked for.
    """
    ordered = list(records)
    vault = Vault.create(folder, disk=FleetingDisk())
    write_refs(vault.path, merged_refs(ordered), vault.disk)
    return vault, attach(vault, remote, remote.index(ordered))


def attach(vault: Vault, remote: Remote, index: Index) -> Source:
    """Let what the vault lacks come from the remote; what brings it."""
    source = Source(vault, remote, index)
    vault.history.objects.fetch = source.fetch_objects
    vault.store.fetch = source.fetch_file
    return source


def clone_to_inspect(
    remote: Remote, url: str, folder: Path, extra: Mapping[str, str | tuple[str, ...]]
) -> tuple[Vault, tuple[str, ...]]:
    """A vault, open, with the refs of a remote, which becomes its `origin`; and what was skipped there.

    The rest comes when it is asked for, see `inspecting`. Errors as in `clone`; ExistsError for a whole vault.
    """
    vault = joined(folder, {"origin": {"url": url, "id": demand_vault(remote), **extra}})
    if vault.history.refs.list() and not vault.config.inspects:
        raise ExistsError(f"{folder}: a whole vault; name a folder that does not exist yet")
    config.set(vault.path, "vault.inspects", "origin", disk=vault.disk)
    vault.__dict__.pop("config", None)
    return vault, refresh(vault, remote)


def refresh(vault: Vault, remote: Remote) -> tuple[str, ...]:
    """Let a vault that inspects have the refs that are there now; what was skipped there."""
    there, listed = remote.look(remote.vault_id)
    newest = _newest(remote, there, listed)
    skipped = remote.demand(newest)
    write_refs(vault.path, merged_refs(newest), vault.disk)
    _count(vault, remote, there, newest, listed)
    return skipped


def _count(
    vault: Vault, remote: Remote, there: str, newest: Sequence[Record], listed: Sequence[Stored], project: str = ""
) -> Source:
    """Let a vault have the lines of history that count by some records before the newest, of all projects or of one;
    by all of them where any seems to be hidden. Which were is in the remote's `hidden`.
    """
    source = attach(vault, remote, remote.index(newest))

    def bring(tips: Collection[ObjectId]) -> None:
        # What cannot be had is told where it is read.
        with suppress(CorruptionError, NotFoundError):
            source.fetch_many(tips)

    branch = HEADS + ref_component(project)
    with ThreadPoolExecutor(1, "remote-tips") as pool:
        meanwhile = pool.submit(bring, [record.refs[branch] for record in newest if branch in record.refs])
        earlier = list(remote.earlier_records(there, newest, listed))
        meanwhile.result()
    led = leading(vault.history, newest, earlier, project, quick=True, bring=bring)
    # What no newest record says where it is: earlier ones do.
    needed: list[Record] = []
    if led.hidden or led.unread:
        earlier = list(remote.every_record(there, without=set(map(name_of, newest))))
        source = attach(vault, remote, remote.index([*newest, *earlier]))
        needed = earlier if led.unread else needed
        led = leading(vault.history, newest, earlier, project)
    _name(vault, remote, newest, led)
    Noted(vault, "origin", "hidden").note(name_of(record) for record in (*needed, *(one for one, _ in led.records)))
    return source


def _name(vault: Vault, remote: Remote, newest: Sequence[Record], led: Leading) -> None:
    remote.hidden = led.hidden
    found = [replace(record, refs=refs) for record, refs in led.records]
    write_refs(vault.path, merged_refs([*newest, *found], led.tips), vault.disk)


def _newest(remote: Remote, vault: str, listed: Iterable[Stored]) -> list[Record]:
    """Each machine's newest record, the newest of them first."""
    return sorted(remote.records(vault, listed).values(), key=lambda record: record.time, reverse=True)


@contextmanager
def inspecting(vault: Vault, open_it: Callable[[], Remote]) -> Iterator[None]:
    """Meanwhile what a vault lacks comes from a remote, which is opened when something is first missing."""
    lock = threading.Lock()
    with ExitStack() as held:

        def source() -> None:
            with lock:
                # Another thread of a restore may have been quicker.
                if vault.store.fetch == first_file:
                    attach_newest(vault, held.enter_context(open_it()))

        def first_object(prefix: str) -> bool:
            source()
            return vault.history.objects.fetch is not None and vault.history.objects.fetch(prefix)

        def first_file(pointer: Pointer) -> None:
            if vault.store.has(pointer):
                return
            source()
            if vault.store.fetch:
                vault.store.fetch(pointer)

        vault.history.objects.fetch, vault.store.fetch = first_object, first_file
        yield


def attach_newest(vault: Vault, remote: Remote) -> None:
    """Let what the vault lacks come from what a remote holds now. Errors as of a `fetch`."""
    there, listed = remote.look(lambda: demand_vault(remote))
    newest = _newest(remote, there, listed)
    remote.demand(newest)
    hidden = remote.read_records(Noted(vault, "origin", "hidden").names(), there)
    attach(vault, remote, remote.index([*newest, *hidden]))


def restore(
    remote: Remote,
    told: Settings,
    snapshot: str,
    target: str,
    *,
    paths: Collection[bytes] = (),
    excluded: Collection[bytes] = (),
    overwrite: bool = False,
    progress: Progress,
) -> RestoreReport:
    """Restore of a remote what is asked for, fetching only what that needs.

    A snapshot that no newest record leads to is looked for in older ones. Raises NotFoundError, RemoteError and its
    kinds, CorruptionError, and what a restore raises.
    """
    there, listed = remote.look(lambda: demand_vault(remote, told))
    newest = _newest(remote, there, listed)
    remote.demand(newest)
    with ExitStack() as held:

        def opened(records: Iterable[Record]) -> tuple[Vault, Source]:
            folder = held.enter_context(TemporaryDirectory(prefix="gitvault-"))
            part, source = open_partial(remote, records, Path(folder) / "vault.git")
            return held.enter_context(part), source

        part, source = opened(newest)
        try:
            try:
                if project := named_project(part.history, snapshot):
                    source = _count(part, remote, there, newest, listed, project)
                found = part.resolve(snapshot)
            except NotFoundError:
                every = list(remote.every_record(there))
                part, source = opened(every)
                if project := named_project(part.history, snapshot):
                    _name(part, remote, newest, leading(part.history, newest, every, project))
                found = part.resolve(snapshot)
            with source.ahead(_wanted(part, SnapshotId(found), paths, excluded)):
                return part.restore_snapshot(
                    found, target, paths=paths, excluded_paths=excluded, overwrite=overwrite, progress=progress
                )
        except NotFoundError as error:
            if source.index.unread or (remote.junk and not newest):
                raise CorruptionError(
                    f"{remote.shown}: damaged there, {snapshot} is not found; push again from a vault that has it"
                ) from error
            raise


def _wanted(
    part: Vault, snapshot: SnapshotId, paths: Collection[bytes], excluded: Collection[bytes]
) -> Iterator[Wanted]:
    """What a restore will ask for, folder by folder."""
    history = part.history
    selection = Selection.of(paths, excluded)
    # What is not there, or damaged, the restore tells.
    with suppress(NotFoundError, CorruptionError):
        if contents.attached(history, history.trees(snapshot, lambda _: None)[0]):
            # Version control has files of it, which are in no tree of the snapshot.
            found: dict[bytes, Wanted] = {}
            for entry in part.entries(snapshot, recursive=True, damaged=lambda _: None):
                if entry.kind != "folder" and selection.covers(entry.path):
                    folder = entry.path.rpartition(b"/")[0]
                    wanted = found.setdefault(folder, Wanted(folder, [], []))
                    if entry.pointer:
                        wanted.files.append(entry.pointer)
                    elif entry.blob:
                        wanted.blobs.append(entry.blob)
            yield from found.values()
            return
        for folder, small, large in contents.outline(history, snapshot, selection.enters):
            prefix = folder + b"/" if folder else b""
            blobs = [blob for name, blob in small if selection.covers(prefix + name)]
            yield Wanted(folder, blobs, [pointer for name, pointer in large if selection.covers(prefix + name)])
