"""The formats that come with gitvault: how each is recognized, and who does what with it.

Nothing heavy is imported before it is used: who does it stands here by name.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any

from gitvault.formats import Format


def _magic(*starts: bytes, at: int = 0) -> Callable[[bytes], bool]:
    return lambda head: head[at:].startswith(starts)


def _riff(kind: bytes) -> Callable[[bytes], bool]:
    return lambda head: head[:4] == b"RIFF" and head[8:12] == kind


def _zip_of(mimetype: bytes) -> Callable[[bytes], bool]:
    """Whether the first member is a `mimetype` that says this, stored as it should be, or deflated."""

    def knows(head: bytes) -> bool:
        if head[:4] != b"PK\3\4" or head[30:38] != b"mimetype":
            return False
        content = head[38 + int.from_bytes(head[28:30], "little") :]
        if head[8:10] == b"\x08\0":
            try:
                content = zlib.decompressobj(-15).decompress(content, 64)
            except zlib.error:
                return False
        return content.startswith(mimetype)

    return knows


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
    """No magic number either: of any bytes one in sixteen has a count that can be, none also such numbers."""
    count = int.from_bytes(head[80:84], "little")
    if len(head) < 84 or not 0 < count < 1 << 28:
        return False
    triangles = min(count, 8, (len(head) - 84) // 50)
    numbers = (n for number in range(triangles) for n in struct.unpack_from("<12f", head, 84 + 50 * number))
    return all(not n or 1e-30 < abs(n) < 1e15 for n in numbers)


def _premiere(head: bytes) -> bool:
    """XML, mostly within gzip; so is a Blender file, which is no XML."""
    if head.startswith(b"\x1f\x8b"):
        try:
            head = zlib.decompressobj(31).decompress(head, 4096)
        except zlib.error:
            return False
    return b"<PremiereData" in head[:4096]


def _by(module: str, name: str) -> Callable[..., Any]:
    """A function of a module below gitvault.formats, imported when it is called."""

    def call(*arguments: object) -> Any:
        from importlib import import_module

        return getattr(import_module(f"gitvault.formats.{module}"), name)(*arguments)

    return call


def _image(name: str, summary: str, sniff: Callable[[bytes], bool], extensions: tuple[str, ...]) -> Format:
    """One picture a file, and nothing in it that could be taken out."""
    drawn = _by("thumbnails", "picture")
    return Format(name, summary, sniff, extensions, compare=_by("raster.compare", "compare"), thumbnail=drawn)


_PREVIEWS = "the pictures of the whole in it show the state before; opening and saving it makes them anew"


FORMATS = (
    # -- images
    _image("png", "PNG image", _magic(b"\x89PNG\r\n\x1a\n"), (".png",)),
    _image("jpeg", "JPEG image", _magic(b"\xff\xd8\xff"), (".jpg", ".jpeg")),
    _image("webp", "WebP image", _riff(b"WEBP"), (".webp",)),
    _image("gif", "GIF image", _magic(b"GIF87a", b"GIF89a"), (".gif",)),
    _image("bmp", "Windows bitmap", _magic(b"BM"), (".bmp", ".dib")),
    Format(
        "tiff",
        "TIFF image",
        _magic(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
        (".tif", ".tiff"),
        compare=_by("raster.compare", "compare"),
        thumbnail=_by("thumbnails", "picture"),
        elements=_by("layered.tiff", "elements"),
        extract=_by("layered.tiff", "extract"),
        splice=_by("layered.tiff", "splice"),
        witness=_by("witness.tiff", "witness"),
    ),
    _image("hdr", "Radiance image", _magic(b"#?RADIANCE", b"#?RGBE"), (".hdr", ".pic")),
    _image("dds", "DirectDraw surface", _magic(b"DDS "), (".dds",)),
    _image("dpx", "DPX image", _magic(b"SDPX", b"XPDS"), (".dpx",)),
    Format(
        "exr",
        "OpenEXR image",
        _magic(b"v/1\x01"),
        (".exr",),
        compare=_by("raster.compare", "compare"),
        thumbnail=_by("thumbnails", "document"),
        elements=_by("layered.exr", "elements"),
        extract=_by("layered.exr", "extract"),
        splice=_by("layered.exr", "splice"),
        witness=_by("witness.exr", "witness"),
    ),
    # -- layered
    Format(
        "psd",
        "Photoshop document",
        _magic(b"8BPS"),
        (".psd", ".psb"),
        compare=_by("raster.compare", "compare"),
        thumbnail=_by("thumbnails", "document"),
        elements=_by("layered.psd", "elements"),
        extract=_by("layered.psd", "extract"),
        splice=_by("layered.psd", "splice"),
        witness=_by("witness.psd", "witness"),
        recompose=_by("layered.psd_picture", "recomposed"),
        stale="the merged image and the thumbnail show the state before; saving it in Photoshop makes them anew",
        references=_by("references.psd", "references"),
        rewrite=_by("references.psd", "rewrite"),
    ),
    Format(
        "kra",
        "Krita document",
        _zip_of(b"application/x-krita"),
        (".kra", ".krz"),
        compare=_by("raster.compare", "compare"),
        thumbnail=_by("thumbnails", "document"),
        elements=_by("layered.painting", "elements"),
        extract=_by("layered.painting", "extract"),
        splice=_by("layered.painting", "splice"),
        witness=_by("witness.painting", "witness"),
        recompose=_by("layered.painting_picture", "recomposed"),
        stale=_PREVIEWS,
        references=_by("references.kra", "references"),
        rewrite=_by("references.kra", "rewrite"),
    ),
    Format(
        "ora",
        "OpenRaster image",
        _zip_of(b"image/openraster"),
        (".ora",),
        compare=_by("raster.compare", "compare"),
        thumbnail=_by("thumbnails", "document"),
        elements=_by("layered.painting", "elements"),
        extract=_by("layered.painting", "extract"),
        splice=_by("layered.painting", "splice"),
        witness=_by("witness.painting", "witness"),
        recompose=_by("layered.painting_picture", "recomposed"),
        stale=_PREVIEWS,
    ),
    Format(
        "xcf",
        "GIMP image",
        _magic(b"gimp xcf "),
        (".xcf",),
        elements=_by("layered.xcf", "elements"),
        extract=_by("layered.xcf", "extract"),
    ),
    Format(
        "svg",
        "SVG drawing",
        _text_with(b"<svg", b":svg"),
        (".svg",),
        compare=_by("raster.compare", "compare"),
        thumbnail=_by("thumbnails", "vector"),
        elements=_by("layered.svg", "elements"),
        extract=_by("layered.svg", "extract"),
        splice=_by("layered.svg", "splice"),
        witness=_by("witness.svg", "witness"),
        references=_by("references.markup", "svg_references"),
        rewrite=_by("references.markup", "svg_rewrite"),
    ),
    # Before the models: a document of Krita whose first member is not as it should be would pass for a binary STL.
    Format(
        "zip",
        "zip archive",
        _magic(b"PK\3\4", b"PK\5\6"),
        (".zip",),
        elements=_by("layered.archive", "elements"),
        extract=_by("layered.archive", "extract"),
        splice=_by("layered.archive", "splice"),
        witness=_by("witness.zipped", "witness"),
    ),
    # -- models and scenes
    Format(
        "glb",
        "binary glTF scene",
        _magic(b"glTF"),
        (".glb",),
        compare=_by("mesh.compare", "compare"),
        thumbnail=_by("mesh.thumbnail", "thumbnail"),
        elements=_by("scene.gltf", "elements"),
        extract=_by("scene.gltf_splice", "extract"),
        splice=_by("scene.gltf_splice", "splice"),
        witness=_by("witness.gltf", "witness"),
        references=_by("references.gltf", "references"),
        rewrite=_by("references.gltf", "rewrite"),
    ),
    Format(
        "gltf",
        "glTF scene",
        _text_with(b'"asset"'),
        (".gltf",),
        compare=_by("mesh.compare", "compare"),
        thumbnail=_by("mesh.thumbnail", "thumbnail"),
        elements=_by("scene.gltf", "elements"),
        extract=_by("scene.gltf_splice", "extract"),
        splice=_by("scene.gltf_splice", "splice"),
        witness=_by("witness.gltf", "witness"),
        references=_by("references.gltf", "references"),
        rewrite=_by("references.gltf", "rewrite"),
    ),
    Format(
        "blend",
        "Blender file",
        _magic(b"BLENDER", b"\x28\xb5\x2f\xfd", b"\x1f\x8b"),
        (".blend",),
        compare=_by("mesh.compare", "compare"),
        thumbnail=_by("thumbnails", "document"),
        elements=_by("scene.datablocks", "elements"),
        extract=_by("scene.blend_splice", "extract"),
        splice=_by("scene.blend_splice", "splice"),
        witness=_by("witness.blend", "witness"),
        references=_by("references.blend", "references"),
        rewrite=_by("references.blend", "rewrite"),
        leveled=_by("scene.blender", "leveled"),
    ),
    Format(
        "fbx",
        "FBX scene",
        _magic(b"Kaydara FBX Binary", b"; FBX"),
        (".fbx",),
        compare=_by("mesh.compare", "compare"),
        thumbnail=_by("mesh.thumbnail", "thumbnail"),
        elements=_by("fbx", "elements"),
        references=_by("references.fbx", "references"),
        rewrite=_by("references.fbx", "rewrite"),
    ),
    Format(
        "ply",
        "PLY model",
        _magic(b"ply\n", b"ply\r"),
        (".ply",),
        compare=_by("mesh.compare", "compare"),
        thumbnail=_by("mesh.thumbnail", "thumbnail"),
    ),
    Format(
        "stl",
        "STL model",
        lambda head: (head[:5] == b"solid" and head[5:6].isspace()) or _binary_stl(head),
        (".stl",),
        compare=_by("mesh.compare", "compare"),
        thumbnail=_by("mesh.thumbnail", "thumbnail"),
    ),
    Format(
        "obj",
        "Wavefront model",
        _text_with(b"\nv ", b"\nvn ", b"mtllib ", b"\no "),
        (".obj",),
        compare=_by("mesh.compare", "compare"),
        thumbnail=_by("mesh.thumbnail", "thumbnail"),
        elements=_by("scene.obj", "elements"),
        extract=_by("scene.obj", "extract"),
        splice=_by("scene.obj", "splice"),
        witness=_by("witness.obj", "witness"),
        references=_by("references.wavefront", "obj_references"),
        rewrite=_by("references.wavefront", "obj_rewrite"),
    ),
    Format(
        "mtl",
        "Wavefront materials",
        _text_with(b"newmtl "),
        (".mtl",),
        references=_by("references.wavefront", "mtl_references"),
        rewrite=_by("references.wavefront", "mtl_rewrite"),
    ),
    # -- projects that name other files
    Format(
        "usd",
        "USD layer",
        _magic(b"#usda ", b"PXR-USDC"),
        (".usd", ".usda", ".usdc"),
        references=_by("references.usd", "references"),
        rewrite=_by("references.usd", "rewrite"),
    ),
    Format(
        "maya",
        "Maya ASCII scene",
        _magic(b"//Maya ASCII"),
        (".ma",),
        references=_by("references.maya", "references"),
        rewrite=_by("references.maya", "rewrite"),
    ),
    Format(
        "aepx",
        "After Effects project, XML",
        _text_with(b"<AfterEffectsProject"),
        (".aepx",),
        references=_by("references.markup", "aepx_references"),
        rewrite=_by("references.markup", "aepx_rewrite"),
    ),
    Format(
        "premiere",
        "Premiere project",
        _premiere,
        (".prproj",),
        references=_by("references.markup", "premiere_references"),
        rewrite=_by("references.markup", "premiere_rewrite"),
    ),
    Format(
        "godot",
        "Godot scene or resource",
        _text_with(b"[gd_scene", b"[gd_resource", b"config_version="),
        (".tscn", ".tres", ".godot"),
        references=_by("references.engines", "godot_references"),
        rewrite=_by("references.engines", "godot_rewrite"),
    ),
    Format(
        "unity",
        "Unity scene or asset",
        lambda head: head.startswith(b"%YAML") and b"!u! tag:unity3d.com" in head,
        (".unity", ".prefab", ".mat", ".asset", ".controller", ".anim"),
        references=_by("references.engines", "unity_references"),
    ),
    Format(
        "unreal",
        "Unreal package",
        _magic(b"\xc1\x83\x2a\x9e"),
        (".uasset", ".umap"),
        references=_by("references.engines", "unreal_references"),
    ),
    # -- what has no magic number comes last
    _image("tga", "Targa image", _tga, (".tga",)),
)
