"""Which project a folder is, and what a new one is called."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gitvault.core.models import Project
from gitvault.core.utils.names import ref_component
from gitvault.core.versioning import catalog
from gitvault.errors import ExistsError, GitVaultError, NotFoundError

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def project(name: str, path: str, host: str = "desk") -> Project:
    return Project(name, path, host, NOW)


LISTED = [project("a", "/a"), project("b", "/a"), project("a", "/a", "couch"), project("c", "/c")]


@pytest.mark.parametrize(
    "folder, host, name, index",
    [("/a", "desk", None, 0), ("/a", "desk", "b", 1), ("/a", "couch", None, 2), ("/c", "couch", None, None)],
)
def test_a_folder_is_found_by_its_machine_and_its_name(
    folder: str, host: str, name: str | None, index: int | None
) -> None:
    assert catalog.find(LISTED, folder, host, name) == (None if index is None else LISTED[index])


def test_a_name_made_from_the_folder_is_unique_whatever_the_case() -> None:
    found, *others = catalog.add([project("Acme", "/x"), project("acme-2", "/y")], "/z/acme", "desk", None, NOW)
    assert found == project("acme-3", "/z/acme")
    assert [p.name for p in others] == ["Acme", "acme-2"]
    assert catalog.add([], os.sep, "desk", None, NOW)[0].name == "root"
    made = catalog.add([], "/x/" + "ä" * 100, "desk", None, NOW)[0].name
    assert made == "ä" * len(made) and 200 < len(ref_component(made)) <= 220


def test_a_name_takes_the_place_of_a_project_whose_folder_is_gone(tmp_path: Path) -> None:
    gone = project("acme", str(tmp_path / "gone"))
    assert catalog.add([gone, LISTED[3]], "/new", "desk", "acme", NOW) == [project("acme", "/new"), LISTED[3]]
    for listed, name in ((project("acme", str(tmp_path)), "acme"), (gone, "ACME")):
        with pytest.raises(ExistsError, match="choose another name"):
            catalog.add([listed], "/new", "desk", name, NOW)
    # On another machine it is the same project.
    assert len(catalog.add([project("acme", str(tmp_path), "couch")], "/new", "desk", "acme", NOW)) == 2


def test_a_removed_project_comes_back_with_its_folder_and_not_with_another() -> None:
    gone = replace(project("store", "/x/shop"), removed=True, client="acme")
    found, *others = catalog.add([gone], "/x/shop", "desk", None, NOW)
    assert (found.name, found.removed, found.client, others) == ("store", False, "acme", [])
    assert catalog.add([gone], "/y/store", "desk", None, NOW)[0].name == "store-2"
    assert catalog.add([gone], "/x/shop", "couch", None, NOW)[0].name == "shop"
    assert catalog.add([gone], "/y/else", "desk", "store", NOW)[0].path == "/y/else"
    for other, name in (("store", "store"), ("STORE", "shop")):
        assert catalog.add([gone, project(other, "/z", "couch")], "/x/shop", "desk", None, NOW)[0].name == name


@pytest.mark.parametrize("name, reason", [("", "cannot be empty"), (" \t", "cannot be empty"), ("n" * 221, "too long")])
def test_names_that_no_project_can_have(name: str, reason: str) -> None:
    with pytest.raises(GitVaultError, match=reason):
        catalog.add([], "/new", "desk", name, NOW)


@pytest.mark.parametrize("name", ["a", "A", "c", ""])
def test_names_that_are_not_free(name: str) -> None:
    with pytest.raises(GitVaultError):
        catalog.check_new(LISTED, name)
    catalog.check_new(LISTED, "d")


def test_a_folder_has_one_spelling(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real", target_is_directory=True)
    (tmp_path / "file").touch()
    assert catalog.folder_of(tmp_path / "link" / "..") == os.path.realpath(tmp_path)
    assert catalog.folder_of(tmp_path / "link") == os.path.realpath(tmp_path / "real")
    for name, reason in (("none", "no such folder"), ("file", "not a folder")):
        with pytest.raises(NotFoundError, match=reason):
            catalog.folder_of(tmp_path / name)
