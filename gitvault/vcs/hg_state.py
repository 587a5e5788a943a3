"""What of a Mercurial checkout exists only here."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.errors import ToolError, ToolFailed
from gitvault.vcs import find, hg, servers
from gitvault.vcs.servers import Server
from gitvault.vcs.state import Asking, Checkout, State

if TYPE_CHECKING:
    from gitvault.vcs.find import Finder

_OPERATIONS = {
    "rebasestate": "rebase",
    "histedit-state": "histedit",
    "graftstate": "graft",
    "unshelverebasestate": "unshelve",
    "shelvedstate": "unshelve",
    "updatestate": "update",
}


def state(checkout: Checkout, finder: Finder, asking: Asking, server: hg.Server = hg.SERVER) -> State:
    """Look at a checkout. What cannot be read is its `trouble`, never raised."""
    try:
        return _state(checkout, finder, asking, server)
    except ToolFailed as error:
        return State(checkout, trouble=f"hg cannot read it: {hg.told(error)}")
    except (ToolError, OSError) as error:
        return State(checkout, trouble=str(error))


def _state(checkout: Checkout, finder: Finder, asking: Asking, server: hg.Server) -> State:
    folder = checkout.path
    own = folder / ".hg"
    remotes = hg.remotes_of(folder)
    # No template writes NUL bytes: fields are lines, and names hold none.
    parents = os.fsdecode(server.ask(folder, "log", "-r", "parents()", "-T", "{node}\\n{branch}\\n")).splitlines()
    listed = [line for line in server.ask(folder, "status", "-mardui0").split(b"\0") if line]
    theirs = Server(folder, "hg", remotes.get("default", ""), hg.built_on(folder, server))
    if asking.probe:
        servers.probe(theirs, asking.now, asking.cache, asking.disk)
    served = servers.served(theirs, asking.now, asking.limit, asking.cache, asked=server)
    lost, alone = served.doubt, hg.shared_of(folder) == own and not find.has_rules(folder)
    revisions = "not public()" if remotes and not lost else "all()"
    label = "{if(activebookmark, activebookmark, if(bookmarks, word(0, bookmarks), branch))}\\n"
    unpushed = Counter(os.fsdecode(server.ask(folder, "log", "-r", revisions, "-T", label)).splitlines())
    conflicts = _conflicts(server.ask(folder, "resolve", "-l")) if (own / "merge").is_dir() else 0
    changed = [line[2:] for line in listed if line[:1] in b"MAR!"]
    top = finder.inner(folder)
    others = [
        line[2:]
        for line in listed
        if line[:1] in b"?I" and not finder.omits(top + line[2:].replace(os.fsencode(os.sep), b"/"), False)
    ]
    operation = next((name for file, name in _OPERATIONS.items() if (own / file).exists()), "")
    return State(
        checkout,
        base=parents[0] if parents else "",
        branch=parents[1] if parents else "",
        modified=len(changed),
        conflicts=conflicts,
        untracked=len(others),
        unpushed=dict(unpushed.most_common()),
        stashes=len(list((own / "shelved").glob("*.patch"))) + _patches(own),
        tags=tuple(line.split(" ", 1)[1] for line in _lines(own / "localtags") if " " in line),
        operation=operation or ("merge" if len(parents) > 2 else ""),
        remotes=tuple(remotes),
        answered=servers.answered(theirs, asking.cache) if remotes else 0,
        trouble=lost,
        local=(*(folder / os.fsdecode(path) for path in (*changed, *others)), *_own_files(own, hg.shared_of(folder))),
        nested=tuple(finder.inside(checkout)),
        beside=served.beside if alone else None,
    )


def _conflicts(listing: bytes) -> int:
    return sum(line.startswith(b"U ") for line in listing.splitlines())


def _patches(own: Path) -> int:
    """Patches of a queue that are not in the history."""
    return len(_lines(own / "patches" / "series")) - len(_lines(own / "patches" / "status"))


def _lines(file: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return [line for line in file.read_text("utf-8", "surrogateescape").splitlines() if line.strip()]
    return []


def _own_files(own: Path, shared: Path) -> list[Path]:
    """The files that say what commits, bookmarks and shelves there are."""
    names = ("dirstate", "branch", "bookmarks", "localtags", "store/00changelog.i", "store/phaseroots")
    found = [place / name for place in dict.fromkeys((own, shared)) for name in names]
    return [file for file in (*found, *sorted((own / "shelved").glob("*"))) if file.is_file()]
