"""What feedback says of builds: signatures, categories, the statistics of spikes, the ranking of suspects."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from gitvault.errors import ConfigError
from gitvault.personas.game.feedback import Feedback
from gitvault.personas.game.insight import Suspect, categories
from gitvault.personas.game.insight.alike import LEAST, Group, alike, groups
from gitvault.personas.game.insight.alike import words as words_of
from gitvault.personas.game.insight.categories import FILE, Category, Match, Rules, builtin, of_project
from gitvault.personas.game.insight.clues import Clues, clues, pairs, words
from gitvault.personas.game.insight.places import Line, Place, lines_of, places_of, same_end
from gitvault.personas.game.insight.signatures import KIND, Frame, frame, frames, headline, plain_function, signature
from gitvault.personas.game.insight.spikes import RATE, WINDOW, Played, Spike, adjusted, spikes, upper_tail
from gitvault.personas.game.insight.suspects import suspects
from gitvault.personas.game.insight.touched import Change, Fate, Touched, counterparts, references, touched
from gitvault.personas.game.insight.translations import translations


def said(text: str = "", *stack: str, kind: str = "crash", sig: str = "", scene: str = "", **more: object) -> Feedback:
    return Feedback("0" * 32, "", "x", kind, text=text, sig=sig, stack=stack, scene=scene, **more)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------ signatures


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "  at Player.Hit (System.Int32 amount) [0x00012] in Assets/Player.cs:42",
            ("Player.Hit", "Assets/Player.cs", 42),
        ),
        ("Player:Hit(Int32) (at Assets/Scripts/Player.cs:42)", ("Player:Hit", "Assets/Scripts/Player.cs", 42)),
        ("   at: hit (res://actors/player.gd:12)", ("hit", "res://actors/player.gd", 12)),
        ("0 - res://player.gd:12 - at function: hit", ("hit", "res://player.gd", 12)),
        ("   At: res://player.gd:12.", ("", "res://player.gd", 12)),
        ('  File "game/player.py", line 3, in hit', ("hit", "game/player.py", 3)),
        ("#1 0x00007f in AHero::Jump(float) at /src/Hero.cpp:88", ("AHero::Jump", "/src/Hero.cpp", 88)),
        (r"Game.exe!AHero::Jump() [D:\b\Source\Hero.cpp:88]", ("AHero::Jump", "D:/b/Source/Hero.cpp", 88)),
        ("    at hit (http://x.io/js/player.js:3:4)", ("hit", "http://x.io/js/player.js", 3)),
        ("player.lua:12: in function 'hit'", ("hit", "player.lua", 12)),
        ("libgame.so(hero_jump+0x2d) [0x7f00]", ("hero_jump", "", 0)),
        ("#3  hero_jump", ("hero_jump", "", 0)),
        ("the boss is too hard", None),
    ],
)
def test_a_step_of_a_stack_is_read_in_any_language(line: str, expected: tuple[str, str, int] | None) -> None:
    found = frame(line)
    assert found == (Frame(*expected) if expected else None)


def test_steps_of_engines_are_not_the_games_own() -> None:
    own = {
        line: found.is_own for line in ("at UnityEngine.Debug.Log (x)", "at Player.Hit (x)") if (found := frame(line))
    }
    assert own == {"at UnityEngine.Debug.Log (x)": False, "at Player.Hit (x)": True}


def test_the_same_crash_has_one_signature_whatever_player_and_build() -> None:
    one = said(
        "NullReferenceException: at 0x7ffe12 for player 17",
        "UnityEngine.Object.Check () [0x1] in <aa>:0",
        "Player.Hit (Int32) (at /home/ci/1/Assets/Player.cs:42)",
        "Boss.Strike () (at Assets/Boss.cs:7)",
    )
    other = said(
        "NullReferenceException: at 0x11 for player 3",
        "Player.Hit (Int32) (at C:/ci/2/Assets/Player.cs:44)",
        "Boss.Strike () (at Assets/Boss.cs:9)",
    )
    elsewhere = said("NullReferenceException: at 0x11", "Menu.Open () (at Assets/Menu.cs:9)")
    assert signature(one) == signature(other) != signature(elsewhere)
    assert signature(one).startswith("NullReferenceException@Player.Hit-")


def test_a_sources_own_group_stays_unless_it_is_only_the_first_line() -> None:
    assert signature(said("Boom", "at A.B ()", sig="GAME-7")) == "GAME-7"
    assert signature(said("Boom: 3", "at A.B ()", sig="Boom: 3")).startswith("A.B-")
    assert signature(said("nice game", kind="review")) == ""
    assert signature(said("out of disk 12", kind="error")) == signature(said("out of disk 13", kind="error")) != ""


def test_a_traceback_within_a_text_is_read_the_innermost_first() -> None:
    text = (
        'Traceback (most recent call last):\n  File "a.py", line 1, in run\n  File "b.py", line 2, in hit\nKeyError: 1'
    )
    assert [one.function for one in frames(said(text))] == ["hit", "run"]
    assert headline(text) == "KeyError: #"
    assert KIND.search(text)


def test_what_compilers_add_to_names_goes() -> None:
    assert plain_function("Player+<Run>d__3.MoveNext") == "Player.Run"
    assert plain_function("List`1[T].get_Item (Int32)") == "List.get_Item"
    assert plain_function("AHero::Jump") == "AHero.Jump"


def test_a_hostile_line_takes_no_time_without_end() -> None:
    for text in ("a" * 200_000, "a." * 100_000, "(" * 100_000, " at " * 50_000, "x:1" * 60_000, "/" * 100_000):
        frame(text)
        signature(said(text, text))


# ------------------------------------------------------------------------------------ categories


def of(text: str, kind: str = "review", rating: float | None = None, rules: Rules | None = None) -> set[str]:
    record = Feedback("0" * 32, "", "x", kind, text=text, rating=rating)
    return {match.category for match in (rules or builtin()).matches(record)}


def test_categories_follow_words_kinds_and_ratings() -> None:
    assert of("The game CRASHES when I open the map") == {"crash"}
    assert of("boss is too hard, please add an easy mode") == {"balance", "request"}
    assert of("no bugs, never crashed") == set()
    assert of("", kind="crash") == {"crash"}
    assert of("meh", rating=0.0) == {"complaint"}
    assert "crash" not in of("crashaltogether".replace("crash", "acrash"))
    why = next(iter(builtin().matches(Feedback("0", "", "x", "review", text="it froze"))))
    assert why == Match("crash", "“froze”")


def test_a_project_has_rules_of_its_own(tmp_path: Path) -> None:
    assert of_project(tmp_path) == builtin()
    (tmp_path / FILE).write_text(
        '[category.snow]\nwords = ["snow level", "yeti*"]\nbut = ["snow white"]\nrating_from = 0.99\n'
        '[category.balance]\n[topics]\nyeti = [".tscn"]\n'
    )
    rules = of_project(tmp_path)
    assert of("the Yetis in the snow  level are too hard", rules=rules) == {"snow"}
    assert of("snow white and the yeti", rules=rules) == set()
    assert rules.topics["yeti"] == [".tscn"] and rules.topics["pink"]
    assert Category("snow").why(Feedback("0", "", "x", "review"), "") == ""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[categories]", "categories: unknown"),
        ("category = 3", "expected .category.NAME."),
        ("[topics]\na = 'x'", "topics: expected lists"),
        ("[category.a]\nwordz = []", "category.a: wordz: unknown"),
        ("[category.a]\nwords = 'x'", "words: expected a list"),
        ("[category.a]\nrating_to = 'x'", "rating_to: expected a number"),
        ("[category", "expected TOML"),
        ("#" * (1 << 20) + "#", "larger than 1 MiB"),
    ],
)
def test_rules_that_cannot_be_read_are_told(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / categories.FILE).write_text(text)
    with pytest.raises(ConfigError, match=told):
        of_project(tmp_path)


# ---------------------------------------------------------------------------------------- spikes


def test_the_tail_of_a_negative_binomial_is_what_summing_gives() -> None:
    for count, mean, size in ((1, 0.5, 0.5), (3, 2.0, 4.0), (40, 12.0, 1.5), (7, 30.0, 50.0)):
        below = sum(
            math.exp(
                math.lgamma(size + k) - math.lgamma(size) - math.lgamma(k + 1)
                + size * math.log(size / (size + mean)) + k * math.log(mean / (size + mean))
            )
            for k in range(count)
        )  # fmt: skip
        assert upper_tail(count, mean, size) == pytest.approx(1 - below, abs=1e-9)
    assert upper_tail(0, 3.0, 1.0) == 1.0
    assert upper_tail(2, 0.0, 1.0) == 0.0


def test_q_is_benjamini_and_hochbergs() -> None:
    assert adjusted([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])
    assert adjusted([]) == []


def bursty(
    rng: random.Random, signatures: int, builds: int, injected: int
) -> tuple[dict[str, list[int]], list[Played], set[tuple[str, str]]]:
    """Counts that scatter far more than chance, as real ones do, with so many true rises to the sixfold."""
    played = [Played(f"b{number}", rng.lognormvariate(math.log(2000), 0.4)) for number in range(builds)]
    counts: dict[str, list[int]] = {}
    for number in range(signatures):
        rate = rng.lognormvariate(math.log(0.002), 1.2)
        counts[f"s{number}"] = [_poisson(rng, one.exposure * rate * rng.gammavariate(4, 0.25)) for one in played]
    true = set()
    for number in range(injected):
        sig, build = f"s{number}", rng.randrange(builds // 2, builds)
        usual = max(sum(counts[sig]) / builds, 4)
        counts[sig][build] = _poisson(rng, usual * 8)
        true.add((sig, f"b{build}"))
    return counts, played, true


def _poisson(rng: random.Random, mean: float) -> int:
    if mean > 60:
        return max(0, round(rng.gauss(mean, math.sqrt(mean))))
    left, count, chance = math.exp(-mean), 0, rng.random()
    while chance > left:
        chance *= rng.random()
        count += 1
    return count


def test_what_was_injected_into_bursty_data_is_found_and_hardly_anything_else() -> None:
    counts, played, true = bursty(random.Random(7), 400, 16, 8)
    found = {(one.sig, one.builds[1]) for one in spikes(counts, played)}
    assert len(found & true) >= 6
    assert len(found - true) <= 2
    # What counts as if nothing scattered cries wolf.
    chances = [
        upper_tail(row[n], played[n].exposure * sum(row[:n]) / sum(one.exposure for one in played[:n]), 1e9)
        for row in counts.values()
        for n in range(1, len(played))
    ]
    assert sum(q <= RATE for q in adjusted(chances)) > 10 * len(found)


def test_a_spike_says_who_and_how_much() -> None:
    played = [Played("b1", 1000), Played("b2", 2000)]
    [one] = spikes({"a": [2, 90], "b": [30, 60], "c": [0, 2]}, played)
    assert one == Spike("a", ("b1", "b2"), 90, 2.0, 45.0, one.q)
    assert one.q <= RATE
    assert spikes({"a": [2, 90]}, played, only="b1") == []


def test_a_build_that_was_played_more_is_no_spike() -> None:
    assert spikes({"a": [10, 200], "b": [3, 60]}, [Played("b1", 100), Played("b2", 2000)]) == []


def test_the_builds_long_ago_do_not_count() -> None:
    played = [Played(f"b{n}", 1000) for n in range(WINDOW + 3)]
    row = [90, 90, *[0] * WINDOW, 60]
    assert [one.builds for one in spikes({"a": row}, played)] == [(f"b{WINDOW + 1}", f"b{WINDOW + 2}")]


def test_builds_that_nobody_played_and_no_data_are_no_error() -> None:
    assert spikes({}, []) == []
    assert spikes({"a": [0, 0]}, [Played("b1", 0), Played("b2", 0)]) == []
    assert spikes({"a": [0, 5]}, [Played("b1", 0), Played("b2", 9)]) == []


# -------------------------------------------------------------------------------------- suspects


class Files(dict[bytes, bytes]):
    def read(self, path: bytes) -> bytes:
        return self.get(path, b"")


def ranked(record: Feedback, older: Files, newer: Files, **more: object) -> list[Suspect]:
    changes = [Change(path, "deleted") for path in older.keys() - newer.keys()]
    changes += [Change(path, "added") for path in newer.keys() - older.keys()]
    changes += [Change(path, "changed") for path in older.keys() & newer.keys() if older[path] != newer[path]]
    same = [path for path in newer if newer[path] == older.get(path)]
    return suspects(clues([record]), changes, older.read, newer.read, others=same, **more)  # type: ignore[arg-type]


NOISE = {b"docs/%d.md" % n: b"text %d" % n for n in range(5)} | {
    b"src/other%d.gd" % n: b"var x%d\n" % n for n in range(5)
}
NOISE_LATER = {path: content + b" more\n" for path, content in NOISE.items()}
PLAYER = b"extends Node\n\nfunc hit(amount):\n\tvar bar = $HealthBar\n\tbar.value -= amount\n"


def test_the_file_of_the_stack_comes_first() -> None:
    older = Files({b"actors/player.gd": PLAYER, **NOISE})
    newer = Files({b"actors/player.gd": PLAYER.replace(b"-= amount", b"-= amonut"), **NOISE_LATER})
    first = ranked(said("Nil", "at: hit (res://actors/player.gd:5)"), older, newer)[0]
    assert (first.path, first.kind) == (b"actors/player.gd", "file")
    assert first.reasons[0].startswith("in the stack")


def test_a_node_that_went_is_found_through_the_line_of_code_that_names_it() -> None:
    scene = b'[node name="Root"]\n[node name="HealthBar" parent="."]\n'
    older = Files({b"actors/player.gd": PLAYER, b"ui/hud.tscn": scene, **NOISE})
    newer = Files({b"actors/player.gd": PLAYER, b"ui/hud.tscn": scene.replace(b"HealthBar", b"LifeBar"), **NOISE_LATER})
    first = ranked(said("Invalid get index", "at: hit (res://actors/player.gd:4)"), older, newer)[0]
    assert (first.path, first.kind) == (b"ui/hud.tscn", "scene")
    assert "HealthBar" in first.reasons[0] and "is gone" in first.reasons[0]


def test_a_file_that_is_named_and_gone_comes_first() -> None:
    older = Files({b"art/sword.png": b"", **NOISE})
    found = ranked(said("Failed loading resource: res://art/sword.png."), older, Files(NOISE_LATER))
    assert (found[0].path, found[0].kind, found[0].state) == (b"art/sword.png", "asset", "deleted")


def test_in_a_folder_that_was_renamed_only_what_was_edited_counts_as_touched() -> None:
    """All its files are added; the one that was edited is found by what went from it."""
    stats = b"signal health_depleted\n" + b"".join(b"var a%d\n" % n for n in range(20))
    user = b'func _ready():\n\tconnect("health_depleted", self, "over")\n'
    older = Files({b"proto/stats.gd": stats, b"proto/enemy.gd": user, **NOISE})
    newer = Files({b"game/stats.gd": stats.replace(b"health_depleted", b"died"), b"game/enemy.gd": user, **NOISE_LATER})
    first = ranked(said("Attempt to connect nonexistent signal 'health_depleted'"), older, newer)[0]
    assert (first.path, first.state) == (b"game/stats.gd", "added")
    assert first.reasons[0] == "health_depleted is gone"


def test_a_change_behind_a_guid_comes_first() -> None:
    number = "0123456789abcdef0123456789abcdef"
    older, newer = Files({b"Assets/Boss.prefab": b"a", **NOISE}), Files({b"Assets/Boss.prefab": b"b", **NOISE_LATER})
    found = ranked(said(f"Broken: {number}"), older, newer, numbers={number: b"Assets/Boss.prefab"})
    assert found[0].path == b"Assets/Boss.prefab"
    assert list(references(f"guid: {number}".encode(), {number: b"Assets/Boss.prefab"})) == ["Assets/Boss.prefab"]


def test_what_the_stacks_file_uses_is_suspected_before_what_nothing_uses() -> None:
    code = b'const Sword = preload("res://items/sword.tres")\nfunc hit():\n\tpass\n'
    older = Files({b"player.gd": code, b"items/sword.tres": b"a=1", b"items/bow.tres": b"a=1"})
    newer = Files({b"player.gd": code, b"items/sword.tres": b"a=2", b"items/bow.tres": b"a=2"})
    assert ranked(said("Nil", "at: hit (res://player.gd:3)"), older, newer)[0].path == b"items/sword.tres"


def test_players_words_topics_scenes_and_lateness_count() -> None:
    older = Files({b"project.godot": b"gravity=900\n", **NOISE})
    newer = Files({b"project.godot": b"gravity=90\n", **NOISE_LATER})
    found = ranked(said("gravity is far too low", kind="review"), older, newer, topics={"gravity": ["project.godot"]})
    assert (found[0].path, found[0].kind) == (b"project.godot", "setting")
    by_scene = ranked(said("stuck", kind="bug", scene="docs/3"), older, newer)
    assert by_scene[0].path == b"docs/3.md"
    late = suspects(
        Clues(), [Change(b"a.png", "changed"), Change(b"b.png", "changed", recency=1.0)], older.read, newer.read
    )
    assert [one.path for one in late] == [b"b.png", b"a.png"]
    assert late[0].reasons == ("changed late",)
    assert suspects(Clues(), [], older.read, newer.read) == []


def test_a_file_that_became_another_is_held_against_it_by_its_name_or_its_lines() -> None:
    body = b"".join(b"var number_%d = 1\n" % n for n in range(20))
    older = Files(
        {b"a/BattlerStats.gd": b"x\n", b"a/Move.gd": b"x.run()\n" + body, b"b/Move.gd": b"walk\n", b"a/fight.gd": body}
    )
    newer = Files(
        {b"src/battler_stats.gd": b"y\n", b"src/Move.gd": b"x.jump()\n" + body, b"src/other.gd": b"entirely new\n"}
    )
    changes = [Change(path, "deleted") for path in older] + [Change(path, "added") for path in newer]
    assert counterparts(changes, older.read, newer.read) == {
        b"src/battler_stats.gd": b"a/BattlerStats.gd",
        b"src/Move.gd": b"a/Move.gd",
    }
    seen = touched(changes[-2], b"a/Move.gd", older.read, newer.read)
    assert isinstance(seen, Touched)
    assert (seen.names, seen.lines) == ({"run": Fate.WENT, "jump": Fate.TOUCHED}, {1})
    assert 0 < seen.share < 0.1


def test_what_a_message_says_is_not_there_was_taken_away_by_who_defined_it() -> None:
    """Who asks for it is where the error shows, and has only changed, too."""
    user = b'func _ready():\n\tvar stats = $Stats\n\tstats.connect("health_depleted", self, "over")\n'
    stats = b"signal health_depleted\nvar health = 1\n"
    older = Files({b"battler.gd": user, b"stats.gd": stats, **NOISE})
    newer = Files(
        {b"battler.gd": user + b"# more\n", b"stats.gd": stats.replace(b"health_depleted", b"died"), **NOISE_LATER}
    )
    text = "Attempt to connect nonexistent signal 'health_depleted'"
    assert ranked(said(text, "at: _ready (res://battler.gd:3)"), older, newer)[0].path == b"stats.gd"
    # Defined elsewhere now, it is not gone.
    moved = Files({**newer, b"events.gd": b"signal health_depleted\n"})
    found = {one.path: one.reasons for one in ranked(said(text, "at: _ready (res://battler.gd:3)"), older, moved)}
    assert not any("is gone" in reason for reason in found[b"stats.gd"])


def test_messages_name_what_is_not_there_and_what_lacks_it() -> None:
    for text, lacking, owners in (
        ('Node not found: Console/Left/UndoButton (relative to "/root/Main/Toolbar")', {"undobutton"}, {"toolbar"}),
        ("Invalid get index 'min_speed' (on base: 'RigidBody2D (Mob.gd)').", {"minspeed"}, {"mob"}),
        ("main.lua:1: attempt to call method 'canBurn' (a nil value)", {"canburn"}, set()),
        ("AttributeError: 'Player' object has no attribute 'jump'", {"jump"}, {"player"}),
        # Something that is nothing lacks all.
        ("Invalid call. Nonexistent function 'get_child' in base 'Nil'.", set(), set()),
        ("The boss is too hard", set(), set()),
    ):
        found = clues([said(text)])
        assert (found.lacking, found.owners) == (lacking, owners), text


def test_who_lacks_something_by_the_message_is_suspected() -> None:
    older = Files({b"mob.gd": b"var speed\n", **NOISE})
    newer = Files({b"mob.gd": b"var speed = 1\n", **NOISE_LATER})
    first = ranked(said("Invalid get index 'min' (on base: 'Resource (Mob)')."), older, newer)[0]
    assert first.path == b"mob.gd" and "what lacks it, as the message says" in first.reasons


def test_a_number_that_changed_beside_the_word_that_players_use_comes_first() -> None:
    code = b"const JUMP_SPEED = 5\nconst RUN_SPEED = 3\n" + b"".join(b"var a%d\n" % n for n in range(300))
    jumps = {b"model/jump_%d.tres" % n: b"a" for n in range(4)}
    older = Files({b"actors/hero.gd": code, **jumps, **NOISE})
    newer = Files({path: content + b"\n" for path, content in {**jumps, **NOISE_LATER}.items()})
    newer[b"actors/hero.gd"] = code.replace(b"JUMP_SPEED = 5", b"JUMP_SPEED = 50")
    first = ranked(said("One jump and I am above the clouds", kind="review"), older, newer)[0]
    assert first.path == b"actors/hero.gd"
    assert "“jump” in a line whose number changed" in first.reasons


def test_a_change_in_a_function_that_the_stacks_line_calls_is_suspected() -> None:
    user = b"class Data {\n    void Add() {\n        var m = Missions.Make(kind);\n        m.Begin();\n    }\n}\n"
    maker = (
        b"class Missions {\n    static Mission Make(Kind kind)\n    {\n        if (kind == 1)\n            return x;\n"
    )
    older = Files({b"Data.cs": user, b"Missions.cs": maker, **NOISE})
    newer = Files({b"Data.cs": user, b"Missions.cs": maker.replace(b"            return x;\n", b""), **NOISE_LATER})
    first = ranked(said("NullReferenceException", "at Data.Add () (at Data.cs:3)"), older, newer)[0]
    assert first.path == b"Missions.cs"
    assert "changed in Make, which Data.cs:3 calls" in first.reasons


def test_a_stack_is_of_files_that_are_there() -> None:
    """The one of another folder and time that had the same name is none of it."""
    older = Files({b"old/Board.gd": b"func a():\n\tpass\n", b"src/board.gd": b"func b():\n\tpass\n", **NOISE})
    newer = Files({b"src/board.gd": b"func b():\n\tfail()\n", **NOISE_LATER})
    found = {one.path: one for one in ranked(said("Nil", "at: b (res://src/board.gd:2)"), older, newer)}
    assert not any("in the stack" in reason for reason in found[b"old/Board.gd"].reasons)
    assert any("in the stack" in reason for reason in found[b"src/board.gd"].reasons)


def test_where_a_stack_is_and_what_its_line_names() -> None:
    code = b"func hit(by):\n\tvar bar = $HealthBar\n\tbar.value -= by.damage\n"
    present = [b"src/player.gd", b"old/player.gd", b"src/Hero.cpp"]
    stack = [(Frame("hit", "res://src/player.gd", 3), 1.0), (Frame("AHero::Jump", "", 0), 0.5)]
    places = places_of(stack, present, [b"gone/player.gd"])
    assert places == {b"src/player.gd": [Place(stack[0][0], 1.0, 1.0)], b"src/Hero.cpp": [Place(stack[1][0], 0.4, 1.0)]}
    line, given = lines_of(places, {b"src/player.gd": code}.__getitem__)
    assert line == Line("src/player.gd:3", 1.0, frozenset({"bar", "value", "damage"}))
    assert given.names == {"HealthBar"} and given.worth < 1
    assert [same_end(a, "a/b/C.gd") for a in ("x/B/c.gd", "c.gd", "d.gd")] == [2, 1, 0]
    # Where nothing is left of it, what went is where it was.
    assert list(places_of(stack[:1], [], [b"gone/player.gd"])) == [b"gone/player.gd"]


def test_what_a_report_begins_with_is_what_it_is_about() -> None:
    found = clues([said("Checkpoints do not save. I died and then the level began anew.", kind="bug")]).words
    assert found["checkpoint"] == 1.0 > found["level"] > 0
    assert clues([said("FloorDetector")]).words["floor"] < found["level"]


def test_words_are_those_people_and_files_share() -> None:
    assert words("PlayerJumps2.gd boss_fights") == {"player", "jump", "boss", "fight"} - {"player"}
    for said_so in ("fires fired firing", "saves saved saving", "palettes palette", "stopped stops", "speeds speed"):
        assert len(words(said_so)) == 1
    assert pairs("the floor switches") == pairs("FloorSwitch.cs") == pairs("floor_switch") != pairs("switch_floor")


def test_a_name_that_came_is_suspected_where_one_like_it_is_not_there() -> None:
    """What the new build wants was never in the old one, so nothing took it away."""
    user = b'func _ready():\n\tEvents.connect("mine_started", self, "go")\n'
    older = Files({b"events.gd": b"signal docked\n", b"hud.gd": b"func _ready():\n\tpass\n", **NOISE})
    newer = Files({b"events.gd": b"signal docked\nsignal mining_started\n", b"hud.gd": user, **NOISE_LATER})
    first = ranked(said("Attempt to connect nonexistent signal 'mine_started'", kind="error"), older, newer)[0]
    assert (first.path, first.reasons[0]) == (b"events.gd", "miningstarted, much like mine_started, came")


def test_two_words_in_a_row_are_more_than_the_same_two_apart() -> None:
    paths = (b"src/MenuPause.cs", b"src/PauseMenu.cs")
    older, newer = (Files(dict.fromkeys(paths, content)) for content in (b"a", b"b"))
    assert ranked(said("the pause menu does nothing", kind="bug"), older, newer)[0].path == b"src/PauseMenu.cs"


def test_documents_tests_and_what_an_editor_keeps_come_after_the_game() -> None:
    paths = (b"docs/Sword.txt", b"tests/Sword.cs", b"Assets/Sword.cs.meta", b"weapons/Sword.cs")
    older, newer = (Files(dict.fromkeys(paths, content)) for content in (b"a", b"b"))
    assert ranked(said("the sword is broken", kind="bug"), older, newer)[0].path == b"weapons/Sword.cs"


def test_what_was_to_be_set_in_a_scene_is_held_against_the_scene() -> None:
    number = "0123456789abcdef0123456789abcdef"
    code = b"class Door {\n    void Open() {\n        m_Animator.Play();\n    }\n}\n"
    scene = b"guid: %s\nm_Animator: {fileID: 7}\n" % number.encode()
    older = Files({b"Assets/Door.cs": code, b"Assets/Gate.prefab": scene, **NOISE})
    newer = Files({b"Assets/Door.cs": code + b"// more\n", b"Assets/Gate.prefab": scene.replace(b": 7", b": 0")})
    newer |= NOISE_LATER
    numbers = {number: b"Assets/Door.cs"}
    stack = "at Door.Open () (at Assets/Door.cs:3)"
    unset = said("The variable m_Animator of Door has not been assigned.", stack)
    assert ranked(unset, older, newer, numbers=numbers)[0].path == b"Assets/Gate.prefab"
    assert ranked(said("m_Animator fails", stack), older, newer, numbers=numbers)[0].path == b"Assets/Door.cs"


def test_an_asset_that_a_stacks_line_names_in_part_is_suspected() -> None:
    code = b"func spawn():\n\treturn heroTypeRegistry.entries[3]\n"
    older = Files({b"spawn.gd": code, b"data/HeroRegistry.asset": b"a", b"data/HeroVoices.asset": b"a"})
    newer = Files({b"spawn.gd": code, b"data/HeroRegistry.asset": b"b", b"data/HeroVoices.asset": b"b"})
    first = ranked(said("Index out of range", "at: spawn (res://spawn.gd:2)"), older, newer)[0]
    assert first.path == b"data/HeroRegistry.asset"
    assert "its name is in heroTypeRegistry, of the stack's line" in first.reasons


def test_of_too_much_or_too_little_a_number_that_came_is_suspected() -> None:
    old = b"".join(b"var a%d\n" % n for n in range(9))
    older = Files({b"move.gd": old, b"walk.gd": old})
    newer = Files({b"move.gd": old + b"var jump_impulse := 450.0\n", b"walk.gd": old + b"func jump():\n"})
    reason = "“jump” in what is given a number"
    low, off = (ranked(said(text, kind="bug"), older, newer) for text in ("the jump is much lower", "jump fails"))
    assert low[0].path == b"move.gd" and reason in low[0].reasons
    assert not any(reason in one.reasons for one in off)


def test_what_somebody_misses_may_have_been_deleted() -> None:
    older = Files({b"levels/names.txt": b"a", b"src/names.gd": b"a"})
    newer = Files({b"src/names.gd": b"b"})
    missed, wrong = (
        ranked(said(text, kind="bug"), older, newer)
        for text in ("There are no names any more", "The names are in a wrong order")
    )
    assert missed[0].path == b"levels/names.txt" and "and it was deleted" in missed[0].reasons
    assert wrong[0].path == b"src/names.gd"


def test_translations_come_after_code_unless_reports_are_of_texts() -> None:
    languages = (b"de", b"fr", b"pt_BR")
    texts = {b"mods/beds/locale/beds.%s.txt" % code: b"Leaving bed=%s" % code for code in languages}
    older = Files(
        {b"mods/beds/api.lua": b"speed = 1\n", b"mods/beds/locale/beds.txt": b"Leaving bed\n", **texts, **NOISE}
    )
    newer = Files({path: content + b" or so\n" for path, content in older.items()})
    slow = ranked(said("Leaving the bed I cannot walk", kind="bug"), older, newer)
    assert slow[0].path == b"mods/beds/api.lua"
    german = next(one for one in slow if one.path.endswith(b"beds.de.txt"))
    assert "“leaving” in what changed, a translation's" in german.reasons
    wrong = ranked(said("Leaving the bed shows a text that is misspelled", kind="bug"), older, newer)
    assert wrong[0].path == b"mods/beds/locale/beds.txt" and "texts, which the reports are of" in wrong[0].reasons
    assert not any("translation" in reason for one in wrong for reason in one.reasons)


def test_a_translation_that_a_report_names_is_suspected_whatever_the_report_is_of() -> None:
    older = Files({b"locale/de.po": b"a", b"src/menu.gd": b"a", **NOISE})
    first = ranked(said("Failed loading resource: res://locale/de.po."), older, Files({**NOISE_LATER}))[0]
    assert first.path == b"locale/de.po" and first.score > 12


def test_texts_in_languages_are_known_by_their_endings_their_names_and_their_folders() -> None:
    families = {
        b"text/misc.properties": True,
        b"text/misc_de.properties": False,
        b"text/misc_pt_BR.properties": False,
        b"text/misc_zh-hant.properties": False,
        b"lang/en/menu.json": True,
        b"lang/cs/menu.json": False,
        b"lang/el/menu.json": False,
        b"lang/ja/menu.json": False,
        b"po/ru/LC_MESSAGES/game.po": False,
        b"po/game.pot": True,
    }
    # Two are no family, nor are names that end like a code which is none.
    others = [b"a/door_no.png", b"a/door_it.png", b"b/menu_up.gd", b"b/menu_xx.gd", b"b/menu_qq.gd", b"b/menu_yy.gd"]
    assert translations([*families, *others]) == families


def test_what_still_works_is_no_clue() -> None:
    """ "Torches still do" is said of what is not broken, "still does not" of what is."""
    older, newer = (Files({b"torch.lua": x, b"lamp.lua": x, **NOISE}) for x in (b"a", b"b"))
    for fine in ("torches still do", "while the torch works fine", "the torch is ok"):
        first = ranked(said(f"It is dark, {fine}. I put a lamp there", kind="bug"), older, newer)[0]
        assert first.path == b"lamp.lua"
    first = ranked(said("It is dark, the torch still does not shine. I put a lamp there", kind="bug"), older, newer)[0]
    assert first.path == b"torch.lua"


def test_what_stands_around_a_change_tells_what_it_is_of() -> None:
    """Neither the line that changed nor its file's name has a word of the report; the function's name, or a line
    beside, has.
    """
    far = b"".join(b"var z%d\n" % n for n in range(40))
    spread = b"func grow_mushrooms():\n" + far[:80] + b"\tchance = 150\n"
    beside = b"nodes = mushroom\nchance = 150\n" + far
    for content in (spread, beside):
        later = content.replace(b"150", b"1")
        older = Files({b"a.gd": content, b"b.gd": b"chance = 150\n" + far + b"mushroom\n", **NOISE})
        newer = Files({b"a.gd": later, b"b.gd": b"chance = 1\n" + far + b"mushroom\n", **NOISE_LATER})
        first = ranked(said("the cave is full of mushrooms", kind="comment"), older, newer)[0]
        assert first.path == b"a.gd" and "“mushrooms” around what changed" in first.reasons


# ------------------------------------------------------------------------------------ what says the same

SAMPLE = (
    ("The boss is too hard", "boss way too hard!!", "Boss is too hard.", "This boss is just too hard"),
    ("The boss is too easy", "boss was too easy"),
    ("Lost my save after the update", "my saves are lost after the update", "I lost my save game after updating"),
    ("Please add cloud saves", "pls add cloud save", "Cloud saves please!"),
    ("Stuck on the ladder in the cave", "I got stuck on the ladder in the cave level", "stuck at the cave ladder"),
    ("Game crashes on startup", "the game crashes at startup", "Crash on startup"),
    ("Game crashes when I alt-tab", "crashes on alt tab"),
    ("The music is beautiful", "Beautiful music!"),
    ("The shop is open", ),
    ("The shop is not open", ),
    ("Der Endgegner ist viel zu schwer", "Endgegner viel zu schwer"),
    ("Le boss est trop difficile \u00e0 battre", "le boss est trop difficile a battre !"),
    ("\u8fd9\u4e2a\u6e38\u620f\u592a\u96be\u4e86", "\u6e38\u620f\u592a\u96be\u4e86"),
    ("\u95ea\u9000\u4e86",),
)  # fmt: skip


def test_what_says_the_same_in_nearly_the_same_words_is_one_group() -> None:
    """In whatever order it comes; what differs in the word that counts stays apart."""
    texts = [text for group in SAMPLE for text in group]
    for seed in range(5):
        random.Random(seed).shuffle(texts)
        assert {frozenset(texts[place] for place in group) for group in alike(texts)} == set(map(frozenset, SAMPLE))


def test_a_group_is_led_by_the_words_that_most_used_and_counts_players() -> None:
    records = [
        said("boss way too hard!", kind="review", player="a" * 32),
        said("The boss is too hard", kind="review", player="b" * 32),
        said("boss too hard", kind="review", player="b" * 32),
        said("I love it", kind="review"),
        said("!!!", kind="review"),
        said("boss too hard", kind="event"),
    ]
    first, second = groups(records)
    assert isinstance(first, Group) and first == Group("boss way too hard!", 2, tuple(records[:3]))
    assert (second.text, second.players) == ("I love it", 1)
    assert alike(["one two three", "one two four"], least=LEAST) == [[0, 1]]
    assert alike(["one two three", "one two four"], least=0.6) == [[0], [1]]
    assert words_of("It is") == {"it", "is"}, "all of them where none says anything"
    assert words_of("He's SAVED the caf\u00e9\u2019s cat") == {"hes", "sav", "caf", "cat"}
