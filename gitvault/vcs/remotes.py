"""What is known of a git repository's remotes: when one last answered, whether it refused, what is still on it.

Evidence is what git itself left behind (FETCH_HEAD, the reflogs of remote-tracking refs) and the answers to our own
question, `git ls-remote`, which are kept in the vault's cache. That question is asked outside the repository, so
that none of its settings (ssh command, credential helper, rewritten URLs) counts; the user's own do.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from gitvault.core.beside import Beside
from gitvault.core.utils import dates, process
from gitvault.core.utils.files import Disk
from gitvault.errors import ToolError, ToolFailed
from gitvault.vcs import git
from gitvault.vcs.find import has_remotes

PATIENCE = 10.0
"""Seconds that a remote has for its answer."""
_DEEP_PATIENCE = 60.0
_DAY = 86_400.0
_SCP = re.compile(r"[^/]+:")
# What servers say that were reached and will not answer us.
REFUSED = re.compile(
    r"(?i)authentication|authorization|permission|denied|could not read|not found|does not appear|access rights|403"
)
"""In what clients say of them."""
_NO_QUESTIONS = {
    "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh",
    "GIT_ASKPASS": "",
    "SSH_ASKPASS_REQUIRE": "never",
    "GCM_INTERACTIVE": "never",
}


@dataclass(frozen=True, slots=True)
class Remote:
    """A remote as the repository's configuration has it."""

    name: str
    url: str
    specs: tuple[tuple[str, str], ...]
    """Patterns of its refs, and of those here that say what was on it at the last fetch."""

    def folder(self, around: Path) -> Path | None:
        """Where it is when it is a folder of this machine, seen from the repository `around` it; else None."""
        if self.url.startswith("file://"):
            return Path(self.url.removeprefix("file://"))
        if "://" in self.url or (_SCP.match(self.url) and not os.path.isabs(self.url)):
            return None
        # git goes to the top of the work tree first.
        top = around.parent if around.name == ".git" else around
        return Path(os.path.normpath(top / self.url))


@dataclass(frozen=True, slots=True)
class Answer:
    """What asking one remote has given so far. Times are seconds since 1970, 0: never."""

    url: str = ""
    """SHA-1 of the URL: another remote under the same name has said nothing yet. URLs may hold passwords."""
    asked: float = 0
    answered: float = 0
    trouble: str = ""
    """Why it did not answer when it was last asked; "" when it did."""
    refused: bool = False
    refs: Mapping[str, str] = field(default_factory=dict)
    """Its refs when it last answered."""
    lost: tuple[str, ...] = ()
    """Commits of remote-tracking refs that were no longer on it then."""


Answers = Mapping[str, Answer]
"""By the remote's name."""


def remotes_of(settings: git.Settings) -> list[Remote]:
    """The remotes of a repository that have a URL."""
    found = []
    for key, urls in settings.items():
        match = re.fullmatch(r"remote\.(.+)\.url", key, re.DOTALL)
        if match and urls[0]:
            pairs = (spec.lstrip("+").partition(":") for spec in settings.get(f"remote.{match[1]}.fetch", ()))
            found.append(Remote(match[1], urls[0], tuple((source, target) for source, _, target in pairs if target)))
    return found


def _tracked(remote: Remote, refs: git.Refs) -> dict[str, str]:
    """The remote-tracking refs of a remote with their commits."""
    return {
        name: commit
        for name, (_, commit) in refs.items()
        if commit and any(fnmatch.fnmatchcase(name, target) for _, target in remote.specs)
    }


def ask(folder: Path, remote: Remote, refs: git.Refs, now: datetime, before: Answer | None = None) -> Answer:
    """Ask a remote for its refs; what is known of it afterwards.

    `refs`: those of the repository in `folder`. `before`: what was known.
    """
    digest = hashlib.sha1(os.fsencode(remote.url), usedforsecurity=False).hexdigest()
    known = before if before and before.url == digest else Answer(digest)
    asked = now.timestamp()
    place = remote.folder(folder)
    try:
        if place and place.is_dir():
            # One process instead of four.
            theirs = {name: oid for name, (oid, _) in git.refs_of(place).items()}
        else:
            theirs = _listed(folder, remote.url)
    except ToolFailed as error:
        return replace(known, asked=asked, trouble=git.said(error), refused=bool(REFUSED.search(error.stderr)))
    except ToolError as error:
        return replace(known, asked=asked, trouble=str(error), refused=False)
    return Answer(digest, asked, asked, "", False, theirs, _lost(folder, remote, refs, theirs))


def _listed(folder: Path, url: str) -> dict[str, str]:
    command = ["git", f"--git-dir={os.devnull}", "ls-remote", "--", url]
    listing = process.run(command, cwd=folder, timeout=PATIENCE, variables=_NO_QUESTIONS)
    pairs = (line.partition("\t")[::2] for line in os.fsdecode(listing).splitlines())
    return {name: oid for oid, name in pairs if name.startswith("refs/") and not name.endswith("^{}")}


def _lost(folder: Path, remote: Remote, refs: git.Refs, answered: Mapping[str, str]) -> tuple[str, ...]:
    """Commits of remote-tracking refs that none of the remote's refs leads to."""
    tips = set(_tracked(remote, refs).values()) - set(answered.values())
    if not tips:
        return ()
    local = _local_commits(refs)
    known = [oid for oid in set(answered.values()) if oid in local]
    tips -= _reached(folder, tips, known)
    strange = [name for name, oid in answered.items() if oid not in local and name.startswith("refs/heads/")]
    if tips and strange:
        with contextlib.suppress(ToolError, OSError):
            tips -= _reached_there(folder, remote, tips, strange)
            return tuple(sorted(tips))
        # It could not be found out: what was there at the last fetch counts as there.
        return ()
    return tuple(sorted(tips))


def _reached(folder: Path, tips: Iterable[str], held: Sequence[str]) -> set[str]:
    """Those of `tips` that lie in the history of `held`."""
    reached = set()
    for tip in tips:
        revisions = "".join(f"{line}\n" for line in (tip, *(f"^{oid}" for oid in held)))
        if not git.read(folder, "rev-list", "--max-count=1", "--stdin", stdin=revisions.encode()):
            reached.add(tip)
    return reached


def _reached_there(folder: Path, remote: Remote, tips: Iterable[str], names: Sequence[str]) -> set[str]:
    """The same where the remote has commits that are not here: its newer commits are fetched into a scratch folder."""
    objects = os.fsdecode(git.read(folder, "rev-parse", "--path-format=absolute", "--git-path", "objects")).strip()
    with tempfile.TemporaryDirectory(prefix="gitvault-") as scratch:
        process.run(["git", "init", "-q", "--bare", "--template=", scratch], timeout=git.LIMIT)
        Path(scratch, "objects", "info").mkdir(exist_ok=True)
        Path(scratch, "objects", "info", "alternates").write_text(f"{objects}\n", "utf-8", "surrogateescape")
        url = os.fspath(remote.folder(folder) or remote.url)
        process.run(
            ["git", f"--git-dir={scratch}", "-c", f"core.hooksPath={os.devnull}", "-c", "gc.auto=0"]
            + ["-c", "fetch.fsckObjects=false", "fetch", "-q", "--no-tags", "--filter=tree:0", "--", url]
            + [f"+{name}:{name}" for name in names],
            timeout=_DEEP_PATIENCE,
            variables=_NO_QUESTIONS,
        )
        heads = os.fsdecode(git.read(Path(scratch), "for-each-ref", "--format=%(objectname)")).split()
        return _reached(Path(scratch), tips, heads)


@dataclass(frozen=True, slots=True)
class Standing:
    """What the remotes of a repository hold, as far as is known."""

    names: tuple[str, ...]
    good: frozenset[str] = frozenset()
    """Commits of this repository that remotes have which can be relied on."""
    tips: frozenset[str] = frozenset()
    """Commits that remote-tracking refs name, whether they can be relied on or not."""
    heads: frozenset[str] = frozenset()
    """Local branches (`refs/heads/...`) that a remote has, too."""
    refs: frozenset[tuple[str, str]] = frozenset()
    """What remotes answered: names and objects."""
    tracking: tuple[str, ...] = ()
    """Patterns of the refs here that a fetch writes."""
    reasons: tuple[str, ...] = ()
    """Why commits that some remote had cannot be relied on."""
    needed: bool = False
    """Whether something here builds on such commits."""
    answered: float = 0
    """When a remote last said what it has, in seconds since 1970; 0: not known."""
    beside: Beside = field(default_factory=Beside)
    """What all this depends on outside of the repository."""

    def has(self, name: str, oid: str) -> bool:
        """Whether a ref is a remote's: it has this very ref, or a fetch wrote it."""
        return (name, oid) in self.refs or any(fnmatch.fnmatchcase(name, pattern) for pattern in self.tracking)

    def reason(self) -> str:
        """Why what remotes had cannot be relied on; "" when it can, or when nothing builds on what is lost."""
        return self.reasons[0] if self.reasons and self.needed else ""

    def doubt(self) -> str:
        """The same, also where there is nothing to rely on."""
        if not self.names:
            return "it has no remote"
        if not self.tips:
            return f"nothing was ever fetched from {self.names[0]}"
        return self.reason()

    def holds(self, refs: Mapping[str, str]) -> dict[str, str]:
        """Those of some refs (names and objects) whose history is on a remote that can be relied on."""
        return {
            name: oid
            for name, oid in refs.items()
            if (name, oid) in self.refs or (oid in self.good and self.has(name, oid))
        }


def standing(
    folder: Path, settings: git.Settings, refs: git.Refs, answers: Answers, now: datetime, limit: timedelta
) -> Standing:
    """What remotes hold. `answers`: what they said; those that are folders of this machine are asked now.

    `limit`: for how long a remote may fail to answer. Raises ToolError.
    """
    found = remotes_of(settings)
    reasons: list[str] = []
    good: set[str] = set()
    tips: set[str] = set()
    heads: set[str] = set()
    held: set[tuple[str, str]] = set()
    local = _local_commits(refs)
    answered = 0.0
    beside = Beside()
    for remote in found:
        answer = answers.get(remote.name, Answer())
        if remote.folder(folder) and answer.asked != now.timestamp():
            answer = ask(folder, remote, refs, now, answer)
        known = set(_tracked(remote, refs).values())
        tips |= known
        fetched = last_fetch(folder, remote)
        answered = max(answered, answer.answered, fetched)
        place = remote.folder(folder)
        beside |= _around(place) if place else Beside()
        if reason := _silent(folder, remote, answer, now, limit):
            reasons.append(reason)
            continue
        if answer.trouble and not place:
            # Until then its silence is no matter.
            beside |= Beside(until=max(answer.answered, fetched) + limit.total_seconds())
        good |= known - set(answer.lost)
        good |= local.intersection(answer.refs.values())
        reasons += [f"commit {oid[:12]} is no longer on {remote.name}" for oid in answer.lost if oid in known]
        heads |= {name for name in refs if _on(remote, name, settings, refs, answer)}
        held |= set(answer.refs.items())
    return Standing(
        tuple(remote.name for remote in found),
        frozenset(good),
        frozenset(tips),
        frozenset(heads),
        frozenset(held),
        tuple(target for remote in found for _, target in remote.specs),
        tuple(reasons),
        bool(reasons) and _relied(folder, refs, tips, good),
        answered,
        beside,
    )


def _around(place: Path) -> Beside:
    """What a remote that is a folder says depends on."""
    repository = place / ".git"
    if os.path.lexists(repository):
        return Beside(frozenset((os.fspath(place),)), frozenset((os.fspath(repository),)))
    return Beside(folders=frozenset((os.fspath(place),)))


def _local_commits(refs: git.Refs) -> set[str]:
    return {commit for _, commit in refs.values()} | {oid for oid, commit in refs.values() if commit}


def _on(remote: Remote, name: str, settings: git.Settings, refs: git.Refs, answer: Answer) -> bool:
    """Whether a remote has a local branch, under its name or the one that the branch follows."""
    if not name.startswith("refs/heads/"):
        return False
    branch = name.removeprefix("refs/heads/")
    theirs = {name}
    if settings.get(f"branch.{branch}.remote", ("",))[-1] == remote.name:
        theirs.add(settings.get(f"branch.{branch}.merge", (name,))[-1])
    if answer.refs and theirs & answer.refs.keys():
        return True
    # What an answer of just now does not name is gone, whatever the last fetch saw.
    if answer.asked and remote.folder(Path()) and not answer.trouble:
        return False
    return any(_mapped(source, target, one) in refs for source, target in remote.specs for one in theirs)


def _mapped(source: str, target: str, name: str) -> str:
    """The name here of a remote's ref by a pair of patterns; "" for one that they do not speak of."""
    before, star, behind = source.partition("*")
    if not star:
        return target if name == source else ""
    if not (name.startswith(before) and name.endswith(behind)):
        return ""
    return target.replace("*", name[len(before) : len(name) - len(behind)], 1)


def standing_of(folder: Path, now: datetime, limit: timedelta, cache: Path, refs: git.Refs | None = None) -> Standing:
    """The same, of a git folder or work tree. `cache`: where `probe` keeps answers. `refs`: where they are known."""
    settings, files = git.settings_and_files(folder)
    found = standing(folder, settings, git.refs_of(folder) if refs is None else refs, load(folder, cache), now, limit)
    asked = Beside(files | {os.fspath(answers_file(folder, cache))})
    return replace(found, beside=found.beside | asked)


def trusted(folder: Path, now: datetime, limit: timedelta, cache: Path) -> str:
    """Why what a repository's remotes had at the last fetch cannot be relied on; "" when it can. See `standing_of`."""
    return standing_of(folder, now, limit, cache).doubt()


def _silent(folder: Path, remote: Remote, answer: Answer | None, now: datetime, limit: timedelta) -> str:
    """Why a remote counts as gone."""
    if not answer or not answer.trouble:
        return ""
    if place := remote.folder(folder):
        return f"{remote.name} refused: {answer.trouble}" if place.exists() else f"{remote.name} is gone: {place}"
    last = max(answer.answered, last_fetch(folder, remote))
    if now.timestamp() - last < limit.total_seconds():
        return ""
    since = dates.age(now.timestamp() - last) if last else "ever"
    if answer.refused:
        return f"{remote.name} refused: {answer.trouble} (its last answer: {since} ago)"
    return f"{remote.name} has not answered since {since}: {answer.trouble}"


def _relied(folder: Path, refs: git.Refs, tips: set[str], good: set[str]) -> bool:
    """Whether something here builds on commits that only remotes have which cannot be relied on."""
    mine = {commit for name, (_, commit) in refs.items() if commit and not name.startswith("refs/remotes/")}
    mine.update(git.detached_heads(folder))
    counts = []
    for held in (good, tips):
        revisions = "".join(f"{line}\n" for line in (*sorted(mine), *(f"^{oid}" for oid in sorted(held))))
        counts.append(git.read(folder, "rev-list", "--count", "--ignore-missing", "--stdin", stdin=revisions.encode()))
    return counts[0] != counts[1]


def last_fetch(folder: Path, remote: Remote) -> float:
    """When git itself last had an answer from a remote, in seconds since 1970; 0: it left no trace."""
    common = git.common_folder(folder)
    found = [0.0]
    for place, _, names in os.walk(common / "logs" / "refs" / "remotes" / remote.name):
        found += [os.stat(os.path.join(place, name)).st_mtime for name in names]
    with contextlib.suppress(OSError):
        # git empties the file when a fetch begins, and names the remote when it has answered.
        head = common / "FETCH_HEAD"
        text = head.read_text("utf-8", "replace")
        if re.sub(r"^[a-z]+://[^/@]*@|/*(\.git)?/*$", "", remote.url) in text:
            found.append(head.stat().st_mtime)
    return max(found)


def load(folder: Path, cache: Path) -> dict[str, Answer]:
    """The answers that were kept; what cannot be read counts as none."""
    try:
        document = json.loads(answers_file(folder, cache).read_bytes())
        return {name: Answer(**{**said, "lost": tuple(said["lost"])}) for name, said in document.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}


def probe(folder: Path, now: datetime, cache: Path, disk: Disk) -> Answers:
    """Ask every remote of a repository, and keep the answers. Raises ToolError, OSError, StorageFullError."""
    before = load(folder, cache)
    refs = git.refs_of(folder)
    answers = {
        remote.name: ask(folder, remote, refs, now, before.get(remote.name))
        for remote in remotes_of(git.settings_of(folder))
    }
    keep(folder, answers, cache, disk)
    return answers


def is_due(folder: Path, now: datetime, cache: Path) -> bool:
    """Whether the remotes of a checkout were not asked for a day. It costs a look or two at files."""
    if not has_remotes(folder):
        return False
    with contextlib.suppress(OSError):
        return now.timestamp() - answers_file(folder, cache).stat().st_mtime > _DAY
    return True


def keep(folder: Path, answers: Answers, cache: Path, disk: Disk) -> None:
    """Write down what remotes answered. Raises OSError, StorageFullError."""
    disk.make_folder(cache)
    document = {name: asdict(answer) for name, answer in answers.items()}
    disk.write_durably(answers_file(folder, cache), json.dumps(document, sort_keys=True).encode())


def answers_file(folder: Path, cache: Path) -> Path:
    """Where the answers of a repository's remotes are kept."""
    name = hashlib.sha1(os.fsencode(os.path.realpath(git.common_folder(folder))), usedforsecurity=False).hexdigest()
    return cache / f"remotes-{name}.json"
