"""What was relocated or restored opens in the real applications, with everything it names."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from gitvault.formats.fbx import tree
from gitvault.formats.references.fbx import packed_in, references
from gitvault.personas.creative import CreativeVault
from gitvault.vault import Vault

MAKE = """
import bpy, os
top = os.environ["TOP"]
image = bpy.data.images.new("bark", 8, 8)
image.filepath_raw, image.file_format = f"{top}/lib/tex/bark.png", "PNG"
image.save()
material = bpy.data.materials.new("wood")
material.use_nodes = True
node = material.node_tree.nodes.new("ShaderNodeTexImage")
node.image = bpy.data.images.load(f"{top}/lib/tex/bark.png")
mesh = bpy.data.meshes.new("tree")
mesh.materials.append(material)
bpy.context.scene.collection.objects.link(bpy.data.objects.new("tree", mesh))
bpy.ops.wm.save_as_mainfile(filepath=f"{top}/lib/tree.blend", compress=True)
bpy.ops.wm.read_homefile(use_empty=True)
with bpy.data.libraries.load(f"{top}/lib/tree.blend", link=True) as (there, here):
    here.objects = ["tree"]
bpy.context.scene.collection.objects.link(bpy.data.objects["tree"])
absolute = bpy.data.images.load(f"{top}/lib/tex/bark.png")
absolute.name, absolute.use_fake_user = "absolute", True
bpy.ops.wm.save_as_mainfile(filepath=f"{top}/forest/scene.blend", compress=True, relative_remap=False)
"""
LOOK = """
import bpy, json, os
images = {image.name: bpy.path.abspath(image.filepath, library=image.library) for image in bpy.data.images}
loaded = {image.name: list(image.size) for image in bpy.data.images}
libraries = [bpy.path.abspath(library.filepath) for library in bpy.data.libraries]
print("SEEN" + json.dumps([images, loaded, libraries, sorted(bpy.data.objects.keys())]))
"""


def blender(*words: str, script: Path, **env: str) -> str:
    command = ["blender", "--background", "--factory-startup", *words, "--python", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True, env={**os.environ, **env})
    return done.stdout


@pytest.mark.deep
@pytest.mark.needs("blender")
def test_a_scene_restored_elsewhere_opens_in_blender_with_its_libraries(tmp_path: Path, vault: Vault) -> None:
    top = tmp_path / "disk"
    (top / "forest").mkdir(parents=True)
    (top / "lib" / "tex").mkdir(parents=True)
    (tmp_path / "make.py").write_text(MAKE)
    (tmp_path / "look.py").write_text(LOOK)
    blender(script=tmp_path / "make.py", TOP=str(top))
    with CreativeVault("forest", top / "forest", vault=vault.path) as forest:
        saved = forest.backup_with_links().snapshot
        os.rename(top, tmp_path / "gone")
        restored = tmp_path / "restored"
        assert forest.restore(saved, restored).problems == ()
    said = blender(str(restored / "scene.blend"), script=tmp_path / "look.py")
    images, loaded, libraries, objects = json.loads(said.partition("SEEN")[2].splitlines()[0])
    assert objects == ["tree"]
    assert {name: loaded[name] for name in ("absolute", "bark.png")} == {"absolute": [8, 8], "bark.png": [8, 8]}
    for path in (*images.values(), *libraries):
        assert path.startswith(str(restored))
        assert os.path.exists(path)


@pytest.mark.deep
@pytest.mark.needs("inkscape")
def test_a_relocated_drawing_looks_the_same_in_inkscape(tmp_path: Path, vault: Vault) -> None:
    from PIL import Image

    (tmp_path / "art" / "old tex").mkdir(parents=True)
    Image.new("RGB", (16, 16), (200, 30, 30)).save(tmp_path / "art" / "old tex" / "re & d.png")
    drawing = tmp_path / "art" / "d.svg"
    drawing.write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="32" height="32">'
        '<image xlink:href="old%20tex/re%20&amp;%20d.png" x="8" y="8" width="16" height="16"/></svg>'
    )

    def shown(name: str) -> bytes:
        out = tmp_path / f"{name}.png"
        words = ["inkscape", "--export-type=png", f"--export-filename={out}", str(drawing)]
        subprocess.run(words, capture_output=True, timeout=200, check=True)
        return Image.open(out).convert("RGB").tobytes()

    before = shown("before")
    assert bytes((200, 30, 30)) in before
    with CreativeVault("art", tmp_path / "art", vault=vault.path) as art:
        art.relocate(tmp_path / "art" / "old tex", tmp_path / "art" / "new (tex) #2", in_place=True)
    assert "new%20%28tex%29%20%232/re%20&amp;%20d.png" in drawing.read_text()
    assert shown("after") == before


WOOD = """
import bpy, os
top, bark = os.environ["TOP"], os.environ["BARK"]
image = bpy.data.images.new("bark", 8, 8)
image.filepath_raw, image.file_format = bark, "PNG"
image.save()
material = bpy.data.materials.new("wood")
material.use_nodes = True
node = material.node_tree.nodes.new("ShaderNodeTexImage")
node.image = bpy.data.images.load(bark)
principled = material.node_tree.nodes["Principled BSDF"]
material.node_tree.links.new(node.outputs["Color"], principled.inputs["Base Color"])
"""
MAKE_FBX = (
    WOOD
    + """
bpy.context.object.data.materials.clear()
bpy.context.object.data.materials.append(material)
bpy.ops.export_scene.fbx(filepath=f"{top}/tree.fbx", path_mode="RELATIVE")
"""
)
LOOK_FBX = """
import bpy, json, os
bpy.ops.wm.read_homefile(use_empty=True)
bpy.ops.import_scene.fbx(filepath=os.environ["TOP"] + "/tree.fbx")
images = [[os.path.realpath(bpy.path.abspath(image.filepath)), list(image.size)] for image in bpy.data.images]
meshes = sorted((mesh.name, len(mesh.vertices)) for mesh in bpy.data.meshes)
print("SEEN" + json.dumps([images, meshes]))
"""


@pytest.mark.deep
@pytest.mark.needs("blender")
def test_an_fbx_scene_of_blender_opens_with_the_texture_where_it_is_now(tmp_path: Path, vault: Vault) -> None:
    top = tmp_path / "art"
    (top / "tex").mkdir(parents=True)
    (tmp_path / "make.py").write_text(MAKE_FBX)
    (tmp_path / "look.py").write_text(LOOK_FBX)
    blender(script=tmp_path / "make.py", TOP=str(top), BARK=str(top / "tex" / "bark.png"))
    before = (top / "tree.fbx").read_bytes()
    with CreativeVault("forest", top, vault=vault.path) as forest:
        done = forest.relocate(top / "tex" / "bark.png", top / "library of all" / "bark 2.png", in_place=True)
    assert [rewritten.references for rewritten in done.rewritten] == [before.count(b"tex/bark.png")]
    said = blender(script=tmp_path / "look.py", TOP=str(top))
    images, meshes = json.loads(said.partition("SEEN")[2].splitlines()[0])
    assert images == [[str(top / "library of all" / "bark 2.png"), [8, 8]]]
    assert meshes == [["Cube", 24]] or meshes == [["Cube", 8]]


EXPORT = (
    WOOD
    + """
bpy.ops.mesh.primitive_cube_add()
bpy.context.object.data.materials.append(material)
for name, embed in (("held", True), ("beside", False)):
    bpy.ops.export_scene.fbx(filepath=f"{top}/{name}.fbx", path_mode="COPY", embed_textures=embed)
"""
)


@pytest.mark.deep
@pytest.mark.needs("blender")
def test_textures_that_blender_embeds_in_fbx_are_not_missing(tmp_path: Path) -> None:
    (tmp_path / "export.py").write_text(EXPORT)
    blender(script=tmp_path / "export.py", TOP=str(tmp_path), BARK=str(tmp_path / "bark.png"))
    held, beside = (tmp_path / f"{name}.fbx" for name in ("held", "beside"))
    assert references(held) == []
    assert {Path(one.target).name for one in references(beside)} == {"bark.png"}
    assert list(packed_in(tree(held)).values()) == [(tmp_path / "bark.png").read_bytes()]
