"""Moving in from git: every commit of a line, LFS content included.

The repository is only read: its objects through one `git cat-file`, which runs nothing of it. What it lacks of LFS is
fetched by git-lfs into a repository of our own that borrows its objects.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, cast

from gitvault.core.backup_engine.incoming import Changes, Given
from gitvault.core.models import Pointer, Problem
from gitvault.core.storage import pointers
from gitvault.core.utils import process
from gitvault.core.utils.names import to_line
from gitvault.errors import NotFoundError, ToolFailed
from gitvault.moving.part import Part
from gitvault.moving.source import Copy

_QUIET = (
    "git",
    "--no-optional-locks",
    *("-c", "core.fsmonitor=false"),
    *("-c", f"core.hooksPath={os.devnull}"),
    *("-c", "log.showSignature=false"),
    # What a partial clone lacks is not fetched.
    *("-c", "protocol.allow=never"),
    *("-c", "safe.directory=*"),
    *("-c", "safe.bareRepository=all"),
)
_FORM = "--format=%H%x00%P%x00%ct%x00%ci%x00%an <%ae>%x00%aI%x00%B%x00%x01"
_ADDRESSES = r"^(remote\..*\.(url|lfsurl|pushurl)|lfs\.url|lfs\..*\.(access|locksverify)|url\..*\.insteadof)$"
"""Settings by which git-lfs finds a server."""
_DIFFERENT = ("diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev")
_NOTHING = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
"""The tree without files, which git knows everywhere."""
_SYMLINK, _SUBMODULE = 0o120000, 0o160000
# git answers while we still ask: so many ids fit into one pipe.
_AHEAD = 256
_TOGETHER = 500
"""Commits compared by one git: it starts in 5 ms."""


class GitSource:
    """The commits of one line, the first parents of a branch. `branch`: its name; None: what HEAD names."""

    kind = "git"

    def __init__(self, repository: Path, branch: str | None = None) -> None:
        """Raises NotFoundError for no folder, ToolFailed for one that is no repository."""
        self._folder = repository
        self.place = str(repository)
        self._branch = branch
        self.problems: list[Problem] = []
        self._said: set[bytes] = set()
        self._parents: dict[str, str] = {}
        self._order: list[str] = []
        self._compared: dict[tuple[str, str], bytes] = {}
        self._reader: process.Program | None = None
        self._lfs: _Lfs | None = None

    def _git(self, *arguments: str, stdin: bytes = b"", ok: Sequence[int] = (0,)) -> bytes:
        return process.run([*_QUIET, *arguments], cwd=self._folder, stdin=stdin, ok=ok)

    def copies(self) -> Sequence[Copy]:
        """See Source."""
        if not self._folder.is_dir():
            raise NotFoundError(f"{self._folder}: no such folder; of a repository elsewhere make a clone first")
        try:
            top = Path(os.fsdecode(self._git("rev-parse", "--path-format=absolute", "--git-common-dir").rstrip(b"\n")))
        except ToolFailed as error:
            raise NotFoundError(f"{self._folder}: {error.stderr.partition(chr(10))[0]}") from error
        bare = self._git("rev-parse", "--is-bare-repository").strip() == b"true"
        root = os.path.realpath(self._folder)
        if not bare:
            root = os.fsdecode(self._git("rev-parse", "--show-toplevel").rstrip(b"\n"))
        name = os.path.basename(root).removesuffix(".git") or os.path.basename(os.path.dirname(root)) or "git"
        self._lfs = _Lfs(top, self._git)
        head = os.fsdecode(self._git("symbolic-ref", "-q", "HEAD", ok=(0, 1)).rstrip(b"\n"))
        rev = f"refs/heads/{self._branch}" if self._branch else head or "HEAD"
        if rev != head and self._branch:
            name = f"{name}-{self._branch}"
        if not self._git("rev-list", "-1", "--ignore-missing", rev, "--", ok=(0, 128)):
            raise NotFoundError(
                f"{self._folder}: no commit on {rev.removeprefix('refs/heads/')}; name one with --branch"
            )
        text = self._git("log", "--first-parent", "--reverse", "--encoding=UTF-8", _FORM, rev, "--").decode(
            "utf-8", "replace"
        )
        tags = self._tags()
        found = []
        for record in text.split("\0\x01")[:-1]:
            commit, parents, seconds, shown, author, written, message = record.lstrip("\n").split("\0", 6)
            self._parents[commit] = parents.partition(" ")[0]
            self._order.append(commit)
            facts = {"author": author, "authored": written}
            if self._branch:
                facts["branch"] = self._branch
            time = datetime.fromtimestamp(int(seconds), _zone(shown))
            found.append(
                Copy(
                    commit, commit[:12], time, (self._order[0], rev), name, "" if bare else root,
                    message=message.rstrip("\n"), tags=tags.get(commit, ()), facts=facts,
                )
            )  # fmt: skip
        # A clone that was cut off says that its oldest commit has no parent; the commit itself does not.
        if b"\nparent " in self._git("cat-file", "commit", self._order[0]).partition(b"\n\n")[0]:
            reason = "a shallow clone: what is older is not in it; git fetch --unshallow brings it"
            self.problems.append(Problem(os.fsencode(self.place), reason))
        return found

    def _tags(self) -> dict[str, list[str]]:
        form = "--format=%(if)%(*objectname)%(then)%(*objectname)%(else)%(objectname)%(end) %(refname:strip=2)"
        found: dict[str, list[str]] = {}
        for line in self._git("for-each-ref", form, "refs/tags").decode("utf-8", "replace").splitlines():
            commit, _, name = line.partition(" ")
            found.setdefault(commit, []).append(name)
        return found

    def changes(self, copy: Copy, before: Copy | None) -> tuple[Changes, Mapping[bytes, Given]]:
        """See Source."""
        raw = self._compare(copy.id, before.id if before else "")
        moment = int(copy.time.timestamp()) * 1_000_000_000
        owner = (os.getuid(), os.getgid()) if hasattr(os, "getuid") else (0, 0)
        gone: list[bytes] = []
        wanted: dict[bytes, Given] = {}
        folders: set[bytes] = set() if before else {b""}
        items = iter(raw.split(b"\0"))
        for said in items:
            if not said.startswith(b":"):
                continue
            old, new, _, blob, _ = said[1:].split(b" ")
            path = next(items)
            above = path
            while above:
                above = above.rpartition(b"/")[0]
                folders.add(above)
            mode = int(new, 8)
            if mode == 0 or (int(old, 8) and (int(old, 8) ^ mode) & 0o170000):
                gone.append(path)
            if mode == _SUBMODULE:
                if path not in self._said:
                    self._said.add(path)
                    self.problems.append(Problem(path, "a submodule, whose files are in a repository of their own"))
            elif mode:
                kind = "symlink" if mode == _SYMLINK else "file"
                bits = 0o777 if mode == _SYMLINK else mode & 0o777
                wanted[path] = Given(path, kind, bits, moment, owner, digest=f"blob:{blob.decode()}")
        made = [Given(path, "folder", 0o755, moment, owner) for path in folders]
        return Changes(sorted(gone), [*made, *wanted.values()], only_files=True), wanted

    def _compare(self, commit: str, before: str) -> bytes:
        """What git says is different in a commit, given the one before; empty: none."""
        if not before and self._parents[commit]:
            # Asked for alone, it would be compared with its parent, which is not here.
            return self._git(*_DIFFERENT, _NOTHING, commit)
        if (commit, before) not in self._compared:
            self._compared.clear()
            pairs = [(commit, before)]
            place = self._order.index(commit)
            pairs += [(one, self._parents[one]) for one in self._order[place + 1 : place + _TOGETHER]]
            asked = "".join(f"{one} {parent}".strip() + "\n" for one, parent in pairs)
            said = self._git(*_DIFFERENT, "--stdin", "--root", stdin=asked.encode())
            self._compared = {pair: b"" for pair in pairs}
            # A commit's id stands before what is different in it; where nothing is, it does not.
            parts = re.split(rb"(?:\A|(?<=\0))([0-9a-f]{40})\0(?=:)", said)
            before_of = dict(pairs)
            for one, text in zip(parts[1::2], parts[2::2], strict=True):
                self._compared[one.decode(), before_of[one.decode()]] = text
        return self._compared[commit, before]

    def contents(self, copy: Copy, wanted: Mapping[bytes, Given]) -> Iterator[tuple[Given, BinaryIO]]:
        """See Source."""
        pointed: list[tuple[Given, Pointer]] = []
        assert self._lfs
        for given, stream in self._blobs(list(wanted.values())):
            pointer = None
            if given.kind == "file" and given.size <= pointers.MAX_LENGTH:
                text = stream.read(given.size)
                pointer = pointers.decode(text)
                stream = BytesIO(text)
            content = self._lfs.open(pointer) if pointer else None
            if pointer and content:
                with content:
                    yield _of_lfs(given, pointer), content
            elif pointer:
                pointed.append((given, pointer))
            else:
                yield given, stream
        failed = self._lfs.fetch(copy.id) if pointed else ""
        for given, pointer in pointed:
            if content := self._lfs.open(pointer):
                with content:
                    yield _of_lfs(given, pointer), content
                continue
            reason = f"{copy.name}: no LFS content {pointer.oid} ({failed}); its pointer is saved"
            self.problems.append(Problem(given.path, reason))
            text = pointers.encode(pointer)
            yield given._replace(size=len(text)), BytesIO(text)

    def _blobs(self, wanted: Sequence[Given]) -> Iterator[tuple[Given, BinaryIO]]:
        if self._reader is None:
            self._reader = process.start([*_QUIET, "cat-file", "--batch"], cwd=self._folder)
        asked, answered = self._reader.stdin, self._reader.stdout
        assert asked and answered
        for start in range(0, len(wanted), _AHEAD):
            part = wanted[start : start + _AHEAD]
            asked.write(b"".join(given.digest.removeprefix("blob:").encode() + b"\n" for given in part))
            asked.flush()
            for given in part:
                said = answered.readline().split()
                if len(said) != 3 or said[1] != b"blob":
                    self.close()
                    found = b" ".join(said).decode("utf-8", "replace") or "nothing"
                    raise ToolFailed("git cat-file", 128, f"{to_line(given.path)}: expected a blob, found {found}")
                rest = Part(cast(BinaryIO, answered), int(said[2]))
                yield given._replace(size=rest.left), cast(BinaryIO, rest)
                rest.skip()
                answered.read(1)

    def close(self) -> None:
        """See Source."""
        if self._reader:
            process.end(self._reader)
            with self._reader:
                self._reader = None
        if self._lfs:
            self._lfs.close()


def _of_lfs(given: Given, pointer: Pointer) -> Given:
    return given._replace(size=pointer.size, digest=f"sha256:{pointer.oid}")


class _Lfs:
    """LFS content of a repository whose common folder is `top`; what it lacks is fetched beside it."""

    def __init__(self, top: Path, git: Callable[..., bytes]) -> None:
        self._top = top
        self._git = git
        self._fetched: TemporaryDirectory[str] | None = None
        # What stands in the repository's settings was put there by its owner.
        place = git("config", "--get", "--default=", "lfs.storage").decode("utf-8", "surrogateescape").strip()
        self._places = [top / (place or "lfs")]

    def open(self, pointer: Pointer) -> BinaryIO | None:
        """The content; None where it is not."""
        for place in self._places:
            with suppress(FileNotFoundError):
                return open(place / "objects" / pointer.oid[:2] / pointer.oid[2:4] / pointer.oid, "rb")
        return None

    def fetch(self, commit: str) -> str:
        """Fetch what a commit names; why that failed, or nothing.

        By git-lfs, in a repository of our own that borrows the objects and names the same remotes.
        """
        if not (remote := self._remote()):
            return "it has no remote to fetch it from"
        try:
            if self._fetched is None:
                self._fetched = TemporaryDirectory(prefix="gitvault-import-")
                self._borrow(Path(self._fetched.name))
            own = Path(self._fetched.name)
            process.git(own, "update-ref", "--no-deref", "HEAD", commit)
            process.git(own, "-c", "lfs.concurrenttransfers=4", "lfs", "fetch", remote, commit)
        except ToolFailed as error:
            missing = "'lfs' is not a git command" in error.stderr
            return "git-lfs is not installed" if missing else error.reason.removeprefix("error: ")
        return "not on its server"

    def _borrow(self, own: Path) -> None:
        process.run(["git", "init", "--quiet", "--bare", own])
        (own / "objects" / "info" / "alternates").write_bytes(os.fsencode(self._top / "objects") + b"\n")
        for line in self._git("config", "--local", "--null", "--get-regexp", _ADDRESSES).split(b"\0"):
            key, _, value = line.decode("utf-8", "surrogateescape").partition("\n")
            if key:
                process.git(own, "config", "--add", key, value)
        self._places.append(own / "lfs")

    def _remote(self) -> str:
        """The one to fetch from; empty: none."""
        names = self._git("remote").decode("utf-8", "surrogateescape").split()
        return "origin" if "origin" in names else "".join(names[:1])

    def close(self) -> None:
        """Remove what was fetched."""
        if self._fetched:
            self._fetched.cleanup()


def _zone(shown: str) -> timezone:
    """The zone at the end of `2024-01-02 03:04:05 +0200`."""
    found = re.search(r"([+-])(\d\d)(\d\d)$", shown)
    if not found:
        return UTC
    minutes = int(found[2]) * 60 + int(found[3])
    return timezone(timedelta(minutes=-minutes if found[1] == "-" else minutes))
