"""What is said of a project and depends on more than its folder holds until one of these things changes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gitvault.core import beside as module
from gitvault.core.backup_engine.trees import Alone, Company, Walked, company_of
from gitvault.core.beside import Beside, still
from gitvault.core.patterns import Patterns
from gitvault.core.touched import Touched, is_below
from gitvault.core.utils.files import Disk
from gitvault.vcs.find import has_rules, places
from gitvault.vcs.protect.memory import Memory


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A remote that is a folder, a file of settings and a link, all at rest."""
    (tmp_path / "remote" / "refs" / "heads").mkdir(parents=True)
    (tmp_path / "remote" / "refs" / "heads" / "main").write_text("1" * 40)
    (tmp_path / "remote" / "objects" / "ab").mkdir(parents=True)
    (tmp_path / "settings").write_text("[user]")
    (tmp_path / "dotfiles").write_text("[core]")
    (tmp_path / "link").symlink_to("dotfiles")
    time.sleep(0.12)
    return tmp_path


def all_of(place: Path) -> Beside:
    files = frozenset(os.fspath(place / name) for name in ("settings", "link", "none"))
    return Beside(files, frozenset((os.fspath(place / "remote"),)))


CHANGES: dict[str, Callable[[Path], object]] = {
    "a ref": lambda place: (place / "remote" / "refs" / "heads" / "main").write_text("2" * 40),
    "a new ref": lambda place: (place / "remote" / "refs" / "heads" / "x").write_text("2" * 40),
    "gone": lambda place: (place / "remote").rename(place / "away"),
    "another in its place": lambda place: [(place / "remote").rename(place / "away"), (place / "remote").mkdir()],
    "a setting": lambda place: (place / "settings").write_text("[gpg]"),
    "behind a link": lambda place: (place / "dotfiles").write_text("[gpg]"),
    "what was not there": lambda place: (place / "none").write_text(""),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_is_beside_a_project_is_looked_at(place: Path, what: str) -> None:
    noted = all_of(place).noted(time.time_ns())
    assert noted and Beside.of(noted) == all_of(place)
    # Objects are named by their content: that there are more says nothing.
    (place / "remote" / "objects" / "ab" / "cd").write_text("")
    assert still(noted, 0)
    CHANGES[what](place)
    assert not still(noted, 0)


def test_time_may_change_it(place: Path) -> None:
    both = all_of(place) | Beside(until=1000) | Beside(until=2000)
    noted = both.noted(time.time_ns())
    assert both.until == 1000
    assert still(noted, 999) and not still(noted, 1000)


def test_what_may_have_changed_while_it_was_read_is_not_noted(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = time.time_ns()
    assert all_of(place).noted(begun)
    (place / "settings").write_text("changed since")
    assert all_of(place).noted(begun) == b""
    time.sleep(0.12)
    assert all_of(place).noted(time.time_ns())
    # A folder that was there a moment ago.
    begun = time.time_ns()
    (place / "remote").rename(place / "away")
    assert all_of(place).noted(begun) == b""
    monkeypatch.setattr(module, "_MOST", 2)
    assert all_of(place).noted(0) == b"", "too much"


def test_what_was_not_noted_never_holds() -> None:
    assert still(Beside().noted(0), 0), "nothing is beside it"
    for noted in (b"", b"nonsense", b"\x94\x90\x90\xcb", Beside(until=5).noted(0)[:-1]):
        assert not still(noted, 0) and Beside.of(noted) is None


def test_places_of_this_machine(tmp_path: Path) -> None:
    found = places(tmp_path / "w", ["https://x/y", "../there", "file:///a%20b", "ssh://x"])
    assert found.files == {os.fspath(tmp_path / "there"), "/a b"}
    assert not has_rules(tmp_path)
    (tmp_path / ".gitvault.toml").touch()
    assert has_rules(tmp_path)


def test_a_memory_holds_for_one_state(place: Path, tmp_path: Path) -> None:
    memory = Memory(tmp_path / "cache", Disk(), 0)
    state = "a" * 40
    assert memory.beside("/repository", state) is None
    memory.keep("/repository", state, all_of(place), time.time_ns())
    assert memory.beside("/repository", state) == all_of(place)
    assert memory.beside("/repository", "b" * 40) is None and memory.beside("/other", state) is None
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_bytes(kept.read_bytes()[:50])
    assert memory.beside("/repository", state) is None
    memory.keep("/repository", state, all_of(place), 1)
    assert memory.beside("/repository", state) is None, "it changed since it was read"


def test_without_company_nothing_is_attached() -> None:
    company: Company = company_of(Patterns())
    touched = Touched(b"", frozenset((b"a",)))
    assert isinstance(company, Alone)
    assert company.widened(touched) is touched
    assert (list(company.attachments(Walked())), company.beside()) == ([], Beside())


def test_what_a_touched_folder_reaches() -> None:
    touched = Touched(b"", frozenset((b"a/b",)), frozenset((b"c/d",)))
    reached = [path for path in (b"", b"a", b"a/b", b"a/b/c", b"c", b"c/d/e", b"e") if touched.reaches(path)]
    assert reached == [b"", b"a", b"a/b", b"c", b"c/d/e"]
    assert is_below(b"a/b/c", {b"a"}) and is_below(b"a", {b""}) and not is_below(b"ab", {b"a"})
