"""Builds: which snapshot somebody played, by what the game says of itself, else by what was out at that time.

What was given to players, on which branch and when, are records: `deploys/<id>.json` in the area `builds/<project>`.
"""

from __future__ import annotations

import hashlib
import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from gitvault.core.utils.names import ref_component, to_line
from gitvault.errors import CorruptionError, GitVaultError, NotFoundError

if TYPE_CHECKING:
    from gitvault.vault import Vault
    from gitvault.vault.area import Area

VERSION = 1
FOLDER = b"deploys"
# How sure one can be; docs/feedback.md has the reasons.
_CERTAIN = 1.0
OF_THAT_TIME = 0.9
_NEARLY_SPELT = 0.9
SEVERAL = 0.7
CHANGED_SINCE = 0.5
ON_ITS_BRANCH, ON_A_BRANCH = 0.8, 0.6
_ROLLING_OUT = 0.5
"""Of the confidence in what came out less than a day before: not everybody has it yet."""
RELEASED = 0.4

_ROLLOUT = 86400.0
_LONGEST = 1000
_PUBLIC = ("default", "public", "main", "master", "live", "release", "stable", "production")
# `1a2b3c4`, a version with it (`1.2.0+1a2b3c4`), what git describe says (`alpha-1-3-g1a2b3c4`).
_ID = re.compile(r"(?:.*(?:\+|-g))?([0-9a-f]{7,40})(\.changed)?")


@dataclass(frozen=True, slots=True)
class Resolved:
    """Which snapshot it was."""

    snapshot: str
    """Empty where nobody can tell."""
    confidence: float
    """From 0 (nobody can tell) to 1 (the build says so itself)."""
    how: str
    """What told, for people."""


NOBODY = Resolved("", 0.0, "nothing tells")


@dataclass(frozen=True, slots=True)
class Deploy:
    """A build that was given to players."""

    id: str
    target: str
    """The shop or service, `steam` say."""
    branch: str
    build: str
    """As the shop or the game calls it."""
    at: str
    """ISO 8601 in UTC."""
    snapshot: str
    confidence: float


class _Period(NamedTuple):
    """What a branch's players had from a moment on, in seconds since 1970, until the branch's next."""

    target: str
    branch: str
    start: float
    deploy: Deploy


class BuildId(NamedTuple):
    """What a game embeds."""

    text: str
    snapshot: str
    saved: bool
    """Whether the project is as this snapshot has it."""


class Builds:
    """A project's builds as they are known at one moment."""

    def __init__(self, vault: Vault, project: str) -> None:
        """Raises CorruptionError for a record that cannot be read."""
        self.deploys = tuple(sorted(deploys(vault, project), key=lambda one: (one.at, one.id)))
        self._names, self._ids = _names(vault, project, self.deploys)
        self._released = _released(vault, project)
        self._periods: dict[tuple[str, str], list[_Period]] = {}
        for one in self.deploys:
            period = _Period(one.target, one.branch, datetime.fromisoformat(one.at).timestamp(), one)
            self._periods.setdefault((one.target, one.branch), []).append(period)
        self._named = lru_cache(1 << 16)(self._by_name)
        self._lines = cache(self._line)

    def resolve(self, text: str = "", *, at: datetime | None = None, branch: str = "", target: str = "") -> Resolved:
        """The snapshot that a build id, version, milestone or commit means; without `text`, what was out at that time.

        `branch`, `target`: as `deploy record` has them, where they are known.
        """
        if text.strip():
            return self._named(text.strip()) if len(text) <= _LONGEST else NOBODY
        if at is None:
            return NOBODY
        line = self.timeline(branch, target)
        return line[bisect_right(line, at.timestamp(), key=lambda step: step[0]) - 1][1]

    def timeline(self, branch: str = "", target: str = "") -> Sequence[tuple[float, Resolved]]:
        """What was out from which second since 1970 on, in order; the first is from ever on."""
        return self._lines(branch, target)

    def _by_name(self, text: str) -> Resolved:
        version, _, number = text.partition("+")
        # `1.2.0+4711` says two things, the number more.
        if found := self._names.get(text) or (self._names.get(number) if number else None):
            return found
        if match := _ID.fullmatch(text.lower()):
            start = bisect_left(self._ids, match[1])
            fitting = [one for one in self._ids[start : start + 2] if one.startswith(match[1])]
            if len(fitting) == 1:
                sure = CHANGED_SINCE if match[2] else _CERTAIN
                return Resolved(fitting[0], sure, "a build with changes on top" if match[2] else "its id")
        if found := self._names.get(version):
            return found
        if found := self._names.get(_plain(version)):
            return Resolved(found.snapshot, round(found.confidence * _NEARLY_SPELT, 2), f"{found.how}, nearly spelt so")
        return NOBODY

    def _line(self, branch: str, target: str) -> list[tuple[float, Resolved]]:
        periods, sure = self._branch(branch, target)
        moments = {release[0] for release in self._released}
        for period in periods:
            moments |= {period.start, period.start + _ROLLOUT}
        steps = [(at, self._out(at, periods, sure)) for at in sorted(moments)]
        return [(-inf, NOBODY), *steps]

    def _out(self, at: float, periods: list[_Period], sure: float) -> Resolved:
        """What was out: the branch's newest deploy by then, else the newest release."""
        if count := bisect_right(periods, at, key=lambda period: period.start):
            period = periods[count - 1]
            if period.deploy.snapshot:
                new = at - period.start < _ROLLOUT and count > 1
                sure = round(sure * period.deploy.confidence * (_ROLLING_OUT if new else 1), 2)
                since = ", for less than a day" if new else ""
                how = f"what {period.target}'s branch {period.branch} had{since}"
                return Resolved(period.deploy.snapshot, sure, how)
        if count := bisect_right(self._released, at, key=lambda release: release[0]):
            return Resolved(self._released[count - 1][1], RELEASED, "the newest release by then")
        return NOBODY

    def _branch(self, branch: str, target: str) -> tuple[list[_Period], float]:
        """The periods of the branch that is meant, and how sure that is."""
        there = {key for key in self._periods if not target or key[0] == target} or set(self._periods)
        named = [key for key in there if branch and key[1] == branch]
        if named:
            return self._periods[min(named)], ON_ITS_BRANCH
        public = sorted(there, key=lambda key: (_PUBLIC.index(key[1]) if key[1] in _PUBLIC else len(_PUBLIC), key))
        if branch or not public or (len(public) > 1 and public[0][1] not in _PUBLIC):
            return [], 0.0
        return self._periods[public[0]], ON_A_BRANCH


def deploy(
    vault: Vault, project: str, *, target: str, build: str, branch: str = "default", at: datetime, snapshot: str = ""
) -> Deploy:
    """Note that players of a branch have a build from a moment on; the same again changes nothing.

    `snapshot`: which one it is made of; without it the one that `build` names, else the newest of that moment. Raises
    NotFoundError for a snapshot that is none, GitVaultError for one of another project.
    """
    if snapshot:
        found = Resolved(vault.resolve(snapshot), _CERTAIN, "")
        if (other := vault.get_snapshot_info(found.snapshot).project) != project:
            raise GitVaultError(f"{to_line(snapshot.encode())}: is a snapshot of {other}; expected one of {project}")
    else:
        found = Builds(vault, project).resolve(build)
        if not found.snapshot:
            found = _newest(vault, project, at)
    said = {
        "target": target,
        "branch": branch,
        "build": build,
        "at": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "snapshot": found.snapshot,
        "confidence": found.confidence,
    }
    # Two machines that note the same, while one has fewer snapshots, note two records.
    name = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]
    made = Deploy(name, **said)  # type: ignore[arg-type]
    line = json.dumps({"v": VERSION, **asdict(made)}, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    _area(vault, project).add({FOLDER + b"/" + name.encode() + b".json": line}, f"Deploy of {build} to {target}")
    return made


def deploys(vault: Vault, project: str) -> Iterator[Deploy]:
    """What was given to players, in no order. Raises CorruptionError."""
    area = _area(vault, project)
    for path in area.paths(FOLDER):
        try:
            said = json.loads(area.read(path))
            one = Deploy(**{key: said[key] for key in Deploy.__dataclass_fields__})
            datetime.fromisoformat(one.at)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise CorruptionError(f"{to_line(path)}: no record of a deploy ({error}); run git-vault verify") from error
        yield one


def build_id(vault: Vault, project: str) -> BuildId:
    """What the game embeds, so that what players say leads back: the newest snapshot, and whether there are changes.

    Raises NotFoundError for a project without a snapshot.
    """
    found = vault.project(project)
    newest = vault.history.get_latest_version(project)
    if not newest:
        raise NotFoundError(f"{project}: has no snapshot yet; git-vault snapshot takes one")
    [state] = vault.status([found.path], scan=True)
    saved = state.state == "saved"
    return BuildId(newest.id[:12] + ("" if saved else ".changed"), newest.id, saved)


def _names(vault: Vault, project: str, known: tuple[Deploy, ...]) -> tuple[dict[str, Resolved], list[str]]:
    """What builds are called, the surest meaning of each, as it is spelt and plain; and all ids, in order."""
    from gitvault.core.versioning import tags

    found: dict[str, list[Resolved]] = {}
    ids = []
    for snapshot in vault.history.list_versions(project) if vault.history.tip(project) else ():
        ids.append(str(snapshot.id))
        for key, how in (("build", "its build id"), ("version", "its version")):
            if name := snapshot.metadata.get(key):
                found.setdefault(name, []).append(Resolved(snapshot.id, _CERTAIN, how))
    for tag in tags.tags(vault.history, project, strict=False):
        # Whatever calls itself so, the milestone's name is the one that was given with care.
        found[tag.name] = [Resolved(tag.snapshot, _CERTAIN, "the milestone")]
    for one in known:
        if one.build and one.snapshot and one.build not in found:
            found[one.build] = [Resolved(one.snapshot, one.confidence, f"what {one.target} got under that name")]
    names: dict[str, Resolved] = {}
    for name, meant in found.items():
        if len({one.snapshot for one in meant}) > 1:
            # Newest first.
            meant = [Resolved(meant[0].snapshot, SEVERAL, f"{meant[0].how}, the newest of several")]
        names[name] = meant[0]
        names.setdefault(_plain(name), meant[0])
    return names, sorted(ids)


def _plain(name: str) -> str:
    """A version however it is spelt: `V1.2.0` is `1.2.0`. Never a name as somebody else spells it."""
    return "\0" + name.strip().lower().removeprefix("version").removeprefix("v").lstrip(" .")


def _released(vault: Vault, project: str) -> list[tuple[float, str]]:
    """When milestones were released, in order."""
    from gitvault.personas.game.milestones import milestones

    found = []
    for one in milestones(vault, project):
        for said in one.annotations:
            if "released" in said:
                found.append((datetime.fromisoformat(str(said["t"])).timestamp(), str(one.tag.snapshot)))
    return sorted(found)


def _newest(vault: Vault, project: str, at: datetime) -> Resolved:
    """The newest snapshot of that moment; what CI deploys it has just saved."""
    for snapshot in vault.history.list_versions(project) if vault.history.tip(project) else ():
        if snapshot.time <= at:
            return Resolved(snapshot.id, OF_THAT_TIME, "")
    return Resolved("", 0.0, "")


def _area(vault: Vault, project: str) -> Area:
    return vault.area(f"builds/{ref_component(project)}")
