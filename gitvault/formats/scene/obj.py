"""Wavefront OBJ: its objects, or groups where it has no objects, one of them put into another version of the file.

Faces name their vertices by number, counted through the whole file. A part that is put in brings the vertices its faces
use, whoever had them, and the numbers of all that comes after it are moved; nothing else is written anew. Vertices of
what it replaces stay when faces of others use them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gitvault.errors import NotFoundError, UnsupportedMedia
from gitvault.formats import Element

LIMIT: Final = 2 << 30
"""Bytes of a file that is read."""
_VERTICES = (b"v", b"vt", b"vn")
_FACES = frozenset((b"f", b"l", b"p"))
_CURVES = frozenset((b"curv", b"curv2", b"surf", b"cstype", b"vp", b"deg", b"call"))
# What holds until it is said anew, and how it is said that it does not.
_STATES = {b"usemtl": b"", b"s": b"off", b"g": b"default"}
_NONE = {b"s": (b"0", b"off"), b"g": (b"", b"default"), b"usemtl": (b"",)}


@dataclass(slots=True)
class _Part:
    id: str
    name: str
    first: int
    """Its first line."""
    before: tuple[int, int, int]
    """Vertices, texture coordinates and normals in the lines before it."""
    state: dict[bytes, bytes]
    """What holds where it begins."""
    end: int = 0
    after: tuple[int, int, int] = (0, 0, 0)
    left: dict[bytes, bytes] = field(default_factory=dict)
    """What holds where it ends."""


class _Obj:
    """A file by lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with open(path, "rb") as file:
            content = file.read(LIMIT + 1)
        if len(content) > LIMIT:
            raise UnsupportedMedia(f"{path.name}: has more than {LIMIT >> 30} GiB; its bytes are saved")
        if b"\\\n" in content or b"\\\r\n" in content:
            raise UnsupportedMedia(f"{path.name}: has statements of several lines; its bytes are saved")
        self.lines = content.splitlines(keepends=True)
        self.values: tuple[list[bytes], list[bytes], list[bytes]] = ([], [], [])
        """The text of each vertex, texture coordinate, normal."""
        self.libraries: list[bytes] = []
        self.parts: list[_Part] = []
        self._read(b"o" if any(line.startswith(b"o ") for line in self.lines) else b"g")

    def _read(self, boundary: bytes) -> None:
        kind = {b"o": "object", b"g": "group"}[boundary]
        state: dict[bytes, bytes] = {}
        taken: dict[str, int] = {}
        for number, line in enumerate(self.lines):
            word, _, rest = line.strip().partition(b" ")
            if word in _VERTICES:
                self.values[_VERTICES.index(word)].append(b" ".join(rest.split()))
            elif word in _CURVES:
                raise UnsupportedMedia(f"{self.path.name}: has curves or surfaces; its bytes are saved")
            elif word == b"mtllib":
                self.libraries.append(rest.strip())
            elif word == boundary:
                self._close(number, state)
                name = rest.strip().decode("utf-8", "surrogateescape")
                taken[name] = again = taken.get(name, 0) + 1
                if boundary == b"g":
                    state.pop(b"g", None)
                id_ = f"{kind}/{name}" + (f"#{again}" if again > 1 else "")
                self.parts.append(_Part(id_, name, number, self.counts(), dict(state)))
            elif word in _STATES:
                state[word] = rest.strip()
                if state[word] in _NONE[word]:
                    del state[word]
        self._close(len(self.lines), state)

    def counts(self) -> tuple[int, int, int]:
        return len(self.values[0]), len(self.values[1]), len(self.values[2])

    def _close(self, number: int, state: dict[bytes, bytes]) -> None:
        if self.parts:
            part = self.parts[-1]
            part.end, part.after, part.left = number, self.counts(), dict(state)

    def corners(self, tokens: Sequence[bytes], counts: Sequence[int]) -> list[list[int | None]]:
        """A face's corners as indices from 0 on. `counts`: of what comes before. Raises UnsupportedMedia."""
        found = []
        for token in tokens:
            corner: list[int | None] = []
            for which, text in enumerate(token.split(b"/")[:3]):
                try:
                    number = int(text) if text else 0
                except ValueError:
                    number = len(self.values[which]) + 1
                index = number - 1 if number > 0 else counts[which] + number
                if text and not 0 <= index < len(self.values[which]):
                    raise UnsupportedMedia(f"{self.path.name}: a face has the vertex {text!r}; its bytes are saved")
                corner.append(index if text else None)
            found.append(corner)
        return found

    def shares(self, part: _Part) -> bool:
        """Whether faces of others use its vertices."""
        counts = [0, 0, 0]
        for number, line in enumerate(self.lines):
            word, *tokens = line.split() or (b"",)
            if word in _VERTICES:
                counts[_VERTICES.index(word)] += 1
            elif word in _FACES and not part.first <= number < part.end:
                for corner in self.corners(tokens, counts):
                    for which, at in enumerate(corner):
                        if at is not None and part.before[which] <= at < part.after[which]:
                            return True
        return False

    def part(self, element: str) -> _Part | None:
        return next((part for part in self.parts if part.id == element), None)

    def hash(self, part: _Part) -> str:
        """Over its faces with the text of their vertices, and what holds for each; where it has none, its vertices."""
        digest = hashlib.sha256()
        state, counts = dict(part.state), list(part.before)
        faces = False
        for line in self.lines[part.first + 1 : part.end]:
            word, *tokens = line.split() or (b"",)
            if word in _VERTICES:
                counts[_VERTICES.index(word)] += 1
            elif word in _STATES:
                state[word] = b" ".join(tokens)
            elif word in _FACES:
                texts = [word, *(state.get(key, none) for key, none in _STATES.items())]
                for corner in self.corners(tokens, counts):
                    texts += [b"" if at is None else self.values[which][at] for which, at in enumerate(corner)]
                digest.update(b"\0".join(texts) + b"\n")
                faces = True
        if not faces:
            digest.update(b"\n".join(self.values[0][part.before[0] : part.after[0]]))
        return digest.hexdigest()


def elements(path: Path) -> list[Element]:
    """The objects of a file, or its groups. Raises UnsupportedMedia, OSError."""
    obj = _Obj(path)
    return [Element(part.id, part.name, part.id.partition("/")[0], None, obj.hash(part)) for part in obj.parts]


def splice(old: Path, element: str, current: Path, output: Path) -> None:
    """The current file with the old file's object. Raises NotFoundError, UnsupportedMedia, OSError."""
    before, now = _Obj(old), _Obj(current)
    part = _find(before, element)
    there = now.part(element)
    kept = there is not None and now.shares(there)
    start = now.counts() if there is None else there.after if kept else there.before
    first, end = (there.first, there.end) if there else (len(now.lines), len(now.lines))
    libraries = [name for name in before.libraries if name not in now.libraries]
    written, added = _written(before, part, start, libraries)
    if there:
        for key, none in _STATES.items():
            value = there.left.get(key, none)
            if part.left.get(key, none) != value and end < len(now.lines):
                if not value:
                    raise UnsupportedMedia(f"{element}: what comes after it has no material, and would get its one")
                written.append(key + b" " + value + b"\n")
    had = [0, 0, 0]
    if there and kept:
        at = len(libraries) + 1
        written[at:at] = [line for line in now.lines[there.first : there.end] if _word(line) in _VERTICES]
    elif there:
        had = [after - at for after, at in zip(there.after, there.before, strict=True)]
    shift = [new - old_ for new, old_ in zip(added, had, strict=True)]
    counts = [0, 0, 0]
    out = []
    for number, line in enumerate(now.lines):
        if number == first:
            out += written
        word, *tokens = line.split() or (b"",)
        if word in _VERTICES:
            counts[_VERTICES.index(word)] += 1
        if first <= number < end:
            continue
        if word in _FACES and there:
            line = _moved(now, line, word, tokens, counts, there, shift)
        out.append(line if line.endswith(b"\n") else line + b"\n")
    if first == len(now.lines):
        out += written
    output.write_bytes(b"".join(out))


def extract(path: Path, element: str, output: Path) -> None:
    """A file with the object alone. Raises NotFoundError, UnsupportedMedia, OSError."""
    obj = _Obj(path)
    output.write_bytes(b"".join(_written(obj, _find(obj, element), (0, 0, 0), obj.libraries)[0]))


def _word(line: bytes) -> bytes:
    return line.strip().partition(b" ")[0]


def _find(obj: _Obj, element: str) -> _Part:
    part = obj.part(element)
    if part is None:
        raise NotFoundError(f"{obj.path.name}: has no {element}; git-vault elements list names what it has")
    return part


def _written(
    obj: _Obj, part: _Part, start: Sequence[int], libraries: Sequence[bytes]
) -> tuple[list[bytes], tuple[int, int, int]]:
    """The lines of a part that begins after `start` vertices, texture coordinates, normals; how many of each it has."""
    order: list[dict[int, int]] = []
    for which in range(3):
        order.append({at: number for number, at in enumerate(range(part.before[which], part.after[which]))})
    body = [key + b" " + value + b"\n" for key, value in part.state.items()]
    counts = list(part.before)
    for line in obj.lines[part.first + 1 : part.end]:
        word, *tokens = line.split() or (b"",)
        if word in _VERTICES:
            counts[_VERTICES.index(word)] += 1
            continue
        if word in _FACES:
            texts = []
            for corner in obj.corners(tokens, counts):
                numbers = []
                for which, at in enumerate(corner):
                    if at is not None:
                        at = order[which].setdefault(at, len(order[which])) + start[which] + 1
                    numbers.append(b"" if at is None else b"%d" % at)
                texts.append(b"/".join(numbers))
            line = b" ".join((word, *texts)) + b"\n"
        if word != b"mtllib":
            body.append(line if line.endswith(b"\n") else line + b"\n")
    head = [b"mtllib " + name + b"\n" for name in libraries]
    head.append(obj.lines[part.first].rstrip(b"\r\n") + b"\n")
    for which, word in enumerate(_VERTICES):
        head += [word + b" " + obj.values[which][at] + b"\n" for at in order[which]]
    return head + body, (len(order[0]), len(order[1]), len(order[2]))


def _moved(
    obj: _Obj,
    line: bytes,
    word: bytes,
    tokens: Sequence[bytes],
    counts: Sequence[int],
    part: _Part,
    shift: Sequence[int],
) -> bytes:
    """A face of another part with the numbers its vertices have now."""
    texts, is_same = [], True
    for token, corner in zip(tokens, obj.corners(tokens, counts), strict=True):
        numbers = []
        for which, (text, at) in enumerate(zip(token.split(b"/"), corner, strict=False)):
            moved = at is not None and at >= part.after[which]
            if moved and shift[which] and not text.startswith(b"-"):
                text = b"%d" % (int(text) + shift[which])
            elif at is not None and not moved and text.startswith(b"-"):
                text = b"%d" % (at + 1)
            is_same = is_same and text in token.split(b"/")[which : which + 1]
            numbers.append(text)
        texts.append(b"/".join(numbers))
    return line if is_same else b" ".join((word, *texts)) + b"\n"
