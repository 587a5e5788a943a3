"""What the last look at a project's checkouts found: it holds while nothing was touched since, its watcher says."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from gitvault.core.beside import Beside, still
from gitvault.core.models import Project
from gitvault.core.touched import Touched, Watch
from gitvault.core.utils.layout import is_within
from gitvault.core.utils.names import ref_component
from gitvault.errors import StorageFullError
from gitvault.vcs import git
from gitvault.vcs.git_state import Asking
from gitvault.vcs.state import Checkout, State

_VERSION = 1


@dataclass(frozen=True, slots=True)
class _Looked:
    """What is kept."""

    root: str
    mark: bytes
    """The watcher's, from before the look."""
    beside: bytes
    loose: int
    states: tuple[State, ...]


def since(
    watch: Watch,
    project: Project,
    asking: Asking,
    look: Callable[[Mapping[Path, State]], tuple[list[State], int]],
) -> tuple[list[State], int]:
    """The states of a project's checkouts, and how many of its files are in none.

    `look` finds them out, given the states of those that need not be looked at again.
    """
    file = asking.cache / f"looked-{ref_component(project.name)}.json"
    before = _load(file, project.path)
    begun_ns = time.time_ns()
    seen = watch.touched(before.mark if before else b"")
    known: dict[Path, State] = {}
    kept = Beside()
    if before and seen and seen.folders is not None and still(before.beside, asking.now.timestamp()):
        if not seen.folders and not seen.below:
            return list(before.states), before.loose
        kept = Beside.of(before.beside) or kept
        known = {state.checkout.path: state for state in before.states if not _is_touched(seen, project.path, state)}
    states, loose = look(known)
    if seen and seen.mark:
        noted = _noted(project.path, states, kept, begun_ns)
        _save(file, _Looked(project.path, seen.mark, noted, loose, tuple(states)), asking)
    return states, loose


def _is_touched(seen: Touched, root: str, state: State) -> bool:
    places = [state.checkout.path]
    if state.checkout.vcs == "git":
        places += [git.own_folder(state.checkout.path), git.common_folder(state.checkout.path)]
    for place in map(os.path.realpath, places):
        relative = os.path.relpath(place, root)
        if is_within(place, root) and seen.reaches(b"" if relative == "." else os.fsencode(relative)):
            return True
    return False


def _noted(root: str, states: Sequence[State], kept: Beside, begun_ns: int) -> bytes:
    whole = kept
    for state in states:
        if state.beside is None:
            return b""
        whole |= state.beside
        if state.checkout.vcs == "git":
            own, common = git.own_folder(state.checkout.path), git.common_folder(state.checkout.path)
            places = {os.path.realpath(place) for place in (own, common)}
            whole |= Beside(folders=frozenset(place for place in places if not is_within(place, root)))
    inside = frozenset(path for path in whole.files if is_within(path, root))
    return replace(whole, files=whole.files - inside).noted(begun_ns)


def _load(file: Path, root: str) -> _Looked | None:
    """What was kept; None where there is nothing, or damage, or of another folder."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        document = json.loads(file.read_bytes())
        if document["version"] == _VERSION and document["root"] == root:
            states = tuple(map(_state, document["states"]))
            mark, beside = (bytes.fromhex(document[key]) for key in ("mark", "beside"))
            return _Looked(root, mark, beside, int(document["loose"]), states)
    return None


def _save(file: Path, looked: _Looked, asking: Asking) -> None:
    """Keep it; where that cannot be, the next look is a whole one."""
    document = {
        "version": _VERSION,
        "root": looked.root,
        "mark": looked.mark.hex(),
        "beside": looked.beside.hex(),
        "loose": looked.loose,
        "states": list(map(_said, looked.states)),
    }
    with suppress(OSError, StorageFullError):
        asking.disk.make_folder(file.parent)
        asking.disk.write_durably(file, json.dumps(document).encode())


def _said(state: State) -> dict[str, Any]:
    said = {one.name: getattr(state, one.name) for one in fields(state) if one.name != "beside"}
    said["checkout"] = _of_checkout(state.checkout)
    said["nested"] = list(map(_of_checkout, state.nested))
    said["local"] = list(map(os.fspath, state.local))
    return said


def _of_checkout(checkout: Checkout) -> list[object]:
    return [os.fspath(checkout.path), checkout.vcs, checkout.bare]


def _state(said: dict[str, Any]) -> State:
    lists = {key: tuple(value) for key, value in said.items() if isinstance(value, list)}
    lists["checkout"] = _checkout(said["checkout"])  # type: ignore[assignment]
    lists["nested"] = tuple(map(_checkout, said["nested"]))
    lists["local"] = tuple(map(Path, said["local"]))
    # What it depends on beside is noted for all of them.
    return State(**{**said, **lists, "beside": Beside()})


def _checkout(said: Sequence[Any]) -> Checkout:
    path, vcs, bare = said
    return Checkout(Path(path), str(vcs), bool(bare))
