"""The three escapes: reversible, and harmless where they are for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitvault.core.utils.names import (
    from_ref_component,
    from_text,
    from_tree_name,
    is_dotgit,
    is_harmless,
    is_special,
    near,
    one_line,
    ref_component,
    to_line,
    to_text,
    tree_name,
)

NAMES = st.one_of(
    st.binary(min_size=1, max_size=30),
    st.lists(st.sampled_from([b".git", b"%", b"2E", b"\\", b"x41", b"~1", b" ", b".", b"GIT", b"\xe2\x80\x8c"])).map(
        b"".join
    ),
).filter(lambda name: name not in (b"", b".", b"..") and b"/" not in name and b"\0" not in name)


@given(NAMES, st.booleans())
def test_tree_names_are_reversible_and_never_dotgit(name: bytes, force: bool) -> None:
    held = tree_name(name, force=force)
    assert from_tree_name(held) == name
    assert not is_dotgit(held)
    if force:
        assert not is_special(held)


@given(st.lists(NAMES, unique=True, max_size=8))
def test_two_names_never_become_one(names: list[bytes]) -> None:
    assert len({tree_name(name) for name in names}) == len(names)


def test_what_git_refuses_and_what_it_does_not() -> None:
    for name in (b".git", b".GIT", b"git~1", b".git.", b".git  ", b".git::$INDEX", b"a\\.git", b".g\xe2\x80\x8cit"):
        assert is_dotgit(name), name
        assert tree_name(name) != name
    for name in (b".gitignore", b"git", b"xgit~1", b".git2", b"%2Egit", b"git~2", b"caf\xe9"):
        assert not is_dotgit(name), name
    assert tree_name(b"100%") == b"100%", "escaped only where it would read as an escape"
    assert tree_name(b"%41") == b"%2541"


@pytest.mark.parametrize(
    ("name", "content", "harmless"),
    [
        (b".gitattributes", b"* text\n", True),
        (b".gitattributes", b"x" * 3000, False),
        (b".gitattributes", b"x\n" * 600_000, False),
        (b".GITATTRIBUTES", b"* text\n", False),
        (b".gitmodules", b"", True),
        (b".gitmodules", b'[submodule "lib/x"]\n\tpath = lib/x\n\turl = https://example.org/x.git\n', True),
        (b".gitmodules", b'[submodule "../x"]\n\tpath = x\n', False),
        (b".gitmodules", b'[submodule "x"]\n\turl = -u/x\n', False),
        (b".gitmodules", b'[submodule "x"]\n\tupdate = !touch x\n', False),
        (b".gitmodules", b'[submodule "x"]\n\turl = ext::sh\n', False),
        (b".gitmodules", b"\n" * 10_000 + b"# and\n \t\n", True),
        # As long as it takes to read it, and not 2^n as long.
        (b".gitmodules", b"\n" * 10_000 + b"x", False),
    ],
)
def test_content_that_git_fsck_accepts(name: bytes, content: bytes, harmless: bool) -> None:
    assert is_special(name)
    assert is_harmless(name, content) is harmless


@given(st.binary(max_size=40))
def test_text_is_reversible(raw: bytes) -> None:
    for written in (to_text(raw), to_line(raw)):
        assert from_text(written) == raw
        written.encode()
    assert "\n" not in to_line(raw)
    assert "\x1b" not in to_line(raw)


def test_text_as_documented() -> None:
    assert to_text(b"caf\xe9") == "caf\\xe9"
    assert to_text("caf\u00e9\n".encode()) == "caf\u00e9\n"
    assert to_text(b"\\x41") == "\\x5Cx41"
    assert to_line(b"a\nb") == "a\\x0ab"
    assert from_text("caf\udce9") == b"caf\xe9", "what the system hands over for bytes"


@pytest.mark.parametrize("code", [0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A), 0x9B])
def test_what_turns_or_breaks_a_line_is_shown_escaped(code: int) -> None:
    """`photo` RLO `gpj.exe` must not read `photoexe.jpg`; what it stands for can be typed."""
    raw = f"photo{chr(code)}gpj.exe".encode()
    shown = to_line(raw)
    assert shown == "photo" + "".join(f"\\x{byte:02x}" for byte in chr(code).encode()) + "gpj.exe"
    assert from_text(shown) == raw
    assert (
        to_line("\u05e9\u05dc\u05d5\u05dd \U0001f469\u200d\U0001f4bb".encode())
        == "\u05e9\u05dc\u05d5\u05dd \U0001f469\u200d\U0001f4bb"
    )


def test_one_line_leaves_escapes_alone() -> None:
    assert one_line("caf\\xe9\n\x1b[31m") == "caf\\xe9\\x0a\\x1b[31m"
    assert one_line("caf\udce9") == "caf\\xe9"


@given(st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=20))
def test_ref_components_are_reversible(name: str) -> None:
    import unicodedata

    try:
        name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return
    held = ref_component(name)
    assert from_ref_component(held) == unicodedata.normalize("NFC", name)
    assert held.isascii()
    assert not held.startswith((".", "-"))
    assert not held.endswith((".lock", "."))
    assert ".." not in held
    assert held != "HEAD"


def test_names_that_no_windows_file_can_have() -> None:
    for name in ("CON", "nul.txt", "com1", "a:b", "a*", 'a"'):
        assert ref_component(name) != name


def test_the_name_that_was_meant() -> None:
    assert near("lantren", {"acme", "lantern", "lamp"}) == " (did you mean lantern?)"
    assert near("x", ["acme"]) == near("acme", []) == ""
