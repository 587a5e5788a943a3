"""The meta chain's text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitvault.core.models import Pointer
from gitvault.core.versioning import meta
from gitvault.core.versioning.meta import Attributes
from gitvault.errors import CorruptionError, UnsupportedFormatVersion

NAMES = st.binary(min_size=1, max_size=20).filter(lambda name: b"/" not in name and b"\0" not in name)
OWNERS = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
LABELS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12)


@st.composite
def attributes(draw: st.DrawFn) -> Attributes:
    return Attributes(
        draw(NAMES),
        draw(st.sampled_from(["file", "symlink"])),
        draw(st.integers(0, 0o7777)),
        draw(st.integers(-(2**62), 2**62)),
        draw(OWNERS),
        draw(st.integers(0, 2**50)),
        draw(st.none() | st.just("ab" * 32)),
        draw(st.none() | st.just("fd01.1a2b")),
        draw(st.booleans()),
        draw(st.dictionaries(LABELS.map(lambda label: f"user.{label}"), st.binary(max_size=9), max_size=3)),
    )


def line(a: Attributes, folder_owner: tuple[int, int]) -> str:
    return meta.format_line(
        a.name,
        a.kind,
        a.mode,
        a.mtime_ns,
        a.owner,
        a.size,
        folder_owner,
        pointer=a.pointer,
        link=a.link,
        sparse=a.sparse,
        xattrs=a.xattrs,
    )


@given(st.lists(attributes(), max_size=4, unique_by=lambda a: a.name), OWNERS, st.integers(-(2**62), 2**62))
def test_what_is_written_is_read(entries: list[Attributes], owner: tuple[int, int], mtime_ns: int) -> None:
    lines = [line(a, owner) for a in entries]
    blob = meta.encode(0o2755, mtime_ns, owner, lines, {"user.x=y": b"\0"})
    own, found = meta.decode(blob)
    assert found == {a.name: a for a in entries}
    assert (own.kind, own.mode, own.mtime_ns, own.owner, own.xattrs) == (
        "folder",
        0o2755,
        mtime_ns,
        owner,
        {"user.x=y": b"\0"},
    )
    assert blob.count(b"\n") == 2 + len(entries)
    assert meta.split(blob) == (meta.split(blob)[0], dict(zip([a.name for a in entries], lines, strict=True)))


def test_an_owner_is_left_out_when_it_is_the_folders() -> None:
    blob = meta.encode(0o755, 0, (7, 8), [meta.format_line(b"a", "file", 0o644, 0, (7, 8), 1, (7, 8))])
    assert b"- 1 a\n" in blob
    assert meta.decode(blob)[1][b"a"].owner == (7, 8)


def test_a_pointer_has_the_files_size() -> None:
    said = Attributes(b"a", "file", 0o644, 0, (0, 0), 5, "ab" * 32)
    assert said.as_pointer() == Pointer("ab" * 32, 5)
    assert Attributes(b"a", "file", 0o644, 0, (0, 0), 5).as_pointer() is None


HEADER = b"gitvault-meta 1\nd 755 0.000000000 0:0 0 .\n"


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        (b"", "begins with"),
        (b"something else\n", "begins with 'something else'"),
        (b"gitvault-meta 1\n", "cut short"),
        (HEADER[:-3], "cut short"),
        (HEADER + b"f 644 0.0 - 1 cut", "cut short"),
        (HEADER + b"\xff\n", "not UTF-8"),
        (HEADER + b"f 644\n", "cannot be read"),
        (HEADER + b"q 644 0.000000000 - 1 a\n", "cannot be read"),
        (HEADER + b"f 9 0.000000000 - 1 a\n", "cannot be read"),
        (HEADER + b"f 644 x - 1 a\n", "cannot be read"),
        (HEADER + b"f 644 0.000000000 7 1 a\n", "cannot be read"),
        (HEADER + b"f 644 0.000000000 - 1 a\txattr.user.x=!\n", "cannot be read"),
    ],
)
def test_damage_is_one_clear_error(blob: bytes, reason: str) -> None:
    with pytest.raises(CorruptionError, match=reason):
        meta.decode(blob)


def test_a_newer_version_is_named() -> None:
    with pytest.raises(UnsupportedFormatVersion, match="'gitvault-meta 2'; this gitvault reads version 1"):
        meta.decode(b"gitvault-meta 2\nwhatever\n")


def test_unknown_extras_are_passed_over() -> None:
    assert b"a" in meta.decode(HEADER + b"f 644 0.000000000 - 1 a\tnewer=thing\tflag\n")[1]
