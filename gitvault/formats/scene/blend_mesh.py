"""The meshes of a Blender file as arrays, whichever Blender saved it.

They have been kept in four ways: faces of three or four corners (`MFace`, before 2.63), corners and faces (`MLoop` and
`MPoly`, to 3.6), custom data with names and faces as offsets (4.0), attributes with arrays of their own (5.0).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitvault.errors import UnsupportedMedia
from gitvault.formats.extras import need
from gitvault.formats.scene.blend import Blend, Block, Datablock, read

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Mesh:
    """An object with its mesh, whose arrays are shared by all objects that use it."""

    name: str
    """The object's."""
    data: str
    """The mesh's."""
    vertices: NDArray[np.float32]
    """(n, 3), in the mesh's own coordinates, without modifiers."""
    corners: NDArray[np.int32]
    """(c,): vertices, face after face."""
    offsets: NDArray[np.int32]
    """(f + 1,): where in `corners` a face begins; the last is c."""
    matrix: NDArray[np.float64]
    """(4, 4): from the mesh's coordinates to the scene's; a column vector stands to its right."""
    materials: tuple[str, ...]
    """Their names, by slot."""

    def triangles(self) -> NDArray[np.int32]:
        """(t, 3): the faces as fans."""
        import numpy as np

        sizes = np.diff(self.offsets)
        fans = np.maximum(sizes - 2, 0)
        first = np.repeat(self.offsets[:-1], fans)
        step = np.arange(fans.sum()) - np.repeat(np.cumsum(fans) - fans, fans)
        return np.stack([self.corners[first], self.corners[first + step + 1], self.corners[first + step + 2]], axis=1)


def meshes(path: Path) -> list[Mesh]:
    """Every object of the file that has a mesh of the file. Raises UnsupportedMedia, ToolMissing, OSError."""
    np = need("numpy", "mesh")

    blend = read(path)
    geometry: dict[int, tuple[Any, Any, Any]] = {}
    found = []
    for thing in blend.datablocks:
        mesh = blend.by_address.get(blend.address(thing.block, b"data")) if thing.code == b"OB" else None
        if mesh is None or mesh.code != b"ME" or thing.library is not None or mesh.library is not None:
            continue
        try:
            if mesh.block.address not in geometry:
                geometry[mesh.block.address] = _checked(*_geometry(blend, mesh))
            matrix = np.array(_world(blend, thing, 0))
        except (ValueError, OverflowError) as error:
            raise UnsupportedMedia(f"{path.name}: mesh {mesh.name}: {error}; its bytes are saved") from error
        found.append(Mesh(thing.name, mesh.name, *geometry[mesh.block.address], matrix, _materials(blend, mesh)))
    return found


def _checked(vertices: Any, corners: Any, offsets: Any) -> tuple[Any, Any, Any]:
    import numpy as np

    if len(corners) and (corners.min() < 0 or corners.max() >= len(vertices)):
        raise ValueError("a face has a corner that is no vertex")
    if offsets[0] != 0 or offsets[-1] != len(corners) or (np.diff(offsets) < 0).any():
        raise ValueError("its faces do not follow each other")
    return vertices, corners, offsets


def _geometry(blend: Blend, mesh: Datablock) -> tuple[Any, Any, Any]:
    """Vertices, corners, offsets."""
    import numpy as np

    own = {block.address: block for block in mesh.data}

    def at(path: bytes) -> Block | None:
        return own.get(blend.address(mesh.block, path))

    def total(path: bytes) -> int:
        return max(blend.number(mesh.block, path), 0)

    points, loops, faces = total(b"totvert"), total(b"totloop"), total(b"totpoly")
    vertices = _attribute(blend, mesh, own, "position", b"vdata", "f4", 3 * points)
    if vertices is not None:
        vertices = vertices.reshape(-1, 3)
    elif block := at(b"mvert"):
        vertices = _column(blend, block, b"co", "f4", points)
    else:
        vertices = np.zeros((0, 3), "f4")
    corners = _attribute(blend, mesh, own, ".corner_vert", b"ldata", "i4", loops)
    if corners is None and (block := at(b"mloop")):
        corners = _column(blend, block, b"v", "i4", loops)[:, 0]
    if corners is None:
        return vertices, *_old_faces(blend, at(b"mface"), total(b"totface"))
    if block := at(b"poly_offset_indices"):
        offsets = _raw(blend, block, "i4", faces + 1)
    elif block := at(b"mpoly"):
        starts = _column(blend, block, b"loopstart", "i4", faces)[:, 0]
        sizes = _column(blend, block, b"totloop", "i4", faces)[:, 0]
        offsets = np.append(starts, starts[-1] + sizes[-1] if faces else 0).astype("i4")
    else:
        offsets = np.zeros(1, "i4")
    return vertices, corners, offsets


def _old_faces(blend: Blend, block: Block | None, count: int) -> tuple[Any, Any]:
    """Corners and offsets of faces that have three or, where the last is not vertex 0, four."""
    import numpy as np

    if block is None:
        return np.zeros(0, "i4"), np.zeros(1, "i4")
    four = np.concatenate([_column(blend, block, name, "i4", count) for name in (b"v1", b"v2", b"v3", b"v4")], axis=1)
    # An edge without a face was a face of two corners.
    used = np.stack([four[:, 2] >= 0, four[:, 2] >= 0, four[:, 2] >= 0, four[:, 3] != 0], axis=1)
    return four[used], np.concatenate([[0], np.cumsum(used.sum(axis=1))]).astype("i4")


def _attribute(
    blend: Blend, mesh: Datablock, own: dict[int, Block], name: str, domain: bytes, kind: str, count: int
) -> Any:
    """The array of a named attribute, from where 5.0 or where 4.0 keeps it; None when there is none."""
    storage = own.get(blend.address(mesh.block, b"attribute_storage.dna_attributes"))
    for index in range(storage.items if storage else 0):
        assert storage is not None
        label = own.get(blend.address(storage, b"name", index))
        array = own.get(blend.address(storage, b"data", index))
        if label and array and blend.bytes_of(label).partition(b"\0")[0] == name.encode():
            values = own.get(blend.address(array, b"data"))
            return _raw(blend, values, kind, count) if values else None
    layers = own.get(blend.address(mesh.block, domain + b".layers"))
    for index in range(layers.items if layers else 0):
        assert layers is not None
        values = own.get(blend.address(layers, b"data", index))
        if values and blend.text(layers, b"name", index) == name:
            return _raw(blend, values, kind, count)
    return None


def _raw(blend: Blend, block: Block, kind: str, count: int) -> Any:
    import numpy as np

    if block.size < count * 4:
        raise ValueError("an array of it is too short")
    return np.frombuffer(blend.content, blend.order + kind, count, block.start).astype(kind)


def _column(blend: Blend, block: Block, path: bytes, kind: str, count: int) -> Any:
    """(count, n): one field of an array of structs."""
    import numpy as np

    field = blend.layout.field(block.struct, path) if block.struct < len(blend.layout.structs) else None
    size = blend.layout.size(block.struct) if field else 0
    if not field or block.size < count * size:
        raise ValueError("an array of it is too short")
    shape, strides = (count, field.size // 4), (size, 4)
    view: Any = np.ndarray(shape, blend.order + kind, blend.content, block.start + field.offset, strides)
    return view.astype(kind)


def _materials(blend: Blend, mesh: Datablock) -> tuple[str, ...]:
    block = next((b for b in mesh.data if b.address == blend.address(mesh.block, b"mat")), None)
    content = blend.bytes_of(block) if block else b""
    order = "little" if blend.order == "<" else "big"
    addresses = (content[at : at + blend.pointer] for at in range(0, len(content), blend.pointer))
    slots = (blend.by_address.get(int.from_bytes(address, order)) for address in addresses)  # type: ignore[arg-type]
    return tuple(slot.name if slot else "" for slot in slots)


def _world(blend: Blend, thing: Datablock, deep: int) -> Any:
    """An object's matrix: as it was saved, or, from 4.1 on, where it no longer is, from what it is made of."""
    import numpy as np

    saved = _floats(blend, thing, b"obmat")
    if len(saved) == 16:
        return saved.reshape(4, 4).T
    local = _local(blend, thing)
    parent = blend.by_address.get(blend.address(thing.block, b"parent"))
    if parent is None or deep > 100:
        return local
    inverse = _floats(blend, thing, b"parentinv").reshape(4, 4).T
    return np.asarray(_world(blend, parent, deep + 1) @ inverse @ local)


def _floats(blend: Blend, thing: Datablock, path: bytes) -> Any:
    import numpy as np

    return np.frombuffer(blend.value(thing.block, path), blend.order + "f4").astype("f8")


def _local(blend: Blend, thing: Datablock) -> Any:
    """Location, rotation and scale, each with its delta."""
    import numpy as np

    def floats(path: bytes, otherwise: list[float]) -> Any:
        found = _floats(blend, thing, path)
        return found if len(found) == len(otherwise) else np.array(otherwise)

    none, one, still = [0.0] * 3, [1.0] * 3, [1.0, 0.0, 0.0, 0.0]
    mode = blend.number(thing.block, b"rotmode")
    if mode == 0:
        turn = _of_quaternion(floats(b"dquat", still)) @ _of_quaternion(floats(b"quat", still))
    elif mode < 0:
        turn = _of_axis(floats(b"drotAxis", none), _angle(blend, thing, b"drotAngle"))
        turn = turn @ _of_axis(floats(b"rotAxis", none), _angle(blend, thing, b"rotAngle"))
    else:
        turn = _of_euler(floats(b"drot", none), mode) @ _of_euler(floats(b"rot", none), mode)
    matrix = np.eye(4)
    matrix[:3, :3] = turn * (floats(b"size", one) * floats(b"dscale", one))
    matrix[:3, 3] = floats(b"loc", none) + floats(b"dloc", none)
    return matrix


def _angle(blend: Blend, thing: Datablock, path: bytes) -> float:
    found = _floats(blend, thing, path)
    return float(found[0]) if len(found) else 0.0


def _of_quaternion(q: Any) -> Any:
    import numpy as np

    length = math.sqrt(float(q @ q))
    w, x, y, z = q / length if length else (1.0, 0.0, 0.0, 0.0)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def _of_axis(axis: Any, angle: float) -> Any:
    import numpy as np

    length = math.sqrt(float(axis @ axis)) or 1.0
    return _of_quaternion(np.array([math.cos(angle / 2), *(axis / length * math.sin(angle / 2))]))


def _of_euler(angles: Any, mode: int) -> Any:
    """`mode`: XYZ, XZY, YXZ, YZX, ZXY, ZYX from 1 on; the first axis turns first."""
    import numpy as np

    turn = np.eye(3)
    for axis in ("012", "021", "102", "120", "201", "210")[min(mode, 6) - 1]:
        turn = _of_axis(np.eye(3)[int(axis)], float(angles[int(axis)])) @ turn
    return turn
