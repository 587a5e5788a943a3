#!/usr/bin/env python3
"""Gets everything back from the gitvault vault that this file lies in, without gitvault.

    python3 VAULT/rescue.py list
    python3 VAULT/rescue.py restore SNAPSHOT DIR [PATH ...]

SNAPSHOT as git knows it: an id, its beginning, BRANCH, BRANCH~2. DIR must be new or empty; nothing is written outside
of it. With PATHs, only what is there or below. It needs Python 3.8, git and zstd, and restores times, permissions,
owners (as root), extended attributes (Linux), hard links and holes too.

Exit code: 0 every file has its hash; 1 something is damaged, each such path is named, and what could be had of a file
is NAME.damaged, with zeros where bytes are lost; 128 it cannot be done; 129 wrong usage.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections import OrderedDict
from functools import partial
from typing import BinaryIO, Callable, Dict, Iterator, List, NamedTuple, NoReturn, Optional, Tuple

MAX_CHUNK = 16 << 20
MAX_DICTIONARY = 64 << 20
MAX_TABLE = 256 << 20
MAX_CHAIN = 64
CACHE_BYTES = 256 << 20
# So many decoded bytes come out of one call of zstd, where frames that stand alone follow each other.
RUN_BYTES = 64 << 20
SKIPPABLE = bytes.fromhex("572a4d18")
POINTER = re.compile(rb"version https://git-lfs\.github\.com/spec/v1\noid sha256:([0-9a-f]{64})\nsize ([0-9]{1,19})\n")

# Content: how many bytes, and which; None for bytes that are lost.
Pieces = Callable[[], Iterator[Tuple[int, Optional[bytes]]]]
# A frame: number of its pack, its number in there.
Key = Tuple[int, int]


def fail(message: str, code: int = 128) -> NoReturn:
    """End the program."""
    say(message)
    sys.exit(code)


def say(message: str) -> None:
    """A line for people."""
    print("rescue.py: " + message, file=sys.stderr)


def shown(raw: bytes) -> str:
    """A path as one line that no terminal takes for a command."""
    text = raw.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else ascii(text)[1:-1]


def unescaped(name: bytes) -> bytes:
    """What a name in a tree or a ref stands for: %XX is a byte."""
    return re.sub(rb"%([0-9A-Fa-f]{2})", lambda match: bytes([int(match[1], 16)]), name)


def from_line(text: str) -> bytes:
    """What a name in the meta chain stands for: \\xXX is a byte."""
    parts = re.split(r"\\x([0-9A-Fa-f]{2})", text)
    raw = [part.encode("utf-8", "surrogateescape") for part in parts]
    raw[1::2] = [bytes([int(part, 16)]) for part in parts[1::2]]
    return b"".join(raw)


# -- git ---------------------------------------------------------------------------------------------------------------


class Git:
    """The vault's objects and copies of its refs, through a repository of our own.

    Nothing that the vault, its owner or this machine has configured takes part.
    """

    def __init__(self, vault: str, work: str) -> None:
        self._folder = os.path.join(work, "git")
        for name in ("objects", "info"):
            os.makedirs(os.path.join(self._folder, name))
        shutil.copytree(os.path.join(vault, "refs"), os.path.join(self._folder, "refs"), symlinks=True)
        for name in ("HEAD", "packed-refs"):
            if os.path.isfile(os.path.join(vault, name)):
                shutil.copyfile(os.path.join(vault, name), os.path.join(self._folder, name))
        with open(os.path.join(self._folder, "config"), "w") as config:
            config.write("[core]\nrepositoryformatversion = 0\nbare = true\nhooksPath = /dev/null\n")
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        self._environment.update(
            GIT_DIR=self._folder,
            GIT_OBJECT_DIRECTORY=os.path.join(vault, "objects"),
            HOME=work,
            XDG_CONFIG_HOME=work,
            GIT_CONFIG_NOSYSTEM="1",
            GIT_CONFIG_GLOBAL=os.devnull,
            GIT_ATTR_NOSYSTEM="1",
            GIT_NO_REPLACE_OBJECTS="1",
            GIT_NO_LAZY_FETCH="1",
            GIT_TERMINAL_PROMPT="0",
            LC_ALL="C",
        )
        self._batch: Optional[subprocess.Popen[bytes]] = None

    def run(self, *arguments: str) -> Tuple[bytes, bool]:
        """What git prints, and whether it was content."""
        done = subprocess.run(
            ["git", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self._environment,
        )
        return done.stdout, done.returncode == 0

    def read(self, oid: str, kind: str) -> Optional[bytes]:
        """An object's content; None when it is missing, damaged or of another kind."""
        if self._batch is None:
            self._batch = subprocess.Popen(
                ["git", "cat-file", "--batch"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=self._environment,
            )
        assert self._batch.stdin and self._batch.stdout
        try:
            self._batch.stdin.write(oid.encode() + b"\n")
            self._batch.stdin.flush()
            words = self._batch.stdout.readline().split()
            if len(words) == 3:
                size = int(words[2])
                data = self._batch.stdout.read(size + 1)
                if len(data) == size + 1:
                    named = hashlib.sha1(b"%s %d\0" % (words[1], size) + data[:-1]).hexdigest()
                    return data[:-1] if named == oid and words[1] == kind.encode() else None
            elif words:
                return None
        except OSError:
            pass
        # It gives up at an object that is damaged in a pack; the next is for another.
        self.close()
        return None

    def tree(self, oid: str) -> Optional[List[Tuple[str, bytes, str]]]:
        """Mode, name and id of a tree's entries; None when it cannot be read."""
        data = self.read(oid, "tree")
        if data is None:
            return None
        found = re.compile(rb"([0-7]+) ([^\0]+)\0(.{20})", re.DOTALL).findall(data)
        return [(mode.decode(), name, raw.hex()) for mode, name, raw in found]

    def close(self) -> None:
        """End what runs."""
        if self._batch is not None:
            self._batch.kill()
            with contextlib.suppress(OSError):
                self._batch.communicate()
            self._batch = None


# -- chunks ------------------------------------------------------------------------------------------------------------


class Frame(NamedTuple):
    """A row of a pack's table."""

    offset: int
    stored: int
    length: int
    bases: Tuple[str, ...]


class Place(NamedTuple):
    """Where a chunk is in a decoded frame."""

    frame: Key
    inner: int
    length: int


class Chunks:
    """The packs in `chunks/`, and in `chunks/trash/` as the last resort."""

    def __init__(self, folder: str, work: str) -> None:
        self._work = work
        self._packs: List[str] = []
        self._frames: List[List[Frame]] = []
        self._places: Dict[str, List[Place]] = {}
        self._manifests: Dict[str, List[List[str]]] = {}
        self._cache: OrderedDict[Key, bytes] = OrderedDict()
        self._cached = 0
        self._careful = False
        for where in (folder, os.path.join(folder, "trash")):
            for name in sorted(os.listdir(where)) if os.path.isdir(where) else ():
                if re.fullmatch(r"[0-9a-f]{64}\.zpk", name):
                    self._load(os.path.join(where, name))

    def _load(self, path: str) -> None:
        with open(path, "rb") as pack:
            size = pack.seek(0, os.SEEK_END)
            for offset, length in _tables(pack, size):
                pack.seek(offset)
                text = _zstd(self._work, pack.read(length), MAX_TABLE)
                end = text.rfind(b"end ")
                if end >= 0 and text[end:] == b"end %s\n" % hashlib.sha256(text[:end]).hexdigest().encode():
                    break
            else:
                say(path + ": its table cannot be read")
                return
        number = len(self._packs)
        frames: List[Frame] = []
        places: List[Tuple[str, Place]] = []
        manifests: List[Tuple[str, List[str]]] = []
        for line in text[:end].decode("ascii", "replace").splitlines():
            kind, *words = line.split(" ")
            if kind == "frame":
                frames.append(Frame(int(words[1]), int(words[2]), int(words[3]), tuple(words[4:])))
            elif kind == "chunk":
                places.append((words[0], Place((number, int(words[1])), int(words[2]), int(words[3]))))
            elif kind == "manifest":
                manifests.append((words[0], words[1:]))
            elif kind != "level":
                say("%s: rows of the kind %s: it is of a newer gitvault, whose rescue.py reads it" % (path, kind))
                return
        self._packs.append(path)
        self._frames.append(frames)
        for chunk, place in places:
            copies = self._places.setdefault(chunk, [])
            # What stands alone comes first, as it is the simplest.
            copies.insert(len(copies) if frames[place.frame[1]].bases else 0, place)
        for oid, parts in manifests:
            self._manifests.setdefault(oid, []).append(parts)

    def listed(self, oid: str, size: int) -> Optional[List[Tuple[str, int]]]:
        """The chunks of a file; None when no list of them can be read."""
        for parts in self._manifests.get(oid, ()):
            read = [self.chunk(part) for part in parts]
            if None not in read:
                found = re.findall(
                    r"([0-9a-f]{64}) ([1-9][0-9]{0,8})\n", b"".join(filter(None, read)).decode("ascii", "replace")
                )
                if sum(int(length) for _, length in found) == size:
                    return [(chunk, int(length)) for chunk, length in found]
        if oid in self._places or (oid not in self._manifests and size <= MAX_CHUNK):
            return [(oid, size)]
        return None

    def content(self, chunks: List[Tuple[str, int]], careful: bool) -> Iterator[Tuple[int, Optional[bytes]]]:
        """The chunks' bytes, with their length; None for what is lost.

        Not `careful`: as they come, for the hash of the whole to judge. Else each has its own, from whatever copy has.
        """
        self._careful = careful
        if careful:
            self._cache.clear()
            self._cached = 0
        at = 0
        while at < len(chunks):
            stop = at + 1 if careful else self._run(chunks, at)
            if stop > at + 1:
                yield from self._stream([self._places[chunk][0] for chunk, _ in chunks[at:stop]])
            else:
                yield chunks[at][1], self.chunk(chunks[at][0])
            at = stop

    def _run(self, chunks: List[Tuple[str, int]], at: int) -> int:
        """Up to where chunks lie one behind the other in frames that stand alone; at least one."""
        before: Optional[Place] = None
        total = 0
        for number in range(at, len(chunks)):
            copies = self._places.get(chunks[number][0])
            if not copies or self._frame(copies[0].frame).bases or total > RUN_BYTES:
                return max(number, at + 1)
            place = copies[0]
            if before is not None:
                (pack, frame), stop = before.frame, before.inner + before.length
                same = place.frame == before.frame and place.inner == stop
                next_ = (
                    place.frame == (pack, frame + 1) and place.inner == 0 and stop == self._frame(before.frame).length
                )
                if not same and not next_:
                    return number
            total += place.length
            before = place
        return len(chunks)

    def _stream(self, places: List[Place]) -> Iterator[Tuple[int, Optional[bytes]]]:
        """A run's bytes from one call of zstd, which reads on in the pack until it is stopped."""
        frame = self._frame(places[0].frame)
        with open(self._packs[places[0].frame[0]], "rb", buffering=0) as pack:
            pack.seek(frame.offset)
            process = _start(["zstd", "-qdc"], pack)
        assert process.stdout
        try:
            process.stdout.read(places[0].inner)
            left = sum(place.length for place in places)
            while left:
                data = process.stdout.read(min(left, 1 << 20))
                if not data:
                    yield left, None
                    return
                left -= len(data)
                yield len(data), data
        finally:
            process.kill()
            process.communicate()

    def chunk(self, chunk: str, above: Tuple[Key, ...] = ()) -> Optional[bytes]:
        """A chunk's bytes, from a frame that is not in `above`: those that are being decoded for it."""
        for place in self._places.get(chunk, ()):
            data = self._decoded(place.frame, above) if place.frame not in above else None
            if data is not None:
                piece = data[place.inner : place.inner + place.length]
                if not self._careful or hashlib.sha256(piece).hexdigest() == chunk:
                    return piece
        return None

    def _frame(self, key: Key) -> Frame:
        return self._frames[key[0]][key[1]]

    def _decoded(self, key: Key, above: Tuple[Key, ...]) -> Optional[bytes]:
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        frame = self._frame(key)
        if frame.length > MAX_CHUNK or len(above) > MAX_CHAIN:
            return None
        bases: List[bytes] = []
        for base in frame.bases:
            piece = self.chunk(base, (*above, key))
            if piece is None or sum(map(len, bases)) > MAX_DICTIONARY:
                return None
            bases.append(piece)
        with open(self._packs[key[0]], "rb") as pack:
            pack.seek(frame.offset)
            stored = pack.read(frame.stored)
        data = _zstd(self._work, stored, frame.length, b"".join(bases))
        if len(data) != frame.length:
            return None
        self._cache[key] = data
        self._cached += len(data)
        while self._cached > CACHE_BYTES and len(self._cache) > 1:
            self._cached -= len(self._cache.popitem(last=False)[1])
        return data


def _tables(pack: BinaryIO, size: int) -> Iterator[Tuple[int, int]]:
    """Offset and length of what may be a pack's table: as its end says, then whatever looks like one."""
    pack.seek(max(0, size - 57))
    trailer = re.fullmatch(rb"gitvault table ([0-9]{20}) ([0-9]{20})\n", pack.read(57))
    if trailer and int(trailer[2]) <= MAX_TABLE:
        offset, length = int(trailer[1]), int(trailer[2])
        yield offset, length
        yield offset + length + 8, length
    start = max(0, size - (64 << 20))
    pack.seek(start)
    tail = pack.read()
    at = len(tail)
    while True:
        at = tail.rfind(SKIPPABLE, 0, at)
        if at < 0:
            return
        yield start + at + 8, int.from_bytes(tail[at + 4 : at + 8], "little") & (MAX_TABLE - 1)


def _start(command: List[str], stdin: Optional[BinaryIO]) -> subprocess.Popen[bytes]:
    given = subprocess.DEVNULL if stdin is None else stdin
    return subprocess.Popen(command, stdin=given, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def _zstd(work: str, stored: bytes, limit: int, dictionary: bytes = b"") -> bytes:
    """A frame's bytes; b"" when it is damaged or has more than `limit`. `work`: a folder of ours."""
    frame, base = os.path.join(work, "frame"), os.path.join(work, "base")
    for path, data in ((frame, stored), (base, dictionary)):
        with open(path, "wb") as file:
            file.write(data)
    process = _start(["zstd", "-qdc", *(["--patch-from=" + base] if dictionary else []), frame], None)
    assert process.stdout
    data = process.stdout.read(limit + 1)
    if len(data) > limit:
        process.kill()
    process.stdout.close()
    return data if process.wait() == 0 and len(data) <= limit else b""


# -- what the meta chain says ------------------------------------------------------------------------------------------


class Attributes(NamedTuple):
    """A line of the meta chain."""

    mode: int
    mtime_ns: int
    owner: Tuple[int, int]
    link: Optional[str] = None
    sparse: bool = False
    xattrs: Tuple[Tuple[str, bytes], ...] = ()


Described = Tuple[Attributes, Dict[bytes, Attributes]]


def described(blob: bytes) -> Optional[Described]:
    """A folder's own attributes and those of what is in it by name; None when it cannot be read."""
    try:
        first, *lines = blob.decode("utf-8").split("\n")[:-1]
        if first != "gitvault-meta 1":
            return None
        own = _attributes(lines[0], (0, 0))[1]
        return own, dict(_attributes(line, own.owner) for line in lines[1:])
    except (ValueError, IndexError):
        return None


def _attributes(line: str, folder_owner: Tuple[int, int]) -> Tuple[bytes, Attributes]:
    head, *extras = line.split("\t")
    _, mode, mtime, owner, _, name = head.split(" ", 5)
    seconds, _, nanos = mtime.partition(".")
    who = folder_owner
    if owner != "-":
        user, group = owner.split(":")
        who = int(user), int(group)
    link = None
    sparse = False
    xattrs = []
    for extra in extras:
        key, _, value = extra.partition("=")
        if key == "link":
            link = value
        elif key == "sparse":
            sparse = True
        elif key.startswith("xattr."):
            label = from_line(key[6:]).decode("utf-8", "surrogateescape")
            xattrs.append((label, base64.b64decode(value, validate=True)))
    when = int(seconds) * 1_000_000_000 + int(nanos)
    return from_line(name), Attributes(int(mode, 8) & 0o7777, when, who, link, sparse, tuple(xattrs))


# -- restore -----------------------------------------------------------------------------------------------------------


class Large(NamedTuple):
    """A file whose content is in chunks."""

    path: bytes
    oid: str
    size: int
    executable: bool
    said: Optional[Attributes]


class Restore:
    """Writes a snapshot below the current folder, which is new and ours alone."""

    def __init__(self, git: Git, chunks: Callable[[], Chunks], wanted: List[bytes], trusted: bool) -> None:
        self.git = git
        self.open_chunks = chunks
        self.wanted = wanted
        self.trusted = trusted
        self.root = hasattr(os, "geteuid") and os.geteuid() == 0
        self.files = 0
        self.problems = 0
        self.large: List[Large] = []
        self.folders: List[Tuple[bytes, Attributes]] = []
        self.symlinks: List[Tuple[bytes, bytes, Optional[Attributes]]] = []
        self.later: List[Tuple[bytes, bytes]] = []
        self.first: Dict[Tuple[str, str], bytes] = {}
        self.again: Dict[bytes, Callable[[], None]] = {}
        self.found: set[bytes] = set()

    def damaged(self, path: bytes, why: str) -> None:
        """Name what is not as it should be."""
        self.problems += 1
        print("damaged: %s: %s" % (shown(path) or ".", why), file=sys.stderr)

    def run(self, tree: str, meta: Optional[str]) -> None:
        """All of it."""
        pending: List[Tuple[bytes, Optional[str], Optional[Tuple[str, str]]]] = [
            (b"", tree, ("40000", meta) if meta else None)
        ]
        while pending:
            path, oid, mirror = pending.pop()
            pending += reversed(list(self._folder(path, oid, mirror)))
        if self.large:
            chunks = self.open_chunks()
            for file in self.large:
                self._large(file, chunks)
        for path, first in self.later:
            self._link(path, first)
        # Last, so that nothing is ever written through one.
        for path, target, said in self.symlinks:
            self._symlink(path, target, said)
        for path in self.wanted:
            if path not in self.found:
                self.damaged(path, "not in this snapshot")

    def attributes(self) -> None:
        """Give the folders theirs, when nothing is written into them any more."""
        for path, said in reversed(self.folders):
            self._set(path or b".", said)

    def _folder(
        self, path: bytes, oid: Optional[str], mirror: Optional[Tuple[str, str]]
    ) -> Iterator[Tuple[bytes, Optional[str], Optional[Tuple[str, str]]]]:
        """Write a folder's files; the folders in it."""
        entries = self.git.tree(oid) if oid else []
        if entries is None:
            self.damaged(path, "what is in this folder cannot be read (tree %s)" % oid)
            entries = []
        own, said, mirrored = self._mirror(path, mirror)
        if own:
            self.folders.append((path, own))
        names = {name for _, name, _ in entries}
        entries += [("40000", name, "") for name in mirrored if name not in names]
        for mode, stored, blob in entries:
            name = unescaped(stored)
            if not path and stored == b"%00vcs":
                # What is said of checkouts is no file of the project, but what is needed of them.
                name = b".gitvault-vcs"
            where = path + b"/" + name if path else name
            if not self._wanted(where):
                continue
            if name in (b"", b".", b"..") or re.search(rb"[/\0\\:]" if os.name == "nt" else rb"[/\0]", name):
                self.damaged(where, "its name would lead out of the folder")
            elif mode == "40000":
                try:
                    os.mkdir(where, 0o700)
                except OSError as error:
                    self.damaged(where, "the folder cannot be made: %s" % error.strerror)
                    continue
                self.found.add(where)
                yield where, blob or None, mirrored.get(stored)
            elif mode == "160000":
                self.damaged(where, "a submodule, which is not in the vault")
            else:
                self._file(where, mode, blob, said.get(name))

    def _wanted(self, path: bytes) -> bool:
        return not self.wanted or any(
            (path + b"/").startswith(wanted + b"/") or (wanted + b"/").startswith(path + b"/") for wanted in self.wanted
        )

    def _mirror(
        self, path: bytes, mirror: Optional[Tuple[str, str]]
    ) -> Tuple[Optional[Attributes], Dict[bytes, Attributes], Dict[bytes, Tuple[str, str]]]:
        """What the meta chain says of a folder: its own attributes, those in it, the folders in it."""
        if mirror is None:
            return None, {}, {}
        mode, oid = mirror
        below: Dict[bytes, Tuple[str, str]] = {}
        if mode == "40000":
            entries = self.git.tree(oid)
            below = {name: (kind, found) for kind, name, found in entries or ()}
            oid = below.pop(b"%00meta", ("", ""))[1]
        blob = self.git.read(oid, "blob") if oid else None
        found = described(blob) if blob is not None else None
        if found is None:
            self.damaged(path, "times, permissions and the like of what is in this folder cannot be read")
            return None, {}, below
        return found[0], found[1], below

    def _file(self, path: bytes, mode: str, oid: str, said: Optional[Attributes]) -> None:
        self.found.add(path)
        if said and said.link:
            first = self.first.setdefault((said.link, oid), path)
            if first != path:
                self.later.append((path, first))
                self.again[path] = lambda: self._file(path, mode, oid, said._replace(link=None))
                return
        data = self.git.read(oid, "blob")
        if data is None:
            self.damaged(path, "git cannot read it (blob %s)" % oid)
            return
        pointer = POINTER.fullmatch(data)
        if mode == "120000":
            self.symlinks.append((path, data, said))
        elif pointer:
            self.large.append(Large(path, pointer[1].decode(), int(pointer[2]), mode == "100755", said))
        else:
            self._write(path, lambda: iter([(len(data), data)]), mode == "100755", said)

    def _write(
        self,
        path: bytes,
        pieces: Pieces,
        executable: bool,
        said: Optional[Attributes],
        oid: Optional[str] = None,
    ) -> Optional[int]:
        """Make a file. None when it was made and has the hash `oid`; else how many of its bytes are lost."""
        digest = hashlib.sha256()
        lost = 0
        try:
            # x: whatever is there already, by a second entry or in another case, is left alone.
            with open(path, "xb", buffering=0) as file:
                size = 0
                for length, data in pieces():
                    size += length
                    if data is None:
                        lost += length
                        digest.update(b"lost")
                        file.seek(size)
                    else:
                        digest.update(data)
                        _put(file, data, bool(said and said.sparse))
                file.truncate(size)
        except OSError as error:
            self.damaged(path, "cannot be written: %s" % error.strerror)
            if not isinstance(error, FileExistsError):
                os.unlink(path)
            return None
        if oid is not None and digest.hexdigest() != oid:
            return lost
        self.files += 1
        if said:
            self._set(path, said)
        elif executable:
            os.chmod(path, stat.S_IMODE(os.stat(path).st_mode) | 0o111 & ~_umask())
        return None

    def _large(self, file: Large, chunks: Chunks) -> None:
        listed = chunks.listed(file.oid, file.size)
        if listed is None:
            self.damaged(file.path, "the list of its chunks cannot be read (%s)" % file.oid)
            return
        lost = self._attempt(file, partial(chunks.content, listed, False))
        if lost is None:
            return
        os.unlink(file.path)
        lost = self._attempt(file, partial(chunks.content, listed, True))
        if lost is None:
            return
        self.damaged(file.path, "%d of its %d bytes are lost" % (lost, file.size) if lost else "its bytes are wrong")
        kept = file.path + b".damaged"
        if lost == file.size or os.path.lexists(kept):
            os.unlink(file.path)
        else:
            os.rename(file.path, kept)

    def _attempt(self, file: Large, pieces: Pieces) -> Optional[int]:
        return self._write(file.path, pieces, file.executable, file.said, file.oid)

    def _link(self, path: bytes, first: bytes) -> None:
        try:
            os.link(first, path)
            self.files += 1
        except OSError:
            # Damaged, or a file system without hard links.
            large = len(self.large)
            self.again[path]()
            for file in self.large[large:]:
                self._large(file, self.open_chunks())

    def _symlink(self, path: bytes, target: bytes, said: Optional[Attributes]) -> None:
        try:
            os.symlink(target, path)
        except OSError as error:
            self.damaged(path, "the symlink cannot be made: %s" % error.strerror)
            return
        self.files += 1
        if said and os.utime in os.supports_follow_symlinks:
            if self.root:
                os.chown(path, *said.owner, follow_symlinks=False)
            os.utime(path, ns=(said.mtime_ns, said.mtime_ns), follow_symlinks=False)

    def _set(self, path: bytes, said: Attributes) -> None:
        """Give a file or folder its attributes; a change of owner takes setuid away, so that comes first."""
        mode, xattrs = said.mode, dict(said.xattrs)
        if not self.trusted and (mode & 0o6000 or any(name.startswith(("security.", "trusted.")) for name in xattrs)):
            self.damaged(path, "setuid, setgid and privileges are dropped: another user made this vault")
            mode &= ~0o6000
            xattrs = {k: v for k, v in xattrs.items() if not k.startswith(("security.", "trusted."))}
        try:
            if self.root:
                os.chown(path, *said.owner)
            if sys.platform == "linux":
                for name, value in xattrs.items():
                    os.setxattr(path, name, value)
            os.chmod(path, mode)
            os.utime(path, ns=(said.mtime_ns, said.mtime_ns))
        except OSError as error:
            self.damaged(path, "not all of its attributes can be set: %s" % error.strerror)


def _put(file: BinaryIO, data: bytes, sparse: bool) -> None:
    """Write at the file's position; sparse: holes for blocks of zeros."""
    step = 4096 if sparse else len(data) or 1
    zeros = bytes(step) if sparse else b""
    for at in range(0, len(data), step):
        piece = memoryview(data)[at : at + step]
        if sparse and piece == zeros[: len(piece)]:
            file.seek(len(piece), os.SEEK_CUR)
            continue
        while piece:
            piece = piece[file.write(piece) :]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# -- the command line --------------------------------------------------------------------------------------------------


def list_snapshots(git: Git) -> int:
    """Print the snapshots of each project, newest first; the exit code."""
    code = 0
    for ref in git.run("for-each-ref", "--format=%(refname)", "refs/heads")[0].splitlines():
        project = unescaped(ref[len(b"refs/heads/") :])
        log, whole = git.run("log", "--first-parent", "--format=%x01%H%x02%aI%x02%s%x02%B", os.fsdecode(ref), "--")
        for record in log.split(b"\1")[1:]:
            oid, time, subject, message = record.split(b"\2", 3)
            # A snapshot whose commit was rewritten keeps the id of the first.
            first = re.search(rb"^Vault-Snapshot: ([0-9a-f]{40})$", message, re.MULTILINE)
            print("  ".join(map(shown, (first[1] if first else oid, time, project, subject))))
        if not whole:
            say("%s: not all of its history can be read" % shown(ref))
            code = 1
    return code


def restore(vault: str, snapshot: str, target: str, paths: List[bytes]) -> int:
    """Write a snapshot into a new or empty folder; the exit code."""
    target = os.path.abspath(target)
    made = not os.path.lexists(target)
    if not made and (not os.path.isdir(target) or os.listdir(target)):
        fail(target + ": in the way; name a folder that does not exist yet")
    if (os.path.realpath(target) + os.sep).startswith(vault + os.sep):
        fail(target + ": lies inside the vault; name another folder")
    if made:
        os.makedirs(target, 0o700)
    os.chdir(target)
    work = tempfile.mkdtemp(prefix=".rescue-", dir=os.getcwd())
    unknown = False
    git = Git(vault, work)
    try:
        commit = (
            "" if snapshot.startswith("-") else _line(git.run("rev-parse", "--verify", "-q", snapshot + "^{commit}"))
        )
        if not commit and re.fullmatch("[0-9a-f]+", snapshot):
            commit = _line(git.run("log", "--all", "-n", "1", "--format=%H", "--grep=^Vault-Snapshot: " + snapshot))
        data = git.read(commit, "commit") if commit else None
        if data is None:
            unknown = True
            fail("%s: no such snapshot; rescue.py list shows them" % snapshot)
        meta = re.findall(rb"^Vault-Meta: ([0-9a-f]{40})$", data, re.MULTILINE)
        tree_of_meta = _tree(git, meta[-1].decode()) if meta else None
        opened: List[Chunks] = []

        def chunks() -> Chunks:
            if not opened:
                opened.append(Chunks(os.path.join(vault, "chunks"), work))
            return opened[0]

        owner = os.stat(vault).st_uid
        run = Restore(git, chunks, paths, not hasattr(os, "geteuid") or owner == os.geteuid())
        if meta and tree_of_meta is None:
            run.damaged(
                b"", "times, permissions, empty folders and the like cannot be read (commit %s)" % meta[-1].decode()
            )
        run.run(_tree(git, commit) or "", tree_of_meta)
        shutil.rmtree(work)
        run.attributes()
        say("%d files of %s, %d problems" % (run.files, commit, run.problems))
        return 1 if run.problems else 0
    finally:
        git.close()
        os.chdir(vault)
        shutil.rmtree(work, ignore_errors=True)
        if made and unknown:
            os.rmdir(target)


def _line(printed: Tuple[bytes, bool]) -> str:
    return printed[0].decode("ascii", "replace").strip() if printed[1] else ""


def _tree(git: Git, commit: str) -> Optional[str]:
    data = git.read(commit, "commit")
    return data[5:45].decode("ascii", "replace") if data and data.startswith(b"tree ") else None


def main(arguments: List[str]) -> int:
    """Do what the command line says; the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    vault = os.path.dirname(os.path.realpath(__file__))
    if not os.path.isdir(os.path.join(vault, "objects")):
        fail(vault + ": not a vault; run the rescue.py that lies in one")
    for tool in ("git", "zstd"):
        if shutil.which(tool) is None:
            fail(tool + ": not found; install it")
    said = (
        subprocess.run(
            ["git", "config", "--file", os.path.join(vault, "config"), "--get", "vault.formatVersion"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        .stdout.decode("utf-8", "replace")
        .strip()
    )
    if said not in ("", "1"):
        fail("%s: of format %s, which a newer rescue.py reads; this one reads 1" % (vault, said))
    if arguments == ["list"]:
        with tempfile.TemporaryDirectory() as work:
            return list_snapshots(Git(vault, work))
    if len(arguments) < 3 or arguments[0] != "restore" or not arguments[1] or not arguments[2]:
        fail("usage: rescue.py list | rescue.py restore SNAPSHOT DIR [PATH ...]", 129)
    paths = [os.fsencode(path).strip(b"/") for path in arguments[3:]]
    return restore(vault, arguments[1], arguments[2], paths)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
