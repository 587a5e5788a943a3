"""Pictures of triangles: rays cast on the processor, seen in parallel, no display and no graphics card."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from math import cos, radians, sin

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from numpy.typing import NDArray

from gitvault.formats.mesh.model import Floats, Ints, Mask

Singles = NDArray[np.float32]
Pixels = NDArray[np.uint8]

CLAY = (0.74, 0.74, 0.73)
_PAPER = 1.0
_STOPS = (0.0, 0.1, 0.35, 0.6, 0.8, 1.0)
_COLOURS = (CLAY, (1.0, 0.93, 0.55), (1.0, 0.72, 0.2), (0.95, 0.4, 0.12), (0.75, 0.07, 0.15), (0.42, 0.0, 0.2))
_ELEVATIONS = (25, 60, -25)
_AZIMUTHS = range(35, 395, 45)


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
    """What rays met, (rows, columns) each."""

    face: NDArray[np.int32]
    """-1 for nothing."""
    away: Singles
    """How far the ray went."""
    weights: Singles
    """(rows, columns, 2): of the face's second and third corner."""


def views(up: str) -> list[View]:
    """Where one may look from, the usual view first; framed by `framed`."""
    found = []
    for elevation in _ELEVATIONS:
        for azimuth in _AZIMUTHS:
            e, a = radians(elevation), radians(azimuth)
            # With y up the front looks along z, with z up against y.
            back = np.array([cos(e) * sin(a), sin(e), cos(e) * cos(a)])
            above = np.array([0.0, 1.0, 0.0])
            if up == "z":
                back, above = back[[0, 2, 1]] * (1, -1, 1), above[[0, 2, 1]]
            right = np.cross(above, back)
            right /= np.linalg.norm(right)
            found.append(View(right, np.cross(back, right), back, np.zeros(3), 1.0, 1.0))
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

    def cast(self, view: View, width: int, height: int) -> Hits:
        """A ray through the middle of each pixel."""
        nothing = np.full((height, width), -1, dtype=np.int32)
        if not len(self._faces):
            return Hits(nothing, np.full((height, width), np.inf, np.float32), np.zeros((height, width, 2), np.float32))
        step = view.height / height
        x = ((np.arange(width) - (width - 1) / 2) * step)[None, :, None] * view.right
        y = (((height - 1) / 2 - np.arange(height)) * step)[:, None, None] * view.up
        origins = (view.centre - self._origin + view.back * 2 * view.depth + x + y).astype(np.float32).reshape(-1, 3)
        met = self._scene.run(origins, (-view.back).astype(np.float32)[None, :], query="INTERSECT", output=1)
        face = met["primID"].reshape(height, width)
        away = np.where(face < 0, np.inf, met["tfar"].reshape(height, width))
        weights = np.stack([met["u"], met["v"]], axis=1).reshape(height, width, 2)
        return Hits(face, away.astype(np.float32), weights)

    def places(self, face: NDArray[np.int32], weights: Singles) -> Floats:
        """Where on faces (n,) hits are, (n, 3)."""
        corners = self._vertices[self._faces[face]].astype(np.float64)
        u, v = weights[:, :1], weights[:, 1:]
        return np.asarray(corners[:, 0] * (1 - u - v) + corners[:, 1] * u + corners[:, 2] * v + self._origin)

    def light(self, view: View, hits: Hits) -> Singles:
        """(rows, columns): how bright what was met is, 0 to 1.2; paper is 1."""
        is_hit = hits.face >= 0
        normals = self._normals(hits.face[is_hit], hits.weights[is_hit])
        normals *= np.sign(normals @ view.back.astype(np.float32))[:, None]
        key = view.back * 0.8 - view.right * 0.45 + view.up * 0.65
        key /= np.linalg.norm(key)
        front = np.clip(normals @ view.back.astype(np.float32), 0.0, 1.0)
        lit = np.clip(normals @ key.astype(np.float32), 0.0, 1.0)
        bright = np.full(hits.face.shape, _PAPER, np.float32)
        bright[is_hit] = 0.22 + 0.68 * lit + 0.2 * front
        return bright

    def _normals(self, face: NDArray[np.int32], weights: Singles) -> Singles:
        """(n, 3): smooth ones where the surface is, the face's own at edges."""
        if self._smooth is None:
            corners = self._vertices[self._faces]
            flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
            total = np.stack(
                [
                    sum(np.bincount(self._faces[:, k], flat[:, axis], len(self._vertices)) for k in range(3))
                    for axis in range(3)
                ],
                axis=1,
            )
            self._smooth = _unit(total.astype(np.float32))
        corners = self._vertices[self._faces[face]]
        flat = _unit(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))
        at = self._smooth[self._faces[face]]
        # An edge of more than 40 degrees is one.
        at = np.where((np.einsum("nkd,nd->nk", at, flat) > 0.77)[:, :, None], at, flat[:, None, :])
        u, v = weights[:, :1], weights[:, 1:]
        return _unit(at[:, 0] * (1 - u - v) + at[:, 1] * u + at[:, 2] * v)


def _unit(vectors: Singles) -> Singles:
    length = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    return np.asarray(vectors / np.maximum(length, 1e-30)[:, None])


def ramp(values: Floats) -> Singles:
    """(n, 3): colours for 0 (none) through yellow to 1 (dark red). A hundredth is yellow: small values are seen."""
    at = np.clip(values, 0.0, 1.0) ** 0.5
    return np.stack([np.interp(at, _STOPS, channel) for channel in np.transpose(_COLOURS)], axis=1).astype(np.float32)


def painted(bright: Singles, colours: Singles, is_hit: Mask) -> Singles:
    """(rows, columns, 3): colours in that light, on paper."""
    picture = np.where(is_hit[:, :, None], colours * bright[:, :, None], np.float32(_PAPER))
    return np.asarray(np.clip(picture, 0.0, 1.0), dtype=np.float32)


def halved(picture: Singles) -> Singles:
    """Of four pixels one: what was drawn at twice the size has smooth edges then."""
    return np.asarray((picture[::2, ::2] + picture[1::2, ::2] + picture[::2, 1::2] + picture[1::2, 1::2]) / 4)


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
