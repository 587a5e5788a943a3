"""Small files that refer to others, as real applications write them: made here, so that every byte is known."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from gitvault.cli.main import main

GLTF = (
    b'{"asset":{"version":"2.0"},\n "buffers":[{"uri":"data/my%20mesh.bin","byteLength":12},'
    b'{"uri":"data:application/octet-stream;base64,AAAA"}],\n "images":[{"name":"uri","uri":"tex/a.png"},'
    b'{"uri":"tex/b%20c.png"},{"bufferView":0,"mimeType":"image/png"}],\n "extras":{"uri":"no.png"}}\n'
)
OBJ = b"# made\nmtllib my wood.mtl\nmtllib a.mtl b.mtl\no tree\nv 0 0 0\nusemtl wood\n"
MTL = (
    b"newmtl wood\nKd 1 1 1\nmap_Kd -s 2 2 1 -o 0.5 tex/a.png\nmap_Bump -bm 0.3 tex/b c.png\n"
    b"newmtl leaf\r\nmap_Ka -mm 0 1 -clamp on tex\\leaf.<UDIM>.png\r\n"
)
SVG = (
    b'<?xml version="1.0"?>\n<?xml-stylesheet type="text/css" href="look.css"?>\n<!-- <image href="no.png"/> -->\n'
    b'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">\n'
    b"<style><![CDATA[@import 'more.css'; @font-face { src: url(fonts/f.woff) } rect { fill: url(\"tex/p.png\") }"
    b"]]></style>\n"
    b'<image id="pic" xlink:href="tex/b%20c.png" sodipodi:absref="/old/b c.png" width="5"/>\n'
    b'<a href="https://example.invalid/"><use href="#pic"/><use href="parts.svg#leaf"/></a>\n'
    b'<rect style="fill:url(#g);mask:url(tex/m&amp;m.png)"/><image href="data:image/png;base64,AA=="/></svg>\n'
)
USDA = (
    b'#usda 1.0\n(\n    subLayers = [ @./sub.usda@ ]\n)\n# @no.usda@\ndef "x" (\n    prepend references = '
    b"@set/a.usdz[in.png]@</a>\n"
    b"    payload = @@@w@y.usda@@@\n)\n{\n    asset inputs:file = @tex/rock.<UDIM>.png@\n"
    b'    string note = "mail me @no.png@"\n}\n'
)
MAYA = (
    b'//Maya ASCII 2020 scene\nfile -rdi 1 -ns "c" -rfn "cRN" -op "v=0;p=17" -typ "mayaAscii" "char.ma";\n'
    b'file -r -ns "c" -dr 1 -rfn "cRN"\n\t\t -typ "mayaAscii" "char.ma";\n'
    b'createNode file -n "file1";\n\tsetAttr ".ftn" -type "string" "C:/art/\\"wood\\".png";\n'
    b'createNode audio -n "a1";\n\tsetAttr ".f" -type "string" "sound/s.wav";\n'
    b'createNode camera -s -n "c1" -p "persp";\n\tsetAttr ".f" -type "string" "no.wav";\n'
    b'\tsetAttr ".imn" -type "string" "persp";\n'
)
AEPX = (
    b'<?xml version="1.0"?><AfterEffectsProject xmlns="http://www.adobe.com/products/aftereffects"><Fold><Sfdr>'
    b'<fileReference ascendcount_base="1" fullpath="/art/clips/a &amp; b.mov" platform="MacPOSIX"/></Sfdr></Fold>'
    b"</AfterEffectsProject>"
)
PREMIERE = (
    b'<?xml version="1.0"?><PremiereData Version="3"><Media ObjectID="9"><RelativePath>../clips/a.mov</RelativePath>'
    b"<FilePath>C:\\art\\clips\\a.mov</FilePath><FilePath></FilePath></Media>"
    b"<Media><FilePath>1112293707</FilePath></Media></PremiereData>"
)
GODOT = (
    b'[gd_scene load_steps=3 format=3]\n[ext_resource type="Texture2D" uid="uid://b1" path="res://tex/a.png" id="1"]\n'
    b'[ext_resource type="PackedScene" path="res://parts/tree.tscn" id="2"]\n[node name="n" type="Node"]\n'
)
GUID = "0123456789abcdef0123456789abcdef"
UNITY = (
    "%YAML 1.1\n%TAG !u! tag:unity3d.com,2011:\n--- !u!21 &2100000\nMaterial:\n"
    "  m_Shader: {fileID: 46, guid: 0000000000000000f000000000000000, type: 0}\n"
    f"  m_Texture: {{fileID: 2800000, guid: {GUID}, type: 3}}\n"
).encode()
UNREAL = b"\xc1\x83\x2a\x9e" + b"\0" * 40 + struct.pack("<i", 16) + b"/Game/Props/Oak\0" + b"/Game/No\0" + b"\0" * 9


def glb() -> bytes:
    """GLTF as the first chunk, and a second one."""
    inside = json.dumps(json.loads(GLTF)).encode()
    inside += b" " * (-len(inside) % 4)
    body = struct.pack("<I4s", len(inside), b"JSON") + inside + struct.pack("<I4s", 8, b"BIN\0") + b"8 bytes!"
    return b"glTF" + struct.pack("<II", 2, 12 + len(body)) + body


def premiere() -> bytes:
    """As Premiere writes it."""
    return gzip.compress(PREMIERE, mtime=0)


def kra(source: str = "../tex/a &amp; b.png", packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A document with a file layer and another one."""
    layers = (
        f'<layer nodetype="filelayer" name="ground" source="{source}" uuid="{{1}}" scale="false"/>'
        '<layer nodetype="paintlayer" name="source" uuid="{2}"/>'
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", packing) as archive:
        archive.writestr(zipfile.ZipInfo("mimetype"), "application/x-krita")
        archive.writestr("maindoc.xml", f"<?xml version='1.0'?><DOC><IMAGE><layers>{layers}</layers></IMAGE></DOC>")
        archive.writestr("pic/layers/layer2", zlib.compress(b"pixels" * 100))
        archive.comment = b"a comment"
    return out.getvalue()


def psd(names: dict[str, str], *, large: bool = False, entries: int = 2) -> bytes:
    """A document of one pixel with smart objects in other files: `relPath` and `fullPath` for each."""
    wide = ">Q" if large else ">I"

    def text(value: str) -> bytes:
        data = (value + "\0").encode("utf-16-be")
        return struct.pack(">I", len(data) // 2) + data

    linked = b""
    for number in range(entries):
        inside = b"liFE" + struct.pack(">I", 5) + b"\x24" + b"0" * 35 + b"%d" % number + text("a.png") + b"png 8BIM"
        for key, value in names.items():
            inside += struct.pack(">I", len(key)) + key.encode() + b"TEXT" + text(value)
        linked += struct.pack(">Q", len(inside)) + inside + bytes(-len(inside) % 4)
    mark = b"8B64" if large else b"8BIM"
    blocks = b"8BIMPatt" + struct.pack(">I", 0) + mark + b"lnkE" + struct.pack(wide, len(linked)) + linked
    blocks += mark + b"FMsk" + struct.pack(wide, 12) + b"\0" * 12
    layers = struct.pack(wide, 0) + struct.pack(">I", 0) + blocks
    head = b"8BPS" + struct.pack(">H6xHIIHH", 2 if large else 1, 3, 1, 1, 8, 3)
    return head + struct.pack(">II", 0, 0) + struct.pack(wide, len(layers)) + layers + b"\0\0" + b"rgb"


def blend(images: dict[str, tuple[str, int]], *, old: bool = False) -> bytes:
    """A Blender file with images (path and source by name), a library, a packed image and a font; `old`: of 2.7."""
    path = b"name[1024]" if old else b"filepath[1024]"
    names = [b"id", path, b"source", b"*packedfile", b"name[66]", b"*lib", b"pad"]
    types = {b"char": 1, b"short": 2, b"ID": 76, b"Image": 1112, b"Library": 1100, b"VFont": 1108, b"void": 0}
    order = list(types)
    structs = [
        (b"ID", [(b"char", 4), (b"void", 5), (b"short", 6)]),
        (b"Image", [(b"ID", 0), (b"char", 1), (b"short", 2), (b"short", 6), (b"void", 3)]),
        (b"Library", [(b"ID", 0), (b"char", 1)]),
        (b"VFont", [(b"ID", 0), (b"char", 1), (b"void", 3)]),
    ]

    def table(word: bytes, items: list[bytes]) -> bytes:
        data = word + struct.pack("<I", len(items)) + b"".join(item + b"\0" for item in items)
        return data + bytes(-len(data) % 4)

    dna = b"SDNA" + table(b"NAME", names) + table(b"TYPE", order)
    lengths = struct.pack(f"<{len(types)}H", *types.values())
    dna += b"TLEN" + lengths + bytes(-len(lengths) % 4) + b"STRC" + struct.pack("<I", len(structs))
    for name, fields in structs:
        dna += struct.pack("<HH", order.index(name), len(fields))
        dna += b"".join(struct.pack("<HH", order.index(of), field) for of, field in fields)

    def block(code: bytes, content: bytes, number: int = 0, address: int = 0) -> bytes:
        return struct.pack("<4siQii", code, len(content), address, number, 1) + content

    def head(code: str, name: str) -> bytes:
        return struct.pack("<66sQ2x", (code + name).encode(), 0)

    body = b""
    for number, (name, (where, source)) in enumerate(images.items()):
        packed = 7 if name == "packed" else 0
        image = head("IM", name) + struct.pack("<1024sh2xQ", where.encode(), source, packed)
        body += block(b"IM", image, 1, 100 + number)
    body += block(b"LI", head("LI", "lib") + struct.pack("<1024s", b"//..\\lib\\props.blend"), 2, 200)
    body += block(b"VF", head("VF", "Bfont") + struct.pack("<1024sQ", b"<builtin>", 0), 3, 300)
    version = b"279" if old else b"304"
    return b"BLENDER-v" + version + body + block(b"DNA1", dna) + b"ENDB" + bytes(20)


class InProcess:
    """In place of `Confined`: a process for each of many commands would take longer than they do."""

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing to end."""

    def call(self, function: str, *arguments: str) -> Any:
        """What the function answers, through JSON as from another process."""
        module, _, name = function.partition(":")
        return json.loads(json.dumps(getattr(import_module(module), name)(*arguments)))


def run_here(vault: Path, words: Sequence[object], capsys: pytest.CaptureFixture[str]) -> CompletedProcess[str]:
    """git-vault run in this process."""
    capsys.readouterr()
    code = main(["--vault", str(vault), *map(str, words)])
    said = capsys.readouterr()
    return CompletedProcess([], code, said.out, said.err)
