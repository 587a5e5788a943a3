"""Files of pictures, models, scenes and games, as the readers written here see them.

They run in a process of their own (`formats/confined.py`), which may raise anything: what counts is time and memory.
"""

from __future__ import annotations

import contextlib
import io
import struct
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import bundles
import images
import layered
import models
import reference_files
import scenes
from parsers.target import Place, Target

from gitvault.formats import bundles as looked_into
from gitvault.formats.mesh import read as mesh
from gitvault.formats.raster import photoshop
from gitvault.formats.table import FORMATS
from gitvault.formats.thumbnails import embedded

_BYTES = bytes(range(256)) * 2
_BY_LIBRARIES = ("psd", "exr")
"""Formats whose second reader is somebody else's."""


def _written(name: str, write: Callable[[Path], object]) -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder, name)
        write(path)
        return path.read_bytes()


def _everything(name: str, ending: str) -> Callable[[bytes], object]:
    """All that reads a file without changing it."""
    place = Place(f"file{ending}")
    [known] = (known for known in FORMATS if known.name == name)

    def read(data: bytes) -> None:
        path = place.put(data)
        second = None if name in _BY_LIBRARIES else known.witness
        for what in (known.elements, second, known.references):
            # What one of them refuses, the next may read.
            with contextlib.suppress(Exception):
                list((what or list)(path))

    return read


def _opened(read: Callable[[Path], object], name: str) -> Callable[[bytes], object]:
    place = Place(name)
    return lambda data: read(place.put(data))


def _preview(kind: str) -> Callable[[bytes], object]:
    def read(data: bytes) -> None:
        with contextlib.suppress(Exception):
            embedded.preview(kind, io.BytesIO(data))

    return read


def _layered(name: str, write: Callable[[Path, layered.Colors], object]) -> bytes:
    return _written(name, lambda path: write(path, {"Sky": 100, "Hill": 40}))


def _xcf() -> bytes:
    """An image of GIMP of one layer without pixels."""
    head = b"gimp xcf v003\0" + struct.pack(">5I", 8, 8, 0, 0, 0)
    layer = len(head) + 12
    body = struct.pack(">4I", 8, 8, 0, 4) + b"Sky\0" + struct.pack(">3I", 6, 4, 200) + struct.pack(">2I", 0, 0)
    body += struct.pack(">2I", layer + len(body) + 8, 0) + struct.pack(">4I", 8, 8, 4, 0)
    return head + struct.pack(">3I", layer, 0, 0) + body


def _flat(name: str) -> bytes:
    return _written(name, lambda path: images.photoshop(path, images.noise(3, "uint8")[:4, :5]))


_LIGHT = images.noise(1, "float16")[:4, :6, 0]
_HALVES = _LIGHT, _LIGHT[::2, ::2]
_BOX = [models.box("a"), models.box("b", 2.0)]
_GLTF, _BINARY = scenes.gltf()
_PSD = reference_files.psd({"relPath": "a.png", "fullPath": "/b/a.png"})

# Ending, files, and the name under which a model's reader has it.
_FILES: dict[str, tuple[str, Sequence[bytes]]] = {
    "psd": (".psd", [_PSD, _flat("a.psd")]),
    "kra": (".kra", [_layered("a.kra", layered.kra_file), reference_files.kra(packing=zipfile.ZIP_STORED)]),
    "ora": (".ora", [_layered("a.ora", layered.ora_file)]),
    "xcf": (".xcf", [_xcf()]),
    "svg": (".svg", [_layered("a.svg", layered.svg_file)]),
    "tiff": (".tif", [_layered("a.tif", layered.tiff_file)]),
    "zip": (".zip", [_layered("a.zip", layered.zip_file)]),
    "exr": (".exr", [_written("a.exr", lambda path: images.subsampled(path, *_HALVES))]),
    "glb": (".glb", [scenes.glb(_GLTF, _BINARY), reference_files.glb()]),
    "gltf": (".gltf", [reference_files.GLTF]),
    "blend": (".blend", [scenes.blend(), reference_files.blend({"a": ("//a.png", 1)})]),
    "fbx": (".fbx", [models.fbx(models.fbx_tree(_BOX)), models.fbx_text(models.fbx_tree(_BOX))]),
    "obj": (".obj", [models.obj(_BOX)]),
    "mtl": (".mtl", [b"newmtl a\nmap_Kd -s 1 1 tex\\a b.png\n"]),
    "usd": (".usda", [b'#usda 1.0\n( subLayers = [@./a.usda@] )\ndef Mesh "m" { asset f = @@@b.png@@@ }\n']),
    "maya": (".ma", [b'//Maya ASCII 2024 scene\nfile -rdi 1 "a.ma";\nsetAttr ".ftn" -type "string" "b.png";\n']),
    "aepx": (".aepx", [b'<AfterEffectsProject><fileReference fullpath="/a/b.mov"/></AfterEffectsProject>']),
    "premiere": (".prproj", [reference_files.PREMIERE, reference_files.premiere()]),
    "godot": (".tscn", [reference_files.GODOT]),
    "unity": (".mat", [reference_files.UNITY]),
    "unreal": (".uasset", [reference_files.UNREAL]),
}
_MODELS = {
    **{name: _FILES[name][1] for name in ("fbx", "obj")},
    "blend": [scenes.blend()],
    "glb": [models.glb(_BOX), scenes.glb(_GLTF, _BINARY)],
    "stl": [models.stl(_BOX), models.stl_text(_BOX)],
    "ply": [models.ply(_BOX[0]), models.ply(_BOX[0], "ascii")],
}
_BUNDLES: dict[str, Sequence[bytes]] = {
    "pck": [bundles.pck({"a.txt": b"abc", "b": _BYTES}), bundles.pck({"a": _BYTES}, 3, before=b"MZ")],
    "pak": [bundles.pak({"a": _BYTES}), bundles.pak({"a": _BYTES}, 8)],
    "unitypackage": [_written("a.unitypackage", lambda path: bundles.unitypackage(path, {"Assets/a.txt": b"abc"}))],
    "apk": _FILES["zip"][1],
}

TARGETS = {
    **{f"file-{name}": Target(_everything(name, ending), seeds) for name, (ending, seeds) in _FILES.items()},
    **{f"model-{name}": Target(_opened(mesh.read, f"a.{name}"), seeds, (OSError,)) for name, seeds in _MODELS.items()},
    **{
        f"game-{ending}": Target(_opened(lambda path: looked_into.read(str(path)), f"a.{ending}"), seeds, (OSError,))
        for ending, seeds in _BUNDLES.items()
    },
    **{f"preview-{name}": Target(_preview(name), _FILES[name][1]) for name in ("psd", "kra", "blend", "exr")},
    "picture-psd": Target(_opened(photoshop.merged, "a.psd"), [_flat("a.psd"), _flat("a.psb")], (OSError, ValueError)),
}
"""By name."""
