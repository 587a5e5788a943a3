"""What assets cost by type, what bundles hold in each build and how that changes, what nothing uses."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from bundles import pak, pck, unity_bundle

from gitvault import GameVault
from gitvault.core.utils import layout
from gitvault.errors import NotFoundError
from gitvault.personas.game.assets.bundles import (
    AssetChange,
    Build,
    BundleChange,
    Duplicate,
    Packed,
    Place,
    Reader,
    Size,
    compare,
    duplicates,
    find,
    growth,
    one_bundle,
)
from gitvault.personas.game.assets.ratios import TypeSize, report
from gitvault.personas.game.assets.usage import Usage, usage
from gitvault.vault import Vault

Run = Callable[..., subprocess.CompletedProcess[str]]
FILES = {"icon.svg": b"<svg/>" * 9, "levels/one.scn": b"RSRC" + bytes(500), "load.gd": b"extends Node"}


@pytest.fixture
def lantern(tmp_path: Path, vault: Vault) -> GameVault:
    (tmp_path / "lantern" / "build").mkdir(parents=True)
    return GameVault("lantern", tmp_path / "lantern", vault=vault.path)


def build(lantern: GameVault, **files: bytes | None) -> str:
    for name, data in files.items():
        path = lantern.path / "build" / name.replace("__", "-").replace("_", ".")
        path.unlink() if data is None else path.write_bytes(data)
    return lantern.backup().snapshot


def document(done: subprocess.CompletedProcess[str], code: int = 0) -> object:
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def test_what_every_type_costs_is_told_by_type(lantern: GameVault, vault: Vault, command: Run) -> None:
    noise, text = os.urandom(200_000), b"vertex 1 2 3\n" * 20_000
    build(lantern, hero_png=noise, level_obj=text)
    build(lantern, hero_png=noise[:1000] + b"x" + noise[1001:], level_obj=text + b"vertex 4 5 6\n", copy_png=noise)
    (lantern.path / "LICENSE").write_text("MIT\n")
    lantern.backup()
    png, obj, none = found = report(vault)
    assert report(vault, ["lantern"]) == found
    assert [(one.type, one.files, one.versions) for one in found] == [("png", 2, 3), ("obj", 1, 2), ("", 1, 1)]
    assert (png.logical_bytes, obj.logical_bytes) == (600_000, 2 * len(text) + 13)
    # The copy costs nothing, and of the second version only what is new.
    assert 200_000 < png.stored_bytes < 240_000
    assert obj.ratio > 50 and none.ratio < 10
    assert TypeSize("", 0, 0, 0, 0).ratio == 0
    listed = document(command("assets", "report", "--json"))
    assert isinstance(listed, list)
    assert set(listed[0]) == {"type", "files", "versions", "logical_bytes", "stored_bytes", "ratio"}
    assert lantern.asset_report() == [png, obj, none]
    assert listed[0]["type"] == "png" and listed[0]["ratio"] == round(png.ratio, 3)
    shown = command("assets", "report").stdout.splitlines()
    assert shown[0].split() == ["type", "files", "versions", "bytes", "stored", "ratio"]
    assert shown[-1].startswith("all")
    with pytest.raises(NotFoundError):
        report(vault, ["nothing"])


def test_nothing_saved_is_said(command: Run) -> None:
    assert command("assets", "report").stdout == "nothing is saved yet\n"
    assert command("assets", "growth").returncode == 129
    assert "expected 2 words" in command("assets", "diff", "a").stderr


def test_what_changed_in_bundles_between_builds(lantern: GameVault, vault: Vault, command: Run) -> None:
    first = build(lantern, game__1_pck=pck(FILES), old_pak=pak(FILES), same_pak=pak({"a.uasset": b"a"}))
    grown = {**FILES, "levels/one.scn": b"RSRC" + bytes(700), "two.scn": b"2"}
    del grown["load.gd"]
    second = build(lantern, game__1_pck=None, old_pak=None, game__2_pck=pck(grown), new_pak=pak(FILES))
    with Reader(vault) as reader:
        before, after = reader.build(first), reader.build(second)
    assert isinstance(before, Build) and isinstance(before.bundles[0], Packed)
    assert lantern.bundles(first) == before
    game, new, old = changes = lantern.compare_bundles(first, second)
    assert changes == compare(before, after)
    assert isinstance(game, BundleChange)
    assert [(one.path, one.was, one.state) for one in changes] == [
        (b"build/game-2.pck", b"build/game-1.pck", "changed"),
        (b"build/new.pak", b"build/new.pak", "added"),
        (b"build/old.pak", b"build/old.pak", "removed"),
    ]
    assert game.assets == (
        AssetChange("levels/one.scn", "scn", "changed", 504, 704),
        AssetChange("load.gd", "gd", "removed", 12, 0),
        AssetChange("two.scn", "scn", "added", 0, 1),
    )
    assert {asset.state for asset in new.assets} == {"added"} and {asset.state for asset in old.assets} == {"removed"}
    told = document(command("assets", "diff", first, second, "--json"), 1)
    assert isinstance(told, dict)
    assert [one["state"] for one in told["bundles"]] == ["changed", "added", "removed"]
    assert told["bundles"][0]["assets"][0] == {
        "name": "levels/one.scn",
        "kind": "scn",
        "state": "changed",
        "before": 504,
        "after": 704,
    }
    assert "changed build/game-2.pck (was build/game-1.pck)" in command("assets", "diff", first, second).stdout
    assert command("assets", "diff", first, first).returncode == 0


def test_growth_of_bundles_and_where_an_asset_is(lantern: GameVault, vault: Vault, command: Run) -> None:
    first = build(lantern, game__1_pck=pck(FILES))
    build(lantern, notes_txt=b"no bundle")
    third = build(lantern, game__1_pck=None, game__2_pck=pck({**FILES, "two.scn": bytes(900)}))
    found = list(growth(vault, "lantern"))
    assert isinstance(found[0], Size)
    assert [(one.snapshot.id, one.path, one.before, one.assets) for one in found] == [
        (first, b"build/game-1.pck", 0, 3),
        (third, b"build/game-2.pck", len(pck(FILES)), 4),
    ]
    assert found[1].loaded == found[0].loaded + 900
    places = list(find(vault, "lantern", "TWO"))
    assert [(one.snapshot.id, one.path, one.asset.name) for one in places] == [(third, b"build/game-2.pck", "two.scn")]
    assert isinstance(places[0], Place)
    rows = document(command("assets", "growth", "--json"))
    assert isinstance(rows, list) and rows[1]["before"] == len(pck(FILES))
    assert "+" in command("assets", "growth").stdout
    told = document(command("assets", "find", "two", "--json"))
    assert isinstance(told, list) and told[0]["path"] == "build/game-2.pck"
    assert command("assets", "find", "nothing").stdout == "in no bundle of any build\n"


def test_an_asset_in_two_bundles_is_a_duplicate(lantern: GameVault, vault: Vault, command: Run) -> None:
    texts = {"assets/shared.txt": b"the same" * 99}
    snapshot = build(lantern, one=unity_bundle(texts), two_ab=unity_bundle({**texts, "assets/own.txt": b"own"}))
    with Reader(vault) as reader:
        [found] = duplicates(reader.build(snapshot))
    assert isinstance(found, Duplicate)
    assert (found.name, found.kind, found.places) == ("assets/shared.txt", "TextAsset", (b"build/one", b"build/two.ab"))
    assert found.wasted == found.size > 700
    told = document(command("assets", "duplicates", "--json"))
    assert isinstance(told, dict) and told["wasted_bytes"] == found.wasted
    assert "2 x" in command("assets", "duplicates").stdout


def test_damaged_bundles_are_counted_and_opaque_ones_said(lantern: GameVault, vault: Vault, command: Run) -> None:
    damaged = bytearray(pck(FILES))
    damaged[-5] ^= 1
    build(lantern, a_pck=bytes(damaged), b_pck=pck(FILES)[:90], c_pak=pak(FILES, encrypted_index=True), d_pak=b"x" * 99)
    done = command("assets", "list", "--json")
    told = document(done, 1)
    assert isinstance(told, dict)
    listed = {one["path"]: one for one in told["bundles"]}
    assert listed["build/a.pck"]["damaged"] == ["load.gd"]
    assert listed["build/c.pak"]["opaque"] == "its index is encrypted"
    assert listed["build/d.pak"]["opaque"].startswith("no header that an engine writes")
    [problem] = told["problems"]
    assert problem["path"] == "build/b.pck" and "cut off or damaged" in problem["reason"]
    # Stored all the same, byte for byte.
    lantern.restore("lantern", lantern.path.parent / "back")
    assert (lantern.path.parent / "back/build/c.pak").read_bytes() == pak(FILES, encrypted_index=True)
    assert "opaque: its index is encrypted" in command("assets", "show", "lantern:build/c.pak").stdout
    assert command("assets", "show", "lantern:build/a.pck").returncode == 1
    assert command("assets", "show", "lantern:build/b.pck").returncode == 4
    with pytest.raises(NotFoundError):
        one_bundle("nowhere.pck", lambda: vault)
    assert len(one_bundle(str(lantern.path / "build/a.pck"), lambda: vault).assets) == 3


def test_each_content_is_read_once_and_forgotten_with_its_file(lantern: GameVault, vault: Vault) -> None:
    snapshot = build(lantern, a_pck=pck(FILES), noise_dat=os.urandom(50_000), own=os.urandom(60_000))
    with Reader(vault) as reader:
        [packed] = reader.build(snapshot).bundles
    [kept] = (vault.path / layout.BUNDLES).iterdir()
    # What is remembered is believed; what is damaged is made anew.
    kept.write_bytes(kept.read_bytes().replace(b"icon.svg", b"icon.SVG"))
    with Reader(vault) as reader:
        assert reader.build(snapshot).bundles[0].bundle.assets[0].name == "icon.SVG"
    kept.write_bytes(b"{")
    with Reader(vault) as reader:
        assert reader.build(snapshot).bundles == (packed,)
    vault.forget(["*.pck"], yes=True)
    assert not (vault.path / layout.BUNDLES).exists()


def project(lantern: GameVault, files: dict[str, bytes]) -> str:
    for name, data in files.items():
        path = lantern.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return lantern.backup().snapshot


def unused(vault: Vault, snapshot: str) -> list[str]:
    [found] = usage(vault, snapshot)
    assert isinstance(found, Usage)
    return sorted(path for path, _ in found.unused)


def test_assets_that_nothing_in_a_godot_project_leads_to(lantern: GameVault, vault: Vault, command: Run) -> None:
    snapshot = project(
        lantern,
        {
            "project.godot": b'config_version=5\nrun/main_scene="res://main.tscn"\nconfig/icon="res://icon.svg"\n',
            "main.tscn": b'[gd_scene uid="uid://m"]\n[ext_resource path="res://hero.tres"]\n[ext uid="uid://abc1"]\n',
            "hero.tres": b'[gd_resource]\n[ext_resource path="res://hero.gltf"]\n',
            "hero.gltf": b'{"images": [{"uri": "hero skin.png"}], "asset": "' + b"A" * 300_000 + b'.png"}',
            "hero skin.png": b"skin",
            "icon.svg": b"<svg/>",
            "by_uid.png": b"uid",
            "by_uid.png.import": b'[remap]\nuid="uid://abc1"\n',
            "player.gd": b'extends Node\nvar x = preload("sound.wav")\nload("res://levels/level_%d.tscn" % n)\n',
            "sound.wav": b"RIFF",
            "levels/level_1.tscn": b"[gd_scene]\n",
            "left/over.png": b"left over",
            "left/ring_a.tres": b'[ext_resource path="res://left/ring_b.tres"]',
            "left/ring_b.tres": b'[ext_resource path="res://left/ring_a.tres"]',
            "shots/.gdignore": b"\n",
            "shots/shot.png": b"no asset of the game",
        },
    )
    assert unused(vault, snapshot) == ["left/over.png", "left/ring_a.tres", "left/ring_b.tres"]
    assert lantern.unused_assets("lantern") == usage(vault, snapshot)
    told = document(command("assets", "unused", "--json"))
    assert isinstance(told, dict)
    assert told["projects"][0]["engine"] == "godot" and len(told["projects"][0]["unused"]) == 3
    assert "nothing leads to 3 of" in command("assets", "unused").stdout


def test_assets_that_nothing_in_a_unity_project_leads_to(lantern: GameVault, vault: Vault) -> None:
    def guid(number: int) -> bytes:
        return b"%032x" % (number + (1 << 100))

    def packed(number: int) -> bytes:
        return bytes(int(guid(number)[at : at + 2][::-1], 16) for at in range(0, 32, 2))

    names = ["Main.unity", "Hero.prefab", "Hero.mat", "Skin.png", "Other.png", "Resources/Loaded.png", "Old.unity"]
    names += ["LightingData.asset", "Probe.exr", "Packed.png"]
    files = {"ProjectSettings/ProjectVersion.txt": b"m_EditorVersion: 2021.3.1f1\n"}
    for number, name in enumerate(names):
        bundled = b"  assetBundleName: art\n" if name == "Packed.png" else b"  assetBundleName: \n"
        files[f"Assets/{name}.meta"] = b"fileFormatVersion: 2\nguid: " + guid(number) + b"\n" + bundled
        files[f"Assets/{name}"] = b"asset"
    files["ProjectSettings/EditorBuildSettings.asset"] = b"  - path: Assets/Main.unity\n"
    main = b"%YAML 1.1\n- {fileID: 1, guid: " + guid(1) + b"}\n- {guid: " + guid(7) + b"}\n"
    files["Assets/Main.unity"] = main
    files["Assets/Hero.prefab"] = b"%YAML 1.1\nguid: " + guid(2)
    files["Assets/Hero.mat"] = b"%YAML 1.1\nguid: " + guid(3)
    files["Assets/LightingData.asset"] = bytes(900) + b"\0" + packed(8) + b"\2\0\0\0\0"
    assert unused(vault, project(lantern, files)) == ["Assets/Old.unity", "Assets/Other.png"]
    del files["ProjectSettings/EditorBuildSettings.asset"]
    (lantern.path / "ProjectSettings/EditorBuildSettings.asset").unlink()
    # Where no scene is chosen, all are built.
    assert unused(vault, project(lantern, files)) == ["Assets/Other.png"]


def test_assets_that_nothing_in_an_unreal_project_leads_to(lantern: GameVault, vault: Vault, command: Run) -> None:
    def package(*named: str) -> bytes:
        return b"\xc1\x83\x2a\x9e" + b"".join(name.encode() + b"\0" for name in named)

    files = {
        "Lantern.uproject": b"{}",
        "Config/DefaultGame.ini": b'Directories=((Path="/Game/Always"))\n',
        "Plugins/Kit/Kit.uplugin": b"{}",
        "Plugins/Kit/Content/Tool.uasset": package(),
        "Content/Maps/Main.umap": package("/Game/Hero", "/Kit/Tool"),
        "Content/Hero.uasset": package("/Game/Skin"),
        "Content/Skin.uasset": package(),
        "Content/Always/Some.uasset": package(),
        "Content/Never.uasset": package("/Game/Skin"),
        "Content/__ExternalActors__/A.uasset": package(),
    }
    assert unused(vault, project(lantern, files)) == ["Content/Never.uasset"]
    (lantern.path / "Lantern.uproject").unlink()
    done = command("assets", "unused", lantern.backup().snapshot)
    assert done.returncode == 4 and "no project of Godot, Unity or Unreal" in done.stderr
