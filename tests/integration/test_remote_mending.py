"""Remotes of which something is gone, damaged or wrongly named, from the command line: found, told, and mended."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pyrage
import pytest

from gitvault.cli import main
from gitvault.remotes import settings
from gitvault.remotes.opening import open_remote


def run(*words: str | Path) -> int:
    return main.main([str(word) for word in words])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a project, a vault with a snapshot of it, and two pairs of keys; the one we are in."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "words.txt").write_text("some words")
    (tmp_path / "project" / "large.bin").write_bytes(os.urandom(200_000))
    for name in ("one", "two"):
        identity = pyrage.x25519.Identity.generate()
        (tmp_path / name).write_text(f"{identity}\n")
        (tmp_path / f"{name}.pub").write_text(str(identity.to_public()))
    monkeypatch.chdir(tmp_path)
    assert run("init", "v") == 0
    assert run("--vault", "v", "snapshot", "project") == 0
    return tmp_path


def add(home: Path, *words: str | Path, sealed: bool = False) -> int:
    keys = ["--encrypt", (home / "one.pub").read_text(), "--identity", home / "one"] if sealed else []
    return run("--vault", "v", "remote", "add", "off", "./away", *keys, *words)


def whole(home: Path, *words: str | Path) -> bool:
    """Whether a new machine gets all of it back."""
    shutil.rmtree(home / "back", ignore_errors=True)
    if run("restore", "--remote", "./away", "project", "--to", home / "back", *words) != 0:
        return False
    return all((home / "back" / path.name).read_bytes() == path.read_bytes() for path in (home / "project").iterdir())


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("remembered", [True, False])
def test_a_push_brings_an_index_again_that_was_lost(
    home: Path, capsys: pytest.CaptureFixture[str], sealed: bool, remembered: bool
) -> None:
    key = ["--identity", home / "one"] if sealed else []
    assert add(home, sealed=sealed) == 0
    assert run("--vault", "v", "push", "off") == 0
    assert whole(home, *key)
    with open_remote(settings.get(home / "v", "off"), {}) as remote:
        lost = [stored.name for stored in remote.place.names("index/")]
        assert lost
        remote.place.delete(lost)
    capsys.readouterr()
    assert run("restore", "--remote", "./away", "project", "--to", home / "back2", *key) == 20
    assert "damaged there, project is not found; push again" in capsys.readouterr().err
    assert run("--vault", "v", "remote", "verify", "off") == 20
    assert "push off   # brings again" in capsys.readouterr().out
    if not remembered:
        shutil.rmtree(home / "v" / "cache")
    assert run("--vault", "v", "push", "off") == 0
    assert run("--vault", "v", "remote", "verify", "off", "--data") == 0
    assert whole(home, *key)
    assert run("clone", "./away", "c", *key) == 0
    assert run("--vault", "c", "verify", "--data") == 0
    # And there is nothing to bring any more.
    capsys.readouterr()
    assert run("--vault", "v", "push", "off") == 0
    assert "nothing new" in capsys.readouterr().out


def test_a_verification_of_what_is_gone_is_no_success(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert add(home) == 0
    assert run("--vault", "v", "remote", "verify", "off") == 128
    assert "no vault there; push one to it first" in capsys.readouterr().err
    assert run("--vault", "v", "push", "off") == 0
    records = home / "away" / "machines"
    records.rename(home / "machines")
    assert run("--vault", "v", "remote", "verify", "off") == 20
    assert "this machine put it there, and it is gone" in capsys.readouterr().out
    assert run("--vault", "v", "push", "off") == 0
    assert run("--vault", "v", "remote", "verify", "off") == 0
    assert whole(home)
    (home / "away").rename(home / "unplugged")
    (home / "away").mkdir()
    for words in (("remote", "verify", "off"), ("push", "off"), ("fetch", "off"), ("remote", "prune", "off")):
        capsys.readouterr()
        assert run("--vault", "v", *words) == 14, words
        assert "the vault that was there is gone; is it mounted" in capsys.readouterr().err
    # Of another vault that lies there it is said too.
    (home / "away").rmdir()
    assert run("init", "v2") == 0
    assert run("--vault", "v2", "snapshot", "project") == 0
    assert run("--vault", "v2", "remote", "add", "off", "./away") == 0
    assert run("--vault", "v2", "push", "off") == 0
    for words in (("remote", "verify", "off"), ("restore", "--remote", "off", "project", "--to", "x")):
        capsys.readouterr()
        assert run("--vault", "v", *words) == 14, words
        assert "holds another vault" in capsys.readouterr().err


def test_a_clone_of_which_no_record_can_be_read_is_no_success(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert add(home) == 0
    assert run("--vault", "v", "push", "off") == 0
    for path in (home / "away" / "machines").rglob("*"):
        if path.is_file():
            path.write_text("junk")
    capsys.readouterr()
    assert run("clone", "./away", "c") == 20
    assert "no record there can be read; push again from a vault that has it" in capsys.readouterr().err
    assert run("restore", "--remote", "./away", "project", "--to", "x") == 20
    assert "damaged there" in capsys.readouterr().err


def test_a_clone_knows_where_it_came_from_from_anywhere(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert add(home) == 0
    assert run("--vault", "v", "push", "off") == 0
    # A folder needs no slash, where no remote is called so.
    assert run("clone", "away", "c") == 0
    assert run("restore", "--remote", "away", "project", "--to", "back") == 0
    assert run("--vault", "v", "restore", "--remote", "away", "project", "--to", "back2") == 0
    (home / "off").mkdir()
    assert run("--vault", "v", "restore", "--remote", "off", "project", "--to", "back3") == 0
    monkeypatch.chdir("/")
    capsys.readouterr()
    assert run("--vault", home / "c", "remote", "list", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["url"] == os.fspath(home / "away")
    assert run("--vault", home / "c", "fetch") == 0


def test_a_wrong_key_is_told_before_anything_is_sent(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two = (home / "two").read_text()
    assert run("--vault", "v", "remote", "add", "bad", "./b", "--encrypt", (home / "one.pub").read_text(),
               "--identity", "two") == 128  # fmt: skip
    assert "two: not the key of one that --encrypt names" in capsys.readouterr().err
    assert not (home / "b").exists()
    assert add(home, sealed=True) == 0
    assert run("--vault", "v", "push", "off") == 0
    right = (home / "one").read_text()
    (home / "one").write_text(two)
    before = sorted(path.name for path in (home / "away").rglob("*"))
    for words in (("push", "off"), ("fetch", "off"), ("remote", "verify", "off"), ("remote", "prune", "off")):
        capsys.readouterr()
        assert run("--vault", "v", *words) == 14, words
        assert "one: not a key that opens this remote" in capsys.readouterr().err
    assert sorted(path.name for path in (home / "away").rglob("*")) == before
    (home / "one").write_text(right)
    assert run("--vault", "v", "push", "off") == 0
    (home / "one").write_text("x" * (2 << 20))
    capsys.readouterr()
    assert run("--vault", "v", "push", "off") == 128
    assert "too long for a secret key" in capsys.readouterr().err


def test_a_machine_without_a_key_can_be_given_one_for_once(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--vault", "v", "remote", "add", "off", "./away", "--encrypt", (home / "one.pub").read_text()) == 0
    assert run("--vault", "v", "push", "off") == 0
    # What another machine pushed is sealed for this one: that is no damage.
    assert run("clone", "./away", "c", "--identity", "one") == 0
    (home / "project" / "words.txt").write_text("other words")
    assert run("--vault", "c", "snapshot", "project") == 0
    assert run("--vault", "c", "push", "origin") == 0
    capsys.readouterr()
    assert run("--vault", "v", "remote", "verify", "off") == 0
    assert "sealed to other keys" in capsys.readouterr().out
    assert run("--vault", "v", "restore", "--remote", "off", "project", "--to", "x", "--identity", "one") == 0
    assert run("--vault", "v", "remote", "verify", "off", "--data", "--identity", "one") == 0
    assert run("--vault", "v", "fetch", "off", "--identity", "one") == 0
    assert "identity" not in (home / "v" / "config").read_text()


def test_what_opens_a_sealed_remote_is_found_missing_and_put_again(home: Path) -> None:
    assert add(home, sealed=True) == 0
    assert run("--vault", "v", "push", "off") == 0
    for lost in ("unseal.sh", "rescue.sh", "README", "keys"):
        path = home / "away" / lost
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
            # It is opened all the same.
            assert whole(home, "--identity", home / "one")
        assert run("--vault", "v", "remote", "verify", "off") == 20
        assert run("--vault", "v", "push", "off") == 0
        assert path.exists()
        assert run("--vault", "v", "remote", "verify", "off", "--data") == 0
    assert whole(home, "--identity", home / "one")


@pytest.mark.parametrize("folder", ["git/", "index/"])
@pytest.mark.parametrize("remembered", [True, False])
@pytest.mark.parametrize("sealed", [False, True])
def test_a_push_of_one_project_mends_what_is_damaged_of_all(
    home: Path, sealed: bool, remembered: bool, folder: str
) -> None:
    key = ["--identity", home / "one"] if sealed else []
    (home / "other").mkdir()
    (home / "other" / "noise.bin").write_bytes(os.urandom(300_000))
    assert run("--vault", "v", "snapshot", "other") == 0
    assert add(home, sealed=sealed) == 0
    assert run("--vault", "v", "push", "off") == 0
    with open_remote(settings.get(home / "v", "off"), {}) as remote:
        remote.place.delete([stored.name for stored in remote.place.names(folder)])
    assert run("--vault", "v", "remote", "verify", "off") == 20
    if not remembered:
        # A cache may go at any time; of damaged packs it is then to be looked for again.
        shutil.rmtree(home / "v" / "cache")
        assert run("--vault", "v", "remote", "verify", "off") == 20
        if folder == "index/":
            shutil.rmtree(home / "v" / "cache")
    assert run("--vault", "v", "push", "off", "other") == 0
    assert run("--vault", "v", "remote", "verify", "off", "--data") == 0
    assert whole(home, *key)
    assert run("clone", "./away", "c", *key) == 0


@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.parametrize("damage", [0, 70, 100, -3])
def test_a_damaged_key_of_the_names_is_found_and_put_again(home: Path, reads: bool, damage: int) -> None:
    words = ["--identity", home / "one"] if reads else []
    recipient = (home / "one.pub").read_text()
    assert run("--vault", "v", "remote", "add", "off", "./away", "--encrypt", recipient, *words) == 0
    assert run("--vault", "v", "push", "off") == 0
    [path] = (home / "away" / "keys").iterdir()
    content = bytearray(path.read_bytes())
    if damage in (0, 100):
        del content[damage:]
    else:
        content[damage] ^= 1
    path.write_bytes(content)
    found = run("--vault", "v", "remote", "verify", "off")
    # Without a key only a length can be compared.
    if not reads and damage in (70, -3):
        assert found == 0
        return
    assert found == 20
    assert run("--vault", "v", "push", "off") == 0
    assert run("--vault", "v", "remote", "verify", "off") == 0
    assert whole(home, "--identity", home / "one")


def test_urls_that_name_no_place_are_refused_and_those_of_git_are_not(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for url in ("file://rel/x", "file:rel", "file:"):
        assert run("--vault", "v", "remote", "add", "off", url) == 128
        assert "expected file:///PATH" in capsys.readouterr().err
    assert run("--vault", "v", "remote", "add", "off", f"file://{home}/away") == 0
    assert run("--vault", "v", "push", "off") == 0
    assert whole(home)
    assert run("--vault", "v", "remote", "add", "hub", f"git+file://{home}/hub.git") == 0
