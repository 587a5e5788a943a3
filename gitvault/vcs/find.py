"""Which checkouts a folder holds, told by their markers, and which of its files belong to none."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from gitvault.core.beside import Beside
from gitvault.core.utils.files import list_source, scan_source

if TYPE_CHECKING:
    from gitvault.core.interfaces import Rules, Scope
    from gitvault.vcs.state import Checkout

MARKERS = {
    ".git": "git",
    ".hg": "hg",
    ".svn": "svn",
    ".fslckout": "fossil",
    "_FOSSIL_": "fossil",
    ".plastic": "plastic",
    ".p4config": "perforce",
    "p4config.txt": "perforce",
    ".p4root": "perforce",
}
"""The entry that makes a folder a checkout, and of what."""


def checkout_at(folder: Path, names: Iterable[str] | None = None) -> Checkout | None:
    """The checkout or bare repository that a folder is. `names`: its entries, when they are known."""
    if names is None:
        try:
            names = list_source(folder)
        except OSError:
            return None
    present = set(names)
    if not present & {*MARKERS, "HEAD"}:
        return None
    from gitvault.vcs.state import Checkout

    for marker, vcs in MARKERS.items():
        if marker in present:
            return Checkout(folder, vcs)
    if {"HEAD", "objects", "refs"} <= present and (folder / "objects").is_dir() and (folder / "HEAD").is_file():
        return Checkout(folder, "git", bare=True)
    return None


def has_remotes(folder: Path) -> bool:
    """Whether it is a checkout of a kind whose remotes can be asked; the folder itself is not read."""
    return any((folder / marker).exists() for marker in (".git", ".hg", ".svn"))


def places(around: Path, urls: Iterable[str]) -> Beside:
    """Those of some URLs, or paths from a folder on, that are places of this machine: whether something is there."""
    paths = (unquote(url.removeprefix("file://")) for url in urls)
    return Beside(frozenset(os.path.normpath(around / path) for path in paths if "://" not in path))


def has_rules(folder: Path) -> bool:
    """Whether a checkout has rules of its own: what is tracked may be left out then, and no watcher tells of it."""
    return (folder / ".gitvault.toml").exists()


class Finder:
    """Looks through a project, leaving out what the vault's rules leave out. For one thread.

    Paths are relative to the project's root, as everywhere inside a vault.
    """

    def __init__(self, root: Path, rules: Rules) -> None:
        self.root = root
        self._rules = rules
        self._scopes: dict[bytes, Scope] = {}
        self._omitted: dict[bytes, bool] = {}

    def omits(self, path: bytes, is_folder: bool) -> bool:
        """Whether the rules leave out a path or a folder it is in."""
        parent, _, name = path.rpartition(b"/")
        return bool(path) and (self._beneath_omitted(parent) or bool(self._scope(parent).omits(name, is_folder)))

    def look(self, path: bytes = b"") -> Iterator[bytes | Checkout]:
        """The files below a folder that are in no checkout, and the checkouts, which are not looked into."""
        pending = [path]
        while pending:
            at = pending.pop()
            folder = self._full(at)
            try:
                with scan_source(folder) as listed:
                    entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in listed]
            except OSError:
                continue
            names = [name for name, _ in entries]
            if found := checkout_at(folder, names):
                yield found
                continue
            scope = self._scope(at, names)
            prefix = at + b"/" if at else b""
            for text, is_folder in entries:
                name = os.fsencode(text)
                if scope.omits(name, is_folder):
                    continue
                if is_folder:
                    pending.append(prefix + name)
                else:
                    yield prefix + name

    def inner(self, folder: Path) -> bytes:
        """A folder's path inside the project with a slash behind it; b"" for the project's own."""
        relative = os.path.relpath(folder, self.root)
        return b"" if relative == "." else os.fsencode(relative).replace(os.fsencode(os.sep), b"/") + b"/"

    def inside(self, checkout: Checkout) -> Iterator[Checkout]:
        """The checkouts within one, of a kind that does not tell of them itself."""
        top = self.inner(checkout.path)
        with contextlib.suppress(OSError):
            for name in sorted(list_source(checkout.path)):
                path = top + os.fsencode(name)
                full = checkout.path / name
                if name in MARKERS or full.is_symlink() or not full.is_dir() or self.omits(path, True):
                    continue
                yield from (found for found in self.look(path) if not isinstance(found, bytes))

    def _beneath_omitted(self, folder: bytes) -> bool:
        # Asked for every file of a folder: the answer is kept with the folder's scope.
        if not folder:
            return False
        if folder not in self._omitted:
            self._omitted[folder] = self.omits(folder, True)
        return self._omitted[folder]

    def _scope(self, path: bytes, names: list[str] | None = None) -> Scope:
        if path not in self._scopes:
            outer = self._scope(path.rpartition(b"/")[0]) if path else None
            if names is None:
                names = []
                with contextlib.suppress(OSError):
                    names = list_source(self._full(path))
            self._scopes[path] = self._rules.scope(path, self._rules.marks(names), outer)
        return self._scopes[path]

    def _full(self, path: bytes) -> Path:
        return self.root / os.fsdecode(path) if path else self.root
