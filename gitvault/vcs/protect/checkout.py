"""One git checkout while a project is walked: which of its files git protects, and what the snapshot says of it.

A file is protected when its bytes, as they are on the disk, are those of the blob that the index names (see
`worktree`). The blob is then either reachable from a remote's branch or attached to the snapshot.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.core.backup_engine.trees import Attachment, Stored, Walked
from gitvault.core.beside import Beside
from gitvault.core.models import PROTECTED
from gitvault.core.utils.names import to_line
from gitvault.core.versioning import index
from gitvault.core.versioning.indexed import Indexed, Indexes
from gitvault.errors import GitVaultError
from gitvault.vcs import git
from gitvault.vcs.protect import record, repository
from gitvault.vcs.protect.memory import Memory
from gitvault.vcs.protect.record import Attached, Part, Record
from gitvault.vcs.protect.repository import NotProtected, Repository, State
from gitvault.vcs.protect.worktree import WorkTree

if TYPE_CHECKING:
    from gitvault.vcs.remotes import Standing

# A kind of repository that older gits do not know either.
_OTHER_KIND = re.compile(rb"(?im)^[ \t]*(?:objectformat\s*=\s*(?!sha1\b)\w|refstorage\s*=\s*(?!files\b)\w)")
# Objects that no remote has are packed anew up to here; of more only what came since is added, some times.
_ANEW_UP_TO = 1 << 20
_PARTS_MAX = 12
_TRACKING = "refs/remotes/"


@dataclass(frozen=True, slots=True)
class _Local:
    """What of a repository no remote has."""

    remotes: dict[str, str]
    relied: dict[str, str]
    parts: tuple[tuple[Part, bytes | None], ...]
    """Each with its pack; None where the last snapshot has it, under the same number."""


class Checkout:
    """A checkout in the folder `path` of the project at `root`.

    `previous`: how the last snapshot holds it. `indexes`: reads its index. `standing`: tells what a repository's
    remotes hold. `memory`: of repositories that are as they were.
    """

    def __init__(
        self,
        root: str,
        path: bytes,
        where: Repository,
        *,
        previous: Attached | None,
        indexes: Indexes,
        memory: Memory,
        standing: Callable[[str, git.Refs], Standing],
    ) -> None:
        self._root = root
        self.path = path
        self.repository = where
        self.folder = os.path.join(root, os.fsdecode(path)) if path else root
        self.git_dir = _inside(root, where.git_dir)
        self.common_dir = _inside(root, where.common_dir)
        self.full = ""
        self._tree = WorkTree(self.folder, path, indexes.read(""))
        self.notes: list[str] = []
        self._previous = previous
        self._standing = standing
        self._state = State("", {}, ())
        self._local = _Local({}, {}, ())
        self._beside: Beside | None = None
        self._memory = memory
        self._stamp = b""
        self._read_ns = 0
        try:
            self._read(indexes)
        except (GitVaultError, OSError) as error:
            self._tree = WorkTree(self.folder, path, indexes.read(""))
            self._store_in_full(str(error))

    @property
    def tracked(self) -> Indexed:
        """What its index says."""
        return self._tree.tracked

    # -- what it is ------------------------------------------------------------------------------

    def _read(self, indexes: Indexes) -> None:
        if _OTHER_KIND.search(repository.read(os.path.join(self.repository.common_dir, "config"))):
            raise NotProtected("its repository is of a kind that is not known here (SHA-256 or reftable)")
        index_file = os.path.join(self.repository.git_dir, "index")
        self._tree = WorkTree(self.folder, self.path, indexes.read(index_file))
        self._read_ns = time.time_ns()
        self._stamp = repository.stamp(self.repository)
        known = self._previous.record if self._previous else None
        if known and not known.full and (beside := self._memory.beside(self.repository.git_dir, known.state)):
            self._read_ns, self._beside = 0, beside
            self._state = State(known.state, {known.branch: known.base} if known.branch else {}, ())
            self._local = _Local(dict(known.remotes), dict(known.relied), tuple((part, None) for part in known.parts))
            return
        refs = self._refs()
        self._state = repository.read_state(self.repository, self.tracked.checksum, refs)
        self._local = self._find_local(self._state, refs, set())

    def _store_in_full(self, reason: str) -> None:
        self.full = reason
        borrowed = os.path.exists(os.path.join(self.repository.objects, "info", "alternates"))
        parts: tuple[tuple[Part, bytes | None], ...] = ()
        if self.git_dir is None or self.common_dir is None or borrowed:
            # Its objects lie elsewhere: no walk of the project finds them.
            try:
                state = repository.read_state(self.repository, b"", self._refs())
                tips = self._tips(state, {})
                packed = repository.pack(self.repository, tips, ())
                parts = ((Part(tuple(sorted(tips)), (), 0), packed),) if packed else ()
            except (GitVaultError, OSError) as error:
                self.notes.append(f"{self._name}: objects outside the project are not saved: {error}")
        self._local = _Local({}, {}, parts)

    @property
    def _name(self) -> str:
        return to_line(self.path) or "."

    def note(self) -> Iterator[str]:
        """What people are to know about it."""
        if self.full:
            yield f"{self._name}: stored in full: {self.full}"
        yield from self.notes

    def _refs(self) -> git.Refs:
        return git.refs_of(Path(self.repository.git_dir))

    def _find_local(self, state: State, refs: git.Refs, more_tips: set[str]) -> _Local:
        standing = self._standing(self.repository.git_dir, refs)
        self._beside = standing.beside
        if doubt := standing.doubt():
            raise NotProtected(doubt)
        relied = standing.holds(state.refs)
        previous = self._previous
        if previous and not more_tips:
            known = previous.record
            if (known.full, known.state, known.relied) == ("", state.key, relied):
                return _Local(dict(known.remotes), relied, tuple((part, None) for part in known.parts))
        remotes = repository.read_remotes(self.repository, self.folder)
        tips = self._tips(state, relied) | more_tips
        without = set(relied.values())
        packed = repository.pack(self.repository, tips, without)
        if len(packed) > _ANEW_UP_TO and previous and (grown := self._grown(previous, tips, without)):
            return _Local(remotes, relied, grown)
        part = Part(tuple(sorted(tips)), tuple(sorted(without)), 0)
        return _Local(remotes, relied, ((part, packed),) if packed else ())

    def _tips(self, state: State, relied: dict[str, str]) -> set[str]:
        heads = repository.existing(self.repository, state.heads)
        tips = {oid for name, oid in state.refs.items() if name not in relied} | heads
        for git_dir in self.repository.git_dirs():
            own = git_dir == self.repository.git_dir
            data = b"" if own else Repository(git_dir, self.repository.common_dir).index()
            entries = self.tracked.entries if own else index.parse(data) if data else []
            tips |= repository.staged(self.repository, git_dir, entries)
        return tips

    def _grown(self, previous: Attached, tips: set[str], without: set[str]) -> tuple[tuple[Part, bytes | None], ...]:
        """The packs of the last snapshot and what came since; nothing where those do not lead to all the rest."""
        parts = previous.record.parts
        known = {oid for part in parts for oid in part.tips}
        relied = {oid for part in parts for oid in part.without} - known
        if not parts or len(parts) >= _PARTS_MAX or repository.existing(self.repository, known) != known:
            return ()
        if not repository.is_within_history(self.repository, relied, without):
            return ()
        packed = repository.pack(self.repository, tips, without | known)
        part = Part(tuple(sorted(tips)), tuple(sorted(without | known)), 0)
        return (*((part, None) for part in parts), *(((part, packed),) if packed else ()))

    # -- while the project is walked -------------------------------------------------------------

    def digest(self, folder: bytes) -> bytes:
        """Changes when what is left out of a folder may, see WorkTree."""
        return self._tree.digest(folder) + bool(self.full).to_bytes()

    def visited(self, folder: bytes) -> None:
        """A walk comes by a folder of the checkout."""
        self._tree.visited(folder)

    def present(self, folder: bytes, name: bytes) -> None:
        """A folder, which a walk looks at, has a file or symlink of this name."""
        self._tree.present(folder, name)

    @property
    def was_met(self) -> bool:
        """Whether a walk came by its top folder."""
        return self._tree.was_met

    def protects(self, folder: bytes, name: bytes) -> tuple[str, bool]:
        """Why a file or symlink need not be stored, empty when it must be; whether a look may be late."""
        if self.full:
            return "", False
        same, late = self._tree.is_base(folder, name)
        return (f"{PROTECTED}git: {self._place()}" if same else ""), late

    def _place(self) -> str:
        head, base = self._head()
        branch = head.removeprefix("refs/heads/") or "a detached HEAD"
        remotes = [name for name, oid in self._local.relied.items() if oid == base and name.startswith(_TRACKING)]
        where = f" and {min(remotes).removeprefix(_TRACKING)}" if remotes else ""
        return f"at {base[:12] or 'no commit yet'} on {branch}{where}"

    def _head(self) -> tuple[str, str]:
        said = repository.read(os.path.join(self.repository.git_dir, "HEAD")).strip()
        if said.startswith(b"ref: "):
            name = os.fsdecode(said[5:])
            return name, self._state.refs.get(name, "")
        return "", said.decode("ascii", "replace")

    # -- what the snapshot says of it ------------------------------------------------------------

    def attachments(self, walked: Walked) -> Iterator[Attachment]:
        """The record and what belongs to it, by the names they are attached under. After the walk."""
        deleted: tuple[bytes, ...] = ()
        if not self.full:
            deleted = self._tree.deleted(walked, self._previous.record.deleted if self._previous else None)
            self._look_again()
        parts = []
        for number, (part, packed) in enumerate(self._local.parts):
            name = record.part_name(number)
            if packed is None and self._previous:
                parts.append(part)
                yield from self._previous.stored(name)
            elif packed:
                cut = list(record.pieces(name, repository.bundle(packed, part.tips, part.without)))
                parts.append(Part(part.tips, part.without, len(cut)))
                yield from cut
        if self.git_dir is None or self.common_dir is None:
            from gitvault.vcs.protect.outside import archived

            archive = archived(self.repository, self.notes, with_index=bool(self.full))
            yield from record.pieces(record.REPOSITORY, archive)
        if not self.full:
            yield from self._index()
        branch, base = "", ""
        with suppress(NotProtected):
            branch, base = self._head()
        if self._read_ns and self._beside and not self.full:
            self._memory.keep(self.repository.git_dir, self._state.key, self._beside | self._own, self._read_ns)
        local = self._local
        yield (
            record.RECORD,
            record.encode(
                Record(
                    self.path,
                    self.git_dir,
                    self.common_dir,
                    self.repository.common_dir,
                    self.full,
                    branch,
                    base,
                    local.remotes,
                    local.relied,
                    deleted,
                    self._state.key,
                    tuple(parts),
                )
            ),
        )

    def beside(self) -> Beside | None:
        """What all this depends on outside of the project; None where that is not known."""
        if self._beside is None:
            return None
        own = self._own.folders
        outside = {place for place in own if _inside(self._root, place) is None}
        files = frozenset(path for path in self._beside.files if _inside(self._root, path) is None)
        return replace(self._beside, files=files, folders=self._beside.folders - own | outside)

    @property
    def _own(self) -> Beside:
        return Beside(folders=frozenset((self.repository.git_dir, self.repository.common_dir)))

    def _index(self) -> Iterator[Attachment]:
        before = [(name, stored.blob) for name, stored in self._previous.stored(record.INDEX)] if self._previous else []
        if [blob for _, blob in before] == list(self.tracked.pieces):
            yield from ((name, Stored(blob)) for name, blob in before)
        else:
            yield from record.pieces(record.INDEX, self.tracked.plain)

    def _look_again(self) -> None:
        """A commit that was made while the walk went on is in the refs that were saved: its objects have to be, too."""
        try:
            if self._stamp and self._stamp == repository.stamp(self.repository):
                return
            refs = self._refs()
            now = repository.read_state(self.repository, self.tracked.checksum, refs)
            if now.key != self._state.key:
                tips = {tip for part, _ in self._local.parts for tip in part.tips}
                tips |= self._tips(self._state, self._local.relied)
                before = repository.existing(self.repository, tips)
                self._read_ns = 0
                self._local = self._find_local(now, refs, before)
                self._state = now
        except (GitVaultError, OSError) as error:
            self.notes.append(f"{self._name}: changed while it was saved ({error}); the next snapshot looks again")


def _inside(root: str, folder: str) -> bytes | None:
    """A folder's path in the project; None when it lies elsewhere."""
    relative = os.path.relpath(folder, root)
    if relative == os.pardir or relative.startswith(os.pardir + os.sep) or os.path.isabs(relative):
        return None
    return b"" if relative == os.curdir else os.fsencode(relative).replace(os.fsencode(os.sep), b"/")
