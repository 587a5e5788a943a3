"""The copy of a Subversion repository that a working copy carries, `.svn/pristine`: left out, and made again.

Which texts it holds, at which URL and revision each is, `.svn/wc.db` says; it is saved as it is, so that mixed
revisions, changelists, properties, conflicts and copies come back exactly.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from gitvault.core.utils import process
from gitvault.errors import ToolError
from gitvault.vcs.svn import LIMIT

_CHECKSUM = re.compile(r"\$sha1\$([0-9a-f]{40})")
# What the repository has under a path and revision of its own.
_GIVEN = (
    "FROM nodes WHERE checksum IS NOT NULL AND repos_id IS NOT NULL AND repos_path IS NOT NULL"
    " AND revision >= 0 AND presence = 'normal'"
)


@contextlib.contextmanager
def _database(folder: Path) -> Iterator[sqlite3.Connection]:
    """`.svn/wc.db`, never written."""
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


def about(folder: Path) -> dict[str, str]:
    """The repository's `url`, the `branch` in it and the `revision` of the top folder. Raises sqlite3.Error."""
    with _database(folder) as database:
        query = "SELECT root, repos_path, revision FROM nodes JOIN repository ON repository.id = repos_id"
        found = database.execute(f"{query} WHERE local_relpath = '' AND op_depth = 0").fetchone()
    return dict(zip(("url", "branch", "revision"), map(str, found or ("", "", "")), strict=True))


def complete(folder: Path, home: Path) -> Iterator[str]:
    """Fill `.svn/pristine` of a restored working copy; what could not be had, in words.

    From the files beside it that are as they were, from where the working copy was (`home`), then from the
    repository. Every text is compared with its checksum.
    """
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
            if _put(folder, digest, _fetched(str(roots.get(root, "")), place, revision)):
                missing.remove(digest)
        except (ToolError, ValueError) as error:
            told = str(error)
    if missing:
        yield f"{len(missing)} texts of its .svn are not restored{': ' + told if told else ''}; run svn cleanup, update"


def _fetched(root: str, place: str, revision: int) -> bytes:
    if not re.match(r"[a-z][a-z0-9+]*://[^-]", root):
        raise ValueError(f"{root}: not a repository's URL")
    url = f"{root}/{quote(place)}@{revision}"
    return process.run(["svn", "cat", "--non-interactive", "-r", str(revision), url], timeout=LIMIT)


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
