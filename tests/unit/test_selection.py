"""Words that say which projects are meant."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gitvault.core.models import Project
from gitvault.errors import GitVaultError, NotFoundError
from gitvault.personas.code.projects import chosen, select
from gitvault.personas.code.projects.selection import KEYS

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def project(name: str, **facts: object) -> Project:
    return replace(Project(name, f"/home/m/work/{name}", "desk", NOW), **facts)  # type: ignore[arg-type]


PROJECTS = [
    project("Shop", client="Acme", detected="python", tags=("paid", "urgent"), phase="build"),
    project("shop-rs", client="Acme", chosen="rust", detected="python", relations=(("succeeds", "Shop"),)),
    project("blog", client="Blue Co", detected="python", tags=("old",), mode="full"),
    project("blog", client="Blue Co", path="/srv/blog", host="couch", tags=("old",)),
    project("gone", client="acme", detected="python", archived=True),
    project("a[1]"),
    project("b:c", path="/x/b:c"),
]


def named(*words: str) -> list[str]:
    return [f"{p.name}{'' if p.host == 'desk' else '@' + p.host}" for p in select(PROJECTS, words, home="/home/m")]


@pytest.mark.parametrize(
    "words, expected",
    [
        ("", "Shop shop-rs blog blog@couch a[1] b:c"),
        ("client:acme", "Shop shop-rs"),
        ("client:ACME stack:python", "Shop"),
        ("stack:python client:*", "Shop blog"),
        ("stack:rust", "shop-rs"),
        ("-client:*", "a[1] b:c"),
        ("tag:urgent tag:paid", "Shop"),
        ("tag:urgent tag:old", ""),
        ("client:acme -tag:urgent", "shop-rs"),
        ("tag:", "shop-rs a[1] b:c"),
        ("-tag: -client:blue*", "Shop"),
        ("phase:b?ild", "Shop"),
        ("shop", "Shop"),
        ("shop*", "Shop shop-rs"),
        ("shop blog", "Shop blog blog@couch"),
        ("name:shop* client:acme -stack:rust", "Shop"),
        ("-name:shop* -name:blog", "a[1] b:c"),
        ("path:~/work/s*", "Shop shop-rs"),
        ("path:/srv/*", "blog@couch"),
        ("host:couch", "blog@couch"),
        ("mode:full", "blog"),
        ("related:shop", "shop-rs"),
        ("related:shop-rs", "Shop"),
        ("a[1]", "a[1]"),
        ("name:b:c", "b:c"),
        ("archived:yes", "gone"),
        ("client:acme archived:any", "Shop shop-rs gone"),
        ("archived:no client:acme", "Shop shop-rs"),
        ("-archived:yes client:acme", "Shop shop-rs"),
        ("gone", "gone"),
        ("GONE client:blue*", ""),
        ("gon*", ""),
    ],
)
def test_words_choose_projects(words: str, expected: str) -> None:
    assert named(*words.split()) == expected.split()


@pytest.mark.parametrize(
    "word, reason",
    [
        ("clinet:acme", "clinet:acme: no key clinet; expected name, client, stack, phase, tag, path"),
        ("-shop", "expected a name, or -KEY:VALUE"),
        ("", "expected a name"),
        ("archived:maybe", "expected archived:yes, archived:no or archived:any"),
        ("b:c", "no key b; .* name:... for such a name"),
    ],
)
def test_a_word_that_means_nothing_is_named_with_what_is_allowed(word: str, reason: str) -> None:
    with pytest.raises(GitVaultError, match=reason):
        select(PROJECTS, [word])


def test_a_name_that_no_project_has_is_an_error_and_a_pattern_is_not() -> None:
    for words in (["shpo"], ["client:acme", "name:shpo"]):
        with pytest.raises(NotFoundError, match=r"^shpo: no such project"):
            select(PROJECTS, words)
    assert select(PROJECTS, ["shpo*"]) == select(PROJECTS, ["-name:*"]) == []


def test_names_come_once_and_nothing_chosen_is_an_error() -> None:
    """What acts on a selection must never take an empty one for everything."""
    assert chosen(PROJECTS, ["blog"]) == ["blog"]
    with pytest.raises(NotFoundError, match="client:none: no project is so"):
        chosen(PROJECTS, ["client:none"])
    with pytest.raises(NotFoundError):
        chosen([], [])


def test_the_words_of_the_help_are_those_there_are() -> None:
    from gitvault.cli.main import builtin_verb, verb_parser

    verb = builtin_verb("projects")
    assert verb
    assert ", ".join(KEYS) in " ".join(verb_parser(verb).format_help().split())
