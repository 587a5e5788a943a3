"""What languages and build systems leave in a project, from `ecosystems.toml` and `keep.toml`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from gitvault.policy.patterns import BUILT_IN, KEPT, Live, Rule, parse

_HERE = Path(__file__).parent
ECOSYSTEMS = _HERE / "ecosystems.toml"
KEEP = _HERE / "keep.toml"
_CATEGORIES = ("dependency", "generated", "cache")
CACHE_TAG = "CACHEDIR.TAG"
PROJECT_FILE = ".gitvault.toml"
CACHE_SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"
OWN_MARKS = frozenset((".git", ".hg", ".svn", ".gitignore", ".hgignore", PROJECT_FILE, CACHE_TAG))
"""Names that say something of a folder in any project."""
_STEM = "stem:"
_COMPILED = (".aux", ".fls", ".fdb_latexmk")
"""Beside X.tex these say that X was compiled there."""


class Ecosystems:
    """The built-in rules. Loading them takes 8 ms, so that waits until a folder is looked at."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, ...], tuple[Rule, ...]] = {}

    @cached_property
    def digest(self) -> bytes:
        """Changes with the data."""
        return hashlib.sha1(ECOSYSTEMS.read_bytes() + KEEP.read_bytes(), usedforsecurity=False).digest()

    @cached_property
    def _tables(self) -> dict[str, Any]:
        import tomllib

        return tomllib.loads(ECOSYSTEMS.read_text("utf-8"))

    @cached_property
    def _lines(self) -> dict[tuple[str, str], int]:
        return string_lines(ECOSYSTEMS.read_text("utf-8"))

    @cached_property
    def _by_marker(self) -> dict[str, tuple[str, ...]]:
        """The ecosystems that a name, or `*.ending`, is the marker of."""
        found: dict[str, tuple[str, ...]] = {}
        for name, table in self._named():
            for marker in table["markers"]:
                found[marker] = (*found.get(marker, ()), name)
        return found

    def _named(self) -> Iterator[tuple[str, dict[str, Any]]]:
        return ((name, table) for name, table in self._tables.items() if name != "inside")

    @cached_property
    def _inside(self) -> tuple[tuple[frozenset[str], frozenset[str], Rule], ...]:
        """What folders are told by: what they hold, and what they must not hold."""
        return tuple(
            (
                frozenset(table["has"]),
                frozenset(table.get("lacks", ())),
                Rule(
                    " + ".join(table["has"]),
                    False,
                    BUILT_IN,
                    str(ECOSYSTEMS),
                    self._lines[f"inside.{name}", table["has"][0]],
                    (b"*",),
                    True,
                    table["category"],
                ),
            )
            for name, table in self._tables["inside"].items()
        )

    @cached_property
    def _closing(self) -> frozenset[str]:
        return frozenset[str]().union(*(has | lacks for has, lacks, _ in self._inside))

    @cached_property
    def _exact(self) -> frozenset[str]:
        """Names that say something of a folder."""
        names = {marker for marker in self._by_marker if not marker.startswith("*")}
        return frozenset(names.union(OWN_MARKS, self._closing))

    @cached_property
    def _endings(self) -> re.Pattern[str]:
        endings = sorted(re.escape(marker[1:]) for marker in self._by_marker if marker.startswith("*"))
        return re.compile(f"({'|'.join(endings)})$", re.MULTILINE)

    def marks(self, names: Sequence[str]) -> list[str]:
        """Those of a folder's names that say something of it; endings as `*.py`."""
        found: set[str] = set(self._exact.intersection(names))
        found.update(f"*{ending}" for ending in set(self._endings.findall("\n".join(names))))
        if "*.tex" in found:
            held = set(names)
            stems = (name[:-4] for name in names if name.endswith(".tex"))
            found.update(_STEM + stem for stem in stems if any(stem + ending in held for ending in _COMPILED))
        return sorted(found)

    def rules(self, marks: Sequence[str]) -> tuple[Rule, ...]:
        """What begins to hold in a folder with these marks."""
        key = tuple(marks)
        if key not in self._made:
            names = dict.fromkeys(name for mark in key for name in self._by_marker.get(mark, ()))
            stems = [mark.removeprefix(_STEM) for mark in key if mark.startswith(_STEM)]
            rules = [rule for name in names for rule in self._rules(name)]
            self._made[key] = (*rules, *(rule for stem in stems for rule in self._yields(stem)))
        return self._made[key]

    def _rules(self, name: str) -> Iterator[Rule]:
        table = self._tables[name]
        when = table.get("when", {})
        for category in _CATEGORIES:
            for text in table.get(category, ()):
                needed = tuple(when.get(text, ()))
                yield _rule(text, False, BUILT_IN, ECOSYSTEMS, self._lines[name, text], category, needed)

    def _yields(self, stem: str) -> Iterator[Rule]:
        literal = re.sub(r"([*?\[\\])", r"\\\1", stem).encode("utf-8", "surrogateescape")
        for ending in self._tables["latex"]["stems"]:
            line, segments = self._lines["latex", ending], (literal + ending.encode(),)
            yield Rule(f"X.tex + X{ending}", False, BUILT_IN, str(ECOSYSTEMS), line, segments, False, "generated")

    def closes(self, marks: Sequence[str]) -> Rule | None:
        """What a folder with these marks is left out by; a CACHEDIR.TAG has to be read yet."""
        held = self._closing.intersection(marks)
        if not held:
            return None
        return next((rule for has, lacks, rule in self._inside if has <= held and not lacks & held), None)

    @cached_property
    def manifests(self) -> dict[str, int]:
        """The line of each manifest and lock file."""
        return {
            file: self._lines[name, file]
            for name, table in self._named()
            for file in (*table.get("manifests", ()), *table.get("locks", ()))
        }

    @cached_property
    def keep(self) -> Live:
        """What is saved though version control ignores it: the keep list, and lock files."""
        import tomllib

        text = KEEP.read_text("utf-8")
        lines = string_lines(text)
        listed = [_rule(one, True, KEPT, KEEP, lines["", one]) for one in tomllib.loads(text)["keep"]]
        for name, table in self._named():
            listed += (_rule(one, True, KEPT, ECOSYSTEMS, self._lines[name, one]) for one in table.get("locks", ()))
        return Live().add(listed)


@cache
def ecosystems() -> Ecosystems:
    """The built-in rules."""
    return Ecosystems()


def _rule(
    text: str, keep: bool, level: int, source: Path, line: int, category: str = "", when: tuple[str, ...] = ()
) -> Rule:
    pattern = parse(text.encode())
    assert pattern is not None, f"{source}: {text}"
    return Rule(text, keep, level, str(source), line, pattern.segments, pattern.folders_only, category, when)


def string_lines(text: str) -> dict[tuple[str, str], int]:
    """The line of each string in double quotes of a TOML text, with the table it is in."""
    found: dict[tuple[str, str], int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("["):
            table = line.strip("[] ")
        for one in re.findall(r'"([^"]*)"', line.partition(" #")[0]):
            found[table, one] = number
    return found
