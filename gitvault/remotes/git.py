"""A remote of git alone: snapshots, their attributes and all records, as any host of git keeps them. No large files."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from gitvault.core.backup_engine.copy import DOINGS, read_refs
from gitvault.core.interfaces import Progress
from gitvault.core.models import ObjectId, Pointer, RestoreReport
from gitvault.core.utils.files import FleetingDisk
from gitvault.core.utils.process import run
from gitvault.core.versioning import catalog, notes
from gitvault.core.versioning.history import HEADS, OPERATIONS
from gitvault.core.versioning.packfile import NewPack, publish
from gitvault.errors import NotFoundError, RemoteError, RemoteRefused, RemoteUnreachable, ToolFailed
from gitvault.remotes import fetch as objects
from gitvault.remotes import settings
from gitvault.remotes.fetch import FetchReport, demand_vault, joined, take, under
from gitvault.remotes.partial import attach_newest
from gitvault.remotes.push import PushReport
from gitvault.remotes.remote import Remote
from gitvault.remotes.settings import Settings
from gitvault.remotes.views import write_refs
from gitvault.vault import Vault

_LARGE = "large"
# A host has refs of its own too, such as those of requests to merge.
_OURS = (HEADS, "refs/tags/", "refs/vault/", notes.PREFIX)
_REFUSED = ("denied", "Authentication failed", "not found", "not appear to be a git repository", "403", "401")


def push(vault: Vault, told: Settings) -> PushReport:
    """`git push` of everything but large files. Another machine's line is never written over.

    Where a branch there does not lead to the one here, this machine's goes beside it, as PROJECT@MACHINE.
    Raises RemoteUnreachable, RemoteRefused, ToolMissing.
    """
    began = time.monotonic()
    refs = [ref for ref in read_refs(vault.history) if not ref.startswith((*DOINGS, OPERATIONS))]
    before = dict(_listed(vault, told))
    machine = vault.config.machine
    beside = {
        ref: under(ref, lambda name: f"{name}@{machine}") for ref in _push(vault, told, {ref: ref for ref in refs})
    }
    if beside := {ref: other for ref, other in beside.items() if other != ref}:
        _push(vault, told, beside)
    after = dict(_listed(vault, told))
    moved = [ref for ref, oid in after.items() if before.get(ref) != oid]
    fresh = [f"{oid}" for ref, oid in after.items() if ref in moved and ref.startswith(HEADS)]
    known = [f"^{oid}" for ref, oid in before.items() if ref.startswith(HEADS)]
    snapshots = int(_git(vault, "rev-list", "--count", "--ignore-missing", *fresh, *known)) if fresh else 0
    return PushReport(len(moved), 0, len(after) - len(moved), snapshots, (), (), seconds=time.monotonic() - began)


def _push(vault: Vault, told: Settings, pairs: Mapping[str, str]) -> list[str]:
    """Push refs, each to its name there; those that were rejected."""
    words = [f"{ref}:{there}" for ref, there in pairs.items()]
    text = _git(vault, "push", "--porcelain", "--no-verify", _url(told), *words, ok=(0, 1), shown=told.url)
    lines = [line.split("\t") for line in text.splitlines() if line.startswith("!")]
    return [fields[1].partition(":")[0] for fields in lines]


def _url(told: Settings) -> str:
    """As git knows it: `git+` tells a repository from a folder, and more than git needs."""
    return told.url.removeprefix("git+")


def _listed(vault: Vault, told: Settings) -> Iterable[tuple[str, str]]:
    for line in _git(vault, "ls-remote", _url(told), shown=told.url).splitlines():
        oid, _, ref = line.partition("\t")
        if ref.startswith("refs/") and not ref.endswith("^{}"):
            yield ref, oid


def _git(vault: Vault, *words: str, ok: tuple[int, ...] = (0,), shown: str = "", git_dir: Path | None = None) -> str:
    command = ["git", "-c", "core.hooksPath=/dev/null", f"--git-dir={git_dir or vault.path}", *words]
    try:
        return run(command, ok=ok).decode("utf-8", "replace")
    except ToolFailed as error:
        said = " ".join(error.stderr.split())
        kind = RemoteRefused if any(word in said for word in _REFUSED) else RemoteUnreachable
        raise kind(f"{shown}: {error.reason}") from error


def clone(
    url: str,
    folder: Path,
    chunks: Remote | None,
    told: Mapping[str, str | tuple[str, ...]],
    *,
    progress: Progress,
    **options: object,
) -> tuple[Vault, FetchReport]:
    """A vault, open, of a repository of git, its `origin`, and of the remote with the large files, its `large`.

    `told`: settings of that. One that was interrupted goes on. Errors as in `fetch`, ExistsError.
    """
    known: dict[str, Mapping[str, str | tuple[str, ...]]] = {"origin": {"url": url}}
    if chunks:
        known = {"origin": {"url": url, "chunks": _LARGE}, _LARGE: {**told, "id": demand_vault(chunks)}}
    fresh = not folder.exists()
    vault = joined(folder, known, **options)
    try:
        return vault, fetch(vault, settings.get(vault.path, "origin"), chunks, progress=progress)
    except (NotFoundError, RemoteError):
        empty = not vault.history.refs.list()
        vault.close()
        # It would stay joined to nothing.
        if fresh and empty:
            shutil.rmtree(folder)
        raise


def fetch(vault: Vault, told: Settings, chunks: Remote | None, *, progress: Progress) -> FetchReport:
    """Bring the vault to what was pushed to a repository of git, and to the remote with its large files.

    A project that went separate ways there becomes another one, named after the remote. Large files that are nowhere
    are counted. Raises RemoteUnreachable, RemoteRefused, NotFoundError, and what a fetch of that remote does.
    """
    refs = _of_vault(vault, told)
    large = None
    if chunks:
        large = objects.fetch(vault, chunks, settings.get(vault.path, told.chunks), progress=progress)
    with vault.write(f"fetch from {told.name}"):
        size = _bring(vault, told)
    lacking: set[Pointer] = set()
    taken, lines = take(vault, refs, told.name, progress, lacking)
    sizes = (len(lacking), sum(pointer.size for pointer in lacking))
    report = FetchReport(taken.snapshots, taken.refs, size, tuple(lines), taken.left, (), (), sizes)
    if not large:
        return report
    return FetchReport(
        report.snapshots + large.snapshots,
        report.refs + large.refs,
        report.bytes + large.bytes,
        (*large.lines, *lines),
        (*large.left, *taken.left),
        large.missing,
        large.junk,
        sizes,
    )


def _of_vault(vault: Vault, told: Settings) -> dict[str, ObjectId]:
    """What a vault pushed there. Raises NotFoundError."""
    listed = {ref: ObjectId(bytes.fromhex(oid)) for ref, oid in _listed(vault, told) if ref.startswith(_OURS)}
    if catalog.REF not in listed:
        raise NotFoundError(f"{told.url}: no vault there; push one to it first")
    return listed


def _bring(vault: Vault, told: Settings) -> int:
    """Fetch the objects that are not here, as one pack; its bytes."""
    scratch = vault.path / "tmp"
    vault.disk.make_folder(scratch)
    size = 0
    with TemporaryDirectory(prefix="fetch-", dir=scratch) as folder:
        run(["git", "init", "-q", "--bare", "--template=", folder])
        repository = Path(folder)
        # What the vault has is neither asked for nor brought again.
        (repository / "objects" / "info" / "alternates").write_text(f"{vault.path / 'objects'}\n", "utf-8")
        words = [f"+{prefix}*:{prefix}*" for prefix in _OURS]
        options = ("-c", "fetch.unpackLimit=1", "-c", "gc.auto=0", "-c", "maintenance.auto=false")
        _git(vault, *options, "fetch", "-q", "--no-tags", "--", _url(told), *words, shown=told.url, git_dir=repository)
        for pack in repository.glob("objects/pack/*.pack"):
            index = pack.with_suffix(".idx")
            length = pack.stat().st_size + index.stat().st_size
            vault.disk.sync_file(pack)
            vault.disk.sync_file(index)
            publish(NewPack(pack.stem, pack, index, 0, length), vault.path / "objects" / "pack", vault.disk)
            size += length
    vault.history.objects.refresh()
    return size


def restore(
    told: Settings,
    chunks: Remote | None,
    snapshot: str,
    target: str,
    *,
    paths: Collection[bytes] = (),
    excluded: Collection[bytes] = (),
    overwrite: bool = False,
    progress: Progress,
) -> RestoreReport:
    """Restore of a repository of git what is asked for, large files from the remote that has them, if any.

    Without one they are among the problems. Raises NotFoundError, RemoteError and its kinds, and what a restore raises.
    """
    with (
        TemporaryDirectory(prefix="gitvault-") as folder,
        Vault.create(Path(folder) / "vault.git", disk=FleetingDisk()) as vault,
    ):
        refs = _of_vault(vault, told)
        _bring(vault, told)
        write_refs(vault.path, refs, vault.disk)
        if chunks:
            attach_newest(vault, chunks)
        found = vault.resolve(snapshot)
        return vault.restore_snapshot(
            found, target, paths=paths, excluded_paths=excluded, overwrite=overwrite, progress=progress
        )
