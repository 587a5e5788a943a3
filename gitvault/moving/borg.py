"""Moving in from borg, through borg itself.

`debug dump-archive` tells all that an archive holds, chunk ids included: what has the chunks it had is not read again.
The rest comes as one `export-tar` of exactly these files. borg checks every chunk it gives against its id.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from gitvault.core.backup_engine.incoming import Changes, Given
from gitvault.core.utils import process
from gitvault.core.utils.names import to_line
from gitvault.errors import CorruptionError
from gitvault.moving import tar
from gitvault.moving.listing import Listing, differences
from gitvault.moving.source import Copy

_FORM = "{id}{start}{hostname}{username}{comment}{command_line}"
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "symlink"}
_HEX = "\x7f"
"""How borg begins what it tells in hexadecimal, since it is no text."""


class BorgSource:
    """The archives of a repository, by machine and what was named when they were made."""

    kind = "borg"

    def __init__(self, repository: str) -> None:
        self.place = os.path.abspath(repository) if os.path.isdir(repository) else repository
        self.problems: list[str] = []
        self._repository = repository
        self._listed: dict[str, _Archive] = {}

    def _command(self, *words: str) -> list[str]:
        # A repository that cannot be written cannot be locked.
        locked = os.path.isdir(self._repository) and not os.access(self._repository, os.W_OK)
        return ["borg", *(["--bypass-lock"] if locked else []), *words]

    def copies(self) -> Sequence[Copy]:
        """See Source."""
        found: list[Copy] = []
        for said in json.loads(process.run(self._command("list", "--json", "--format", _FORM, self._repository)))[
            "archives"
        ]:
            named = _named(str(said.get("command_line", "")))
            root = named[0] if len(named) == 1 and os.path.isabs(named[0]) else ""
            name = os.path.basename(os.path.normpath(named[0])) if len(named) == 1 else ""
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
            with process.reading(self._command("export-tar", *words, "--tar-filter=cat", place, "-")) as stream:
                yield from tar.contents(stream, asked.get)

    def _archive(self, copy: Copy) -> _Archive:
        if copy.id not in self._listed:
            place = f"{self._repository}::{copy.name}"
            with process.reading(self._command("debug", "dump-archive", place, "-")) as stream:
                self._listed[copy.id] = self._read(_items(stream))
        return self._listed[copy.id]

    def _read(self, items: Iterator[dict[str, Any]]) -> _Archive:
        archive = _Archive()
        found: dict[bytes, Given] = {}
        for item in items:
            path = _raw(item["path"]).strip(b"/")
            path = b"" if path == b"." else path
            kind = _KINDS.get(stat.S_IFMT(item["mode"]))
            if "part" in item or kind is None:
                if kind is None:
                    self._say(f"{to_line(path)}: neither file, folder nor symlink, which no snapshot holds")
                continue
            if "chunks_healthy" in item:
                self._say(f"{to_line(path)}: damaged in {to_line(path)}, as `borg check --repair` noted")
            first = path
            if kind == "symlink":
                archive.targets[path] = _raw(item.get("source", ""))
            elif kind == "file" and "source" in item:
                first = _raw(item["source"]).strip(b"/")
            chunks = item.get("chunks") or ()
            size = item.get("size", sum(chunk[1] for chunk in chunks))
            linked = kind == "file" and (first != path or item.get("hardlink_master", False))
            if kind == "file":
                if first == path:
                    archive.content[path] = blake2b("".join(chunk[0] for chunk in chunks).encode()).digest(), size
                else:
                    archive.content[path], size = archive.content[first], archive.content[first][1]
                archive.stored[path] = first
            found[path] = Given(
                path,
                kind,
                stat.S_IMODE(item["mode"]),
                item["mtime"],
                (item.get("uid") or 0, item.get("gid") or 0),
                len(archive.targets[path]) if kind == "symlink" else size if kind == "file" else 0,
                blake2b(first, digest_size=8).hexdigest() if linked else "",
                {name: _raw(value) for name, value in (item.get("xattrs") or {}).items()} or None,
            )
        return archive.below(found, _root(found))

    def _say(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)

    def close(self) -> None:
        """See Source."""
