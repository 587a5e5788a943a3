"""Which files of a project need not be stored, for version control protects them: rules around those of the project."""

from __future__ import annotations

import functools
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.core.backup_engine.trees import Attachment, Stored, Walked
from gitvault.core.beside import Beside
from gitvault.core.interfaces import Rules, Scope
from gitvault.core.models import PROTECTED, ObjectId
from gitvault.core.touched import Touched, is_below
from gitvault.core.versioning.history import GitHistory
from gitvault.core.versioning.indexed import Indexes
from gitvault.errors import CorruptionError, NotFoundError
from gitvault.vcs import hg, lean
from gitvault.vcs.find import MARKERS, checkout_at
from gitvault.vcs.protect import record, repository
from gitvault.vcs.protect.checkout import Checkout
from gitvault.vcs.protect.memory import Memory
from gitvault.vcs.protect.record import Attached
from gitvault.vcs.protect.repository import NotProtected

if TYPE_CHECKING:
    # Most projects are no checkouts: these are imported when one is found.
    from gitvault.vcs.carried import Carried, Left
    from gitvault.vcs.git import Refs
    from gitvault.vcs.remotes import Standing
    from gitvault.vcs.servers import Served, Server

_MARKER = ".git"
_KINDS = frozenset(MARKERS)
_SEPARATOR = os.fsencode(os.sep)
_MARKERS = (b".git", b".hg", b".svn")


def of_mode(
    mode: str,
    root: str,
    inner: Rules,
    *,
    history: GitHistory,
    tip: ObjectId | None,
    standing: Callable[[str, Refs], Standing],
    served: Callable[[Server], Served],
    indexes: Indexes,
    now: float,
) -> Rules:
    """The rules of a project at `root` with a mode, around those it has anyway. `tip`: the last snapshot's commit.

    `now`: in seconds since 1970."""
    if mode == "full":
        return inner
    if mode == "ignore-vcs":
        return WithoutRepositories(inner)
    return Protecting(root, inner, history=history, tip=tip, standing=standing, served=served, indexes=indexes, now=now)


class Protecting:
    """Leaves out what version control protects, and of repositories the objects; `inner` decides about all else. Rules.

    `tip`: the commit of the last snapshot. `standing`: tells what the remotes of a git repository, named by its folder,
    hold; `doubt`: why what the server of an hg or svn checkout had cannot be relied on. `asked`: hg.
    """

    def __init__(
        self,
        root: str,
        inner: Rules,
        *,
        history: GitHistory,
        tip: ObjectId | None,
        standing: Callable[[str, Refs], Standing],
        served: Callable[[Server], Served],
        indexes: Indexes,
        now: float,
        asked: hg.Server = hg.SERVER,
    ) -> None:
        self._root = root
        self._inner = inner
        self._history = history
        self._tip = tip
        self._standing = standing
        self._served = served
        self._asked = asked
        self._indexes = indexes
        self._memory = Memory(history.git_dir / "cache", history.disk, now)
        self._checkouts: dict[bytes, Checkout | None] = {}
        self._carried: dict[bytes, Carried | None] = {}
        """Those that are not git's."""
        self._left: dict[bytes, Left] = {}
        self._omitted: dict[bytes, set[bytes]] = {}
        """What of a repository's folder is not saved as files."""

    @cached_property
    def _previous(self) -> dict[bytes, Attached]:
        try:
            tree = self._history.commit(self._tip).tree if self._tip else None
            return {one.record.path: one for one in record.attached(self._history, tree)}
        except (CorruptionError, NotFoundError):
            # `verify` names it; what it held is stored anew.
            return {}

    @cached_property
    def _carried_before(self) -> dict[bytes, lean.Attached]:
        try:
            tree = self._history.commit(self._tip).tree if self._tip else None
            return {one.path: one for one in lean.attached(self._history, tree)}
        except (CorruptionError, NotFoundError):
            return {}

    @property
    def digest(self) -> bytes:
        """See Rules."""
        return self._inner.digest

    def marks(self, names: Iterable[str]) -> Sequence[str]:
        """See Rules."""
        names = names if isinstance(names, list) else list(names)
        marks = self._inner.marks(names)
        found = _KINDS.intersection(names)
        return [*marks, *sorted(found.difference(marks))] if found else marks

    def scope(self, path: bytes, marks: Sequence[str], outer: Scope | None) -> Scope:
        """See Rules."""
        around = outer if isinstance(outer, _WorkTree) else None
        if isinstance(outer, _InRepository) or path in self._omitted:
            return _InRepository(frozenset(self._omitted.get(path, ())))
        inner = self._inner.scope(path, marks, around.inner if around else None)
        name = path.rpartition(b"/")[2]
        inside = [(one, at + b"/" + name if at else name) for one, at in around.inside] if around else []
        markers = [name for name in marks if name in MARKERS and not inner.omits(os.fsencode(name), True)]
        if _MARKER in markers:
            if git := self._checkout(path):
                inside.append((git, b""))
        elif markers and (carried := self._carrying(path, markers)):
            inside.append((carried, b""))
        for checkout, at in inside:
            checkout.visited(at)
        return _WorkTree(inner, inside, self._left.get(path))

    def _carrying(self, path: bytes, markers: Sequence[str]) -> Carried | None:
        if path in self._carried:
            return self._carried[path]
        folder = Path(self._root, os.fsdecode(path))
        checkout = checkout_at(folder, markers)
        if checkout is None:
            self._carried[path] = None
            return None
        from gitvault.vcs.carried import Carried

        made = self._carried[path] = Carried(
            path,
            checkout,
            previous=self._carried_before.get(path),
            history=self._history,
            indexes=self._indexes,
            asked=self._asked,
            served=self._served,
        )
        self._left |= made.left
        return made

    def _checkout(self, path: bytes) -> Checkout | None:
        if path in self._checkouts:
            return self._checkouts[path]
        folder = os.path.join(self._root, os.fsdecode(path)) if path else self._root
        where = repository.find(folder)
        if where is None:
            self._checkouts[path] = None
            return None
        previous = self._previous.get(path)
        made = Checkout(
            self._root,
            path,
            where,
            previous=previous,
            indexes=self._indexes,
            memory=self._memory,
            standing=self._standing,
        )
        self._checkouts[path] = made
        for place in (made.git_dir, made.common_dir):
            if place is not None:
                self._omitted.setdefault(place, set())
        if made.git_dir is not None and not made.full:
            self._omitted[made.git_dir].add(b"index")
        if made.common_dir is not None:
            # One that is stored in full needs the objects that it shares with others.
            sharing = [one for one in self.checkouts if one.common_dir == made.common_dir]
            if any(one.full for one in sharing):
                self._omitted[made.common_dir].discard(b"objects")
            else:
                self._omitted[made.common_dir].add(b"objects")
        self._others(made)
        return made

    def _others(self, made: Checkout) -> None:
        """Submodules and worktrees have their repositories in this one's, which is walked before they are."""
        prefix = made.path + b"/" if made.path else b""
        for link in made.tracked.links:
            if os.path.lexists(os.path.join(self._root, os.fsdecode(prefix + link), _MARKER)):
                self._checkout(prefix + link)
        with suppress(NotProtected, OSError):
            for git_dir in made.repository.git_dirs():
                marker = os.fsdecode(repository.read(os.path.join(git_dir, "gitdir")).strip())
                folder = os.path.realpath(os.path.dirname(marker)) if marker else ""
                found = repository.find(folder) if folder.startswith(self._root + os.sep) else None
                if found and found.git_dir == git_dir:
                    self._checkout(os.fsencode(os.path.relpath(folder, self._root)).replace(_SEPARATOR, b"/"))

    @property
    def checkouts(self) -> list[Checkout]:
        """Those that the walk has come by."""
        return [one for _, one in sorted(self._checkouts.items()) if one]

    @property
    def carried(self) -> list[Carried]:
        """Those that are not git's."""
        return [one for _, one in sorted(self._carried.items()) if one]

    def widened(self, touched: Touched) -> Touched:
        """See Company. A checkout has its repository elsewhere in the project, perhaps."""
        more = set()
        for path, one in self._previous.items():
            for place in (one.record.git_dir, one.record.common_dir):
                if place is not None and place != (path + b"/.git" if path else b".git") and touched.reaches(place):
                    more.add(path)
        return replace(touched, folders=touched.folders | more) if touched.folders is not None else touched

    def attachments(self, walked: Walked) -> Iterator[Attachment]:
        """See Company. A checkout that nobody touched is as the last snapshot has it."""
        before = _untouched(self._previous, walked)
        for number, (_, files) in enumerate(_with_new(before, self.checkouts, walked)):
            for name, content in files:
                yield b"%d/%s" % (number, name), content
        kinds = {path: one.record.vcs for path, one in self._carried_before.items()}
        kinds |= {one.path: one.vcs for one in self.carried}
        before = _untouched(self._carried_before, walked)
        for number, (path, files) in enumerate(_with_new(before, self.carried, walked)):
            for name, content in files:
                yield b"%s%d/%s" % (kinds[path].encode(), number, name), content

    def beside(self) -> Beside | None:
        """See Company."""
        found = [*(one.beside() for one in self.checkouts), *(one.beside() for one in self.carried)]
        known = [one for one in found if one]
        return functools.reduce(operator.or_, known, Beside()) if len(known) == len(found) else None

    def notes(self) -> list[str]:
        """What people are to know, after the attachments; each once."""
        said = [note for checkout in self.checkouts for note in checkout.note()]
        said += [note for carried in self.carried for note in carried.note()]
        return list(dict.fromkeys(said))


def _untouched(before: Mapping[bytes, Attached | lean.Attached], walked: Walked) -> dict[bytes, Iterable[Attachment]]:
    """What the last snapshot has of checkouts at which nobody looked."""
    return {
        path: [(name, Stored(blob)) for name, blob in one.files.items()]
        for path, one in (before.items() if walked.untouched else ())
        if is_below(path, walked.untouched)
    }


def _with_new(
    found: dict[bytes, Iterable[Attachment]], checkouts: Sequence[Checkout] | Sequence[Carried], walked: Walked
) -> list[tuple[bytes, Iterable[Attachment]]]:
    """The same with what is to be said of those that a walk came by, in order."""
    for checkout in checkouts:
        if checkout.was_met or checkout.path not in found:
            found[checkout.path] = checkout.attachments(walked)
    return sorted(found.items(), key=itemgetter(0))


@dataclass(slots=True)
class _WorkTree:
    """A folder that lies in no repository's own, and in no checkout or some, the outermost first. A Scope."""

    inner: Scope
    inside: list[tuple[Checkout | Carried, bytes]]
    """With the folder's path in each."""
    left: Left | None
    late: bool = False

    @property
    def digest(self) -> bytes:
        if not self.inside:
            return self.inner.digest
        parts = b"".join([checkout.digest(at) for checkout, at in self.inside]) + (
            self.left.digest if self.left else b""
        )
        # Where a look may have been late, the next one has to be taken: nothing else has this digest.
        return self.inner.digest + parts + b"late" * self.late

    def omits(self, name: bytes, is_folder: bool) -> str:
        if name == b".git" and any(not at for _, at in self.inside):
            return ""
        if self.left and self.left.omits(name):
            return f"{PROTECTED}its server: it has this, or it is made again"
        for checkout, at in () if is_folder else self.inside:
            checkout.present(at, name)
            reason, late = checkout.protects(at, name)
            self.late |= late
            if reason:
                return reason
        return self.inner.omits(name, is_folder)


@dataclass(frozen=True, slots=True)
class _InRepository:
    """A folder of a repository. A Scope."""

    omitted: frozenset[bytes]

    @property
    def digest(self) -> bytes:
        return b"repository " + b" ".join(sorted(self.omitted))

    def omits(self, name: bytes, is_folder: bool) -> str:
        if name in self.omitted:
            return "git's own, saved in another form with the checkout"
        if name.endswith(b".lock") or name.startswith(b"fsmonitor--daemon"):
            return "of a git that was running"
        return ""


@dataclass(frozen=True, slots=True)
class WithoutRepositories:
    """Leaves out what version control keeps of its own; `inner` decides about all else. Rules."""

    inner: Rules

    @property
    def digest(self) -> bytes:
        """See Rules."""
        return b"without repositories " + self.inner.digest

    def marks(self, names: Iterable[str]) -> Sequence[str]:
        """See Rules."""
        return self.inner.marks(names)

    def scope(self, path: bytes, marks: Sequence[str], outer: Scope | None) -> Scope:
        """See Rules."""
        around = outer.inner if isinstance(outer, _Files) else None
        return _Files(self.inner.scope(path, marks, around))


@dataclass(frozen=True, slots=True)
class _Files:
    inner: Scope

    @property
    def digest(self) -> bytes:
        return b"without repositories " + self.inner.digest

    def omits(self, name: bytes, is_folder: bool) -> str:
        if name in _MARKERS:
            return "version control's own, left out in the mode ignore-vcs"
        return self.inner.omits(name, is_folder)
