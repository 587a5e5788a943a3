"""What a snapshot says of a checkout: attached to it, as `N/record.json` and files beside that."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gitvault.core.backup_engine.trees import Stored
from gitvault.core.models import ObjectId
from gitvault.core.utils.names import from_text, to_text
from gitvault.core.versioning import contents
from gitvault.core.versioning.history import GitHistory
from gitvault.core.versioning.indexed import PIECE
from gitvault.errors import CorruptionError

VERSION = 1
RECORD = b"record.json"
INDEX = b"index"
REPOSITORY = b"repository.tar"


@dataclass(frozen=True, slots=True)
class Part:
    """A bundle of objects that no remote has."""

    tips: tuple[str, ...]
    without: tuple[str, ...]
    files: int
    """Its pieces."""


@dataclass(frozen=True, slots=True)
class Record:
    """A git checkout, as a snapshot holds it."""

    path: bytes
    """In the project; b"" for the project itself."""
    git_dir: bytes | None
    """Its repository's folder in the project; None when it lies elsewhere and is attached."""
    common_dir: bytes | None
    """Likewise the folder with the refs."""
    home: str
    """The absolute folder of the repository with the refs, on the machine of the snapshot."""
    full: str = ""
    """Why everything is stored, in words; empty when what git protects is left out."""
    branch: str = ""
    """The name of the ref that is checked out; empty when detached."""
    base: str = ""
    """The commit that is checked out, in hex; empty before the first one."""
    remotes: Mapping[str, str] = field(default_factory=dict)
    """URLs by names, without credentials."""
    relied: Mapping[str, str] = field(default_factory=dict)
    """The remote-tracking refs whose history is not stored, and their commits."""
    deleted: tuple[bytes, ...] = ()
    """Paths in the checkout that are in its index and not on the disk, sorted."""
    state: str = ""
    """See `repository.State.key`."""
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Attached:
    """A record with what is attached beside it."""

    record: Record
    files: Mapping[bytes, ObjectId]

    def stored(self, name: bytes) -> list[tuple[bytes, Stored]]:
        """The pieces of a file, none when there is no such file."""
        return stored(self.files, name)

    def joined(self, history: GitHistory, name: bytes) -> bytes:
        """The content of a file that is stored in pieces; empty when there is none. Raises CorruptionError."""
        return joined(history, self.files, name)


def stored(files: Mapping[bytes, ObjectId], name: bytes) -> list[tuple[bytes, Stored]]:
    """The pieces of a file among those that are attached; none when there is no such file."""
    return [(known, Stored(files[known])) for known in sorted(files) if known.startswith(name + b".")]


def joined(history: GitHistory, files: Mapping[bytes, ObjectId], name: bytes) -> bytes:
    """The content of such a file; empty when there is none. Raises CorruptionError."""
    return b"".join(history.blob(piece.blob) for _, piece in stored(files, name))


def pieces(name: bytes, content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """A file cut into what can be attached."""
    for at in range(0, len(content), PIECE):
        yield b"%s.%03d" % (name, at // PIECE), content[at : at + PIECE]


def part_name(number: int) -> bytes:
    """What the bundle of a record is called."""
    return b"local-%02d.bundle" % number


def encode(record: Record) -> bytes:
    """One line of canonical JSON."""
    document = {
        "version": VERSION,
        "vcs": "git",
        "path": to_text(record.path),
        "gitDir": None if record.git_dir is None else to_text(record.git_dir),
        "commonDir": None if record.common_dir is None else to_text(record.common_dir),
        "home": record.home,
        "full": record.full,
        "branch": record.branch,
        "base": record.base,
        "remotes": dict(record.remotes),
        "relied": dict(record.relied),
        "deleted": [to_text(path) for path in record.deleted],
        "state": record.state,
        "parts": [
            {"tips": list(part.tips), "without": list(part.without), "files": part.files} for part in record.parts
        ],
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def decode(text: bytes) -> Record:
    """Raises CorruptionError."""
    try:
        document = json.loads(text)
        if document["version"] != VERSION or document["vcs"] != "git":
            raise ValueError(f"version {document['version']} of {document['vcs']}")
        return Record(
            _path(document["path"]),
            None if document["gitDir"] is None else _path(document["gitDir"]),
            None if document["commonDir"] is None else _path(document["commonDir"]),
            str(document["home"]),
            str(document["full"]),
            str(document["branch"]),
            str(document["base"]),
            {str(name): str(url) for name, url in document["remotes"].items()},
            {str(name): _oid(oid) for name, oid in document["relied"].items()},
            tuple(map(_path, document["deleted"])),
            str(document["state"]),
            tuple(
                Part(tuple(map(_oid, part["tips"])), tuple(map(_oid, part["without"])), int(part["files"]))
                for part in document["parts"]
            ),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise CorruptionError(f"a checkout's record in the snapshot cannot be read ({error})") from error


def _path(text: Any) -> bytes:
    path = from_text(text)
    if any(part in (b".", b"..") or b"\0" in part for part in path.split(b"/")):
        raise ValueError(f"{text!r} is no path in a project")
    return path


def _oid(text: Any) -> str:
    if len(text) != 40 or set(text) - set("0123456789abcdef"):
        raise ValueError(f"{text!r} is no object id")
    return str(text)


def attached(history: GitHistory, tree: ObjectId | None) -> list[Attached]:
    """The checkouts of a snapshot, given its tree; outer ones first. Raises CorruptionError, NotFoundError."""
    found = checkouts(history, contents.attached(history, tree)).values()
    return sorted(found, key=lambda one: one.record.path)


def checkouts(history: GitHistory, attached: ObjectId | None) -> dict[bytes, Attached]:
    """The checkouts in the tree that is attached to a snapshot, by the names they have there. Errors as above."""
    found: dict[bytes, Attached] = {}
    for name, (_, below) in history.tree(attached).items():
        files = {inner: oid for inner, (_, oid) in history.tree(below).items()}
        if RECORD in files:
            found[name] = Attached(decode(history.blob(files[RECORD])), files)
    return found
