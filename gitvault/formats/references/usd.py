"""USD: assets of a layer. Text is read and spliced here; a binary layer is read, and written anew, by USD itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gitvault.errors import UnsupportedMedia
from gitvault.formats import Reference
from gitvault.formats.extras import need
from gitvault.formats.references import spans
from gitvault.formats.references.spans import Span

_TOKEN = re.compile(
    rb'"""(?:[^"\\]|\\.|"(?!""))*"""|\'\'\'(?:[^\'\\]|\\.|\'(?!\'\'))*\'\'\''
    rb'|"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\'|#[^\n]*+'
    rb"|@@@(?P<long>(?:[^@]|@(?!@@))+)@@@|@(?P<short>[^@\n]++)@"
    rb"|(?P<word>subLayers|references|payload|asset(?:\[\])?\s++[\w:.]++)",
    re.DOTALL,
)
_IMAGES = (".png", ".jpg", ".jpeg", ".exr", ".tif", ".tiff", ".hdr", ".tx", ".tga", ".webp", ".avif")
_BINARY = b"PXR-USDC"


def _spans(data: bytes) -> Iterator[Span]:
    word = ""
    for found in _TOKEN.finditer(data):
        if found["word"]:
            word = found["word"].split()[-1].decode()
        for group in ("long", "short"):
            if found[group]:
                target = found[group].decode("utf-8", "surrogateescape")
                encode = spans.encode_plain if group == "long" else _short
                yield Span(Reference(word, target, _kind(target)), *found.span(group), encode)


def _short(text: str) -> bytes:
    if "@" in text:
        raise UnsupportedMedia(f"{text}: a name with @ cannot be written where it stands; its bytes are saved")
    return spans.encode_plain(text)


def _kind(target: str) -> str:
    end = target.lower()
    if end.endswith(_IMAGES):
        return "image"
    return "scene" if end.partition("[")[0].endswith((".usd", ".usda", ".usdc", ".usdz")) else "file"


_text_references, _text_rewrite = spans.capabilities(_spans)


def _is_binary(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(8) == _BINARY


def references(path: Path) -> list[Reference]:
    """Assets of a layer. Raises UnsupportedMedia, ToolMissing for a binary one without usd-core."""
    if not _is_binary(path):
        return _text_references(path)
    found: dict[str, None] = {}
    _modify(path, lambda target: found.setdefault(target) or target)
    return [Reference("layer", target, _kind(target)) for target in found if target]


def rewrite(path: Path, targets: Mapping[str, str], output: Path) -> int:
    """The layer with other assets; a binary one is written anew, which keeps what it says and not its bytes."""
    if not _is_binary(path):
        return _text_rewrite(path, targets, output)
    changed: list[str] = []

    def new(target: str) -> str:
        if target in targets:
            changed.append(target)
        return targets.get(target, target)

    layer = _modify(path, new)
    # USD goes by the name's ending, which has to be one it knows.
    made = output.with_name(output.name + ".usdc")
    layer.Export(str(made))
    with open(made, "rb") as file, open(output, "xb") as out:
        spans.copy(file, out, 0)
    made.unlink()
    return len(changed)


def _modify(path: Path, new: Any) -> Any:
    sdf, utilities, tf = (need(f"pxr.{name}", "usd") for name in ("Sdf", "UsdUtils", "Tf"))
    try:
        layer = sdf.Layer.OpenAsAnonymous(str(path))
    except tf.ErrorException as error:
        raise UnsupportedMedia(f"{path.name}: USD cannot read it: {error}; its bytes are saved") from None
    utilities.ModifyAssetPaths(layer, new)
    return layer
