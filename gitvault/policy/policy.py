"""The rules of one project, from all the places they come from, told folder by folder.

Who wins, strongest first: `vault.ignore`, the nearest `.gitvault.toml`, the global file, what version control tracks,
the keep list, version control's ignore files, the built-in ecosystems. What nothing speaks of is saved.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.core.beside import Beside
from gitvault.core.models import Problem
from gitvault.core.utils.files import list_source, scan_source
from gitvault.core.versioning.indexed import Indexes
from gitvault.errors import ConfigError
from gitvault.policy import tracked
from gitvault.policy.ecosystems import CACHE_SIGNATURE, CACHE_TAG, PROJECT_FILE, Ecosystems, ecosystems
from gitvault.policy.ignores import excludes_file
from gitvault.policy.patterns import (
    BUILT_IN,
    EVERYWHERE,
    IGNORED,
    PROJECT,
    TRACKED,
    VAULT,
    Live,
    Rule,
    parse,
)
from gitvault.policy.tracked import MARKS, GitTop, Tracked, Unreadable

if TYPE_CHECKING:
    from gitvault.core.interfaces import Scope
    from gitvault.policy.project_file import Said

_USERS = (EVERYWHERE, PROJECT, VAULT)
_IGNORE_LIMIT = 1 << 20
_PEEKED = 1000
"""Entries of an ignored folder that are looked at for something to keep: 1 ms."""


@dataclass(slots=True)
class Place:
    """One folder, and what holds in it. A Scope."""

    policy: Policy
    at: str
    """Where it is on disk."""
    live: Live
    closed: Rule | None = None
    """What leaves all of it out, but for what is tracked or kept by name."""
    kept: bool = False
    """Saved whole, but for what a user's rule leaves out."""
    tracked: Tracked | None = None
    inner: bytes = b""
    """The folder, from the top of its work tree."""
    digest: bytes = b""

    def omits(self, name: bytes, is_folder: bool) -> str:
        """See Scope."""
        if self.closed is None and not self._is_spoken_of(name, is_folder):
            return ""
        rule = self.rule(name, is_folder)
        if rule is None or rule.keep or (is_folder and self.looks_into(name, rule)):
            return ""
        self.policy.left_out[rule.text, os.path.basename(rule.source), is_folder] += 1
        return reason(rule)

    def _is_spoken_of(self, name: bytes, is_folder: bool) -> bool:
        """Whether a rule may speak of an entry of the folder; no is certain."""
        return self.live.may_match(name, is_folder) or self._by_path(name, is_folder) is not None

    def _by_path(self, name: bytes, is_folder: bool) -> Rule | None:
        """What version control says by whole paths, as only Mercurial does."""
        if self.tracked is None or self.tracked.ignored is None:
            return None
        return self.tracked.ignored.rule(self.inner + b"/" + name if self.inner else name, is_folder)

    def rule(self, name: bytes, is_folder: bool) -> Rule | None:
        """What decides of an entry of the folder; None: nothing speaks of it, and it is saved."""
        hit = next((r for r in self.live.matches(name, is_folder) if not r.when or self._holds(name, r.when)), None)
        if hit is None or hit.level < IGNORED:
            hit = self._by_path(name, is_folder) or hit
        closed = self.closed
        if hit and hit.level > TRACKED and (closed is None or closed.level <= hit.level):
            return hit
        if (closed is None and (hit is None or hit.keep)) or name in _REPOSITORIES:
            return hit if hit and hit.keep else None
        out = closed or hit
        assert out is not None
        if out.level > TRACKED:
            return out
        if self.tracked and not is_folder and self.tracked.has(self.inner, name):
            return Rule("tracked", True, TRACKED, self.tracked.source, 0, (name,))
        # Below a folder that can be made again nothing is kept for its name: node_modules is full of such names.
        if closed is None or closed.level == IGNORED:
            return next(self.policy.built_in.keep.matches(name, is_folder), out)
        return out

    def looks_into(self, name: bytes, rule: Rule) -> bool:
        """Whether a folder that `rule` leaves out is walked all the same, for something in it that is not."""
        if self.live.leads_to(name, rule.level):
            return True
        if rule.level > TRACKED:
            return False
        if self.tracked and self.tracked.has(self.inner, name):
            return True
        if rule.level != IGNORED or any(r.level == BUILT_IN for r in self.live.matches(name, True)):
            return False
        return self._holds_treasure(self._path(name))

    def _holds(self, name: bytes, wanted: Iterable[str]) -> bool:
        """Whether the folder `name` has one of these names in it."""
        try:
            held = list_source(self._path(name))
        except OSError:
            return False

        return any(fnmatch.filter(held, one) for one in wanted)

    def _holds_treasure(self, path: str) -> bool:
        """Whether an ignored folder is a checkout, or holds one or something of the keep list."""
        keep = self.policy.built_in.keep
        try:
            with scan_source(path) as listed:
                for entry in islice(listed, _PEEKED):
                    is_folder = entry.is_dir(follow_symlinks=False)
                    if entry.name in MARKS or keep.may_match(os.fsencode(entry.name), is_folder):
                        return True
                    if is_folder and os.path.lexists(f"{path}/{entry.name}/.git"):
                        return True
        except OSError:
            return False
        return False

    def _path(self, name: bytes) -> str:
        return f"{self.at}/{os.fsdecode(name)}"


_REPOSITORIES = frozenset(map(os.fsencode, MARKS))


def reason(rule: Rule) -> str:
    """Why something is left out, for people."""
    if rule.level == VAULT:
        return f"left out by vault.ignore = {rule.text}"
    return f"left out by {rule.text} ({rule.source}{f':{rule.line}' if rule.line else ''})"


class Policy:
    """What of one project is saved, and why. Rules, for any number of walks one after the other."""

    def __init__(
        self,
        root: Path | str,
        *,
        ignore: Iterable[str] = (),
        ignore_source: Callable[[str], tuple[str, int]] = lambda pattern: ("", 0),
        everywhere: Path | str | None = None,
        conventions: bool = True,
        indexes: Indexes | None = None,
    ) -> None:
        """`ignore`: patterns of `vault.ignore`; `ignore_source`: the file and line of one. `everywhere`: the file with
        rules for all projects. Without `conventions` only what users wrote for gitvault counts. `indexes`: reads those
        of git.
        """
        self.root = os.path.abspath(root)
        self.built_in: Ecosystems = ecosystems()
        self.problems: list[Problem] = []
        """What could not be read on the way, each once."""
        self.left_out: Counter[tuple[str, str, bool]] = Counter()
        """How many entries each rule left out: by its text, the name of its file, and whether they are folders."""
        self.files: dict[str, Said] = {}
        """What each `.gitvault.toml` that was met says, and the global file."""
        self.errors: list[ConfigError] = []
        """Those that could not be understood."""
        self.everywhere = os.fspath(everywhere) if everywhere else ""
        self._ignore = tuple(ignore)
        self._ignore_source = ignore_source
        self._conventions = conventions
        self._above: tuple[Path, ...] = ()
        """The folders around the root that have a say, the innermost first."""
        self.indexes = indexes or Indexes()

    # -- Rules -----------------------------------------------------------------------------------

    @property
    def digest(self) -> bytes:
        """See Rules."""
        said = b""
        with contextlib.suppress(OSError):
            said = Path(self.everywhere).read_bytes() if self.everywhere else b""
        settings = repr((self._ignore, self._conventions, self.everywhere, said, self.built_in.digest))
        return hashlib.sha1(settings.encode("utf-8", "surrogateescape"), usedforsecurity=False).digest()

    def marks(self, names: Iterable[str]) -> Sequence[str]:
        """See Rules."""
        if not self._conventions:
            return [name for name in names if name == PROJECT_FILE]
        return self.built_in.marks(names if isinstance(names, list) else list(names))

    def scope(self, path: bytes, marks: Sequence[str], outer: Scope | None) -> Place:
        """See Rules."""
        if not isinstance(outer, Place):
            return self._root(marks)
        name = path.rpartition(b"/")[2]
        return self._enter(outer, name, f"{outer.at}/{os.fsdecode(name)}", marks)

    def beside(self) -> Beside | None:
        """What the last walk's answers depend on outside of the root: the work tree that it lies in."""
        if not self._above:
            return Beside()
        top = GitTop(os.fspath(self._above[-1]))
        said = (folder / name for folder in self._above for name in (".gitignore", PROJECT_FILE))
        files = {*self._above, *said, Path(top.folder, "index"), Path(top.exclude)}
        return Beside(frozenset(map(os.fspath, files)))

    # -- the way down ----------------------------------------------------------------------------

    def _root(self, marks: Sequence[str]) -> Place:
        for held in (self.problems, self.left_out, self.files, self.errors):
            held.clear()
        nowhere = Place(self, os.path.dirname(self.root), Live())
        name = os.fsencode(os.path.basename(self.root))
        around = self._around(nowhere, marks)
        place = self._enter(around, name, self.root, marks)
        if place.closed:
            # Somebody asked for this very folder: that a repository around it ignores it says nothing.
            place = self._enter(nowhere, name, self.root, marks)
        return place

    @cached_property
    def ignored(self) -> tuple[Rule, ...]:
        """The rules of `vault.ignore`."""
        rules = []
        for text in self._ignore:
            if pattern := parse(text.encode("utf-8", "surrogateescape")):
                source, line = self._ignore_source(text)
                rules.append(Rule(text, pattern.negated, VAULT, source, line, pattern.segments, pattern.folders_only))
        return tuple(rules)

    def _own_rules(self) -> tuple[Rule, ...]:
        """What holds from the root on."""
        everywhere = self._said(self.everywhere, EVERYWHERE).rules if self.everywhere else ()
        return (*everywhere, *self.ignored)

    def _around(self, nowhere: Place, marks: Sequence[str]) -> Place:
        """The folder around the root, when the root lies within a git work tree."""
        self._above = ()
        if not self._conventions or MARKS.intersection(marks):
            return nowhere
        above = list(Path(self.root).parents)
        top = next((at for at, folder in enumerate(above) if os.path.lexists(folder / ".git")), None)
        if top is None:
            return nowhere
        place = nowhere
        self._above = tuple(above[: top + 1])
        for folder in reversed(self._above):
            try:
                names = list_source(folder)
            except OSError:
                names = [name for name in (".git", ".gitignore") if os.path.lexists(folder / name)]
            path = os.fspath(folder)
            place = self._enter(place, os.fsencode(folder.name), path, self.marks(names))
        return place

    def _enter(self, outer: Place, name: bytes, at: str, marks: Sequence[str]) -> Place:
        live = outer.live.below(name)
        inner = outer.inner + b"/" + name if outer.inner else name
        place = Place(self, at, live, outer.closed, outer.kept, outer.tracked, inner)
        if not outer.kept:
            self._judge(outer, name, place)
            if place.tracked and place.inner in place.tracked.whole:
                self._keep_whole(place)
        if at == self.root:
            place.live = place.live.add(self._own_rules())
        if marks or (place.tracked and place.inner in place.tracked.rules):
            if not place.kept:
                self._take_in(place, marks)
            if PROJECT_FILE in marks:
                place.live = place.live.add(self._said(f"{at}/{PROJECT_FILE}", PROJECT).rules)
        if place.closed is None and place.tracked is None:
            place.digest = place.live.digest
        else:
            place.digest = self._digest(place)
        return place

    def _judge(self, outer: Place, name: bytes, place: Place) -> None:
        """What the folder around says of this one."""
        if name in _REPOSITORIES:
            self._keep_whole(place)
        elif outer.closed or outer._is_spoken_of(name, True):
            rule = outer.rule(name, True)
            if rule and not rule.keep:
                place.closed = rule
            elif rule and rule.level > IGNORED:
                self._keep_whole(place)

    @staticmethod
    def _keep_whole(place: Place) -> None:
        place.kept, place.closed, place.tracked = True, None, None
        place.live = place.live.only(*_USERS)

    def _take_in(self, place: Place, marks: Sequence[str]) -> None:
        """What the folder's own entries say of it."""
        at = place.at
        if not MARKS.isdisjoint(marks):
            self._begin_work_tree(place, marks)
        elif (
            place.closed is None
            and at != self.root
            and (rule := self._cache_tag(at, marks) or self.built_in.closes(marks))
        ):
            place.closed = rule
        if place.kept or place.closed:
            return
        if rules := self.built_in.rules(marks):
            place.live = place.live.add(rules)
        if place.tracked and (held := place.tracked.rules.get(place.inner)):
            place.live = place.live.add(held)
        if ".gitignore" in marks and place.tracked and place.tracked.reads_gitignore:
            place.live = place.live.add(self._ignore_file(f"{at}/.gitignore"))

    def _cache_tag(self, at: str, marks: Sequence[str]) -> Rule | None:
        if CACHE_TAG not in marks:
            return None
        source = f"{at}/{CACHE_TAG}"
        try:
            signed = tracked.read_small(source, _IGNORE_LIMIT).startswith(CACHE_SIGNATURE)
        except OSError:
            return None
        return Rule(CACHE_TAG, False, BUILT_IN, source, 1, (b"*",), True, "cache") if signed else None

    def _begin_work_tree(self, place: Place, marks: Sequence[str]) -> None:
        at = place.at
        git = GitTop(at) if ".git" in marks else None
        rules: Sequence[Rule] = ()
        try:
            if git and git.folder:
                held = git.tracked(self.indexes)
                rules = [*self._ignored_everywhere, *self._ignore_file(git.exclude)]
            elif ".hg" in marks:
                held = tracked.hg_tracked(at)
            elif ".svn" in marks:
                held = tracked.svn_tracked(at)
            else:
                return
        except Unreadable as error:
            self._problem(at, f"what is tracked cannot be told, so nothing is left out here: {error}")
            self._keep_whole(place)
            return
        place.tracked, place.closed, place.inner = held, None, b""
        place.live = place.live.only(BUILT_IN, *_USERS).add(rules)

    @cached_property
    def _ignored_everywhere(self) -> list[Rule]:
        """What a user has git ignore in all work trees."""
        path = excludes_file()
        return self._ignore_file(path) if path else []

    def _ignore_file(self, path: str) -> list[Rule]:
        try:
            data = tracked.read_small(path, _IGNORE_LIMIT)
        except OSError:
            return []
        rules = []
        for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
            if pattern := parse(line):
                text = line.decode("utf-8", "surrogateescape").strip()
                rules.append(Rule(text, pattern.negated, IGNORED, path, number, pattern.segments, pattern.folders_only))
        return rules

    def _said(self, path: str, level: int) -> Said:
        if path not in self.files:
            from gitvault.policy import project_file

            try:
                self.files[path] = project_file.load(Path(path), level)
            except ConfigError as error:
                self.errors.append(error)
                self._problem(path, str(error))
                self.files[path] = project_file.Said()
        return self.files[path]

    def _problem(self, path: str, what: str) -> None:
        inside = os.path.relpath(path, self.root).replace(os.sep, "/")
        problem = Problem(b"" if inside == "." else os.fsencode(inside), what)
        if problem not in self.problems:
            self.problems.append(problem)

    def _digest(self, place: Place) -> bytes:
        made = place.live.digest + self.built_in.keep.digest
        if place.closed:
            made += b"%d" % place.closed.level
        if place.tracked:
            made += place.tracked.digest(place.inner)
            if place.tracked.ignored:
                made += place.tracked.ignored.digest
            if not place.inner:
                # A walk that does not look at every folder has to see here that it must.
                made += place.tracked.whole_digest
        return made

    # -- for people ------------------------------------------------------------------------------

    def note(self) -> str:
        """What was left out, in one line; empty when nothing was."""
        if not self.left_out:
            return ""
        counts = {
            what: sum(count for (_, _, is_folder), count in self.left_out.items() if is_folder == (what == "folder"))
            for what in ("folder", "file")
        }
        said = [f"{count:,} {what}{'' if count == 1 else 's'}" for what, count in counts.items() if count]
        most = [
            f"{text} ({source or 'vault.ignore'}) {count:,}"
            for (text, source, _), count in self.left_out.most_common(_SHOWN)
        ]
        if more := len(self.left_out) - len(most):
            most.append(f"{more} rules more")
        return f"left out {' and '.join(said)}: {', '.join(most)}; git vault policy explain PATH tells why"


_SHOWN = 5
