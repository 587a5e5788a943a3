"""Moving in from restic, through restic itself.

`find` lists a snapshot, `diff` says what of it is not as in the one before; only that is read: by one `dump` of
everything, or, where that costs less, by a `restore` of so many files. restic checks every blob it gives against its
hash.
"""

from __future__ import annotations

import codecs
import io
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from gitvault.core.backup_engine.incoming import Changes, Given
from gitvault.core.models import Problem
from gitvault.core.utils import process
from gitvault.core.utils.attributes import read_xattrs
from gitvault.errors import CorruptionError, without_passwords
from gitvault.moving import tar
from gitvault.moving.listing import Listing, differences
from gitvault.moving.source import Copy, expect_folder

# Seconds, measured with restic 0.14: starting it, a file or a byte read, a file compared with one pattern.
_PER_FILE, _PER_BYTE, _PER_MATCH = 60e-6, 1 / 250e6, 0.4e-6
_WORDS_MAX = 500_000
"""Bytes of patterns in one command."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KINDS = {"file": "file", "dir": "folder", "symlink": "symlink"}
_LOST = "\ufffd".encode()
"""What stands in restic's JSON for each byte that is no text."""
# Go's bits for what chmod calls 4000, 2000 and 1000.
_GO_MODES = ((1 << 23, 0o4000), (1 << 22, 0o2000), (1 << 20, 0o1000))


class ResticSource:
    """The snapshots of a repository, by machine and paths."""

    kind = "restic"

    def __init__(self, repository: str) -> None:
        self.place = os.path.abspath(repository) if os.path.isdir(repository) else without_passwords(repository)
        self.problems: list[Problem] = []
        self._repository = repository
        self._paths: dict[str, Sequence[str]] = {}
        self._trees: dict[str, str] = {}
        self._ids: dict[str, str] = {}
        self._listed: dict[str, Listing] = {}

    def _command(self, *words: str) -> list[str]:
        # A repository that cannot be written cannot be locked.
        locked = os.path.isdir(self._repository) and not os.access(self._repository, os.W_OK)
        return ["restic", "--repo", self._repository, *(["--no-lock"] if locked else []), *words]

    def copies(self) -> Sequence[Copy]:
        """See Source."""
        expect_folder(self._repository)
        found: list[Copy] = []
        for said in json.loads(process.run(self._command("snapshots", "--json"))) or ():
            paths = [str(path) for path in said["paths"]]
            root = os.path.commonpath(paths) if all(map(os.path.isabs, paths)) else ""
            host = str(said.get("hostname", ""))
            name = os.path.basename(root) or host or "restic"
            # Editing tags gives a snapshot another id.
            copy = Copy(
                str(said.get("original") or said["id"]), str(said["short_id"]), datetime.fromisoformat(said["time"]),
                (host, *paths), name, root, host, tags=said.get("tags") or (),
                facts={"user": str(said.get("username", "")), "paths": "\n".join(paths) if len(paths) > 1 else ""},
            )  # fmt: skip
            self._paths[copy.id] = paths
            self._trees[copy.id] = str(said["tree"])
            self._ids[copy.id] = str(said["id"])
            found.append(copy)
        return sorted(found, key=lambda copy: copy.time)

    def changes(self, copy: Copy, before: Copy | None) -> tuple[Changes, Mapping[bytes, Given]]:
        """See Source."""
        now = self._listing(copy)
        then = self._listing(before) if before else None
        self._listed = {copy.id: now}
        if not (before and then and then.root == now.root):
            return differences(now, then, lambda path: True, folders=True)
        if self._trees[copy.id] == self._trees[before.id]:
            return Changes((), ()), {}
        mentioned: set[bytes] = set()
        for line in process.run(
            self._command("diff", "--json", "--metadata", self._ids[before.id], self._ids[copy.id])
        ).splitlines():
            said = json.loads(line)
            if said.get("message_type") == "change":
                mentioned.add(_raw(said["path"]).strip(b"/"))
        inside = now.root + b"/" if now.root else b""
        return differences(now, then, lambda path: _as_told(inside + path) in mentioned, folders=True)

    def _listing(self, copy: Copy) -> Listing:
        if copy.id in self._listed:
            return self._listed[copy.id]
        nodes = {path: _given(path, _KINDS[node["type"]], node) for path, node in self._found(copy)}
        if any(_LOST in path for path in nodes):
            with process.reading(self._command("ls", "--quiet", self._ids[copy.id])) as names:
                nodes = {path: _given(path, _KINDS[node["type"]], node) for path, node in self._found(copy, names)}
        root = _root(nodes, self._paths[copy.id])
        inside = len(root) + 1 if root else 0
        listing = Listing(root)
        for path, given in nodes.items():
            if path == root or not root or path.startswith(root + b"/"):
                listing.entries[path[inside:]] = given._replace(path=path[inside:])
        self._listed[copy.id] = listing
        return listing

    def _found(self, copy: Copy, names: BinaryIO | None = None) -> Iterator[tuple[bytes, dict[str, Any]]]:
        """What `find` tells of a snapshot's files, by path; of `names`, what `ls` prints, it is the right one."""
        with process.reading(self._command("find", "--json", "--snapshot", self._ids[copy.id], "*")) as stream:
            for node in _nodes(stream):
                path = (_name(names, node["path"]) if names else _raw(node["path"])).strip(b"/")
                if node["type"] in _KINDS:
                    yield path, node
                elif (said := Problem(path, f"a {node['type']}, which no snapshot holds")) not in self.problems:
                    self.problems.append(said)

    def contents(self, copy: Copy, wanted: Mapping[bytes, Given]) -> Iterator[tuple[Given, BinaryIO]]:
        """See Source."""
        listing = self._listing(copy)
        inside = listing.root + b"/" if listing.root else b""
        size = sum(given.size for given in wanted.values())
        whole = sum(given.size for given in listing.entries.values())
        words = [f"--include=/{_pattern(inside + path)}" for path in wanted]
        some = size * _PER_BYTE + len(wanted) * (_PER_FILE + _PER_MATCH * len(listing.entries))
        everything = whole * _PER_BYTE + len(listing.entries) * _PER_FILE
        if some < everything and sum(map(len, words)) < _WORDS_MAX:
            yield from self._restored(copy, wanted, words, inside)
            return
        place = "/" + os.fsdecode(listing.root)
        command = self._command("dump", "--archive=tar", self._ids[copy.id], place)
        yield from tar.printed(command, lambda name: wanted.get(name.removeprefix(listing.root).strip(b"/")))

    def _restored(
        self, copy: Copy, wanted: Mapping[bytes, Given], words: Sequence[str], inside: bytes
    ) -> Iterator[tuple[Given, BinaryIO]]:
        with TemporaryDirectory(prefix="gitvault-import-") as folder:
            process.run(self._command("restore", self._ids[copy.id], "--target", folder, *words))
            for path, given in wanted.items():
                file = os.path.join(folder, os.fsdecode(inside + path))
                if not os.path.lexists(file):
                    # Its name is not what restic said.
                    continue
                if given.kind == "symlink":
                    yield given, io.BytesIO(os.fsencode(os.readlink(file)))
                    continue
                fd = os.open(file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
                try:
                    given = given._replace(xattrs=read_xattrs(fd) or None)
                    yield given, io.FileIO(fd, closefd=False) if given.kind == "file" else io.BytesIO()
                finally:
                    os.close(fd)

    def close(self) -> None:
        """See Source."""


def _nodes(stream: BinaryIO) -> Iterator[dict[str, Any]]:
    """What `find --json` tells of each file: `[{"matches":[{...},{...}],"hits":2,...}]`, all in one line."""
    decoder = json.JSONDecoder()
    text, at = "", 0
    reader = codecs.getreader("utf-8")(stream)
    while part := reader.read(1 << 20):
        text, at = text[at:] + part, 0
        while True:
            start = text.find('{"path":', at)
            if start < 0:
                break
            try:
                node, at = decoder.raw_decode(text, start)
            except ValueError:
                at = start
                break
            yield node


def _name(names: BinaryIO, told: str) -> bytes:
    """The next path that `ls` prints, where that is what JSON told as text; one may have several lines."""
    path = b"".join(names.readline() for _ in range(told.count("\n") + 1))[:-1]
    return path if _as_told(path) == _raw(told) else _raw(told)


def _as_told(path: bytes) -> bytes:
    """A path as restic's JSON has it, with a replacement character for each byte that is no text."""
    if path.isascii():
        return path
    return re.sub("[\udc80-\udcff]", "\ufffd", path.decode("utf-8", "surrogateescape")).encode()


def _given(path: bytes, kind: str, node: Mapping[str, Any]) -> Given:
    mode = int(node.get("mode", 0))
    bits = mode & 0o777 | sum(ours for theirs, ours in _GO_MODES if mode & theirs)
    target = _raw(node.get("linktarget", ""))
    size = len(target) if kind == "symlink" else int(node.get("size", 0))
    link = ""
    if kind == "file" and int(node.get("links", 1)) > 1:
        # restic does not tell the inode; only one inode has all this.
        said = (node.get("device_id"), node.get("ctime"), node.get("mtime"), node.get("uid"), size, node["links"])
        link = blake2b(repr(said).encode(), digest_size=8).hexdigest()
    owner = int(node.get("uid", 0)), int(node.get("gid", 0))
    return Given(path, kind, bits, _nanoseconds(node["mtime"]), owner, 0 if kind == "folder" else size, link)


def _root(nodes: Mapping[bytes, Given], paths: Sequence[str]) -> bytes:
    """Where the paths that were backed up lie in a snapshot: relative ones keep no more than they were given with."""
    common = os.path.commonpath(paths) if len({path[:1] for path in paths}) == 1 else ""
    parts = os.fsencode(common.replace(os.sep, "/").replace(":", "")).strip(b"/").split(b"/")
    told = {_as_told(path): path for path in nodes}
    for start in range(len(parts)):
        if path := told.get(b"/".join(parts[start:]), b""):
            return path if nodes[path].kind == "folder" else path.rpartition(b"/")[0]
    return b""


def _pattern(path: bytes) -> str:
    return re.sub(r"([\\*?\[])", r"\\\1", os.fsdecode(path))


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _nanoseconds(moment: str) -> int:
    """Of `2024-01-02T03:04:05.123456789+02:00`."""
    found = re.fullmatch(r"(.{19})(?:\.(\d{1,9}))?(.*)", moment)
    if not found:
        raise CorruptionError(f"restic tells of a time {moment[:40]!r}")
    since = datetime.fromisoformat(found[1] + found[3]) - _EPOCH
    return (since.days * 86400 + since.seconds) * 1_000_000_000 + int((found[2] or "").ljust(9, "0"))
