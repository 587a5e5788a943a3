"""What stands in records, read strictly: names, numbers, times, stacks, however services write them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

Raw = Mapping[str, Any]
"""A record as its source has it."""

FRAMES = 64
"""How much of a stack is kept."""
# Numbers beyond are milliseconds since 1970.
_EPOCH_MS = 1e11
# 1990 and 2200.
_FIRST, _LAST = 631152000, 7258118400
_NUMBER = re.compile(r"-?\d{1,20}(?:\.\d{1,20})?")
# .NET writes seven digits.
_DIGITS = re.compile(r"(\.\d{6})\d+")


def at(raw: Raw, column: str) -> Any:
    """What stands in a column, or at the end of a path through objects."""
    if column in raw:
        return raw[column]
    found: Any = raw
    for key in column.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    return found


def object_in(raw: Raw, key: str) -> dict[str, Any]:
    """An object. Raises KeyError, ValueError."""
    value = raw[key]
    if not isinstance(value, dict):
        raise ValueError(f"{key}: expected an object")
    return value


def text_in(raw: Raw, key: str) -> str:
    """A text, also an empty one. Raises KeyError, ValueError."""
    value = raw[key]
    if not isinstance(value, str):
        raise ValueError(f"{key}: expected a text")
    return value


def word_in(raw: Raw, key: str) -> str:
    """`word` of a key. Raises KeyError, ValueError."""
    return word(raw[key])


def word(value: object) -> str:
    """A name or number that identifies something, as text. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise ValueError(f"expected a name or number, found {type(value).__name__}")
    return str(value)


def flag_in(raw: Raw, key: str) -> bool:
    """True or false. Raises KeyError, ValueError."""
    value = raw[key]
    if not isinstance(value, bool):
        raise ValueError(f"{key}: expected true or false")
    return value


def number(value: object) -> float:
    """A finite number, also as text. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("expected a number")
    found = float(value)
    if not math.isfinite(found):
        raise ValueError("expected a finite number")
    return found


def seconds(value: object) -> float | None:
    """A number; None for nothing. Raises ValueError."""
    return None if value in (None, "") else number(value)


def rating(value: object, best: float) -> float:
    """From 0 to 1, of one from 0 to `best`. Raises ValueError."""
    part = number(value) / best
    if not 0 <= part <= 1:
        raise ValueError(f"rating: expected 0 to {best:g}, found {value}")
    return round(part, 4)


def epoch(value: object) -> float:
    """Seconds since 1970 of a time however it is written. Raises ValueError."""
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value):
            return _of_text(value)
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("not a time")
    return value / 1000 if abs(value) > _EPOCH_MS else value


def _of_text(text: str) -> float:
    try:
        found = datetime.fromisoformat(_DIGITS.sub(r"\1", text.strip().removesuffix(" UTC")))
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError(f"{text[:40]!r}: not a time; expected ISO 8601 or seconds since 1970") from None


def moment(value: object) -> str:
    """ISO 8601 in UTC; empty for nothing, and for what no clock that was set can have said. Raises ValueError."""
    if value is None or value == "":
        return ""
    at_second = int(epoch(value))
    if not _FIRST < at_second < _LAST:
        return ""
    return datetime.fromtimestamp(at_second, UTC).isoformat()[:19] + "Z"


def pairs(value: object) -> dict[str, Any]:
    """`{name: value}` of an object, or of a list of objects with `key` or `name`, and `value`, or of pairs."""
    if isinstance(value, dict):
        return value
    found = {}
    for one in value if isinstance(value, list) else ():
        if isinstance(one, dict):
            low = {key.lower(): inner for key, inner in one.items()}
            name = low.get("key") or low.get("name")
            if isinstance(name, str):
                found[name] = low.get("value")
        elif isinstance(one, list) and len(one) == 2 and isinstance(one[0], str):
            found[one[0]] = one[1]
    return found


def frame(function: object, file: object, line: object) -> str:
    """A frame of a stack as text: `Save.Write (Save.cs:42)`."""
    where = f"{file}:{line}" if file and line else str(file or "")
    return " ".join(filter(None, (str(function or ""), f"({where})" if where else "")))


def lines(stack: object) -> list[str]:
    """The first 64 frames of a stack, given as lines or as a list."""
    listed = stack if isinstance(stack, list) else str(stack).splitlines()
    return [str(line).strip() for line in listed if str(line).strip()][:FRAMES]


def joined(title: str, body: object) -> str:
    """A title, and what is below it if there is something."""
    return f"{title}\n{body}" if isinstance(body, str) and body.strip() else title


def plain(key: str) -> str:
    """A key however it is spelt: `user_id` and `UserId` are `userid`."""
    return key.lower().replace("_", "").replace(" ", "").replace(".", "")
