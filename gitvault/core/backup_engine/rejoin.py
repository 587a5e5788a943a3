"""Refs and chains of commits with holes in them, led to the best that is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from itertools import islice

from gitvault.core.backup_engine.frame import keep_copy
from gitvault.core.models import Affected, Defect, ObjectId, SnapshotId
from gitvault.core.utils.files import Disk, set_aside
from gitvault.core.utils.names import from_ref_component, ref_component
from gitvault.core.versioning import commits, operations, records
from gitvault.core.versioning import salvage as git_salvage
from gitvault.core.versioning.history import HEADS, META, GitHistory
from gitvault.core.versioning.objects import MODE_TREE, Commit, encode_commit, format_message, parse_message
from gitvault.errors import CorruptionError, GitVaultError, NotFoundError

# What was restored where, and what undo needs: they hold snapshots, whose chains are not theirs to mend.
_DISPENSABLE = ("refs/vault/restored/", operations.UNDO)


class Chains:
    """Mends refs, and joins what is left of chains. `copies`: second vaults' histories; `said`: told what is sound."""

    def __init__(
        self, history: GitHistory, copies: Sequence[GitHistory], said: Callable[[str, str, str], None], disk: Disk
    ) -> None:
        self.vault = history.git_dir
        self.history = history
        self.copies = copies
        self.said = said
        self.disk = disk
        self.lost: list[Defect] = []
        """What verify will not find any more."""

    @cached_property
    def snapshots(self) -> dict[str, dict[ObjectId, Commit]]:
        """All snapshots that are left, by project, refs or no refs."""
        found: dict[str, dict[ObjectId, Commit]] = {}
        for oid, commit in self.commits.items():
            if (project := git_salvage.project_of(commit)) is not None:
                found.setdefault(project, {})[oid] = commit
        return found

    @cached_property
    def commits(self) -> dict[ObjectId, Commit]:
        """All commits that are left, refs or no refs."""
        return git_salvage.all_commits(self.history.objects, self.vault / "objects" / "pack")

    def mend_refs(self) -> None:
        """Files that hold no ref: the value that it had, or the best there is for it."""
        refs = self.history.refs
        packed, names = refs.damaged()
        if packed is not None:
            keep_copy(self.vault / "packed-refs", self.vault, self.disk)
            self.disk.write_durably(self.vault / "packed-refs", packed)
            self.said("ref", "packed-refs", "lines that are no refs were left out")
        for name in names:
            value = self._value(name)
            if value is None:
                set_aside(self.vault / name, self.vault / "quarantine", self.disk)
                if name.startswith(_DISPENSABLE):
                    self.said("ref", name, "removed: nothing says what it held")
                    continue
                self.lost.append(Defect("ref", name, "it held no id, and nothing says what it was"))
                continue
            keep_copy(self.vault / name, self.vault, self.disk)
            refs.update(name, value)
            self.said("ref", name, f"set to {value.hex()}")
        self._find_records()
        # With a branch goes its project: who has snapshots and no branch has lost it.
        for project in self.snapshots if packed is not None or self.history.headless() else ():
            if self.history.tip(project) is None:
                self._set_branch(project)
        if not self._head_exists() and (projects := self.history.projects()):
            refs.set_head(HEADS + ref_component(projects[0]))
            self.said("ref", "HEAD", f"names {projects[0]}")

    def _find_records(self) -> None:
        """Refs of records that are gone; where the record of operations is damaged, it is mended with the chains."""
        with suppress(GitVaultError):
            for name, _ in list(records.missing(self.history)):
                if (value := self._value(name)) is not None:
                    self.history.refs.update(name, value)
                    self.said("ref", name, f"set to {value.hex()}")

    def _head_exists(self) -> bool:
        with suppress(GitVaultError):
            head = self.history.refs.head()
            return head is None or self.history.refs.read(head) is not None
        return False

    def _value(self, name: str) -> ObjectId | None:
        for copy in self.copies:
            with suppress(GitVaultError):
                value = copy.refs.read(name)
                if value and self.history.objects.contains(value):
                    return value
        if name.startswith(HEADS):
            return git_salvage.newest(self.snapshots.get(from_ref_component(name[len(HEADS) :]), {}))
        if name.startswith(META):
            return self._meta(from_ref_component(name[len(META) :]))
        if name in records.FILES:
            held = {oid: commit for oid, commit in self.commits.items() if self._holds(commit, records.FILES[name])}
            if (found := git_salvage.newest(held)) is not None:
                return found
        return self._fetched(name)

    def _fetched(self, name: str) -> ObjectId | None:
        """What a copy has under that name, when nothing is left here."""
        for copy in self.copies:
            with suppress(GitVaultError):
                value = copy.refs.read(name)
                if value and git_salvage.fetch(self.history, [value], [git_salvage.from_store(copy.objects)]):
                    return value
        return None

    def _holds(self, commit: Commit, file: bytes) -> bool:
        with suppress(GitVaultError):
            return file in self.history.tree(commit.tree)
        return False

    def _meta(self, project: str) -> ObjectId | None:
        """The newest commit of the meta chain that a snapshot names and that is there."""
        found = self.snapshots.get(project, {})
        for oid in sorted(found, key=lambda oid: -found[oid].committer.time):
            named = commits.meta_commit(found[oid])
            if named and self.history.objects.contains(named):
                return named
        return None

    def _set_branch(self, project: str) -> None:
        """Let a project's branch and meta ref hold the newest snapshot that is left."""
        tip = git_salvage.newest(self.snapshots.get(project, {}))
        if tip is None:
            return
        named = commits.meta_commit(self.snapshots[project][tip])
        if named and self.history.objects.contains(named):
            self.history.refs.update(META + ref_component(project), named)
        ref = HEADS + ref_component(project)
        self.history.refs.update(ref, tip)
        self.said("ref", ref, f"set to {tip.hex()}, the newest snapshot that is left")

    def mend_chains(self) -> None:
        """Where a snapshot's commit is lost, those before it are joined to those after it."""
        for project in self.history.projects():
            self._mend_chain(project)
            self._mend_meta_ref(project)
        for ref in self.history.refs.list("refs/vault/"):
            if ref.startswith(_DISPENSABLE):
                self._drop(ref)
            elif not ref.startswith(META):
                self._mend_records(ref)

    def _mend_chain(self, project: str) -> None:
        above: list[tuple[ObjectId, Commit]] = []
        at = self.history.tip(project)
        while at:
            try:
                commit = self.history.commit(at)
            except (CorruptionError, NotFoundError) as error:
                self._bridge(project, above, at, error)
                return
            above.append((at, commit))
            at = commit.parents[0] if commit.parents else None

    def _bridge(
        self, project: str, above: Sequence[tuple[ObjectId, Commit]], hole: ObjectId, error: GitVaultError
    ) -> None:
        snapshot = SnapshotId(hole.hex())
        self.lost.append(Defect("commit", snapshot, str(error), (Affected(project, snapshot, b""),)))
        known = {oid for oid, _ in above}
        left = {oid: commit for oid, commit in self.snapshots.get(project, {}).items() if oid not in known}
        if above:
            limit = above[-1][1].committer.time
            left = {oid: commit for oid, commit in left.items() if commit.committer.time <= limit}
        parent = git_salvage.newest(left)
        if not above:
            if parent is None:
                # Nothing is left of the project: its next snapshot is a first one.
                self.history.refs.delete(HEADS + ref_component(project), old=hole)
            else:
                self._set_branch(project)
                self._mend_chain(project)
            return
        self._rejoin(HEADS + ref_component(project), [(oid, _named(oid, commit)) for oid, commit in above], parent)
        self.said("commit", hole.hex(), "is lost; the snapshots after it were joined to those before")
        for known_now in ("commits", "snapshots"):
            self.__dict__.pop(known_now, None)
        self._mend_chain(project)

    def _rejoin(self, ref: str, above: Sequence[tuple[ObjectId, Commit]], parent: ObjectId | None) -> None:
        """Write commits, newest first, again above `parent`, and let the ref hold the last."""
        pack = self.history.new_pack()
        try:
            for _, commit in reversed(above):
                parents = (parent,) if parent else ()
                parent = pack.add(b"commit", encode_commit(replace(commit, parents=parents)))
            made = pack.finish()
        except BaseException:
            pack.abandon()
            raise
        self.history.publish([made] if made else [])
        assert parent
        self.history.refs.update(ref, parent, old=above[0][0])

    def _mend_records(self, ref: str) -> None:
        """Records: the newest of which all is there, and no more history than there is."""
        above: list[tuple[ObjectId, Commit]] = []
        at = self.history.refs.read(ref)
        first = at
        while at:
            try:
                commit = self.history.commit(at)
            except (CorruptionError, NotFoundError):
                break
            if above or self._is_complete(commit):
                above.append((at, commit))
            at = commit.parents[0] if commit.parents else None
        if above and at:
            if above[0][0] != first:
                self.history.refs.update(ref, above[0][0])
            self._rejoin(ref, above, None)
            self.said("ref", ref, "older records are lost, the newest are there")
        elif above and above[0][0] != first:
            self.history.refs.update(ref, above[0][0])
            self.said("ref", ref, f"set back to {above[0][0].hex()}, the newest records that are whole")
        elif not above:
            self.lost.append(Defect("ref", ref, "its records are lost"))
            if (value := self._value(ref)) is not None and value != first:
                self.history.refs.update(ref, value)
                self.said("ref", ref, f"set to {value.hex()}")
            else:
                self.history.refs.delete(ref)

    def _drop(self, ref: str) -> None:
        """A ref that holds a snapshot which is lost: gone are a note, or the way back from an operation.

        Where only older ones are lost, what undo needs stays: it is less, and may be healed yet.
        """
        at = self.history.refs.read(ref)
        try:
            chain = self.history.chain(self.history.peel(at)) if at else iter(())
            for _ in islice(chain, 2 if ref.startswith(operations.UNDO) else None):
                pass
        except (CorruptionError, NotFoundError):
            self.history.refs.delete(ref)
            self.said("ref", ref, "removed: what it held is lost")

    def _is_complete(self, commit: Commit) -> bool:
        try:
            for mode, oid in self.history.tree(commit.tree).values():
                if mode != MODE_TREE:
                    self.history.blob(oid)
        except (CorruptionError, NotFoundError):
            return False
        return True

    def _mend_meta_ref(self, project: str) -> None:
        ref = META + ref_component(project)
        tip = self.history.tip(project)
        named = self.history.meta_commit(self.history.commit(tip)) if tip else None
        if named and not self.history.objects.contains(named):
            # The next snapshot goes on from the newest that is left.
            named = self._meta(project)
            if named is None:
                self.history.refs.delete(ref)
        if named is None:
            return
        with suppress(GitVaultError):
            held = self.history.refs.read(ref)
            if held and named in self.history.chain(held):
                return
        self.history.refs.update(ref, named)
        self.said("ref", ref, f"set to {named.hex()}, the newest that a snapshot names")


def _named(oid: ObjectId, commit: Commit) -> Commit:
    """The commit saying which snapshot it is, for when it becomes another one."""
    body, trailers = parse_message(commit.message)
    if "Vault-Snapshot" not in dict(trailers):
        trailers.append(("Vault-Snapshot", oid.hex()))
    return replace(commit, message=format_message(body, trailers))
