"""What the last look at a project's checkouts found: it holds while nothing was touched since, its watcher says."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from gitvault.core.beside import Beside, still
from gitvault.core.models import Project
from gitvault.core.touched import Touched, Watch
from gitvault.core.utils.layout import is_within
from gitvault.core.utils.names import ref_component
from gitvault.errors import StorageFullError
from gitvault.vcs import git
from gitvault.vcs.state import Asking, Checkout, State

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of a project's checkouts, and what its watcher said to that."""

    mark: bytes
    """The watcher's, from before any look; b"" when nothing may be kept."""
    begun_ns: int
    states: tuple[State, ...] | None = None
    """All of them, when nothing was touched since."""
    loose: int = 0
    known: Mapping[Path, State] = field(default_factory=dict)
    """The checkouts that need not be looked at again."""
    beside: Beside = field(default_factory=Beside)
    """What `known` depends on."""


def recall(watch: Watch, project: Project, asking: Asking) -> Memory:
    """What still holds of the last look."""
    before = _load(_file(project, asking), project.path)
    begun_ns = time.time_ns()
    seen = watch.touched(before.mark if before else b"")
    mark = seen.mark if seen else b""
    if not (before and seen and seen.folders is not None and still(before.beside, asking.now.timestamp())):
        return Memory(mark, begun_ns)
    if not seen.folders and not seen.below:
        return Memory(mark, begun_ns, before.states, before.loose)
    known = {state.checkout.path: state for state in before.states if not _is_touched(seen, project.path, state)}
    return Memory(mark, begun_ns, None, 0, known, Beside.of(before.beside) or Beside())


def keep(memory: Memory, project: Project, states: Sequence[State], loose: int, asking: Asking) -> None:
    """Remember a look; where that cannot be, the next one is a whole one."""
    if not memory.mark:
        return
    document = {
        "version": _VERSION,
        "root": project.path,
        "mark": memory.mark.hex(),
        "beside": _noted(project.path, states, memory.beside, memory.begun_ns).hex(),
        "loose": loose,
        "states": list(map(_said, states)),
    }
    file = _file(project, asking)
    with suppress(OSError, StorageFullError):
        asking.disk.make_folder(file.parent)
        asking.disk.write_durably(file, json.dumps(document).encode())


def _file(project: Project, asking: Asking) -> Path:
    return asking.cache / f"looked-{ref_component(project.name)}.json"


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


class _Kept(NamedTuple):
    mark: bytes
    beside: bytes
    loose: int
    states: tuple[State, ...]


def _load(file: Path, root: str) -> _Kept | None:
    """What was kept; None where there is nothing, or damage, or of another folder."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        document = json.loads(file.read_bytes())
        if document["version"] == _VERSION and document["root"] == root:
            states = tuple(map(_state, document["states"]))
            mark, beside = (bytes.fromhex(document[key]) for key in ("mark", "beside"))
            return _Kept(mark, beside, int(document["loose"]), states)
    return None


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
