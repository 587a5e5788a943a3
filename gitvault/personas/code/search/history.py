"""Where versions come from: repositories, read in place by git's own program; nothing of theirs is written or run.

The history of a checkout is the first-parent line of HEAD and of each local branch that is not merged in it; that of
a project in the vault the chain of its snapshots.
"""

from __future__ import annotations

import os
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gitvault.core.utils import process
from gitvault.core.utils.names import from_tree_name, ref_component
from gitvault.core.versioning.contents import ATTACHED
from gitvault.core.versioning.history import HEADS
from gitvault.errors import ToolFailed
from gitvault.personas.code.search import foreign
from gitvault.personas.code.search.model import Source

if TYPE_CHECKING:
    from gitvault.vault import Vault

NONE = bytes(20)
"""The id of what is not there."""
LARGEST = 16 << 20
"""Bytes of a blob; larger ones are not read."""
# git would fill a pipe of 64 KiB while we fill the other one: so many ids fit into one.
_AHEAD = 512
_CACHE = 128 << 20
_LINK = 0o160000
_POINTER = b"version https://git-lfs.github.com/spec/v1\n"
_QUIET = (
    *("git", "--no-optional-locks"),
    *(part for setting in (
        "core.fsmonitor=false",
        f"core.hooksPath={os.devnull}",
        "log.showSignature=false",
        "log.showRoot=true",
        # What a partial clone lacks is not fetched.
        "protocol.allow=never",
        "safe.directory=*",
        "safe.bareRepository=all",
    ) for part in ("-c", setting)),
)  # fmt: skip
_FORM = "--format=tformat:%x01%H%x00%ct%x00%an%x00%s%x00%(trailers:key=Vault-Snapshot,valueonly,separator=%x20)%x00%P"


class Changed(NamedTuple):
    """A file that a version changed; blobs: NONE for none, a submodule's commit behind `L`."""

    path: bytes
    old: bytes
    new: bytes
    settled: bool = False
    """What commits between two snapshots changed, taken back: only for adding up, since they have it themselves."""


class Commit(NamedTuple):
    """A version as its repository has it."""

    oid: bytes
    id: bytes
    """The snapshot's, where it is one; else the same."""
    time: int
    author: str
    subject: str
    parent: bytes | None
    changes: list[Changed]


def sources(vault: Vault) -> list[Source]:
    """Where the past of a vault's projects is, as far as this machine has it."""
    here = [project for project in vault.projects() if project.host == vault.config.machine]
    checkouts = {p.name: Path(p.path) for p in here if p.mode != "ignore-vcs" and is_repository(p.path)}
    for project in here:
        converted = foreign.folder_of(vault.path, project.path)
        if project.name not in checkouts and project.mode != "ignore-vcs" and foreign.is_read(converted):
            checkouts[project.name] = converted
    beneath = {p.name: checkouts.get(p.name) for p in here if p.mode == "protect"}
    saved = vault.history.projects()
    return [
        *(Source(name, vault.path, HEADS + ref_component(name), beneath.get(name)) for name in saved),
        *(Source(name, folder) for name, folder in checkouts.items()),
    ]


def is_repository(path: str | Path) -> bool:
    """Whether a folder is a git checkout's top or a bare repository."""
    return os.path.lexists(os.path.join(path, ".git")) or (
        os.path.isfile(os.path.join(path, "HEAD")) and os.path.isdir(os.path.join(path, "objects"))
    )


def stamp(source: Source) -> bytes:
    """Changes whenever a ref of the repository may have; costs a few stats."""
    top = source.folder / ".git"
    top = top if top.is_dir() else source.folder if not top.is_file() else _linked(top)
    common = top
    with suppress(OSError):
        common = top / (top / "commondir").read_text().strip()
    seen: list[object] = [_stat(top / "HEAD")]
    if source.branch:
        seen = [_stat(common / source.branch)]
    else:
        for folder, _, files in os.walk(common / "refs" / "heads"):
            seen += [(folder, name, _stat(Path(folder, name))) for name in sorted(files)]
    seen += [_stat(common / name) for name in ("packed-refs", "reftable/tables.list", "shallow")]
    return repr(seen).encode()


def shallow(source: Source) -> bytes:
    """What a shallow clone lacks; its oldest commits bring whole trees, until the rest is fetched."""
    said = git(source, "rev-parse", "--git-path", "shallow").rstrip(b"\n")
    with suppress(OSError):
        return source.folder.joinpath(os.fsdecode(said)).read_bytes()
    return b""


def lines_of(source: Source) -> list[tuple[str, list[bytes]]]:
    """The lines of history: of each its name and commits, oldest first, that no line before it has.

    The first is HEAD's; one commit each is in. Raises ToolError.
    """
    if source.branch:
        tips = {source.branch: git(source, "rev-parse", "-q", "--verify", f"{source.branch}^{{commit}}", ok=(0, 1))}
    else:
        tips = {"HEAD": git(source, "rev-parse", "-q", "--verify", "HEAD^{commit}", ok=(0, 1))}
        chosen = ["--no-merged=HEAD"] if tips["HEAD"] else []
        form = "--format=%(objectname) %(refname)"
        for line in git(source, "for-each-ref", *chosen, form, "refs/heads").splitlines():
            oid, _, name = line.partition(b" ")
            tips[os.fsdecode(name)] = oid
    found: list[tuple[str, list[bytes]]] = []
    known: set[bytes] = set()
    for branch, tip in tips.items():
        if not tip.strip():
            continue
        listed = git(source, "rev-list", "--first-parent", "--stdin", stdin=tip.strip() + b"\n").decode().split()
        oids = [oid for oid in map(bytes.fromhex, listed) if oid not in known]
        known.update(oids)
        found.append((branch, oids[::-1]))
    return found


def commits(source: Source, oids: Sequence[bytes]) -> Iterator[Commit]:
    """These commits with what each changed against its first parent, in the order given. Raises ToolError."""
    for at in range(0, len(oids), 1000):
        part = b"".join(oid.hex().encode() + b"\n" for oid in oids[at : at + 1000])
        said = git(
            source,
            *("log", "--no-walk=unsorted", "--stdin", "--diff-merges=first-parent", "--raw", "-z", "--no-abbrev"),
            *("--no-renames", "--no-relative", "--ignore-submodules=none", "--no-ext-diff", "--no-textconv"),
            *("--encoding=UTF-8", "--no-notes", "--no-mailmap", "--no-color", _FORM),
            stdin=part,
        )
        yield from _parsed(source, said)


def _parsed(source: Source, said: bytes) -> Iterator[Commit]:
    tokens = iter(said.split(b"\0"))
    found: Commit | None = None
    for token in tokens:
        if token.startswith(b"\1"):
            if found:
                yield found
            time, author, subject, named, parents = (next(tokens) for _ in range(5))
            oid = bytes.fromhex(token[1:].decode())
            found = Commit(
                oid,
                bytes.fromhex(named.strip().decode()) if source.names_versions and len(named.strip()) == 40 else oid,
                int(time),
                author.decode("utf-8", "replace"),
                subject.decode("utf-8", "replace"),
                bytes.fromhex(parents[:40].decode()) if parents else None,
                [],
            )
        elif found and token.lstrip(b"\n").startswith(b":"):
            old_mode, new_mode, old, new, _ = token.lstrip(b"\n")[1:].split(b" ")
            path = next(tokens)
            inside = in_project(path) if source.branch else path
            if old != new and inside is not None:
                found.changes.append(Changed(inside, _named(old_mode, old), _named(new_mode, new)))
    if found:
        yield found


def in_project(stored: bytes) -> bytes | None:
    """The path that a snapshot's tree holds as `stored`; None for what is attached to the snapshot."""
    if stored.startswith(ATTACHED + b"/"):
        return None
    return b"/".join(map(from_tree_name, stored.split(b"/")))


def tree(source: Source, commit: str) -> dict[bytes, bytes]:
    """The blobs of a commit by their paths in its tree. Raises ToolFailed."""
    found: dict[bytes, bytes] = {}
    for item in git(source, "ls-tree", "-r", "-z", "--full-tree", commit).split(b"\0"):
        said, _, path = item.partition(b"\t")
        if said and said.split(b" ")[1] == b"blob":
            found[path] = bytes.fromhex(said.split(b" ")[2].decode())
    return found


def _named(mode: bytes, oid: bytes) -> bytes:
    raw = bytes.fromhex(oid.decode())
    return b"L" + raw if int(mode, 8) == _LINK else raw


class Reader:
    """Reads blobs through one `git cat-file`; what is asked ahead is read while the caller works. Close it."""

    def __init__(self, source: Source, also: Sequence[Path] = ()) -> None:
        """`also`: more folders with objects."""
        self._source = source
        more = {"GIT_ALTERNATE_OBJECT_DIRECTORIES": os.pathsep.join(map(str, also))} if also else {}
        self._git = process.start([*_QUIET, "cat-file", "--batch"], cwd=source.folder, variables=more)
        self._asked: deque[bytes] = deque()
        self._waiting: set[bytes] = set()
        self._known: OrderedDict[bytes, bytes | None] = OrderedDict()
        self._held = 0

    def ahead(self, oid: bytes) -> None:
        """Ask for a blob that will be read soon; for at most a few hundred that are not read yet."""
        if len(oid) != 20 or oid == NONE or oid in self._known or oid in self._waiting:
            return
        while len(self._asked) >= _AHEAD:
            self._receive()
        assert self._git.stdin
        self._git.stdin.write(oid.hex().encode() + b"\n")
        self._git.stdin.flush()
        self._asked.append(oid)
        self._waiting.add(oid)

    def read(self, oid: bytes) -> bytes | None:
        """A blob's content; None for one that is missing or larger than LARGEST. Raises ToolFailed."""
        if oid == NONE:
            return b""
        if len(oid) != 20:
            return b"Subproject commit %s\n" % oid[1:].hex().encode()
        if oid not in self._known:
            try:
                self.ahead(oid)
                while oid in self._waiting:
                    self._receive()
            except (BrokenPipeError, ValueError) as error:
                raise ToolFailed("git cat-file", self._git.wait(), f"{self._source.folder}: ended early") from error
        self._known.move_to_end(oid)
        return self._known[oid]

    def _receive(self) -> None:
        pipe = self._git.stdout
        assert pipe
        header = pipe.readline().split()
        oid = self._asked.popleft()
        self._waiting.discard(oid)
        data: bytes | None = None
        if len(header) == 3:
            size = int(header[2])
            if size <= LARGEST:
                data = pipe.read(size)
            else:
                left = size
                while left:
                    left -= len(pipe.read(min(left, 1 << 20))) or left
            pipe.read(1)
            if self._source.branch and data is not None and data.startswith(_POINTER):
                # The content is in the chunk store, and no text.
                data = b""
        elif not header:
            raise ValueError("no answer")
        self._known[oid] = data
        self._held += len(data or b"")
        while self._held > _CACHE and len(self._known) > 2:
            self._held -= len(self._known.popitem(last=False)[1] or b"")

    def close(self) -> None:
        """End git."""
        self._git.kill()
        with self._git:
            pass

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def git(source: Source, *arguments: str, stdin: bytes = b"", ok: Sequence[int] = (0,)) -> bytes:
    """What git says of a repository, run so that nothing of the repository's is. Raises ToolError."""
    return process.run([*_QUIET, *arguments], cwd=source.folder, stdin=stdin, ok=ok)


def _linked(file: Path) -> Path:
    """The repository that a `.git` file of a worktree or submodule names."""
    with suppress(OSError):
        said = file.read_bytes().partition(b"gitdir:")[2].strip()
        return file.parent / os.fsdecode(said)
    return file


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        st = path.stat()
    except OSError:
        return None
    return st.st_mtime_ns, st.st_size, st.st_ino
