"""What a snapshot says of checkouts that are not git's, attached to it, and what a restore gives back to these.

`svnN/checkout.json`, `hgN/checkout.json` ... with what belongs to each beside it: the files of the revision it is at,
and of hg the changesets that no remote has. Of a checkout's own folder a snapshot has all but the copy of the
repository (`.svn/pristine`, `.hg/store`).
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gitvault.core.models import ObjectId
from gitvault.core.utils.names import from_text
from gitvault.core.versioning import contents, index
from gitvault.core.versioning.history import GitHistory
from gitvault.core.versioning.index import IndexEntry
from gitvault.errors import CorruptionError
from gitvault.vcs.protect import record

RECORD = b"checkout.json"
BUNDLE = b"local.hg"
TEXTS = b"texts"
# In the first one all files of a checkout were in the snapshot.
_VERSION = 2


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
    state: str = ""
    """Of svn: changes when its database does; "" when that cannot be told."""
    deleted: tuple[str, ...] = ()
    """Paths in the checkout that the base has and the disk had not, as text, sorted."""


@dataclass(frozen=True, slots=True)
class Attached:
    """A record with what is attached beside it."""

    record: Record
    files: Mapping[bytes, ObjectId]

    @property
    def path(self) -> bytes:
        """Of the checkout in the project."""
        return from_text(self.record.path)

    @property
    def deleted(self) -> frozenset[bytes]:
        """See Record."""
        return frozenset(map(from_text, self.record.deleted))

    @property
    def has_base(self) -> bool:
        """Whether there are files that the snapshot leaves to the server."""
        return bool(record.stored(self.files, record.INDEX))

    def local(self, history: GitHistory) -> bytes:
        """The bundle of what no remote has; empty when there is none. Raises CorruptionError."""
        return record.joined(history, self.files, BUNDLE)


def encode(said: Record) -> bytes:
    """One line of canonical JSON."""
    return json.dumps({"version": _VERSION, **asdict(said)}, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def decode(text: bytes) -> Record:
    """Raises CorruptionError."""
    try:
        document: dict[str, Any] = json.loads(text)
        if document.pop("version") not in (1, _VERSION):
            raise ValueError("of another version")
        deleted = tuple(document.pop("deleted", ()))
        if not all(isinstance(value, str) for value in (*document.values(), *deleted)):
            raise ValueError("not text")
        said = Record(**document, deleted=deleted)
        for path in (said.path, *deleted):
            if any(part in (b".", b"..") or b"\0" in part for part in from_text(path).split(b"/")):
                raise ValueError(f"{path!r} is no path in a project")
        return said
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptionError(f"a checkout's record in the snapshot cannot be read ({error})") from error


def attached(history: GitHistory, tree: ObjectId | None) -> list[Attached]:
    """The checkouts of a snapshot that are not git's, given its tree; outer ones first.

    Raises CorruptionError, NotFoundError.
    """
    found: list[Attached] = []
    for _, below in history.tree(contents.attached(history, tree)).values():
        files = {name: oid for name, (_, oid) in history.tree(below).items()}
        if RECORD in files:
            found.append(Attached(decode(history.blob(files[RECORD])), files))
    return sorted(found, key=lambda one: one.path)


def entries_of(history: GitHistory, checkout: Attached) -> list[IndexEntry]:
    """The files of the revision that a checkout is at, none where all is stored.

    Raises CorruptionError, NotFoundError.
    """
    data = record.joined(history, checkout.files, record.INDEX)
    return index.decode_plain(data) if data else []


def folder_of(checkout: Attached, target: Path) -> Path | None:
    """Where a checkout was restored with its own folder; None where nothing can be completed."""
    vcs = checkout.record.vcs
    # A link in a folder's place would have a restore write elsewhere.
    if checkout.record.full or vcs not in ("hg", "svn") or not _is_plain(target, checkout.path, f".{vcs}".encode()):
        return None
    return target / os.fsdecode(checkout.path) if checkout.path else target


def complete(history: GitHistory, checkout: Attached, folder: Path) -> list[str]:
    """Give a restored checkout what was left out of its own folder; what could not be had, in words."""
    # Not needed to show a snapshot, which this module is read for.
    from gitvault.vcs import hg_store, svn_store

    home = Path(checkout.record.home)
    if checkout.record.vcs == "svn":
        return list(svn_store.complete(folder, home))
    return list(hg_store.complete(folder, checkout.record.url, home, checkout.local(history)))


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
