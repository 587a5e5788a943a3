"""Subversion: `svn status` and `svn info`, which run nothing that a working copy names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from gitvault.core.utils import process
from gitvault.errors import ToolError, ToolFailed
from gitvault.vcs import find
from gitvault.vcs.find import checkout_at
from gitvault.vcs.state import Checkout, State

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from gitvault.vcs.find import Finder

_SETTINGS = ("~/.subversion/config", "/etc/subversion/config")
LIMIT = 60.0
"""Seconds that one question may take."""

_CHANGED = frozenset(("modified", "added", "deleted", "replaced", "missing", "conflicted", "obstructed", "incomplete"))


def ask(folder: Path, *arguments: str, timeout: float = LIMIT) -> Element:
    """What svn says in a folder, its XML read. Raises ToolMissing, ToolFailed, ToolTimeout."""
    from xml.etree.ElementTree import ParseError, fromstring

    command = ["svn", arguments[0], "--non-interactive", "--xml", *arguments[1:]]
    try:
        return fromstring(process.run(command, cwd=folder, timeout=timeout))
    except ParseError as error:
        raise ToolFailed(f"svn {arguments[0]}", 0, f"its answer is no XML: {error}") from None


def state(checkout: Checkout, finder: Finder) -> State:
    """Look at a working copy. What cannot be read is its `trouble`, never raised."""
    try:
        return _state(checkout, finder)
    except ToolFailed as error:
        return State(checkout, trouble=f"svn cannot read it: {_told(error)}")
    except (ToolError, OSError) as error:
        return State(checkout, trouble=str(error))


def _told(error: ToolFailed) -> str:
    found = re.search(r"svn: (E\d+: .*)", error.stderr)
    return found[1] if found else str(error)


def _state(checkout: Checkout, finder: Finder) -> State:
    folder = checkout.path
    about = ask(folder, "info").find("entry")
    url = about.findtext("url", "") if about is not None else ""
    root = about.findtext("repository/root", "") if about is not None else ""
    changed: list[Path] = []
    others: list[Path] = []
    nested: list[Checkout] = []
    conflicts = 0
    for entry in ask(folder, "status", "--no-ignore").iter("entry"):
        path = folder / entry.get("path", "")
        status = entry.find("wc-status")
        item = status.get("item", "") if status is not None else ""
        if status is not None and (item in _CHANGED or status.get("props") in ("modified", "conflicted")):
            changed.append(path)
            conflicts += "conflicted" in (item, status.get("props")) or status.get("tree-conflicted") == "true"
        elif item in ("unversioned", "ignored", "external"):
            for inside in _kept(finder, path):
                if isinstance(inside, Checkout):
                    nested.append(inside)
                else:
                    others.append(inside)
    return State(
        checkout,
        base=about.get("revision", "") if about is not None else "",
        branch=url.removeprefix(root).strip("/"),
        modified=len(changed),
        conflicts=conflicts,
        untracked=len(others),
        stashes=len(list((folder / ".svn" / "experimental" / "shelves").glob("*/*.patch"))),
        remotes=(root,) if root else (),
        trouble=gone(root),
        local=(*changed, *others),
        nested=tuple(nested),
        beside=None if find.has_rules(folder) else find.places(folder, (root, *map(os.path.expanduser, _SETTINGS))),
    )


def _kept(finder: Finder, path: Path) -> Iterator[Path | Checkout]:
    """What the vault keeps of an entry that is not under version control."""
    inside = finder.inner(path).rstrip(b"/")
    is_folder = path.is_dir() and not path.is_symlink()
    if finder.omits(inside, is_folder):
        return
    if not is_folder:
        yield path
    elif found := checkout_at(path):
        yield found
    else:
        for one in finder.look(inside):
            yield one if isinstance(one, Checkout) else finder.root / os.fsdecode(one)


def gone(root: str) -> str:
    """Why the repository counts as gone: a folder of this machine that is no longer there."""
    if root.startswith("file:///") and not Path(unquote(root.removeprefix("file://"))).exists():
        return f"its repository is gone: {root}"
    return ""
