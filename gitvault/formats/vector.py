"""Drawings rendered to pixels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from gitvault.errors import UnsupportedMedia
from gitvault.formats.extras import need

_LARGEST = 64 << 20
"""Bytes."""
_SIZES = ("width", "height")


def rendered(path: Path, side: int) -> bytes:
    """An SVG as a PNG whose longer side has so many pixels. Raises UnsupportedMedia, ToolMissing, OSError."""
    renderer, etree = need("resvg_py", "image"), need("lxml.etree", "image")
    if os.path.getsize(path) > _LARGEST:
        raise UnsupportedMedia(f"{path.name}: drawings over {_LARGEST >> 20} MiB are not rendered; its bytes are saved")
    try:
        root = etree.parse(str(path), etree.XMLParser(resolve_entities=False, no_network=True)).getroot()
        _cut_off(root)
        drawing = etree.tostring(root, encoding="unicode")
        longer = {"height" if _is_tall(root) else "width": side}
        # Without dots per inch, sizes in mm, as Inkscape writes them, are none.
        return bytes(renderer.svg_to_bytes(svg_string=drawing, dpi=96, **longer))
    except (etree.XMLSyntaxError, ValueError) as error:
        why = " ".join(str(error).split())[:200]
        raise UnsupportedMedia(f"{path.name}: cannot be rendered: {why}; its bytes are saved") from error


def _cut_off(root: Any) -> None:
    """Take away what names other files: the renderer would read any of this machine."""
    for element in root.iter("{*}image", "{*}feImage"):
        for name, value in element.items():
            if name.endswith("href") and not value.lstrip().startswith(("data:", "#")):
                del element.attrib[name]


def _is_tall(root: Any) -> bool:
    box = root.get("viewBox", "").replace(",", " ").split()[2:]
    try:
        width, height = (float(size) for size in box or (root.get(name, "1").rstrip("pxmcint") for name in _SIZES))
    except ValueError:
        return False
    return height > width
