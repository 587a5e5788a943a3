"""The game developer's days, from beginning to end, as he types them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from repositories import git
from scenarios.conftest import Machine, put
from trees import contents

SHADOW = "lights_and_shadows/directional_shadow/size"
CAVE = """[gd_scene load_steps=2 format=3]

[ext_resource type="Script" path="res://lamp.gd" id="1"]

[node name="Cave" type="Node2D"]

[node name="Lamp" type="Sprite2D" parent="."]
script = ExtResource("1")
"""


@pytest.fixture
def lantern(tmp_path: Path) -> Path:
    """A small game for Godot."""
    return put(
        tmp_path / "lantern",
        {
            "project.godot": '[application]\nconfig/name="Lantern"\n\n[rendering]\n'
            f"{SHADOW}=4096\n{SHADOW}.mobile=2048\n",
            "export_presets.cfg": '[preset.0]\nname="Linux"\nplatform="Linux"\n\n[preset.1]\nname="Android"\n'
            'platform="Android"\n',
            "levels/cave.tscn": CAVE,
            "lamp.gd": "extends Sprite2D\n\nvar oil = 60.0\n",
            "player.gd": "extends CharacterBody2D\n\nvar jump = 300.0\n",
        },
    )


def reviews(path: Path, *said: tuple[int, str, bool]) -> Path:
    """An export of Steam: seconds since 2026-01-01, words, whether they liked it."""
    path.write_text(
        json.dumps(
            {
                "success": 1,
                "reviews": [
                    {
                        "recommendationid": f"{path.stem}-{number}",
                        "author": {"steamid": f"{path.stem}{number}", "playtime_at_review": 60},
                        "language": "english",
                        "review": words,
                        "timestamp_created": 1_767_225_600 + seconds,
                        "voted_up": liked,
                    }
                    for number, (seconds, words, liked) in enumerate(said)
                ],
            }
        )
    )
    return path


@pytest.mark.needs("git")
def test_from_concept_to_release(machine: Machine, lantern: Path, tmp_path: Path) -> None:
    built = {}
    for number, (name, kind) in enumerate(
        [("concept", "prototype"), ("alpha-1", "alpha"), ("beta-1", "beta"), ("gold", "release")]
    ):
        put(lantern, {"lamp.gd": f"extends Sprite2D\n\nvar oil = {60 + number}.0\n"})
        built[name] = contents(lantern)
        if number == 0:
            machine.save(lantern)
        machine.say("milestone", "create", name, "--project", "lantern", "--type", kind, "-m", f"It is {kind}")
    assert {one["name"]: one["type"] for one in machine.ask("milestone", "list")} == {
        "concept": "prototype",
        "alpha-1": "alpha",
        "beta-1": "beta",
        "gold": "release",
    }
    machine.say("milestone", "annotate", "gold", "-m", "The build of the fair", "--meta", "score=9")
    machine.say("milestone", "release", "gold", "--to", "itch.io")
    compared = machine.ask("milestone", "compare", "alpha-1", "gold", code=1)
    assert compared["changed"] == ["lamp.gd"]
    assert git(machine.vault, "describe", "lantern").strip() == "lantern/gold"
    machine.say("prune", "--keep-last", "1", "--keep-milestones", "--yes")
    machine.say("milestone", "restore", "alpha-1", "--to", tmp_path / "alpha")
    assert contents(tmp_path / "alpha") == built["alpha-1"]


def test_feedback_on_one_mechanic_across_versions(machine: Machine, lantern: Path, tmp_path: Path) -> None:
    machine.save(lantern)
    builds = []
    for number, oil in enumerate((60, 90)):
        put(lantern, {"lamp.gd": f"extends Sprite2D\n\nvar oil = {oil}.0\n"})
        builds.append(machine.save(lantern))
        at = f"2026-01-0{number + 1}T00:00:00Z"
        machine.say(
            *("deploy", "record", "--target", "steam", "--branch", "default", "--build", str(number), "--at", at),
            *("--snapshot", builds[-1]),
        )
    day = 86_400
    first = reviews(
        tmp_path / "first.json", (3600, "The lamp goes out too soon", False), (7200, "the LAMP again", False)
    )
    later = reviews(tmp_path / "later.json", (day + 3600, "Lamp is fine now", True), (day + 7200, "Lovely music", True))
    for export in (first, later, first):
        machine.say("feedback", "import", export, "--project", "lantern", "--source", "steam")
    found = machine.ask("feedback", "query", "--project", "lantern", "--text", "lamp")
    assert len(found) == 3, "what was imported twice is there once"
    by_build = [
        machine.ask("feedback", "query", "--project", "lantern", "--text", "lamp", "--build", build) for build in builds
    ]
    assert [[one["rating"] for one in records] for records in by_build] == [[0.0, 0.0], [1.0]]
    assert [{one["snapshot"] for one in records} for records in by_build] == [{builds[0]}, {builds[1]}]


def test_a_precise_game_state_is_recovered(machine: Machine, lantern: Path, tmp_path: Path) -> None:
    machine.save(lantern)
    machine.say("milestone", "create", "alpha-1", "--project", "lantern", "--type", "alpha", "-m", "The cave")
    events = [
        {"e": "level_start", "level": "cave", "t": 0},
        {"s": "player", "t": 2, "d": {"hp": 7, "oil": 31.5}},
        {"e": "death", "t": 9, "pos": [3, 4]},
    ]
    (tmp_path / "played.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    (tmp_path / "slot1.sav").write_bytes(random.Random(3).randbytes(5000))
    kept = machine.ask(
        *("playtest", "record", "--project", "lantern", "--build", "alpha-1", "--from", tmp_path / "played.jsonl"),
        *("--attach", tmp_path / "slot1.sav"),
    )
    put(lantern, {"lamp.gd": "extends Sprite2D\n\nvar oil = 5.0\n"})
    machine.save(lantern)
    then = machine.ask("playtest", "replay", kept["id"], "--at", "3")
    assert (then["states"], then["level"]) == ({"player": {"hp": 7, "oil": 31.5}}, "cave")
    machine.say("milestone", "restore", "alpha-1", "--to", tmp_path / "then")
    assert (tmp_path / "then" / "lamp.gd").read_text().endswith("oil = 60.0\n")
    state = tmp_path / "then.milestone" / "playtests" / kept["id"] / "files" / "slot1.sav"
    assert state.read_bytes() == (tmp_path / "slot1.sav").read_bytes()


def test_large_textures_and_models_stay_small(machine: Machine, tmp_path: Path) -> None:
    """They change daily, a little here and there; every day comes back."""
    game = tmp_path / "game"
    game.mkdir()
    rng = random.Random(4)
    model = bytearray(rng.randbytes(6 << 20))
    days = []
    for _ in range(6):
        at = rng.randrange(5 << 20)
        model[at : at + 9000] = rng.randbytes(12_000)
        (game / "terrain.bin").write_bytes(model)
        machine.save(game)
        days.append(bytes(model))
    told = machine.ask("stats")
    assert told["stored_bytes"] < 0.3 * told["logical_bytes"]
    for age, content in enumerate(reversed(days)):
        machine.say("restore", f"game~{age}" if age else "game", "--to", tmp_path / str(age))
        assert (tmp_path / str(age) / "terrain.bin").read_bytes() == content


def test_settings_are_compared_across_platforms(machine: Machine, lantern: Path) -> None:
    machine.save(lantern)
    machine.say("platform", "capture", lantern, "--build", "lantern")
    (row,) = machine.ask("platform", "compare", "linux", "android", "--path", lantern, code=1)
    assert (row["key"], row["values"]) == (f"rendering/{SHADOW}", {"linux": "4096", "android": "2048"})
    put(lantern, {"project.godot": (lantern / "project.godot").read_text().replace("=2048", "=1024")})
    machine.save(lantern)
    machine.say("platform", "capture", lantern, "--build", "later")
    (drifted,) = machine.say("platform", "drift", "lantern", "later", code=1).splitlines()
    assert drifted.split()[:4] == ["changed", f"rendering/{SHADOW}", "2048", "1024"]


def test_the_change_that_caused_a_complaint_is_found(machine: Machine, lantern: Path, tmp_path: Path) -> None:
    good = machine.save(lantern)
    put(lantern, {"levels/cave.tscn": CAVE.replace('[node name="Lamp"', '[node name="Torch"'), "readme.txt": "more\n"})
    bad = machine.save(lantern)
    crash = {"time": "When", "text": "What", "player": "Who", "stack": "Where", "sig": "Sig"}
    (tmp_path / "map.toml").write_text("".join(f'{ours} = "{theirs}"\n' for ours, theirs in crash.items()))
    (tmp_path / "crashes.jsonl").write_text(
        "".join(
            json.dumps(
                {
                    "When": f"2026-01-02T0{number}:00:00Z",
                    "What": "Node not found: Lamp (relative to /root/Cave)",
                    "Who": f"player {number}",
                    "Sig": "lamp-is-null",
                }
            )
            + "\n"
            for number in range(6)
        )
    )
    machine.say(
        *("feedback", "import", tmp_path / "crashes.jsonl", "--project", "lantern", "--source", "jsonl"),
        *("--map", tmp_path / "map.toml", "--build", bad),
    )
    found = machine.ask("feedback", "suspects", "lamp-is-null", "--from", good, "--to", bad)
    assert found[0]["path"] == "levels/cave.tscn"
    assert found[0]["reasons"]
