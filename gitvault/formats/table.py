"""The formats that come with gitvault: how each is recognized, and who does what with it.

Nothing heavy is imported before it is used: who does it stands here by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gitvault.formats import Format


def _magic(*starts: bytes, at: int = 0) -> Callable[[bytes], bool]:
    return lambda head: head[at:].startswith(starts)


def _riff(kind: bytes) -> Callable[[bytes], bool]:
    return lambda head: head[:4] == b"RIFF" and head[8:12] == kind


def _zip_of(mimetype: bytes) -> Callable[[bytes], bool]:
    """Whether the first member is a `mimetype` that says this, stored."""
    return lambda head: head[:4] == b"PK\3\4" and head[30:38] == b"mimetype" and head[38:].startswith(mimetype)


def _text_with(*words: bytes) -> Callable[[bytes], bool]:
    return lambda head: b"\0" not in head[:1024] and any(word in head for word in words)


def _tga(head: bytes) -> bool:
    """It has no magic number: each field of its header has to have a value it can have."""
    if len(head) < 18:
        return False
    palette, kind, depth = head[1], head[2], head[16]
    size = int.from_bytes(head[12:14], "little"), int.from_bytes(head[14:16], "little")
    return palette in (0, 1) and kind in (1, 2, 3, 9, 10, 11) and depth in (8, 15, 16, 24, 32) and 0 not in size


def _binary_stl(head: bytes) -> bool:
    return len(head) >= 84 and not head.startswith(b"solid ") and 0 < int.from_bytes(head[80:84], "little") < 1 << 28


def _by(module: str, name: str) -> Callable[..., Any]:
    """A function of a module below gitvault.formats, imported when it is called."""

    def call(*arguments: object) -> Any:
        from importlib import import_module

        return getattr(import_module(f"gitvault.formats.{module}"), name)(*arguments)

    return call


FORMATS = (
    # -- images
    Format(
        "png",
        "PNG image",
        _magic(b"\x89PNG\r\n\x1a\n"),
        (".png",),
        thumbnail=_by("thumbnails", "picture"),
    ),
    Format(
        "jpeg",
        "JPEG image",
        _magic(b"\xff\xd8\xff"),
        (".jpg", ".jpeg"),
        thumbnail=_by("thumbnails", "picture"),
    ),
    Format(
        "webp",
        "WebP image",
        _riff(b"WEBP"),
        (".webp",),
        thumbnail=_by("thumbnails", "picture"),
    ),
    Format(
        "gif",
        "GIF image",
        _magic(b"GIF87a", b"GIF89a"),
        (".gif",),
        thumbnail=_by("thumbnails", "picture"),
    ),
    Format(
        "bmp",
        "Windows bitmap",
        _magic(b"BM"),
        (".bmp", ".dib"),
        thumbnail=_by("thumbnails", "picture"),
    ),
    Format(
        "tiff",
        "TIFF image",
        _magic(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
        (".tif", ".tiff"),
        thumbnail=_by("thumbnails", "picture"),
    ),
    Format(
        "hdr",
        "Radiance image",
        _magic(b"#?RADIANCE", b"#?RGBE"),
        (".hdr", ".pic"),
        thumbnail=_by("thumbnails", "picture"),
    ),
    Format(
        "dds",
        "DirectDraw surface",
        _magic(b"DDS "),
        (".dds",),
        thumbnail=_by("thumbnails", "picture"),
    ),
    Format(
        "dpx",
        "DPX image",
        _magic(b"SDPX", b"XPDS"),
        (".dpx",),
        thumbnail=_by("thumbnails", "picture"),
    ),
    Format(
        "exr",
        "OpenEXR image",
        _magic(b"v/1\x01"),
        (".exr",),
        thumbnail=_by("thumbnails", "document"),
    ),
    # -- layered
    Format(
        "psd",
        "Photoshop document",
        _magic(b"8BPS"),
        (".psd", ".psb"),
        thumbnail=_by("thumbnails", "document"),
    ),
    Format(
        "kra",
        "Krita document",
        _zip_of(b"application/x-krita"),
        (".kra", ".krz"),
        thumbnail=_by("thumbnails", "document"),
    ),
    Format(
        "ora",
        "OpenRaster image",
        _zip_of(b"image/openraster"),
        (".ora",),
        thumbnail=_by("thumbnails", "document"),
    ),
    Format("xcf", "GIMP image", _magic(b"gimp xcf "), (".xcf",)),
    Format(
        "svg",
        "SVG drawing",
        _text_with(b"<svg", b":svg"),
        (".svg",),
        thumbnail=_by("thumbnails", "vector"),
    ),
    # -- models and scenes
    Format("glb", "binary glTF scene", _magic(b"glTF"), (".glb",)),
    Format("gltf", "glTF scene", _text_with(b'"asset"'), (".gltf",)),
    Format(
        "blend",
        "Blender file",
        _magic(b"BLENDER", b"\x28\xb5\x2f\xfd", b"\x1f\x8b"),
        (".blend",),
        thumbnail=_by("thumbnails", "document"),
    ),
    Format("fbx", "FBX scene", _magic(b"Kaydara FBX Binary", b"; FBX"), (".fbx",)),
    Format("ply", "PLY model", _magic(b"ply\n", b"ply\r"), (".ply",)),
    Format("stl", "STL model", lambda head: head.startswith(b"solid ") or _binary_stl(head), (".stl",)),
    Format("obj", "Wavefront model", _text_with(b"\nv ", b"\nvn ", b"mtllib ", b"\no "), (".obj",)),
    Format("mtl", "Wavefront materials", _text_with(b"newmtl "), (".mtl",)),
    # -- archives
    Format("zip", "zip archive", _magic(b"PK\3\4", b"PK\5\6"), (".zip",)),
    # -- what has no magic number comes last
    Format(
        "tga",
        "Targa image",
        _tga,
        (".tga",),
        thumbnail=_by("thumbnails", "picture"),
    ),
)
