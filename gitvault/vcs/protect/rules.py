"""Which files of a project need not be stored, for version control protects them: rules around those of the project."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gitvault.core.backup_engine.trees import Attachment
from gitvault.core.interfaces import Rules, Scope
from gitvault.core.models import PROTECTED, ObjectId
from gitvault.core.versioning.history import GitHistory
from gitvault.errors import CorruptionError, NotFoundError
from gitvault.vcs import hg, lean
from gitvault.vcs.carried import Carried, Left
from gitvault.vcs.find import MARKERS, checkout_at
from gitvault.vcs.protect import record, repository
from gitvault.vcs.protect.checkout import Checkout
from gitvault.vcs.protect.record import Attached
from gitvault.vcs.protect.repository import NotProtected
from gitvault.vcs.protect.tracked import TrackedCache
from gitvault.vcs.remotes import Standing
from gitvault.vcs.servers import Server

_MARKER = ".git"
_SEPARATOR = os.fsencode(os.sep)
_MARKERS = (b".git", b".hg", b".svn")


def of_mode(
    mode: str,
    root: str,
    inner: Rules,
    *,
    history: GitHistory,
    tip: ObjectId | None,
    standing: Callable[[str], Standing],
    doubt: Callable[[Server], str],
) -> Rules:
    """The rules of a project at `root` with a mode, around those it has anyway. `tip`: the last snapshot's commit."""
    if mode == "full":
        return inner
    if mode == "ignore-vcs":
        return WithoutRepositories(inner)
    return Protecting(root, inner, history=history, tip=tip, standing=standing, doubt=doubt)


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
        standing: Callable[[str], Standing],
        doubt: Callable[[Server], str],
        asked: hg.Server = hg.SERVER,
    ) -> None:
        self._root = root
        self._inner = inner
        self._history = history
        self._tip = tip
        self._standing = standing
        self._doubt = doubt
        self._asked = asked
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
        """See Rules. All of them: what the index names and a folder does not hold was deleted."""
        return list(names)

    def scope(self, path: bytes, marks: Sequence[str], outer: Scope | None) -> Scope:
        """See Rules."""
        around = outer if isinstance(outer, _WorkTree) else None
        if path in self._omitted or isinstance(outer, _InRepository):
            return _InRepository(frozenset(self._omitted.get(path, ())))
        inner = self._inner.scope(path, self._inner.marks(marks), around.inner if around else None)
        name = path.rpartition(b"/")[2]
        inside = [(one, at + b"/" + name if at else name) for one, at in around.inside] if around else []
        markers = [name for name in marks if name in MARKERS and not inner.omits(os.fsencode(name), True)]
        if _MARKER in markers:
            if git := self._checkout(path):
                inside.append((git, b""))
        elif markers and (carried := self._carrying(path, markers)):
            inside.append((carried, b""))
        for checkout, at in inside:
            checkout.seen(at, marks)
        return _WorkTree(inner, inside, self._left.get(path, Left()))

    def _carrying(self, path: bytes, markers: Sequence[str]) -> Carried | None:
        if path in self._carried:
            return self._carried[path]
        folder = Path(self._root, os.fsdecode(path))
        checkout = checkout_at(folder, markers)
        if checkout is None:
            self._carried[path] = None
            return None
        made = self._carried[path] = Carried(
            path,
            checkout,
            previous=self._carried_before.get(path),
            history=self._history,
            cache=TrackedCache(self._history.git_dir / "cache", os.fspath(folder), self._history.disk),
            asked=self._asked,
            doubt=self._doubt,
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
            cache=TrackedCache(self._history.git_dir / "cache", folder, self._history.disk),
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

    def attachments(self) -> Iterator[Attachment]:
        """What the snapshot says of the checkouts; see `take_snapshot`."""
        for number, checkout in enumerate(self.checkouts):
            for name, content in checkout.attachments():
                yield b"%d/%s" % (number, name), content
        for number, carried in enumerate(self.carried):
            for name, content in carried.attachments():
                yield b"%s%d/%s" % (carried.vcs.encode(), number, name), content

    def notes(self) -> list[str]:
        """What people are to know, after the attachments; each once."""
        said = [note for checkout in self.checkouts for note in checkout.note()]
        said += [note for carried in self.carried for note in carried.note()]
        return list(dict.fromkeys(said))


@dataclass(slots=True)
class _WorkTree:
    """A folder that lies in no repository's own, and in no checkout or some, the outermost first. A Scope."""

    inner: Scope
    inside: list[tuple[Checkout | Carried, bytes]]
    """With the folder's path in each."""
    left: Left
    late: bool = False

    @property
    def digest(self) -> bytes:
        if not self.inside:
            return self.inner.digest
        parts = b"".join([checkout.digest(at) for checkout, at in self.inside]) + self.left.digest
        # Where a look may have been late, the next one has to be taken: nothing else has this digest.
        return self.inner.digest + parts + b"late" * self.late

    def omits(self, name: bytes, is_folder: bool) -> str:
        if name == b".git" and any(not at for _, at in self.inside):
            return ""
        if self.left.omits(name):
            return f"{PROTECTED}its server: it has this, or it is made again"
        for checkout, at in () if is_folder else self.inside:
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
