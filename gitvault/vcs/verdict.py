"""If this machine were lost now, what would be lost? One answer a project, in a line."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.core.models import Project, SnapshotId
from gitvault.core.stat_cache import StatCache, stat_of
from gitvault.core.utils import dates
from gitvault.core.utils.device import same_device
from gitvault.core.utils.layout import is_within
from gitvault.core.versioning.history import GitHistory
from gitvault.errors import GitVaultError
from gitvault.vcs import git, looked
from gitvault.vcs.looked import Memory
from gitvault.vcs.state import Asking, Checkout, State

if TYPE_CHECKING:
    from gitvault.core.interfaces import Rules
    from gitvault.core.touched import Watch

# Programs at work at a time: they wait for the disk and for remotes more than they compute.
_AT_ONCE = 8
_NAMED = 3
_HG_STORE = os.path.join(".hg", "store")


@dataclass(frozen=True, slots=True)
class Safety:
    """Whether anything of a project exists only on this machine, and what."""

    project: str
    path: str
    vcs: str | None
    """Of the project's folder; of what is in it when that is no checkout itself; None: there is none."""
    safe: bool
    modified: int
    untracked: int
    unpushed_commits: int
    stashes: int
    reason: str
    """The most important in words."""
    checkouts: tuple[State, ...] = ()


@dataclass(frozen=True, slots=True)
class Places:
    """Where to look: parts of a vault."""

    vault: Path
    history: GitHistory
    cache: Callable[[str], StatCache]
    rules: Callable[[Project], Rules]
    is_saved: Callable[[Project], bool]
    """Whether the newest snapshot holds all files of a project as they are now; by looking at each."""
    watch: Callable[[Project], Watch | None]
    """Who can tell what was touched in a project; None also where that says nothing of tracked files."""
    copies: Mapping[str, GitHistory]
    """Other vaults, by their folders."""
    asking: Asking


def verdicts(places: Places, projects: Sequence[Project]) -> list[Safety]:
    """The answer for each project, in their order."""
    memories = [_recall(places, project) for project in projects]
    if all(memory and memory.states is not None for memory in memories):
        found = [(list(memory.states or ()), memory.loose) for memory in memories if memory]
    else:
        # Some 50 modules, with what looks, that an answer from memory does without.
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = list(pool.map(lambda one: _look(places, *one), zip(projects, memories, strict=True)))
    return [_judge(places, project, *one) for project, one in zip(projects, found, strict=True)]


def _recall(places: Places, project: Project) -> Memory | None:
    watch = None if places.asking.probe else places.watch(project)
    return looked.recall(watch, project, places.asking) if watch and watch.answers() else None


def _look(places: Places, project: Project, memory: Memory | None) -> tuple[list[State], int]:
    from gitvault.vcs.look import look

    if memory and memory.states is not None:
        return list(memory.states), memory.loose
    known = memory.known if memory else {}
    states, loose = look(Path(project.path), places.rules(project), places.asking, known)
    if memory:
        looked.keep(memory, project, states, loose, places.asking)
    return states, loose


def _judge(places: Places, project: Project, states: list[State], loose: int) -> Safety:
    root = Path(project.path)
    kinds = sorted({state.checkout.vcs for state in states})
    gone = not root.is_dir()
    safe = not (loose or gone) and all(state.safe for state in states)
    parts = [f"{root}: no such folder"] if gone else []
    if loose:
        parts.append(f"{_count(loose, 'file')} under no version control")
    parts += _parts(root, states)
    if safe:
        parts = [*_safe_parts(states, places.asking.now.timestamp())]
    else:
        kept, elsewhere = _in_vault(places, project, states, loose)
        parts.append(kept)
        safe = elsewhere
    return Safety(
        project.name,
        project.path,
        states[0].checkout.vcs if states and states[0].checkout.path == root else ", ".join(kinds) or None,
        safe,
        sum(state.modified for state in states),
        sum(state.untracked for state in states) + loose,
        sum(sum(state.unpushed.values()) for state in states),
        sum(state.stashes for state in states),
        "; ".join(parts),
        tuple(states),
    )


# ------------------------------------------------------------------------------------------ in words


def _parts(root: Path, states: Sequence[State]) -> Iterator[str]:
    unsafe = [state for state in states if not state.safe]
    for state in unsafe[:_NAMED]:
        where = os.path.relpath(state.checkout.path, root)
        said = "; ".join(_said(state))
        yield said if where == "." else f"in {where}: {said}"
    if len(unsafe) > _NAMED:
        yield f"and {_count(len(unsafe) - _NAMED, 'more checkout')}"


def _said(state: State) -> Iterator[str]:
    if state.trouble:
        yield state.trouble
    if state.operation:
        yield f"in the middle of a {state.operation}"
    if state.conflicts:
        yield _count(state.conflicts, "conflict")
    if state.unpushed and state.remotes:
        first, *others = state.unpushed
        more = f" and {_count(len(others), 'other ref')}" if others else ""
        yield f"{_count(sum(state.unpushed.values()), 'unpushed commit')} on {first}{more}"
    elif state.unpushed:
        yield f"no remote has its {_count(sum(state.unpushed.values()), 'commit')}"
    if state.modified:
        yield _count(state.modified, "modified file")
    if state.untracked:
        yield _count(state.untracked, "untracked file")
    if state.stashes:
        yield "1 stash" if state.stashes == 1 else f"{state.stashes:,} stashes"
    if state.remotes or not state.unpushed:
        branches = [name for name in state.branches if name not in state.unpushed]
        yield from _only_here("branch", "branches", branches)
        yield from _only_here("tag", "tags", state.tags)


def _only_here(noun: str, nouns: str, names: Sequence[str]) -> Iterator[str]:
    if names:
        listed = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
        yield f"{noun if len(names) == 1 else nouns} {listed} only here"


def _safe_parts(states: Sequence[State], now: float) -> Iterator[str]:
    remotes = sorted({name for state in states for name in state.remotes})
    if not remotes:
        yield "nothing to lose yet"
        return
    answered = min((state.answered for state in states if state.remotes), default=0)
    yield f"all of it is on {', '.join(remotes)}" + (f" (as of {dates.age(now - answered)} ago)" if answered else "")
    yield from sorted({note for state in states for note in state.notes})


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


# ------------------------------------------------------------------------------------- in the vault


def _in_vault(places: Places, project: Project, states: Sequence[State], loose: int) -> tuple[str, bool]:
    """What the vault has of it, in words, and whether that is on another device."""
    tip = places.history.tip(project.name)
    if tip is None:
        return "not in the vault yet", False
    newest = places.history.identify(tip)
    age = dates.age((places.asking.now - places.history.get_version(newest).time).total_seconds())
    if not Path(project.path).is_dir():
        # Nothing is there that could differ from it.
        complete = True
    else:
        # What could not be asked what it changed, has to be compared file by file.
        unasked = any(state.trouble and not state.local for state in states)
        complete = _holds(places, project, newest, states) and (not (loose or unasked) or places.is_saved(project))
    if not complete:
        return f"the vault has the state of {age} ago, not the latest changes", False
    has = f"the vault has had all of it for {age}"
    holders = (os.fspath(places.vault), *_copies_with(places, project, newest))
    away = [folder for folder in holders if _away(project, folder)]
    if away:
        return f"{has}, on another device: {away[0]}", True
    return f"{has}, on this device", False


def _copies_with(places: Places, project: Project, newest: SnapshotId) -> Iterator[str]:
    for folder, history in places.copies.items():
        with contextlib.suppress(GitVaultError, OSError):
            if (tip := history.tip(project.name)) and history.identify(tip) == newest:
                yield folder


def _away(project: Project, folder: str) -> bool:
    here = project.path
    while not os.path.isdir(here):
        here = os.path.dirname(here)
    try:
        return not same_device(here, folder)
    except OSError:
        return False


def _holds(places: Places, project: Project, newest: SnapshotId, states: Sequence[State]) -> bool:
    """Whether the newest snapshot has every file that says what exists only here, as it is now."""
    cache = places.cache(project.name)
    taken = places.history.get_version(newest).time.timestamp()
    indexes = {git.own_folder(state.checkout.path) / "index": state.checkout for state in states}

    def work() -> bool:
        about = cache.about()
        if about.get("snapshot") != newest.encode() or int(about.get("problems", b"0")):
            return False
        known: dict[str, Mapping[bytes, object]] = {}
        for file in (file for state in states for file in state.local):
            folder, name = os.path.split(file)
            if folder not in known:
                inside = os.path.relpath(folder, project.path)
                path = b"" if inside == "." else os.fsencode(inside).replace(os.fsencode(os.sep), b"/")
                known[folder] = {name: one.stat for name, one in cache.entries(path).items()}
            try:
                found = os.lstat(file)
            except OSError:
                found = None
            if known[folder].get(os.fsencode(name)) == (found and stat_of(found)):
                continue
            if not is_within(folder, project.path) or folder.endswith(_HG_STORE):
                # Of a repository that lies elsewhere or is hg's, attached to the snapshot: no row tells of its files.
                same = found is not None and found.st_mtime < taken
            else:
                same = file in indexes and _has_index(places.history, newest, project, indexes[file])
            if not same:
                return False
        return True

    return cache.use(work)


def _has_index(history: GitHistory, newest: SnapshotId, project: Project, checkout: Checkout) -> bool:
    """Whether what is staged in a checkout is attached to a snapshot."""
    from gitvault.core.versioning import index
    from gitvault.vcs.protect import record

    inside = os.path.relpath(checkout.path, project.path)
    path = b"" if inside == "." else os.fsencode(inside).replace(os.fsencode(os.sep), b"/")
    try:
        staged = index.encode(index.parse((git.own_folder(checkout.path) / "index").read_bytes()))
        tree, _ = history.trees(newest, lambda _: None)
        attached = record.attached(history, tree)
        return any(one.record.path == path and one.joined(history, record.INDEX) == staged for one in attached)
    except (GitVaultError, OSError):
        return False
