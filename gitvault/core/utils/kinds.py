"""Kinds of files: by name, for tables that people read; by content, text or binary."""

from __future__ import annotations

import codecs
import re

SNIFF = 8000
"""Bytes at the start by which most binary files show; as many are looked at in the middle and at the end."""

_KINDS = {
    "code": "c h cc cpp cxx hpp hh cs py pyi js mjs cjs ts jsx tsx java kt kts scala go rs rb php pl pm sh bash zsh ps1"
    " swift m mm lua r jl ex exs erl hs clj dart vue svelte sql asm s f90 gd gdshader glsl hlsl shader vert frag",
    "text": "txt md rst adoc tex html htm css scss less xml json jsonl yaml yml toml ini cfg conf csv tsv po pot svg"
    " log lock gitignore gitattributes gitmodules tscn tres meta unity prefab asset mat",
    "image": "png jpg jpeg gif bmp tif tiff webp heic avif tga dds exr hdr dpx ico psd psb kra ora xcf clip procreate"
    " raw cr2 cr3 nef arw dng ktx ktx2 basis",
    "audio": "wav mp3 ogg oga flac aac m4a opus aif aiff wma mid midi mod xm bank fsb",
    "video": "mp4 mov avi mkv webm m4v mpg mpeg wmv flv ogv",
    "model": "blend fbx obj mtl glb gltf stl ply dae abc usd usda usdc usdz 3ds max ma mb c4d"
    " hip hiplc ztl spp sbs sbsar",
    "archive": "zip gz tgz bz2 xz zst 7z rar tar jar apk ipa whl unitypackage pck pak bundle assets",
    "document": "pdf doc docx xls xlsx ppt pptx odt ods odp epub ai indd",
    "font": "ttf otf woff woff2",
    "program": "exe dll so dylib a lib o obj pdb class pyc wasm node bin",
}
_BY_EXTENSION = {extension: kind for kind, words in reversed(_KINDS.items()) for extension in words.split()}
# What no text has, in whatever encoding, but for tabs, ends of lines and pages, and what terminals are sent.
_CONTROLS = bytes(byte for byte in (*range(32), 127) if byte not in b"\a\b\t\n\v\f\r\x1b")
_CONTROLS_IN = 32
# The rest of a character that a block begins within.
_CUT = re.compile(rb"\A[\x80-\xbf]{1,3}")


def kind_of(name: bytes) -> str:
    """`code`, `text`, `image`, ...; `other` for what the table does not know."""
    _, dot, extension = name.rpartition(b".")
    return _BY_EXTENSION.get(extension.lower().decode("ascii", "replace"), "other") if dot else "other"


def is_binary(content: bytes) -> bool:
    """Whether a file is binary, by its content.

    Stricter than git, which asks for a NUL among the first 8000: formats that begin as text (PDF, binary PLY, PGM)
    would be stored whole at each edit. A NUL may be anywhere; without one, text is what reads as UTF-8 in three places,
    or as lines of some older encoding.
    """
    if b"\0" in content:
        return True
    last = max(0, len(content) - SNIFF)
    return any(_is_noise(content[at : at + SNIFF]) for at in (0, last // 2, last))


def _is_noise(block: bytes) -> bool:
    block = _CUT.sub(b"", block, count=1)
    try:
        codecs.utf_8_decode(block, "strict", False)
        return False
    except UnicodeDecodeError:
        controls = len(block) - len(block.translate(None, _CONTROLS))
        return controls * _CONTROLS_IN > len(block) or not (b"\n" in block or b"\r" in block)
