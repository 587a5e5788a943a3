"""Figures of a surface."""

from __future__ import annotations

import numpy as np

from gitvault.formats.mesh.model import Floats, Ints, doubled_areas, merged, used


def measures(vertices: Floats, faces: Ints) -> dict[str, object]:
    """Area, volume (what closed surfaces enclose; of open ones it says little), bounds as [lowest, highest], and
    topology: shells, edges with one face (`open_edges`) and with more than two, Euler's number; `closed` when each edge
    has two faces."""
    normals = doubled_areas(vertices, faces)
    # The sum of the tetrahedra over a point in the middle.
    middle = vertices.mean(axis=0) if len(vertices) else np.zeros(3)
    volume = float(np.einsum("nd,nd->", vertices[faces[:, 0]] - middle, normals)) / 6
    area = float(np.sqrt(np.einsum("nd,nd->n", normals, normals)).sum()) / 2
    bounds = [vertices.min(axis=0).tolist(), vertices.max(axis=0).tolist()] if len(vertices) else None
    return {"area": area, "volume": abs(volume), "bounds": bounds, "topology": _topology(vertices, faces)}


def _topology(vertices: Floats, faces: Ints) -> dict[str, object]:
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    places, which = merged(vertices)
    count = len(places)
    joined = which[faces]
    first, second = joined.T.ravel(), np.roll(joined, -1, axis=1).T.ravel()
    codes = np.sort(np.minimum(first, second) * count + np.maximum(first, second))
    begins = np.flatnonzero(np.diff(codes, prepend=-1))
    faces_on = np.diff(begins, append=len(codes))
    # In order already: what would sort it once more is left out.
    low, high = np.divmod(codes[begins], max(count, 1))
    rows = np.searchsorted(low, np.arange(count + 1))
    graph = csr_array((np.ones(len(low), dtype=np.int8), high, rows), shape=(count, count))
    shells = connected_components(graph, directed=False, return_labels=False) if count else 0
    corners = int(used(count, joined).sum())
    open_edges, crowded = int((faces_on == 1).sum()), int((faces_on > 2).sum())
    return {
        "shells": int(shells) - (count - corners),
        "open_edges": open_edges,
        "crowded_edges": crowded,
        "euler": corners - len(begins) + len(faces),
        "closed": len(faces) > 0 and not open_edges and not crowded,
    }
