"""Snapshots as git commits in chains: what there is, what it holds, how the next one is recorded.

A snapshot's commit is on `refs/heads/<project>`; its trailers carry what git has no field for (see commits.py), and
`Vault-Meta:` names the commit of the parallel chain `refs/vault/meta/<project>` (see meta.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gitvault.core.models import ObjectId, Problem, SnapshotId
from gitvault.core.utils.files import Disk
from gitvault.core.utils.names import from_ref_component, ref_component, to_line, tree_name
from gitvault.core.versioning import commits
from gitvault.core.versioning.objects import (
    Commit,
    Signature,
    decode_commit,
    decode_tree,
    encode_commit,
    encode_tag,
    encode_tree,
    tagged,
)
from gitvault.core.versioning.odb import ObjectStore
from gitvault.core.versioning.refs import RefStore
from gitvault.errors import CorruptionError, GitVaultError, NotFoundError

if TYPE_CHECKING:
    from gitvault.core.models import Difference, Entry, Filter, Pointer, Snapshot
    from gitvault.core.versioning.packfile import NewPack, PackWriter

HEADS = "refs/heads/"
META = "refs/vault/meta/"
OPERATIONS = "refs/vault/operations"
LOST = "refs/vault/lost"
NO_OBJECT = ObjectId(bytes(20))
# A longer blob is no git-lfs pointer.
_POINTER_MAX = 1024

Damaged = Callable[[Problem], None]
"""Told what of a snapshot can only be given as git's trees alone know it."""


@dataclass(frozen=True, slots=True)
class Details:
    """What is said about a snapshot when it is recorded. Blanks around tags, keys and values are no part of them.

    Raises GitVaultError for an empty tag, and for a key that is empty or holds `=`.
    """

    project: str
    message: str
    time: datetime
    files: int
    bytes: int
    tags: Sequence[str] = ()
    metadata: Mapping[str, str] | None = None
    trigger: str = "manual"
    restored_from: SnapshotId | None = None
    host: str = ""
    """Where it was taken; empty: on this machine."""

    def __post_init__(self) -> None:
        tags = tuple(dict.fromkeys(tag.strip() for tag in self.tags))
        metadata = {key.strip(): value.strip() for key, value in (self.metadata or {}).items()}
        if "" in tags:
            raise GitVaultError("a tag cannot be empty; give a word")
        for key in metadata:
            if not key or "=" in key:
                raise GitVaultError(f"{key!r}: not a key of metadata; give one that is not empty and holds no =")
        object.__setattr__(self, "tags", tags)
        object.__setattr__(self, "metadata", metadata)


class Recorded(NamedTuple):
    """A snapshot whose commits are in a pack and whose refs have not moved yet."""

    project: str
    commit: ObjectId
    meta: ObjectId
    parent: ObjectId | None


class _Index(NamedTuple):
    """Where a project's snapshots are; not `whole`: its chain is damaged, older ones cannot be reached."""

    commits: Mapping[SnapshotId, ObjectId]
    whole: bool


class GitHistory:
    """The snapshots in a bare repository. A VersionTracker.

    `name`, `email`: who commits. `host`: this machine's name. `now`: the clock. `decode_pointer`: the pointer that a
    blob is, for files of which the meta chain says nothing. `guard`: see RefStore.
    """

    def __init__(
        self,
        git_dir: Path,
        *,
        name: str = "gitvault",
        email: str = "gitvault@localhost",
        host: str = "",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        disk: Disk | None = None,
        decode_pointer: Callable[[bytes], Pointer | None] = lambda _: None,
        guard: Callable[[], None] = lambda: None,
    ) -> None:
        self.git_dir = git_dir
        self.disk = disk or Disk()
        self.refs = RefStore(git_dir, self.disk, guard)
        self.objects = ObjectStore(git_dir / "objects")
        self._who = (name, email)
        self._host = host
        self._now = now
        self.decode_pointer = decode_pointer
        self._indexes: dict[str, tuple[ObjectId, _Index]] = {}

    def close(self) -> None:
        """Close the pack files."""
        self.objects.close()

    # -- reading ---------------------------------------------------------------------------------

    def projects(self) -> list[str]:
        """The names of projects that have a snapshot."""
        return sorted(from_ref_component(ref[len(HEADS) :]) for ref in self.refs.list(HEADS))

    def headless(self) -> dict[str, ObjectId]:
        """The projects with a meta ref and no branch, with what the former holds: the latter is lost.

        Or a run was killed between the two: then the commit of the meta chain is the project's first.
        """
        held = self.refs.list(META)
        components = held.keys() - {META + ref[len(HEADS) :] for ref in self.refs.list(HEADS)}
        return {from_ref_component(ref[len(META) :]): held[ref] for ref in sorted(components)}

    def tip(self, project: str) -> ObjectId | None:
        """The newest snapshot's commit."""
        return self.refs.read(HEADS + ref_component(project))

    def commit(self, commit: ObjectId) -> Commit:
        """Read a commit. Raises NotFoundError, CorruptionError."""
        kind, data = self.objects.read(commit)
        if kind != b"commit":
            raise NotFoundError(f"{commit.hex()} is a {kind.decode()}, not a snapshot; git-vault log lists snapshots")
        return decode_commit(data)

    def peel(self, oid: ObjectId) -> ObjectId:
        """What an annotated tag leads to; any other object is its own answer. Raises NotFoundError, CorruptionError."""
        while True:
            kind, data = self.objects.read(oid)
            if kind != b"tag":
                return oid
            oid = tagged(oid, data)

    def get_version(self, snapshot: SnapshotId) -> Snapshot:
        """See VersionTracker."""
        at = self.locate(snapshot)
        return commits.snapshot(at, self.commit(at))

    def get_latest_version(self, project: str) -> Snapshot | None:
        """See VersionTracker."""
        tip = self.tip(project)
        return commits.snapshot(tip, self.commit(tip)) if tip else None

    def chain(self, commit: ObjectId) -> Iterator[ObjectId]:
        """The commit and its ancestors, newest first."""
        at: ObjectId | None = commit
        while at:
            yield at
            parents = self.commit(at).parents
            at = parents[0] if parents else None

    def list_versions(self, project: str) -> Iterator[Snapshot]:
        """See VersionTracker."""
        return (commits.snapshot(oid, commit) for oid, commit in self.walk(self.tip(project)))

    def walk(self, tip: ObjectId | None) -> Iterator[tuple[ObjectId, Commit]]:
        """A commit and its ancestors, read, newest first. Raises NotFoundError, CorruptionError."""
        while tip:
            commit = self.commit(tip)
            yield tip, commit
            tip = commit.parents[0] if commit.parents else None

    def identify(self, commit: ObjectId) -> SnapshotId:
        """The id of the snapshot that a commit stands for; damage leaves the commit's own."""
        if self.has_rewritten():
            with suppress(CorruptionError, NotFoundError):
                return commits.identity(commit, self.commit(commit))
        return SnapshotId(commit.hex())

    def locate(self, snapshot: SnapshotId) -> ObjectId:
        """The commit that stands for a snapshot now, given its id or that of any commit that ever did.

        Chains are walked only where an operation has ever rewritten one. Raises NotFoundError.
        """
        at = raw(snapshot)
        if not self.has_rewritten():
            return at
        said: Snapshot | None = None
        with suppress(CorruptionError, NotFoundError):
            said = commits.snapshot(at, self.commit(at))
            if said.project and self.tip(said.project) == at:
                return at
        whole = True
        for project in sorted(self.projects(), key=lambda name: said is None or name != said.project):
            index = self.index(project)
            if found := index.commits.get(said.id if said else snapshot):
                return found
            whole = whole and index.whole
        if said and not whole:
            # It may be one of those that cannot be reached.
            return at
        raise NotFoundError(f"{snapshot}: no such snapshot, or no longer; git-vault log and git-vault op log tell")

    def has_rewritten(self) -> bool:
        """Whether a commit may stand for a snapshot that had another one before."""
        try:
            return any(self.refs.read(ref) is not None for ref in (OPERATIONS, LOST))
        except CorruptionError:
            return True

    def index(self, project: str) -> _Index:
        """Which commit stands for each of the project's snapshots, as far as its chain can be read."""
        tip = self.tip(project)
        known = self._indexes.get(project)
        if not tip or not known or known[0] != tip:
            found: dict[SnapshotId, ObjectId] = {}
            whole = True
            try:
                for oid, commit in self.walk(tip):
                    found.setdefault(commits.identity(oid, commit), oid)
            except (CorruptionError, NotFoundError):
                whole = False
            known = tip or NO_OBJECT, _Index(found, whole)
            self._indexes[project] = known
        return known[1]

    def filtered(self, wanted: Filter) -> list[Snapshot]:
        """The snapshots that fit, newest first, of all projects or one."""
        from heapq import merge

        projects = self.projects() if wanted.project is None else [wanted.project]
        projects = [project for project in projects if not wanted.projects or project in wanted.projects]
        # Merged as they are read: the ten newest of 20,000 cost ten.
        chains = (self.list_versions(project) for project in projects)
        merged = merge(*chains, key=lambda snapshot: snapshot.time, reverse=True)
        return list(islice((s for s in merged if _fits(s, wanted)), wanted.limit))

    def meta_commit(self, commit: Commit) -> ObjectId | None:
        """The commit of the meta chain that a snapshot names; None for a commit made by other tools."""
        return commits.meta_commit(commit)

    def trees(self, snapshot: SnapshotId, damaged: Damaged | None = None) -> tuple[ObjectId, ObjectId | None]:
        """The snapshot's tree and its tree in the meta chain.

        `damaged` is told when the latter cannot be had, and there is None; else that is raised.
        """
        return self.trees_of(self.commit(self.locate(snapshot)), damaged)

    def trees_of(self, commit: Commit, damaged: Damaged | None = None) -> tuple[ObjectId, ObjectId | None]:
        """The same, of a snapshot whose commit is read already."""
        named = self.meta_commit(commit)
        try:
            return commit.tree, self.commit(named).tree if named else None
        except (CorruptionError, NotFoundError) as error:
            tell_lost(damaged, b"", error)
            return commit.tree, None

    def tree(self, oid: ObjectId | None) -> dict[bytes, tuple[int, ObjectId]]:
        """A tree's entries by their names in git; empty for None."""
        if not oid or oid == NO_OBJECT:
            return {}
        kind, data = self.objects.read(oid)
        if kind != b"tree":
            raise CorruptionError(f"{oid.hex()}: expected a tree, found a {kind.decode()}; run git-vault verify")
        return {name: (mode, entry) for name, mode, entry in decode_tree(data)}

    def blob(self, oid: ObjectId) -> bytes:
        """A blob's content."""
        kind, data = self.objects.read(oid)
        if kind != b"blob":
            raise CorruptionError(f"{oid.hex()}: expected a blob, found a {kind.decode()}; run git-vault verify")
        return data

    def pointer_at(self, blob: ObjectId) -> Pointer | None:
        """The pointer that a blob is, of a file of which no attributes tell. Raises CorruptionError, NotFoundError."""
        return self.decode_pointer(self.blob(blob)) if self.objects.size(blob) <= _POINTER_MAX else None

    def entries(
        self, snapshot: SnapshotId, path: bytes = b"", *, recursive: bool = True, damaged: Damaged | None = None
    ) -> Iterator[Entry]:
        """See VersionTracker. Not `recursive`: the folder's own entries only. `damaged`: see contents.listing."""
        from gitvault.core.versioning import contents

        return contents.entries(self, snapshot, path, recursive=recursive, damaged=damaged)

    def blob_at(self, commit: Commit, path: bytes) -> ObjectId | None:
        """What the commit's tree holds at a path; None when there is nothing. Reads the trees above it only."""
        at: ObjectId | None = commit.tree
        for part in path.split(b"/"):
            tree = self.tree(at)
            found = tree.get(tree_name(part)) or tree.get(tree_name(part, force=True))
            if found is None:
                return None
            at = found[1]
        return at

    def read(self, snapshot: SnapshotId, path: bytes) -> bytes:
        """See VersionTracker. The meta chain's damage is no matter."""
        from gitvault.core.versioning import contents

        return self.blob(contents.find_file(self, snapshot, path, lambda _: None).blob)

    def compare(self, a: SnapshotId, b: SnapshotId) -> Difference:
        """See VersionTracker."""
        from gitvault.core.versioning.difference import compare

        return compare(self.tree, self.commit(self.locate(a)).tree, self.commit(self.locate(b)).tree)

    def resolve(self, name: str) -> SnapshotId:
        """The snapshot that a person means, see naming.py. Raises NotFoundError, AmbiguousError."""
        from gitvault.core.versioning.naming import resolve

        return self.identify(resolve(self, name, self._now()))

    # -- writing ---------------------------------------------------------------------------------

    def new_pack(self) -> PackWriter:
        """A pack being written, outside of what git sees."""
        from gitvault.core.versioning.packfile import PackWriter

        folder = self.git_dir / "tmp"
        self.disk.make_folder(folder)
        return PackWriter(folder, self.disk)

    def record(
        self,
        pack: PackWriter,
        tree: ObjectId,
        meta_tree: ObjectId,
        details: Details,
        after: Recorded | None = None,
    ) -> Recorded:
        """Add a snapshot's two commits to the pack; refs stay where they are.

        `after`: the snapshot that it follows, when that is not the project's newest yet.
        """
        parent: ObjectId | None
        before: ObjectId | None
        if after:
            parent, before = after.commit, after.meta
        else:
            parent = self.tip(details.project)
            before = self.meta_commit(self.commit(parent)) if parent else None
        said = to_line(details.project.encode("utf-8", "surrogateescape"))
        meta_commit = pack.add(b"commit", self._commit(meta_tree, before, details.time, f"Attributes of {said}\n"))
        message = commits.message(details, meta_commit, details.host or self._host)
        commit = pack.add(b"commit", self._commit(tree, parent, details.time, message))
        return Recorded(details.project, commit, meta_commit, parent)

    def _commit(self, tree: ObjectId, parent: ObjectId | None, time: datetime, message: str) -> bytes:
        offset = time.astimezone().utcoffset() or timedelta()
        who = Signature(*self._who, int(time.timestamp()), int(offset.total_seconds()) // 60)
        return encode_commit(Commit(tree, (parent,) if parent else (), who, who, message))

    def publish(self, packs: Iterable[NewPack]) -> None:
        """Make packs, and whatever an earlier run renamed into place, visible and durable."""
        from gitvault.core.versioning.packfile import publish

        folder = self.git_dir / "objects" / "pack"
        for pack in packs:
            publish(pack, folder, self.disk)
        # Also when nothing was written: a run killed after its rename left a name that no sync covers.
        self.disk.sync_folder(folder)
        self.objects.refresh()

    def advance(self, recorded: Recorded) -> None:
        """Move the meta ref, then the branch: the commit point. Durable when it returns."""
        component = ref_component(recorded.project)
        self.refs.update(META + component, recorded.meta)
        self.keep_head(HEADS + component)
        self.refs.update(HEADS + component, recorded.commit, old=recorded.parent)

    def keep_head(self, ref: str) -> None:
        """Let HEAD name a branch that is about to be made, unless it names one that exists: a clone checks that out."""
        try:
            head = self.refs.head()
            exists = head is not None and self.refs.read(head) is not None
        except GitVaultError:
            # Damaged: the snapshot is saved, and HEAD is no more than a default.
            exists = False
        if not exists:
            self.refs.set_head(ref)

    def read_file(self, ref: str, name: bytes) -> bytes:
        """A file of the newest commit on a ref that holds records; empty when there is no such ref or file."""
        at = self.refs.read(ref)
        found = self.tree(self.commit(at).tree).get(name) if at else None
        return self.blob(found[1]) if found else b""

    def write_file(self, ref: str, name: bytes, content: bytes, why: str) -> None:
        """Replace a file of a ref that holds records, as a commit; durable when it returns."""
        self.write_ref(ref, self.refs.read(ref), lambda pack: self.add_file(pack, ref, name, content, why)[1])

    def write_ref(self, ref: str, old: ObjectId | None, make: Callable[[PackWriter], ObjectId]) -> ObjectId:
        """Move a ref to what `make` adds to a pack, durable when it returns.

        Raises LockedError when the ref is not at `old`; what `make` raises, and nothing is written.
        """
        pack = self.new_pack()
        try:
            new = make(pack)
            made = pack.finish()
        except BaseException:
            pack.abandon()
            raise
        self.publish([made] if made else [])
        self.refs.update(ref, new, old=old)
        return new

    def add_file(
        self, pack: PackWriter, ref: str, name: bytes, content: bytes, why: str
    ) -> tuple[ObjectId | None, ObjectId]:
        """Add to the pack a commit for a ref that holds records; the ref's value, which it has as parent, and it."""
        parent = self.refs.read(ref)
        files = self.tree(self.commit(parent).tree) if parent else {}
        files[name] = 0o100644, pack.add(b"blob", content)
        tree = pack.add(b"tree", encode_tree((n, mode, oid) for n, (mode, oid) in files.items()))
        return parent, self.add_commit(pack, tree, parent, why)

    def add_commit(self, pack: PackWriter, tree: ObjectId, parent: ObjectId | None, why: str) -> ObjectId:
        """Add to the pack a commit of now."""
        return pack.add(b"commit", self._commit(tree, parent, self._now(), why + "\n"))

    def add_tag(self, pack: PackWriter, commit: ObjectId, name: str, text: str, now: datetime) -> ObjectId:
        """Add to the pack an annotated tag. `name`: what follows `refs/tags/`; `text`: with its trailers."""
        offset = now.astimezone().utcoffset() or timedelta()
        who = Signature(*self._who, int(now.timestamp()), int(offset.total_seconds()) // 60)
        return pack.add(b"tag", encode_tag(commit, name, who, text))

    def sync_tip(self, project: str) -> None:
        """Make durable the refs that an interrupted run may have moved without a folder sync."""
        for prefix in (META, HEADS):
            folder = self.git_dir / prefix
            if folder.is_dir():
                self.disk.sync_folder(folder)

    def create_version(
        self, project: str, files: Mapping[bytes, bytes], *, message: str = "", tags: Sequence[str] = ()
    ) -> SnapshotId:
        """See VersionTracker."""
        from gitvault.core.versioning import contents

        now = self._now()
        pack = self.new_pack()
        try:
            tree, meta_tree = contents.add_files(pack, files, int(now.timestamp()) * 1_000_000_000)
            details = Details(
                project, message or f"Snapshot of {project}", now, len(files), sum(map(len, files.values())), tags
            )
            recorded = self.record(pack, tree, meta_tree, details)
            made = pack.finish()
        except BaseException:
            pack.abandon()
            raise
        self.publish([made] if made else [])
        self.advance(recorded)
        return SnapshotId(recorded.commit.hex())


def raw(snapshot: SnapshotId) -> ObjectId:
    """An id as bytes. Raises NotFoundError for what is no id."""
    try:
        return ObjectId(bytes.fromhex(snapshot))
    except ValueError:
        raise NotFoundError(f"{snapshot}: not a snapshot id; git-vault log lists them") from None


def tell_lost(damaged: Damaged | None, path: bytes, error: GitVaultError) -> None:
    """Tell of attributes that are lost; call where the error was caught, who does not listen gets that."""
    if damaged is None:
        raise error
    damaged(Problem(path, f"attributes lost: {error}"))


def _fits(snapshot: Snapshot, wanted: Filter) -> bool:
    return (
        wanted.tags <= set(snapshot.tags)
        and wanted.metadata.items() <= dict(snapshot.metadata).items()
        and (wanted.since is None or snapshot.time >= wanted.since)
        and (wanted.until is None or snapshot.time <= wanted.until)
    )
