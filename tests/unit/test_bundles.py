"""Bundles of engines are looked into: what is in them, what cannot be seen and why, what is damaged."""

from __future__ import annotations

import hashlib
import struct
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from bundles import pak, pck, serialized, unity_bundle, unity_object, unityfs, unitypackage

from gitvault.errors import ToolMissing, UnsupportedMedia
from gitvault.formats.bundles import EXTENSIONS, Bundle, family, godot, may_be, package, read, unity, unreal
from gitvault.formats.bundles.records import MOST, kind_of_name
from gitvault.formats.confined import Confined

FILES = {"icon.svg": b"<svg/>" * 9, "levels/one.scn": b"RSRC" + bytes(500), ".godot/uid": b"x"}


def bundle(tmp_path: Path, name: str, data: bytes) -> Bundle:
    (tmp_path / name).write_bytes(data)
    return read(str(tmp_path / name))


def sizes(found: Bundle) -> dict[str, int]:
    return {asset.name: asset.size for asset in found.assets}


@pytest.mark.parametrize("layout", [1, 2, 3, 4])
@pytest.mark.parametrize("before", [b"", b"\x7fELF" + bytes(4096)], ids=["alone", "embedded"])
def test_packs_of_every_godot_are_read(tmp_path: Path, layout: int, before: bytes) -> None:
    found = bundle(tmp_path, "game.pck", pck(FILES, layout, before=before))
    assert (found.format, found.version, found.opaque, found.damaged) == ("godot", "4.3.0", "", ())
    assert sizes(found) == {name: len(content) for name, content in FILES.items()}
    assert [asset.kind for asset in found.assets] == ["svg", "scn", ""]


def test_an_asset_has_one_hash_in_every_bundle(tmp_path: Path) -> None:
    in_pack = bundle(tmp_path, "a.pck", pck(FILES)).assets
    in_pak = bundle(tmp_path, "a.pak", pak(FILES)).assets
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    unitypackage(tmp_path / "a.unitypackage", FILES)
    in_zip, in_package = (read(str(tmp_path / name)).assets for name in ("a.zip", "a.unitypackage"))
    assert len({asset.hash for asset in (*in_pack, *in_pak, *in_zip, *in_package)}) == len(FILES)
    assert all(len(asset.hash) == 64 for asset in in_pack)


def test_what_godot_hides_is_said(tmp_path: Path) -> None:
    assert bundle(tmp_path, "a.pck", pck(FILES, flags=1)).opaque == "its table of contents is encrypted"
    assert bundle(tmp_path, "b.pck", pck(FILES, flags=4)).opaque == "its files lie beside it, one by one"
    files = bundle(tmp_path, "c.pck", pck(FILES, file_flags=1))
    assert files.opaque == "3 of its files are encrypted"
    assert {asset.hash for asset in files.assets} == {""}
    assert "newer than what can be read" in bundle(tmp_path, "d.pck", pck(FILES, 9)).opaque
    # Files that a patch removes are in no build.
    assert bundle(tmp_path, "e.pck", pck(FILES, file_flags=2)).assets == ()


def test_one_flipped_byte_in_a_pack_is_named(tmp_path: Path) -> None:
    data = bytearray(pck(FILES))
    data[-300] ^= 1
    assert bundle(tmp_path, "a.pck", bytes(data)).damaged == ("levels/one.scn",)
    assert bundle(tmp_path, "b.pck", pck(FILES, hashes=False)).damaged == ()


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5, 7, 8, 9, 10, 11])
def test_paks_of_every_unreal_are_read(tmp_path: Path, version: int) -> None:
    found = bundle(tmp_path, "game.pak", pak(FILES, version))
    assert (found.format, found.version, found.opaque, found.damaged) == ("unreal", f"pak {version}", "", ())
    assert sizes(found) == {f"game/{name}": len(content) for name, content in FILES.items()}
    damaged = bytearray(pak(FILES, version))
    damaged[damaged.index(b"RSRC") + 9] ^= 1
    assert bundle(tmp_path, "damaged.pak", bytes(damaged)).damaged == ("game/levels/one.scn",)


def test_what_unreal_hides_is_said(tmp_path: Path) -> None:
    for version in (4, 11):
        assert bundle(tmp_path, "a.pak", pak(FILES, version, encrypted_index=True)).opaque == "its index is encrypted"
        files = bundle(tmp_path, "b.pak", pak(FILES, version, encrypted=True))
        assert (files.opaque, files.assets[0].hash) == ("3 of its files are encrypted", "")
    assert bundle(tmp_path, "c.utoc", b"-==--==--==--==-").opaque == "Unreal's IoStore: its table is not read"
    assert "encrypted, or of its maker's own kind" in bundle(tmp_path, "d.pak", b"nothing known" * 9).opaque
    assert bundle(tmp_path, "e.pak", b"").opaque == "it is empty"
    with pytest.raises(UnsupportedMedia, match=r"f\.txt: no kind of bundle that gitvault knows"):
        bundle(tmp_path, "f.txt", b"text")


def test_an_index_that_is_not_as_written_is_damage(tmp_path: Path) -> None:
    data = bytearray(pak(FILES))
    at = bytes(data).rindex(b"icon.svg")
    data[at] ^= 1
    with pytest.raises(UnsupportedMedia, match="its list of folders is not what its checksum says"):
        bundle(tmp_path, "a.pak", bytes(data))
    (tmp_path / "b.pak").write_bytes(pak(FILES)[:-1])
    with pytest.raises(UnsupportedMedia, match="no end as a pak has it"):
        unreal.read(tmp_path / "b.pak")


def test_tables_that_claim_too_much_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    data = bytearray(pck({"a": b"b"}, 1))
    data[84:88] = struct.pack("<I", MOST + 1)
    with pytest.raises(UnsupportedMedia, match="1048577 files"):
        bundle(tmp_path, "a.pck", bytes(data))
    data[84:88] = struct.pack("<I", 1)
    data[88:92] = struct.pack("<I", 1 << 20)
    with pytest.raises(UnsupportedMedia, match="a path of 1048576 bytes"):
        bundle(tmp_path, "a.pck", bytes(data))
    (tmp_path / "b").write_bytes(struct.pack("<Q4s", 1 << 40, b"GDPC"))
    with pytest.raises(UnsupportedMedia, match="no pack where its end says"):
        godot.read(tmp_path / "b")
    for index, why in (
        (struct.pack("<i", -70_000), "a name of 140000 bytes"),
        (struct.pack("<iBI", 1, 0, MOST + 1), "1048577 entries"),
    ):
        foot = struct.pack("<B2I2Q20s", 0, 0x5A6F12E1, 5, 0, len(index), hashlib.sha1(index).digest())
        (tmp_path / "c.pak").write_bytes(index + foot)
        with pytest.raises(UnsupportedMedia, match=why):
            unreal.read(tmp_path / "c.pak")


def test_a_pak_without_names_or_in_an_unknown_form_is_refused(tmp_path: Path) -> None:
    def with_index(index: bytes, body: bytes) -> Path:
        foot = bytes(17) + struct.pack("<2I2Q20s", 0x5A6F12E1, 11, len(body), len(index), hashlib.sha1(index).digest())
        (tmp_path / "a.pak").write_bytes(body + index + foot + bytes(160))
        return tmp_path / "a.pak"

    head = struct.pack("<iB", 1, 0) + struct.pack("<IQI", 1, 0, 0)
    with pytest.raises(UnsupportedMedia, match="without the names of its files"):
        unreal.read(with_index(head + struct.pack("<I", 0), b""))
    folders = struct.pack("<IiB", 1, 1, 0) + struct.pack("<IiBi", 1, 1, 0, -1)
    table = struct.pack("<I2Q20sI", 1, 0, len(folders), hashlib.sha1(folders).digest(), 0)
    with pytest.raises(UnsupportedMedia, match="in a form that no writer is known to use"):
        unreal.read(with_index(head + table, folders))


def test_a_package_is_read_by_its_paths_and_a_cut_one_is_damaged(tmp_path: Path) -> None:
    file = tmp_path / "kit.unitypackage"
    unitypackage(file, {"Assets/Hero.png": b"png" * 999, "Assets": b""})
    [asset] = package.read(file).assets
    assert (asset.name, asset.kind, asset.size) == ("Assets/Hero.png", "png", 2997)
    file.write_bytes(file.read_bytes()[:150])
    with pytest.raises(UnsupportedMedia, match=r"kit\.unitypackage: cut off or damaged"):
        read(str(file))


def test_a_member_that_is_encrypted_or_damaged_is_told_apart(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("folder/", b"")
        archive.writestr("one.png", b"0123456789")
        archive.writestr("two.png", b"abcdefghij")
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[data.index(b"0123")] ^= 1
    flags = data.rindex(b"PK\1\2") + 8
    data[flags] |= 1
    found = bundle(tmp_path, "b.zip", bytes(data))
    assert found.damaged == ("one.png",)
    assert found.opaque.startswith("1 of its files are encrypted")
    assert [asset.hash == "" for asset in found.assets] == [True, True]


def test_which_files_are_bundles() -> None:
    assert may_be(".pck", b"") and may_be("", b"UnityFS\0" + bytes(20)) and not may_be(".png", b"\x89PNG")
    assert not may_be("", b"PK\3\4"), "a document that is a zip is no bundle"
    assert family(b"\x1f\x8b") == "package" and EXTENSIONS[".apk"] == "zipped"
    assert kind_of_name("a.b/C.PNG") == "png" and kind_of_name("a.b/c") == ""


def test_unity_bundles_that_are_cut_off_or_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = b"UnityFS\0" + struct.pack(">I", 6) + b"5.x.x\0" + b"2019.4.18f1\0" + struct.pack(">Q3I", 1 << 20, 90, 99, 3)
    with pytest.raises(UnsupportedMedia, match=r"cut\.ab: cut off or damaged"):
        bundle(tmp_path, "cut.ab", head + bytes(50))
    found = bundle(tmp_path, "own.assets", b"\xff" * 5000)
    assert found.opaque.startswith("nothing in it that Unity loads")
    monkeypatch.setitem(sys.modules, "UnityPy", None)
    with pytest.raises(ToolMissing, match=r"pip install 'gitvault\[game\]'"):
        unity.read(tmp_path / "cut.ab")


TEXTS = {"assets/a.txt": b"hello", "assets/b.json": b"{}"}


def test_assets_of_a_unity_bundle_have_their_paths_and_the_same_hash_wherever_they_stream_from(tmp_path: Path) -> None:
    one = bundle(tmp_path, "one", unity_bundle(TEXTS, b"sound" * 9))
    # The sound lies elsewhere in the file beside it because something before it grew.
    other = bundle(tmp_path, "other.ab", unity_bundle(TEXTS, b"sound" * 9, before=400))
    assert one == other
    assert (one.format, one.version, one.opaque, one.damaged) == ("unity", "2018.4.19f1", "", ())
    assert {(asset.name, asset.kind) for asset in one.assets} == {
        ("assets/a.txt", "TextAsset"),
        ("assets/b.json", "TextAsset"),
        ("jump", "AudioClip"),
        ("", "AssetBundle"),
    }
    louder = bundle(tmp_path, "louder", unity_bundle(TEXTS, b"SOUND" * 9))
    changed = {asset.name for asset in louder.assets} - {asset.name for asset in {*louder.assets} & {*one.assets}}
    assert changed == {"jump"}


def test_a_unity_bundle_may_lack_what_it_streams_be_encrypted_or_damaged(tmp_path: Path) -> None:
    place = {"m_Source": "archive:/CAB-1/CAB-1.resource", "m_Offset": 0, "m_Size": 45}
    sound = unity_object(83, m_Name="jump", m_Resource=place)
    objects = {1: (83, sound), 2: (49, unity_object(49, m_Name="notes")), 3: (83, sound[:12])}
    found = bundle(tmp_path, "a.ab", unityfs({"CAB-1": serialized(objects)}))
    assert [(asset.name, asset.hash != "") for asset in found.assets] == [("jump", False), ("notes", True)]
    assert len(found.damaged) == 1
    data = unityfs({"CAB-1": b"x" * 99}, 0x240)
    at = data.index(b"2018.4.19f1") + 32
    assert bundle(tmp_path, "b.ab", data[:at] + bytes(120) + data[at:]).opaque == "it is encrypted"


def test_bundles_are_read_in_a_process_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "a.pck").write_bytes(pck(FILES))
    with Confined() as child:
        found = child.call("gitvault.formats.bundles:read", str(tmp_path / "a.pck"))
    assert (found["format"], len(found["assets"])) == ("godot", 3)


def test_more_than_a_bundle_has_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unitypackage(tmp_path / "a.unitypackage", {f"Assets/{n}.txt": b"x" for n in range(3)})
    monkeypatch.setattr(package, "MOST", 1)
    with pytest.raises(UnsupportedMedia, match="more assets than a package has"):
        package.read(tmp_path / "a.unitypackage")
    (tmp_path / "a.ab").write_bytes(unity_bundle(TEXTS))
    monkeypatch.setattr(unity, "MOST", 1)
    with pytest.raises(UnsupportedMedia, match="3 objects, expected at most 1"):
        unity.read(tmp_path / "a.ab")


def test_whatever_a_parser_of_unity_bundles_raises_is_one_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = pytest.importorskip("UnityPy")

    def fails(name: str) -> None:
        raise RecursionError("nested\ntoo deep")

    monkeypatch.setattr(library, "load", fails)
    (tmp_path / "a.ab").write_bytes(b"UnityFS")
    with pytest.raises(UnsupportedMedia, match=r"a\.ab: cut off or damaged: nested too deep; its bytes are saved"):
        unity.read(tmp_path / "a.ab")
    monkeypatch.setattr(library, "load", lambda name: SimpleNamespace(objects=[]))
    with pytest.raises(UnsupportedMedia, match=r"a\.ab: cut off or damaged: no object in it; its bytes are saved"):
        unity.read(tmp_path / "a.ab")
