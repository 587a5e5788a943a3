"""Moving in from copies of a folder, dated as people date them.

Each copy is read whole, but for files that are the same file as in the copy before, as `rsync --link-dest` leaves them.
"""

from __future__ import annotations

import glob
import os
import re
import stat
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from datetime import datetime
from hashlib import blake2b
from io import BytesIO, FileIO
from pathlib import Path
from typing import BinaryIO

from gitvault.core.backup_engine.incoming import Changes, Given
from gitvault.core.models import Problem
from gitvault.core.utils.attributes import is_sparse, read_xattrs
from gitvault.core.utils.files import open_source, read_link
from gitvault.core.utils.layout import is_vault
from gitvault.core.utils.names import to_line
from gitvault.errors import NotFoundError
from gitvault.moving.listing import Listing, differences
from gitvault.moving.source import Copy

_DAY = r"(?P<year>(?:19|20)\d\d)(?P<between>[-_.]?)(?P<month>0[1-9]|1[0-2])(?P=between)(?P<day>0[1-9]|[12]\d|3[01])"
_DAY_FIRST = r"(?P<day>0[1-9]|[12]\d|3[01])\.(?P<month>0[1-9]|1[0-2])\.(?P<year>(?:19|20)\d\d)"
_TIME = (
    # One id in a hundred begins like a time.
    r"(?:(?!-[0-9a-f]{12}\Z)[T_. -]{1,3}"
    r"(?P<hour>[01]\d|2[0-3])[-_.:h]?(?P<minute>[0-5]\d)(?:[-_.:]?(?P<second>[0-5]\d))?)?"
)
# What `export` puts behind the date: a snapshot's id.
_EXPORTED = re.compile(r"[0-9a-f]{12}\Z")
_DATES = tuple(re.compile(rf"(?<!\d){day}{_TIME}(?!\d)") for day in (_DAY, _DAY_FIRST))


class FolderSource:
    """Folders, each a copy of what a project was. `places`: these, patterns for them, or one in which they lie."""

    kind = "folder"

    def __init__(self, places: Sequence[str]) -> None:
        self.problems: list[Problem] = []
        self._places = places
        self.place = os.path.realpath(os.path.dirname(os.path.abspath(places[0])))
        self._listed: dict[str, tuple[Listing, dict[bytes, Hashable]]] = {}

    def copies(self) -> Sequence[Copy]:
        """See Source."""
        folders = self._folders()
        stems = [_dated(os.path.basename(folder)) for folder in folders]
        undated = [stem for stem, moment in stems if moment is None]
        together = ""
        if undated:
            # Names that tell no date tell no project either: `acme v1`, `acme v2`.
            shared = os.path.commonprefix(undated)  # noqa: RUF071
            together = shared if len(undated) == 1 else re.sub(r"[-_. ]+v?\d*\Z", "", shared)
            together = together or os.path.basename(self.place)
        found: list[Copy] = []
        for folder, (stem, moment) in zip(folders, stems, strict=True):
            name = (together if moment is None else stem) or os.path.basename(os.path.dirname(folder)) or "folder"
            found.append(
                Copy(
                    folder, os.path.basename(folder), moment or self._newest(folder), (self.place, name), name,
                    facts={"path": folder},
                )
            )  # fmt: skip
        # Of one day the one whose files are older comes first: an export's name says no more.
        times = Counter(copy.time for copy in found)
        return sorted(
            found, key=lambda one: (one.time, self._newest(one.id) if times[one.time] > 1 else one.time, one.name)
        )

    def _folders(self) -> list[str]:
        found: list[str] = []
        for place in self._places:
            if not os.path.lexists(place) and (matching := sorted(glob.glob(place))):
                found += matching
            elif not os.path.lexists(place):
                raise NotFoundError(f"{to_line(os.fsencode(place))}: no such folder")
            else:
                found.append(place)
        folders = [os.path.realpath(place) for place in found if self._is_copy(place)]
        if len(self._places) == len(folders) == 1 and _dated(os.path.basename(folders[0]))[1] is None:
            inside = [entry.path for entry in os.scandir(folders[0]) if not entry.name.startswith(".")]
            if inside and all(_dated(os.path.basename(path))[1] and os.path.isdir(path) for path in inside):
                self.place = folders[0]
                return [os.path.realpath(path) for path in inside if self._is_copy(path)]
        if not folders:
            raise NotFoundError(f"{to_line(os.fsencode(self._places[0]))}: no folder; name copies of one")
        return list(dict.fromkeys(folders))

    def _is_copy(self, place: str) -> bool:
        if os.path.isdir(place) and not is_vault(Path(place)):
            return True
        what = "a vault" if os.path.isdir(place) else "not a folder"
        self._say(os.fsencode(place), f"{what}; not imported")
        return False

    def _newest(self, folder: str) -> datetime:
        """When a file of a folder changed last, or, without files, it itself."""
        times = [os.lstat(folder).st_mtime_ns]
        files = [found.st_mtime_ns for _, found in self._walk(folder) if not stat.S_ISDIR(found.st_mode)]
        return datetime.fromtimestamp(max(files or times) // 1_000_000_000).astimezone()

    def changes(self, copy: Copy, before: Copy | None) -> tuple[Changes, Mapping[bytes, Given]]:
        """See Source."""
        now, same = self._listing(copy)
        then, past = self._listing(before) if before and os.path.isdir(before.id) else (None, {})
        self._listed = {copy.id: (now, same)}
        changes, wanted = differences(now, then, lambda path: same.get(path) != past.get(path), folders=True)
        return changes, wanted

    def _listing(self, copy: Copy) -> tuple[Listing, dict[bytes, Hashable]]:
        if copy.id in self._listed:
            return self._listed[copy.id]
        listing = Listing()
        same: dict[bytes, Hashable] = {}
        found = list(self._walk(copy.id))
        names = Counter((st.st_dev, st.st_ino) for _, st in found if st.st_nlink > 1 and stat.S_ISREG(st.st_mode))
        for path, st in found:
            inode = st.st_dev, st.st_ino
            if stat.S_ISDIR(st.st_mode):
                kind, size = "folder", 0
            elif stat.S_ISLNK(st.st_mode):
                kind, size = "symlink", st.st_size
            else:
                kind, size = "file", st.st_size
            if kind != "folder":
                same[path] = *inode, st.st_size, st.st_mtime_ns
            link = blake2b(repr(inode).encode(), digest_size=8).hexdigest() if names[inode] > 1 else ""
            mode, owner = stat.S_IMODE(st.st_mode), (st.st_uid, st.st_gid)
            listing.entries[path] = Given(
                path, kind, mode, st.st_mtime_ns, owner, size, link, sparse=kind == "file" and is_sparse(st)
            )
        self._listed[copy.id] = listing, same
        return listing, same

    def _walk(self, folder: str) -> Iterator[tuple[bytes, os.stat_result]]:
        """Every path in a folder, the folder itself as b"", that can be read and saved."""
        yield b"", os.stat(folder)
        pending = [b""]
        top = os.fsencode(folder)
        while pending:
            above = pending.pop()
            try:
                with os.scandir(os.path.join(top, above) if above else top) as entries:
                    listed = sorted(entries, key=lambda entry: entry.name)
            except OSError as error:
                self._say(os.path.join(top, above), f"cannot be read: {error.strerror}")
                continue
            for entry in listed:
                path = above + b"/" + entry.name if above else entry.name
                found = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(found.st_mode):
                    pending.append(path)
                elif not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
                    self._say(os.path.join(top, path), "neither file, folder nor symlink")
                    continue
                yield path, found

    def contents(self, copy: Copy, wanted: Mapping[bytes, Given]) -> Iterator[tuple[Given, BinaryIO | None]]:
        """See Source."""
        for path, given in wanted.items():
            file = os.path.join(copy.id, os.fsdecode(path)) if path else copy.id
            try:
                if given.kind == "symlink":
                    target = read_link(file)
                    yield given._replace(size=len(target)), BytesIO(target)
                    continue
                fd = open_source(file)
            except OSError as error:
                self._say(os.fsencode(file), f"cannot be read: {error.strerror}")
                yield given, None
                continue
            try:
                given = given._replace(xattrs=read_xattrs(fd) or None)
                yield given, BytesIO() if given.kind == "folder" else FileIO(fd, closefd=False)
            finally:
                os.close(fd)

    def _say(self, path: bytes, reason: str) -> None:
        if (problem := Problem(path, reason)) not in self.problems:
            self.problems.append(problem)

    def close(self) -> None:
        """See Source."""


def _dated(name: str) -> tuple[str, datetime | None]:
    """A name without its date, and the date; without a time the first moment of its day, here."""
    for form in _DATES:
        for found in form.finditer(name):
            parts = [int(found[part] or 0) for part in ("year", "month", "day", "hour", "minute", "second")]
            try:
                moment = datetime(*parts).astimezone()  # type: ignore[arg-type]
            except ValueError:
                continue
            before, behind = name[: found.start()].rstrip("-_. (["), name[found.end() :].lstrip("-_. )]Z")
            behind = _EXPORTED.sub("", behind)
            return f"{before}-{behind}".strip("-"), moment
    return name, None
