"""Where the objects come from that a snapshot relies on: the checkout it was taken of, itself, or a remote.

Every object is checked against its id, so it does not matter how much a place is to be trusted.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from gitvault.core.models import ObjectId
from gitvault.core.utils.process import run
from gitvault.core.versioning.history import GitHistory
from gitvault.core.versioning.objects import object_id
from gitvault.errors import CorruptionError, NotFoundError, ToolError, ToolFailed
from gitvault.vcs import git
from gitvault.vcs.protect import record, repository
from gitvault.vcs.protect.record import Attached
from gitvault.vcs.protect.repository import Repository

_BATCH_BYTES = 64 << 20


class Sources:
    """The objects of one checkout in a snapshot; a context manager. Asks a remote only when nothing else has them.

    `fetch`: whether remotes are asked at all.
    """

    def __init__(self, history: GitHistory, attached: Attached, *, fetch: bool = True) -> None:
        self._history = history
        self._attached = attached
        self._fetch = fetch
        self._scratch: Path | None = None
        self.failed: list[str] = []
        """What was tried in vain, for people."""

    def __enter__(self) -> Sources:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def read_many(self, oids: Iterable[ObjectId]) -> Iterator[tuple[ObjectId, bytes]]:
        """Blobs in any order; what is nowhere to be had is left out."""
        left = dict.fromkeys(oids)
        for place in self._places():
            for oid, data in read_blobs(place, left):
                left.pop(oid)
                yield oid, data
            if not left:
                return

    def read(self, oid: ObjectId) -> bytes:
        """One blob. Raises NotFoundError."""
        for _, data in self.read_many([oid]):
            return data
        raise NotFoundError(f"{oid.hex()}: {self.reason()}")

    def reason(self) -> str:
        """Why an object is nowhere to be had."""
        return f"git protected it, and nobody has it any more: {'; '.join(self.failed)}"

    def _places(self) -> Iterator[Repository]:
        home = self._attached.record.home
        if repository.is_git_dir(home):
            yield Repository(home, home)
        else:
            self.failed.append(f"{home} is gone")
        own = self.scratch()
        add_local(self._history, self._attached, own)
        yield own
        if self._fetch:
            for _ in fetched(self._attached, own, self.failed):
                yield own

    def scratch(self) -> Repository:
        """A repository of our own for what comes from elsewhere."""
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="gitvault-"))
            run(["git", "init", "-q", "--bare", "--template=", self._scratch])
        return Repository(str(self._scratch), str(self._scratch))


def read_blobs(place: Repository, oids: Iterable[ObjectId]) -> Iterator[tuple[ObjectId, bytes]]:
    """The blobs that a repository has, whole ones only."""
    asked = "\n".join(oid.hex() for oid in oids).encode() + b"\n"
    if len(asked) == 1:
        return
    try:
        listed = place.git("cat-file", "--batch-check=%(objectname) %(objecttype) %(objectsize)", stdin=asked)
    except ToolError:
        return
    batch: list[bytes] = []
    size = 0
    for line in listed.splitlines():
        oid, kind, *rest = line.split(b" ")
        if kind == b"blob":
            batch.append(oid)
            size += int(rest[0])
            if size > _BATCH_BYTES:
                yield from _batch(place, batch)
                batch, size = [], 0
    yield from _batch(place, batch)


def _batch(place: Repository, oids: list[bytes]) -> Iterator[tuple[ObjectId, bytes]]:
    if not oids:
        return
    try:
        said = place.git("cat-file", "--batch", stdin=b"\n".join(oids) + b"\n")
    except ToolError:
        if len(oids) > 1:
            # One that is damaged stops git: the others are to be had.
            for oid in oids:
                yield from _batch(place, [oid])
        return
    at = 0
    while at < len(said):
        end = said.index(b"\n", at)
        words = said[at:end].split(b" ")
        if len(words) != 3:
            at = end + 1
            continue
        data = said[end + 1 : end + 1 + int(words[2])]
        at = end + 2 + len(data)
        oid = ObjectId(bytes.fromhex(words[0].decode()))
        if object_id(b"blob", data) == oid:
            yield oid, data


def add_local(history: GitHistory, attached: Attached, into: Repository) -> list[str]:
    """Put the objects that are attached to a snapshot into a repository; what cannot be, in words."""
    failed: list[str] = []
    for number in range(len(attached.record.parts)):
        try:
            bundle = attached.joined(history, record.part_name(number))
            into.git("index-pack", "--stdin", stdin=repository.packed_in(bundle))
        except (CorruptionError, NotFoundError, ToolError, ValueError) as error:
            failed.append(f"objects that no remote had: {error}")
    return failed


def fetched(attached: Attached, into: Repository, failed: list[str]) -> Iterator[str]:
    """Fetch from each remote into a repository of our own; the URL of each that answered."""
    wanted = set(attached.record.relied.values())
    for url in attached.record.remotes.values():
        if failed_with := _fetch(into, url, ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]):
            failed.append(f"{url}: {failed_with}")
            continue
        # What no branch there has any more may still be given to who asks for it by its id.
        for oid in sorted(wanted - repository.existing(into, wanted)):
            _fetch(into, url, [f"+{oid}:refs/wanted/{oid}"])
        yield url


def _fetch(into: Repository, url: str, refspecs: list[str]) -> str:
    """Why a fetch failed; empty when it did not. Only the user's own configuration has a say in it."""
    if url.startswith("-"):
        return "not a URL"
    try:
        run(
            [
                *("git", "-c", f"core.hooksPath={os.devnull}", "-c", "protocol.ext.allow=never"),
                *("-c", "gc.auto=0", "-c", "maintenance.auto=false", f"--git-dir={into.git_dir}"),
                *("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--", url),
                *refspecs,
            ]
        )
    except ToolError as error:
        return git.said(error) if isinstance(error, ToolFailed) else str(error)
    return ""


def copy_objects(source: str, target: str) -> None:
    """Copy the objects of one repository into another, with those it borrows. Raises OSError."""
    pending, seen = [source], set()
    while pending:
        folder = os.path.realpath(pending.pop())
        if folder in seen:
            continue
        seen.add(folder)
        for at, folders, names in os.walk(folder):
            if at == folder:
                folders[:] = [name for name in folders if name != "info"]
            below = os.path.join(target, os.path.relpath(at, folder))
            os.makedirs(below, exist_ok=True)
            # A pack before its index, which is what makes git look for it.
            for name in sorted(names, key=lambda name: (name.endswith(".idx"), name)):
                if name.startswith("tmp_") or os.path.exists(os.path.join(below, name)):
                    continue
                partial = os.path.join(below, f"tmp_{name}")
                shutil.copyfile(os.path.join(at, name), partial)
                os.chmod(partial, 0o444)
                Path(partial).rename(os.path.join(below, name))
        with contextlib.suppress(FileNotFoundError), open(os.path.join(folder, "info", "alternates"), "rb") as file:
            for line in file.read().splitlines():
                if line and not line.startswith(b"#"):
                    pending.append(os.path.join(folder, os.fsdecode(line)))
