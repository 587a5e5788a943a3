"""What of a Subversion working copy exists only here: by `svn status` and `svn info`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.errors import ToolError, ToolFailed
from gitvault.vcs import find, servers, svn
from gitvault.vcs.find import checkout_at
from gitvault.vcs.servers import Server
from gitvault.vcs.state import Asking, Checkout, State

if TYPE_CHECKING:
    from gitvault.vcs.find import Finder

_SETTINGS = ("~/.subversion/config", "/etc/subversion/config")
_CHANGED = frozenset(("modified", "added", "deleted", "replaced", "missing", "conflicted", "obstructed", "incomplete"))


def state(checkout: Checkout, finder: Finder, asking: Asking) -> State:
    """Look at a working copy. What cannot be read is its `trouble`, never raised."""
    try:
        return _state(checkout, finder, asking)
    except ToolFailed as error:
        return State(checkout, trouble=f"svn cannot read it: {svn.told(error)}")
    except (ToolError, OSError) as error:
        return State(checkout, trouble=str(error))


def _state(checkout: Checkout, finder: Finder, asking: Asking) -> State:
    folder = checkout.path
    about = svn.ask(folder, "info").find("entry")
    url = about.findtext("url", "") if about is not None else ""
    root = about.findtext("repository/root", "") if about is not None else ""
    uuid = about.findtext("repository/uuid", "") if about is not None else ""
    base = about.get("revision", "") if about is not None else ""
    theirs = Server(folder, "svn", root, (base,) if base else (), uuid)
    if asking.probe:
        servers.probe(theirs, asking.now, asking.cache, asking.disk)
    served = servers.served(theirs, asking.now, asking.limit, asking.cache)
    changed: list[Path] = []
    others: list[Path] = []
    nested: list[Checkout] = []
    conflicts = 0
    for entry in svn.ask(folder, "status", "--no-ignore").iter("entry"):
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
    settings = find.places(folder, map(os.path.expanduser, _SETTINGS))
    return State(
        checkout,
        base=base,
        branch=url.removeprefix(root).strip("/"),
        modified=len(changed),
        conflicts=conflicts,
        untracked=len(others),
        stashes=len(list((folder / ".svn" / "experimental" / "shelves").glob("*/*.patch"))),
        remotes=(root,) if root else (),
        answered=servers.answered(theirs, asking.cache),
        trouble=served.doubt,
        local=(*changed, *others),
        nested=tuple(nested),
        beside=None if find.has_rules(folder) else served.beside | settings,
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
