"""Stories of an artist: images and models compared with pictures, one layer of a large document brought back."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from bench_rows import IDIFF, MAGICK, ODIFF, OIIO, OURS
from bench_stories import Bench, say
from bench_tools import Run, git_vault, run

_SIZES = {"4k": (3840, 2160), "8k": (7680, 4320)}
_KINDS = {"png": "png", "tif": "16.tif", "exr": "exr"}
_FACES = 1_000_000
_LAYERS, _SIDE = 5, 5100
"""Of the document: 600 MB."""


def images(bench: Bench) -> None:
    """A scene; the same with a patch 8/255 lighter, one of another colour, one pixel one level off; with noise."""
    folder = bench.workdir / "images"
    folder.mkdir(exist_ok=True)
    for size, (width, height) in _SIZES.items():
        wanted = [kind for kind in _KINDS if bench.wants(*_rows(size, kind))]
        paths = {(n, k): folder / f"{size}-{n}.{_KINDS[k]}" for n in ("base", "edited", "noisy") for k in wanted}
        if not all(path.exists() for path in paths.values()):
            for name, image in _versions(bench.count(width), bench.count(height)):
                for kind in wanted:
                    _write(paths[name, kind], image)
        for kind in wanted:
            old, new = paths["base", kind], paths["edited", kind]
            if bench.wants(f"image-{size}-{kind}"):
                bench.alternate(f"image-{size}-{kind}", {OURS: partial(_compared, old, new, folder)}, bench.repeat)
            if bench.wants(f"image-figures-{size}-{kind}"):
                bench.alternate(f"image-figures-{size}-{kind}", _figures(old, new, folder), bench.repeat)
        if bench.wants(f"image-noise-{size}"):
            actions = _figures(paths["base", "png"], paths["noisy", "png"], folder)
            bench.alternate(f"image-noise-{size}", actions, bench.repeat)


def _rows(size: str, kind: str) -> list[str]:
    return [f"image-{size}-{kind}", f"image-figures-{size}-{kind}", *([f"image-noise-{size}"] if kind == "png" else [])]


def _compared(old: Path, new: Path, folder: Path | None) -> Run:
    pictures = ["-o", folder / "seen", "--overwrite"] if folder else []
    # 1: they differ.
    return run([*git_vault(), "diff", "--visual", old, new, "--json", *pictures], env={}, ok=[1])


def _figures(old: Path, new: Path, folder: Path) -> dict[str, Callable[[], Run]]:
    words = {
        OIIO: ["oiiotool", "--diff", old, new],
        IDIFF: ["idiff", old, new],
        MAGICK: ["compare", "-metric", "AE", old, new, "null:"],
        ODIFF: ["odiff", "--threshold=0", old, new, folder / "odiff.png"],
    }
    if old.suffix == ".exr":
        del words[MAGICK]
    if old.suffix != ".png":
        del words[ODIFF]
    # What they end with is how many pixels differ.
    peers = {
        name: partial(run, command, env={}, ok=range(256))
        for name, command in words.items()
        if shutil.which(command[0])
    }
    return {OURS: partial(_compared, old, new, None), **peers}


def _scene(width: int, height: int) -> Any:
    """Gradients, discs and grain; height x width x 3 of floats between 0 and 1."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width].astype(np.float32) / width
    image = np.stack([0.5 + 0.4 * np.sin(9 * x), 0.5 + 0.4 * np.cos(7 * y), 0.5 + 0.3 * np.sin(11 * (x + y))], -1)
    for _ in range(60):
        middle = int(rng.integers(width)), int(rng.integers(height))
        colour = [float(value) for value in rng.random(3)]
        cv2.circle(image, middle, int(rng.integers(width // 60, width // 12)), colour, -1, cv2.LINE_AA)
    return (image + rng.normal(0, 0.01, (height, width, 1)).astype(np.float32)).clip(0, 1)


def _versions(width: int, height: int) -> Iterator[tuple[str, Any]]:
    """Each by its name."""
    image = _scene(width, height)
    yield "base", image
    edited, side = image.copy(), width // 30
    edited[height // 3 :][:side, width // 4 :][:, :side] += 8 / 255
    edited[height // 2 :][: side // 2, width // 2 :][:, :side] = 0.9, 0.2, 0.1
    edited[10, 20, 1] += 1 / 255
    yield "edited", edited.clip(0, 1)
    grain = np.random.default_rng(3).normal(0, 0.004, image.shape).astype(np.float32)
    yield "noisy", (image + grain).clip(0, 1)


def _write(path: Path, image: Any) -> None:
    if path.suffix == ".exr":
        import OpenEXR

        half = image.astype(np.float16)
        layers = {"RGB": half, "Z": half[..., 0] * 100, "spec": half[..., 2], "id": half[..., 1]}
        layers |= {f"diffuse.{name}": half[..., place] for place, name in enumerate("RGB")}
        head = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        OpenEXR.File(head, {name: np.ascontiguousarray(plane) for name, plane in layers.items()}).write(str(path))
        return
    full, kind = (65535, np.uint16) if "16." in path.name else (255, np.uint8)
    options = [cv2.IMWRITE_PNG_COMPRESSION, 3] if path.suffix == ".png" else []
    cv2.imwrite(str(path), np.rint(image[..., ::-1] * full).astype(kind), options)


def models(bench: Bench) -> None:
    """A ball with a grain, and the same with a bump."""
    folder = bench.workdir / "models"
    folder.mkdir(exist_ok=True)
    old, new = folder / "base.ply", folder / "bump.ply"
    if not new.exists():
        for path, bump in (old, 0.0), (new, 0.05):
            _write_ball(path, bench.count(_FACES), bump)
    bench.alternate("mesh-1m", {OURS: partial(_compared, old, new, folder)}, bench.repeat)


def _write_ball(path: Path, faces: int, bump: float) -> None:
    across = max(8, int((faces / 2) ** 0.5))
    up, around = np.meshgrid(np.linspace(0.01, np.pi - 0.01, across), np.linspace(0, 2 * np.pi, across), indexing="ij")
    grain = np.random.default_rng(5).normal(1, 0.0005, up.shape)
    size = grain + bump * np.exp(-((up - 1) ** 2 + (around - 1) ** 2) * 30)
    points = np.stack([size * np.sin(up) * np.cos(around), size * np.sin(up) * np.sin(around), size * np.cos(up)], -1)
    corner = (np.arange(across - 1)[:, None] * across + np.arange(across - 1)).reshape(-1, 1)
    both = np.concatenate([corner + np.array(place) for place in ((0, 1, across), (1, across + 1, across))])
    rows = np.zeros(len(both), dtype=[("n", "u1"), ("at", "<i4", 3)])
    rows["n"], rows["at"] = 3, both
    head = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {points.size // 3}\n"
        "property float x\nproperty float y\nproperty float z\n"
        f"element face {len(both)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    path.write_bytes(head.encode() + points.astype("<f4").tobytes() + rows.tobytes())


def elements(bench: Bench) -> None:
    """A document of five full layers; one of yesterday's brought back into today's."""
    folder = bench.workdir / "layers"
    folder.mkdir(exist_ok=True)
    old, new = folder / "yesterday.psd", folder / "today.psd"
    if not new.exists():
        for path, day in (old, 1), (new, 2):
            _write_document(path, bench.count(_SIDE), day)
    say(f"  a document of {old.stat().st_size / 1e6:.0f} MB")
    words = [*git_vault(), "elements", "restore", "layer 2", "--from", old, "--into", new, "--json", "--overwrite"]
    bench.alternate("psd-layer", {OURS: partial(run, [*words, "-o", folder / "out.psd"], env={})}, bench.repeat)


def _write_document(path: Path, side: int, day: int) -> None:
    """Opaque layers of noise, written as they are: the uppermost is what the document shows."""
    rect, planes = struct.pack(">4i", 0, 0, side, side), (-1, 0, 1, 2)
    opaque = b"\xff" * (side * side)
    records, pixels = [], []
    for number in range(_LAYERS):
        noise = np.random.default_rng(number * (day if number == 2 else 1)).bytes(3 * side * side)
        name = f"layer {number}".encode()
        extra = bytes(8) + (bytes([len(name)]) + name).ljust(8, b"\0")
        records += [rect, struct.pack(">H", len(planes))]
        records += [struct.pack(">hI", plane, 2 + len(opaque)) for plane in planes]
        records.append(b"8BIMnorm" + struct.pack(">4BI", 255, 0, 0, 0, len(extra)) + extra)
        colours = (memoryview(noise)[at * len(opaque) :][: len(opaque)] for at in range(3))
        pixels += [part for plane in (opaque, *colours) for part in (b"\0\0", plane)]
    layers = [struct.pack(">h", _LAYERS), *records, *pixels]
    size = sum(map(len, layers))
    layers.append(bytes(-size % 4))
    size += -size % 4
    with open(path, "wb") as file:
        file.write(b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, side, side, 8, 3) + bytes(8))
        file.write(struct.pack(">II", size + 8, size))
        file.writelines(layers)
        file.write(bytes(4) + b"\0\0" + noise)
