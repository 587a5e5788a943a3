"""What files refer to: listed, checked, followed; put right when files move; exported."""

from __future__ import annotations

import csv
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import reference_files as made

from gitvault.errors import ExistsError, NotFoundError, UnsupportedMedia
from gitvault.personas.creative import CreativeVault, exchange, references, relocation
from gitvault.personas.creative.references import HINT, Duplicate, Graph, Library, Link
from gitvault.vault import Vault

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(
    tmp_path: Path, vault: Vault, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Runs git-vault on `vault`, in this process and with files read in it, in the folder of the test."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: made.run_here(vault.path, words, capsys)


@pytest.fixture(autouse=True)
def read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are read in this process."""
    for module in (references, relocation, exchange):
        monkeypatch.setattr(module, "Confined", made.InProcess)


@pytest.fixture
def art(tmp_path: Path) -> Path:
    """A project, and a library beside it that it uses in relative and absolute names."""
    files: dict[str, bytes] = {
        "lib/tex/bark.png": b"bark" * 100,
        "lib/tex/leaf 1.png": b"leaf",
        "lib/tex/rock.1001.png": b"rock one",
        "lib/tex/rock.1002.png": b"rock two",
        "lib/tree.mtl": b"newmtl a\nmap_Kd tex/bark.png\nmap_Ks tex/rock.<UDIM>.png\n",
        "lib/tree.obj": b"mtllib tree.mtl\no t\nv 0 0 0\n",
        "forest/own.png": b"own",
        "forest/bark copy.png": b"bark" * 100,
        "forest/scenes/s.gltf": b'{"asset":{"version":"2.0"},"images":[{"uri":"../../lib/tex/leaf%201.png"},'
        b'{"uri":"../own.png"},{"uri":"../bark%20copy.png"}]}',
        "forest/scenes/m.ma": b'//Maya ASCII 2020 scene\nfile -r -ns "t" -typ "OBJ" "%s/lib/tree.obj";\n'
        % os.fsencode(tmp_path),
        "forest/a.usda": b'#usda 1.0\ndef "x" ( references = @./b.usda@ ) {}\n',
        "forest/b.usda": b'#usda 1.0\ndef "x" ( references = @./a.usda@ ) {}\n',
    }
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "forest"


def shown(art: Path, paths: list[str]) -> list[str]:
    return sorted(os.path.relpath(path, art) for path in paths)


def test_a_list_says_of_each_reference_where_it_leads(art: Path, command: Command) -> None:
    listed = json.loads(command("refs", "list", art / "scenes" / "s.gltf", "--json").stdout)
    assert listed[0] == {
        "source": str(art / "scenes" / "s.gltf"),
        "element": "images/0",
        "target": "../../lib/tex/leaf%201.png",
        "kind": "image",
        "resolved": str(art.parent / "lib" / "tex" / "leaf 1.png"),
        "exists": True,
    }
    everything = json.loads(command("refs", "list", art, "--json").stdout)
    assert len(everything) == 6
    assert "forest/a.usda  " in command("refs", "list", art).stdout


def test_a_check_follows_all_links_and_ends_with_1_when_one_leads_nowhere(art: Path, command: Command) -> None:
    assert command("refs", "check", art).returncode == 0
    (art.parent / "lib" / "tex" / "bark.png").unlink()
    done = command("refs", "check", art / "scenes" / "m.ma", "--json")
    assert done.returncode == 1
    [missing] = json.loads(done.stdout)
    assert (missing["target"], missing["exists"]) == ("tex/bark.png", False)
    assert "tree.mtl: image tex/bark.png is missing" in command("refs", "check", art).stdout


def test_all_projects_are_meant_when_nothing_is_named(art: Path, command: Command, vault: Vault) -> None:
    assert json.loads(command("refs", "list", "--json").stdout) == []
    vault.add_project(art)
    assert len(json.loads(command("refs", "list", "--json").stdout)) == 6


def test_a_graph_tells_users_circles_copies_and_what_sharing_saves(art: Path, command: Command) -> None:
    graph = json.loads(command("refs", "graph", art, "--json").stdout)
    files = {os.path.relpath(one["path"], art): one for one in graph["files"]}
    assert shown(art, files["../lib/tree.mtl"]["needs"]) == [
        "../lib/tex/bark.png",
        "../lib/tex/rock.1001.png",
        "../lib/tex/rock.1002.png",
    ]
    assert shown(art, files["own.png"]["used_by"]) == ["scenes/s.gltf"]
    assert [shown(art, circle) for circle in graph["cycles"]] == [["a.usda", "b.usda"]]
    assert [shown(art, group["files"]) for group in graph["duplicates"]] == [["../lib/tex/bark.png", "bark copy.png"]]
    assert graph["bytes_duplicated"] == 400
    assert graph["bytes_shared"] == 0
    text = command("refs", "graph", art).stdout
    assert "a circle: " in text
    other = art.parent / "other"
    other.mkdir()
    (other / "n.obj").write_bytes(b"mtllib ../lib/tree.mtl\nv 0 0 0\n")
    shared = json.loads(command("refs", "graph", art, other, "--json").stdout)["bytes_shared"]
    library = [
        art.parent / "lib" / name for name in ("tree.mtl", "tex/bark.png", "tex/rock.1001.png", "tex/rock.1002.png")
    ]
    assert shared == sum(path.stat().st_size for path in library)
    asset = command("refs", "graph", art, "--asset", art.parent / "lib" / "tex" / "bark.png", "--json")
    assert shown(art, json.loads(asset.stdout)["used_by"]) == ["../lib/tree.mtl", "../lib/tree.obj", "scenes/m.ma"]
    asset = command("refs", "graph", art, "--asset", art / "scenes" / "m.ma")
    assert "needs\n" in asset.stdout
    assert "used by nothing" in asset.stdout


def test_a_moved_asset_is_found_by_copies_of_what_refers_to_it(art: Path, command: Command) -> None:
    before = {path: path.read_bytes() for path in art.parent.rglob("*") if path.is_file()}
    lib = art.parent / "lib"
    done = json.loads(command("refs", "relocate", lib, art.parent / "assets" / "shared", "--json").stdout)
    assert done["moved"] == [{"from": str(lib), "to": str(art.parent / "assets" / "shared")}]
    assert shown(art, [one["output"] for one in done["rewritten"]]) == [
        "scenes/m.relocated.ma",
        "scenes/s.relocated.gltf",
    ]
    assert all(path.read_bytes() == content for path, content in before.items() if "vault.git" not in str(path))
    assert b'"uri":"../../assets/shared/tex/leaf%201.png"' in (art / "scenes" / "s.relocated.gltf").read_bytes()
    assert b'"%s/assets/shared/tree.obj"' % os.fsencode(art.parent) in (art / "scenes" / "m.relocated.ma").read_bytes()
    assert command("refs", "check", art / "scenes" / "m.relocated.ma").returncode == 0


def test_in_place_originals_change_once_they_are_saved(art: Path, command: Command, vault: Vault) -> None:
    vault.add_project(art)
    scene = art / "scenes" / "s.gltf"
    scene.chmod(0o640)
    original = scene.read_bytes()
    target = art.parent / "lib" / "tex" / "leaves"
    target.mkdir()
    done = json.loads(
        command("refs", "relocate", art.parent / "lib" / "tex" / "leaf 1.png", target, "--in-place", "--json").stdout
    )
    assert not (art.parent / "lib" / "tex" / "leaf 1.png").exists()
    assert (target / "leaf 1.png").read_bytes() == b"leaf"
    assert b"../../lib/tex/leaves/leaf%201.png" in scene.read_bytes()
    assert scene.stat().st_mode & 0o777 == 0o640
    assert [one["output"] for one in done["rewritten"]] == [str(scene)]
    saved = [snapshot for snapshot in done["safety"] if vault.get_snapshot_info(snapshot).project == "forest"]
    with open(art.parent / "before", "wb") as file:
        vault.read_file(saved[0], b"scenes/s.gltf", file)
    assert (art.parent / "before").read_bytes() == original
    assert vault.get_snapshot_info(saved[0]).trigger == "safety"
    assert command("refs", "check", art).returncode == 0


def test_what_was_moved_before_is_only_put_right(art: Path, command: Command) -> None:
    """Also what is named relative to where the moved files were."""
    os.rename(art.parent / "lib" / "tree.mtl", art.parent / "lib" / "tex" / "oak.mtl")
    done = command("refs", "relocate", "lib/tree.mtl", "lib/tex/oak.mtl", "--in-place", "--within", ".")
    assert "2 references written anew" in done.stdout
    assert "1 reference written anew" in done.stdout
    assert (art.parent / "lib" / "tree.obj").read_bytes().startswith(b"mtllib tex/oak.mtl\n")
    assert b"map_Kd bark.png\n" in (art.parent / "lib" / "tex" / "oak.mtl").read_bytes()
    again = command("refs", "relocate", "lib/tree.mtl", "lib/tex/oak.mtl", "--in-place", "--within", ".")
    assert again.stdout.startswith("nothing to do")


def test_a_folder_that_was_moved_in_part_is_completed(art: Path) -> None:
    lib = art.parent / "lib"
    new = art.parent / "new"
    new.mkdir()
    os.rename(lib / "tree.obj", new / "tree.obj")
    (new / "tree.mtl").write_bytes((lib / "tree.mtl").read_bytes())
    with Library() as library:
        done = relocation.relocate(library, [str(art.parent)], str(lib), str(new), in_place=lambda files: None)
        assert len(done.moved) == 4
        assert not [link for link in library.all_links([str(art), str(new)], []) if not link.exists]


def test_nothing_is_overwritten_and_nothing_is_moved_into_itself(art: Path, command: Command) -> None:
    (art.parent / "lib" / "other.png").write_bytes(b"other")
    with Library() as library:
        lib = str(art.parent / "lib")
        with pytest.raises(ExistsError, match=r"other\.png: is there and differs"):
            relocation.relocate(library, [lib], f"{lib}/tex/bark.png", f"{lib}/other.png")
        with pytest.raises(ExistsError, match="into itself"):
            relocation.relocate(library, [lib], lib, f"{lib}/tex/deeper")
        with pytest.raises(NotFoundError, match="one of them has to be"):
            relocation.relocate(library, [lib], f"{lib}/no", f"{lib}/neither")
    for number in ("", "-2"):
        command("refs", "relocate", "lib/tex/bark.png", f"lib/bark{number}.png", "--within", "lib")
        assert (art.parent / "lib" / f"tree.relocated{number}.mtl").exists()


def test_a_unity_asset_takes_the_file_with_its_number_along(tmp_path: Path) -> None:
    (tmp_path / "Assets").mkdir()
    (tmp_path / "Assets" / "m.mat").write_bytes(made.UNITY)
    (tmp_path / "Assets" / "oak.png").write_bytes(b"oak")
    (tmp_path / "Assets" / "oak.png.meta").write_text(f"fileFormatVersion: 2\nguid: {made.GUID}\n")
    with Library() as library:
        [link] = library.links(str(tmp_path / "Assets" / "m.mat"))
        assert (link.resolved, link.exists) == (str(tmp_path / "Assets" / "oak.png"), True)
    old, new = str(tmp_path / "Assets" / "oak.png"), str(tmp_path / "Assets" / "trees" / "oak.png")
    with Library() as library:
        done = relocation.relocate(library, [str(tmp_path)], old, new, in_place=lambda files: None)
        assert [target for _, target in done.moved] == [new, new + ".meta"]
    with Library() as library:
        [link] = library.links(str(tmp_path / "Assets" / "m.mat"))
        assert link.resolved == new
        (tmp_path / "Assets" / "trees" / "oak.png.meta").unlink()
    (tmp_path / "alone.mat").write_bytes(made.UNITY)
    with Library() as library:
        assert library.links(str(tmp_path / "Assets" / "m.mat"))[0].exists is False


def test_a_rewrite_that_says_something_else_counts_for_nothing() -> None:
    before = [["a", "old.png", "image"], ["b", "same.png", "image"]]
    relocation.check("x", before, {"old.png": "new.png"}, [["a", "new.png", "image"], ["b", "same.png", "image"]])
    with pytest.raises(UnsupportedMedia, match="does not say what it should"):
        relocation.check("x", before, {"old.png": "new.png"}, [["a", "new.png", "image"]])


def test_what_cannot_be_written_anew_stays_and_is_named(art: Path, command: Command) -> None:
    (art / "t.umap").write_bytes(made.UNREAL)
    (art / "Content" / "Props").mkdir(parents=True)
    (art / "Content" / "Props" / "Oak.uasset").write_bytes(made.UNREAL)
    done = command("refs", "relocate", art / "Content" / "Props", art / "Content" / "Trees", "--json")
    assert done.returncode == 1
    assert "t.umap: Unreal package: its references cannot be written anew" in done.stderr


def test_unchanged_files_are_looked_through_once_and_the_cache_may_go(art: Path, vault: Vault) -> None:
    cache = vault.path / "cache"
    for expected in (6, 0):
        with Library(cache) as library:
            first = list(library.all_links([str(art), str(art.parent / "lib")], []))
            assert library.read == expected
    (art / "a.usda").write_bytes(b"#usda 1.0\n(subLayers = [@c.usda@])\n")
    with Library(cache) as library:
        assert list(library.all_links([str(art), str(art.parent / "lib")], [])) != first
        assert library.read == 1
    for damage in (b"", b"\xc1", b"\x92\x01\x05"):
        (cache / "references.msgpack").write_bytes(damage)
        with Library(cache) as library:
            library.links(str(art / "a.usda"))
            assert library.read == 1


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_listed(
    art: Path, command: Command, vault: Vault
) -> None:
    (art / "broken.glb").write_bytes(made.glb()[:40])
    (art / "dangling.gltf").symlink_to("nowhere")
    done = command("refs", "list", art, "--json")
    assert done.returncode == 1
    assert len(json.loads(done.stdout)) == 6
    assert "broken.glb: " in done.stderr
    assert "dangling.gltf: cannot be read" in done.stderr
    assert command("refs", "list", art / "broken.glb").returncode == 4
    with Library(vault.path / "cache") as library, pytest.raises(UnsupportedMedia, match="cut off"):
        library.links(str(art / "broken.glb"))


def test_hints_of_files_are_listed_and_not_missed(art: Path, command: Command) -> None:
    (art / "d.svg").write_bytes(b'<svg><image id="i" href="own.png" sodipodi:absref="/gone/own.png"/></svg>')
    listed = json.loads(command("refs", "list", art / "d.svg", "--json").stdout)
    assert [(one["kind"], one["exists"]) for one in listed] == [("image", True), (HINT, False)]
    assert command("refs", "check", art / "d.svg").returncode == 0


def test_without_a_vault_references_are_listed_all_the_same(
    art: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: object) -> subprocess.CompletedProcess[str]:
        return made.run_here(tmp_path / "none.git", ["refs", *words], capsys)

    done = run("list", art / "b.usda", "--json")
    assert (done.returncode, len(json.loads(done.stdout))) == (0, 1)
    done = run("relocate", art / "own.png", art / "o.png", "--in-place")
    assert done.returncode == 10
    assert (art / "own.png").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["list", "nowhere"], 128, "no such file"),
        (["list", "--in-place"], 129, "--in-place goes with relocate"),
        (["relocate", "a"], 129, "OLD and NEW"),
        (["export", "-o", "a.txt"], 129, "-o FILE.json"),
        (["graph", "forest", "--asset", "elsewhere.png"], 128, "nothing that was looked at names it"),
    ],
)
def test_wrong_words_are_said(art: Path, command: Command, words: list[str], code: int, said: str) -> None:
    done = command("refs", *words)
    assert (done.returncode, said in done.stderr) == (code, True)


# -- graphs ------------------------------------------------------------------------------------------


def test_circles_of_every_kind_are_found_once() -> None:
    edges = {"a": ["b"], "b": ["c", "d"], "c": ["a"], "d": ["d"], "e": ["a"], "f": []}
    assert references.cycles(edges) == [["a", "b", "c"], ["d"]]
    assert references.reached(edges, ["b"]) == ["a", "b", "c", "d"]
    assert references.reached(edges, ["f"]) == []
    deep = {str(number): [str(number + 1)] for number in range(5000)} | {"5000": ["0"]}
    assert len(references.cycles(deep)[0]) == 5001


def test_equal_files_are_found_by_content(tmp_path: Path) -> None:
    for name, content in {"a": b"same", "b": b"same", "c": b"othr", "d": b"", "e": b""}.items():
        (tmp_path / name).write_bytes(content)
    [group] = references.duplicates([str(path) for path in tmp_path.iterdir()] + [str(tmp_path / "gone")])
    assert isinstance(group, Duplicate)
    assert (group.size, [os.path.basename(path) for path in group.files]) == (4, ["a", "b"])
    graph = Graph({"/p/s": ["/l/a"], "/l/a": []}, [])
    assert graph.used_by == {"/p/s": [], "/l/a": ["/p/s"]}
    assert references.shared(graph, ["/p"]) == 0
    assert references.is_below("/a/b", "/a")
    assert not references.is_below("/ab", "/a")


# -- what asset managers exchange --------------------------------------------------------------------


XMP = """<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" xmp:Rating="{rating}"
 xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/">
 <dc:subject><rdf:Bag><rdf:li>{tag}</rdf:li><rdf:li>wood</rdf:li></rdf:Bag></dc:subject>
 <dc:title><rdf:Alt><rdf:li xml:lang="x-default">=Bark</rdf:li></rdf:Alt></dc:title>
</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>"""


def test_tags_and_references_are_exported_as_json_and_csv(art: Path, command: Command) -> None:
    own = art / "own.png"
    own.write_bytes(b"\x89PNG" + XMP.format(rating=3, tag="inside").encode() + b"rest")
    (art / "own.xmp").write_text(XMP.format(rating=5, tag="beside"))
    done = command("refs", "export", art, "-o", "assets.json", "--json")
    assert json.loads(done.stdout)["assets"] == 6
    assets = {os.path.relpath(one["path"], art): one for one in json.loads((art.parent / "assets.json").read_text())}
    assert (assets["own.png"]["rating"], assets["own.png"]["tags"]) == (["5"], ["beside", "wood"])
    [target, *_] = assets["scenes/s.gltf"]["references"]
    assert target["resolved"] == str(art.parent / "lib" / "tex" / "leaf 1.png")
    assert command("refs", "export", art, "-o", "assets.json").returncode == 128
    assert command("refs", "export", art, "-o", "assets.csv").returncode == 0
    with open(art.parent / "assets.csv", newline="") as file:
        rows = {os.path.relpath(row["path"], art): row for row in csv.DictReader(file)}
    assert rows["own.png"]["tags"] == "beside;wood"
    # A sheet must not compute it.
    assert rows["own.png"]["title"] == "'=Bark"
    assert str(art / "own.png") in rows["scenes/s.gltf"]["references"]


def test_what_a_file_says_of_itself_is_read_without_its_format(tmp_path: Path) -> None:
    from gitvault.formats.references import packets

    photo = tmp_path / "a.jpg"
    photo.write_bytes(b"\xff\xd8\xff\xe1" + XMP.format(rating=1, tag="t").encode() + b"\xff\xd9" * 100)
    assert packets.facts(str(photo)) == {"tags": ["t", "wood"], "rating": ["1"], "title": ["=Bark"]}
    for content in (b"", b"nothing", b"<x:xmpmeta that never ends"):
        photo.write_bytes(content)
        assert packets.facts(str(photo)) == {}
    photo.write_bytes(b"<x:xmpmeta xmlns:x='a'><b></x:xmpmeta>")
    with pytest.raises(UnsupportedMedia, match="its XMP cannot be read"):
        packets.facts(str(photo))
    photo.write_bytes(b"<x:xmpmeta xmlns:x='a'><!DOCTYPE b [<!ENTITY c 'd'>]></x:xmpmeta>")
    with pytest.raises(UnsupportedMedia, match="declares entities"):
        packets.facts(str(photo))
    with Library() as library:
        problems: list[object] = []
        [asset] = exchange.assets(library, [str(tmp_path)], problems)  # type: ignore[arg-type]
        assert isinstance(asset, exchange.Asset)
        assert len(problems) == 1
    with pytest.raises(ExistsError, match="--overwrite"):
        exchange.write([asset], str(photo))
    exchange.write([asset], str(tmp_path / "o.csv"), overwrite=True)


def test_the_library_tells_what_the_command_does(art: Path, vault: Vault) -> None:
    with CreativeVault("forest", art, vault=vault.path) as forest:
        assert all(isinstance(link, Link) for link in forest.references())
        assert [link.target for link in forest.references(art / "b.usda")] == ["./a.usda"]
        assert forest.asset_graph().missing == []
        assert forest.relocate(art / "own.png", art / "mine.png").rewritten[0].references == 1
        assert forest.relocate(art / "own.png", art / "yours.png", in_place=True).moved
        assert [snapshot.trigger for snapshot in forest.snapshots()] == ["safety"]


def test_the_real_command_reads_files_in_a_process_of_its_own(
    art: Path, vault: Vault, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()
    (art / "broken.glb").write_bytes(made.glb()[:40])
    done = made.run_here(vault.path, ["refs", "list", art, "--json"], capsys)
    assert (done.returncode, len(json.loads(done.stdout))) == (1, 6)
    done = made.run_here(vault.path, ["refs", "relocate", art / "own.png", art / "o.png", "--within", art], capsys)
    assert "1 reference written anew" in done.stdout
