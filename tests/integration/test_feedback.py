"""Feedback: real formats come in, identities stay out, the same file twice changes nothing, answers name the build."""

from __future__ import annotations

import gzip
import io
import json
import os
import secrets
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gitvault import GameVault
from gitvault.core.utils import process
from gitvault.errors import ConfigError, CorruptionError, GitVaultError, UnsupportedMedia
from gitvault.personas.game import builds, feedback
from gitvault.personas.game.feedback import (
    SOURCES,
    BuildFigures,
    Feedback,
    Imported,
    Report,
    Table,
    Wanted,
    identities,
    importing,
    queries,
    reading,
    segments,
)
from gitvault.personas.game.feedback.lines import digest, encode
from gitvault.personas.game.feedback.sources import ADDED, FIELDS
from gitvault.personas.game.players import hasher
from gitvault.vault import Vault

Run = Callable[..., subprocess.CompletedProcess[str]]
FIXTURES = Path(__file__).parent.parent.parent / "fixtures" / "feedback"
FILES = {file.stem: file for file in FIXTURES.iterdir() if file.stem != "plain"}
# Names, ids and addresses in the fixtures.
SOMEBODY = [
    "76561198000000001",
    "anna@example.org",
    "203.0.113",
    "ANNAS-PC",
    "d3b07384",
    "ADADCB6F9583EA99",
    "player-1",
    "ga-1",
    "ua-1",
    "u-77",
]


@pytest.fixture
def lantern(tmp_path: Path, vault: Vault) -> GameVault:
    (tmp_path / "lantern").mkdir()
    (tmp_path / "lantern" / "level.txt").write_text("cellar")
    return GameVault("lantern", tmp_path / "lantern", vault=vault.path)


def imported(lantern: GameVault, content: bytes | str, source: str = "steam", **how: str) -> Imported:
    data = content.encode() if isinstance(content, str) else content
    return feedback.import_file(lantern.vault, lantern.project.name, io.BytesIO(data), SOURCES[source], **how)


def review(number: int = 1, **said: Any) -> dict[str, Any]:
    [one, _] = json.loads(FILES["steam"].read_text("utf-8"))["reviews"]
    return {**one, "recommendationid": str(number), **said}


def everything(vault: Vault) -> bytes:
    """All that git shows of the vault, and the table."""
    shown = subprocess.run(
        ["git", f"--git-dir={vault.path}", "log", "-p", "--all", "--format=%B%N"], capture_output=True, check=True
    ).stdout
    return shown + b"".join(file.read_bytes() for file in (vault.path / "cache").glob("feedback-*"))


# What each source says: kind, time, build, platform, scene, rating, playtime, what the text begins with.
SAID = {
    "steam": [
        ("review", "2026-01-03T00:26:40Z", "", "steamdeck", "", 0.0, 18300, "Lovely caves"),
        ("review", "2026-01-14T14:13:20Z", "", "", "", 1.0, 3480, "很好玩"),
    ],
    "itch": [
        ("review", "2026-01-03T10:00:00Z", "1.0", "", "", 0.8, None, "Great mood"),
        ("review", "2026-01-04T11:30:00Z", "1.0", "", "", 0.4, None, "too dark"),
    ],
    "discord": [("comment", "2026-01-05T18:03:04Z", "", "", "", None, None, "@somebody the door")],
    "github": [("bug", "2026-01-06T08:00:00Z", "1.0", "", "", None, None, "Game freezes")],
    "gitlab": [("request", "2026-01-06T10:00:00Z", "1.0", "", "", None, None, "Please add")],
    "sentry": [("crash", "2026-01-07T12:00:02Z", "1.0+4711", "Windows", "cellar", None, None, "NullReferenceEx")],
    "unity": [
        (
            "bug",
            "2026-01-07T13:00:00Z",
            "1.0",
            "WindowsPlayer",
            "cellar",
            None,
            None,
            "Stuck behind the barrel\nI jumped",
        ),
        ("crash", "2026-01-07T12:46:40Z", "1.0", "WindowsPlayer", "", None, None, "SIGSEGV"),
    ],
    "backtrace": [
        ("crash", "2026-01-07T12:55:00Z", "1.0", "Windows", "cellar", None, 600, "NullReferenceException: pl")
    ],
    "gameanalytics": [
        ("crash", "2026-01-07T13:03:10Z", "1.0", "android", "", None, None, "Out of memory"),
        # The player's clock says 1970.
        ("session", "2026-01-07T13:05:00Z", "1.0", "android", "", None, 1200, "session_end"),
    ],
    "unity-analytics": [
        ("event", "2026-01-07T13:06:40Z", "1.0", "WindowsPlayer", "cellar", None, None, "level_failed"),
        ("session", "2026-01-07T13:10:00Z", "1.0", "PC_CLIENT", "", None, 90, "gameEnded"),
    ],
    "playfab": [
        ("event", "2026-01-07T14:00:00Z", "1.0", "PlayFab", "", None, None, "player_logged_in"),
        ("crash", "2026-01-07T14:01:00Z", "1.0", "", "cellar", None, None, "game_crash\naccess violation"),
    ],
}
REJECTED = {"discord": "a message of the type GuildMemberJoin", "github": "a pull request"}


@pytest.mark.parametrize("source", sorted(FILES))
def test_real_formats_are_understood(lantern: GameVault, source: str) -> None:
    done = lantern.import_feedback(FILES[source], source)
    expected = SAID[source]
    assert (done.imported, done.rejected_count) == (len(expected), int(source in REJECTED))
    if done.rejected:
        assert done.rejected[0].record == 2
        assert REJECTED[source] in done.rejected[0].reason
    found = {one.time: one for one in lantern.feedback(raw=True)}
    for kind, time, build, platform, scene, rating, playtime, text in expected:
        one = found[time]
        assert (one.source, one.kind, one.build, one.platform) == (source, kind, build, platform)
        assert (one.scene, one.rating, one.playtime) == (scene, rating, playtime)
        assert one.text.startswith(text)
        assert len(one.player) == 32
        assert one.raw
    if source in ("sentry", "backtrace"):
        [one] = found.values()
        assert one.branch == ("beta" if source == "sentry" else "")
        assert one.stack == ("Save.Write (Save.cs:42)", "Game.Update (Game.cs:10)")
        assert one.sig
    # The same file again.
    before = everything(lantern.vault)
    again = lantern.import_feedback(FILES[source], source)
    assert (again.imported, again.duplicates) == (0, done.imported)
    assert everything(lantern.vault) == before
    assert not [who for who in SOMEBODY if who.encode() in before]


def test_who_draws_the_players_key_second_takes_the_first(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def another_process_draws_meanwhile(count: int) -> str:
        monkeypatch.undo()
        with Vault.open(vault.path) as other:
            said.append(hasher(other)("anna"))
        return "1" * 2 * count

    monkeypatch.setattr(secrets, "token_hex", another_process_draws_meanwhile)
    assert [hasher(vault)("anna")] == said


def test_columns_that_a_file_names(lantern: GameVault, tmp_path: Path) -> None:
    plain, columns = FIXTURES / "plain.csv", FIXTURES / "plain.toml"
    assert lantern.import_feedback(plain, "csv", map=columns).imported == 2
    second, first = lantern.feedback(raw=True)
    assert (first.text, first.rating, first.kind, first.build) == ("The lamp goes out too soon", 0.6, "review", "1.0")
    assert first.player == hasher(lantern.vault)("anna@example.org") != second.player
    assert first.raw["Mail"] == {"player": first.player}
    # Another encoding has to be named, or is told.
    old = tmp_path / "old.csv"
    old.write_bytes(plain.read_text("utf-8").replace("\n2;", "\n3;").encode("cp1252"))
    done = lantern.import_feedback(old, "csv", map=columns)
    assert (done.duplicates, done.rejected_count) == (1, 1)
    assert "bytes that are not of its encoding; --encoding" in done.rejected[0].reason
    assert lantern.import_feedback(old, "csv", map=columns, encoding="cp1252").imported == 1
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"what": {"said": "hm"}, "n": 3}\n{"what": {}, "n": 0.5}\n{"n": "x"}\n{"what": 3}\n')
    named = tmp_path / "named.toml"
    named.write_text('text = "what.said"\ncount = "n"\nstack = "what.stack"\n')
    done = lantern.import_feedback(lines, "jsonl", map=named)
    assert (done.imported, [bad.record for bad in done.rejected]) == (2, [3, 4])
    assert done.rejected[1].reason == "has no what.said, n, what.stack"
    assert sorted(one.count for one in lantern.feedback(source="jsonl")) == [1, 3]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("text = ", "no TOML"),
        ('words = "x"', 'words: expected FIELD = "COLUMN"'),
        ("text = 3", "text: expected FIELD"),
        ("", "nothing in it"),
        ('text = "x"\nbest = 0', "best: expected a number over 0"),
    ],
)
def test_a_map_says_what_it_must(lantern: GameVault, tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "map.toml").write_text(text)
    with pytest.raises(ConfigError, match=why):
        lantern.import_feedback(FIXTURES / "plain.csv", "csv", map=tmp_path / "map.toml")


def test_sources_have_names(lantern: GameVault) -> None:
    for name, columns, why in (
        ("csv", None, "csv: expected --map FILE"),
        ("usenet", None, "usenet: no such source; there are steam, itch"),
        ("steam", FIXTURES / "plain.toml", "steam: takes no --map"),
    ):
        with pytest.raises(ConfigError, match=why):
            feedback.source(name, columns)
    assert feedback.mapped("csv", FIXTURES / "plain.toml").rows
    assert set(SOURCES) | {*feedback.MAPPED} == {*FILES, "csv", "jsonl"}


# -- what is broken --------------------------------------------------------------------------------


def reasons(lantern: GameVault, content: bytes | str, source: str = "steam") -> list[tuple[int, str]]:
    return [(bad.record, bad.reason) for bad in imported(lantern, content, source).rejected]


def test_a_record_that_is_none_is_told_and_the_others_are_kept(lantern: GameVault) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"voted_up": "yes"}, "voted_up: expected true or false"),
        ({"review": None}, "review: expected a text"),
        ({"author": "anna"}, "author: expected an object"),
        ({"author": {}}, "has no steamid"),
        ({"recommendationid": None}, "expected a name or number, found NoneType"),
        ({"timestamp_updated": "soon"}, "'soon': not a time; expected ISO 8601 or seconds since 1970"),
        ({"timestamp_updated": True}, "not a time"),
        ({"author": {"steamid": "7", "playtime_at_review": []}}, "expected a number"),
        ({"author": {"steamid": "7", "playtime_at_review": "nan"}}, "expected a finite number"),
    ]
    records = [review(number, **said) for number, (said, _) in enumerate(wrong, 1)]
    found = reasons(lantern, json.dumps({"reviews": [*records, review(99), 7]}))
    assert found == [
        *((number, why) for number, (_, why) in enumerate(wrong, 1)),
        (len(wrong) + 2, "expected an object, found int"),
    ]
    assert len(lantern.feedback()) == 1
    deep = json.dumps(review(1, more=json.loads("[" * 70 + "]" * 70)))
    assert reasons(lantern, deep) == [(1, "nested more than 64 deep")]
    assert reasons(lantern, json.dumps(review(2, votes_up=float("nan"))))[0][0] == 1
    [(_, why)] = reasons(lantern, '[{"id": "1", "type": "Default", "content": " ", "author": {"id": "1"}}]', "discord")
    assert why == "says nothing in words"
    [(_, why)] = reasons(lantern, "id,review\n1,\n", "itch")
    assert why.startswith("says nothing: expected a column review or blurb")
    [(_, why)] = reasons(lantern, "id,score\n1,9\n", "itch")
    assert why == "rating: expected 0 to 5, found 9"
    [(_, why)] = reasons(lantern, '{"id": "1"}', "unity")
    assert why == "has no summary"


def test_clocks_that_lie(lantern: GameVault) -> None:
    content = json.dumps([review(1, timestamp_updated=5, timestamp_created=5), review(2, timestamp_updated=9**15)])
    assert imported(lantern, content).imported == 2
    assert {one.time for one in lantern.feedback()} == {""}


def test_exports_come_in_many_shapes(lantern: GameVault) -> None:
    one, two, three = (json.dumps(review(number)) for number in (1, 2, 3))
    page = '{"success": 1, "reviews": [%s], "cursor": "x"}'
    for content in (
        f"{one}\n{two}\n\n{three}",
        f"[{one}, {two},\n{three}]",
        f"[{one}][{two}, {three}]",
        page % f"{one},{two}" + "\n" + page % three,
        f"[{page % one}, {page % f'{two},{three}'}]",
        "\ufeff" + one + "\n" + two + three,
    ):
        assert [read.number for read in reading.json_records(io.BytesIO(content.encode()), frozenset({"reviews"}))] == [
            1,
            2,
            3,
        ]
    assert imported(lantern, gzip.compress(page.encode() % f"{one},{two}".encode())).imported == 2
    assert imported(lantern, (page % three).encode("utf-16")).imported == 1


def test_what_is_broken_costs_itself(lantern: GameVault) -> None:
    one, two = (json.dumps(review(number)) for number in (1, 2))
    assert reasons(lantern, f'{one}\n{{"recom\n{two}') == [(2, "not JSON: Invalid control character at")]
    assert [r for r, _ in reasons(lantern, f'[{one}, {{"a": nonsense}}, {two}]')] == [2]
    # In a list that ends in the middle.
    [(record, why)] = reasons(lantern, f'{{"reviews": [{one}, {two}, {{"recomm')
    assert (record, "what follows cannot be told apart, export it again" in why) == (3, True)
    [(record, why)] = reasons(lantern, f'{{"reviews": [{one}, {two},')
    assert (record, why) == (3, "the file ends in the middle of a list; export it again")
    assert "nested too deeply" in reasons(lantern, "[" + '{"a":' * 20_000)[0][1]
    assert reasons(lantern, f'{{"a" 1}}\n{two}')[0][1] == "not JSON: expected a key and a colon"
    # A packed file that was cut off.
    lines = "".join(json.dumps(review(number)) + "\n" for number in range(3000))
    done = imported(lantern, gzip.compress(lines.encode())[:-20])
    assert (done.imported + done.duplicates > 1000, done.rejected_count) == (True, 2)
    assert done.rejected[-1].reason.startswith("the file cannot be read further")
    done = imported(lantern, gzip.compress(b"id,review\n" + b"1,x\n" * 9)[:-9], "itch")
    assert done.rejected[-1].reason.startswith("the file cannot be read further")
    assert reasons(lantern, "id,review\n1,2,3\n\n2,\n", "itch")[0] == (1, "has 3 cells; the header has 2")
    assert reasons(lantern, "[1]\n") == [(1, "expected an object, found int")]


@pytest.mark.parametrize(
    ("content", "source", "why"),
    [
        (b"PK\3\4 and more", "steam", "no text"),
        (b"\0\1\2\3", "steam", "no text"),
        (b"", "itch", "has no header"),
        (b"review\nx\n", "itch", "has no header of several columns"),
    ],
)
def test_what_is_no_export(lantern: GameVault, content: bytes, source: str, why: str) -> None:
    with pytest.raises(UnsupportedMedia, match=why):
        imported(lantern, content, source)


def test_long_exports_are_read_as_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LONGEST", 4000)
    monkeypatch.setattr(reading, "_CHUNK", 500)
    head = b'{"guild": {"a": [1]}, "messages": ['
    tail = b'], "messageCount": 2, "more": {}}'
    content = head + b",".join(b'{"n": %d}' % n for n in range(2000)) + tail + b'{"messages": [{"n": 0}]}'
    read = list(reading.json_records(io.BytesIO(content), frozenset({"messages"})))
    assert [one.document for one in read] == [*({"n": n} for n in range(2000)), {"n": 0}]
    # Longer than any record.
    content = b'[{"n": 1}, {"n": "' + b"x" * 9000 + b'"}, {"n": 2}]'
    [first, second] = reading.json_records(io.BytesIO(content), frozenset())
    assert (first.document, second.document, second.number) == ({"n": 1}, None, 2)
    # A broken line of any length costs that line.
    content = b'{"n": 1}\n{"n": "' + b"x" * 9000 + b'\n{"n": 2}\n'
    assert [one.document for one in reading.json_records(io.BytesIO(content))] == [{"n": 1}, None, {"n": 2}]
    long = b"a,b\n" + b"1," + b"x" * 9000 + b"\n1,2\n"
    assert [one.document for one in reading.csv_records(reading.opened(io.BytesIO(long)))] == [
        None,
        {"a": "1", "b": "2"},
    ]


# -- what is kept ----------------------------------------------------------------------------------


def test_an_id_with_another_content_keeps_the_first_and_is_told(lantern: GameVault) -> None:
    done = imported(lantern, json.dumps([review(1, review="first"), review(1, review="second")]))
    assert (done.read, done.imported, done.changed, done.rejected_count) == (2, 1, 1, 1)
    assert done.rejected[0].reason == "its id is there with another content; the first is kept"
    done = imported(lantern, json.dumps([review(1, review="third"), review(1, review="first", votes_up=77)]))
    # Counters that run on are no other content.
    assert (done.duplicates, done.changed) == (1, 1)
    assert [one.text for one in lantern.feedback()] == ["first"]


def test_many_rejected_records_are_counted(lantern: GameVault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "LISTED", 3)
    done = imported(lantern, "{}\n" * 10)
    assert (done.read, done.rejected_count, len(done.rejected)) == (10, 10, 3)
    done.reject(11, "one more")
    assert (done.rejected_count, len(done.rejected)) == (11, 3)


def test_the_documents_name_sources_and_fields() -> None:
    text = (Path(feedback.__file__).parent.parent.parent.parent / "docs" / "feedback.md").read_text("utf-8")
    assert not [name for name in (*SOURCES, *feedback.MAPPED, *FIELDS) if f"`{name}`" not in text]
    assert ADDED.name == "added"


def test_a_question_imports_nothing_of_what_reads_exports() -> None:
    """Importing is half of what an answer takes from process start."""
    program = "import sys; from gitvault.personas.game.feedback import Table, Wanted, find; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "gitvault.personas.game.feedback.table" in loaded
    assert not {"msgspec", "gitvault.personas.game.feedback.reading"} & {*loaded}
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = feedback.Nothing


def test_half_an_emoji_is_kept(lantern: GameVault) -> None:
    assert imported(lantern, json.dumps(review(1, review="cut \ud83d"))).imported == 1
    [one] = lantern.feedback()
    assert one.text == "cut ?"
    [path] = segments.paths(segments.area_of(lantern.vault, "lantern"))
    [line] = segments.read(segments.area_of(lantern.vault, "lantern"), path)
    assert isinstance(line, segments.Line)
    assert line.said["text"] == "cut \ud83d"
    lantern.vault.path.joinpath("cache", "feedback-lantern.db").unlink()
    assert [one.text for one in lantern.feedback()] == ["cut ?"]


def test_lines_are_canonical() -> None:
    said = {"id": "0" * 32, "kind": "bug", "text": 'a,"was":{', "was": {"b": 1, "a": "é"}, "scene": "", "stack": []}
    line = encode(said)
    assert line.decode() == '{"id":"%s","kind":"bug","text":"a,\\"was\\":{","was":{"a":"é","b":1}}\n' % ("0" * 32)
    assert digest(line) == digest(encode({**said, "was": {}})) != digest(encode({**said, "text": "b"}))
    with pytest.raises(ValueError, match="bytes that are not of its encoding"):
        encode({"text": "caf\udce9"})


def test_identities_are_replaced_wherever_they_stand() -> None:
    scrub = identities.scrubber(lambda who: f"<{who}>", ["Zip Code"])
    raw = {
        "e-Mail": "a@b.org",
        "zipCode": 12345,
        "user": {"name": "anna", "x": 1},
        "mentions": [{"id": 7}, "bert"],
        "deep": [[{"IP_Address": "1.2.3.4", "note": "write me: a.b@c.example!"}]],
        "author": None,
        "n": 1,
    }
    assert scrub(raw) == {
        "e-Mail": {"player": "<a@b.org>"},
        "zipCode": {"player": "<12345>"},
        "user": {"player": "<anna>"},
        "mentions": [{"player": "<7>"}, {"player": "<bert>"}],
        "deep": [[{"IP_Address": {"player": "<1.2.3.4>"}, "note": "write me: (address)!"}]],
        "author": None,
        "n": 1,
    }
    assert identities.without_addresses("a@b.org, c") == "(address), c"


def test_added_by_hand_and_correlated_with_a_build(lantern: GameVault) -> None:
    made = lantern.create_backup(name="alpha-1", is_milestone=True)
    one = lantern.add_feedback("Too hard", kind="balance", build="alpha-1", player="anna", rating=0.5)
    assert (one.snapshot, one.confidence, one.kind) == (made.report.snapshot, 1.0, "balance")
    data = [{"id": "a", "text": "Nice", "time": "2026-01-01", "stack": ["x", "y"], "playtime": 5}, {"text": "Hm"}]
    assert lantern.correlate_feedback("alpha-1", data).imported == 2
    assert lantern.correlate_feedback("alpha-1", data).duplicates == 2
    assert {one.snapshot for one in lantern.feedback(build="alpha-1")} == {made.report.snapshot}
    with pytest.raises(GitVaultError, match="words: expected of id, time, kind"):
        lantern.add_feedback("x", words="y")
    assert feedback.keep_said(lantern.vault, "lantern", [{"text": "z", "id": "q"}]).imported == 1
    snapshot = made.report.snapshot
    assert snapshot
    notes = lantern.vault.annotations(importing.NOTES, snapshot)
    assert sorted((one["source"], *one["records"].items()) for one in notes) == [
        ("added", ("balance", 1)),
        ("added", ("comment", 2)),
    ]
    before = lantern.vault.history.refs.read("refs/notes/vault/feedback")
    lantern.vault.annotate_all(importing.NOTES, {snapshot: notes}, "the same again")
    assert lantern.vault.history.refs.read("refs/notes/vault/feedback") == before


# -- what is asked ---------------------------------------------------------------------------------


def test_answers_name_the_build_also_when_it_is_known_later(lantern: GameVault) -> None:
    first = str(lantern.backup(metadata={"version": "1.0"}).snapshot)
    (lantern.path / "level.txt").write_text("two")
    second = str(lantern.backup().snapshot)
    lantern.import_feedback(FILES["steam"], "steam")
    lantern.import_feedback(FILES["itch"], "itch")
    assert [one.snapshot for one in lantern.feedback(source="itch")] == [first, first]
    assert [one.snapshot for one in lantern.feedback(source="steam")] == ["", ""]
    lantern.deploy("100", target="steam", at=datetime(2026, 1, 1, tzinfo=UTC), snapshot=first)
    steam = [(one.snapshot, one.confidence) for one in lantern.feedback(source="steam")]
    assert steam == [(first, builds.ON_A_BRANCH)] * 2
    lantern.deploy("101", target="steam", at=datetime(2026, 1, 10, tzinfo=UTC), snapshot=second)
    assert [one.snapshot for one in lantern.feedback(source="steam")] == [second, first]
    assert [one.source for one in lantern.feedback(build="101")] == ["steam"]
    assert {one.source for one in lantern.feedback(build="1.0")} == {"steam", "itch"}
    # From nothing it is the same.
    before = lantern.feedback()
    lantern.vault.path.joinpath("cache", "feedback-lantern.db").unlink()
    assert lantern.feedback() == before
    # A deploy that another machine takes back by a merge.
    area = lantern.vault.area("builds/lantern")
    area.erase(list(area.paths(builds.FOLDER)), "away")
    assert [one.snapshot for one in lantern.feedback(source="steam")] == ["", ""]
    assert lantern.build_id().snapshot == second


def test_records_are_found_by_all_that_is_asked(lantern: GameVault) -> None:
    for source, file in FILES.items():
        lantern.import_feedback(file, source)
    found = lantern.feedback()
    assert len(found) == sum(map(len, SAID.values()))
    assert [one.time for one in found] == sorted((one.time for one in found), reverse=True)
    assert {one.source for one in lantern.feedback(kind="crash")} == {
        "sentry",
        "unity",
        "backtrace",
        "gameanalytics",
        "playfab",
    }
    assert [one.source for one in lantern.feedback(text="CELLAR freez")] == ["github"]
    assert lantern.feedback(text="...") == []
    assert [one.source for one in lantern.feedback(sig="fp-1")] == ["backtrace"]
    day = datetime(2026, 1, 6, tzinfo=UTC)
    assert {one.source for one in lantern.feedback(since=day, until=day.replace(hour=23))} == {"github", "gitlab"}
    [one] = lantern.feedback(id=found[3].id)
    assert isinstance(one, Feedback)
    assert one == found[3]
    assert lantern.feedback(player=one.player, limit=1)[0].player == one.player
    assert lantern.feedback(player="nobody") == []
    assert len(lantern.feedback(limit=2)) == 2
    with Table(lantern.vault, "lantern") as table:
        assert feedback.count(table, Wanted(kind="crash")) == 5
        with table.loading():
            assert feedback.count(table, Wanted(text="cellar", kind="crash")) == 1


def test_the_report_counts_by_build(lantern: GameVault) -> None:
    assert (lantern.feedback_report().records, lantern.feedback_report().first) == (0, "")
    snapshot = str(lantern.backup(metadata={"version": "1.0"}).snapshot)
    for source in ("itch", "steam", "sentry"):
        lantern.import_feedback(FILES[source], source)
    found = lantern.feedback_report()
    assert isinstance(found, Report)
    assert isinstance(found.builds[0], BuildFigures)
    assert (found.records, found.players, found.first) == (5, 5, "2026-01-03T00:26:40Z")
    assert (found.kinds, found.sources) == ({"crash": 1, "review": 4}, {"itch": 2, "sentry": 1, "steam": 2})
    known, unknown = found.builds
    assert (known.snapshot, known.names, known.records, known.players) == (snapshot, ("1.0", "1.0+4711"), 3, 3)
    assert (round(known.rating or 0, 3), known.kinds, unknown.snapshot) == (0.6, {"crash": 1, "review": 2}, "")
    assert (unknown.rating, unknown.playtime) == (0.5, 10890)
    assert found.signatures == (("4509877862268928", 1, 1),)


# -- what is purged, damaged, joined ---------------------------------------------------------------


def test_a_player_is_forgotten(lantern: GameVault) -> None:
    lantern.import_feedback(FILES["steam"], "steam")
    vault = lantern.vault
    assert b"Lovely caves" in everything(vault)
    assert lantern.purge_feedback("76561198000000001") == 1
    assert lantern.purge_feedback("76561198000000001") == 0
    assert b"Lovely caves" not in everything(vault)
    vault.sweep()
    assert b"Lovely" not in b"".join(
        subprocess.run(
            ["git", f"--git-dir={vault.path}", "cat-file", "--batch", "--batch-all-objects"],
            capture_output=True,
            check=True,
        ).stdout.splitlines(keepends=True)
    )
    done = lantern.import_feedback(FILES["steam"], "steam")
    assert (done.imported, done.duplicates, done.changed) == (0, 1, 1)
    purged = [one for one in lantern.feedback(raw=True) if one.purged]
    assert [(one.text, one.player, one.time, dict(one.raw)) for one in purged] == [("", "", "", {})]


def test_what_was_purged_and_comes_back_with_another_vault_goes(lantern: GameVault) -> None:
    lantern.import_feedback(FILES["steam"], "steam")
    area = segments.area_of(lantern.vault, "lantern")
    [path] = segments.paths(area)
    content = area.read(path)
    lantern.purge_feedback("76561198000000001")
    area.add({path: content}, "as a merge does")
    assert not [one for one in lantern.feedback() if one.text.startswith("Lovely")]
    lantern.import_feedback(FILES["steam"], "steam")
    assert path not in set(area.paths())
    # Nor from a segment of another machine that has the record too.
    segments.add(area, [line + b"\n" for line in content.splitlines()][::-1], "another machine's")
    assert not [one for one in lantern.feedback() if one.text.startswith("Lovely")]
    segments.settle(area)


def test_two_machines_have_the_same_records_in_any_order(lantern: GameVault) -> None:
    imported(lantern, json.dumps([review(1, review="b")]))
    area = segments.area_of(lantern.vault, "lantern")
    [path] = segments.paths(area)
    [line] = area.read(path).splitlines(keepends=True)
    others = [line.replace(b'"text":"b"', b'"text":"%c"' % letter) for letter in b"acd"]
    texts = set()
    for other in others:
        segments.add(area, [other], "another machine's")
        texts.add(lantern.feedback()[0].text)
    [one] = lantern.feedback()
    lantern.vault.path.joinpath("cache", "feedback-lantern.db").unlink()
    assert lantern.feedback() == [one]
    assert lantern.feedback(text=one.text) == [one]


def test_the_report_of_a_table_that_grew_is_that_of_one_made_anew(lantern: GameVault) -> None:
    """Also after a deploy divided a stretch of time, and another machine had records with other content."""

    def anew() -> Report:
        lantern.vault.path.joinpath("cache", "feedback-lantern.db").unlink()
        return lantern.feedback_report()

    lantern.backup()
    day = 86400
    for start in (0, 10):
        many = [review(n, timestamp_updated=1_770_000_000 + n * day) for n in range(start, start + 15)]
        imported(lantern, json.dumps(many))
    assert (found := lantern.feedback_report()) == anew()
    assert (found.records, len(found.builds)) == (25, 1)
    for build, at in (("1", 1_770_000_000 + 5 * day), ("2", 1_770_000_000 + 12 * day)):
        lantern.deploy(build, target="steam", at=datetime.fromtimestamp(at, UTC))
        assert (found := lantern.feedback_report()) == anew()
    assert sum(one.records for one in found.builds) == 25
    area = segments.area_of(lantern.vault, "lantern")
    path = segments.paths(area)[0]
    for letter in b"abc":
        lines = [line.said for line in segments.read(area, path)]
        changed = [encode({**said, "text": chr(letter), "rating": 0.25, "kind": f"{letter}"}) for said in lines[:5]]
        segments.add(area, changed, "another machine's")
        assert (found := lantern.feedback_report()) == anew()
        assert (found.records, sum(found.kinds.values())) == (25, 25)


@pytest.mark.parametrize(("looked", "lookup"), [(5, 25), (5, 0), (40, 10**6), (2000, 25)])
def test_words_are_found_whatever_was_looked_through_first(
    lantern: GameVault, monkeypatch: pytest.MonkeyPatch, looked: int, lookup: int
) -> None:
    words = ["boss", "bossy", "Lämp", "lamp oil", "the"]
    many = [
        {"id": str(n), "text": " ".join(words[i] for i in range(5) if n >> i & 1), "time": 1_770_000_000 + n % 7}
        for n in range(64)
    ]
    assert lantern.correlate_feedback("b", many).imported == 64

    def ids(text: str, limit: int | None, **more: str) -> list[str]:
        return [one.id for one in lantern.feedback(text=text, limit=limit, **more)]

    monkeypatch.setattr(queries, "_LOOKED", looked)
    monkeypatch.setattr(queries, "_LOOKUP", lookup)
    for text, number in (("boss", 48), ("bossy", 32), ("lamp the", 24), ("nothing", 0), ("oil LÄMP boss", 24)):
        assert len(ids(text, None)) == number
        for limit in (0, 1, 3, 30, 100):
            assert ids(text, limit) == ids(text, None)[:limit], (text, limit)
    assert ids("the", 2, kind="bug") == []
    # Texts too long to be looked through leave it to the index.
    monkeypatch.setattr(queries, "_LONGEST", 3)
    assert ids("boss", 3) == ids("boss", None)[:3]


def test_a_purge_that_was_cut_off_loses_nothing_and_is_completed(
    lantern: GameVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    lantern.import_feedback(FILES["steam"], "steam")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(type(segments.area_of(lantern.vault, "lantern")), "erase", killed)
        with pytest.raises(KeyboardInterrupt):
            lantern.purge_feedback("76561198000000001")
    assert [(one.text, one.purged) for one in lantern.feedback() if one.purged] == [("", True)]
    assert len(lantern.feedback()) == 2
    lantern.purge_feedback("76561198000000001")
    assert b"Lovely caves" not in everything(lantern.vault)


def test_an_import_that_was_cut_off_is_completed(lantern: GameVault, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Table, "put", killed)
        with pytest.raises(KeyboardInterrupt):
            lantern.import_feedback(FILES["steam"], "steam")
    # What was durable counts.
    assert len(lantern.feedback()) == 2
    assert lantern.import_feedback(FILES["steam"], "steam").duplicates == 2


def test_a_second_process_changes_nothing_of_an_import(
    lantern: GameVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long exports are read by a copy of this process: the same numbers, reasons, order and records."""
    lines = [json.dumps(review(number % 40, review=f"text {number // 60}")) for number in range(100)]
    lines[3] = lines[57] = "{broken"
    lines[90] = json.dumps(review(1, voted_up="yes"))
    started: list[bool] = []

    def counted(batches: Iterator[bytes]) -> process.Ahead | None:
        started.append((beside := process.ahead(batches)) is not None)
        return beside

    monkeypatch.setattr(importing, "_BATCH", 7)
    monkeypatch.setattr(importing, "ahead", counted)
    beside = imported(lantern, "\n".join(lines))
    assert started == [sys.platform == "linux" and (os.cpu_count() or 1) > 1]
    monkeypatch.setattr(importing, "ahead", lambda batches: None)
    (tmp_path / "alone").mkdir()
    with GameVault("alone", tmp_path / "alone", vault=lantern.vault.path) as alone:
        assert imported(alone, "\n".join(lines)) == beside
        assert (beside.read, beside.imported, beside.duplicates) == (100, 40, 18)
        assert [bad.record for bad in beside.rejected if "JSON" in bad.reason] == [4, 58]
        areas = [segments.area_of(one.vault, one.project.name) for one in (lantern, alone)]
        assert segments.paths(areas[0]) == segments.paths(areas[1])
        assert lantern.feedback() == alone.feedback()


def test_a_small_import_starts_no_process(lantern: GameVault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "ahead", None)
    assert imported(lantern, "\n".join(json.dumps(review(number)) for number in range(50))).imported == 50


@pytest.mark.skipif(sys.platform != "linux", reason="processes are copied on Linux only")
def test_what_a_second_process_made_before_it_was_killed_is_kept(
    lantern: GameVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "\n".join(json.dumps(review(number)) for number in range(60))
    here = os.getpid()

    def killed(line: bytes) -> int:
        if os.getpid() != here and b'"recommendationid":"35"' in line:
            os.kill(os.getpid(), signal.SIGKILL)
        return digest(line)

    monkeypatch.setattr(importing, "_BATCH", 10)
    with monkeypatch.context() as patched:
        patched.setattr(importing, "digest", killed)
        with pytest.raises(ChildProcessError, match="run it again"):
            imported(lantern, lines)
    assert len(lantern.feedback()) == 30
    done = imported(lantern, lines)
    assert (done.imported, done.duplicates) == (30, 30)


def test_a_damaged_table_is_made_anew(lantern: GameVault) -> None:
    lantern.import_feedback(FILES["steam"], "steam")
    file = lantern.vault.path / "cache" / "feedback-lantern.db"
    before = lantern.feedback()
    file.write_bytes(b"no table" * 1000)
    assert lantern.feedback() == before
    with closing(sqlite3.connect(file)) as other:
        other.execute("PRAGMA user_version=99")
    assert lantern.feedback() == before
    data = bytearray(file.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    file.write_bytes(data)
    assert lantern.feedback() == before


def test_a_table_that_leads_nowhere_is_told(lantern: GameVault) -> None:
    lantern.import_feedback(FILES["steam"], "steam")
    with closing(sqlite3.connect(lantern.vault.path / "cache" / "feedback-lantern.db")) as other:
        other.execute("UPDATE said SET start = start + 1")
        other.commit()
    with pytest.raises(CorruptionError, match=r"byte 1 begins no record"):
        lantern.feedback(raw=True, id=lantern.feedback()[1].id)


def test_a_damaged_segment_is_named(lantern: GameVault) -> None:
    segments.area_of(lantern.vault, "lantern").add({b"segments/00/x.jsonl": b'{"id": 1}\n'}, "damaged")
    lantern.project  # noqa: B018
    with pytest.raises(CorruptionError, match=r"segments/00/x.jsonl: byte 0 begins no record"):
        lantern.feedback()


# -- the command -----------------------------------------------------------------------------------


def document(run: subprocess.CompletedProcess[str]) -> Any:
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def failed(run: subprocess.CompletedProcess[str], code: int) -> subprocess.CompletedProcess[str]:
    assert run.returncode == code, run.stderr
    return run


def test_the_command(command: Run, lantern: GameVault, tmp_path: Path) -> None:
    snapshot = str(lantern.backup(metadata={"version": "1.0"}).snapshot)
    found = document(
        command("feedback", "import", FILES["steam"], "--project", "lantern", "--source", "steam", "--json")
    )
    assert found == {"read": 2, "imported": 2, "duplicates": 0, "rejected": [], "rejected_count": 0, "changed": 0}
    run = failed(command("feedback", "import", FILES["discord"], "--project", "lantern", "--source", "discord"), 1)
    assert "1 new, 0 known" in run.stdout
    assert "2: a message of the type GuildMemberJoin" in run.stdout
    made = document(
        command(
            "deploy",
            "record",
            "--target",
            "steam",
            "--branch",
            "default",
            "--build",
            "100",
            "--at",
            "2026-01-01",
            "--snapshot",
            "lantern",
            "--json",
        )
    )
    assert (made["snapshot"], made["branch"]) == (snapshot, "default")
    assert "steam/default" in command("deploy", "list").stdout
    found = document(command("feedback", "query", "--build", "100", "--kind", "review", "--text", "lantern", "--json"))
    assert [(one["snapshot"], one["project"], one["player"] != "") for one in found] == [(snapshot, "lantern", True)]
    assert "raw" not in found[0]
    assert "raw" in document(command("feedback", "query", "--source", "discord", "--raw", "--json"))[0]
    one = document(command("feedback", "add", "--text", "Too hard", "--build", "1.0", "--player", "anna", "--json"))
    assert (one["snapshot"], one["source"]) == (snapshot, "added")
    assert "Too hard" in command("feedback", "list", "--project", "lantern").stdout
    assert "no feedback that fits" in command("feedback", "query", "--kind", "nothing").stdout
    report = document(command("feedback", "report", "--json"))
    assert (report["records"], report["builds"][0]["snapshot"], report["project"]) == (4, snapshot, "lantern")
    assert "4 records of 4 players" in command("feedback", "report").stdout
    assert "would purge 1 record" in command("feedback", "purge", "--player", "anna").stdout
    assert "would purge 1 record" in command("feedback", "purge", "--player", one["player"]).stdout
    assert "sweep" in command("feedback", "purge", "--player", "anna", "--yes").stdout
    assert "no feedback of theirs" in failed(command("feedback", "purge", "--player", "anna"), 128).stderr
    answer = document(command("build-id", lantern.path, "--json"))
    assert answer == {"build": snapshot[:12], "snapshot": snapshot, "saved": True}
    assert "in no project" in failed(command("build-id", tmp_path), 128).stderr


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("import",), "feedback import: expected FILE"),
        (("list", "x"), "feedback list: takes no FILE"),
        (("import", "x"), "expected --source S"),
        (("import", "x", "--project", "lantern", "--source", "steam", "--encoding", "klingon"), "--encoding klingon"),
        (("add",), "feedback add: expected --text"),
        (("purge",), "feedback purge: expected --player WHO or --id ID"),
    ],
)
def test_wrong_usage(command: Run, lantern: GameVault, words: tuple[str, ...], why: str) -> None:
    lantern.project  # noqa: B018
    assert why in failed(command("feedback", *words), 129).stderr
    assert "expected --target T --build N" in failed(command("deploy", "record"), 129).stderr


def test_projects_have_to_be_named_when_there_are_several(command: Run, lantern: GameVault, tmp_path: Path) -> None:
    assert "there is none yet" in failed(command("feedback", "report"), 129).stderr
    lantern.project  # noqa: B018
    assert "no feedback yet" in command("feedback", "report").stdout
    assert "nothing was deployed yet" in command("deploy", "list").stdout
    (tmp_path / "other").mkdir()
    command("add", tmp_path / "other")
    assert "there are lantern, other" in failed(command("feedback", "report"), 129).stderr


def test_records_and_their_table_follow_a_project_that_gets_another_name(lantern: GameVault) -> None:
    snapshot = lantern.create_backup(name="alpha-1", is_milestone=True).report.snapshot
    lantern.add_feedback("Lantern is lovely", build="alpha-1", player="anna")
    vault = lantern.vault
    table = vault.path / "cache" / "feedback-lantern.db"
    inode = table.stat().st_ino
    vault.rename_project("lantern", "torch")
    renamed = table.with_name("feedback-torch.db")
    assert renamed.stat().st_ino == inode and not table.exists()
    # As a kill between the rename and this leaves it.
    table.write_bytes(renamed.read_bytes())
    with Table(vault, "torch") as found:
        [one] = feedback.find(found, Wanted(build="alpha-1", text="lovely"))
        assert (one.snapshot, one.player) == (snapshot, hasher(vault)("anna"))
        assert feedback.purge(found, Wanted(player=one.player)) == 1
    assert not any(b"lovely" in file.read_bytes() for file in table.parent.glob("feedback-*"))
    vault.undo()
    with Table(vault, "lantern") as found:
        assert [one.purged for one in feedback.find(found, Wanted())] == [True]
