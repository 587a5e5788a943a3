"""Vault: the waist. It locks and forwards; `opened` has its parts, `saving` what of a project is saved.

Everything above (personas, the command line, other programs) goes through this class; everything below
works without it. A vault is safe to use from one thread; several processes take turns through its lock.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from gitvault import config as settings
from gitvault.core import models
from gitvault.core.models import Project, SnapshotId
from gitvault.core.utils import layout, reserve
from gitvault.core.utils.layout import disk_usage, is_vault
from gitvault.core.utils.names import from_text, to_line
from gitvault.core.versioning.history import Damaged, Details, GitHistory
from gitvault.errors import (
    ConfigError,
    GitVaultError,
    LockedError,
    NotFoundError,
    StorageFullError,
    ToolFailed,
)
from gitvault.vault.opened import WHOLE_LIMIT, Opened

if TYPE_CHECKING:
    from random import Random

    from gitvault.core.backup_engine.incoming import Incoming
    from gitvault.core.backup_engine.retention import Retention
    from gitvault.core.backup_engine.snapshot import Links
    from gitvault.core.interfaces import Progress, Rules
    from gitvault.core.storage.store import ChunkStore
    from gitvault.core.touched import Touched, Watch
    from gitvault.core.versioning.edits import Edit
    from gitvault.core.versioning.operations import Operation
    from gitvault.core.versioning.tags import Tag
    from gitvault.policy.explain import Decision
    from gitvault.policy.patterns import Rule
    from gitvault.policy.policy import Policy
    from gitvault.vault.area import Area
    from gitvault.vcs.protect.view import View
    from gitvault.vcs.verdict import Safety


class Vault(Opened):
    """One vault. A BackupEngine; use it as a context manager, or close it."""

    # -- what is saved ---------------------------------------------------------------------------

    def policy(self, root: Path | str, mode: str = "protect") -> Policy:
        """What is saved of a folder, were it a project of that mode, and why."""
        from gitvault.vault.saving import policy

        return policy(self, root, mode)

    def rules(self, project: Project) -> Rules:
        """What of a project is saved, whatever version control holds."""
        return self.policy(project.path, project.mode)

    def explain(self, path: str) -> Decision:
        """What is saved of a path, and why, whether anything is there and in a project or not. Raises ConfigError."""
        from gitvault.vault.saving import explain

        return explain(self, self._here(), path)

    def unused_rules(self, paths: Sequence[Path | str] = ()) -> list[Rule]:
        """Rules that users wrote and that match nothing in these folders; none named: in any project of this machine.

        Raises ConfigError.
        """
        from gitvault.vault.saving import unused_rules

        return unused_rules(self, self._here(), paths)

    def touched(self, project: Project) -> Touched | None:
        """What may have changed in a project since its newest snapshot, as its watcher says; None: anything."""
        from gitvault.vault.saving import touched

        return touched(self, project)

    def _here(self) -> list[Project]:
        return [project for project in self.projects() if project.host == self.config.machine]

    def _rules_by_mode(self, project: Project) -> Rules:
        from gitvault.vault.saving import rules_by_mode

        return rules_by_mode(self, project, self.policy(project.path, project.mode))

    def _watch(self, project: Project) -> Watch | None:
        # Nearly always there is none, and to ask costs as much as all of `git vault status`.
        if not os.path.lexists(self.path / "cache" / layout.WATCH):
            return None
        from gitvault.vault.saving import watch

        return watch(self, project)

    # -- projects --------------------------------------------------------------------------------

    def projects(self) -> list[Project]:
        """The registered projects by name."""
        from gitvault.core.versioning import catalog

        return catalog.load(self.history)

    def add_project(self, path: Path | str, name: str | None = None, *, mode: str | None = None) -> Project:
        """Register a folder; a registered one is returned as it is, but for its `mode` when one is given.

        Without `name` it is the folder's, made unique. `mode`: of `MODES`. Raises NotFoundError, ExistsError when the
        name is taken by a folder that still exists, GitVaultError for a folder inside the vault.
        """
        from gitvault.core.versioning import catalog
        from gitvault.policy.stack import stack_of

        folder = self._outside(catalog.folder_of(path))
        host = self.config.machine
        if found := catalog.find(self.projects(), folder, host, name):
            return self._in_mode(found, mode)
        with self._lock("add"):
            # Another process may have been quicker.
            if not (found := catalog.find(self.projects(), folder, host, name)):
                known = catalog.lines(self.history)
                found, *others = catalog.add(known, folder, host, name, self.now())
                found = replace(found, detected=stack_of(folder))
                catalog.save(self.history, [found, *others], f"Add {to_line(os.fsencode(found.name))}")
        return self._in_mode(found, mode)

    def _in_mode(self, project: Project, mode: str | None) -> Project:
        from gitvault.core.versioning.edits import Edit

        if mode in (None, project.mode):
            return project
        edited = self.edit_projects([project.name], Edit({"mode": mode}))
        return next(one for one in edited if one.host == project.host)

    def _outside(self, folder: str) -> str:
        """The folder, given resolved, if it is no part of the vault. Raises GitVaultError."""
        if layout.is_within(folder, os.path.realpath(self.path)):
            raise GitVaultError(f"{folder}: lies inside the vault {self.path}; save it into another vault")
        return folder

    def project(self, name: str) -> Project:
        """The registered project of this name, on this machine if there are several. Raises NotFoundError."""
        from gitvault.core.versioning import catalog

        return catalog.get(self.history, name, self.config.machine)

    def rename_project(self, old: str, new: str) -> Operation:
        """Give a project another name; snapshots keep their ids, and their tags and notes follow.

        Raises NotFoundError, ExistsError, LockedError, StorageFullError, GitVaultError for a name that no project can
        have; nothing moves then.
        """
        from gitvault.core.versioning.rewrite import rename

        with self._lock("rename"):
            done = rename(self.history, old, new, time=self.now(), host=self.config.machine)
            self.caches.rename(old, new)
        return done

    def edit_projects(self, names: Collection[str], change: Edit) -> list[Project]:
        """Edit what is said of projects, all of them in one go; as they are then.

        Raises NotFoundError for an unknown one, LockedError, StorageFullError; nothing is edited then.
        """
        from gitvault.core.versioning import catalog

        with self._lock("edit"):
            return catalog.edit(self.history, names, change, self.config.machine, self.now())

    def move_project(self, name: str, path: Path | str) -> Project:
        """Say where a project lies on this machine from now on; nothing is moved or copied, its history goes on.

        The folder need not be there yet. Raises NotFoundError, ExistsError for a folder that is another project,
        GitVaultError for one inside the vault, LockedError, StorageFullError.
        """
        from gitvault.core.versioning import catalog
        from gitvault.policy.stack import stack_of

        folder = self._outside(os.path.realpath(path))
        with self._lock("move"):
            project = catalog.move(self.history, name, folder, stack_of(folder), self.config.machine, self.now())
            self.caches.move(name, folder)
        return project

    def undo_edit(self) -> list[Project]:
        """Take the newest edit of projects back, or, after that, do it again; those that are different now.

        What was edited since stays. Raises NotFoundError when there is nothing to take back, LockedError,
        StorageFullError.
        """
        from gitvault.core.versioning import catalog

        with self._lock("undo"):
            before = {(project.name, project.host): project.path for project in self.projects()}
            changed = catalog.undo(self.history, self.now())
            for project in changed:
                if project.host == self.config.machine and before.get((project.name, project.host)) != project.path:
                    self.caches.move(project.name, project.path)
        return changed

    def snapshot_counts(self, names: Iterable[str]) -> dict[str, int]:
        """How many snapshots each of the projects has."""
        from gitvault.core.versioning.counts import counts

        return counts(self.history, names, self.path / "cache", self._disk)

    def _expect(self, name: str) -> None:
        """Raises NotFoundError for a project that nobody knows."""
        if self.history.tip(name) is None:
            self.project(name)

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
        scan: bool = False,
        links: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> models.SnapshotReport:
        """See BackupEngine. Registers the folder as a project when it is new.

        `scan`: look at everything, also while a watcher knows what was touched. `links`: files from elsewhere, by their
        absolute paths, that the snapshot carries; `metadata` then says in which folder, and where the project was.
        """
        details = Details("", message, self.now(), 0, 0, tags, metadata, trigger)
        registered = self.add_project(path, project)
        if not (scan or links or self.config.quota) and (untouched := self._untouched(registered)):
            return untouched
        carried = None
        if links:
            from gitvault.core.backup_engine import outside
            from gitvault.core.backup_engine.snapshot import Links

            carried = Links(outside.free_name(registered.path), links)
            said = {outside.KEY_FOLDER: carried.name, outside.KEY_ROOT: registered.path}
            details = replace(details, metadata={**(metadata or {}), **said})
        try:
            report = self._take(registered, details, scan, progress, carried)
        except StorageFullError as full:
            if not (self._quota and self._quota.reached and self.config.quota_policy == "prune"):
                raise
            self._make_room(full)
            report = self._take(registered, details, scan, progress, carried)
        quota, self._quota = self._quota, None
        if quota and (note := quota.note()):
            report = replace(report, notes=(*report.notes, note))
        if not report.unchanged:
            self._detect(registered)
            self._upkeep()
        self._ask_remotes(registered)
        return self._sent(report)

    def _sent(self, report: models.SnapshotReport) -> models.SnapshotReport:
        """Push to the remotes that want each snapshot; what did not reach them before is said."""
        if not (names := self.config.auto_remotes):
            return report
        from gitvault.vault import waiting

        said = tuple(waiting.notes(self.path, names))
        if said or not report.unchanged:
            waiting.start(self.path)
        return replace(report, notes=(*report.notes, *said))

    def incoming(self, project: str, path: str, host: str = "", *, archived: bool = False) -> Incoming:
        """The next snapshots of a project, put together from what another program kept; see there.

        A new project is registered with its first snapshot, as the folder `path` of the machine `host`, this one if
        empty; `archived` also where this machine has no such folder, or has it as another project. Raises ExistsError
        for a name that differs from a project's only in case, GitVaultError for one that no project can have,
        LockedError, StorageFullError.
        """
        from gitvault.vault.incoming import incoming

        return incoming(self, project, path, host, archived)

    def _detect(self, project: Project) -> None:
        """See what a project that has changed is made with now."""
        from gitvault.core.versioning import catalog
        from gitvault.policy.stack import stack_of

        if (stack := stack_of(project.path)) != project.detected:
            # The snapshot is taken; the next one sees it too.
            with contextlib.suppress(OSError, GitVaultError), self._lock("stack"):
                catalog.detect(self.history, project, stack, self.now())

    def _make_room(self, full: StorageFullError) -> None:
        """At the quota: prune by the settings, and sweep. Raises StorageFullError when that cannot be."""
        try:
            self.prune(yes=True)
        except ConfigError as error:
            raise StorageFullError(f"{full}; vault.quotaPolicy is prune, but {error}") from full
        self.sweep()

    def _take(
        self, project: Project, details: Details, scan: bool, progress: Progress | None, links: Links | None
    ) -> models.SnapshotReport:
        config = self.config
        from gitvault.core.backup_engine.quota import Quota
        from gitvault.core.backup_engine.reading import Limits
        from gitvault.core.backup_engine.snapshot import take_snapshot
        from gitvault.core.backup_engine.trees import company_of
        from gitvault.vault.saving import rules_by_mode

        limits = Limits(config.inline_limit, WHOLE_LIMIT, config.binary_extensions, config.secrets == "note")
        with self._lock(f"snapshot of {project.name}"):
            if not any((known.name, known.host) == (project.name, project.host) for known in self.projects()):
                raise LockedError(f"{project.name}: got another name meanwhile; run again")
            self._quota = Quota(self.path, config.quota, disk_usage(self.path)) if config.quota else None
            cache = self.caches.open(project.name)

            def take() -> tuple[models.SnapshotReport, Policy, Rules]:
                # Made anew when a damaged cache has the walk begin again.
                policy = self.policy(project.path, project.mode)
                rules = rules_by_mode(self, project, policy)
                report = take_snapshot(
                    Path(project.path),
                    replace(details, project=project.name, time=self.now()),
                    history=self.history,
                    store=self.store,
                    cache=cache,
                    rules=rules,
                    watch=self._watch(project),
                    scan=scan,
                    limits=limits,
                    redundancy=config.parity,
                    admit=self._admit,
                    company=company_of(rules),
                    beside=policy.beside,
                    links=links,
                    progress=progress,
                )
                return report, policy, rules

            report, policy, rules = cache.use(take)
        # What is left out is said with each snapshot, not with each look.
        said = "" if report.unchanged else policy.note()
        left: list[str] = [*getattr(rules, "notes", list)(), said]
        problems = sorted((*report.problems, *policy.problems), key=lambda problem: problem.path)
        return replace(report, notes=(*report.notes, *filter(None, left)), problems=tuple(problems))

    def _untouched(self, project: Project) -> models.SnapshotReport | None:
        """The newest snapshot, when a watcher knows that nothing was touched since."""
        watch = self._watch(project)
        if not (watch and watch.answers()):
            return None
        from gitvault.core.backup_engine.untouched import untouched

        cache = self.caches.open(project.name)
        root, name, history, now = Path(project.path), project.name, self.history, self.now().timestamp()
        return cache.use(lambda: untouched(root, name, history=history, cache=cache, watch=watch, now=now))

    def list_snapshots(self, filter_criteria: models.Filter | None = None) -> list[models.Snapshot]:
        """See BackupEngine. Raises NotFoundError for an unknown project."""
        wanted = filter_criteria or models.Filter()
        if wanted.project is not None:
            self._expect(wanted.project)
        return self.history.filtered(wanted)

    def resolve(self, name: str) -> SnapshotId:
        """The snapshot that a person means: an id or its start, `project`, `project~2`, `project@{date}`, a date."""
        return self.history.resolve(name)

    def get_snapshot_info(self, snapshot: str) -> models.Snapshot:
        """See BackupEngine."""
        return self.history.get_version(self.resolve(snapshot))

    def entries(
        self, snapshot: str, path: bytes = b"", *, recursive: bool = False, damaged: Damaged | None = None
    ) -> Iterator[models.Entry]:
        """What a snapshot holds at a path: a folder's entries, or the file itself. Raises NotFoundError.

        Where attributes are lost, `damaged` is told and what git's trees know is given; without it that is raised.
        """
        return self._view(snapshot).entries(path, recursive=recursive, damaged=damaged)

    def read_file(self, snapshot: str, path: bytes, target: BinaryIO, *, damaged: Damaged = lambda _: None) -> None:
        """Write a file's content to `target`; a symlink's is the path it names.

        `damaged` is told when attributes are lost, which the content is not. Raises NotFoundError, CorruptionError.
        """
        from gitvault.core.versioning import contents

        view = self._view(snapshot)
        if based := view.find(path):
            target.write(view.read(based))
            return
        entry = contents.find_file(self.history, view.snapshot, path, damaged)
        if entry.pointer:
            self.store.retrieve_file(entry.pointer, target)
        else:
            target.write(self.history.blob(entry.blob))

    def read_back(self, snapshot: str, progress: Progress | None = None) -> int:
        """Read every file of a snapshot, its hash checked; how many bytes that were.

        Raises CorruptionError, which names the first that is damaged or nowhere to be had.
        """
        return self._view(snapshot).read_back(self.store, progress)

    def get_version_diff(self, a: str, b: str) -> models.Difference:
        """See BackupEngine."""
        from gitvault.vcs.protect.view import compare

        return compare(self._view(a), self._view(b), self.store)

    def _view(self, snapshot: str) -> View:
        """A snapshot with what it relies on version control for."""
        from gitvault.vcs.protect.view import View

        return View(self.history, self.resolve(snapshot))

    def restore_snapshot(
        self,
        snapshot: str,
        target: Path | str | None = None,
        *,
        paths: Iterable[str | bytes] = (),
        excluded_paths: Iterable[str | bytes] = (),
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> models.RestoreReport:
        """See BackupEngine."""
        from gitvault.core.versioning import origins
        from gitvault.vcs.protect.rebuild import restore
        from gitvault.vcs.protect.view import View

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
            if layout.is_within(os.path.realpath(folder), os.path.realpath(self.path)):
                raise GitVaultError(f"{folder}: lies inside the vault; restore into another folder")
        done = restore(
            View(self.history, resolved),
            folder,
            store=self.store,
            paths=[_raw_path(path) for path in paths],
            excluded=[_raw_path(path) for path in excluded_paths],
            overwrite=overwrite,
            progress=progress,
        )
        # A vault that is read-only, on a full disk or has a stale lock restores all the same.
        with contextlib.suppress(OSError, StorageFullError, LockedError):
            origins.note(self.path, self.history.refs, os.path.realpath(folder), self.history.locate(resolved))
        return replace(done, safety=safety)

    # -- the vault as a whole --------------------------------------------------------------------

    def status(self, paths: Sequence[Path | str] = (), *, scan: bool = False) -> list[models.PathState]:
        """Whether paths are saved, as they are now; nothing named: every project on this machine.

        A file is looked at. Of a folder that is watched, what its watcher says has changed; of another the last look's
        result is told, and its age. `scan` looks at everything.
        """
        from gitvault.core.backup_engine.status import Places, path_state

        here = self._here()
        places = Places(self.history, self.caches.open, self._rules_by_mode, here, self.now(), self._watch)
        named = [os.fspath(path) for path in paths] or [project.path for project in here if not project.archived]
        states = [path_state(places, path, scan) for path in named]
        if all(state.state in ("saved", "changed", "deleted") for state in states):
            return states
        # What is saved with nobody's help is said without a word from version control.
        from gitvault.vcs.protect.saved import settled

        return [settled(self.history, here, path, state) for path, state in zip(named, states, strict=True)]

    def vcs_status(self, projects: Sequence[str] = (), *, probe: bool = False) -> list[Safety]:
        """What of the named projects, or all of this machine, exists nowhere else. `probe`: ask every remote now.

        Raises NotFoundError for an unknown project.
        """
        from gitvault.vcs import verdict
        from gitvault.vcs.state import Asking

        now = self.now()
        here = self._here()
        named = [self.project(name) for name in projects] if projects else here
        # A file that a user's rule leaves out may be tracked all the same, and nobody watches it.
        overruled = bool(self.config.ignore or self.config.policy_file)

        def is_saved(project: Project) -> bool:
            from gitvault.core.backup_engine import status

            looking = status.Places(self.history, self.caches.open, self._rules_by_mode, here, now, self._watch)
            return status.path_state(looking, project.path, self.touched(project) is None).state == "saved"

        with contextlib.ExitStack() as opened:
            copies = {}
            for path in self.config.copies:
                # One that is not there just now, or is damaged, counts for nothing.
                with contextlib.suppress(GitVaultError, OSError):
                    copies[path] = opened.enter_context(Vault.open(path)).history
            places = verdict.Places(
                self.path,
                self.history,
                self.caches.open,
                self.rules,
                is_saved,
                lambda project: None if overruled else self._watch(project),
                copies,
                Asking(now, settings.remote_limit(self.config, now), self.path / "cache", self._disk, probe),
            )
            return verdict.verdicts(places, named)

    def get_storage_stats(self) -> models.StorageStats:
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
    ) -> models.VerifyReport:
        """See BackupEngine. An interrupted run with `data` goes on where it was, unless `restart`.

        `share`: with `data`, read only so many of so many parts, those whose turn it is. `drill`: get so many files
        back the way RESCUE.md says; `chance` picks them. `repair`: read every byte and heal what is damaged, also from
        the vaults `copies`; what an earlier repair could not get back is no defect any more but `quarantined`.
        Raises LockedError and StorageFullError when repairing, VaultNotFound for a copy that is none.
        """
        from gitvault.core.backup_engine.drill import drill as exercise
        from gitvault.core.backup_engine.extent import ReadExtent
        from gitvault.core.backup_engine.verify import verify_vault
        from gitvault.core.versioning import losses
        from gitvault.vcs.protect.view import missing_bases

        self.demand_whole()
        if repair:
            return self._repaired(copies, progress)
        read = None
        if data:
            read = ReadExtent(self.path / "cache", self._disk, self.now(), share=share, restart=restart)
        with read or contextlib.nullcontext():
            report = verify_vault(self.history, self.store, data=data, extent=read, progress=progress)
        if read:
            report = replace(report, note="; ".join(filter(None, (read.said, report.note))))
        if drill:
            drilled, found = exercise(self.history, self.store, drill, chance, progress)
            report = replace(report, drilled=drilled, defects=(*report.defects, *found))
        report = replace(report, defects=(*report.defects, *missing_bases(self.history, self.history.projects())))
        return losses.divide(self.history, report, losses.known(self.history))

    def _repaired(self, copies: Iterable[Path | str], progress: Progress | None) -> models.VerifyReport:
        from gitvault.core.backup_engine.repair import Copy, repair_vault

        def parts() -> tuple[GitHistory, ChunkStore]:
            self.close()
            return self.history, self.store

        known = [copy for copy in self.config.copies if is_vault(Path(copy))]
        with self._lock("repair"), contextlib.ExitStack() as stack:
            opened = [stack.enter_context(Vault.open(copy)) for copy in (*known, *copies)]
            return repair_vault(
                parts,
                copies=[Copy(vault.path, vault.history, vault.store) for vault in opened],
                host=self.config.machine,
                redundancy=self.config.parity,
                progress=progress,
            )

    def copy_to(
        self, target: Path | str, *, projects: Iterable[str] = (), progress: Progress | None = None
    ) -> models.CopyReport:
        """Bring a second vault, made when it is missing, to what this one holds; `projects`: only these.

        Raises NotFoundError for an unknown project, ExistsError for a folder with something else in it, GitVaultError
        for a folder that is this vault, in it or around it, LockedError, CorruptionError, StorageFullError, OSError.
        """
        from gitvault.core.backup_engine.copy import copy_vault

        self.demand_whole()
        here, there = os.path.realpath(self.path), os.path.realpath(target)
        if layout.is_within(here, there) or layout.is_within(there, here):
            raise GitVaultError(f"{there}: is this vault, or one lies in the other; name a folder elsewhere")
        wanted = frozenset(projects)
        for project in wanted:
            self._expect(project)
        with Vault.create(there, now=self.now, disk=self._disk, waiting=self._waiting) as other:
            with other._lock(f"copy of {here}"):
                report = copy_vault(
                    self.history,
                    self.store,
                    other.history,
                    other.store,
                    projects=wanted or None,
                    back=other._has_copy(here, self.config.id),
                    progress=progress,
                )
            if report.packs:
                other._upkeep()
        # Where a repair finds it. A vault that cannot be written is copied all the same.
        with contextlib.suppress(ToolFailed, LockedError, StorageFullError, OSError):
            settings.remember_copy(self.path, there, other.config.id, disk=self.disk)
            self.__dict__.pop("config", None)
        return report

    def take_in(
        self,
        history: GitHistory,
        store: ChunkStore,
        progress: Progress | None = None,
        lacking: set[models.Pointer] | None = None,
    ) -> models.CopyReport:
        """Bring this vault to what another history holds; what was removed here does not come back. See copy_vault."""
        from gitvault.core.backup_engine.copy import copy_vault

        view = history.objects is self.history.objects
        with self._lock("fetch"):
            return copy_vault(
                history, store, self.history, self.store, back=True, view=view, lacking=lacking, progress=progress
            )

    def write(self, purpose: str) -> contextlib.AbstractContextManager[None]:
        """Hold the lock, for what adds packs to the vault. Raises LockedError."""
        return self._lock(purpose)

    def _has_copy(self, folder: str, name: str) -> bool:
        """Whether a vault, by its folder or its id, is a copy of this one."""
        names = {self.config.id, *(known for known, _ in self.config.known_copies)} - {""}
        return name in names or folder in map(os.path.realpath, self.config.copies)

    def maintain(self, *, idle: bool = False, progress: Progress | None = None) -> models.MaintenanceReport:
        """Do all that is due; returns when it is done, or, `idle`, as soon as another run wants the vault.

        Raises LockedError, StorageFullError, CorruptionError, ToolMissing.
        """
        from gitvault.core.backup_engine.maintain import maintain
        from gitvault.core.utils.lock import VaultLock

        with self._lock("maintain"):
            reserve.keep(self.path, self.config.reserve, self._disk)
            stop = VaultLock.wanted(self.path / layout.LOCK).exists if idle else None
            return maintain(self.history, self.store, redundancy=self.config.parity, stop=stop, progress=progress)

    # -- what was saved, changed ------------------------------------------------------------------

    def prune(
        self, rules: Retention | None = None, *, projects: Sequence[str] = (), yes: bool = False
    ) -> models.PruneReport:
        """Remove the snapshots that the rules do not keep, of all projects or those named; without `yes` only say so.

        Without `rules` the settings count. Raises ConfigError where these are silent, NotFoundError, CorruptionError,
        LockedError, StorageFullError; nothing is removed then.
        """
        from gitvault.core.backup_engine.prune import prune
        from gitvault.core.versioning import catalog

        rules = rules or settings.retention(self.config)
        if not rules:
            raise ConfigError("no rule says what to keep; give one, such as --keep-daily 30, or set vault.keepDaily")
        with contextlib.ExitStack() as held:
            if yes:
                held.enter_context(self._lock("prune"))
                held.enter_context(self._reserve())
            names = catalog.saved(self.history, projects)
            cache = self.caches.open if yes else None
            return prune(self.history, names, rules, now=self.now(), host=self.config.machine, cache=cache)

    def forget(
        self, patterns: Sequence[str], *, projects: Sequence[str] = (), repositories: bool = False, yes: bool = False
    ) -> models.ForgetReport:
        """Remove the paths that match gitignore patterns from every snapshot; without `yes` only say so.

        `repositories`: from those that are stored as they lie, too, as far as their kind allows. The bytes are gone
        after the next sweep, but for what `held` of the report names.
        Raises NotFoundError, CorruptionError, LockedError, StorageFullError; nothing is removed then.
        """
        from gitvault.core.backup_engine.forget import forget, search
        from gitvault.core.versioning import catalog
        from gitvault.vault.area import in_git
        from gitvault.vcs import whole
        from gitvault.vcs.protect.purge import Bundles

        find = partial(search, self.history, patterns, attachments=Bundles(self.history))
        look = partial(whole.look, self.history, self.store.retrieve_file)
        if not yes:
            names = catalog.saved(self.history, projects)
            meant, report = find(names)
            held, instead = look(names, meant, keep=(lambda _: b"") if repositories else None)
            return replace(find(names, instead=instead)[1] if instead else report, held=held)
        with self._lock("forget"), self._reserve():
            names = catalog.saved(self.history, projects)

            def clear(project: str) -> None:
                self.caches.remove(project)
                layout.clear_search(self.path, self._disk)
                layout.clear_thumbnails(self.path, self._disk)

            found = find(names)
            # What is forgotten can be found no more afterwards, and copies of it may be left.
            meant = found[0]
            try:
                if repositories:
                    found = find(names, instead=look(names, meant, keep=partial(in_git, self))[1])
                    self.store.flush()
                report = forget(self.history, found, names, now=self.now(), host=self.config.machine, clear=clear)
            except BaseException:
                self.store.discard()
                raise
            return replace(report, held=look(names, meant)[0])

    def name_snapshot(self, name: str, snapshot: SnapshotId, *, type: str, **said: Any) -> Tag:
        """Make a snapshot a milestone, which `prune` keeps; `said`: message, tags, metadata. See core/versioning/tags.

        Raises ExistsError for a name that the project has, NotFoundError, GitVaultError.
        """
        from gitvault.core.versioning import tags

        with self._lock(f"milestone {name}"):
            project = self.get_snapshot_info(snapshot).project
            return tags.create(self.history, project, name, snapshot, type=type, now=self.now(), **said)

    def annotate(self, kind: str, snapshot: SnapshotId, record: Mapping[str, Any], why: str) -> None:
        """Write a line of JSON on a snapshot, as a git note of that kind; the same line again changes nothing."""
        self.annotate_all(kind, {snapshot: [record]}, why)

    def annotate_all(self, kind: str, said: Mapping[SnapshotId, Sequence[Mapping[str, Any]]], why: str) -> None:
        """`annotate`, for lines on several snapshots. Raises NotFoundError."""
        from gitvault.core.versioning import notes

        with self._lock(f"notes: {kind}"):
            notes.add(self.history, kind, {self.history.locate(one): lines for one, lines in said.items()}, why)

    def annotations(self, kind: str, snapshot: SnapshotId) -> list[dict[str, Any]]:
        """The lines of a kind on a snapshot. Raises NotFoundError, CorruptionError."""
        from gitvault.core.versioning import notes

        return notes.read(self.history, kind, self.history.locate(snapshot))

    def area(self, name: str) -> Area:
        """The records of an area, `workspaces` or `feedback/PROJECT` say. Raises GitVaultError for what is none."""
        from gitvault.vault.area import Area

        return Area(self, name)

    def operations(self) -> list[Operation]:
        """What moved several refs at once, newest first. Raises CorruptionError."""
        from gitvault.core.versioning.operations import log

        return list(log(self.history))

    def undo(self, count: int = 1) -> Operation:
        """Take the last operations back, which is one itself.

        Raises NotFoundError, LockedError, GitVaultError when one cannot be taken back; nothing moves then.
        """
        from gitvault.core.versioning.rewrite import undo

        with self._lock("undo"):
            done = undo(self.history, count, time=self.now(), host=self.config.machine)
            for old, new in done.renamed:
                self.caches.rename(old, new)
        return done

    def sweep(self, *, progress: Progress | None = None) -> models.SweepReport:
        """Give back the space of what no ref reaches; operations before this cannot be undone any more.

        Raises LockedError, StorageFullError, CorruptionError when something needed cannot be read, ToolError.
        """
        from gitvault.core.backup_engine.sweep import sweep

        self._quota = None
        size = disk_usage(self.path)
        with self._lock("sweep"), self._reserve():
            names = {project.name for project in self.projects()} | set(self.history.projects())
            return sweep(
                self.history, self.store, projects=names, size=size, redundancy=self.config.parity, progress=progress
            )

    def _reserve(self) -> contextlib.AbstractContextManager[None]:
        """What was put by for a full disk may be used inside."""
        return reserve.room(self.path, self.config.reserve, self._disk)

    def _ask_remotes(self, project: Project) -> None:
        """In the background, once a day: so that a remote that is gone is known before it is needed."""
        from gitvault.vcs.find import has_remotes

        if self.config.maintenance != "auto" or not has_remotes(Path(project.path)):
            return
        from gitvault.core.utils import process
        from gitvault.vcs import remotes

        if remotes.is_due(Path(project.path), self.now(), self.path / "cache"):
            words = ("--vault", os.fspath(self.path), "vcs", "status", "--probe", "--", project.name)
            process.start_detached(["-m", "gitvault", *words])

    def _upkeep(self) -> None:
        if self.config.maintenance == "auto":
            from gitvault.core.backup_engine.maintain import start_if_due

            start_if_due(self.path, self.store)


def _raw_path(path: str | bytes) -> bytes:
    return path if isinstance(path, bytes) else from_text(path)
