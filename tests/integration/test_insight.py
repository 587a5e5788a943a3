"""`feedback spikes|suspects|categories` and `game report`: from what was imported to what to look at first."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gitvault import GameVault
from gitvault.errors import ConfigError, ExistsError, NotFoundError
from gitvault.personas.game.feedback import Table
from gitvault.personas.game.insight import (
    Build,
    ByCategory,
    Rises,
    Suspicion,
    by_category,
    played_builds,
    rises,
    suspicion,
)
from gitvault.personas.game.insight.changes import Side, between, is_readable
from gitvault.personas.game.insight.page import write_report
from gitvault.vault import Vault

Run = Callable[..., subprocess.CompletedProcess[str]]
PLAYER = "extends Node\n\nfunc hit(amount):\n\tvar bar = $HealthBar\n\tbar.value -= amount\n"
STACK = "at: hit (res://player.gd:5)"


@pytest.fixture
def lantern(tmp_path: Path, vault: Vault) -> Iterator[GameVault]:
    """Three builds; in the last one a node has another name."""
    folder = tmp_path / "lantern"
    folder.mkdir()
    (folder / "player.gd").write_text(PLAYER)
    (folder / "hud.tscn").write_text('[node name="HealthBar"]\n')
    (folder / "readme.txt").write_text("1")
    with GameVault("lantern", folder, vault=vault.path) as game:
        game.create_backup(name="b1", is_milestone=True)
        (folder / "readme.txt").write_text("2")
        game.create_backup(name="b2", is_milestone=True)
        (folder / "readme.txt").write_text("3")
        (folder / "hud.tscn").write_text('[node name="LifeBar"]\n')
        (folder / "night.png").write_bytes(b"\x89PNG no picture")
        game.create_backup(name="b3", is_milestone=True)
        yield game


def fill(game: GameVault, *, sessions: int = 100, crashes: int = 30) -> None:
    records = []
    for build in ("b1", "b2", "b3"):
        records += [
            {
                "id": f"{build}s{n}",
                "kind": "session",
                "session": f"{build}s{n}",
                "player": f"{build}p{n}",
                "build": build,
            }
            for n in range(sessions)
        ]
        records += [
            {"id": f"{build}d{n}", "kind": "error", "text": f"disk full {n}", "player": f"{build}p{n}", "build": build}
            for n in range(4)
        ]
    records += [
        {
            "id": f"c{n}",
            "kind": "crash",
            "text": f"Invalid get index of {n}",
            "stack": [STACK, f"at: step (res://world.gd:{n})"],
            "player": f"b3p{n}",
            "build": "b3",
        }
        for n in range(crashes)
    ]
    # One player's machine that sends hundreds is one player.
    records += [
        {"id": f"x{n}", "kind": "crash", "sig": "LOOP-1", "text": "loop", "player": "one", "build": "b3"}
        for n in range(300)
    ]
    records += [
        {"id": f"r{n}", "kind": "review", "text": "The boss is too hard", "player": f"b3p{n}", "build": "b3"}
        for n in range(9)
    ]
    game.correlate_feedback("", records)


def test_what_rose_is_named_with_its_builds_and_players(lantern: GameVault) -> None:
    fill(lantern)
    [one] = lantern.spikes()
    assert (one.builds, one.players, one.before, one.after) == (("b2", "b3"), 30, 0.0, 300.0)
    assert one.sig.startswith("hit-") and one.q < 0.01
    assert lantern.spikes("b2") == []
    with Table(lantern.vault, "lantern") as table:
        found = rises(lantern.vault, table, build="b3")
        assert isinstance(found, Rises) and found.per == "sessions"
        assert [(b.name, b.sessions) for b in played_builds(lantern.vault, table)] == [
            ("b1", 100),
            ("b2", 100),
            ("b3", 100),
        ]
        assert isinstance(found.builds[0], Build)
        with pytest.raises(NotFoundError, match="no feedback of this build"):
            rises(lantern.vault, table, build="nope")


def test_the_change_behind_it_comes_first_with_the_reason(lantern: GameVault) -> None:
    fill(lantern)
    sig = lantern.spikes()[0].sig
    first, *others = lantern.suspects(sig)
    assert (first.path, first.state, first.kind) == (b"hud.tscn", "changed", "scene")
    assert "HealthBar" in first.reasons[0]
    assert {one.path for one in others} == {b"readme.txt", b"night.png"}
    # Between the builds that are named it is the same, and between two where nothing of it changed it is not there.
    assert lantern.suspects(sig, older="b2", newer="b3")[0] == first
    assert [one.path for one in lantern.suspects(sig, older="b1", newer="b2")] == [b"readme.txt"]
    assert lantern.suspects("LOOP-1")


def test_files_that_changed_late_are_known(lantern: GameVault) -> None:
    ids = [one.id for one in lantern.snapshots()][::-1]
    found = {one.path: one.recency for one in between(lantern.vault, ids[0], ids[2])}
    assert found == {b"hud.tscn": 1.0, b"night.png": 1.0, b"readme.txt": 1.0}
    side = Side(lantern.vault, ids[2])
    assert side.sizes[b"readme.txt"] == 1 and side.read(b"readme.txt") == b"3"
    assert side.read(b"nothing") == side.read(b"night.png") == b"" and not is_readable(b"night.png")


def test_files_that_version_control_keeps_are_read_too(tmp_path: Path, vault: Vault) -> None:
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "player.gd").write_text(PLAYER)
    for words in (("init", "-q"), ("add", "."), ("commit", "-qm", "x")):
        subprocess.run(["git", *words], cwd=folder, check=True)
    with GameVault("checkout", folder, vault=vault.path) as game:
        assert Side(vault, game.backup().snapshot).read(b"player.gd").decode() == PLAYER


def test_unity_assets_are_found_by_their_numbers(tmp_path: Path, vault: Vault) -> None:
    number = "0123456789abcdef0123456789abcdef"
    folder = tmp_path / "unity"
    (folder / "Assets").mkdir(parents=True)
    (folder / "ProjectSettings").mkdir()
    (folder / "ProjectSettings/ProjectVersion.txt").write_text("m_EditorVersion: 2022.3.1f1\n")
    (folder / "Assets/Boss.prefab.meta").write_text(f"fileFormatVersion: 2\nguid: {number}\n")
    (folder / "Assets/Boss.prefab").write_text("a: 1\n")
    with GameVault("unity", folder, vault=vault.path) as game:
        game.create_backup(name="b1", is_milestone=True)
        (folder / "Assets/Boss.prefab").write_text("a: 2\n")
        (folder / "Assets/A.txt").write_text("a")
        game.create_backup(name="b2", is_milestone=True)
        game.correlate_feedback("b2", [{"id": "1", "kind": "crash", "sig": "X", "text": f"missing {number}"}])
        assert game.suspects("X")[0].path == b"Assets/Boss.prefab"
        assert dict(Side(vault, game.snapshots()[0].id).numbers()) == {number: b"Assets/Boss.prefab"}


def test_what_cannot_be_told_is_said(lantern: GameVault) -> None:
    with pytest.raises(NotFoundError, match="no such signature"):
        lantern.suspects("nothing")
    lantern.correlate_feedback("", [{"id": "1", "kind": "crash", "sig": "NOWHERE", "text": "x"}])
    with pytest.raises(NotFoundError, match="nobody said of which build"):
        lantern.suspects("NOWHERE")
    lantern.correlate_feedback("b1", [{"id": "2", "kind": "crash", "sig": "FIRST", "text": "x"}])
    with pytest.raises(NotFoundError, match="is the first snapshot"):
        lantern.suspects("FIRST")
    with Table(lantern.vault, "lantern") as table:
        found = suspicion(lantern.vault, table, "FIRST", older="b1", newer="b2")
    assert isinstance(found, Suspicion) and found.records == 1


def test_what_players_talk_about_is_counted_by_the_projects_rules(lantern: GameVault) -> None:
    fill(lantern)
    with Table(lantern.vault, "lantern") as table:
        found = {one.name: one for one in by_category(lantern.vault, table, "b3")}
        balance = found["balance"]
        assert isinstance(balance, ByCategory)
        assert (balance.records, balance.players, balance.examples[0]) == (9, 9, ("“too hard”", "The boss is too hard"))
        assert found["crash"].records == 330 and found["crash"].players == 31
        (lantern.path / ".gitvault-feedback.toml").write_text("[category]\nboss = 3\n")
        with pytest.raises(ConfigError):
            by_category(lantern.vault, table)


def test_two_builds_on_a_page(lantern: GameVault, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (40, 40), "red").save(lantern.path / "night.png")
    lantern.create_backup(name="b4", is_milestone=True)
    Image.new("RGB", (40, 40), "blue").save(lantern.path / "night.png")
    lantern.create_backup(name="b5 <script>", is_milestone=True)
    fill(lantern)
    lantern.correlate_feedback(
        "b5 <script>", [{"id": "t", "kind": "review", "text": "<b>crash</b> & awe", "player": "p"}]
    )
    with lantern.playtest("b5 <script>", player="anna") as session:
        session.event("level_start", level="cave")
        session.event("jump")
    page, figures = write_report(lantern.vault, "lantern", "b4", "b5 <script>", tmp_path / "page")
    text = page.read_text("utf-8")
    assert figures["changes"] == 1 and figures["pictures"] >= 1
    assert "&lt;b&gt;crash&lt;/b&gt; &amp; awe" in text and "<script" not in text
    assert "night.png" in text and "jump, an hour" in text and "cave, reached by" in text
    assert all((tmp_path / "page" / name).exists() for name in _linked(text))
    with pytest.raises(ExistsError, match="is there already"):
        lantern.game_report("b4", "b5 <script>", tmp_path / "page")
    # What rose stands there with its suspects, and a picture that is none stops nothing.
    again = lantern.game_report("b2", "b3", tmp_path / "page", overwrite=True)
    text = again.read_text("utf-8")
    assert "hit-" in text and "hud.tscn" in text and "too hard" in text
    other = lantern.vault.create_snapshot(tmp_path / "page", project="other").snapshot
    with pytest.raises(NotFoundError, match="is a snapshot of other"):
        lantern.game_report("b2", other, tmp_path / "page2")


def _linked(text: str) -> list[str]:
    import re
    from urllib.parse import unquote

    return [unquote(name) for name in re.findall(r'src="([^"]+)"', text)]


def test_the_command(lantern: GameVault, command: Run, tmp_path: Path) -> None:
    fill(lantern)
    [one] = json.loads(command("feedback", "spikes", "--project", "lantern", "--json").stdout)
    assert set(one) == {"sig", "builds", "players", "before", "after", "q"}
    rows = json.loads(command("feedback", "suspects", one["sig"], "--json").stdout)
    assert rows[0]["path"] == "hud.tscn" and rows[0]["reason"] == rows[0]["reasons"][0]
    assert "hud.tscn" in command("feedback", "suspects", one["sig"], "--from", "b2", "--to", "b3").stdout
    assert one["sig"] in command("feedback", "spikes").stdout
    assert command("feedback", "spikes", "--build", "b2").stdout.startswith("nothing rose")
    assert "too hard" in command("feedback", "categories").stdout
    assert json.loads(command("feedback", "categories", "--json").stdout)[0]["category"] == "crash"
    made = json.loads(command("game", "report", "b2", "b3", "-o", str(tmp_path / "out"), "--json").stdout)
    assert Path(made["page"]).is_file() and made["rose"] == 1
    for words, told in (
        (("feedback", "suspects"), "expected SIGNATURE"),
        (("feedback", "spikes", "x"), "takes no FILE"),
        (("game", "report", "b2"), "expected two builds"),
    ):
        done = command(*words)
        assert (done.returncode, told in done.stderr) == (129, True)


def test_a_project_with_feedback_of_one_build_or_none(lantern: GameVault, command: Run) -> None:
    assert command("feedback", "spikes").stdout == "feedback of one build: nothing to compare with\n"
    assert command("feedback", "categories").stdout == "no feedback with words\n"


def test_what_players_say_in_nearly_the_same_words_is_told_once(lantern: GameVault, command: Run) -> None:
    said = ["Boss too hard", "The boss is too hard!", "too hard, the boss", "Nice lamp"]
    lantern.correlate_feedback("b1", [{"id": f"{n}", "text": text, "player": f"{n}"} for n, text in enumerate(said)])
    first, second = json.loads(command("feedback", "query", "--group", "--json").stdout)
    assert (first["players"], first["records"], len(first["ids"]), first["builds"]) == (3, 3, 3, ["b1"])
    assert second["text"] == "Nice lamp" and second["last"] is None
    told = command("feedback", "query", "--group").stdout
    assert "in 3 ways" in told and "1 record that no other resembles" in told
    assert "no feedback that fits" in command("feedback", "query", "--group", "--text", "nothing").stdout
