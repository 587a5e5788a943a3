"""What stands in records of services is read strictly, however it is written."""

from __future__ import annotations

from collections.abc import Callable
from io import BufferedReader, BytesIO

import pytest

from gitvault.personas.game.feedback import reading, values
from gitvault.personas.game.feedback.values import Raw

RAW: Raw = {"a.b": 1, "a": {"b": {"c": 2}}, "o": {}, "t": "", "w": 7, "f": False}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (values.at(RAW, "a.b"), 1),
        (values.at(RAW, "a.b.c"), 2),
        (values.at(RAW, "a.x.c"), None),
        (values.object_in(RAW, "o"), {}),
        (values.text_in(RAW, "t"), ""),
        (values.word_in(RAW, "w"), "7"),
        (values.flag_in(RAW, "f"), False),
        (values.number("1.5"), 1.5),
        (values.seconds(""), None),
        (values.seconds(3), 3.0),
        (values.rating("4", 5), 0.8),
        (values.epoch("1767400000"), 1767400000),
        (values.epoch(1767400000500), 1767400000.5),
        (values.moment("2026-01-03T00:26:40.1234567Z"), "2026-01-03T00:26:40Z"),
        (values.moment("2026-01-03 01:26:40 UTC"), "2026-01-03T01:26:40Z"),
        (values.moment("2026-01-03T02:26:40+02:00"), "2026-01-03T00:26:40Z"),
        (values.moment(None), ""),
        (values.moment(12), ""),
        (values.pairs({"a": 1}), {"a": 1}),
        (
            values.pairs([{"Name": "a", "Value": 1}, {"key": "b", "value": 2}, ["c", 3], "d", {}]),
            {"a": 1, "b": 2, "c": 3},
        ),
        (values.frame("f", "a.cs", 3), "f (a.cs:3)"),
        (values.frame(None, "a.cs", None), "(a.cs)"),
        (values.lines(" a\n\nb"), ["a", "b"]),
        (len(values.lines(["x"] * 100)), values.FRAMES),
        (values.joined("a", " "), "a"),
        (values.joined("a", "b"), "a\nb"),
        (values.plain("User_Id."), "userid"),
    ],
)
def test_values(found: object, expected: object) -> None:
    assert found == expected


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (values.word, ""),
        (values.word, True),
        (values.number, None),
        (values.number, "many"),
        (values.number, float("inf")),
        (values.epoch, "0000-00-00"),
        (values.epoch, float("nan")),
        (values.epoch, []),
    ],
)
def test_what_is_none(read: Callable[[object], object], value: object) -> None:
    with pytest.raises(ValueError, match=r"expected|not a time|could not convert"):
        read(value)


def _file(content: bytes) -> BufferedReader:
    return BufferedReader(BytesIO(content))  # type: ignore[arg-type]


def test_a_table_that_ends_within_a_character_or_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    cut = list(reading.csv_records(_file("text,x\na,b\n".encode("utf-16") + b"x")))
    assert [one.reason for one in cut if one.reason] == [cut[-1].reason]
    assert "cannot be read further" in cut[-1].reason
    monkeypatch.setattr(reading, "LONGEST", 1000)
    long = list(reading.csv_records(_file(b"text,x\n" + b"ab," * 1000 + b"\nc,d\n")))
    assert [one.document for one in long] == [None, {"text": "c", "x": "d"}]
    cut = list(reading.json_records(_file('[{"a": 1},'.encode("utf-16") + b"x")))
    assert cut[0].document == {"a": 1}
    assert "cannot be read further" in cut[-1].reason
