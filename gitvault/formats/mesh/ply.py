"""PLY models: elements with properties, as text or bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gitvault.formats.mesh.model import Floats, Ints, Model, Part, row_keys, surface_key, triangles
from gitvault.formats.mesh.text import numbers

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
_ATTRIBUTES = {
    "normals": ("nx", "ny", "nz"),
    "colours": ("red", "green", "blue", "alpha", "r", "g", "b"),
    "uv": ("s", "t", "u", "v", "texture_u", "texture_v"),
}


@dataclass(frozen=True, slots=True)
class _Property:
    name: str
    kind: str
    count: str | None
    """The type of the length in front of a list; None for one value."""


@dataclass(frozen=True, slots=True)
class _Element:
    name: str
    rows: int
    properties: tuple[_Property, ...]


def read(path: Path) -> Model:
    """The model, one part. Raises OSError, ValueError."""
    data = path.read_bytes()
    order, elements, begin, textures = _header(data)
    rest: NDArray[np.float64] | memoryview
    rest = numbers(data[begin:]) if order == "ascii" else memoryview(data)[begin:]
    vertices, attributes, corners, sizes = np.zeros((0, 3)), dict[str, int](), np.zeros(0, int), np.zeros(0, int)
    for element in elements:
        values, rest = _text(element, rest) if isinstance(rest, np.ndarray) else _bytes(element, rest, order)
        if element.name == "vertex":
            vertices = np.stack([values[axis][0] for axis in "xyz"], axis=1).astype(np.float64)
            places = row_keys(vertices)
            for name, members in _ATTRIBUTES.items():
                there = [values[member][0] for member in members if member in values]
                if there:
                    attributes[name] = surface_key(places, np.stack(there, axis=1))
        elif element.name == "face":
            corners, sizes = values["vertex_index" if "vertex_index" in values else "vertex_indices"]
        elif element.name == "tristrips":
            raise ValueError("its faces are strips of triangles, which are not read")
    corners = corners.astype(np.int64)
    if len(corners) and (corners.min() < 0 or corners.max() >= len(vertices)):
        raise ValueError("a face has a corner that is not there")
    part = Part("model", vertices, triangles(corners, sizes), len(sizes), attributes=attributes)
    return Model((part,), textures=dict.fromkeys(textures, ""), up="z")


def _header(data: bytes) -> tuple[str, list[_Element], int, list[str]]:
    """The order of bytes (`<`, `>`, or `ascii`), what there is, where it begins, and the textures it names."""
    end = data.find(b"end_header", 0, 1 << 20)
    begin = data.find(b"\n", end) + 1
    if end < 0 or not begin:
        raise ValueError("its header has no end")
    order, elements, textures = "", list[_Element](), list[str]()
    for line in data[:end].decode("latin-1").splitlines():
        match line.split():
            case ["format", kind, *_]:
                order = {"ascii": "ascii", "binary_little_endian": "<", "binary_big_endian": ">"}[kind]
            case ["comment", "TextureFile", *words]:
                textures.append(" ".join(words))
            case ["element", name, rows]:
                elements.append(_Element(name, int(rows), ()))
            case ["property", "list", count, kind, name]:
                elements[-1] = _with(elements[-1], _Property(name, _TYPES[kind], _TYPES[count]))
            case ["property", kind, name]:
                elements[-1] = _with(elements[-1], _Property(name, _TYPES[kind], None))
    if any(
        element.rows < 0 or element.rows * max(len(element.properties), 1) > len(data) - begin for element in elements
    ):
        raise ValueError("its header announces more than there is")
    return order, elements, begin, textures


def _with(element: _Element, more: _Property) -> _Element:
    return _Element(element.name, element.rows, (*element.properties, more))


_Values = dict[str, tuple[NDArray[np.generic], Ints]]
"""By property all values, one after the other, and how many each row has."""


def _bytes(element: _Element, data: memoryview, order: str) -> tuple[_Values, memoryview]:
    """What an element says, and the rest of the data."""
    if not element.rows:
        return {member.name: (np.zeros(0), np.zeros(0, dtype=np.int64)) for member in element.properties}, data
    # Lists are as long as in the first row, or else it is read row by row.
    lengths, at = {}, 0
    for member in element.properties:
        if member.count:
            lengths[member.name] = int(np.frombuffer(data, order + member.count, 1, at)[0])
            at += np.dtype(member.count).itemsize
        at += np.dtype(member.kind).itemsize * lengths.get(member.name, 1)
        if not 0 <= at <= len(data):
            raise ValueError("cut off")
    fields: list[tuple[str, str] | tuple[str, str, int]] = []
    for number, member in enumerate(element.properties):
        if member.count:
            fields.append((f"length {number}", order + member.count))
        fields.append((f"value {number}", order + member.kind, lengths.get(member.name, 1)))
    record = np.dtype(fields)
    if element.rows * record.itemsize <= len(data):
        rows = np.frombuffer(data, record, element.rows)
        if all(
            (rows[f"length {number}"] == lengths[member.name]).all()
            for number, member in enumerate(element.properties)
            if member.count
        ):
            values: _Values = {
                member.name: (
                    rows[f"value {number}"].reshape(-1),
                    np.full(element.rows, lengths.get(member.name, 1)),
                )
                for number, member in enumerate(element.properties)
            }
            return values, data[element.rows * record.itemsize :]
    return _row_by_row(element, data, order)


def _row_by_row(element: _Element, data: memoryview, order: str) -> tuple[_Values, memoryview]:
    """The same where rows differ in length (a second for a million)."""
    import struct

    codes = {"i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "f4": "f", "f8": "d"}
    count_of = {m.name: struct.Struct(order + codes[m.count]) for m in element.properties if m.count}
    pieces: dict[str, list[memoryview]] = {m.name: [] for m in element.properties}
    sizes: dict[str, list[int]] = {m.name: [] for m in element.properties}
    steps = [
        (pieces[m.name].append, sizes[m.name].append, count_of.get(m.name), np.dtype(m.kind).itemsize)
        for m in element.properties
    ]
    at = 0
    for _ in range(element.rows):
        for keep, note, count, width in steps:
            length = 1
            if count:
                (length,) = count.unpack_from(data, at)
                at += count.size
            end = at + length * width
            if not at <= end <= len(data):
                raise ValueError("cut off")
            keep(data[at:end])
            note(length)
            at = end
    values: _Values = {
        m.name: (np.frombuffer(b"".join(pieces[m.name]), order + m.kind), np.array(sizes[m.name], dtype=np.int64))
        for m in element.properties
    }
    return values, data[at:]


def _text(element: _Element, said: Floats) -> tuple[_Values, Floats]:
    """What an element says in numbers, and the rest of them."""
    if all(member.count is None for member in element.properties):
        columns = len(element.properties)
        if len(said) < columns * element.rows:
            raise ValueError("cut off")
        table = said[: columns * element.rows].reshape(element.rows, columns)
        ones = np.ones(element.rows, dtype=np.int64)
        return {m.name: (table[:, n], ones) for n, m in enumerate(element.properties)}, said[table.size :]
    whole: dict[str, list[Floats]] = {m.name: [] for m in element.properties}
    at = 0
    for _ in range(element.rows):
        for member in element.properties:
            length = 1
            if member.count:
                length, at = int(said[at]), at + 1
            if not 0 <= length <= len(said) - at:
                raise ValueError("cut off")
            whole[member.name].append(said[at : at + length])
            at += length
    values: _Values = {
        name: (np.concatenate([np.zeros(0), *rows]), np.array([len(row) for row in rows], dtype=np.int64))
        for name, rows in whole.items()
    }
    return values, said[at:]
