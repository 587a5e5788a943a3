"""`git-vault elements` with scenes: from a snapshot into the present file, each format with its proof."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scenes import blend, glb, gltf, written

from gitvault.cli import main
from gitvault.personas.creative import CreativeVault


def saved_car(work: Path, **how: Any) -> None:
    document, binary = gltf(**how)
    document["buffers"][0]["uri"] = "parts/car%20body.bin"
    (work / "parts").mkdir(exist_ok=True)
    written(work / "parts" / "car body.bin", binary)
    written(work / "car.gltf", json.dumps(document).encode())


@pytest.mark.parametrize(
    ("name", "element", "changed"),
    [
        ("shot.blend", "material/Paint", ["material/Paint"]),
        ("shot.blend", "object/Lamp", ["object/Lamp"]),
        ("car.glb", "node/Car/Wheel", ["mesh/Wheel", "node/Car/Wheel"]),
        ("car.gltf", "mesh/Body", ["mesh/Body"]),
        ("cat.obj", "object/Cat", ["object/Cat"]),
    ],
)
def test_an_element_of_a_snapshot_is_put_into_the_present_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    element: str,
    changed: list[str],
) -> None:
    monkeypatch.setenv("GIT_VAULT_DIR", str(tmp_path / "vault.git"))
    work = tmp_path / "work"
    work.mkdir()
    written(work / "shot.blend", blend(red=0.25))
    written(work / "car.glb", glb(*gltf()))
    written(work / "cat.obj", b"o Cat\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    saved_car(work, top=2.0)
    with CreativeVault("scenes", work, vault=tmp_path / "vault.git") as scenes:
        scenes.backup(message="before")
    written(work / "shot.blend", blend(red=0.75, objects=("Cube",)))
    written(work / "car.glb", glb(*gltf(nodes=("Body",))))
    written(work / "cat.obj", b"o Cat\nv 0 0 5\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    saved_car(work)
    output = work / ("new-" + name)
    command = ["elements", "restore", element, "--from", f"scenes:{name}", "--into", str(work / name)]
    assert main.main([*command, "-o", str(output), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["element"], said["proof"], sorted(said["changed"])) == (element, True, sorted(changed))
    assert main.main(["elements", "list", str(output), "--json"]) == 0
    assert element in {found["id"] for found in json.loads(capsys.readouterr().out)}


def test_a_buffer_that_was_not_saved_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GIT_VAULT_DIR", str(tmp_path / "vault.git"))
    work = tmp_path / "work"
    work.mkdir()
    saved_car(work)
    (work / "parts" / "car body.bin").unlink()
    written(work / "bad.gltf", b'{"asset": 1}')
    with CreativeVault("scenes", work, vault=tmp_path / "vault.git") as scenes:
        scenes.backup()
    assert main.main(["elements", "list", "scenes:car.gltf"]) == 4
    assert "its buffer parts/car%20body.bin is not there" in capsys.readouterr().err
    assert main.main(["elements", "list", "scenes:bad.gltf"]) == 4
    assert "it has no asset" in capsys.readouterr().err
