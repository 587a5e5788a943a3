"""hg and svn checkouts, saved without the copy of their repository that they carry; what is said of all but git.

Their files are saved like any others. What is left out is what the server has and the checkout repeats:
`.svn/pristine`, `.hg/store`. Attached to the snapshot is a record of each checkout and, of hg, the changesets that no
remote has.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gitvault.core.backup_engine.trees import Attachment, Stored, Walked, company_of
from gitvault.core.beside import Beside
from gitvault.core.interfaces import Rules, Scope
from gitvault.core.models import PROTECTED, ObjectId, Problem, SnapshotId
from gitvault.core.touched import Touched, is_below
from gitvault.core.utils.names import from_text, to_line, to_text
from gitvault.core.versioning import contents
from gitvault.core.versioning.history import GitHistory
from gitvault.errors import CorruptionError, NotFoundError, ToolError, ToolFailed, ToolMissing
from gitvault.vcs import hg, hg_store, others, svn, svn_store
from gitvault.vcs.find import MARKERS, checkout_at, places
from gitvault.vcs.protect.record import pieces
from gitvault.vcs.state import Checkout

_MARKERS = frozenset(MARKERS)
_VERSION = 1
_RECORD = b"checkout.json"
_BUNDLE = b"local.hg"


@dataclass(frozen=True, slots=True)
class Record:
    """What a snapshot says of a checkout that is not git's."""

    vcs: str
    path: str
    """In the project, as text; "" for the project itself."""
    home: str
    """Its folder on the machine of the snapshot."""
    url: str = ""
    """Of its repository, without credentials."""
    branch: str = ""
    revision: str = ""
    client: str = ""
    full: str = ""
    """Why it is stored with all that it carries, in words; "" when that is left out."""


@dataclass(slots=True)
class _Carried:
    """A checkout that a walk came by."""

    checkout: Checkout
    record: Record
    has_local: bool = False


class Lean:
    """Leaves out what hg and svn checkouts carry of their repositories; `inner` decides about all else. Rules."""

    def __init__(
        self, root: str, inner: Rules, history: GitHistory, tip: ObjectId | None, server: hg.Server = hg.SERVER
    ) -> None:
        """`tip`: the commit of the last snapshot."""
        self._root = Path(root)
        self._inner = inner
        self._company = company_of(inner)
        self._history = history
        self._tip = tip
        self._beside: Beside | None = Beside()
        self._server = server
        self._found: dict[bytes, _Carried] = {}
        self._left: dict[bytes, _Left] = {}
        self._notes: list[str] = []

    @property
    def digest(self) -> bytes:
        """See Rules."""
        return self._inner.digest

    def marks(self, names: Iterable[str]) -> Sequence[str]:
        """See Rules."""
        names = names if isinstance(names, list) else list(names)
        marks = self._inner.marks(names)
        found = _MARKERS.intersection(names)
        return [*marks, *sorted(found.difference(marks))] if found else marks

    def scope(self, path: bytes, marks: Sequence[str], outer: Scope | None) -> Scope:
        """See Rules."""
        inner = self._inner.scope(path, marks, outer.inner if isinstance(outer, _Inside) else outer)
        if not marks and not self._left:
            return inner
        markers = [name for name in marks if name in MARKERS and name != ".git"]
        omitted = any(inner.omits(os.fsencode(name), True) for name in markers)
        if markers and not omitted and path not in self._found and ".git" not in marks:
            self._come_by(path, markers)
        left = self._left.get(path)
        return _Inside(inner, left) if left else inner

    def _come_by(self, path: bytes, markers: list[str]) -> None:
        folder = self._root / os.fsdecode(path) if path else self._root
        checkout = checkout_at(folder, markers)
        if checkout is None:
            return
        facts: dict[str, str] = {}
        full, has_local = "", False
        prefix = path + b"/" if path else b""
        beside: Beside | None = None
        try:
            if checkout.vcs == "svn":
                facts = svn_store.about(folder)
                beside = places(folder, [facts["url"]])
                if lost := svn.gone(facts["url"]):
                    raise ValueError(lost)
                self._leave_svn(prefix + b".svn", svn_store.only_here(folder))
            elif checkout.vcs == "hg":
                beside = places(folder, hg.remotes_of(folder).values())
                where = hg_store.place_of(folder, self._server)
                facts = {"url": where.url, "branch": where.branch, "revision": where.base}
                has_local = where.has_local
                self._left[prefix + b".hg"] = _Left("hg", hg_store.CACHES)
                self._left[prefix + b".hg/store"] = _Left("hg", hg_store.KEPT, all_but=True)
            else:
                said = others.described(checkout)
                facts = {"client": said.get("client", ""), "branch": said.get("stream", "")}
                facts["revision"] = said.get("revision", "")
        except (ToolError, ValueError, OSError, sqlite3.Error) as error:
            # What is wrong with the checkout itself is so until it is touched.
            beside = beside if isinstance(error, ValueError) else None
            full = hg.told(error) if isinstance(error, ToolFailed) else str(error)
            # That a program is missing is said once, however many checkouts there are.
            note = full if isinstance(error, ToolMissing) else f"{to_line(path) or '.'}: stored in full: {full}"
            self._notes += [note] if note not in self._notes else []
        self._beside = self._beside | beside if self._beside and beside else None
        facts["url"] = re.sub(r"^([a-z+]+://)[^/@]*@", r"\1", facts.get("url", ""))
        record = Record(checkout.vcs, to_text(path), os.fspath(folder), full=full, **facts)
        self._found[path] = _Carried(checkout, record, has_local)

    def _leave_svn(self, own: bytes, only_here: set[bytes]) -> None:
        if not only_here:
            self._left[own] = _Left("svn", frozenset((b"pristine", b"tmp")))
            return
        self._left[own] = _Left("svn", frozenset((b"tmp",)))
        shards = {name.partition(b"/")[0] for name in only_here}
        self._left[own + b"/pristine"] = _Left("svn", frozenset(shards), all_but=True)
        for shard in shards:
            names = {name.partition(b"/")[2] for name in only_here if name.startswith(shard + b"/")}
            self._left[own + b"/pristine/" + shard] = _Left("svn", frozenset(names), all_but=True)

    def widened(self, touched: Touched) -> Touched:
        """See Company."""
        return self._company.widened(touched)

    def attachments(self, walked: Walked) -> Iterator[Attachment]:
        """See Company. A checkout that nobody touched is as the last snapshot has it."""
        yield from self._company.attachments(walked)
        kept = self._kept(walked.untouched)
        for number, path in enumerate(sorted({*self._found, *kept})):
            if path not in self._found:
                vcs, files = kept[path]
                for name, blob in files.items():
                    yield b"%s%d/%s" % (vcs.encode(), number, name), Stored(blob)
                continue
            found = self._found[path]
            prefix = b"%s%d/" % (found.checkout.vcs.encode(), number)
            if found.has_local:
                # A failure here is the snapshot's: what no remote has would not be in it.
                for name, content in pieces(_BUNDLE, hg_store.bundle(found.checkout.path, self._server)):
                    yield prefix + name, content
            yield prefix + _RECORD, encode(found.record)

    def _kept(self, untouched: frozenset[bytes]) -> dict[bytes, tuple[str, dict[bytes, ObjectId]]]:
        """The checkouts of the last snapshot in these folders, with what is attached of them."""
        if not untouched or self._tip is None:
            return {}
        found = {}
        for files in _attached(self._history, self._history.commit(self._tip).tree):
            record = decode(self._history.blob(files[_RECORD]))
            if is_below(path := from_text(record.path), untouched):
                found[path] = record.vcs, files
        return found

    def beside(self) -> Beside | None:
        """See Company."""
        inner = self._company.beside()
        return inner | self._beside if inner and self._beside else None

    def notes(self) -> list[str]:
        """What people are to know, after the attachments."""
        return [*getattr(self._inner, "notes", list)(), *self._notes]


@dataclass(frozen=True, slots=True)
class _Left:
    """What of a folder is left out: these names, or all but these."""

    vcs: str = ""
    names: frozenset[bytes] = frozenset()
    all_but: bool = False


@dataclass(frozen=True, slots=True)
class _Inside:
    """A folder. A Scope."""

    inner: Scope
    left: _Left

    @property
    def digest(self) -> bytes:
        said = repr((self.left.vcs, sorted(self.left.names), self.left.all_but)).encode()
        return hashlib.sha1(self.inner.digest + said, usedforsecurity=False).digest()

    def omits(self, name: bytes, is_folder: bool) -> str:
        if (name in self.left.names) != self.left.all_but:
            return f"{PROTECTED}{self.left.vcs}: its server has it, or it is made again"
        return self.inner.omits(name, is_folder)


def encode(record: Record) -> bytes:
    """One line of canonical JSON."""
    return json.dumps({"version": _VERSION, **asdict(record)}, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def decode(text: bytes) -> Record:
    """Raises CorruptionError."""
    try:
        document: dict[str, Any] = json.loads(text)
        if document.pop("version") != _VERSION or not all(isinstance(value, str) for value in document.values()):
            raise ValueError("of another version")
        record = Record(**document)
        if any(part in (b".", b"..") or b"\0" in part for part in from_text(record.path).split(b"/")):
            raise ValueError(f"{record.path!r} is no path in a project")
        return record
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptionError(f"a checkout's record in the snapshot cannot be read ({error})") from error


def attached(history: GitHistory, snapshot: SnapshotId) -> Iterator[tuple[Record, bytes]]:
    """The checkouts of a snapshot that are not git's, each with its bundle. Raises CorruptionError, NotFoundError."""
    tree, _ = history.trees(snapshot, lambda _: None)
    for files in _attached(history, tree):
        parts = sorted(name for name in files if name.startswith(_BUNDLE + b"."))
        yield decode(history.blob(files[_RECORD])), b"".join(history.blob(files[part]) for part in parts)


def _attached(history: GitHistory, tree: ObjectId) -> Iterator[dict[bytes, ObjectId]]:
    for _, below in history.tree(contents.attached(history, tree)).values():
        files = {name: oid for name, (_, oid) in history.tree(below).items()}
        if _RECORD in files:
            yield files


def complete(history: GitHistory, snapshot: SnapshotId, target: Path) -> list[Problem]:
    """Give restored checkouts what was left out of them; what could not be had."""
    problems: list[Problem] = []
    try:
        found = list(attached(history, snapshot))
    except (CorruptionError, NotFoundError) as error:
        return [Problem(b"", str(error))]
    for record, local in found:
        path = from_text(record.path)
        own = f".{record.vcs}"
        # A link in a folder's place would have this write elsewhere.
        if record.full or record.vcs not in ("hg", "svn") or not _is_plain(target, path, own.encode()):
            continue
        folder = target / os.fsdecode(path) if path else target
        home = Path(record.home)
        if record.vcs == "svn":
            said = svn_store.complete(folder, home)
        else:
            said = hg_store.complete(folder, record.url, home, local)
        problems += [Problem(path, reason) for reason in said]
    return problems


def _is_plain(target: Path, path: bytes, own: bytes) -> bool:
    """Whether a checkout's own folder is there, and every step to it is a folder."""
    at = target
    for part in (*(path.split(b"/") if path else ()), own):
        at /= os.fsdecode(part)
        try:
            if not stat.S_ISDIR(os.lstat(at).st_mode):
                return False
        except OSError:
            return False
    return True
