"""Vault: the waist. It opens the parts, introduces them to each other, locks, and forwards.

Everything above (personas, the command line, other programs) goes through this class; everything below
works without it. A vault is safe to use from one thread; several processes take turns through its lock.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from gitvault import config as settings
from gitvault.core.models import Project, SnapshotId
from gitvault.core.utils import reserve
from gitvault.core.utils.files import Disk, read_plain
from gitvault.core.utils.layout import misplaced
from gitvault.core.utils.names import from_text, ref_component, to_line
from gitvault.core.versioning.history import Damaged, Details, GitHistory
from gitvault.errors import (
    ConfigError,
    CorruptionError,
    ExistsError,
    GitVaultError,
    LockedError,
    NotFoundError,
    StorageFullError,
    ToolFailed,
    ToolStopped,
    VaultNotFound,
)

if TYPE_CHECKING:
    from random import Random

    from gitvault.core.backup_engine.extent import ReadExtent
    from gitvault.core.backup_engine.quota import Quota
    from gitvault.core.backup_engine.retention import Retention
    from gitvault.core.interfaces import Progress
    from gitvault.core.models import (
        CopyReport,
        Defect,
        Difference,
        Entry,
        Filter,
        ForgetReport,
        MaintenanceReport,
        PathState,
        Pointer,
        PruneReport,
        Repair,
        RestoreReport,
        Snapshot,
        SnapshotReport,
        StorageStats,
        SweepReport,
        VerifyReport,
    )
    from gitvault.core.scan import Rules, StatCache
    from gitvault.core.storage.store import ChunkStore
    from gitvault.core.utils.lock import VaultLock
    from gitvault.core.versioning.operations import Operation

WHOLE_LIMIT = 16 << 20
"""Every file over this is stored in chunks, whatever it holds."""

_CONSTANT = (
    ("core.bare", "true"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("vault.formatVersion", str(settings.FORMAT_VERSION)),
)
_CONFIG = """\
[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = true
\tlogAllRefUpdates = false
[gc]
\tauto = 0
[maintenance]
\tauto = false
[vault]
\tformatVersion = {version}
"""
_ATTRIBUTES = """\
# Written by gitvault: what the projects' own .gitattributes say must not change a byte on the way out.
* -text !eol -ident !working-tree-encoding -export-subst -export-ignore filter=vault
"""
_FOLDERS = ("objects/info", "objects/pack", "refs/heads", "refs/tags", "info", "chunks/tmp", "cache", "tmp")
_RESTORED = "refs/vault/restored/"
_RESTORES_KEPT = 100
# Of a project's name as a ref's: with what comes before and behind it (`stat-`, `.db-journal`, `.lock`) it must be
# the name of a file, 255 at most; a letter that is not ASCII counts up to 12.
_NAME_MAX = 220
_LOCK = "vault.lock"
# That of operations.py, which is imported only when the file is there.
_PENDING = "operation.pending"
# What a snapshot that is safe already spends on parity; the background does the rest.
_PARITY_SECONDS = 30
# Its exit code for what it calls fatal: it is not for want of memory or a signal that it ended.
_GIT_GAVE_UP = 128


class Vault:
    """One vault. A BackupEngine; use it as a context manager, or close it."""

    def __init__(
        self,
        path: Path | str,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        disk: Disk | None = None,
        waiting: Callable[[str], None] | None = None,
    ) -> None:
        """Nothing is read before it is needed. `waiting` is told what a run waits for."""
        self.path = Path(os.path.abspath(path))
        self._now = now
        self._disk = disk or Disk()
        self._waiting = waiting
        self._quota: Quota | None = None
        self._held: VaultLock | None = None

    @classmethod
    def create(cls, path: Path | str, **options: object) -> Vault:
        """Make a vault, or open the one that is there. Raises ExistsError for a folder with something else in it."""
        vault = cls(path, **options)  # type: ignore[arg-type]
        vault.initialize_repository()
        vault._complete_if_free()
        return vault

    @classmethod
    def open(cls, path: Path | str, **options: object) -> Vault:
        """Open a vault. Raises VaultNotFound, UnsupportedFormatVersion, ConfigError."""
        vault = cls(path, **options)  # type: ignore[arg-type]
        if wrong := misplaced(vault.path):
            raise GitVaultError(f"{wrong}; nothing in a vault may lead out of it")
        if not is_vault(vault.path):
            raise VaultNotFound(f"{vault.path}: not a vault; make one with: git-vault --vault {vault.path} init")
        _ = vault.config
        vault._complete_if_free()
        return vault

    def initialize_repository(self) -> None:
        """See BackupEngine."""

        if is_vault(self.path):
            _ = self.config
            return
        constant = {"HEAD": b"ref: refs/heads/main\n", **_constant_files()}
        if self.path.exists() and not _is_unfinished(self.path, constant):
            raise ExistsError(f"{self.path}: not a vault and not empty; name a folder that does not exist yet")
        disk = self._disk
        above = next(folder for folder in self.path.parents if folder.exists())
        disk.make_folder(self.path)
        self.path.chmod(0o700)
        for folder in _FOLDERS:
            disk.make_folder(self.path / folder)
        for left in self.path.rglob("*.tmp"):
            disk.unlink(left)
        for name, content in constant.items():
            disk.write_durably(self.path / name, content)
        # A sync of what is in `objects/pack` says nothing about its own name. What else may be missing is made again.
        disk.sync_folder(self.path / "objects")
        made = self.path
        disk.sync_folder(made)
        while made != above:
            made = made.parent
            disk.sync_folder(made)
        # Last: a folder without it is not a vault yet, and is made again from the start.
        disk.write_durably(self.path / "config", _CONFIG.format(version=settings.FORMAT_VERSION).encode())
        reserve.keep(self.path, self.config.reserve, disk)

    @classmethod
    def mend(cls, path: Path | str, *, disk: Disk | None = None) -> list[Repair]:
        """Write `config` and `HEAD` anew where they are damaged, so that the vault can be opened; what was done."""
        from gitvault.core.backup_engine.frame import mend_frame

        text = _CONFIG.format(version=settings.FORMAT_VERSION).encode()
        return mend_frame(Path(os.path.abspath(path)), text, _CONSTANT, settings.is_setting, disk or Disk())

    def close(self) -> None:
        """Close files; the vault can still be used and opens them again."""
        for part in ("history", "store"):
            made = self.__dict__.pop(part, None)
            if made is not None:
                made.close()

    def __enter__(self) -> Vault:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- the parts -------------------------------------------------------------------------------

    @cached_property
    def config(self) -> settings.Config:
        """The settings that hold for this vault."""
        return settings.load(self.path)

    @cached_property
    def history(self) -> GitHistory:
        """The git side."""
        host = self.config.machine
        return GitHistory(
            self.path,
            name=self.config.user_name or "gitvault",
            email=self.config.user_email or f"gitvault@{host}",
            host=host,
            now=self._now,
            disk=self._disk,
            decode_pointer=_decode_pointer,
            guard=self._assert_held,
        )

    @cached_property
    def store(self) -> ChunkStore:
        """The chunk store."""
        from gitvault.core.storage.store import ChunkStore

        return ChunkStore(
            self.path / "chunks",
            cache=self.path / "cache",
            strategy=settings.chunking(self.config),
            level=self.config.compression_level,
            disk=self._disk,
            guard=self._assert_held,
            admit=self._admit,
        )

    def _admit(self, size: int) -> None:
        """A new pack: whether the quota, in a run that it is asked in, has room for it. Raises StorageFullError."""
        if self._quota:
            self._quota.admit(size)

    @contextlib.contextmanager
    def _lock(self, purpose: str, timeout: float | None = None) -> Iterator[VaultLock]:
        """Write alone; an operation that was interrupted is completed first.

        Raises LockedError, also from within when another machine took over meanwhile.
        """
        from gitvault.core.utils.lock import VaultLock

        config = self.config
        lock = VaultLock(
            self.path / _LOCK,
            purpose,
            config.lock_timeout if timeout is None else timeout,
            host=config.machine,
            disk=self._disk,
            waiting=self._waiting,
            fence=self.history.refs.clear_locks,
        )
        with lock:
            self._held = lock
            try:
                self._clear_leftovers()
                if (self.path / _PENDING).exists():
                    from gitvault.core.versioning.operations import complete

                    complete(self.path, self.history.refs, self._disk)
                yield lock
            except OSError:
                # Its files are no longer there because whoever took over cleared them away?
                lock.assert_held()
                raise
            finally:
                self._held = None

    def _assert_held(self) -> None:
        if self._held:
            self._held.assert_held()

    def _complete_if_free(self) -> None:
        """Who only reads sees an interrupted operation done; where that cannot be, what there is."""
        if not (self.path / _PENDING).exists():
            return
        with contextlib.suppress(OSError, GitVaultError), self._lock("complete an operation", timeout=0):
            pass

    def _cache(self, project: str) -> StatCache:
        from gitvault.core.scan import StatCache

        folder = self.path / "cache"
        self._disk.make_folder(folder)
        return StatCache(folder / f"stat-{ref_component(project)}.db")

    def _rules(self) -> Rules:
        from gitvault.core.scan import Rules

        return Rules(self.config.ignore, [self.path])

    # -- projects --------------------------------------------------------------------------------

    def projects(self) -> list[Project]:
        """The registered projects by name."""
        from gitvault.core.versioning import catalog

        return catalog.load(self.history)

    def add_project(self, path: Path | str, name: str | None = None) -> Project:
        """Register a folder; a registered one is returned as it is.

        Without `name` it is the folder's, made unique. Raises NotFoundError, ExistsError when the name is
        taken by a folder that still exists, GitVaultError for a folder inside the vault.
        """
        from gitvault.core.versioning import catalog

        folder = _folder(path)
        if _is_within(os.path.realpath(folder), os.path.realpath(self.path)):
            raise GitVaultError(f"{folder}: lies inside the vault {self.path}; save it into another vault")
        if name is not None and not name.strip():
            raise GitVaultError("a project's name cannot be empty; give one with --project NAME")
        found = self._registered(folder, name)
        if found:
            return found
        with self._lock("add"):
            found = self._registered(folder, name)
            if found:
                # Another process was quicker.
                return found
            projects = self.projects()
            project = self._unique(projects, folder, name)
            others = [p for p in projects if (p.name, p.host) != (project.name, project.host)]
            catalog.save(self.history, [*others, project], f"Add {to_line(os.fsencode(project.name))}")
        return project

    def _registered(self, folder: str, name: str | None) -> Project | None:
        host = self.config.machine
        for project in self.projects():
            if project.path == folder and project.host == host and name in (None, project.name):
                return project
        return None

    def _unique(self, projects: list[Project], folder: str, name: str | None) -> Project:
        host = self.config.machine
        added = self._now()
        if name is not None:
            taken = next((p for p in projects if p.name == name and p.host == host), None)
            if taken and os.path.isdir(taken.path):
                raise ExistsError(f"{name}: is {taken.path} already; choose another name with --project")
            same = next((p.name for p in projects if p.name != name and p.name.casefold() == name.casefold()), None)
            if same:
                raise ExistsError(f"{name}: differs from the project {same} only in case; choose another name")
            if len(ref_component(name)) > _NAME_MAX:
                shown = to_line(name[:20].encode("utf-8", "surrogateescape"))
                raise GitVaultError(f"{shown}...: too long for a project's name; give a shorter one")
            return Project(name, folder, host, added)
        base = os.path.basename(folder) or "root"
        while len(ref_component(base)) > _NAME_MAX:
            base = base[:-1]
        used = {p.name.casefold() for p in projects}
        number = 1
        name = base
        while name.casefold() in used:
            number += 1
            name = f"{base}-{number}"
        return Project(name, folder, host, added)

    # -- snapshots -------------------------------------------------------------------------------

    def create_snapshot(
        self,
        path: Path | str,
        *,
        project: str | None = None,
        message: str = "",
        tags: Sequence[str] = (),
        metadata: Mapping[str, str] | None = None,
        trigger: str = "manual",
        progress: Progress | None = None,
    ) -> SnapshotReport:
        """See BackupEngine. Registers the folder as a project when it is new."""
        take = partial(
            self._take, path, project=project, message=message, tags=tags, metadata=metadata, trigger=trigger
        )
        try:
            report = take(progress=progress)
        except StorageFullError as full:
            if not (self._quota and self._quota.reached and self.config.quota_policy == "prune"):
                raise
            self._make_room(full)
            report = take(progress=progress)
        quota, self._quota = self._quota, None
        if quota and (note := quota.note()):
            report = replace(report, notes=(*report.notes, note))
        if not report.unchanged and self.config.maintenance == "auto":
            self._maintain_in_background()
        return report

    def _make_room(self, full: StorageFullError) -> None:
        """At the quota: prune by the settings, and sweep. Raises StorageFullError when that cannot be."""
        try:
            self.prune(yes=True)
        except ConfigError as error:
            raise StorageFullError(f"{full}; vault.quotaPolicy is prune, but {error}") from full
        self.sweep()

    def _take(
        self,
        path: Path | str,
        *,
        project: str | None,
        message: str,
        tags: Sequence[str],
        metadata: Mapping[str, str] | None,
        trigger: str,
        progress: Progress | None,
    ) -> SnapshotReport:
        from gitvault.core.backup_engine.intake import Limits
        from gitvault.core.backup_engine.quota import Quota
        from gitvault.core.backup_engine.snapshot import take_snapshot
        from gitvault.core.scan import CacheDamaged

        details = Details("", message, self._now(), 0, 0, tags, metadata, trigger)
        registered = self.add_project(path, project)
        config = self.config
        limits = Limits(config.inline_limit, WHOLE_LIMIT, config.binary_extensions, config.secrets == "note")
        with self._lock(f"snapshot of {registered.name}"):
            limit = self.config.quota
            self._quota = Quota(self.path, limit, disk_usage(self.path)) if limit else None
            self._admit(1)
            self.history.objects.refresh()
            restored = self._restored_ref(registered.path)
            source = self.history.refs.read(restored)
            details = replace(
                details,
                project=registered.name,
                time=self._now(),
                restored_from=self.history.identify(source) if source else None,
            )
            cache = self._cache(registered.name)
            take = partial(
                take_snapshot,
                Path(registered.path),
                details,
                history=self.history,
                store=self.store,
                cache=cache,
                rules=self._rules(),
                limits=limits,
                admit=self._admit,
                progress=progress,
            )
            try:
                report = take()
            except CacheDamaged:
                cache.forget()
                report = take()
            finally:
                cache.close()
            if source:
                # Said now; or nothing changed, and the newest snapshot is where the content comes from.
                self.history.refs.delete(restored)
            if self.config.parity:
                report = self._protected(report)
        return report

    def _restored_ref(self, folder: str) -> str:
        import hashlib

        return _RESTORED + hashlib.sha1(os.fsencode(folder), usedforsecurity=False).hexdigest()

    def _forget_old_restores(self) -> None:
        """Most folders that are restored into are never saved: only the newest notes on them stay."""
        refs = self.history.refs

        def written(ref: str) -> int:
            try:
                return os.stat(self.path / ref).st_mtime_ns
            except FileNotFoundError:
                # Packed by git, which is a while ago.
                return 0

        for ref in sorted(refs.list(_RESTORED), key=written)[:-_RESTORES_KEPT]:
            refs.delete(ref)

    def _clear_leftovers(self) -> None:
        """What a killed run left unfinished; the lock is held, so nobody else writes there."""
        for pattern in ("tmp/*", "chunks/tmp/*", "*.[0-9]*.tmp"):
            for path in self.path.glob(pattern):
                if path.is_file():
                    self._disk.unlink(path)

    def list_snapshots(self, filter_criteria: Filter | None = None) -> list[Snapshot]:
        """See BackupEngine. Raises NotFoundError for an unknown project."""
        from gitvault.core.models import Filter

        wanted = filter_criteria or Filter()
        if wanted.project is not None and self.history.tip(wanted.project) is None:
            self.project(wanted.project)
        return self.history.filtered(wanted)

    def project(self, name: str) -> Project:
        """The registered project of this name, on this machine if there are several. Raises NotFoundError."""
        found = [project for project in self.projects() if project.name == name]
        if not found:
            raise NotFoundError(f"{name}: no such project; git-vault projects lists them")
        return next((p for p in found if p.host == self.config.machine), found[0])

    def resolve(self, name: str) -> SnapshotId:
        """The snapshot that a person means: an id or its start, `project`, `project~2`, `project@{date}`, a date."""
        return self.history.resolve(name)

    def get_snapshot_info(self, snapshot: str) -> Snapshot:
        """See BackupEngine."""
        return self.history.get_version(self.resolve(snapshot))

    def entries(
        self, snapshot: str, path: bytes = b"", *, recursive: bool = False, damaged: Damaged | None = None
    ) -> Iterator[Entry]:
        """What a snapshot holds at a path: a folder's entries, or the file itself. Raises NotFoundError.

        Where attributes are lost, `damaged` is told and what git's trees know is given; without it that is raised.
        """
        return self.history.entries(self.resolve(snapshot), path, recursive=recursive, damaged=damaged)

    def read_file(self, snapshot: str, path: bytes, target: BinaryIO, *, damaged: Damaged = lambda _: None) -> None:
        """Write a file's content to `target`; a symlink's is the path it names.

        `damaged` is told when attributes are lost, which the content is not. Raises NotFoundError, CorruptionError.
        """
        from gitvault.core.versioning import contents

        entry = contents.find_file(self.history, self.resolve(snapshot), path, damaged)
        if entry.pointer:
            self.store.retrieve_file(entry.pointer, target)
        else:
            target.write(self.history.blob(entry.blob))

    def get_version_diff(self, a: str, b: str) -> Difference:
        """See BackupEngine."""
        return self.history.compare(self.resolve(a), self.resolve(b))

    def restore_snapshot(
        self,
        snapshot: str,
        target: Path | str | None = None,
        *,
        paths: Iterable[str | bytes] = (),
        excluded_paths: Iterable[str | bytes] = (),
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> RestoreReport:
        """See BackupEngine."""
        from gitvault.core.backup_engine.restore import restore_snapshot

        resolved = self.resolve(snapshot)
        safety = None
        if target is None:
            project = self.project(self.history.get_version(resolved).project)
            if project.host != self.config.machine:
                raise NotFoundError(f"{project.name}: lies on {project.host}, not here; name a folder with --to DIR")
            folder = Path(project.path)
            if folder.exists():
                report = self.create_snapshot(
                    folder, project=project.name, message=f"Before restoring {resolved[:12]}", trigger="safety"
                )
                safety = report.snapshot
            overwrite = True
        else:
            folder = Path(os.path.abspath(target))
            if _is_within(os.path.realpath(folder), os.path.realpath(self.path)):
                raise GitVaultError(f"{folder}: lies inside the vault; restore into another folder")
        done = restore_snapshot(
            resolved,
            folder,
            history=self.history,
            store=self.store,
            paths=[_raw_path(path) for path in paths],
            excluded=[_raw_path(path) for path in excluded_paths],
            overwrite=overwrite,
            progress=progress,
        )
        # The next snapshot of that folder says where its content came from. One ref, so no lock is needed;
        # a vault that is read-only, on a full disk or has a stale lock restores all the same.
        with contextlib.suppress(OSError, StorageFullError, LockedError):
            self.history.refs.update(self._restored_ref(_resolved_folder(folder)), self.history.locate(resolved))
            self._forget_old_restores()
        return replace(done, safety=safety)

    # -- the vault as a whole --------------------------------------------------------------------

    def status(self, paths: Sequence[Path | str] = (), *, scan: bool = False) -> list[PathState]:
        """Whether paths are saved, as they are now; nothing named: every project on this machine.

        A file is looked at. Of a folder the last look's result is told, and its age; `scan` looks again.
        """
        from gitvault.core.backup_engine.status import Places, path_state

        here = [project for project in self.projects() if project.host == self.config.machine]
        places = Places(self.history, self._cache, self._rules(), here, self._now())
        named = [os.fspath(path) for path in paths] or [project.path for project in here]
        return [path_state(places, path, scan) for path in named]

    def get_storage_stats(self) -> StorageStats:
        """See BackupEngine."""
        from gitvault.core.backup_engine.stats import storage_stats

        return storage_stats(self.history, self.store, len(self.projects()), disk_usage(self.path))

    def verify(
        self,
        *,
        data: bool = False,
        repair: bool = False,
        copies: Sequence[Path | str] = (),
        share: tuple[int, int] | None = None,
        restart: bool = False,
        drill: int = 0,
        chance: Random | None = None,
        progress: Progress | None = None,
    ) -> VerifyReport:
        """See BackupEngine. An interrupted run with `data` goes on where it was, unless `restart`.

        `share`: with `data`, read only so many of so many parts, those whose turn it is. `drill`: get so many files
        back the way RESCUE.md says; `chance` picks them. `repair`: read every byte and heal what is damaged, also from
        the vaults `copies`; what an earlier repair could not get back is no defect any more but `quarantined`.
        Raises LockedError and StorageFullError when repairing, VaultNotFound for a copy that is none.
        """
        if repair:
            with self._lock("repair"):
                known = [path for copy in self.config.copies if is_vault(path := Path(copy))]
                return self._repaired([*known, *map(Path, copies)], progress)
        from gitvault.core.versioning import losses

        read = None
        if data:
            from gitvault.core.backup_engine.extent import ReadExtent

            read = ReadExtent(self.path / "cache", self._disk, self._now(), share=share, restart=restart)
        try:
            report = self._verified(data, progress, read)
        except BaseException:
            if read:
                read.end()
            raise
        if read:
            read.finish()
            report = replace(report, note="; ".join(filter(None, (read.said, report.note))))
        if drill:
            from random import SystemRandom

            from gitvault.core.backup_engine import drill as exercise

            drilled, found = exercise.drill(self.history, self.store, drill, chance or SystemRandom(), progress)
            report = replace(report, drilled=drilled, defects=(*report.defects, *found))
        return losses.divide(self.history, report, self._losses())

    def _verified(self, data: bool, progress: Progress | None, read: ReadExtent | None = None) -> VerifyReport:
        from gitvault.core.backup_engine import rescue
        from gitvault.core.backup_engine.verify import verify, verify_constants
        from gitvault.core.models import Defect, VerifyReport

        packed, names = self.history.refs.damaged()
        if packed is not None or names:
            # What they led to cannot be walked, so nothing else is said.
            broken = [*(["packed-refs"] if packed is not None else []), *names]
            reason = "holds no id; git-vault verify --repair finds what it was"
            return VerifyReport(0, 0, tuple(Defect("ref", name, reason) for name in broken))
        report = verify(self.history, self.store, data=data, extent=read, progress=progress)
        for project, named in self.history.headless().items():
            with contextlib.suppress(GitVaultError):
                if self.history.commit(named).parents:
                    lost = Defect("ref", f"refs/heads/{ref_component(project)}", "missing; the project had snapshots")
                    report = replace(report, defects=(*report.defects, lost))
        constant = verify_constants(self.path, _constant_files(), rescue.is_whole)
        report = replace(report, defects=(*report.defects, *constant))
        if outdated := rescue.outdated(self.path):
            report = replace(report, note=f"{', '.join(outdated)} of another gitvault, maintain writes them anew")
        if (self.path / _PENDING).exists():
            found = Defect("vault", _PENDING, "an interrupted operation waits to be completed; the next snapshot does")
            report = replace(report, defects=(*report.defects, found))
        return report

    def copy_to(
        self, target: Path | str, *, projects: Iterable[str] = (), progress: Progress | None = None
    ) -> CopyReport:
        """Bring a second vault, made when it is missing, to what this one holds; `projects`: only these.

        Raises NotFoundError for an unknown project, ExistsError for a folder with something else in it, GitVaultError
        for a folder that is this vault, in it or around it, LockedError, CorruptionError, StorageFullError, OSError.
        """
        from gitvault.core.backup_engine.copy import copy_vault
        from gitvault.core.backup_engine.sweep import mistrust

        here, there = os.path.realpath(self.path), os.path.realpath(target)
        if _is_within(here, there) or _is_within(there, here):
            raise GitVaultError(f"{there}: is this vault, or one lies in the other; name a folder elsewhere")
        wanted = frozenset(projects)
        for project in wanted:
            if self.history.tip(project) is None:
                self.project(project)
        with Vault.create(there, now=self._now, disk=self._disk, waiting=self._waiting) as other:
            with other._lock(f"copy of {here}"):
                report = copy_vault(
                    self.history, self.store, other.history, other.store, projects=wanted or None, progress=progress
                )
                if report.packs:
                    mistrust(other.path, self._disk)
            if report.packs and other.config.maintenance == "auto":
                other._maintain_in_background()
        if there not in self.config.copies:
            # Where a repair finds it. A vault that cannot be written is copied all the same.
            with contextlib.suppress(ToolFailed):
                settings.set(self.path, "vault.copies", [*self.config.copies, there])
                self.__dict__.pop("config", None)
        return report

    def _losses(self) -> list[Defect]:
        from gitvault.core.versioning import losses

        with contextlib.suppress(GitVaultError):
            return losses.load(self.history)
        return []

    def _repaired(self, copies: Sequence[Path], progress: Progress | None) -> VerifyReport:
        from gitvault.core.backup_engine.repair import Copy, repair
        from gitvault.core.backup_engine.sweep import mistrust
        from gitvault.core.storage import parity
        from gitvault.core.versioning import losses

        done: list[Repair] = []
        lost: list[Defect] = []
        with contextlib.ExitStack() as stack:
            opened = [stack.enter_context(Vault.open(copy)) for copy in copies]
            found = self._verified(True, progress)
            broken = not found.ok or bool(self.history.headless())
            if broken:
                done, lost = repair(
                    self.path,
                    self.history,
                    self.store,
                    defects=found.defects,
                    copies=[Copy(vault.path, vault.history, vault.store) for vault in opened],
                    originals=self._originals(),
                    constants=_constant_files(),
                    disk=self._disk,
                    progress=progress,
                )
        if broken:
            mistrust(self.path, self._disk)
            # Nothing counts that was read before.
            self.close()
            found = self._verified(True, progress)
        listed = self._losses()
        left = losses.divide(self.history, found, listed)
        new = (*lost, *left.defects)
        losses.save(self.history, [*left.quarantined, *(loss for loss in new if loss.kind not in ("pack", "vault"))])
        # A run that was killed may have moved what was damaged away, and not come to this.
        for folder in ("chunks", "objects/pack"):
            self._disk.sync_folder(self.path / folder)
        self._protect(float("inf"))
        if not new:
            parity.remove_stale(self._packs(), self.path / "parity", self._disk)
        return replace(left, defects=new, repaired=tuple(done), quarantined=(*left.quarantined, *new))

    def _originals(self) -> dict[str, Path]:
        """Where the projects of this machine lie."""
        with contextlib.suppress(CorruptionError):
            here = (project for project in self.projects() if project.host == self.config.machine)
            return {project.name: Path(project.path) for project in here}
        return {}

    def maintain(self, *, idle: bool = False, progress: Progress | None = None) -> MaintenanceReport:
        """Do all that is due; returns when it is done, or, `idle`, as soon as another run wants the vault.

        Raises LockedError, StorageFullError, CorruptionError, ToolMissing.
        """
        from gitvault.core.backup_engine import rescue
        from gitvault.core.models import MaintenanceReport
        from gitvault.core.utils.lock import VaultLock
        from gitvault.core.versioning.repack import due, repack

        started = time.perf_counter()
        before = disk_usage(self.path)
        actions: list[str] = []
        with self._lock("maintain"):
            stop = VaultLock.wanted(self.path / _LOCK).exists if idle else None
            reserve.keep(self.path, self.config.reserve, self._disk)
            packs = self._packs()
            if renewed := rescue.refresh(self.path, self._disk):
                actions.append(f"wrote {', '.join(renewed)} anew")
            try:
                if reason := due(self.path, asked=True):
                    done = repack(self.path, self._disk, progress=progress, stop=stop, guard=self._assert_held)
                    actions.append(f"repacked the git side ({reason}): {done.summary()}")
                    self.history.objects.refresh()
                if packed := self.store.repack(asked=not idle, progress=progress, stop=stop):
                    actions.append(f"repacked the chunk store: {packed.summary()}")
                for pack in packs:
                    if not pack.exists():
                        # Replaced just now; what is missing for another reason may be healed yet.
                        self._disk.unlink(self.path / "parity" / f"{pack.name}.par")
                if made := self._protect(float("inf")):
                    actions.append(f"wrote parity for {made} packs")
            except ToolStopped:
                actions.append("gave way to another run; the next maintenance does it")
            except ToolFailed as error:
                if error.code != _GIT_GAVE_UP:
                    raise
                raise self._damaged(error) from error
        return MaintenanceReport(before, disk_usage(self.path), time.perf_counter() - started, tuple(actions))

    # -- what was saved, changed ------------------------------------------------------------------

    def prune(self, rules: Retention | None = None, *, projects: Sequence[str] = (), yes: bool = False) -> PruneReport:
        """Remove the snapshots that the rules do not keep, of all projects or those named; without `yes` only say so.

        Without `rules` the settings count. Raises ConfigError where these are silent, NotFoundError, CorruptionError,
        LockedError, StorageFullError; nothing is removed then.
        """
        from gitvault.core.backup_engine.prune import prune

        rules = rules or settings.retention(self.config)
        if not rules:
            raise ConfigError("no rule says what to keep; give one, such as --keep-daily 30, or set vault.keepDaily")
        with contextlib.ExitStack() as held:
            if yes:
                held.enter_context(self._lock("prune"))
                held.enter_context(self._reserve())
            names = self._named(projects)
            cache = self._cache if yes else None
            return prune(self.history, names, rules, now=self._now(), host=self.config.machine, cache=cache)

    def forget(self, patterns: Sequence[str], *, projects: Sequence[str] = (), yes: bool = False) -> ForgetReport:
        """Remove the paths that match gitignore patterns from every snapshot; without `yes` only say so.

        The bytes are gone after the next sweep.
        Raises NotFoundError, CorruptionError, LockedError, StorageFullError; nothing is removed then.
        """
        from gitvault.core.backup_engine.forget import forget, search

        if not yes:
            return search(self.history, patterns, self._named(projects))[1]
        with self._lock("forget"), self._reserve():
            names = self._named(projects)
            clear = self._remove_cache
            return forget(self.history, patterns, names, now=self._now(), host=self.config.machine, clear=clear)

    def operations(self) -> list[Operation]:
        """What moved several refs at once, newest first. Raises CorruptionError."""
        from gitvault.core.versioning.operations import log

        return list(log(self.history))

    def undo(self, count: int = 1) -> Operation:
        """Take the last operations back, which is one itself.

        Raises NotFoundError, LockedError, GitVaultError when one cannot be taken back; nothing moves then.
        """
        from gitvault.core.versioning.operations import perform
        from gitvault.core.versioning.rewrite import Rewrite, undo

        history = self.history
        with self._lock("undo"), Rewrite(history) as rewrite:
            history.objects.refresh()
            undone = undo(history, count, rewrite)
            return perform(
                history,
                "undo",
                rewrite.pack,
                rewrite.moves,
                time=self._now(),
                host=self.config.machine,
                kept=rewrite.lost,
                undoes=[operation.number for operation in undone],
            )

    def _named(self, projects: Sequence[str]) -> list[str]:
        """The projects that are meant: all that have a snapshot when none is named. Raises NotFoundError."""
        for name in projects:
            if self.history.tip(name) is None:
                self.project(name)
                raise NotFoundError(f"{name}: has no snapshot; git-vault projects lists what has")
        found = list(dict.fromkeys(projects)) or self.history.projects()
        if not found:
            raise NotFoundError(f"{self.path}: has no snapshot; nothing was removed")
        return found

    def _remove_cache(self, project: str) -> None:
        folder = self.path / "cache"
        self._disk.make_folder(folder)
        self._disk.unlink(folder / f"stat-{ref_component(project)}.db")
        # What it says must not come back after a power cut.
        self._disk.sync_folder(folder)

    def sweep(self, *, progress: Progress | None = None) -> SweepReport:
        """Give back the space of what no ref reaches; operations before this cannot be undone any more.

        Raises LockedError, StorageFullError, CorruptionError when something needed cannot be read, ToolError.
        """
        from gitvault.core.backup_engine.sweep import sweep
        from gitvault.core.models import SweepReport

        started = time.perf_counter()
        self._quota = None
        before = disk_usage(self.path)
        with self._lock("sweep"), self._reserve():
            names = {project.name for project in self.projects()} | set(self.history.projects())
            try:
                actions = sweep(self.history, self.store, projects=names, progress=progress)
            except ToolFailed as error:
                if error.code != _GIT_GAVE_UP:
                    raise
                raise self._damaged(error) from error
            # On a full disk the next maintenance does it.
            with contextlib.suppress(StorageFullError):
                self._protect(_PARITY_SECONDS)
            freed = max(0, before - disk_usage(self.path))
        return SweepReport(freed, time.perf_counter() - started, actions)

    def _reserve(self) -> contextlib.AbstractContextManager[None]:
        """What was put by for a full disk may be used inside."""
        return reserve.room(self.path, self.config.reserve, self._disk)

    def _damaged(self, error: ToolFailed) -> CorruptionError:
        """What it means that git gave up."""
        said = error.stderr.strip().rpartition("\n")[2]
        return CorruptionError(f"{self.path}: git cannot repack it ({said}); run git-vault verify")

    def _packs(self) -> list[Path]:
        """All packs, of chunks and of git's, the newest first."""
        found = [*(self.path / "chunks").glob("*.zpk"), *(self.path / "objects" / "pack").glob("*.pack")]
        return sorted(found, key=lambda path: -path.stat().st_mtime_ns)

    def _protect(self, seconds: float) -> int:
        """Write parity for packs without, until the time is over; how many got it."""
        if not self.config.parity:
            return 0
        from gitvault.core.storage import parity

        end = time.monotonic() + seconds
        folder = self.path / "parity"
        return parity.update(self._packs(), folder, self.config.parity, self._disk, lambda: time.monotonic() > end)

    def _protected(self, report: SnapshotReport) -> SnapshotReport:
        """A snapshot that is acknowledged gets its parity; whatever hinders that does not undo the snapshot."""
        try:
            self._protect(_PARITY_SECONDS)
        except (OSError, StorageFullError) as error:
            return replace(report, notes=(*report.notes, f"parity not written ({error}); the next maintain does it"))
        return report

    def _maintain_in_background(self) -> None:
        from gitvault.core.utils import process
        from gitvault.core.versioning.repack import due

        if due(self.path) or self.store.repack_due():
            vault = os.fspath(self.path)
            process.start_detached(["-m", "gitvault", "--vault", vault, "maintain", "--idle", "--quiet"])


def is_vault(path: Path) -> bool:
    """Whether a folder is a vault: a bare repository whose config names a format of ours."""
    try:
        text = read_plain(path / "config", settings.LONGEST).decode("utf-8", "replace")
    except (OSError, CorruptionError):
        return False
    return (path / "HEAD").is_file() and re.search(r"(?mi)^\s*formatVersion\s*=", text) is not None


def _is_unfinished(path: Path, constant: Mapping[str, bytes]) -> bool:
    """Whether a folder is empty, or what a killed `init` left: nothing but what it makes before the config."""
    folders = {parent.as_posix() for folder in _FOLDERS for parent in (Path(folder), *Path(folder).parents)}
    found = (re.sub(r"\.\d+\.tmp$", "", each.relative_to(path).as_posix()) for each in path.rglob("*"))
    allowed = {*folders, *constant, "config"}
    return path.is_dir() and not (path / "config").exists() and all(name in allowed for name in found)


def disk_usage(path: Path) -> int:
    """Bytes that a vault's files occupy, caches and the reserve left out."""
    total = 0
    for folder, folders, files in os.walk(path):
        if Path(folder) == path:
            folders[:] = [name for name in folders if name != "cache"]
            files = [name for name in files if name != reserve.NAME]
        total += sum(os.lstat(os.path.join(folder, name)).st_size for name in files)
    return total


def _folder(path: Path | str) -> str:
    text = os.path.abspath(path)
    if not os.path.lexists(text):
        raise NotFoundError(f"{to_line(os.fsencode(text))}: no such folder")
    if not os.path.isdir(text):
        raise NotFoundError(f"{to_line(os.fsencode(text))}: not a folder; save the folder it is in")
    return _resolved_folder(text)


def _resolved_folder(path: Path | str) -> str:
    """One spelling for one folder, so that a project is found again through any symlink."""
    return os.path.realpath(path)


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _raw_path(path: str | bytes) -> bytes:
    return path if isinstance(path, bytes) else from_text(path)


def _decode_pointer(blob: bytes) -> Pointer | None:
    """A pointer in a tree is always ours: a user's own file that looks like one is in the store."""
    from gitvault.core.storage import pointers

    return pointers.decode(blob)


def _constant_files() -> dict[str, bytes]:
    """What is in every vault and never changes."""
    from gitvault.core.backup_engine import rescue

    return {"info/attributes": _ATTRIBUTES.encode(), **rescue.texts()}
