"""What lies in projects: version control's own files, rules, settings of engines, what services export."""

from __future__ import annotations

import contextlib
import io
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

from parsers.target import Place, Target

from gitvault.core.models import ObjectId
from gitvault.core.utils.files import Disk
from gitvault.core.versioning import index
from gitvault.core.versioning.index import IndexEntry
from gitvault.personas.code.search.segments import Draft, Segment
from gitvault.personas.game import platforms
from gitvault.personas.game.feedback import importing, reading
from gitvault.personas.game.feedback.lines import encode
from gitvault.personas.game.feedback.sources import SOURCES, Source, mapped
from gitvault.personas.game.platforms import Tree
from gitvault.personas.game.playtests import lines_of
from gitvault.policy import project_file, tracked
from gitvault.policy.ignores import HgIgnore, skel, svn_rules
from gitvault.policy.patterns import IGNORED, Live, Rule, parse

_FIXTURES = Path(__file__).parents[2] / "fixtures" / "feedback"
_BLOB = ObjectId(bytes(range(20)))

# -- version control -----------------------------------------------------------------------------

_ENTRIES = [
    IndexEntry(b"a.txt", index.MODE_FILE, _BLOB, 5, 0, 0),
    IndexEntry(b"b/c", index.MODE_EXECUTABLE, _BLOB, 0, 0x1000, 0),
    IndexEntry(b"b/d", index.MODE_SYMLINK, _BLOB, 7, 0, 0x4000),
]
_INDEX = index.encode(_ENTRIES)


def _summed(data: bytes) -> bytes:
    """Damage to a checksum is found at once."""
    import hashlib

    return data[:-20] + hashlib.sha1(data[:-20]).digest()


def _index(data: bytes) -> None:
    for each in (data, _summed(data), data[:-20] + bytes(20)):
        for entry in index.parse(each):
            assert entry.path


def _index_otherwise(data: bytes) -> None:
    whole: list[bytes] = []
    list(index.paths(_summed(data), whole))
    index.shared_index(_summed(data))


_hg = Place(".hg/dirstate")
_DIRSTATE = bytes(40) + b"".join(
    state + bytes(12) + len(name).to_bytes(4, "big") + name
    for state, name in ((b"n", b"a.txt"), (b"r", b"gone"), (b"m", b"b/c\0from"))
)


def _dirstate(data: bytes) -> None:
    top = _hg.put(data).parents[1]
    found = tracked.hg_tracked(str(top))
    found.has(b"", b"a.txt")
    found.digest(b"b")


_svn = Place(".svn/wc.db")


def _made_database(properties: bytes | int = b"(svn:ignore 6 *.o\n*.a)") -> bytes:
    _svn.path.unlink(missing_ok=True)
    with closing(sqlite3.connect(_svn.path)) as database, database:
        database.execute("CREATE TABLE nodes (local_relpath TEXT, presence TEXT, kind TEXT, properties BLOB)")
        database.execute("CREATE TABLE actual_node (local_relpath TEXT, properties BLOB)")
        row = ("b", "normal", "dir", properties)
        database.execute("INSERT INTO nodes VALUES (?, ?, ?, ?)", row)
        database.execute("INSERT INTO nodes VALUES ('a.txt', 'normal', 'file', NULL)")
    return _svn.path.read_bytes()


def _working_copy(data: bytes) -> None:
    found = tracked.svn_tracked(str(_svn.put(data).parents[1]))
    found.has(b"", b"a.txt")


def _git_file(data: bytes) -> None:
    _dotgit.put(data)
    top = tracked.GitTop(str(_dotgit.path.parent))
    assert isinstance(top.folder, str)
    with contextlib.suppress(tracked.Unreadable):
        top.tracked().has(b"", b"a")


_dotgit = Place("work/.git")

# -- rules ---------------------------------------------------------------------------------------

_NAMES = (b"a.o", b"build", b"\xff", b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", b"[a]", b"x" * 200)


def _gitignore(data: bytes) -> None:
    rules = []
    for number, line in enumerate(data.split(b"\n")):
        if pattern := parse(line):
            rules.append(
                Rule(repr(line), pattern.negated, IGNORED, "s", number, pattern.segments, pattern.folders_only)
            )
    live = Live((rule, rule.segments) for rule in rules)
    for name in _NAMES:
        for is_folder in (False, True):
            found = list(live.matches(name, is_folder))
            assert not found or live.may_match(name, is_folder)
            live.below(name).may_match(b"a.o", is_folder)


def _hgignore(data: bytes) -> None:
    def read(path: str) -> bytes:
        if path != "/p/.hgignore":
            raise FileNotFoundError
        return data

    rules = HgIgnore("/p", read)
    for name in _NAMES:
        rules.rule(name, False)


def _properties(data: bytes) -> None:
    for name, value in skel(data).items():
        assert isinstance(name, bytes) and isinstance(value, bytes)
    svn_rules("s", {b"": data})


# -- settings of engines -------------------------------------------------------------------------


def _tree(files: dict[str, bytes]) -> Tree:
    def names(path: str) -> dict[str, bool]:
        inside = [name[len(path) + bool(path) :] for name in files if name.startswith(f"{path}/" if path else "")]
        return {name.partition("/")[0]: "/" in name for name in inside}

    return Tree(names, files.get)


def _settings(*paths: str, **others: str) -> Callable[[bytes], object]:
    held = {name: text.encode() for name, text in others.items()}
    return lambda data: platforms.read(_tree({**held, **dict.fromkeys(paths, data)}))


_UNITY = (
    b"%YAML 1.1\n%TAG !u! tag:unity3d.com,2011:\n--- !u!129 &1\nPlayerSettings:\n  productName: 'a b'\n"
    b"  defaultScreenWidth: 1920\n  scriptingBackend:\n    Android: 1\n    Standalone: 0\n  m_BuildTargetIcons: []\n"
    b'  text: "a\\n\\\n    b"\n  list:\n  - {a: 1, b: [2, 3]}\n  - m: |\n      x\n'
)
_UNREAL = (
    b'[/Script/Engine.Engine]\n+Paths=a\n-Paths=b\n.Paths=c\n!Paths=ClearArray\nA=(X=1,Y="q")\nB=\\\n2\n; no\n'
    b"[Android DeviceProfile]\nCVars=r.a=1\n"
)
_GODOT = (
    b'; made by Godot\nconfig_version=5\n\n[application]\nconfig/name="a \\"b\\""\n'
    b'config/features=PackedStringArray("4")\nrun/x.windows=Vector2(1, 2)\n'
    b'input={\n"deadzone": 0.5,\n"events": [Object(InputEventKey,"a":1)]\n}\n'
)
_PRESETS = b'[preset.0]\n\nname="Windows"\nplatform="Windows Desktop"\nrunnable=true\n\n[preset.0.options]\n\na/b=1\n'
_MAPPING = b'secret = ["a"]\n[[file]]\npath = "a.json"\nbelow = "a"\nplatforms = ["b"]\n'

# -- what services export, and what players say ----------------------------------------------------


def _hashed(player: str) -> str:
    return "ab" * 16


def _export(source: Source) -> Callable[[bytes], object]:
    """As `importing.keep` reads it, but for what it keeps."""
    made = importing._maker(_hashed, source, "1.0", "")

    def read(data: bytes) -> None:
        content = reading.opened(io.BytesIO(data))
        for record in reading.csv_records(content) if source.rows else reading.json_records(content, source.lists):
            if record.document is None:
                assert record.reason
                continue
            # These are what `keep` rejects a record for.
            with contextlib.suppress(KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
                assert encode(made(record.document)).endswith(b"\n")

    return read


def _exports() -> Iterator[tuple[str, Target]]:
    for name, source in SOURCES.items():
        seeds = [path.read_bytes()[:4096] for path in _FIXTURES.glob(f"{name}.*")]
        yield f"feedback-{name}", Target(_export(source), seeds)


_mapping = Place("columns.toml")


class _Vault:
    """Keeps nothing."""

    history = cast(Any, None)
    config = cast(Any, None)

    def now(self) -> Any:
        from datetime import UTC, datetime

        return datetime(2026, 1, 2, tzinfo=UTC)

    def area(self, name: str) -> Any:
        return self

    def paths(self, below: bytes = b"") -> Iterator[bytes]:
        return iter(())

    def add(self, files: object, why: str) -> None:
        assert files


def _playtest(data: bytes) -> None:
    from gitvault.personas.game.playtests.sessions import _document, _event, _moments, _time

    times = []
    for line in lines_of(BufferedReader(cast(Any, io.BytesIO(data)))):
        with contextlib.suppress(ValueError):
            document = _document(line)
            times.append(_time(document))
            _event(document)
    _moments("", times, _Vault().now())


# -- the search index ------------------------------------------------------------------------------

_segment = Place("lines.seg")


def _made_segment() -> bytes:
    draft = Draft()
    for version in range(3):
        draft.add(version, 1, _BLOB, _BLOB, 0, [(b"a line %d" % version, 1), (b"another", -1)])
    _segment.path.unlink(missing_ok=True)
    draft.write(_segment.path, Disk())
    return _segment.path.read_bytes()


def _overfull() -> bytes:
    """A line with more events than there are: a search would ask for the memory of all of them."""
    data = bytearray(_made_segment())
    segment = Segment(_segment.path)
    _, (count,), offset = segment._described["starts"]
    end = segment._base + offset + 4 * count
    data[end - 4 : end] = b"\xff" * 4
    return bytes(data)


def _read_segment(data: bytes) -> None:
    import numpy

    segment = Segment(_segment.put(data))
    segment.candidates(())
    list(segment.lines())
    segment.events(numpy.arange(min(segment.size, 100)))


TARGETS = {
    "git-index": Target(_index, [_INDEX]),
    "git-index-paths": Target(_index_otherwise, [_INDEX], (ValueError, IndexError)),
    "git-file": Target(_git_file, [b"gitdir: ../a\n"]),
    "dirstate": Target(_dirstate, [_DIRSTATE], (tracked.Unreadable,)),
    "wc.db": Target(_working_copy, [_made_database()], (tracked.Unreadable,), [_made_database(1 << 40)]),
    "gitignore": Target(_gitignore, [b"*.o\n!a.o\nbuild/\n/a/**/b\n[!a-z]*\\ \n*a*a*a*b\n[[:alpha:]]?\n"]),
    "hgignore": Target(_hgignore, [b"syntax: glob\n*.o\n{a,b}?/**/[!c]\nsyntax: regexp\n^a.*b$\ninclude:x\n"]),
    "svn-properties": Target(_properties, [b"(svn:ignore 6 *.o\n*.a svn:global-ignores 3 tmp)"]),
    "project-file": Target(
        lambda data: project_file.read("s", data, 5),
        [b'skip = ["a/"]\nkeep = ["b"]\n[importance]\n"*.c" = 90\n[every]\nasset = "4 hours"\n'],
        found=[b"skip = " + b"9" * 5000],
    ),
    "unity-settings": Target(
        _settings("ProjectSettings/ProjectSettings.asset", "ProjectSettings/QualitySettings.asset"), [_UNITY]
    ),
    "unity-profile": Target(
        _settings(
            "Assets/Settings/Build Profiles/a.asset", **{"ProjectSettings/ProjectVersion.txt": "m_EditorVersion: 6\n"}
        ),
        [_UNITY],
    ),
    "unreal-settings": Target(
        _settings("Config/DefaultEngine.ini", "Config/Android/AndroidEngine.ini", "Config/DefaultDeviceProfiles.ini"),
        [_UNREAL],
    ),
    "godot-project": Target(_settings("project.godot", **{"export_presets.cfg": _PRESETS.decode()}), [_GODOT]),
    "godot-presets": Target(_settings("export_presets.cfg", **{"project.godot": _GODOT.decode()}), [_PRESETS]),
    "platform-mapping": Target(
        _settings(".gitvault-platforms.toml", **{"a.json": '{"a": {"b": [1, {"name": "x"}]}}'}), [_MAPPING]
    ),
    "platform-files": Target(
        _settings(
            *(f"a.{ending}" for ending in ("json", "yml", "toml", "ini")),
            **{
                ".gitvault-platforms.toml": "\n".join(
                    f"[[file]]\npath='a.{ending}'" for ending in ("json", "yml", "toml", "ini")
                )
            },
        ),
        [b'{"a": {"b": [1, {"name": "x"}]}} // c\n', b"a:\n- b: 'c'\n  d: [e, {f: g}]\n", b'[a.b]\nc = [1, "x"]\n'],
    ),
    **dict(_exports()),
    "feedback-mapping": Target(
        lambda data: mapped("csv", _mapping.put(data)),
        [b'text = "their"\nrating = "stars"\nbest = 5\n[fixed]\nkind="x"\n'],
    ),
    "playtest-events": Target(
        _playtest, [b'{"v":1,"start":"2026-01-02T03:04:05Z"}\n{"t":1.5,"e":"jump","d":{"x":1}}\n{"end":true}\n']
    ),
    "search-segment": Target(
        _read_segment, [_made_segment()], found=[_overfull(), _made_segment().replace(b"<u4", b",u4")]
    ),
}
"""By name."""
