"""A user's repository: read by git and by us, never written. Nothing that its configuration names is run.

git reads objects and refs only: no hook, filter, fsmonitor, pager, alias or transport has a part in what is asked
here. Objects that a partial clone left with its remote are not fetched either.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from gitvault.core.beside import Beside
from gitvault.core.utils.files import open_source
from gitvault.core.versioning import index
from gitvault.errors import GitVaultError, ToolFailed
from gitvault.vcs import git

_OID = re.compile(rb"\b[0-9a-f]{40}\b")
_NOWHERE = "0" * 40
# Where git keeps what an operation has come to. What FETCH_HEAD names is on a remote.
_OPERATIONS = ("rebase-merge", "rebase-apply", "sequencer")
_NO_TIPS = frozenset(("FETCH_HEAD", "index", "packed-refs", "shallow", "config", "description", "commondir", "gitdir"))
_OPERATION_MAX = 64 << 10
# More than this is stored as the files it lies in, which are read piece by piece.
_LOCAL_MAX = 256 << 20
_FILE_MAX = 64 << 20
# A pack of what is on no remote may take its time.
_PATIENCE = 3600.0


class NotProtected(GitVaultError):
    """Why nothing of a checkout may be left out of a snapshot, in words."""


@dataclass(frozen=True, slots=True)
class Repository:
    """Where a checkout has its repository; absolute folders."""

    git_dir: str
    """HEAD, index and operations: of this checkout alone."""
    common_dir: str
    """Refs and objects: those of all worktrees of the repository."""

    @property
    def objects(self) -> str:
        """The folder of its objects."""
        return os.path.join(self.common_dir, "objects")

    def git(self, *arguments: str, stdin: bytes = b"", ok: Sequence[int] = (0,)) -> bytes:
        """What git says. Raises ToolFailed, ToolMissing."""
        where = f"--git-dir={self.git_dir}"
        return git.read(Path(self.git_dir), where, *arguments, stdin=stdin, ok=ok, timeout=_PATIENCE)

    def git_dirs(self) -> list[str]:
        """Those of all its checkouts, this one's first."""
        linked = os.path.join(self.common_dir, "worktrees")
        names = sorted(os.listdir(linked)) if os.path.isdir(linked) else []
        others = [self.common_dir, *(os.path.join(linked, name) for name in names)]
        return list(dict.fromkeys([self.git_dir, *(folder for folder in others if is_git_dir(folder))]))

    def index(self) -> bytes:
        """The bytes of its index; empty when it has none. Raises NotProtected."""
        return read(os.path.join(self.git_dir, "index"))


def find(folder: str) -> Repository | None:
    """The repository of the checkout in a folder; None when what is called `.git` there leads to none."""
    marker = os.path.join(folder, ".git")
    git_dir = marker
    with contextlib.suppress(OSError, NotProtected):
        if not os.path.isdir(marker):
            said = read(marker, 4096)
            if not said.startswith(b"gitdir: "):
                return None
            git_dir = os.path.normpath(os.path.join(folder, os.fsdecode(said[8:].rstrip(b"\r\n"))))
        common = git_dir
        if named := read(os.path.join(git_dir, "commondir"), 4096):
            common = os.path.normpath(os.path.join(git_dir, os.fsdecode(named.rstrip(b"\r\n"))))
        if os.path.lexists(os.path.join(git_dir, "HEAD")) and is_git_dir(common):
            return Repository(os.path.realpath(git_dir), os.path.realpath(common))
    return None


def is_git_dir(folder: str) -> bool:
    """Whether git would take a folder for a repository, or for a worktree's part of one."""
    if not os.path.lexists(os.path.join(folder, "HEAD")):
        return False
    if os.path.isfile(os.path.join(folder, "commondir")):
        return True
    return all(os.path.isdir(os.path.join(folder, name)) for name in ("objects", "refs"))


@dataclass(frozen=True, slots=True)
class State:
    """What a repository has, but for objects."""

    key: str
    """Changes whenever something here does, or in the index."""
    refs: dict[str, str]
    """Object ids in hex by names of refs."""
    heads: tuple[str, ...]
    """Commits that a checkout has checked out, and what operations under way and reflogs name: some may be gone."""


def stamp(repository: Repository) -> bytes:
    """Changes whenever a file of the repository does, but for objects; b"" where it has too many."""
    return Beside(folders=frozenset((repository.git_dir, repository.common_dir))).noted(0)


def read_state(repository: Repository, index_digest: bytes, found: git.Refs) -> State:
    """Read it, given the refs. Raises NotProtected, ToolFailed, ToolMissing."""
    refs = {name: oid for name, (oid, _) in found.items()}
    digest = hashlib.sha1(index_digest, usedforsecurity=False)
    digest.update(b"".join(os.fsencode(f"{oid} {name}\n") for name, oid in refs.items()))
    heads: dict[str, None] = {}
    config = read(os.path.join(repository.common_dir, "config"))
    digest.update(config)
    for git_dir in repository.git_dirs():
        for path, text in _operation_files(git_dir):
            digest.update(b"%s\0%d\0" % (os.fsencode(path), len(text)) + text)
            heads |= dict.fromkeys(oid.decode() for oid in _OID.findall(text))
        if git_dir != repository.git_dir:
            digest.update(read(os.path.join(git_dir, "index"))[-20:])
    for log in _logs(repository):
        text = read(log)
        digest.update(text)
        heads |= dict.fromkeys(oid.decode() for line in text.splitlines() for oid in _OID.findall(line[:81]))
    heads.pop(_NOWHERE, None)
    return State(digest.hexdigest(), refs, tuple(heads))


def _operation_files(git_dir: str) -> Iterator[tuple[str, bytes]]:
    folders = [git_dir, *(os.path.join(git_dir, name) for name in _OPERATIONS)]
    for folder in folders:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as listed:
            for entry in sorted(listed, key=lambda entry: entry.name):
                skipped = folder == git_dir and (entry.name in _NO_TIPS or entry.name.endswith(".lock"))
                if skipped or not entry.is_file(follow_symlinks=False) or entry.stat().st_size > _OPERATION_MAX:
                    continue
                yield entry.path, read(entry.path)


def _logs(repository: Repository) -> Iterator[str]:
    """Every reflog but those of remotes' branches, whose past is the remotes'."""
    for git_dir in repository.git_dirs():
        top = os.path.join(git_dir, "logs")
        for folder, folders, names in os.walk(top):
            folders.sort()
            if folder == os.path.join(top, "refs") and "remotes" in folders:
                folders.remove("remotes")
            yield from (os.path.join(folder, name) for name in sorted(names))


def read_remotes(repository: Repository, folder: str) -> dict[str, str]:
    """The URLs of its remotes by name, without credentials; `folder`: where relative ones begin.

    Raises ToolFailed, ToolMissing.
    """
    found: dict[str, str] = {}
    said = repository.git("config", "-z", "--get-regexp", r"^remote\..*\.url$", ok=(0, 1))
    for item in os.fsdecode(said).split("\0"):
        key, _, url = item.partition("\n")
        if url:
            if url.startswith(".") or ":" not in url:
                url = os.path.normpath(os.path.join(folder, url))
            found.setdefault(key[len("remote.") : -len(".url")], without_credentials(url))
    return found


def without_credentials(url: str) -> str:
    """A URL without user and password; of ssh the user stays."""
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        if "@" in parts.netloc and parts.scheme:
            who, _, host = parts.netloc.rpartition("@")
            user = who.partition(":")[0] + "@" if parts.scheme.endswith("ssh") else ""
            return urlunsplit(parts._replace(netloc=user + host))
    return url


def staged(repository: Repository, git_dir: str, entries: Sequence[index.IndexEntry]) -> set[str]:
    """What an index names that is not in the tree of its HEAD. Raises ToolFailed."""
    there = Repository(git_dir, repository.common_dir)
    in_conflict = {entry.blob.hex() for entry in entries if entry.stage}
    before = there.index()[-20:]
    try:
        said = there.git(
            *("diff-index", "--cached", "--raw", "-z", "--no-renames", "--no-abbrev"),
            *("--ignore-submodules=all", "HEAD", "--"),
        )
    except ToolFailed:
        # No commit yet, or one that cannot be read.
        said = b""
        before = b"?"
    if there.index()[-20:] != before:
        kinds = (index.MODE_FILE, index.MODE_EXECUTABLE, index.MODE_SYMLINK)
        return {entry.blob.hex() for entry in entries if entry.mode in kinds}
    changed: set[str] = set()
    for item in said.split(b"\0")[::2]:
        if item.startswith(b":"):
            _, mode, _, oid, _ = item[1:].split(b" ", 4)
            if int(mode, 8) not in (0, index.MODE_GITLINK):
                changed.add(oid.decode())
    return changed - {_NOWHERE} | in_conflict


def existing(repository: Repository, oids: Iterable[str]) -> set[str]:
    """Those of some objects that the repository has. Raises ToolFailed."""
    asked = list(oids)
    if not asked:
        return set()
    said = repository.git("cat-file", "--batch-check=%(objectname)", stdin="\n".join(asked).encode() + b"\n")
    return {line.decode() for line in said.splitlines() if not line.endswith(b" missing")}


def is_within_history(repository: Repository, oids: Iterable[str], of: Iterable[str]) -> bool:
    """Whether commits are reachable from others. False also where that cannot be known."""
    asked = "\n".join([*oids, *(f"^{oid}" for oid in of)])
    with contextlib.suppress(ToolFailed):
        return not repository.git("rev-list", "--max-count=1", "--stdin", stdin=asked.encode() + b"\n")
    return False


def pack(repository: Repository, tips: Iterable[str], without: Iterable[str]) -> bytes:
    """A git pack of all that is reachable from some objects and not from others; each object readable without those.

    Empty when there is nothing. Raises ToolFailed where an object is missing, NotProtected where it is too much.
    """
    asked = "\n".join([*sorted(tips), *(f"^{oid}" for oid in sorted(without))]).encode() + b"\n"
    size = int(repository.git("rev-list", "--objects", "--disk-usage", "--stdin", stdin=asked) or 0)
    if size > _LOCAL_MAX:
        raise NotProtected(f"{size >> 20} MiB of objects are on no remote")
    if not size:
        return b""
    return repository.git("pack-objects", "--revs", "--stdout", "--threads=1", "-q", stdin=asked)


def bundle(packed: bytes, tips: Iterable[str], without: Iterable[str]) -> bytes:
    """A git bundle, version 2, of a pack."""
    lines = ["# v2 git bundle", *(f"-{oid}" for oid in sorted(without))]
    lines += [f"{oid} refs/gitvault/{number}" for number, oid in enumerate(sorted(tips))]
    return "\n".join(lines).encode() + b"\n\n" + packed


def packed_in(bundle: bytes) -> bytes:
    """The pack in a bundle."""
    return bundle[bundle.index(b"\n\n") + 2 :]


def read(path: str, limit: int = _FILE_MAX) -> bytes:
    """A file of a repository; empty when there is none. Raises NotProtected."""
    fd = -1
    try:
        fd = open_source(path)
        found = b""
        while len(found) <= limit and (more := os.read(fd, limit + 1 - len(found))):
            found += more
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as error:
        raise NotProtected(f"{os.path.basename(path)} cannot be read: {error.strerror}") from error
    finally:
        if fd >= 0:
            os.close(fd)
    if len(found) > limit:
        raise NotProtected(f"{os.path.basename(path)} is larger than {limit} bytes")
    return found
