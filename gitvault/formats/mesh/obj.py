"""Wavefront models: lines of text, read kind by kind and not line by line (a million faces in two seconds)."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np

from gitvault.formats.mesh.model import (
    Floats,
    Ints,
    Keys,
    Model,
    Part,
    beside,
    content_hash,
    row_keys,
    surface_key,
    triangles,
    unique_names,
    used_only,
)
from gitvault.formats.mesh.text import numbers, words_per_line


def read(path: Path) -> Model:
    """The model; its parts are its objects, or its groups where they tell more apart. Raises OSError, ValueError."""
    text = path.read_bytes()
    if b"\\\n" in text or b"\\\r\n" in text:
        text = re.sub(rb"\\\r?\n", b" ", text)
    lines = _Lines(text)
    places = lines.rows_of_numbers(b"v ")
    uv, normals = lines.rows_of_numbers(b"vt"), lines.rows_of_numbers(b"vn")
    corners, sizes, row_of_face = _corners(lines, (len(places), len(uv), len(normals)))
    names, materials, libraries = lines.said(b"o "), lines.said(b"usemtl"), lines.said(b"mtllib")
    groups = lines.said(b"g ")
    if len(set(groups.values())) > len(set(names.values())):
        names = groups
    part_of, part_names = _told_apart(names, row_of_face, "model")
    material_of, material_names = _told_apart(materials, row_of_face, "")
    vertices, keys = places[:, :3], row_keys(places[:, :3])
    # Part by part, so that each is one stretch.
    corners = corners[:, np.argsort(np.repeat(part_of, sizes), kind="stable")]
    order = np.argsort(part_of, kind="stable")
    sizes, material_of, part_of = sizes[order], material_of[order], part_of[order]
    ends = np.concatenate([[0], np.cumsum(sizes)])
    parts = []
    for number, name in enumerate(unique_names(part_names)):
        begin, end = np.searchsorted(part_of, [number, number + 1]).tolist()
        if begin == end:
            continue
        at = corners[:, ends[begin] : ends[end]]
        points, faces = used_only(vertices, triangles(at[0], sizes[begin:end]))
        slots = sorted({material_names[used] for used in np.unique(material_of[begin:end])} - {""})
        attributes = _attributes(places, keys, uv, normals, at)
        parts.append(Part(name, points, faces, end - begin, materials=tuple(slots), attributes=attributes))
    if not len(sizes) and len(vertices):
        parts.append(Part("model", vertices, np.zeros((0, 3), dtype=np.int64), 0))
    known, textures = _libraries(path.parent, list(libraries.values()))
    return Model(tuple(parts), {**dict.fromkeys(filter(None, material_names), ""), **known}, textures)


class _Lines:
    """The lines of a text, found once, and sorted by how they begin."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._bytes = np.frombuffer(text + b"\n\n\n\n", dtype=np.uint8)
        ends = np.flatnonzero(self._bytes == 10)
        starts = np.concatenate([[0], ends[:-1] + 1])
        # What stands in front is skipped where there is any.
        for _ in range(80):
            indented = np.isin(self._bytes[starts], (9, 32))
            if not indented.any():
                break
            starts[indented] += 1
        self._starts, self._ends = starts, ends
        self._first = self._bytes[starts]
        self._second = self._bytes[np.minimum(starts + 1, len(self._bytes) - 1)]
        self._second[self._second == 9] = 32

    def rows(self, word: bytes) -> Ints:
        """Which lines begin with these two letters."""
        return np.flatnonzero((self._first == word[0]) & (self._second == word[1]))

    def said(self, word: bytes) -> dict[int, str]:
        """By line, what follows a word."""
        found = {}
        for row in self.rows(word):
            line = self._text[self._starts[row] : self._ends[row]].strip()
            head, _, rest = line.replace(b"\t", b" ").partition(b" ")
            if head == word.strip():
                found[int(row)] = rest.strip().decode("utf-8", "replace")
        return found

    def joined(self, rows: Ints) -> bytes:
        """The lines, one after the other, each with its end."""
        if not len(rows):
            return b""
        gaps = np.flatnonzero(np.diff(rows) != 1)
        begin = self._starts[rows[np.concatenate([[0], gaps + 1])]]
        end = self._ends[rows[np.concatenate([gaps, [len(rows) - 1]])]]
        text = self._text
        return b"\n".join([text[a:b] for a, b in zip(begin.tolist(), end.tolist(), strict=True)]) + b"\n"

    def rows_of_numbers(self, word: bytes) -> Floats:
        """(n, k): what n lines that begin with the word say, k numbers each."""
        rows = self.rows(word)
        if not len(rows):
            return np.zeros((0, 3))
        text = self.joined(rows)
        flat = numbers(text.translate(None, word.strip()))
        each = words_per_line(text) - 1
        # Some say more than others (a weight, a colour): what all say counts.
        columns = int(np.min(each))
        if each.sum() != len(flat) or columns < (1 if word == b"vt" else 3):
            raise ValueError(f"a line says too little: '{word.decode().strip()}' with {columns} numbers")
        if len(flat) == columns * len(rows):
            return flat.reshape(-1, columns)
        first = np.cumsum(each) - each
        return np.asarray(flat[first[:, None] + np.arange(columns)])


def _corners(lines: _Lines, counts: tuple[int, int, int]) -> tuple[Ints, Ints, Ints]:
    """(3, n): place, uv and normal of each corner of all faces, -1 for none; how many corners each face has, and which
    line it is. `counts` says how many places, uvs and normals there are."""
    rows = lines.rows(b"f ")
    text = lines.joined(rows)
    sizes = words_per_line(text) - 1
    if (sizes < 3).any():
        raise ValueError("a face has fewer than three corners")
    said = _said_by_corners(text.translate(None, b"f"), int(sizes.sum()))
    for column, count, kind in zip(said, counts, (b"v ", b"vt", b"vn"), strict=True):
        # Numbers count from 1, or backwards from the last one before the face; 0 is none.
        if (column < 0).any():
            so_far = np.repeat(np.searchsorted(lines.rows(kind), rows), sizes)
            column[column < 0] += so_far[column < 0] + 1
        column -= 1
        if (column >= count).any() or (column < -1).any():
            raise ValueError("a corner of a face is not there")
    if (said[0] < 0).any():
        raise ValueError("a corner of a face has no place")
    return said, sizes, rows


def _said_by_corners(text: bytes, total: int) -> Ints:
    """(3, total): what `1/2/3` says, 0 where it says nothing."""
    said = np.zeros((3, total), dtype=np.int64)
    flat = numbers(text.translate(bytes.maketrans(b"/", b" ")))
    each, left = divmod(len(flat), max(total, 1))
    doubled = text.count(b"//")
    if not left and b" /" not in text and ((each in (1, 3) and not doubled) or (each == 2 and doubled in (0, total))):
        said[[0, 2] if doubled else list(range(each))] = flat.reshape(total, each).T
        return said
    for number, corner in enumerate(text.split()):
        for which, value in enumerate(corner.split(b"/")[:3]):
            said[which, number] = int(value or b"0")
    return said


def _told_apart(said: dict[int, str], rows: Ints, otherwise: str) -> tuple[Ints, list[str]]:
    """For each of the rows which name was last said before it, as a number; the names."""
    names = list(dict.fromkeys([otherwise, *said.values()]))
    number = {name: n for n, name in enumerate(names)}
    numbers = np.array([0, *(number[name] for name in said.values())])
    return numbers[np.searchsorted(np.array(list(said), dtype=np.int64), rows)], names


def _attributes(places: Floats, keys: Keys, uv: Floats, normals: Floats, at: Ints) -> dict[str, int]:
    """What lies on the corners `at` (3, n): keys of uv, normals, and colours behind the places."""
    attributes = {}
    for name, values, which in (("uv", uv, at[1]), ("normals", normals, at[2])):
        has = which >= 0
        if has.any():
            attributes[name] = surface_key(keys[at[0, has]], values[which[has]])
    if places.shape[1] > 4:
        attributes["colours"] = surface_key(keys[at[0]], places[at[0], 3:])
    return attributes


def _libraries(folder: Path, names: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Materials and textures that the named files beside the model define, each with a hash."""
    materials: dict[str, str] = {}
    textures: dict[str, str] = {}
    for name in names:
        library = beside(folder, name)
        if library is None:
            continue
        name, says = "", list[bytes]()
        for line in [*library.read_bytes().splitlines(), b"newmtl"]:
            word, _, rest = line.strip().replace(b"\t", b" ").partition(b" ")
            if word == b"newmtl":
                if name:
                    materials[name] = hashlib.sha256(b"\n".join(says)).hexdigest()
                name, says = rest.strip().decode("utf-8", "replace"), []
            elif word and not word.startswith(b"#"):
                says.append(b" ".join(line.split()))
            if word.lower().startswith((b"map_", b"bump", b"disp", b"decal", b"refl", b"norm")):
                # Options come before the name: `-bm 0.5 bump.png`.
                target = re.sub(rb"^(?:-\w+(?: +(?:on|off|[-+.\d]+))* +)*", b"", rest.strip()).decode(
                    "utf-8", "replace"
                )
                textures[target] = content_hash(beside(folder, target))
    return materials, textures
