"""Tables of keys and values: TOML and ini."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from gitvault.personas.game.platforms.nodes import Node, Text, check_merged, unquoted

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_SET = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")


def toml(text: str) -> Node:
    """A TOML file; values within one of several lines stand on its first. Raises ValueError."""
    check_merged(text)
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        raise ValueError(f"line {found[1] if found else text.count(chr(10)) + 1}: {error}") from None
    except RecursionError:
        raise ValueError("line 1: nested too deeply") from None
    return _placed(table, (), _toml_lines(text))


def ini(text: str) -> Node:
    """An ini file: sections of keys, those before the first section at the top; of a key twice the last counts."""
    check_merged(text)
    top: dict[str, Node] = {}
    section = top
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line or line[0] in ";#":
            continue
        if line[0] == "[":
            if "]" not in line:
                raise ValueError(f"line {number}: a section without its ]")
            inner = top.setdefault(line[1 : line.index("]")].strip(), {})
            section = inner if isinstance(inner, dict) else top
            continue
        key, separator, value = line.partition("=") if "=" in line else line.partition(":")
        if not separator:
            raise ValueError(f"line {number}: neither a section nor KEY=VALUE")
        section[key.strip()] = Text(unquoted(value.strip()), number)
    return top


def _toml_lines(text: str) -> dict[tuple[str, ...], int]:
    """Where keys are set; tomllib does not say."""
    lines: dict[tuple[str, ...], int] = {}
    counts: dict[tuple[str, ...], int] = {}
    above: tuple[str, ...] = ()
    for number, line in enumerate(text.split("\n"), 1):
        if header := _HEADER.match(line):
            above = tuple(part.strip("\"'") for part in _PART.findall(header[2]))
            if header[1] == "[[":
                counts[above] = counts.get(above, -1) + 1
                above = (*above, f"[{counts[above]}]")
        elif key := _SET.match(line):
            lines.setdefault((*above, *(part.strip("\"'") for part in _PART.findall(key[1]))), number)
    return lines


def _placed(value: Any, way: tuple[str, ...], lines: Mapping[tuple[str, ...], int]) -> Node:
    if isinstance(value, dict) and value:
        return {key: _placed(inner, (*way, key), lines) for key, inner in value.items()}
    if isinstance(value, list) and value:
        return [_placed(inner, (*way, f"[{number}]"), lines) for number, inner in enumerate(value)]
    at = next((lines[way[:size]] for size in range(len(way), 0, -1) if way[:size] in lines), 1)
    return Text(value if isinstance(value, str) else json.dumps(value, default=str), at)
