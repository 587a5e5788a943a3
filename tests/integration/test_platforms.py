"""Settings of platforms in a vault and on the command line."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from projects import GODOT, UNITY, UNREAL, written

from gitvault import GameVault
from gitvault.errors import AmbiguousError, CorruptionError, NotFoundError
from gitvault.personas.game import platforms
from gitvault.personas.game.platforms import HIDDEN, Capture, PlatformDifference, captures, find, in_snapshot, loaded
from gitvault.vault import Vault

Run = Callable[..., subprocess.CompletedProcess[str]]


def said(done: subprocess.CompletedProcess[str], code: int = 0) -> Any:
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def lantern(tmp_path: Path) -> Path:
    return written(tmp_path / "lantern", GODOT)


def test_settings_are_kept_with_their_build_and_without_secrets(lantern: Path, vault: Vault) -> None:
    with GameVault("lantern", lantern, vault=vault.path) as game:
        first = game.capture_platforms("alpha-1")
        assert game.compare_platforms("pc", "android")[0] == PlatformDifference(
            "display/window/size/viewport_width",
            {"windows": "1280", "android": "640"},
            {"windows": "project.godot:12", "android": "project.godot:13"},
            "different",
        )
        second = game.capture_platforms("alpha-2")
        assert {one.build for one in game.platforms()} == {"alpha-1", "alpha-2"}
    assert isinstance(first, Capture) and first.settings == second.settings, "kept once"
    assert loaded(vault, first) == platforms.read(platforms.on_disk(lantern))
    assert find(vault, "alpha-1") == first == find(vault, first.id[:8])
    assert list(captures(vault, "nobody")) == []
    with pytest.raises(NotFoundError, match="nothing was captured of it"):
        find(vault, first.id[:2])
    everything = subprocess.run(
        ["git", f"--git-dir={vault.path}", "log", "-p", "--all"], capture_output=True, check=True
    ).stdout.decode()
    assert "hunter2" not in everything
    assert HIDDEN in everything


def test_a_snapshot_has_the_settings_of_its_time(lantern: Path, vault: Vault, command: Run) -> None:
    (lantern / "large.cfg").write_bytes(b"\0" * (17 << 20))
    snapshot = vault.create_snapshot(lantern).snapshot
    shutil.rmtree(lantern)
    tree = in_snapshot(vault, snapshot)
    assert platforms.read(tree).configuration.platforms["android"]
    assert (tree.read("nothing"), tree.names("nothing"), tree.names("project.godot")) == (None, {}, {})
    with pytest.raises(ValueError, match="larger than 16 MiB"):
        tree.read("large.cfg")
    rows = said(command("platform", "compare", "android", "web", "--snapshot", "lantern", "--json"), 1)
    assert [row["kind"] for row in rows if row["key"].endswith("vsync_mode")] == ["missing"]
    kept = said(command("platform", "capture", "--snapshot", "lantern", "--json"))
    assert (kept["project"], kept["snapshot"], kept["engine"], kept["problems"]) == ("lantern", snapshot, "godot", [])
    with pytest.raises(NotFoundError):
        in_snapshot(vault, "0" * 40)


def test_the_command(lantern: Path, tmp_path: Path, command: Run) -> None:
    assert "nothing was captured yet" in command("platform", "list").stdout
    assert said(command("platform", "list", "--json")) == []
    assert command("platform", "compare", "pc", "web").returncode == 128
    kept = said(command("platform", "capture", lantern, "--build", "a1", "--json"))
    assert kept["platforms"][:2] == ["windows", "linux"] and kept["version"] == "4.3" and kept["project"] == "lantern"
    assert said(command("platform", "list", "--json")) == [{k: v for k, v in kept.items() if k != "problems"}]
    rows = said(command("platform", "compare", "windows", "android", "--json"), 1)
    assert rows == said(command("platform", "compare", "pc", "mobile", "--path", lantern, "--json"), 1)
    assert rows[0] == {
        "key": "display/window/size/viewport_width",
        "values": {"windows": "1280", "android": "640"},
        "sources": {"windows": "project.godot:12", "android": "project.godot:13"},
        "kind": "different",
    }
    lines = command("platform", "compare", "pc", "mobile").stdout
    assert "1280" in lines and "5 more differences, as expected; --all lists them" in lines
    assert (
        "unique_name" not in lines and "unique_name" in command("platform", "compare", "pc", "mobile", "--all").stdout
    )
    same = command("platform", "compare", "linux", "macos")
    assert (same.stdout, same.returncode) == ("the same\n", 0)
    assert said(command("platform", "compare", "linux", "linux", "--json")) == []
    assert "there are windows, linux" in command("platform", "compare", "pc", "toaster").stderr

    shown = said(command("platform", "show", "--on", "android", "--json"))
    assert shown["values"]["display/window/size/viewport_width"] == {"value": "640", "source": "project.godot:13"}
    assert shown["values"]["export/keystore/release_password"]["value"] == HIDDEN
    whole = said(command("platform", "show", kept["id"][:8], "--json"))
    assert whole["common"]["config_version"]["value"] == "5" and "windows:Demo" in whole["own"]
    assert "project.godot:13" in command("platform", "show", "a1", "--on", "mobile").stdout
    assert "of its own" in command("platform", "show").stdout

    text = (lantern / "project.godot").read_text().replace("=1280", "=1920")
    (lantern / "project.godot").write_text(text)
    [row] = said(command("platform", "drift", "a1", "--path", lantern, "--json"), 1)
    assert row == {
        "key": "display/window/size/viewport_width",
        "before": "1280",
        "after": "1920",
        "platforms": ["windows", "linux", "macos", "web", "windows:Demo"],
        "source": "project.godot:12",
        "kind": "changed",
    }
    command("platform", "capture", lantern, "--build", "a2")
    assert "1280" in command("platform", "drift", "a1", "a2").stdout
    nothing = command("platform", "drift", "a2", "--path", lantern)
    assert (nothing.stdout, nothing.returncode) == ("the same\n", 0)

    unity = written(tmp_path / "unity", UNITY)
    (unity / "ProjectSettings" / "TagManager.asset").write_bytes(b"\0\0")
    done = command("platform", "capture", unity)
    assert done.returncode == 1 and "Force Text" in done.stderr
    several = command("platform", "compare", "pc", "mobile")
    assert several.returncode == 129 and "there are lantern, unity" in several.stderr
    assert command("platform", "compare", "pc", "mobile", "--project", "unity").returncode == 1
    # Within a project that is registered, it is that project's.
    command("add", unity, "--name", "other")
    assert said(command("platform", "capture", unity / "ProjectSettings" / "..", "--json"), 1)["project"] == "other"


@pytest.mark.parametrize(
    "words",
    [
        ["capture"],
        ["capture", "a", "b"],
        ["capture", "a", "--snapshot", "b"],
        ["compare", "pc"],
        ["list", "x"],
        ["show", "x", "--path", "a", "--snapshot", "b"],
    ],
)
def test_wrong_usage(command: Run, words: list[str]) -> None:
    assert command("platform", *words).returncode == 129


def test_drift_asks_for_the_other_side(lantern: Path, command: Run) -> None:
    command("platform", "capture", lantern)
    done = command("platform", "drift")
    assert done.returncode == 129 and "expected OLD NEW, or --path" in done.stderr
    assert "nothing was captured of it" in command("platform", "drift", "nosuch", "--path", lantern).stderr


def test_no_vault_is_needed_to_compare_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gitvault.cli import main

    monkeypatch.setenv("GIT_VAULT_DIR", str(tmp_path / "none.git"))
    folder = written(tmp_path / "unreal", UNREAL)
    assert main.main(["platform", "compare", "windows", "ios", "--path", str(folder)]) == 1
    assert not (tmp_path / "none.git").exists()


def test_a_folder_without_a_project_and_one_without_settings(tmp_path: Path, command: Run) -> None:
    done = command("platform", "capture", tmp_path)
    assert done.returncode == 128 and "no project of Godot, Unity or Unreal" in done.stderr
    (tmp_path / "project.godot").write_bytes(b"\0")
    done = command("platform", "capture", tmp_path)
    assert done.returncode == 4 and "no settings that could be read: project.godot: line 1: binary" in done.stderr


def test_records_that_are_damaged_and_ids_that_are_short(vault: Vault, lantern: Path) -> None:
    area = vault.area("platforms/lantern")
    area.add({b"abcd1/capture.json": b"{}"}, "one")
    with pytest.raises(CorruptionError, match=r"abcd1/capture[.]json: no record of settings"):
        list(captures(vault))
    area.erase([b"abcd1"], "gone")
    read = platforms.read(platforms.on_disk(lantern))
    one = platforms.capture(vault, "lantern", read)
    record = area.read(f"{one.id}/capture.json".encode())
    area.add({b"abcd1/capture.json": record, b"abcd2/capture.json": record}, "two")
    with pytest.raises(AmbiguousError, match="fits 2 captures: abcd"):
        find(vault, "abcd")


@pytest.mark.deep
@pytest.mark.needs("godot3-server")
def test_godot_itself_takes_the_same_values(tmp_path: Path) -> None:
    text = "config_version=4\n[a]\nx=1\nx.pc=2\nx.64=3\ny=1\ny.64=3\ny.pc=2\nz=1\nz.mobile=2\nw=[ 1,\n 2 ]\n"
    script = 'extends SceneTree\nfunc _init():\n\tfor k in ["x", "y", "z", "w"]:\n\t\tprint(k, "=", '
    script += 'ProjectSettings.get_setting("a/" + k))\n\tquit()\n'
    written(tmp_path, {"project.godot": text, "t.gd": script})
    done = subprocess.run(
        ["godot3-server", "--path", str(tmp_path), "-s", "t.gd"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    theirs = dict(line.split("=") for line in done.stdout.splitlines() if "=" in line)
    configuration = platforms.read(platforms.on_disk(tmp_path)).configuration
    ours = {key[2:]: value.text for key, value in configuration.effective("linux").items() if key.startswith("a/")}
    assert theirs == {**ours, "w": "[1, 2]"}
    assert ours == {"x": "3", "y": "2", "z": "1", "w": "[ 1, 2 ]"}
