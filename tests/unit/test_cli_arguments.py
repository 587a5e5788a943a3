"""What words on the command line mean."""

from __future__ import annotations

import argparse
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from gitvault.cli import arguments, main
from gitvault.core.models import Project
from gitvault.errors import NotFoundError
from gitvault.personas.base import Session


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("src/main.c", b"src/main.c"),
        ("./src//main.c/", b"src/main.c"),
        (".", b""),
        ("", b""),
        ("/", b""),
        ("caf\\xe9", b"caf\xe9"),
        ("caf\u00e9", "caf\u00e9".encode()),
        ("a\\x5Cxe9", b"a\\xe9"),
        ("..", b".."),
    ],
)
def test_a_path_inside_a_snapshot(text: str, expected: bytes) -> None:
    assert arguments.inner_path(text) == expected


@pytest.mark.skipif(sys.platform == "win32", reason="a backslash separates folders there")
def test_a_path_on_disk_is_taken_as_typed_when_something_is_there(tmp_path: Path) -> None:
    typed = str(tmp_path / "a\\xe9")
    assert os.fsencode(arguments.disk_path(typed)) == os.fsencode(tmp_path) + b"/a\xe9"
    Path(typed).symlink_to("nowhere")
    assert arguments.disk_path(typed) == typed


def test_pairs() -> None:
    assert arguments.pair("key = a=b ") == ("key", "a=b")
    assert arguments.pair("key=") == ("key", "")
    for text in ("key", "=value", "  =value"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected KEY=VALUE"):
            arguments.pair(text)


def test_each_key_once() -> None:
    assert arguments.facts([("a", "1"), ("b", "1")]) == {"a": "1", "b": "1"}
    with pytest.raises(argparse.ArgumentError, match="--meta: 'a' is given twice"):
        arguments.facts([("a", "1"), ("b", "1"), ("a", "1")])


def test_words_that_are_not_empty() -> None:
    assert arguments.filled(int)("12") == 12
    with pytest.raises(argparse.ArgumentTypeError, match="cannot be empty"):
        arguments.filled(str)("")


def test_tags() -> None:
    assert arguments.tag(" two words ") == "two words"
    for text in ("", " ", "\n"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected a word"):
            arguments.tag(text)


@pytest.mark.parametrize("text", ["-1", "1.5", "", "\u0663"])
def test_counts(text: str) -> None:
    assert arguments.count("12") == 12
    with pytest.raises(argparse.ArgumentTypeError, match="expected a number"):
        arguments.count(text)


def test_dates_are_read_from_now_on() -> None:
    assert abs(arguments.date(end=False)("1 hour ago") - (datetime.now(UTC) - timedelta(hours=1))) < timedelta(
        minutes=5
    )
    day = "2026-01-02"
    assert arguments.date(end=True)(day) - arguments.date(end=False)(day) > timedelta(hours=22)
    with pytest.raises(argparse.ArgumentTypeError, match="is not a date"):
        arguments.date(end=False)("frog")


def test_arguments_that_do_not_go_together() -> None:
    assert str(arguments.wrong("give one")) == "give one"


def test_the_vault_is_the_given_one_else_the_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_VAULT_DIR", str(tmp_path / "environment"))
    given = main.Session("given", creates=False, quiet=False)
    assert given.vault_path == tmp_path / "given"
    assert given.command == "git vault --vault given"
    assert given.command_for("an other") == "git vault --vault 'an other'"
    silent = main.Session(None, creates=False, quiet=False)
    assert silent.vault_path == tmp_path / "environment"
    assert silent.command == "git vault"


def test_no_default_vault_is_made_for_a_folder_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GIT_VAULT_DIR", raising=False)
    monkeypatch.setattr("gitvault.config.default_vault", lambda: tmp_path / "default.git")
    session = main.Session(None, creates=True, quiet=True)
    (tmp_path / "file").write_bytes(b"")
    for name in ("none", "file"):
        with pytest.raises(NotFoundError, match=name):
            arguments.vault_for(session, str(tmp_path / name))
    assert not (tmp_path / "default.git").exists()
    with arguments.vault_for(session, str(tmp_path)) as vault:
        assert vault.path == tmp_path / "default.git"
    # One that is there is given whatever the folder is: it has its own words for that.
    assert arguments.vault_for(session, str(tmp_path / "none")) is vault


def test_facts_of_projects_are_trimmed_and_repeated_tags_are_all_kept() -> None:
    parser = argparse.ArgumentParser()
    arguments.add_facts(parser)
    given = parser.parse_args(["--client", " Acme ", "--stack", "", "--tag", "a", "--tag", " b "])
    assert {key: getattr(given, key) for key in arguments.FACTS} == {"client": "Acme", "chosen": "", "phase": None}
    assert given.tag == ["a", "b"]


def test_selections_are_read_as_a_shell_reads_words_and_add_up() -> None:
    parser = argparse.ArgumentParser()
    arguments.add_selection(parser, "those")
    given = parser.parse_args(["--select", "client:'Blue Co' -tag:old", "--select", "shop"])
    assert given.select == ["client:Blue Co", "-tag:old", "shop"]
    with pytest.raises(SystemExit):
        parser.parse_args(["--select", "client:'Blue"])


def test_a_selection_means_projects_their_names_and_those_here() -> None:
    listed = [
        Project(name, "/x", host, datetime(2026, 1, 2, tzinfo=UTC)) for name in "ab" for host in ("desk", "couch")
    ]
    vault = SimpleNamespace(projects=lambda: listed, config=SimpleNamespace(machine="desk"))
    session = cast(Session, SimpleNamespace(vault=vault))
    assert arguments.selected(session, ["a"]) == listed[:2]
    assert arguments.selected(session, []) == listed
    assert (arguments.names(session, ["a"]), arguments.names(session, [])) == (["a"], [])
    assert arguments.here(session, listed) == listed[::2]
    with pytest.raises(NotFoundError):
        arguments.selected(session, ["client:none"])
