"""Which part of one version is which of the other, and what of it changed. Names first, then content."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gitvault.formats.mesh.model import Keys, Model, Part, among, face_keys, merged, row_keys, summed

ALIKE = 0.5
"""Parts of two names are one that was renamed when so many of their faces are the same."""
_TRIES = 2000
"""So many pairs are looked at for that: of two scenes that share nothing, parts are added and removed."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A part in both versions, by its number there."""

    before: int
    after: int
    changes: tuple[str, ...]
    """`topology`, or `shape` where only vertices moved; `place`, `uv`, `normals`, `colours`, `material` ..."""


@dataclass(frozen=True, slots=True)
class Matching:
    """All parts of two versions."""

    pairs: tuple[Pair, ...]
    added: tuple[int, ...]
    removed: tuple[int, ...]


def match(before: Model, after: Model) -> Matching:
    """What became of each part."""
    old, new = [_Content(part) for part in before.parts], [_Content(part) for part in after.parts]
    by_name = {part.name: number for number, part in enumerate(before.parts)}
    found = [(by_name.pop(part.name), n) for n, part in enumerate(after.parts) if part.name in by_name]
    removed = sorted(set(range(len(old))) - {a for a, _ in found})
    added = sorted(set(range(len(new))) - {b for _, b in found})
    for key in (_in_place, _shape):
        waiting: dict[object, list[int]] = {}
        for a in reversed(removed):
            waiting.setdefault(key(old[a]), []).append(a)
        for b in list(added):
            if waiting.get(key(new[b])) and len(new[b].faces):
                found.append((a := waiting[key(new[b])].pop(), b))
                removed.remove(a)
                added.remove(b)
    tries = 0
    for b in list(added):
        for a in removed:
            tries += 1
            if tries <= _TRIES and _is_alike(old[a], new[b]):
                found.append((a, b))
                removed.remove(a)
                added.remove(b)
                break
    pairs = [Pair(a, b, _changes(old[a], new[b], before, after)) for a, b in sorted(found, key=lambda pair: pair[1])]
    return Matching(tuple(pairs), tuple(added), tuple(removed))


class _Content:
    """A part with the keys of its content, made when asked for."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self._faces: Keys | None = None

    @property
    def faces(self) -> Keys:
        if self._faces is None:
            points = row_keys(self.part.vertices)
            # A cloud of points has its points for faces.
            self._faces = face_keys(points, self.part.faces) if len(self.part.faces) else points
            self._faces.sort()
        return self._faces


def _shape(part: _Content) -> object:
    return len(part.faces), summed(part.faces)


def _in_place(part: _Content) -> object:
    return _shape(part), part.part.matrix.tobytes()


def _is_alike(old: _Content, new: _Content) -> bool:
    few, many = sorted((len(old.faces), len(new.faces)))
    if not few or few < ALIKE * many:
        return False
    if int(among(new.faces, old.faces).sum()) >= ALIKE * many:
        return True
    return _is_same_net(old.part, new.part) and _is_rigid(old.part, new.part)


def _changes(old: _Content, new: _Content, before: Model, after: Model) -> tuple[str, ...]:
    a, b = old.part, new.part
    changes = []
    if not np.array_equal(old.faces, new.faces):
        changes.append("topology" if not _is_same_net(a, b) else "place" if _is_rigid(a, b) else "shape")
    if not np.array_equal(a.matrix, b.matrix) and "place" not in changes:
        changes.append("place")
    # What lies on the surface is known by where, so it differs wherever the surface does.
    if not changes or (changes == ["place"] and np.array_equal(old.faces, new.faces)):
        names = sorted(a.attributes.keys() | b.attributes.keys())
        changes += [name for name in names if a.attributes.get(name) != b.attributes.get(name)]
    else:
        changes += sorted(a.attributes.keys() ^ b.attributes.keys())
    if a.materials != b.materials or any(
        before.materials.get(name) != after.materials.get(name) for name in a.materials
    ):
        changes.append("material")
    return tuple(changes)


def _is_same_net(before: Part, after: Part) -> bool:
    """Whether the same vertices are joined to faces. Writers split vertices where normals differ, so places count."""
    if len(before.faces) != len(after.faces):
        return False
    if len(before.vertices) == len(after.vertices) and np.array_equal(before.faces, after.faces):
        return True
    (a, at_a), (b, at_b) = merged(before.vertices), merged(after.vertices)
    return len(a) == len(b) and np.array_equal(at_a[before.faces], at_b[after.faces])


def _is_rigid(old: Part, new: Part) -> bool:
    """Whether one is the other, moved and turned as a whole, to a millionth of its size."""
    if len(old.vertices) != len(new.vertices):
        return False
    before, after = old.vertices, new.vertices
    a, b = before - before.mean(axis=0), after - after.mean(axis=0)
    size = float(np.abs(a).max(initial=0.0))
    if not size:
        return False
    # Kabsch: the turn that fits best.
    u, _, v = np.linalg.svd(a.T @ b)
    turn = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ v))]) @ v
    return bool(np.abs(a @ turn - b).max() <= 2e-6 * max(size, float(np.abs(after).max())))
