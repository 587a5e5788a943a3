"""Timelines: 500 versions with warm thumbnails, 100 cold ones with previews, as 4K JPEG and as 4K PNG."""

from __future__ import annotations

import io
import shutil
import struct
from pathlib import Path

import numpy as np
from bench_rows import OURS
from bench_stories import Bench, ours
from bench_tools import Run
from PIL import Image

from gitvault.core.utils import layout
from gitvault.vault import Vault

_WIDE, _HIGH = 3840, 2160
_LAYERS = 10 << 20
"""Bytes of a document's layers, which nobody has to read."""


def _painting() -> np.ndarray:
    """A picture with flat, shaded and grainy parts, as paintings and renders have them."""
    y, x = np.mgrid[0:_HIGH, 0:_WIDE]
    image = np.stack([x * 255 // _WIDE, y * 255 // _HIGH, (x + y) * 255 // (_WIDE + _HIGH)], -1).astype(np.uint8)
    image[: _HIGH // 3] //= 64
    image[: _HIGH // 3] *= 64
    image[_HIGH // 2 :] ^= np.random.default_rng(6).integers(0, 8, (_HIGH - _HIGH // 2, _WIDE, 1), np.uint8)
    return image


def _stroke(image: np.ndarray, number: int) -> None:
    top, left = number * 397 % (_HIGH - 200), number * 733 % (_WIDE - 300)
    image[top : top + 200, left : left + 300] = (number * 31 % 256, number * 57 % 256, number * 91 % 256)


def _document(image: Image.Image, layers: bytes) -> bytes:
    """A Photoshop document as far as its preview is concerned."""
    small = image.copy()
    small.thumbnail((160, 160), reducing_gap=2.0)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG")
    data = struct.pack(">IIIIIIHH", 1, *small.size, small.width * 3, 0, buffer.tell(), 24, 1) + buffer.getvalue()
    resources = b"8BIM\x04\x0c\0\0" + struct.pack(">I", len(data)) + data + b"\0" * (len(data) % 2)
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, _HIGH, _WIDE, 8, 3)
    return head + struct.pack(">II", 0, len(resources)) + resources + layers


def _saved(path: Path, folder: Path, bench: Bench) -> None:
    """A vault with the versions of small.jpg, and of 4k.jpg, 4k.png and 4k.psd, in `folder`."""
    folder.mkdir(parents=True)
    few = bench.count(100)
    many = bench.count(500) if bench.wants("timeline-warm") else few
    image = _painting()
    layers = np.random.default_rng(7).bytes(_LAYERS)
    with Vault.open(path) as vault:
        for number in range(many):
            _stroke(image, number)
            shown = Image.fromarray(image)
            shown.resize((640, 360), reducing_gap=2.0).save(folder / "small.jpg", quality=90)
            if number < few:
                if bench.wants("timeline-jpeg"):
                    shown.save(folder / "4k.jpg", quality=90)
                if bench.wants("timeline-png"):
                    shown.save(folder / "4k.png", compress_level=1)
                if bench.wants("timeline-previews"):
                    (folder / "4k.psd").write_bytes(_document(shown, layers))
            vault.create_snapshot(folder, message=f"version {number}")


def timeline(bench: Bench) -> None:
    """One project with the history of four files."""
    folder = bench.workdir / "forest"
    shutil.rmtree(folder, ignore_errors=True)
    tool = ours(bench.tools(OURS))
    tool.init()
    _saved(tool.repository, folder, bench)

    def ask(name: str) -> Run:
        return tool.call("timeline", "forest", name, "--json")

    def cold(name: str) -> Run:
        shutil.rmtree(tool.repository / layout.THUMBNAILS, ignore_errors=True)
        return ask(name)

    if bench.wants("timeline-warm"):
        ask("small.jpg")
        bench.alternate("timeline-warm", {OURS: lambda: ask("small.jpg")}, max(5, bench.repeat))
    for row, name in (("previews", "4k.psd"), ("jpeg", "4k.jpg"), ("png", "4k.png")):
        if bench.wants(f"timeline-{row}"):
            bench.alternate(f"timeline-{row}", {OURS: lambda name=name: cold(name)}, bench.repeat)
