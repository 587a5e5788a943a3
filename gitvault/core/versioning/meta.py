"""The meta chain's text: one blob per folder for what git trees cannot hold.

    gitvault-meta 1
    d 755 1700000000.123456789 1000:1000 0 .
    f 644 1700000000.000000000 - 1234 main.c
    f 600 1700000000.000000000 0:0 5368709120 disk.img<TAB>sha256=9f86...<TAB>sparse
    l 777 1700000000.000000000 - 7 link

kind, permission bits in octal, mtime, uid:gid (`-`: as the folder's), size, name; then tab-separated
extras: `sha256=` the pointer, `link=` a hard link group, `sparse`, `xattr.NAME=` base64. Names are escaped
with names.to_line, so the text is valid UTF-8 and one line is one entry. Unknown extras are kept out of
the way: a reader ignores them.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from gitvault.core.models import Pointer
from gitvault.core.utils.names import from_text, to_line
from gitvault.errors import CorruptionError, UnsupportedFormatVersion

META_NAME = b"%00meta"
"""The blob's name in each folder of the meta tree: `%00` cannot begin an escaped name."""
_HEADER = "gitvault-meta 1\n"
_SHA256 = re.compile(rb"\tsha256=([0-9a-f]{64})")
_TIME = 1 << 63
_ID = (1 << 32) - 1
_OID = re.compile("[0-9a-f]{64}")


_NOTHING: Mapping[str, bytes] = {}


class Attributes(NamedTuple):
    """What one line says. A tuple, see Entry."""

    name: bytes
    kind: str
    """`file`, `folder` or `symlink`."""
    mode: int
    mtime_ns: int
    owner: tuple[int, int]
    size: int
    pointer: str | None = None
    """SHA-256 of content that is in the chunk store."""
    link: str | None = None
    """Files of one snapshot with the same value are one file with several names."""
    sparse: bool = False
    xattrs: Mapping[str, bytes] = _NOTHING

    def as_pointer(self) -> Pointer | None:
        """The pointer, for content in the chunk store."""
        return Pointer(self.pointer, self.size) if self.pointer else None


_LETTER = {"file": "f", "folder": "d", "symlink": "l"}
_KIND = {letter: kind for kind, letter in _LETTER.items()}


def format_line(
    name: bytes,
    kind: str,
    mode: int,
    mtime_ns: int,
    owner: tuple[int, int],
    size: int,
    folder_owner: tuple[int, int] | None,
    *,
    pointer: str | None = None,
    link: str | None = None,
    sparse: bool = False,
    xattrs: Mapping[str, bytes] | None = None,
) -> str:
    """One line, with its newline; the fields are those of Attributes. An owner equal to `folder_owner` is left out."""
    # isascii + isprintable + no backslash is the common case, 10 times cheaper than the escape
    text = name.decode("ascii") if name.isascii() else ""
    if not text.isprintable() or not text or "\\" in text:
        text = to_line(name)
    who = "-" if owner == folder_owner else f"{owner[0]}:{owner[1]}"
    seconds, nanos = divmod(mtime_ns, 1_000_000_000)
    line = f"{_LETTER[kind]} {mode:o} {seconds}.{nanos:09} {who} {size} {text}"
    if pointer:
        line += f"\tsha256={pointer}"
    if link:
        line += f"\tlink={link}"
    if sparse:
        line += "\tsparse"
    for label, value in sorted(xattrs.items()) if xattrs else ():
        encoded = base64.b64encode(value).decode("ascii")
        written = to_line(label.encode("utf-8", "surrogateescape")).replace("=", "\\x3d")
        line += f"\txattr.{written}={encoded}"
    return line + "\n"


def encode(
    mode: int, mtime_ns: int, owner: tuple[int, int], lines: Iterable[str], xattrs: Mapping[str, bytes] | None = None
) -> bytes:
    """A folder's blob: its own attributes, as a line for `.`, and its entries' lines."""
    own = format_line(b".", "folder", mode, mtime_ns, owner, 0, None, xattrs=xattrs)
    return (_HEADER + own + "".join(lines)).encode()


def split(blob: bytes) -> tuple[str, dict[bytes, str]]:
    """The folder's own line and each entry's line by its name, unparsed, to be written again."""
    lines = _lines(blob)
    return lines[0], {from_text(_name(line)): line + "\n" for line in lines[1:]}


def without(blob: bytes, names: Iterable[bytes], added: Mapping[bytes, str] | None = None) -> bytes:
    """A folder's blob without these entries, and with lines for others by their names; all else byte for byte."""
    own, lines = split(blob)
    gone = set(names)
    left = {name: line for name, line in lines.items() if name not in gone}
    if added:
        left = dict(sorted((left | dict(added)).items()))
    return (_HEADER + own + "\n" + "".join(left.values())).encode()


def decode(blob: bytes) -> tuple[Attributes, dict[bytes, Attributes]]:
    """The folder's own attributes and those of its files and symlinks by name.

    Raises CorruptionError, UnsupportedFormatVersion.
    """
    lines = _lines(blob)
    own = _parse(lines[0], (0, 0))
    entries = (_parse(line, own.owner) for line in lines[1:])
    return own, {entry.name: entry for entry in entries}


def large_files(blob: bytes) -> list[bytes]:
    """The SHA-256 of each file of the folder whose content is in the chunk store; one may be there twice.

    Raises CorruptionError, UnsupportedFormatVersion.
    """
    if not blob.startswith(_HEADER.encode()):
        _lines(blob)
    # Nothing else in a blob has this behind a tab.
    return [bytes.fromhex(match.decode()) for match in _SHA256.findall(blob)]


def _lines(blob: bytes) -> list[str]:
    try:
        text = blob.decode()
    except UnicodeDecodeError as error:
        raise CorruptionError(f"a blob of the meta chain is not UTF-8 at byte {error.start}") from error
    if not text.startswith(_HEADER):
        first = text[:40].split("\n")[0]
        if first.startswith("gitvault-meta "):
            raise UnsupportedFormatVersion(f"the meta chain says {first!r}; this gitvault reads version 1, update it")
        raise CorruptionError(f"a blob of the meta chain begins with {first!r}, expected {_HEADER.strip()!r}")
    lines = text[len(_HEADER) :].split("\n")
    if lines[-1] or len(lines) < 2:
        raise CorruptionError("a blob of the meta chain is cut short")
    return lines[:-1]


def _name(line: str) -> str:
    return line.split("\t", 1)[0].split(" ", 5)[5]


def _parse(line: str, folder_owner: tuple[int, int]) -> Attributes:
    head, *extras = line.split("\t")
    try:
        letter, mode, mtime, owner, size, name = head.split(" ", 5)
        seconds, _, nanos = mtime.partition(".")
        who = folder_owner
        if owner != "-":
            user, group = owner.split(":")
            who = int(user), int(group)
        pointer = link = None
        sparse = False
        xattrs: dict[str, bytes] = {}
        for extra in extras:
            key, _, value = extra.partition("=")
            if key == "sha256":
                pointer = value
            elif key == "link":
                link = value
            elif key == "sparse":
                sparse = True
            elif key.startswith("xattr."):
                label = from_text(key[6:]).decode("utf-8", "surrogateescape")
                xattrs[label] = base64.b64decode(value, validate=True)
        moment = int(seconds), int(nanos)
        length = int(size)
        # What no system call takes is no attribute.
        if not (-_TIME <= moment[0] < _TIME and 0 <= moment[1] < 1_000_000_000 and 0 <= length < _TIME):
            raise ValueError
        if not (0 <= who[0] <= _ID and 0 <= who[1] <= _ID) or any("\0" in label for label in xattrs):
            raise ValueError
        if pointer is not None and not _OID.fullmatch(pointer):
            raise ValueError
        return Attributes(
            from_text(name),
            _KIND[letter],
            int(mode, 8) & 0o7777,
            moment[0] * 1_000_000_000 + moment[1],
            who,
            length,
            pointer,
            link,
            sparse,
            xattrs,
        )
    except (ValueError, KeyError) as error:
        raise CorruptionError(f"a line of the meta chain cannot be read: {line[:80]!r}") from error
