"""Lists of projects that were edited on two machines become one: the same in any order, and nothing is lost."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from gitvault.core.models import Project
from gitvault.core.versioning import edits
from gitvault.core.versioning.edits import Edit, edited, merge, registered, renamed, revived, stamp

BEGIN = datetime(2026, 1, 2, tzinfo=UTC)
TIMES = st.integers(0, 5).map(lambda seconds: BEGIN + timedelta(seconds=seconds))
WORDS = st.sampled_from(["", "a", "b"])
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "client": WORDS,
        "phase": WORDS,
        "chosen": WORDS,
        "detected": WORDS,
        "mode": st.sampled_from(["protect", "full"]),
        "path": st.sampled_from(["/x", "/y"]),
        "tags": st.sampled_from([(), ("a",), ("a", "b")]),
        "relations": st.sampled_from([(), (("succeeds", "q"),)]),
        "archived": st.booleans(),
        "removed": st.booleans(),
    },
)


@st.composite
def catalogs(draw: st.DrawFn) -> list[Project]:
    """A list as one vault may hold it: registered at some time, edited at others, agreeing on what is shared."""
    found: dict[tuple[str, str], Project] = {}
    for name in draw(st.sets(st.sampled_from("pq"))):
        for host in draw(st.sets(st.sampled_from(["desk", "couch"]), min_size=1)):
            project = Project(name, draw(st.sampled_from(["/x", "/y"])), host, draw(TIMES))
            known = [found[key] for key in found if key[0] == name]
            found[name, host] = registered(project, known, None)
            if draw(st.booleans()):
                found[name, host] = replace(found[name, host], unknown=(("z", draw(st.sampled_from(["1", "2"]))),))
        for _ in range(draw(st.integers(0, 3))):
            change, host, now = Edit(draw(CHANGES)), draw(st.sampled_from(["desk", "couch"])), draw(TIMES)
            for key, project in found.items():
                if key[0] == name:
                    found[key] = change.applied(project, host, now)
    # Shared fields agree once the list has been through a merge, as they do on disk.
    return merge(found.values(), [])


@given(catalogs(), catalogs(), catalogs())
def test_a_merge_is_the_same_in_any_order_and_any_number_of_times(
    a: list[Project], b: list[Project], c: list[Project]
) -> None:
    both = merge(a, b)
    assert both == merge(b, a)
    assert merge(a, a) == a
    assert merge(both, a) == merge(both, b) == merge(both, both) == both
    assert merge(merge(a, b), c) == merge(a, merge(b, c))


@given(catalogs(), catalogs())
def test_a_merge_loses_no_project_and_brings_none_back(a: list[Project], b: list[Project]) -> None:
    both = {(p.name, p.host): p for p in merge(a, b)}
    assert both.keys() == {(p.name, p.host) for p in (*a, *b)}
    for key, project in both.items():
        held = [p for p in (*a, *b) if (p.name, p.host) == key]
        assert project.removed in {p.removed for p in held}
        assert project.path in {p.path for p in held}
    for name in {name for name, _ in both}:
        shared = {tuple(getattr(p, key) for key in edits.SHARED) for p in both.values() if p.name == name}
        assert len(shared) == 1


@given(catalogs(), CHANGES, TIMES)
def test_an_edit_made_after_a_merge_wins_over_what_was_merged(
    a: list[Project], change: dict[str, object], now: datetime
) -> None:
    """Also when the clock stands still or goes back."""
    after = [edited(project, change, now) for project in a]
    after = merge(after, [])
    for project in merge(a, after):
        mine = next(p for p in after if (p.name, p.host) == (project.name, project.host))
        assert all(getattr(project, key) == getattr(mine, key) for key in change)


def test_each_field_is_as_it_was_edited_last() -> None:
    base = Project("shop", "/shop", "desk", BEGIN)
    here = edited(base, {"client": "acme", "phase": "build"}, BEGIN + timedelta(minutes=1))
    there = edited(base, {"phase": "live"}, BEGIN + timedelta(minutes=2))
    couch = registered(Project("shop", "/c", "couch", BEGIN), [there], None)
    found = merge([here], [there, couch])
    assert {(p.host, p.path, p.client, p.phase) for p in found} == {
        ("desk", "/shop", "acme", "live"),
        ("couch", "/c", "acme", "live"),
    }


def test_every_field_is_shared_or_a_machines_own() -> None:
    """A field that is neither would be lost in a merge."""
    named = {"name", "host", "added", "edited", "unknown"}
    assert {*edits.SHARED, *edits.MACHINE} == {field.name for field in fields(Project)} - named


def test_what_is_not_changed_gets_no_new_time() -> None:
    base = edited(Project("shop", "/shop", "desk", BEGIN), {"client": "acme"}, BEGIN)
    assert edited(base, {"client": "acme"}, BEGIN + timedelta(days=1)) is not base
    assert edited(base, {"client": "acme"}, BEGIN + timedelta(days=1)) == base
    assert base.edited == (("client", "2026-01-02T00:00:00.000000Z"),)
    again = edited(base, {"client": "b"}, BEGIN - timedelta(days=1))
    assert again.edited == (("client", "2026-01-02T00:00:00.000001Z"),)
    late = replace(base, edited=(("client", "9999-12-31T23:59:59.999999Z"),))
    assert edited(late, {"client": "b"}, BEGIN).edited == late.edited


def test_words_are_put_and_taken_and_the_rest_stays() -> None:
    base = Project("shop", "/shop", "desk", BEGIN, tags=("a", "b"))
    done = Edit({"phase": "x", "path": "/new"}, {"tags": ["c"]}, {"tags": ["a"]}).applied(base, "desk", BEGIN)
    assert (done.tags, done.phase, done.path) == (("b", "c"), "x", "/new")
    done = Edit({"phase": "x", "path": "/new"}, {"tags": ["c"]}).applied(base, "couch", BEGIN)
    assert (done.tags, done.phase, done.path) == (("a", "b", "c"), "x", "/shop")


def test_a_project_that_is_registered_again_lives_in_every_merge() -> None:
    base = edited(Project("shop", "/old", "desk", BEGIN), {"client": "acme"}, BEGIN)
    gone = edited(base, {"removed": True}, BEGIN + timedelta(minutes=1))
    assert [p.removed for p in merge([base], [gone])] == [True]
    again = registered(Project("shop", "/new", "desk", BEGIN), [], gone)
    assert (again.path, again.client, again.removed) == ("/new", "acme", False)
    for one in (base, gone):
        assert merge([one], [again]) == merge([again], [one]) == [again]
    taken = revived(Project("shop", "/else", "desk", BEGIN), gone)
    for one in (base, gone):
        assert merge([one], [taken]) == [taken]


def test_relations_follow_a_rename() -> None:
    project = Project("b", "/b", "desk", BEGIN, relations=(("succeeds", "a"),))
    assert renamed(project, {"a": "x"}).relations == (("succeeds", "x"),)
    assert renamed(project, {"b": "y"}).name == "y"


def test_times_are_compared_in_utc() -> None:
    assert stamp(datetime.fromisoformat("2026-01-02T01:00:00+01:00")) == "2026-01-02T00:00:00.000000Z"
