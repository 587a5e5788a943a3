"""Models that Blender saved and exported: what was done there is what is told here."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitvault.core.utils.process import run
from gitvault.formats import format_of

SCENE = """
import bpy, os, sys
bpy.ops.wm.read_factory_settings(use_empty=True)
def called(name):
    bpy.context.object.name = name
bpy.ops.mesh.primitive_monkey_add(size=2, location=(0, 0, 1)); called("Suzanne")
head = bpy.context.object
bpy.ops.mesh.primitive_plane_add(size=6); called("Floor")
bpy.ops.mesh.primitive_cylinder_add(radius=0.4, depth=1, location=(2, 1, 0.5)); called("Post")
head.data.materials.append(bpy.data.materials.new("Fur"))
def save(folder):
    path = os.path.join(sys.argv[-1], folder, "scene")
    os.makedirs(os.path.dirname(path))
    bpy.ops.wm.save_as_mainfile(filepath=path + ".blend", copy=True)
    bpy.ops.export_scene.fbx(filepath=path + ".fbx")
    bpy.ops.export_scene.gltf(filepath=path + ".glb")
    bpy.ops.wm.obj_export(filepath=path + ".obj")
save("before")
for vertex in head.data.vertices:
    if vertex.co.z > 0.6:
        vertex.co.z += 0.3
bpy.data.objects["Post"].name = "Pillar"
bpy.ops.mesh.primitive_torus_add(major_radius=0.5, minor_radius=0.2, location=(-2, -1, 0.3)); called("Ring")
save("after")
"""


@pytest.mark.deep
@pytest.mark.needs("blender")
def test_a_scene_that_was_worked_on_in_blender(tmp_path: Path) -> None:
    script = tmp_path / "scene.py"
    script.write_text(SCENE)
    run(["blender", "-b", "--factory-startup", "--python-exit-code", "3", "--python", str(script), "--", str(tmp_path)])
    # The exporter of FBX writes centimetres; the ring's far side is half a metre from what was there.
    for kind, unit in ((".blend", 1), (".fbx", 100), (".glb", 1), (".obj", 1)):
        before, after = (tmp_path / side / f"scene{kind}" for side in ("before", "after"))
        known = format_of(after)
        assert known and known.compare
        found = known.compare(before, after, tmp_path / kind)
        stats = found.stats
        assert (stats["parts_added"], stats["parts_removed"], stats["parts_renamed"]) == (["Ring"], [], ["Pillar"])
        assert stats["changes"] == {"Suzanne": ["shape"]}
        assert stats["distances"]["Suzanne"] == pytest.approx(0.3 * unit, rel=0.2)
        assert list(found.pictures) == ["before", "after", "difference"]
