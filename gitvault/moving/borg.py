"""Moving in from borg, through borg itself.

`debug dump-archive` tells all that an archive holds, chunk ids included: what has the chunks it had is not read again.
The rest comes as one `export-tar` of exactly these files. borg checks every chunk it gives against its id.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from gitvault.core.backup_engine.incoming import Changes, Given
from gitvault.core.models import Problem
from gitvault.core.utils import process
from gitvault.errors import ToolFailed, without_passwords
from gitvault.moving import tar
from gitvault.moving.listing import Listing, differences
from gitvault.moving.source import Copy, expect_folder

_FORM = "{id}{start}{hostname}{username}{comment}{command_line}"
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "symlink"}
_VALUED = frozenset(
    [
        "-e",
        "--exclude",
        "--exclude-from",
        "--pattern",
        "--patterns-from",
        "-C",
        "--compression",
        "--comment",
        "--timestamp",
        "-c",
        "--checkpoint-interval",
        "--chunker-params",
        "--files-cache",
        "--filter",
        "--stdin-name",
        "--lock-wait",
    ]
)
"""Options of `borg create` that have a value behind them."""
_HEX = "\x7f"
"""How borg begins what it tells in hexadecimal, since it is no text."""
# What Python reports of objects that it clears away: no reason why a program fails.
_IGNORED = re.compile(r"^Exception ignored in: .*\n(?:Traceback .*\n(?:[ \t].*\n)*.*\n?)?", re.MULTILINE)
_RAISED = re.compile(r"^Traceback .*\n(?:[ \t].*\n)*(\S.*)", re.MULTILINE)


@dataclass(slots=True)
class _Archive:
    listing: Listing = field(default_factory=Listing)
    content: dict[bytes, Hashable] = field(default_factory=dict)
    """What is equal for equal content."""
    stored: dict[bytes, bytes] = field(default_factory=dict)
    """Under which path of the archive there is the content."""
    targets: dict[bytes, bytes] = field(default_factory=dict)
    """Of symlinks."""


class BorgSource:
    """The archives of a repository, by machine and what was named when they were made."""

    kind = "borg"

    def __init__(self, repository: str) -> None:
        self.place = os.path.abspath(repository) if os.path.isdir(repository) else without_passwords(repository)
        self.problems: list[Problem] = []
        self._repository = repository
        self._listed: dict[str, _Archive] = {}

    def _command(self, *words: str) -> list[str]:
        # A repository that cannot be written cannot be locked.
        locked = os.path.isdir(self._repository) and not os.access(self._repository, os.W_OK)
        return ["borg", *(["--bypass-lock"] if locked else []), *words]

    def copies(self) -> Sequence[Copy]:
        """See Source."""
        expect_folder(self._repository)
        found: list[Copy] = []
        with _plainly():
            listed = json.loads(process.run(self._command("list", "--json", "--format", _FORM, self._repository)))
        for said in listed["archives"]:
            named = _named(said.get("command_line", ""))
            root = named[0] if len(named) == 1 and os.path.isabs(named[0]) else ""
            name = os.path.basename(_common(named))
            host = str(said.get("hostname", ""))
            facts = {"user": str(said.get("username", "")), "paths": "\n".join(named)}
            found.append(
                Copy(
                    str(said["id"]), str(said["name"]), datetime.fromisoformat(said["start"]).astimezone(),
                    (host, *named), name.strip("./") or host or "borg", root, host,
                    message=str(said.get("comment", "")), facts=facts,
                )
            )  # fmt: skip
        return sorted(found, key=lambda copy: copy.time)

    def changes(self, copy: Copy, before: Copy | None) -> tuple[Changes, Mapping[bytes, Given]]:
        """See Source."""
        now = self._archive(copy)
        then = self._archive(before) if before else None
        self._listed = {copy.id: now}

        def is_fresh(path: bytes) -> bool:
            return then is None or now.content.get(path) != then.content.get(path)

        return differences(now.listing, then.listing if then else None, is_fresh)

    def contents(self, copy: Copy, wanted: Mapping[bytes, Given]) -> Iterator[tuple[Given, BinaryIO]]:
        """See Source."""
        archive = self._archive(copy)
        asked: dict[bytes, Given] = {}
        for path, given in wanted.items():
            if given.kind == "symlink":
                yield given, BytesIO(archive.targets[path])
            else:
                # Of a file with several names borg gives the one that it stored first.
                asked[archive.stored[path]] = given
        if not asked:
            return
        with TemporaryDirectory(prefix="gitvault-import-") as folder:
            words = []
            if len(asked) < len(archive.listing.entries) and (patterns := _patterns(asked)):
                Path(folder, "patterns").write_bytes(patterns)
                words = ["--patterns-from", os.path.join(folder, "patterns")]
            place = f"{self._repository}::{copy.name}"
            with _plainly():
                yield from tar.printed(self._command("export-tar", *words, place, "-"), asked.get)

    def _archive(self, copy: Copy) -> _Archive:
        if copy.id not in self._listed:
            place = f"{self._repository}::{copy.name}"
            with _plainly(), process.reading(self._command("debug", "dump-archive", place, "-")) as stream:
                self._listed[copy.id] = self._read(_items(stream))
        return self._listed[copy.id]

    def _read(self, items: Iterator[dict[str, Any]]) -> _Archive:
        nodes = {path: item for item in items if (path := self._path(item)) is not None}
        root = _root(nodes)
        archive = _Archive(Listing(root))
        inside = len(root) + 1 if root else 0
        for whole, item in nodes.items():
            path = whole[inside:]
            kind = _KINDS[stat.S_IFMT(item["mode"])]
            link, size = "", 0
            if kind == "symlink":
                target = archive.targets[path] = _value(item["source"])
                archive.content[path], size = target, len(target)
            elif kind == "file":
                stored = archive.stored[path] = _value(item["source"]).strip(b"/") if "source" in item else whole
                chunks = nodes[stored].get("chunks") or ()
                size = nodes[stored].get("size", sum(chunk[1] for chunk in chunks))
                archive.content[path] = blake2b("".join(chunk[0] for chunk in chunks).encode()).digest()
                if "source" in item or item.get("hardlink_master"):
                    link = blake2b(stored, digest_size=8).hexdigest()
            archive.listing.entries[path] = Given(
                path,
                kind,
                stat.S_IMODE(item["mode"]),
                item["mtime"],
                (item.get("uid") or 0, item.get("gid") or 0),
                size,
                link,
                {name: _value(value) for name, value in (item.get("xattrs") or {}).items()} or None,
            )
        return archive

    def _path(self, item: Mapping[str, Any]) -> bytes | None:
        """An item's path; None for what is no entry of a snapshot."""
        path = _value(item["path"]).strip(b"/")
        if stat.S_IFMT(item["mode"]) not in _KINDS:
            self._say(Problem(path, "neither file, folder nor symlink, which no snapshot holds"))
            return None
        if "chunks_healthy" in item:
            self._say(Problem(path, "has been damaged, as borg check --repair noted; imported as it is"))
        return None if "part" in item else b"" if path == b"." else path

    def _say(self, problem: Problem) -> None:
        if problem not in self.problems:
            self.problems.append(problem)

    def close(self) -> None:
        """See Source."""


@contextmanager
def _plainly() -> Iterator[None]:
    """borg says what is wrong, then how its program got there, then on what system.

    Of what it does not expect, it says no more than `Local Exception` before: the reason is what Python says.
    """
    try:
        yield
    except ToolFailed as error:
        text = _IGNORED.sub("", error.stderr)
        said = text.partition("Traceback (most recent call last)")[0].strip()
        if (raised := _RAISED.findall(text)) and (not said or said.endswith("Exception")):
            said = raised[-1]
        raise ToolFailed(error.command, error.code, said or error.stderr) from error


def _items(stream: BinaryIO) -> Iterator[dict[str, Any]]:
    """The items that `dump-archive` tells of: an indented JSON document, each beginning and ending with a line."""
    lines: list[bytes] = []
    for line in stream:
        if line.rstrip() == b"    {":
            lines = [line]
        elif lines:
            lines.append(line)
            if line.startswith(b"    }"):
                item = json.loads(b"".join(lines).rstrip().rstrip(b","))
                lines = []
                if "path" in item:
                    yield item


def _root(nodes: Mapping[bytes, Any]) -> bytes:
    """The folder that holds everything: the only one that lies in no other, or what those have in common."""
    tops = [path for path in nodes if path.rpartition(b"/")[0] not in nodes or path == b""]
    if len(tops) == 1 and stat.S_ISDIR(nodes[tops[0]]["mode"]):
        return tops[0]
    return os.path.commonpath([top.rpartition(b"/")[0] for top in tops]) if tops else b""


def _named(command: str | Sequence[str]) -> list[str]:
    """What a `borg create` was told to save."""
    try:
        words = iter(shlex.split(command) if isinstance(command, str) else command)
    except ValueError:
        return []
    found: list[str] = []
    begun = False
    for word in words:
        if word in _VALUED:
            next(words, None)
        elif begun and not word.startswith("-"):
            found.append(word)
        begun = begun or "::" in word
    return found


def _common(paths: Sequence[str]) -> str:
    """The folder that paths have in common, of one path itself; empty: none."""
    if len({os.path.isabs(path) for path in paths}) != 1:
        return ""
    return os.path.commonpath([os.path.normpath(path) for path in paths])


def _patterns(paths: Iterable[bytes]) -> bytes:
    """A file of patterns for exactly these paths; empty where one cannot be in such a file."""
    for path in paths:
        if (not path.isascii() and not _is_text(path)) or b"\n" in path or b"\r" in path or path != path.strip():
            return b""
    return b"".join(b"+ pf:" + path + b"\n" for path in paths) + b"- re:.*\n"


def _is_text(path: bytes) -> bool:
    try:
        path.decode()
    except UnicodeDecodeError:
        return False
    return True


def _value(text: str) -> bytes:
    return bytes.fromhex(text[1:]) if text.startswith(_HEX) else _raw(text)


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
