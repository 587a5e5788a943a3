"""What a policy says of one path, and which of its users' rules say nothing at all."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.core.scan import scopes
from gitvault.core.utils.files import list_source
from gitvault.policy import linguist
from gitvault.policy.ecosystems import PROJECT_FILE
from gitvault.policy.kinds import Kind, hint, kind_of
from gitvault.policy.patterns import EVERYWHERE, IGNORED, Live, Rule
from gitvault.policy.policy import Place, Policy
from gitvault.policy.tracked import MARKS

if TYPE_CHECKING:
    from gitvault.core.versioning.history import GitHistory
    from gitvault.policy.project_file import Said

_SECONDS = {"minute": 60, "hour": 3600, "day": 86_400, "week": 604_800, "month": 2_629_800, "year": 31_557_600}
RECENT = 20
"""Snapshots that say how often a path changes."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens to one path, and why."""

    path: bytes
    """From the project's root."""
    keep: bool
    category: str
    language: str | None
    rule: str
    """The rule that decided, as its file has it."""
    source: str
    """That file; empty for a setting that no file holds."""
    line: int
    """In it; 0 where it has no lines."""
    importance: int
    """0 to 100."""
    every: str
    """How often saving it is worth it, such as `15 minutes`: a hint."""
    keep_for: str
    """How long it is worth keeping, such as `30 days`: a hint."""
    where: str
    """`git`, `store` (the chunk store, for large binary files) or `skip`."""


def explain(policy: Policy, path: bytes, is_folder: bool) -> Decision:
    """What the policy says of a path below its root, whether anything is there or not.

    Raises ConfigError when a `.gitvault.toml` on the way, or the global file, cannot be understood.
    """
    rule = _deciding(policy, path, is_folder)
    if policy.errors:
        raise policy.errors[0]
    kind = _kind(policy.root, path, is_folder)
    keep = rule is None or rule.keep
    category = kind.category
    if rule and not keep:
        category = rule.category or (_category_of_ignored(category) if rule.level == IGNORED else category)
    text, source, line = (rule.text, rule.source, rule.line) if rule else kind[2:]
    said = list(_said(policy, path))
    for file, inside in said:
        if found := _match(file.categories, inside, is_folder):
            category = found.category
            if rule is None:
                text, source, line = found.text, found.source, found.line
    importance: int = hint("importance", category)
    every: str = hint("every", category)
    keep_for: str = hint("keep_for", category)
    for file, inside in said:
        if found := _match(tuple(named for named, _ in file.importance), inside, is_folder):
            importance = dict(file.importance)[found]
        every, keep_for = file.every.get(category, every), file.keep_for.get(category, keep_for)
    where = "skip" if not keep else "store" if category == "asset" and kind.language is None else "git"
    return Decision(path, keep, category, kind.language, text, source, line, importance, every, keep_for, where)


def spacing(policy: Policy, path: bytes) -> float:
    """Seconds between two savings of a file that are worth it, as its user's `[every]` says; 0 where nobody said.

    Raises ConfigError as `explain`.
    """
    category = explain(policy, path, False).category
    said = [file.every[category] for file, _ in _said(policy, path) if category in file.every]
    if not said:
        return 0
    count, unit = re.fullmatch(r"(\d+) ?(\w+?)s?", said[-1]).groups()  # type: ignore[union-attr]
    return int(count) * _SECONDS[unit]


def explain_path(path: str, within: str = "", make: Callable[[str], Policy] = Policy) -> Decision:
    """`explain` for a path of the disk, in the project that lies at `within`; none: in what it would belong to.

    A path with nothing there is taken for the folder or the file that something leaves out.
    """
    folder, name = os.path.split(os.path.abspath(path))
    real = os.path.join(os.path.realpath(folder), name)
    root = within or likely_root(real)
    inside = os.path.relpath(real, root).replace(os.sep, "/")
    raw = b"" if inside == "." else os.fsencode(inside)
    if os.path.lexists(real) or path.endswith(("/", os.sep)):
        return explain(make(root), raw, not os.path.islink(real) and (os.path.isdir(real) or not os.path.lexists(real)))
    as_file, as_folder = (explain(make(root), raw, is_folder) for is_folder in (False, True))
    return as_file if as_folder.keep else as_folder


def raised(decision: Decision, changed: int, of: int) -> Decision:
    """The decision for a path that `changed` in so many of the last `of` snapshots: more important by up to 20."""
    if not (of and decision.keep):
        return decision
    return replace(decision, importance=min(100, decision.importance + 20 * changed // of))


def changes(history: GitHistory, project: str, path: bytes) -> tuple[int, int]:
    """In how many of a project's last snapshots a path is not what it was in the one before, and of how many."""
    tip = history.tip(project)
    blobs = [history.blob_at(commit, path) for _, commit in islice(history.walk(tip), RECENT + 1)] if tip else []
    return sum(a != b for a, b in pairwise(blobs)), max(0, len(blobs) - 1)


def likely_root(path: str) -> str:
    """What the project around an absolute path would be: its work tree, else the outermost folder with a marker in it.

    Where nothing says anything it is the folder that the path is in.
    """
    folders = [os.fspath(folder) for folder in Path(path).parents]
    if os.path.isdir(path) and not os.path.islink(path):
        folders.insert(0, path)
    policy = Policy(path)
    marked = ""
    for folder in folders[:-1]:
        with suppress(OSError):
            marks = policy.marks(list_source(folder))
            if MARKS.intersection(marks):
                return folder
            if marks:
                marked = folder
    return marked or os.path.dirname(path)


def unused(policy: Policy) -> list[Rule]:
    """The rules that users wrote and that match nothing in the project, in the order of their files and lines.

    What is left out is not looked into. Raises ConfigError as `explain` does.
    """
    matched: set[Rule] = set()
    pending: list[tuple[bytes, Place | None, Live]] = [(b"", None, Live())]
    while pending:
        path, outer, named = pending.pop()
        at = os.path.join(policy.root, os.fsdecode(path))
        try:
            with os.scandir(at) as listed:
                entries = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in listed]
        except OSError:
            continue
        place = policy.scope(path, policy.marks([os.fsdecode(name) for name, _ in entries]), outer)
        for file, said in policy.files.items():
            if os.path.dirname(file) == place.at or (not path and file == policy.everywhere):
                named = named.add((*said.categories, *(rule for rule, _ in said.importance)))
        for name, is_folder in entries:
            matched.update(rule for rule in place.live.matches(name, is_folder) if rule.level >= EVERYWHERE)
            matched.update(named.matches(name, is_folder))
            if is_folder and not place.omits(name, True):
                pending.append((path + b"/" + name if path else name, place, named.below(name)))
    if policy.errors:
        raise policy.errors[0]
    written = [
        rule
        for said in policy.files.values()
        for rule in (*said.rules, *said.categories, *(rule for rule, _ in said.importance))
    ]
    return [rule for rule in (*written, *policy.ignored) if rule not in matched]


def _kind(root: str, path: bytes, is_folder: bool) -> Kind:
    """What a path is: by its project's `.gitattributes`, else by its name."""
    said = {} if is_folder else linguist.said(root, path)
    kind = kind_of(os.fsdecode(path), is_folder, isnt=[category for category, rule in said.items() if rule.keep])
    for category, rule in said.items():
        if not rule.keep:
            return Kind(category, kind.language, rule.text, rule.source, rule.line)
    return kind


def _category_of_ignored(category: str) -> str:
    # Nobody says what it is; that it is not to be versioned says that it was made.
    return category if category in ("dependency", "cache", "secret") else "generated"


def _deciding(policy: Policy, path: bytes, is_folder: bool) -> Rule | None:
    """The rule that decides of a path; None when none speaks of it."""
    last = path.count(b"/") + 1
    opened: Rule | None = None
    for depth, (place, name) in enumerate(scopes(Path(policy.root), policy, path), 1):
        assert isinstance(place, Place)
        as_folder = is_folder or depth < last
        rule = place.rule(name, as_folder)
        if rule and not rule.keep:
            if not (as_folder and place.looks_into(name, rule)):
                return rule
            if depth == last:
                return replace(rule, text=f"{rule.text}, but not what is tracked or kept in it", keep=True)
        elif rule and as_folder:
            opened = rule
        if depth == last:
            inside = _by_content(policy, path, place) if as_folder and not rule else None
            return rule or inside or (opened if place.kept else None)
    return None


def _by_content(policy: Policy, path: bytes, outer: Place) -> Rule | None:
    """What leaves a folder out for what it holds itself."""
    try:
        names = list_source(os.path.join(policy.root, os.fsdecode(path)))
    except OSError:
        return None
    inner = policy.scope(path, policy.marks(names), outer)
    return inner.closed if inner.closed is not outer.closed else None


def _said(policy: Policy, path: bytes) -> Iterator[tuple[Said, bytes]]:
    """What the global file and those on the way to a path say, the nearest last, and the path as they see it."""
    if policy.everywhere in policy.files:
        yield policy.files[policy.everywhere], path
    at, left = policy.root, path
    while True:
        if found := policy.files.get(f"{at}/{PROJECT_FILE}"):
            yield found, left
        name, slash, left = left.partition(b"/")
        if not slash:
            return
        at = f"{at}/{os.fsdecode(name)}"


def _match(rules: tuple[Rule, ...], path: bytes, is_folder: bool) -> Rule | None:
    """The rule that matches a path, or the nearest folder on the way to it."""
    live, found = Live().add(rules), None
    *folders, last = path.split(b"/")
    for name in folders:
        found = next(live.matches(name, True), found)
        live = live.below(name)
    return next(live.matches(last, is_folder), found)
