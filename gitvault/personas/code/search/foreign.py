"""The history of hg and svn checkouts, made into a repository of git in the vault's cache: that is what is searched.

Read through their own clients, revision after revision, and each only once: what a run could not finish the next one
goes on with, and until all is there it counts for nothing. A file of it, `revisions`, says which commit each became.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from gitvault.core.utils import layout, process
from gitvault.core.utils.files import Disk
from gitvault.errors import GitVaultError, ToolFailed
from gitvault.personas.code.search.model import CONVERTED, SVN
from gitvault.vcs import hg, hg_store, svn, svn_store
from gitvault.vcs.find import checkout_at
from gitvault.vcs.state import Checkout

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from gitvault.vault import Vault

LARGEST = 16 << 20
"""Bytes of a file; of larger ones the past is not read."""
_BATCH = 500
_BATCH_BYTES = 32 << 20
_AT_ONCE = 4
_CHUNK = 100
_DAY = 86_400
_HG_FORM = (
    "{node}\\n{p1node}\\n{p2node}\\n{author|firstline}\\n{date|hgdate}\\n{desc|firstline}\\n"
    '{file_mods % "M{file}\\n"}{file_adds % "M{file}\\n"}{file_dels % "D{file}\\n"}\\n'
)
_NOWHERE = "0" * 40


@dataclass(frozen=True, slots=True)
class Revision:
    """A changeset of hg or a revision of svn."""

    name: str
    """The changeset, or `r` and the number."""
    parents: tuple[str, ...]
    author: str
    time: int
    subject: str
    changed: Mapping[bytes, bytes | None] = field(default_factory=dict)
    """What it changed against its first parent: contents by path, None for what is gone."""


def folder_of(vault: Path, checkout: Path | str) -> Path:
    """Where the history of a checkout is kept in a vault."""
    name = hashlib.sha1(os.fsencode(os.path.realpath(checkout)), usedforsecurity=False).hexdigest()
    return vault / layout.HISTORIES / f"{name}{CONVERTED}"


def is_read(folder: Path) -> bool:
    """Whether all of a history is there."""
    return (folder / "HEAD").is_file() and (folder / "read").is_file()


def bring_up(vault: Vault, patience: float, clock: Callable[[], float]) -> list[str]:
    """Read what is new in the history of each hg and svn project of this machine; what could not be, in words.

    `patience`: seconds for all of it. Each reason is said once.
    """
    end = clock() + patience
    said: dict[str, None] = {}
    for project in vault.projects():
        if project.host != vault.config.machine or project.mode == "ignore-vcs":
            continue
        checkout = checkout_at(Path(project.path))
        if checkout is None or checkout.vcs not in ("hg", "svn"):
            continue
        into = folder_of(vault.path, project.path)
        try:
            left = update(checkout, into, vault.history.disk, lambda: clock() > end, int(vault.now().timestamp()))
            if left:
                said[f"{project.name}: {left} revisions of its history are not read yet"] = None
        except ToolFailed as error:
            reason = hg.told(error) if checkout.vcs == "hg" else svn.told(error)
            said[f"{project.name}: its {checkout.vcs} history cannot be read: {reason}"] = None
        except (GitVaultError, OSError, ValueError, sqlite3.Error) as error:
            said[str(error)] = None
    return list(said)


def update(checkout: Checkout, into: Path, disk: Disk, expired: Callable[[], bool], now: int) -> int:
    """Read what is new in the history of a checkout into `into`; how many revisions are left when time is up.

    Raises ToolError, OSError, ValueError, sqlite3.Error, StorageFullError.
    """
    stamp = _stamp(checkout, now)
    known = _known(into)
    before = known.pop("", "")
    if before == stamp and is_read(into):
        return 0
    if before.partition(" ")[0] != stamp.partition(" ")[0]:
        # Another repository, or another folder of it.
        known.clear()
    disk.make_folder(into.parent)
    if not (into / "HEAD").is_file():
        process.run(["git", "init", "-q", "--bare", "--template=", into])
    reader = _Hg(checkout.path) if checkout.vcs == "hg" else _Svn(checkout.path)
    wanted = reader.missing(known)
    done = 0
    batch: list[Revision] = []
    size = 0
    for revision in reader.read(wanted):
        batch.append(revision)
        size += sum(len(text or b"") for text in revision.changed.values())
        done += 1
        if late := expired():
            break
        if len(batch) >= _BATCH or size > _BATCH_BYTES:
            _import(into, batch, known, disk, stamp.partition(" ")[0])
            batch, size = [], 0
    else:
        late = False
    complete = not late or done == len(wanted)
    _import(into, batch, known, disk, stamp if complete else stamp.partition(" ")[0])
    if complete:
        _point(into, known, reader)
        disk.write_durably(into / "read", b"")
    return len(wanted) - done


def _stamp(checkout: Checkout, now: int) -> str:
    """Which history it is, and what changes when there may be something new in it.

    Of svn that is at least once a day, since others commit to its server.
    """
    if checkout.vcs == "svn":
        about = svn_store.about(checkout.path)
        which = hashlib.sha1(repr((about["url"], about["branch"])).encode(), usedforsecurity=False).hexdigest()
        return f"{which} {svn_store.state_of(checkout.path)} {now // _DAY}"
    seen = []
    for name in ("store/00changelog.i", "store/phaseroots", "store/obsstore", "dirstate"):
        with contextlib.suppress(OSError):
            found = (hg.shared_of(checkout.path) / name).stat()
            seen.append((name, found.st_mtime_ns, found.st_size))
    return f"hg {hashlib.sha1(repr(seen).encode(), usedforsecurity=False).hexdigest()}"


def _known(into: Path) -> dict[str, str]:
    """The commits that revisions became, by name, and under no name the stamp of the last full run."""
    try:
        rows = (into / "revisions").read_text("ascii").splitlines()
        return {name: oid for name, _, oid in (row.partition("\t") for row in rows)}
    except (OSError, ValueError):
        return {}


def commit_of(into: Path, name: str) -> str:
    """The commit that a revision became, in hex; empty for one that was not read."""
    return _known(into).get(name, "") if name else ""


# -- into git ----------------------------------------------------------------------------------------


def _import(into: Path, batch: Sequence[Revision], known: dict[str, str], disk: Disk, stamp: str) -> None:
    """Make commits of revisions, and note them."""
    if batch:
        marks = {revision.name: number for number, revision in enumerate(batch, 1)}
        stream = b"".join(part for one in batch for part in _commit(one, marks, known))
        with tempfile.TemporaryDirectory(prefix="gitvault-") as scratch:
            told = Path(scratch, "marks")
            command = ["git", f"--git-dir={into}", "fast-import", "--quiet", "--force", f"--export-marks={told}"]
            process.run(command, stdin=stream)
            commits = dict(line.split(" ") for line in told.read_text("ascii").splitlines())
        known |= {name: commits[f":{number}"] for name, number in marks.items()}
    rows = [f"\t{stamp}\n", *(f"{name}\t{oid}\n" for name, oid in known.items())]
    disk.write_durably(into / "revisions", "".join(rows).encode("ascii"))


def _commit(one: Revision, marks: Mapping[str, int], known: Mapping[str, str]) -> Iterator[bytes]:
    who = f"{_author(one.author)} {max(0, one.time)} +0000".encode("utf-8", "replace")
    message = f"{one.subject}\n\nVault-Snapshot: {_id(one.name)}\n".encode("utf-8", "replace")
    parents = [f":{marks[name]}" if name in marks else known[name] for name in one.parents]
    if not parents:
        # Else it would follow the one before.
        yield b"reset refs/gitvault/read\n\n"
    yield b"commit refs/gitvault/read\nmark :%d\n" % marks[one.name]
    yield b"author %s\ncommitter %s\ndata %d\n%s\n" % (who, who, len(message), message)
    for verb, parent in zip(("from", *("merge",) * len(parents)), parents, strict=False):
        yield f"{verb} {parent}\n".encode()
    for path, text in sorted(one.changed.items(), key=lambda item: item[1] is not None):
        quoted = b'"' + path.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n") + b'"'
        if text is None:
            yield b"D %s\n" % quoted
        elif len(text) <= LARGEST:
            yield b"M 100644 inline %s\ndata %d\n" % (quoted, len(text))
            yield text
            yield b"\n"
    yield b"\n"


def _author(text: str) -> str:
    """As git wants it."""
    match = re.fullmatch(r"([^<>]*)<([^<>]*)>?.*", text)
    name, email = match.groups() if match else (text, "")
    clean = re.compile(r"[<>\n\0]")
    return f"{clean.sub('', name).strip() or clean.sub('', email) or 'unknown'} <{clean.sub('', email).strip()}>"


def _id(name: str) -> str:
    return (SVN + int(name[1:]).to_bytes(8, "big")).hex() if name.startswith("r") else name


def _point(into: Path, known: Mapping[str, str], reader: _Hg | _Svn) -> None:
    """Let HEAD and branches of the repository be what the checkout is at, and its other heads."""
    at, heads = reader.tips()
    wanted = {f"refs/heads/{name}": known[name] for name in heads if name in known}
    listed = process.run(
        ["git", f"--git-dir={into}", "for-each-ref", "--format=%(refname) %(objectname)", "refs/heads"]
    )
    there = dict(line.split(" ") for line in listed.decode().splitlines())
    lines = [f"delete {name}\n" for name in there.keys() - wanted.keys()]
    lines += [f"update {name} {oid}\n" for name, oid in wanted.items() if there.get(name) != oid]
    if at in known:
        lines += ["option no-deref\n", f"update HEAD {known[at]}\n"]
    process.run(["git", f"--git-dir={into}", "update-ref", "--stdin"], stdin="".join(lines).encode())


# -- out of hg and svn -------------------------------------------------------------------------------


class _Hg:
    def __init__(self, folder: Path, server: hg.Server = hg.SERVER) -> None:
        self._folder = folder
        self._server = server

    def missing(self, known: Mapping[str, str]) -> list[tuple[int, str]]:
        """Changesets that are not known, by number, oldest first."""
        said = self._server.ask(self._folder, "log", "-r", "all()", "-T", "{rev} {node}\\n").decode().splitlines()
        rows = ((int(number), node) for number, node in (line.split(" ") for line in said))
        return [(number, node) for number, node in rows if node not in known]

    def read(self, wanted: Sequence[tuple[int, str]]) -> Iterator[Revision]:
        for at in range(0, len(wanted), _CHUNK):
            part = dict(wanted[at : at + _CHUNK])
            span = f"{min(part)}:{max(part)}"
            lines = iter(self._server.ask(self._folder, "log", "-r", span, "-T", _HG_FORM).split(b"\n"))
            for node in lines:
                if not node:
                    continue
                first, second, author, date, subject = (next(lines) for _ in range(5))
                changed: dict[bytes, bytes | None] = {}
                asked: list[bytes] = []
                while line := next(lines):
                    if line[:1] == b"M":
                        asked.append(line[1:].replace(os.fsencode(os.sep), b"/"))
                    else:
                        changed[line[1:].replace(os.fsencode(os.sep), b"/")] = None
                name = node.decode()
                if name not in part.values():
                    continue
                if second.decode() != _NOWHERE:
                    # What a merge lists are the files that differ from both parents.
                    changed, asked = self._against(first.decode(), name)
                changed |= hg_store.contents(self._folder, self._server, name, asked)
                parents = tuple(one.decode() for one in (first, second) if one.decode() != _NOWHERE)
                when = int(float(date.split(b" ")[0]))
                yield Revision(name, parents, _text(author), when, _text(subject), changed)

    def _against(self, parent: str, name: str) -> tuple[dict[bytes, bytes | None], list[bytes]]:
        said = self._server.ask(self._folder, "status", "--rev", parent, "--rev", name, "-mar0").split(b"\0")
        rows = [(row[:1], row[2:].replace(os.fsencode(os.sep), b"/")) for row in said if row]
        return {path: None for kind, path in rows if kind == b"R"}, [path for kind, path in rows if kind != b"R"]

    def tips(self) -> tuple[str, list[str]]:
        """What is checked out, and the heads."""
        heads = self._server.ask(self._folder, "log", "-r", "head()", "-T", "{node}\\n").decode().split()
        at = self._server.ask(self._folder, "log", "-r", "parents() + tip", "-T", "{node}\\n").decode().split()
        return at[0] if at else "", heads


class _Svn:
    """The history of the folder of the repository that is checked out, since it has been there under its name."""

    def __init__(self, folder: Path) -> None:
        about = svn_store.about(folder)
        self._folder = folder
        self._root = about["url"]
        self._place = about["branch"]
        self._url = f"{self._root}/{quote(self._place)}".rstrip("/")
        self._last = ""

    def missing(self, known: Mapping[str, str]) -> list[tuple[int, str]]:
        """Revisions that are not known, oldest first."""
        last = max((int(name[1:]) for name in known), default=0)
        self._last = f"r{last}" if last else ""
        options = ("--verbose", "--stop-on-copy", "-r", f"{last + 1}:HEAD" if last else "1:HEAD")
        try:
            said = svn.ask(self._folder, "log", *options, f"{self._url}@HEAD", timeout=10 * svn.LIMIT)
            self._log = list(said.iter("logentry"))
        except ToolFailed as error:
            if "E160006" not in error.stderr:
                raise
            # There is nothing, or nothing newer than what is known.
            self._log = []
        numbers = [int(entry.get("revision", "0")) for entry in self._log]
        return [(number, f"r{number}") for number in numbers if number > last]

    def read(self, wanted: Sequence[tuple[int, str]]) -> Iterator[Revision]:
        names = dict(wanted)
        for entry in self._log:
            number = int(entry.get("revision", "0"))
            if number not in names:
                continue
            changed = self._changed(number, entry) if self._last else self._all(number)
            when = datetime.fromisoformat(entry.findtext("date", "1970-01-01T00:00:00Z"))
            subject = entry.findtext("msg", "").partition("\n")[0]
            parents = (self._last,) if self._last else ()
            yield Revision(
                names[number], parents, entry.findtext("author", ""), int(when.timestamp()), subject, changed
            )
            self._last = names[number]

    def tips(self) -> tuple[str, list[str]]:
        """The newest revision."""
        return self._last, [self._last] if self._last else []

    def _all(self, number: int) -> dict[bytes, bytes | None]:
        found: dict[bytes, bytes | None] = {}
        with tempfile.TemporaryDirectory(prefix="gitvault-") as scratch:
            into = Path(scratch, "export")
            svn_store.export(self._root, self._place, number, into)
            for folder, _, names in os.walk(into):
                for name in names:
                    file = Path(folder, name)
                    if not file.is_symlink():
                        found[os.fsencode(file.relative_to(into).as_posix())] = file.read_bytes()
        return found

    def _changed(self, number: int, entry: Element) -> dict[bytes, bytes | None]:
        top = f"/{self._place}/" if self._place else "/"
        found: dict[bytes, bytes | None] = {}
        asked: list[str] = []
        for path in entry.iter("path"):
            text = path.text or ""
            if not text.startswith(top):
                continue
            inside = text[len(top) :]
            action, kind = path.get("action", ""), path.get("kind", "")
            if action in ("D", "R"):
                found[os.fsencode(inside)] = None
            if kind == "file" and action != "D":
                asked.append(inside)
            elif action in ("A", "R") and (kind != "dir" or path.get("copyfrom-path")):
                return self._compared(number)
        return found | self._contents(number, asked)

    def _compared(self, number: int) -> dict[bytes, bytes | None]:
        """The same by a question of its own: what is in a folder that was copied the log does not say."""
        said = svn.ask(self._folder, "diff", "--summarize", "-c", str(number), f"{self._url}@{number}")
        found: dict[bytes, bytes | None] = {}
        asked: list[str] = []
        for path in said.iter("path"):
            inside = unquote((path.text or "").removeprefix(f"{self._url}/"))
            if path.get("item") == "deleted":
                found[os.fsencode(inside)] = None
            elif path.get("kind") == "file" and path.get("item") in ("added", "modified"):
                asked.append(inside)
        return found | self._contents(number, asked)

    def _contents(self, number: int, paths: Sequence[str]) -> dict[bytes, bytes | None]:
        def read(inside: str) -> bytes:
            return svn_store.fetched(self._root, f"{self._place}/{inside}".lstrip("/"), number)

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return dict(zip(map(os.fsencode, paths), pool.map(read, paths), strict=True))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
