"""`clone --inspect`: a vault that holds what was asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from away import Counted, edit, fill, made, opened, pushed, remote_of

from gitvault.errors import ExistsError, GitVaultError, NotFoundError
from gitvault.remotes import fetch, partial, settings
from gitvault.vault import Vault


def saved(tmp_path: Path, size: int = 200_000) -> Vault:
    """A vault with a project, `work`, in two snapshots."""
    work = tmp_path / "work"
    vault = made(tmp_path / "one.git", "desk")
    fill(work, 1, size)
    vault.create_snapshot(work)
    edit(work, 100)
    (work / "src" / "file1.txt").write_text("another line\n")
    vault.create_snapshot(work)
    return vault


def test_it_shows_what_is_there_and_fetches_files_when_they_are_asked_for(tmp_path: Path, command) -> None:  # type: ignore[no-untyped-def]
    place = tmp_path / "place"
    with saved(tmp_path, 1_000_000) as vault:
        pushed(vault, Counted(place))
    look = tmp_path / "look.git"
    done = json.loads(command("clone", "--inspect", place, look, "--json").stdout)
    assert (done["inspects"], done["projects"]) == (True, ["work"])
    assert not list(look.glob("objects/pack/*.pack"))
    at = ("--vault", look)
    assert command(*at, "log", "work").stdout.count("work: ") == 2
    assert "src/file1.txt" in command(*at, "ls", "work", "src").stdout
    assert command(*at, "diff", "work~1", "work").stdout.split() == ["M", "large.bin", "M", "src/file1.txt"]
    assert not list(look.glob("chunks/*.zpk"))
    assert command(*at, "cat", "work:src/file1.txt").stdout == "another line\n"
    assert command(*at, "restore", "work", "large.bin", "--to", tmp_path / "out").returncode == 0
    assert (tmp_path / "out" / "large.bin").read_bytes() == (tmp_path / "work" / "large.bin").read_bytes()
    # What came stays.
    (place / "chunks").rename(tmp_path / "chunks-elsewhere")
    assert command(*at, "restore", "work", "large.bin", "--to", tmp_path / "again").returncode == 0
    for words in ("verify",), ("snapshot", tmp_path / "work"), ("push", "origin"), ("copy", "--to", tmp_path / "c.git"):
        refused = command(*at, *words)
        assert refused.returncode == 128
        assert "made to look at origin" in refused.stderr


def test_fetch_shows_it_what_came_since(tmp_path: Path, command) -> None:  # type: ignore[no-untyped-def]
    place = tmp_path / "place"
    look = tmp_path / "look.git"
    with saved(tmp_path) as vault:
        pushed(vault, Counted(place))
        command("clone", "--inspect", place, look)
        edit(tmp_path / "work", 900)
        vault.create_snapshot(tmp_path / "work")
        pushed(vault, Counted(place))
    (place / "machines" / "junk").write_bytes(b"no record")
    assert command("--vault", look, "log", "work").stdout.count("work: ") == 2
    assert "origin as it is now" in command("--vault", look, "fetch").stdout
    assert command("--vault", look, "log", "work").stdout.count("work: ") == 3


def test_it_asks_for_little_and_is_no_whole_vault(tmp_path: Path) -> None:
    place = Counted(tmp_path / "place")
    with saved(tmp_path, 3_000_000) as vault:
        pushed(vault, place)
    place.requests.clear()
    look, skipped = partial.clone_to_inspect(remote_of(None, place), "/nowhere", tmp_path / "look.git", {})
    with look:
        assert skipped == ()
        with partial.inspecting(look, lambda: remote_of(look, place)):
            assert place.requests["get"] <= 3
            snapshot = look.resolve("work")
            assert [entry.path for entry in look.entries(snapshot, b"mid.bin")] == [b"mid.bin"]
            look.restore_snapshot(snapshot, tmp_path / "out", paths=[b"mid.bin"])
        assert place.requests["get"] <= 14
        assert place.requests["down"] < 400_000
        for wanted in look.demand_whole, lambda: look.verify(), lambda: look.copy_to(tmp_path / "c.git"):
            with pytest.raises(GitVaultError, match="made to look at origin"):
                wanted()
        # For good, as a restore from git has it.
        partial.attach_newest(look, remote_of(look, place))
        look.restore_snapshot(snapshot, tmp_path / "out2", paths=[b"large.bin"])
        # The same again: it goes on.
        partial.refresh(look, remote_of(look, place))
    again, _ = partial.clone_to_inspect(remote_of(None, place), "/nowhere", tmp_path / "look.git", {})
    again.close()
    whole = opened(tmp_path / "one.git", "desk")
    whole.close()
    assert fetch.demand_vault(remote_of(None, place)) == whole.config.id
    with pytest.raises(NotFoundError, match="no vault there"):
        fetch.demand_vault(remote_of(None, Counted(tmp_path / "nothing")))
    settings.add(whole.path, "origin", {"url": "/nowhere"})
    with pytest.raises(ExistsError, match="a whole vault"):
        partial.clone_to_inspect(remote_of(None, place), "/nowhere", whole.path, {})
