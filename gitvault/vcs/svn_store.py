"""The copy of a Subversion repository that a working copy carries, `.svn/pristine`: left out, and made again.

Which texts it holds, at which URL and revision each is, `.svn/wc.db` says; it is saved as it is, so that mixed
revisions, changelists, properties, conflicts and copies come back exactly.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from gitvault.core.models import ObjectId
from gitvault.core.utils import process
from gitvault.core.versioning import index
from gitvault.core.versioning.index import IndexEntry
from gitvault.core.versioning.objects import object_id
from gitvault.errors import CorruptionError, ToolError, ToolFailed
from gitvault.vcs.svn import LIMIT, told

if TYPE_CHECKING:
    import sqlite3

_CHECKSUM = re.compile(r"\$sha1\$([0-9a-f]{40})")
# What the repository has under a path and revision of its own.
_GIVEN = (
    "FROM nodes WHERE checksum IS NOT NULL AND repos_id IS NOT NULL AND repos_path IS NOT NULL"
    " AND revision >= 0 AND presence = 'normal'"
)


_BASE = (
    "SELECT local_relpath, repos_path, revision, checksum, properties, max(op_depth) FROM nodes"
    " WHERE kind = 'file' AND checksum IS NOT NULL AND repos_path IS NOT NULL AND revision >= 0"
    " AND presence = 'normal' AND repos_id = (SELECT repos_id FROM nodes WHERE local_relpath = '' AND op_depth = 0)"
    " GROUP BY local_relpath"
)
# Fewer are asked for one by one, at 10 ms each and a connection to the server.
_EXPORTED_FROM = 8


class Text(NamedTuple):
    """A file as the repository has it."""

    entry: IndexEntry
    """With the path in the working copy, and what git would call the content."""
    digest: str
    """What svn calls the content: its SHA-1, in hex."""
    revision: int
    place: str
    """Its path in the repository."""


@contextlib.contextmanager
def _database(folder: Path) -> Iterator[sqlite3.Connection]:
    """`.svn/wc.db`, never written."""
    import sqlite3

    database = sqlite3.connect(f"file:{quote(os.fspath(folder / '.svn' / 'wc.db'))}?mode=ro", uri=True, timeout=1)
    try:
        database.text_factory = os.fsdecode
        yield database
    finally:
        database.close()


def only_here(folder: Path) -> set[bytes]:
    """The texts that the repository cannot give back, as names in `.svn/pristine`: `ab/abcd....svn-base`.

    Raises sqlite3.Error, ValueError for a working copy that is not understood.
    """
    with _database(folder) as database:
        if database.execute("SELECT 1 FROM pristine WHERE compression > 0 LIMIT 1").fetchone():
            raise ValueError("its texts are compressed in a way that is not known here")
        rows = database.execute(f"SELECT checksum FROM pristine EXCEPT SELECT checksum {_GIVEN}").fetchall()
    return {os.fsencode(_name(_digest(checksum))) for (checksum,) in rows}


def held(folder: Path) -> list[tuple[bytes, bytes]]:
    """Paths in the working copy, whatever revision or change of them, and their texts as names in `.svn/pristine`.

    Raises sqlite3.Error.
    """
    with _database(folder) as database:
        rows = database.execute(
            "SELECT DISTINCT local_relpath, checksum FROM nodes WHERE checksum IS NOT NULL"
        ).fetchall()
    return [(os.fsencode(path), os.fsencode(_name(_digest(checksum)))) for path, checksum in rows]


def about(folder: Path) -> dict[str, str]:
    """The repository's `url` and `uuid`, the `branch` in it, the `revision` of the top folder. Raises sqlite3.Error."""
    with _database(folder) as database:
        query = "SELECT root, uuid, repos_path, revision FROM nodes JOIN repository ON repository.id = repos_id"
        found = database.execute(f"{query} WHERE local_relpath = '' AND op_depth = 0").fetchone()
    return dict(zip(("url", "uuid", "branch", "revision"), map(str, found or ("", "", "", "")), strict=True))


def state_of(folder: Path) -> str:
    """Changes whenever `wc.db` does; "" when only reading it can tell. Raises OSError."""
    database = folder / ".svn" / "wc.db"
    if any(_size(database.with_name(f"wc.db-{kind}")) for kind in ("journal", "wal")):
        return ""
    with open(database, "rb") as file:
        # SQLite counts its transactions in the first page.
        said = file.read(100) + str(os.fstat(file.fileno()).st_size).encode()
    return hashlib.sha1(said, usedforsecurity=False).hexdigest()


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def base_of(folder: Path, known: Mapping[bytes, Text]) -> list[Text]:
    """Every file that the repository can give back, in the order of their paths; symlinks are none.

    `known`: what was found before; only what differs from it is read. Raises sqlite3.Error, ValueError.
    """
    found: list[Text] = []
    with _database(folder) as database:
        rows = database.execute(_BASE).fetchall()
    for name, place, revision, checksum, properties, _ in rows:
        path, digest = os.fsencode(name), _digest(checksum)
        given = os.fsencode(properties or b"")
        if b"svn:special" in given:
            continue
        mode = index.MODE_EXECUTABLE if b"svn:executable" in given else index.MODE_FILE
        before = known.get(path)
        if before and before.digest == digest:
            blob, size = before.entry.blob, before.entry.size
        else:
            text = _content(folder / ".svn" / "pristine" / _name(digest))
            if hashlib.sha1(text, usedforsecurity=False).hexdigest() != digest:
                # Damaged, or a working copy without such texts: the file is stored.
                continue
            blob, size = object_id(b"blob", text), len(text) & 0xFFFFFFFF
        found.append(Text(IndexEntry(path, mode, blob, size, 0, 0), digest, revision, place))
    return sorted(found, key=lambda text: text.entry.path)


def encode_texts(texts: Iterable[Text]) -> bytes:
    """What an index does not say of each: digest, revision and place, in its order."""
    return b"".join(b"%s %d %s\0" % (t.digest.encode(), t.revision, os.fsencode(t.place)) for t in texts)


def decode_texts(data: bytes, entries: Sequence[IndexEntry]) -> list[Text]:
    """The texts again. Raises CorruptionError."""
    try:
        rows = [row.split(b" ", 2) for row in data.split(b"\0")[:-1]]
        return [
            Text(entry, digest.decode("ascii"), int(revision), os.fsdecode(place))
            for entry, (digest, revision, place) in zip(entries, rows, strict=True)
        ]
    except ValueError as error:
        raise CorruptionError(f"the texts of an svn checkout in the snapshot cannot be read ({error})") from error


def kept_texts(home: Path, texts: Iterable[Text]) -> Iterator[tuple[ObjectId, bytes]]:
    """The contents that a working copy has in `.svn/pristine`; the caller compares them with their ids."""
    for text in texts:
        with contextlib.suppress(ValueError):
            yield text.entry.blob, _content(home / ".svn" / "pristine" / _name(_digest(f"$sha1${text.digest}")))


def asked_texts(root: str, texts: Sequence[Text], failed: list[str]) -> Iterator[tuple[ObjectId, bytes]]:
    """Contents from the repository at the URL `root`; what went wrong is added to `failed`."""
    left = {text.entry.blob: text for text in texts}
    before = len(failed)
    if len(left) >= _EXPORTED_FROM:
        for blob, data in _exported(root, list(left.values()), failed):
            if object_id(b"blob", data) == blob:
                left.pop(blob, None)
                yield blob, data
    for text in left.values():
        if len(failed) > before:
            # Of a repository that does not answer each file would wait anew.
            return
        try:
            yield text.entry.blob, fetched(root, text.place, text.revision)
        except (ToolError, ValueError) as error:
            failed.append(f"{root}: {told(error) if isinstance(error, ToolFailed) else error}")


def export(root: str, place: str, revision: int, into: Path) -> None:
    """Write a folder of a repository at a revision, as the repository has it. Raises ToolError, ValueError."""
    url = f"{_checked(root)}/{quote(place)}@{revision}"
    options = ("--non-interactive", "--quiet", "--ignore-externals", "--ignore-keywords", "--native-eol", "LF")
    process.run(["svn", "export", *options, "-r", str(revision), url, into], timeout=10 * LIMIT)


def _exported(root: str, texts: Sequence[Text], failed: list[str]) -> Iterator[tuple[ObjectId, bytes]]:
    """Of many texts those at the revision most of them are at, with one question."""
    revision = Counter(text.revision for text in texts).most_common(1)[0][0]
    places = [text.place.rpartition("/")[0] for text in texts]
    with tempfile.TemporaryDirectory(prefix="gitvault-") as scratch:
        into = Path(scratch, "export")
        try:
            top = os.path.commonpath(places) if all(places) else ""
            export(root, top, revision, into)
        except (ToolError, ValueError) as error:
            failed.append(f"{root}: {told(error) if isinstance(error, ToolFailed) else error}")
            return
        for text in texts:
            yield text.entry.blob, _content(into / os.path.relpath(text.place, top or "."))


def complete(folder: Path, home: Path) -> Iterator[str]:
    """Fill `.svn/pristine` of a restored working copy; what could not be had, in words.

    From the files beside it that are as they were, from where the working copy was (`home`), then from the
    repository. Every text is compared with its checksum.
    """
    import sqlite3

    try:
        with _database(folder) as database:
            listed = [_digest(checksum) for (checksum,) in database.execute("SELECT checksum FROM pristine")]
            roots = dict(database.execute("SELECT id, root FROM repository").fetchall())
            rows = database.execute(
                f"SELECT checksum, local_relpath, repos_id, repos_path, revision {_GIVEN}"
            ).fetchall()
    except (sqlite3.Error, ValueError) as error:
        yield f"its .svn/wc.db cannot be read: {error}"
        return
    for name in ("tmp", "pristine"):
        (folder / ".svn" / name).mkdir(exist_ok=True)
    missing = {digest for digest in listed if not (folder / ".svn" / "pristine" / _name(digest)).exists()}
    for digest in sorted(missing):
        if _put(folder, digest, _content(home / ".svn" / "pristine" / _name(digest))):
            missing.remove(digest)
    told = ""
    for checksum, path, root, place, revision in rows:
        digest = _digest(checksum)
        if digest not in missing:
            continue
        if _put(folder, digest, _content(folder / path)):
            missing.remove(digest)
            continue
        if told:
            # Of a repository that is not there each file would wait anew.
            continue
        try:
            if _put(folder, digest, fetched(str(roots.get(root, "")), place, revision)):
                missing.remove(digest)
        except (ToolError, ValueError) as error:
            told = str(error)
    if missing:
        yield f"{len(missing)} texts of its .svn are not restored{': ' + told if told else ''}; run svn cleanup, update"


def fetched(root: str, place: str, revision: int) -> bytes:
    """A file of a repository at a revision, as the repository has it. Raises ToolError, ValueError."""
    url = f"{_checked(root)}/{quote(place)}@{revision}"
    options = ("--non-interactive", "--ignore-keywords", "-r", str(revision))
    return process.run(["svn", "cat", *options, url], timeout=LIMIT)


def _checked(root: str) -> str:
    if not re.match(r"[a-z][a-z0-9+]*://[^-]", root):
        raise ValueError(f"{root}: not a repository's URL")
    return root


def _content(file: Path) -> bytes:
    """The bytes of a plain file; none of what is no such file."""
    if file.is_file() and not file.is_symlink():
        with contextlib.suppress(OSError):
            return file.read_bytes()
    return b""


def _put(folder: Path, digest: str, text: bytes) -> bool:
    """Write a text under its checksum if it has that."""
    if hashlib.sha1(text, usedforsecurity=False).hexdigest() != digest:
        return False
    file = folder / ".svn" / "pristine" / _name(digest)
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(text)
    file.chmod(0o444)
    return True


def _digest(checksum: str) -> str:
    match = _CHECKSUM.fullmatch(checksum)
    if not match:
        raise ValueError(f"{checksum!r} is no checksum")
    return match[1]


def _name(digest: str) -> str:
    return f"{digest[:2]}/{digest}.svn-base"
