"""Git's objects as bytes: ids, trees, commits and the trailers in a commit's message. Pure functions.

Decoders are strict: what git itself would not write raises CorruptionError. Encoders take any
text and make something of it that `git fsck --strict` accepts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from gitvault.core.models import ObjectId
from gitvault.errors import CorruptionError, GitVaultError

KIND_CODES = {b"commit": 1, b"tree": 2, b"blob": 3, b"tag": 4}
"""What packs call the four kinds."""

MODE_TREE = 0o040000
MODE_FILE = 0o100644
MODE_EXECUTABLE = 0o100755
MODE_SYMLINK = 0o120000
MODE_SUBMODULE = 0o160000

_MODES = {b"%o" % m: m for m in (MODE_TREE, MODE_FILE, MODE_EXECUTABLE, MODE_SYMLINK, MODE_SUBMODULE)}
_MODE_TEXT = {m: text + b" " for text, m in _MODES.items()}

LONGEST_PATH = 1 << 16
"""Bytes. Deeper trees are not followed: no system has such paths, and what they cost grows with the square."""

TreeEntry = tuple[bytes, int, ObjectId]
"""Name, mode, id."""


def object_id(kind: bytes, data: bytes | bytearray | memoryview) -> ObjectId:
    """The id of an object of `kind` (blob, tree, commit or tag) with this content."""
    sha1 = hashlib.sha1(b"%b %d\0" % (kind, len(data)))
    sha1.update(data)
    return ObjectId(sha1.digest())


EMPTY_TREE = object_id(b"tree", b"")
EMPTY_BLOB = object_id(b"blob", b"")


def _tree_order(entry: TreeEntry) -> bytes:
    return entry[0] + b"/" if entry[1] == MODE_TREE else entry[0]


def encode_tree(entries: Iterable[TreeEntry]) -> bytes:
    """A tree's content; `entries` in any order.

    Raises GitVaultError for a name that no tree can hold, a name given twice, or a mode git does not know.
    """
    out: list[bytes] = []
    names = set()
    for name, mode, oid in sorted(entries, key=_tree_order):
        if not name or b"/" in name or b"\0" in name or name in (b".", b".."):
            raise GitVaultError(f"{name!r}: no name for a tree entry; escape it with names.tree_name")
        names.add(name)
        if mode not in _MODE_TEXT or len(oid) != 20:
            raise GitVaultError(f"{name!r}: mode {mode:o} or id {oid.hex()} is none that git knows")
        out += (_MODE_TEXT[mode], name, b"\0", oid)
    if len(names) * 4 != len(out):
        raise GitVaultError("a tree was given the same name twice; each name may stand once")
    return b"".join(out)


def decode_tree(data: bytes) -> list[TreeEntry]:
    """The entries of a tree, in git's order.

    Raises CorruptionError for a mode, name, order or length that git would not write, so that no
    name from here holds `/` or is `.` or `..`.
    """
    entries: list[TreeEntry] = []
    at = 0
    end = len(data)
    last = b""
    names: set[bytes] = set()
    try:
        while at < end:
            space = data.index(b" ", at, at + 7)
            mode = _MODES[data[at:space]]
            nul = data.index(b"\0", space)
            name = data[space + 1 : nul]
            at = nul + 21
            key = name + b"/" if mode == MODE_TREE else name
            if key <= last or b"/" in name or name in (b"", b".", b"..") or at > end:
                raise ValueError
            last = key
            names.add(name)
            entries.append((name, mode, ObjectId(data[nul + 1 : at])))
    except (ValueError, KeyError) as error:
        raise CorruptionError(f"malformed tree at byte {at} of {end}; run git-vault verify --data") from error
    if len(names) != len(entries):
        raise CorruptionError("malformed tree: the same name twice; run git-vault verify --data")
    return entries


@dataclass(frozen=True, slots=True)
class Signature:
    """Who and when."""

    name: str
    email: str
    time: int
    """Seconds since 1970; git has no earlier ones."""
    offset: int = 0
    """Minutes east of UTC."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit. `headers`: what stands between the committer and the message (gpgsig, encoding ...)."""

    tree: ObjectId
    parents: tuple[ObjectId, ...]
    author: Signature
    committer: Signature
    message: str
    headers: tuple[tuple[str, str], ...] = ()


def encode_commit(commit: Commit) -> bytes:
    """A commit's content. What git forbids in names and messages (NUL, `<`, `>`, line ends) is replaced."""
    lines = [b"tree %b" % commit.tree.hex().encode()]
    lines += [b"parent %b" % parent.hex().encode() for parent in commit.parents]
    lines.append(b"author " + _encode_signature(commit.author))
    lines.append(b"committer " + _encode_signature(commit.committer))
    lines += [_to_bytes(f"{key} {value}").replace(b"\n", b"\n ") for key, value in commit.headers]
    # git shows nothing behind a NUL
    return b"\n".join(lines) + b"\n\n" + _to_bytes(commit.message.replace("\0", "\u2400"))


_SIGNATURE = re.compile(rb"((?:[^<>\n]* )?)<([^<>\n]*)> (0|[1-9][0-9]{0,18}) ([+-])([0-9]{2})([0-9]{2})")
_HEADER = re.compile(rb"([^ \n\0]+) (.*(?:\n .*)*)\n")
_HEX_LINE = re.compile(rb"(tree|parent) ([0-9a-f]{40})\n")


def decode_commit(data: bytes) -> Commit:
    """Parse a commit's content. Raises CorruptionError."""
    try:
        return _decode_commit(data)
    except (ValueError, AttributeError, IndexError) as error:
        raise CorruptionError(f"malformed commit ({len(data)} bytes); run git-vault verify --data") from error


def _decode_commit(data: bytes) -> Commit:
    at = 0
    ids: list[tuple[bytes, ObjectId]] = []
    while match := _HEX_LINE.match(data, at):
        ids.append((match[1], ObjectId(bytes.fromhex(match[2].decode()))))
        at = match.end()
    headers: list[tuple[str, str]] = []
    signatures: list[Signature] = []
    while not data.startswith(b"\n", at):
        match = _HEADER.match(data, at)
        if match is None:
            raise ValueError
        at = match.end()
        if len(signatures) < 2:
            if match[1] != (b"author", b"committer")[len(signatures)]:
                raise ValueError
            signatures.append(_decode_signature(match[2]))
        else:
            headers.append((_to_text(match[1]), _to_text(match[2].replace(b"\n ", b"\n"))))
    if [name for name, _ in ids] != [b"tree"] + [b"parent"] * (len(ids) - 1):
        raise ValueError
    return Commit(
        ids[0][1],
        tuple(oid for _, oid in ids[1:]),
        signatures[0],
        signatures[1],
        _to_text(data[at + 1 :]),
        tuple(headers),
    )


def encode_tag(commit: ObjectId, name: str, tagger: Signature, text: str) -> bytes:
    """An annotated tag of a commit; `name` is what follows `refs/tags/`."""
    lines = (f"object {commit.hex()}", "type commit", f"tag {name}")
    head = "".join(f"{line}\n" for line in lines).encode()
    return head + b"tagger " + _encode_signature(tagger) + b"\n\n" + _to_bytes(text)


def decode_tag(oid: ObjectId, data: bytes) -> tuple[ObjectId, Signature | None, str]:
    """What a tag names, who made it and when (None where it does not say), and its text. Raises CorruptionError."""
    head, _, text = data.partition(b"\n\n")
    said = next((line[7:] for line in head.split(b"\n") if line.startswith(b"tagger ")), None)
    try:
        tagger = _decode_signature(said) if said else None
    except ValueError:
        raise CorruptionError(f"{oid.hex()}: a tag that cannot be read; run git-vault verify --data") from None
    return tagged(oid, data), tagger, _to_text(text)


def tagged(oid: ObjectId, data: bytes) -> ObjectId:
    """What an annotated tag names, given its id and content. Raises CorruptionError."""
    match = re.match(rb"object ([0-9a-f]{40})\n", data)
    if match is None:
        raise CorruptionError(f"{oid.hex()}: a tag that names no object; run git-vault verify --data")
    return ObjectId(bytes.fromhex(match[1].decode()))


def _encode_signature(who: Signature) -> bytes:
    name = re.sub(_SIGNATURE_CRUFT, "", who.name).strip() or "unknown"
    email = re.sub(_SIGNATURE_CRUFT, "", who.email).strip()
    # 2**53 is the year 285 million and still a date to every reader of commits
    seconds = min(max(who.time, 0), 2**53)
    sign = "-" if who.offset < 0 else "+"
    hours, minutes = divmod(min(abs(who.offset), 99 * 60 + 59), 60)
    return _to_bytes(f"{name} <{email}> {seconds} {sign}{hours:02}{minutes:02}")


_SIGNATURE_CRUFT = "[\0-\x1f<>]"


def _decode_signature(raw: bytes) -> Signature:
    match = _SIGNATURE.fullmatch(raw)
    if match is None:
        raise ValueError
    offset = int(match[5]) * 60 + int(match[6])
    return Signature(
        _to_text(match[1][:-1]), _to_text(match[2]), int(match[3]), -offset if match[4] == b"-" else offset
    )


def _to_bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def _to_text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


_SPACE = " \t\r\n"
_TRAILER_KEY = r"[A-Za-z0-9][A-Za-z0-9-]*"
# What `git interpret-trailers` takes for a key, blanks before the colon included.
_TRAILER_LINE = re.compile(r"([A-Za-z0-9-]+[ \t]*):(.*)", re.DOTALL)
_GIT_GENERATED = ("Signed-off-by: ", "(cherry picked from commit ")
_LINE_BREAK = rf"[{_SPACE}]*[\r\n][{_SPACE}]*"


def format_trailers(trailers: Iterable[tuple[str, str]]) -> str:
    """`Key: value` lines. A line break within a value is folded and read back as one space.

    Raises GitVaultError for a key that is not made of letters, digits and hyphens.
    """
    lines = []
    for key, value in trailers:
        if not re.fullmatch(_TRAILER_KEY, key):
            raise GitVaultError(f"{key!r}: no trailer key; use letters, digits and hyphens")
        lines.append(f"{key}: {re.sub(_LINE_BREAK, chr(10) + ' ', value.strip(_SPACE))}\n")
    return "".join(lines)


def format_message(body: str, trailers: Iterable[tuple[str, str]]) -> str:
    """A commit message from which `parse_message` and git read the same trailers, whatever the body looks like.

    With no trailers at all, a last paragraph of the body that looks like trailers is read as such.
    """
    block = format_trailers(trailers)
    body = body.replace("\r\n", "\n").rstrip(_SPACE)
    return f"{body}\n\n{block}" if block else f"{body}\n"


def parse_message(message: str) -> tuple[str, list[tuple[str, str]]]:
    """The text and the trailers of a message, as `git interpret-trailers --parse --no-divider` sees them."""
    lines = message.split("\n")
    end = _trailer_end(lines)
    start = _trailer_start(lines, end)
    trailers: list[tuple[str, str]] = []
    block: list[list[str]] = []
    open_line = False
    for line in lines[start:end]:
        if line.startswith("#"):
            continue
        if open_line and line[:1] in tuple(_SPACE):
            block[-1].append(line)
        else:
            block.append([line])
            open_line = _TRAILER_LINE.match(line) is not None
    for item in block:
        if match := _TRAILER_LINE.match("\n".join(item)):
            trailers.append((match[1].strip(_SPACE), _unfold(match[2])))
    return "\n".join(lines[:start]).rstrip(_SPACE), trailers


def _trailer_end(lines: list[str]) -> int:
    """The index behind the last line that is not blank or a comment."""
    end = len(lines)
    while end and (not lines[end - 1] or lines[end - 1].startswith("#")):
        end -= 1
    return end


def _trailer_start(lines: list[str], end: int) -> int:
    """Where the block of trailers begins; `end` when there is none. The rules of git's trailer.c."""
    title = 0
    while title < end and (lines[title].startswith("#") or lines[title].strip(_SPACE)):
        title += 1
    trailers = others = continuations = 0
    generated = False
    only_spaces = True
    for at in range(end - 1, title - 1, -1):
        line = lines[at]
        if line.startswith("#"):
            others += continuations
            continuations = 0
        elif not line.strip(_SPACE):
            if only_spaces:
                continue
            others += continuations
            pays = trailers * 3 >= others if generated else trailers and not others
            return at + 1 if pays else end
        elif line.startswith(_GIT_GENERATED):
            trailers += 1
            continuations = 0
            generated = True
        elif _TRAILER_LINE.match(line):
            trailers += 1
            continuations = 0
        elif line[0] in _SPACE:
            continuations += 1
        else:
            others += 1 + continuations
            continuations = 0
        only_spaces = False
    return end


def _unfold(value: str) -> str:
    return re.sub(rf"\n[{_SPACE}]*", " ", value).strip(_SPACE)
