"""Which projects there are: canonical JSON lines, one a project and machine, under `refs/vault/catalog`."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitvault.core.models import ObjectId, Project
from gitvault.core.utils.names import near, ref_component, to_line
from gitvault.core.versioning.history import GitHistory
from gitvault.errors import CorruptionError, ExistsError, GitVaultError, NotFoundError

if TYPE_CHECKING:
    from gitvault.core.versioning.edits import Edit
    from gitvault.core.versioning.packfile import PackWriter

REF = "refs/vault/catalog"
FILE = b"projects.jsonl"
_EDIT = "Edit "
# Of a project's name as a ref's: with what comes before and behind it (`stat-`, `.db-journal`, `.lock`) it must be
# the name of a file, 255 at most; a letter that is not ASCII counts up to 12.
_NAME_MAX = 220


def load(history: GitHistory) -> list[Project]:
    """The projects by name. Raises CorruptionError."""
    return [project for project in lines(history) if not project.removed]


def lines(history: GitHistory) -> list[Project]:
    """The same with those that were removed. Raises CorruptionError."""
    return _parsed(history.read_file(REF, FILE))


def _parsed(text: bytes) -> list[Project]:
    try:
        return [_decode(line) for line in text.decode().splitlines()]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise CorruptionError(f"{REF}: a line cannot be read ({error}); run git-vault verify") from error


def save(history: GitHistory, projects: Iterable[Project], why: str) -> None:
    """Replace the list, all but what was removed from it; durable when it returns."""
    known = {(project.name, project.host): project for project in lines(history) if project.removed}
    known |= {(project.name, project.host): project for project in projects}
    history.write_file(REF, FILE, encode(known.values()), why)


def get(history: GitHistory, name: str, host: str) -> Project:
    """The project of this name, that of the machine if there are several. Raises NotFoundError."""
    known = load(history)
    found = [project for project in known if project.name == name]
    if not found:
        like = near(name, {project.name for project in known})
        raise NotFoundError(f"{name}: no such project{like}; git-vault projects lists them")
    return next((project for project in found if project.host == host), found[0])


def saved(history: GitHistory, names: Iterable[str]) -> list[str]:
    """The projects that are meant: all that have a snapshot when none is named. Raises NotFoundError."""
    for name in names:
        if history.tip(name) is None and get(history, name, ""):
            raise NotFoundError(f"{name}: has no snapshot; git-vault projects lists what has")
    found = list(dict.fromkeys(names)) or history.projects()
    if not found:
        raise NotFoundError(f"{history.git_dir}: has no snapshot; nothing was removed")
    return found


def folder_of(path: Path | str) -> str:
    """A folder as projects have it: one spelling, whatever symlink leads there. Raises NotFoundError."""
    text = os.path.abspath(path)
    if not os.path.lexists(text):
        raise NotFoundError(f"{to_line(os.fsencode(text))}: no such folder")
    if not os.path.isdir(text):
        raise NotFoundError(f"{to_line(os.fsencode(text))}: not a folder; save the folder it is in")
    return os.path.realpath(text)


def find(projects: Iterable[Project], folder: str, host: str, name: str | None) -> Project | None:
    """The project that a folder of a machine is, of this name if one is given."""
    return next((p for p in projects if p.path == folder and p.host == host and name in (None, p.name)), None)


def add(projects: Sequence[Project], folder: str, host: str, name: str | None, added: datetime) -> list[Project]:
    """The list, removed ones in it, with a new project, which comes first.

    Its name is `name`, or that under which this folder was removed, or made from the folder's and unique.
    It takes the place of one whose folder is gone. Raises ExistsError when another has the name, or one that differs
    only in case; GitVaultError for one that is empty or too long.
    """
    from gitvault.core.versioning import edits

    live = [p for p in projects if not p.removed]
    if name is None:
        # Another folder of that name must not go on in the history of one that was removed.
        again = (p.name for p in projects if p.removed and (p.path, p.host) == (folder, host))
        name = next((n for n in again if _in_another_case(live, n) is None), None) or _unique(projects, folder)
    else:
        name = _free(live, host, name)
    others = [p for p in projects if (p.name, p.host) != (name, host)]
    gone = next((p for p in projects if (p.name, p.host) == (name, host) and p.removed), None)
    return [edits.registered(Project(name, folder, host, added), others, gone), *others]


def _free(projects: Iterable[Project], host: str, name: str) -> str:
    _check(name)
    taken = next((p for p in projects if p.name == name and p.host == host), None)
    if taken and os.path.isdir(taken.path):
        raise ExistsError(f"{name}: is {taken.path} already; choose another name with --project")
    if same := _in_another_case(projects, name):
        raise ExistsError(f"{name}: differs from the project {same} only in case; choose another name")
    return name


def _in_another_case(projects: Iterable[Project], name: str) -> str | None:
    return next((p.name for p in projects if p.name != name and p.name.casefold() == name.casefold()), None)


def check_new(projects: Iterable[Project], name: str) -> None:
    """Raises ExistsError for a name that a project has, also in another case; GitVaultError for an impossible one."""
    _check(name)
    for project in projects:
        if project.name.casefold() == name.casefold():
            raise ExistsError(f"{name}: is the project {project.name}, {project.path}; choose another name")


def rename(history: GitHistory, pack: PackWriter, names: Mapping[str, str]) -> tuple[ObjectId | None, ObjectId]:
    """Add to the pack a list in which projects have other names; where the list was, and where it is."""
    from gitvault.core.versioning import edits

    held = lines(history)
    gone = {(p.name, p.host): p for p in held if p.removed and p.name in names.values()}
    projects = [edits.renamed(project, names) for project in held if (project.name, project.host) not in gone]
    for number, project in enumerate(projects):
        if found := gone.get((project.name, project.host)):
            projects[number] = edits.revived(project, found)
    return history.add_file(pack, REF, FILE, encode(projects), "Rename")


def edit(history: GitHistory, names: Collection[str], change: Edit, host: str, now: datetime) -> list[Project]:
    """Edit the projects of these names, in one commit; as they are then, removed ones left out. Call it locked.

    Raises NotFoundError for an unknown project.
    """
    held = lines(history)
    live = {project.name for project in held if not project.removed}
    for name in names:
        if name not in live:
            raise NotFoundError(f"{_shown(name)}: no such project{near(name, live)}; git-vault projects lists them")
    changed = [
        change.applied(project, host, now) if project.name in names and not project.removed else project
        for project in held
    ]
    if changed != held:
        _save(history, changed, names)
    return [project for project in changed if project.name in names and not project.removed]


def move(history: GitHistory, name: str, folder: str, stack: str, host: str, now: datetime) -> Project:
    """Say that a project lies in a folder of this machine, where it may be new; call it locked.

    Raises NotFoundError for an unknown project, ExistsError for a folder that is another one.
    """
    from gitvault.core.versioning import edits

    held = lines(history)
    get(history, name, host)
    other = next((p for p in held if (p.path, p.host, p.removed) == (folder, host, False) and p.name != name), None)
    if other:
        raise ExistsError(f"{_shown(folder)}: is the project {_shown(other.name)}; git-vault projects remove it first")
    before = next((project for project in held if (project.name, project.host) == (name, host)), None)
    others = [project for project in held if project != before]
    if before and not before.removed:
        moved = edits.edited(before, {"path": folder, "detected": stack or before.detected}, now)
    else:
        moved = replace(edits.registered(Project(name, folder, host, now), others, before), detected=stack)
    _save(history, [moved, *others], [name])
    return moved


def detect(history: GitHistory, project: Project, stack: str, now: datetime) -> None:
    """Note the stack of a project on its machine; call it locked. No edit that `undo` would take back."""
    from gitvault.core.versioning import edits

    key = project.name, project.host
    found = [edits.edited(p, {"detected": stack}, now) if (p.name, p.host) == key else p for p in lines(history)]
    save(history, found, f"Stack of {_shown(project.name)}")


def undo(history: GitHistory, now: datetime) -> list[Project]:
    """Take the newest edit back, as far as nothing was edited over it; call it locked. That is an edit too.

    The projects that are different now. Raises NotFoundError when there is nothing to take back.
    """
    from gitvault.core.versioning import edits

    found = (commit for _, commit in history.walk(history.refs.read(REF)) if commit.message.startswith(_EDIT))
    if not (commit := next(found, None)):
        raise NotFoundError("no edit of projects is on record; git-vault op undo takes back a rename")
    was, became = (
        {(p.name, p.host): p for p in _parsed(history.blob(history.tree(tree)[FILE][1]))}
        for tree in (history.commit(commit.parents[0]).tree, commit.tree)
    )
    held = lines(history)
    changed: list[Project] = []
    for project in held:
        after = became.get((project.name, project.host), project)
        # What the edit made goes.
        before = was.get((project.name, project.host), replace(after, removed=after is not project))
        values = {
            key: getattr(before, key)
            for key in (*edits.MACHINE, *edits.SHARED)
            if getattr(before, key) != getattr(after, key) == getattr(project, key)
        }
        changed.append(edits.edited(project, values, now))
    different = [project for project in changed if project not in held]
    if not different:
        raise NotFoundError(f"{commit.message.strip()}: nothing of it stands any more")
    _save(history, changed, {project.name for project in different})
    return different


def _save(history: GitHistory, projects: Sequence[Project], names: Collection[str]) -> None:
    shown = ", ".join(map(_shown, sorted(names))) if len(names) < 4 else f"{len(names)} projects"
    save(history, projects, f"{_EDIT}{shown}")


def _shown(text: str) -> str:
    return to_line(os.fsencode(text))


def _check(name: str) -> None:
    if not name.strip():
        raise GitVaultError("a project's name cannot be empty; give one that is not")
    if len(ref_component(name)) > _NAME_MAX:
        shown = to_line(name[:20].encode("utf-8", "surrogateescape"))
        raise GitVaultError(f"{shown}...: too long for a project's name; give a shorter one")


def _unique(projects: Iterable[Project], folder: str) -> str:
    # What is no text can neither be typed nor stand in JSON.
    base = os.fsencode(os.path.basename(folder)).decode("utf-8", "replace").replace("\ufffd", "_") or "root"
    while len(ref_component(base)) > _NAME_MAX:
        base = base[:-1]
    used = {p.name.casefold() for p in projects}
    number = 1
    name = base
    while name.casefold() in used:
        number += 1
        name = f"{base}-{number}"
    return name


def encode(projects: Iterable[Project]) -> bytes:
    """The file."""
    ordered = sorted(projects, key=lambda project: (project.name, project.host))
    return "".join(map(_encode, ordered)).encode()


def _encode(project: Project) -> str:
    record: dict[str, Any] = {key: json.loads(value) for key, value in project.unknown}
    for key, default in _DEFAULTS.items():
        if (value := getattr(project, key)) != default:
            record[key] = value
    if project.edited:
        record["edited"] = dict(project.edited)
    record |= {
        "added": project.added.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "host": project.host,
        "name": project.name,
        "path": project.path,
    }
    # ASCII: a surrogate escape of an undecodable path is written as \udcXX and read back as it was.
    return json.dumps(record, sort_keys=True, separators=(",", ":")) + "\n"


# What is not written, and not read, is this.
_DEFAULTS = {
    key: field.default
    for key, field in Project.__dataclass_fields__.items()
    if key not in ("added", "edited", "host", "name", "path", "unknown")
}
_FIELDS = {"added", "edited", "host", "name", "path", *_DEFAULTS}


def _decode(line: str) -> Project:
    record = json.loads(line)
    if "\\u" in line:
        # Halves of pairs that stand for no byte are in no name that a system or a ref could have.
        json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogateescape")
    name, path, host = (str(record[key]) for key in ("name", "path", "host"))
    # Not strptime, whose import is 2 ms of every `git vault status`.
    added = datetime.fromisoformat(record["added"]).astimezone(UTC)
    if len(record) == 4:
        return Project(name, path, host, added)
    unknown = {key: json.dumps(record[key], sort_keys=True) for key in record.keys() - _FIELDS}
    return Project(
        name,
        path,
        host,
        added,
        mode=str(record.get("mode", "protect")),
        client=str(record.get("client", "")),
        chosen=str(record.get("chosen", "")),
        phase=str(record.get("phase", "")),
        tags=tuple(sorted(map(str, record.get("tags", ())))),
        relations=tuple(sorted((str(kind), str(other)) for kind, other in record.get("relations", ()))),
        archived=bool(record.get("archived")),
        detected=str(record.get("detected", "")),
        removed=bool(record.get("removed")),
        edited=tuple(sorted((str(key), _time(text)) for key, text in record.get("edited", {}).items())),
        unknown=tuple(sorted(unknown.items())),
    )


def _time(text: str) -> str:
    if datetime.fromisoformat(text) and text.endswith("Z"):
        return text
    raise ValueError(f"{text}: not a time in UTC")
