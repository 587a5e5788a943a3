"""What changed between two versions of a scene, by name."""

from __future__ import annotations

from pathlib import Path

from gitvault.formats import elements
from gitvault.formats.scene.datablocks import INTERFACE


def element_changes(before: Path, after: Path) -> dict[str, list[str]]:
    """`elements_added`, `elements_removed`, `elements_changed`: names.

    Without windows and their layout, which change whenever a Blender file is saved. Raises UnsupportedMedia, OSError.
    """
    return elements.element_changes(before, after, without=INTERFACE)
