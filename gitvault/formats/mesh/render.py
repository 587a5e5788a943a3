"""Pictures of triangles: rays cast on the processor, seen in parallel, no display and no graphics card."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from math import cos, radians, sin

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from numpy.typing import NDArray

from gitvault.formats.mesh.model import Floats, Ints, Mask, crossed

Singles = NDArray[np.float32]

CLAY = (0.74, 0.74, 0.73)
PAPER = 1.0
_STEP = 0.04
_SMALL = 400_000
_STOPS = (0.0, 0.1, 0.35, 0.6, 0.8, 1.0)
_COLOURS = (CLAY, (1.0, 0.93, 0.55), (1.0, 0.72, 0.2), (0.95, 0.4, 0.12), (0.75, 0.07, 0.15), (0.42, 0.0, 0.2))
_ELEVATIONS = {25: 1.0, 60: 0.7, -25: 0.6}
_AZIMUTHS = {35: 1.0, -10: 0.95, -55: 0.95, 80: 0.9, 125: 0.8, 170: 0.75, 215: 0.75, 260: 0.85}
"""Degrees, and how usual it is to look from there: 0 is the front."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Where from, and what of the plane across is seen."""

    right: Floats
    up: Floats
    back: Floats
    """Towards who looks."""
    centre: Floats
    height: float
    """Of what is seen, in the model's units."""
    depth: float
    """How far away from `centre` anything is at most."""


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """What n rays met."""

    face: NDArray[np.int32]
    """(n,): -1 for nothing."""
    away: Singles
    """(n,): how far the ray went; infinite for nothing."""
    weights: Singles
    """(n, 2): of the face's second and third corner."""

    def only(self, which: Mask) -> Hits:
        """Some of them."""
        return Hits(self.face[which], self.away[which], self.weights[which])


def views(up: str) -> list[tuple[View, float]]:
    """Where one may look from, the usual view first, and how usual each is; framed by `framed`."""
    found = []
    for elevation, usual in _ELEVATIONS.items():
        for azimuth, likely in _AZIMUTHS.items():
            e, a = radians(elevation), radians(azimuth)
            # With y up the front looks along z, with z up against y.
            back = np.array([cos(e) * sin(a), sin(e), cos(e) * cos(a)])
            above = np.array([0.0, 1.0, 0.0])
            if up == "z":
                back, above = back[[0, 2, 1]] * (1, -1, 1), above[[0, 2, 1]]
            right = np.cross(above, back)
            right /= np.linalg.norm(right)
            view = View(right, np.cross(back, right), back, np.zeros(3), 1.0, 1.0)
            found.append((view, usual * likely))
    return found


def framed(view: View, points: Floats, shape: float) -> View:
    """The view with all points in it and some room around; `shape` is width by height."""
    across = np.stack([points @ view.right, points @ view.up, points @ view.back])
    low, high = across.min(axis=1), across.max(axis=1)
    middle = (low + high) / 2
    width, height, _ = (high - low).tolist()
    centre = middle[0] * view.right + middle[1] * view.up + middle[2] * view.back
    seen = max(height, width / shape, 1e-30) * 1.08
    depth = float(high[2] - low[2]) / 2
    return View(view.right, view.up, view.back, centre, seen, depth + seen)


class Scene:
    """Triangles that rays can be cast at."""

    def __init__(self, vertices: Floats, faces: Ints) -> None:
        self._faces = faces
        # Single precision is enough near the origin.
        self._origin = vertices[faces[0, 0]] if len(faces) else np.zeros(3)
        self._vertices = (vertices - self._origin).astype(np.float32)
        self._scene = EmbreeScene()
        if len(faces):
            TriangleMesh(self._scene, self._vertices, faces.astype(np.int32))
        self._smooth: Singles | None = None

    def cast(self, view: View, at: Floats) -> Hits:
        """Rays at (n, 2) places of the picture: to the right and up from its middle, in its heights."""
        if not len(self._faces):
            nothing = np.zeros(len(at), np.float32)
            return Hits(
                np.full(len(at), -1, np.int32), nothing + np.float32(np.inf), np.zeros((len(at), 2), np.float32)
            )
        begin = view.centre - self._origin + 2 * view.depth * view.back
        origins = at @ np.stack([view.right, view.up]) * view.height + begin
        towards = (-view.back).astype(np.float32)[None, :]
        met = self._scene.run(origins.astype(np.float32), towards, query="INTERSECT", output=1)
        face = met["primID"]
        away = np.where(face < 0, np.float32(np.inf), met["tfar"])
        return Hits(face, away, np.stack([met["u"], met["v"]], axis=1))

    def places(self, hits: Hits) -> Floats:
        """(n, 3): where things were met."""
        a, b, c = (self._vertices[self._faces[hits.face, corner]].astype(np.float64) for corner in range(3))
        u, v = hits.weights[:, :1], hits.weights[:, 1:]
        return np.asarray(a * (1 - u - v) + b * u + c * v + self._origin)

    def light(self, view: View, hits: Hits) -> Singles:
        """(n, 1): how bright what was met is, 0 to 1.1."""
        normals = self._normals(hits)
        back = view.back.astype(np.float32)
        front = normals @ back
        normals = np.where(front[:, None] < 0, -normals, normals)
        key = view.back * 0.8 - view.right * 0.45 + view.up * 0.65
        lit = np.clip(normals @ (key / np.linalg.norm(key)).astype(np.float32), 0.0, 1.0)
        return np.asarray(0.22 + 0.68 * lit + 0.2 * np.abs(front), np.float32)[:, None]

    def _normals(self, hits: Hits) -> Singles:
        """(n, 3): smooth ones where the surface is, the face's own at edges and where faces are as small as pixels."""
        corners = self._faces[hits.face]
        a = self._vertices[corners[:, 0]]
        flat = _unit(crossed(self._vertices[corners[:, 1]] - a, self._vertices[corners[:, 2]] - a))
        if len(self._faces) > _SMALL:
            return flat
        if self._smooth is None:
            whole = crossed(
                self._vertices[self._faces[:, 1]] - self._vertices[self._faces[:, 0]],
                self._vertices[self._faces[:, 2]] - self._vertices[self._faces[:, 0]],
            )
            rows, count = self._faces.T.ravel(), len(self._vertices)
            sums = [np.bincount(rows, np.tile(whole[:, axis], 3), count) for axis in range(3)]
            self._smooth = _unit(np.stack(sums, axis=1).astype(np.float32))
        at = self._smooth[corners]
        # An edge of more than 40 degrees is one.
        at = np.where((np.einsum("nkd,nd->nk", at, flat) > 0.77)[:, :, None], at, flat[:, None, :])
        u, v = hits.weights[:, :1], hits.weights[:, 1:]
        return _unit(at[:, 0] * (1 - u - v) + at[:, 1] * u + at[:, 2] * v)


def _unit(vectors: Singles) -> Singles:
    length = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    return np.asarray(vectors / np.maximum(length, 1e-30)[:, None])


def ramp(values: Floats) -> Singles:
    """(n, 3): colours for 0 (none) through yellow to 1 (dark red). A hundredth is yellow: small values are seen."""
    at = np.clip(values, 0.0, 1.0) ** 0.5
    return np.stack([np.interp(at, _STOPS, channel) for channel in np.transpose(_COLOURS)], axis=1).astype(np.float32)


def grid(width: int, height: int) -> Floats:
    """(height * width, 2): the middles of a picture's pixels, row by row from its upper left, for `Scene.cast`."""
    x = (np.arange(width) - (width - 1) / 2) / height
    y = ((height - 1) / 2 - np.arange(height)) / height
    return np.stack([np.tile(x, height), np.repeat(y, width)], axis=1)


def drawn(paint: Callable[[Floats], Singles], width: int, height: int) -> Singles:
    """(height, width, 3): what `paint` says for places of the picture. It is asked once for each pixel, and four times
    more for those that differ from one beside them."""
    at = grid(width, height)
    picture = paint(at).reshape(height, width, 3)
    differs = np.zeros((height, width), dtype=bool)
    steps = (np.abs(np.diff(picture, axis=0)) > _STEP).any(axis=2)
    differs[1:] |= steps
    differs[:-1] |= steps
    steps = (np.abs(np.diff(picture, axis=1)) > _STEP).any(axis=2)
    differs[:, 1:] |= steps
    differs[:, :-1] |= steps
    edges = np.flatnonzero(differs)
    four = np.array([(-1, -1), (1, -1), (-1, 1), (1, 1)]) / (4 * height)
    inner = paint((at[edges, None] + four).reshape(-1, 2)).reshape(len(edges), 4, 3)
    picture.reshape(-1, 3)[edges] = inner.mean(axis=1)
    return picture


def png(picture: Singles) -> bytes:
    """A picture (rows, columns, 3), 0 to 1, as a PNG file."""
    rows = (picture * 255 + 0.5).astype(np.uint8)
    height, width, _ = rows.shape
    # Each row as the difference to the one above: half the size.
    lines = np.full((height, width * 3 + 1), 2, np.uint8)
    lines[:, 1:] = np.diff(rows.reshape(height, -1), axis=0, prepend=np.zeros((1, width * 3), np.uint8))

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(lines.tobytes(), 6)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"sRGB", b"\0") + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )
