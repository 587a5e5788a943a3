"""Reading an application's workspace: what goes along, what stays, and the record of it.

A record is `<application>/<id>/record.json` in the area `workspaces`, its files are beside it under
`files/<place>/<path>`, byte for byte as they were (a database as SQLite's own backup of it), but for what looks like
a password in settings, of which the value is taken out.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import sqlite3
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from gitvault.core.backup_engine.secrets import secret
from gitvault.core.patterns import Patterns
from gitvault.core.utils.files import open_source, read_link, scan_source
from gitvault.core.utils.names import from_text, to_text
from gitvault.core.versioning.edits import stamp
from gitvault.errors import AmbiguousError, CorruptionError, NotFoundError
from gitvault.personas.creative.workspaces.applications import Installed, Surroundings

if TYPE_CHECKING:
    from gitvault.vault import Vault
    from gitvault.vault.area import Area

AREA = "workspaces"
DATABASE = b"SQLite format 3\0"
"""How a database of SQLite begins."""
BESIDE = (b"-wal", b"-shm", b"-journal")
"""What SQLite keeps beside one, by the ends of the names; it is in the copy that it makes."""
_SECRET = re.compile(
    rb"(?im)^([ \t\"'<(]*[\w.\[\]-]*(?:passw(?:or)?d|passphrase|api[_-]?key|licen[cs]e[_-]?key|serial[_-]?number|"
    rb"(?:access|auth|refresh|session|bearer)[_-]?token|client[_-]?secret|secret[_-]?key)[\w.-]*[\"']?[ \t]*[=:][ \t]*)"
    rb"([\"']?)([^\s\"',;<>)][^\r\n\"']*)(\2)"
)
_LARGE = 16 << 20
_STEP = 1 << 20
# A file that changes while it is read is read again.
_TRIES, _PAUSE = 5, 0.1


@dataclass(frozen=True, slots=True)
class File:
    """One file of a workspace."""

    place: str
    path: str
    """Within the place, escaped as in JSON of the command line; empty where the place itself is the file."""
    mode: int
    size: int
    sha256: str
    """Of the content; of a link, of where it leads."""
    link: bool = False


@dataclass(frozen=True, slots=True)
class Left:
    """What was not taken, or not all of it."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Workspace:
    """A captured workspace, as its record says."""

    id: str
    app: str
    name: str
    version: str
    host: str
    system: str
    home: str
    time: str
    files: tuple[File, ...]
    left_out: tuple[Left, ...]
    snapshots: Mapping[str, str]
    """The newest snapshot of each project then."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def contents(self, area: Area) -> Iterator[tuple[File, bytes]]:
        """Its files. Raises CorruptionError, also when one of them is not in the vault."""
        missing = {_record_path(self.app, self.id, file): file for file in self.files}
        for path, content in area.contents(_folder(self.app, self.id) + b"/files"):
            if file := missing.pop(path, None):
                yield file, content
        for path in missing:
            raise CorruptionError(f"{to_text(path)}: not in the vault, its record names it; run git-vault verify")


def capture(vault: Vault, found: Installed, around: Surroundings) -> Workspace:
    """Read an application's workspace into the vault. Nothing of the application's is written.

    Captured again unchanged it is the same workspace, with the id it had. Raises OSError.
    """
    area = vault.area(AREA)
    with tempfile.TemporaryDirectory(prefix="gitvault-") as folder:
        look = _Look(found, Path(folder))
        look.all()
        here = _record(vault, found, around, look)
        for one in workspaces(vault, found.application.id):
            if (one.version, one.host, one.files, one.left_out) == (here.version, here.host, here.files, here.left_out):
                return one
            break
        files: dict[bytes, bytes | Path] = {
            _record_path(here.app, here.id, file): content for file, content in look.found.items()
        }
        files[_folder(here.app, here.id) + b"/record.json"] = _encode(here)
        area.add(files, f"Workspace of {found.application.name}")
    return here


def present(vault: Vault, found: Installed, around: Surroundings) -> Workspace:
    """What `capture` would record now; nothing is stored."""
    with tempfile.TemporaryDirectory(prefix="gitvault-") as folder:
        look = _Look(found, Path(folder))
        look.all()
        return _record(vault, found, around, look)


def workspaces(vault: Vault, app: str | None = None) -> Iterator[Workspace]:
    """Those in the vault, newest first; `app`: of one application. Raises CorruptionError."""
    held = vault.area(AREA).named(b"record.json", app.encode() if app else b"", depth=1 if app else 2)
    records = [_decode(text, path) for path, text in held]
    return iter(sorted(records, key=lambda one: (one.time, one.id), reverse=True))


def find(vault: Vault, name: str) -> Workspace:
    """The workspace of this id, or beginning of one, or the newest of an application.

    Raises NotFoundError, AmbiguousError.
    """
    everything = list(workspaces(vault))
    newest = [one for one in everything if one.app == name][:1]
    fitting = newest or [one for one in everything if one.id.startswith(name)]
    if not fitting:
        raise NotFoundError(f"{name}: no such workspace; git-vault workspace list names them")
    if len(fitting) > 1:
        said = ", ".join(f"{one.id[:12]} ({one.app}, {one.time[:10]})" for one in fitting[:5])
        raise AmbiguousError(f"{name}: fits {len(fitting)} workspaces: {said}")
    return fitting[0]


@dataclass(frozen=True, slots=True)
class Changes:
    """How two workspaces differ, as `place/path`."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    deleted: tuple[str, ...]


def changes(before: Workspace, after: Workspace) -> Changes:
    """How two workspaces differ."""
    was, now = ({f"{file.place}/{file.path}".rstrip("/"): file for file in one.files} for one in (before, after))
    different = (
        path
        for path in was.keys() & now.keys()
        if (was[path].sha256, was[path].link) != (now[path].sha256, now[path].link)
    )
    return Changes(*(tuple(sorted(paths)) for paths in (now.keys() - was.keys(), different, was.keys() - now.keys())))


class _Look:
    """One reading of an application's places."""

    def __init__(self, installed: Installed, scratch: Path) -> None:
        self.found: dict[File, bytes | Path] = {}
        self.left: list[Left] = []
        self._installed = installed
        self._scratch = scratch
        self._rules = Patterns(installed.application.leave_out)

    def all(self) -> None:
        """Read every place."""
        for place, path in sorted(self._installed.places.items()):
            if path.is_dir():
                self._folder(place, path, b"")
            else:
                self._file(place, path, b"")

    def _folder(self, place: str, folder: Path, prefix: bytes) -> None:
        try:
            with scan_source(folder) as listed:
                entries = sorted((os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in listed)
        except OSError as error:
            self._leave(place, prefix.rstrip(b"/"), f"not readable: {error.strerror}")
            return
        for name, is_folder in entries:
            path = prefix + name
            if pattern := self._rules.excluded_by(path, is_folder):
                self._leave(place, path, f"left out by {pattern}")
            elif is_folder:
                self._folder(place, folder / os.fsdecode(name), path + b"/")
            elif not name.endswith(BESIDE):
                self._file(place, folder / os.fsdecode(name), path)

    def _file(self, place: str, file: Path, path: bytes) -> None:
        try:
            status = file.lstat()
            if stat.S_ISLNK(status.st_mode):
                self._add(place, path, 0o777, read_link(os.fspath(file)), link=True)
                return
            if not stat.S_ISREG(status.st_mode):
                self._leave(place, path, "not a file")
                return
            content = self._content(file)
        except (OSError, sqlite3.Error) as error:
            self._leave(place, path, f"not readable: {getattr(error, 'strerror', None) or error}")
            return
        if isinstance(content, bytes):
            if kind := secret(path.rpartition(b"/")[2], content):
                self._leave(place, path, f"looks like {kind}")
                return
            content = self._without_passwords(place, path, content)
        self._add(place, path, status.st_mode & 0o777, content)

    def _content(self, file: Path) -> bytes | Path:
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(_PAUSE)
            with open(open_source(os.fspath(file)), "rb") as opened:
                before = os.fstat(opened.fileno())
                head = opened.read(len(DATABASE))
                if head == DATABASE:
                    return self._database(file)
                content = self._copy(head, opened) if before.st_size > _LARGE else head + opened.read()
                if _stamp(os.fstat(opened.fileno())) == _stamp(before):
                    return content
        raise OSError(errno.EBUSY, "it was being written")

    def _copy(self, head: bytes, rest: BinaryIO) -> Path:
        """A large file as it is now: until it is stored it may become another."""
        copy = self._scratch / f"{len(self.found)}.copy"
        with open(copy, "wb") as target:
            target.write(head)
            shutil.copyfileobj(rest, target, _STEP)
        return copy

    def _database(self, file: Path) -> bytes | Path:
        copy = self._scratch / f"{len(self.found)}.db"
        logs = [ending for ending in map(os.fsdecode, BESIDE) if os.path.exists(f"{file}{ending}")]
        if "-wal" in logs and "-shm" not in logs:
            # Nobody has it open, and SQLite would make the other one beside it.
            self._rolled_back(file, logs, copy)
        else:
            try:
                # Without a log nobody is writing, and then opening it leaves nothing beside it.
                _back_up(f"{file.absolute().as_uri()}?{'mode=ro' if logs else 'immutable=1'}", copy)
            except sqlite3.OperationalError:
                # What an application that was killed had begun has to be taken back first.
                self._rolled_back(file, logs, copy)
        return copy if copy.stat().st_size > _LARGE else copy.read_bytes()

    def _rolled_back(self, file: Path, logs: Iterable[str], copy: Path) -> None:
        beside = self._scratch / "as it was"
        beside.mkdir(exist_ok=True)
        for ending in ("", *logs):
            with open(open_source(f"{file}{ending}"), "rb") as source, open(beside / f"db{ending}", "wb") as target:
                shutil.copyfileobj(source, target)
        _back_up((beside / "db").as_uri(), copy)
        shutil.rmtree(beside)

    def _without_passwords(self, place: str, path: bytes, content: bytes) -> bytes:
        if b"\0" in content[:8000]:
            return content
        cleaned, count = _SECRET.subn(rb"\1\2\4", content)
        if count:
            self._leave(place, path, f"the value of {count} {'password or key' if count == 1 else 'passwords or keys'}")
        return cleaned

    def _add(self, place: str, path: bytes, mode: int, content: bytes | Path, *, link: bool = False) -> None:
        if isinstance(content, Path):
            size = content.stat().st_size
            with open(content, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        else:
            size, digest = len(content), hashlib.sha256(content).hexdigest()
        self.found[File(place, to_text(path), mode, size, digest, link)] = content

    def _leave(self, place: str, path: bytes, reason: str) -> None:
        self.left.append(Left(f"{place}/{to_text(path)}".rstrip("/"), reason))


def _stamp(found: os.stat_result) -> tuple[int, int]:
    return found.st_size, found.st_mtime_ns


def _back_up(source: str, copy: Path) -> None:
    with closing(sqlite3.connect(source, uri=True, timeout=5)) as opened, closing(sqlite3.connect(copy)) as target:
        opened.backup(target)


def _record(vault: Vault, found: Installed, around: Surroundings, look: _Look) -> Workspace:
    newest = {project: tip for project in vault.history.projects() if (tip := vault.history.tip(project))}
    here = Workspace(
        id="",
        app=found.application.id,
        name=found.application.name,
        version=found.version,
        host=vault.config.machine,
        system=around.system,
        home=os.fspath(around.home),
        time=stamp(vault.now()),
        files=tuple(sorted(look.found, key=lambda file: (file.place, file.path))),
        left_out=tuple(look.left),
        snapshots={project: vault.history.identify(tip) for project, tip in sorted(newest.items())},
    )
    return replace(here, id=hashlib.sha256(_encode(here)).hexdigest()[:16])


def _folder(app: str, id: str) -> bytes:
    return f"{app}/{id}".encode()


def _record_path(app: str, id: str, file: File) -> bytes:
    inside = b"/" + from_text(file.path) if file.path else b""
    return _folder(app, id) + b"/files/" + file.place.encode() + inside


def _encode(workspace: Workspace) -> bytes:
    document = {"v": 1, **asdict(workspace)}
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def _decode(text: bytes, path: bytes) -> Workspace:
    try:
        said = json.loads(text)
        values = {key: said[key] for key in Workspace.__dataclass_fields__}
        values["files"] = tuple(File(**file) for file in said["files"])
        values["left_out"] = tuple(Left(**left) for left in said["left_out"])
        return Workspace(**values)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptionError(f"{to_text(path)}: no record of a workspace ({error}); run git-vault verify") from error
