"""What gitvault writes opens in Blender, and only what was restored is another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gitvault.core.utils.process import run
from gitvault.formats.elements import element_changes
from gitvault.formats.scene.blend_splice import extract, splice
from gitvault.formats.scene.datablocks import INTERFACE, elements
from gitvault.formats.witness.blend import witness
from gitvault.personas.creative.elements import restore_element

pytestmark = [pytest.mark.deep, pytest.mark.needs("blender")]

MAKE = """
import bpy, sys
folder = sys.argv[-1]
bpy.ops.wm.read_factory_settings()
C, D = bpy.context, bpy.data
props = D.collections.new("Props")
C.scene.collection.children.link(props)
inner = D.collections.new("Inner")
props.children.link(inner)
cube = D.objects["Cube"]
cube.shape_key_add(name="Basis")
cube.shape_key_add(name="High").data[0].co.z += 1
cube.modifiers.new("Bevel", "BEVEL")
cube.vertex_groups.new(name="Top").add([0, 1], 0.5, "ADD")
cube["made"] = {"by": "hand", "list": [1, 2, 3]}
cube.keyframe_insert("location", frame=1)
bpy.ops.object.armature_add()
rig = C.object
bpy.ops.mesh.primitive_monkey_add(location=(3, 0, 0))
monkey = C.object
monkey.parent = rig
inner.objects.link(monkey)
glass = D.materials.new("Glass")
glass.use_nodes = True
image = D.images.new("Rust", 8, 8)
image.pack()
node = glass.node_tree.nodes.new("ShaderNodeTexImage")
node.image = image
glass.node_tree.links.new(node.outputs[0], glass.node_tree.nodes["Principled BSDF"].inputs[0])
monkey.data.materials.append(glass)
bpy.ops.object.text_add()
bpy.ops.curve.primitive_bezier_circle_add()
D.texts.new("Notes").write("first\\nsecond")
group = D.node_groups.new("Glow", "ShaderNodeTree")
group.use_fake_user = True
bpy.ops.wm.save_as_mainfile(filepath=folder + "/v1.blend")
cube.location.x = 7
cube.active_shape_key_index = 1
cube.data.shape_keys.key_blocks["High"].value = 0.5
glass.node_tree.nodes["Principled BSDF"].inputs["Roughness"].default_value = 0.9
D.objects.remove(monkey)
D.collections.remove(inner)
D.lights["Light"].energy = 5
bpy.ops.mesh.primitive_torus_add()
bpy.ops.wm.save_as_mainfile(filepath=folder + "/v2.blend", compress=True)
"""
LOOK = """
import bpy, glob, json, sys
folder = sys.argv[-1]
for path in sorted(glob.glob(folder + "/out-*.blend")):
    bpy.ops.wm.open_mainfile(filepath=path)
    D = bpy.data
    bpy.context.view_layer.update()
    found = {"objects": {o.name: [list(o.location), [c.name for c in o.users_collection]] for o in D.objects}}
    found["glass"] = [n.inputs["Roughness"].default_value for m in D.materials if m.name == "Glass"
                      for n in m.node_tree.nodes if n.type == "BSDF_PRINCIPLED"]
    found["light"] = [light.energy for light in D.lights]
    found["keys"] = {m.name: [k.name for k in m.shape_keys.key_blocks] for m in D.meshes if m.shape_keys}
    found["faces"] = {m.name: len(m.polygons) for m in D.meshes}
    json.dump(found, open(path[:-6] + ".json", "w"))
    bpy.ops.wm.save_as_mainfile(filepath=path.replace("out-", "again-"))
"""


def blender(folder: Path, script: str) -> None:
    (folder / "script.py").write_text(script)
    options = ["--background", "--factory-startup", "--python-exit-code", "3", "--python"]
    run(["blender", *options, folder / "script.py", "--", folder], timeout=300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blender")
    blender(folder, MAKE)
    return folder


def no_vault() -> object:
    raise AssertionError("no vault is needed")


def test_what_changed_is_told_by_name(folder: Path) -> None:
    found = element_changes(folder / "v1.blend", folder / "v2.blend", without=INTERFACE)
    assert set(found["elements_added"]) == {"Torus"}
    assert set(found["elements_removed"]) == {"Suzanne", "Inner"}
    assert {"Cube", "Glass", "Light"} <= set(found["elements_changed"])
    assert not {"Camera", "Notes", "Rust", "Armature", "World", "Glow"} & set(found["elements_changed"])


def test_every_datablock_is_restored_and_the_files_open_in_blender(folder: Path) -> None:
    old, new = folder / "v1.blend", folder / "v2.blend"
    kinds = ("object", "mesh", "material", "light", "text", "curve", "armature", "image", "action", "node group")
    wanted = [element.id for element in elements(old) if element.kind in kinds]
    wanted += ["collection/Inner"]
    assert len(wanted) >= 14
    for number, element in enumerate(wanted):
        output = folder / f"out-{number:02}.blend"
        if element == "collection/Inner":
            splice(old, element, new, output)
        else:
            assert restore_element(element, str(old), str(new), output, no_vault).proof  # type: ignore[arg-type]
    extract(old, "object/Suzanne", folder / "out-99.blend")
    blender(folder, LOOK)
    seen = {
        element: json.loads((folder / f"out-{number:02}.json").read_text()) for number, element in enumerate(wanted)
    }
    assert all(len(found["objects"]) >= 6 for found in seen.values())
    assert seen["material/Glass"]["glass"] == [0.5]
    assert seen["light/Light"]["light"] == [1000.0]
    assert seen["object/Suzanne"]["objects"]["Suzanne"][1]
    assert seen["collection/Inner"]["objects"]["Suzanne"] == [[3.0, 0.0, 0.0], ["Collection", "Inner"]]
    assert seen["mesh/Cube"]["keys"] == {"Cube": ["Basis", "High"]}
    assert json.loads((folder / "out-99.json").read_text())["faces"] == {"Suzanne": 500}
    # What Blender writes of it is what was put there.
    for number, element in enumerate(wanted):
        changed = element_changes(
            folder / f"out-{number:02}.blend", folder / f"again-{number:02}.blend", without=INTERFACE
        )
        # It drops what nobody uses.
        assert set(changed["elements_removed"]) <= {"Glass", "Rust", "Suzanne"}, element


def test_saving_anew_changes_windows_at_most(folder: Path) -> None:
    script = "import bpy, sys; bpy.ops.wm.open_mainfile(filepath=sys.argv[-1] + '/v1.blend'); "
    script += "bpy.ops.wm.save_as_mainfile(filepath=sys.argv[-1] + '/same.blend')"
    blender(folder, script)
    nothing = {"elements_added": [], "elements_removed": [], "elements_changed": []}
    assert element_changes(folder / "v1.blend", folder / "same.blend", without=INTERFACE) == nothing
    windows = tuple(kind + "/" for kind in INTERFACE)
    then, now = witness(folder / "v1.blend"), witness(folder / "same.blend")
    assert {key for key in then if then[key] != now[key] and not key.startswith(windows)} == set()
