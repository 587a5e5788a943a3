"""Figures of a surface."""

from __future__ import annotations

import numpy as np

from gitvault.formats.mesh.model import Floats, Ints, merged


def measures(vertices: Floats, faces: Ints) -> dict[str, object]:
    """Area, volume (what closed surfaces enclose; of open ones it says little), bounds as [lowest, highest], and
    topology: shells, edges with one face (`open_edges`) and with more than two, Euler's number; `closed` when each edge
    has two faces."""
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    # The sum of the tetrahedra over a point in the middle.
    middle = vertices.mean(axis=0) if len(vertices) else np.zeros(3)
    volume = float(np.einsum("nd,nd->", corners[:, 0] - middle, normals)) / 6
    area = float(np.sqrt(np.einsum("nd,nd->n", normals, normals)).sum()) / 2
    bounds = [vertices.min(axis=0).tolist(), vertices.max(axis=0).tolist()] if len(vertices) else None
    return {"area": area, "volume": abs(volume), "bounds": bounds, "topology": _topology(vertices, faces)}


def _topology(vertices: Floats, faces: Ints) -> dict[str, object]:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    places, which = merged(vertices)
    joined = which[faces] if len(faces) else faces
    pairs = np.sort(np.concatenate([joined[:, [0, 1]], joined[:, [1, 2]], joined[:, [2, 0]]]), axis=1)
    codes, counts = np.unique(pairs[:, 0] * len(places) + pairs[:, 1], return_counts=True)
    first, second = np.divmod(codes, max(len(places), 1))
    is_used = np.zeros(len(places), dtype=bool)
    is_used[joined] = True
    graph = coo_array((np.ones(len(codes), dtype=np.int8), (first, second)), shape=(len(places), len(places)))
    shells = connected_components(graph, directed=False, return_labels=False) if len(places) else 0
    open_edges, crowded = int((counts == 1).sum()), int((counts > 2).sum())
    return {
        "shells": int(shells) - int((~is_used).sum()),
        "open_edges": open_edges,
        "crowded_edges": crowded,
        "euler": int(is_used.sum()) - len(codes) + len(faces),
        "closed": len(faces) > 0 and not open_edges and not crowded,
    }
