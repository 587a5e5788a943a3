"""The documents lead to each other, name only what exists, and leave no setting out."""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from pathlib import Path

import pytest

from gitvault import config

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "gitvault" / "docs"
DOCUMENTS = [README, *sorted(DOCS.glob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def text(path: Path) -> str:
    return path.read_text("utf-8")


def links(path: Path) -> list[tuple[Path, str]]:
    """File and anchor of every link of a document that stays in the repository; code is no link."""
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", text(path), flags=re.DOTALL)
    found = []
    for target in LINK.findall(prose):
        if "://" not in target:
            file, _, anchor = target.partition("#")
            found.append(((path.parent / file).resolve() if file else path, anchor))
    return found


def anchors(path: Path) -> set[str]:
    """As the common hosts derive them from headings."""
    headings = re.findall(r"^#+ (.+)$", text(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    for file, anchor in links(document):
        assert file.exists(), f"{document.name} links to {file}"
        assert not anchor or anchor in anchors(file), f"{document.name} links to #{anchor} of {file.name}"


def test_every_document_can_be_reached_from_the_readme() -> None:
    reached, waiting = {README}, [README]
    while waiting:
        for file, _ in links(waiting.pop()):
            if file.suffix == ".md" and file not in reached:
                reached.add(file)
                waiting.append(file)
    assert reached >= set(DOCUMENTS)


def test_every_setting_is_in_a_document_and_the_readmes_table_is_right() -> None:
    rows = dict(re.findall(r"^\| `((?:vault|user)\.\w+)` \| ([^|]*?) *\|", text(README), re.MULTILINE))
    assert len(rows) > 4
    known = {setting.key: setting for setting in config.SETTINGS.values()}
    assert rows.keys() <= known.keys()
    for key, default in rows.items():
        field = known[key].field
        if default and field:
            assert known[key].read(default.strip("`")) == getattr(config.Config(), field), key
    everything = text(README) + text(DOCS / "commands.md")
    for key in known:
        assert f"`{key}`" in everything, f"{key} is in no document"


@cache
def functions_of(path: Path) -> set[str]:
    return {node.name for node in ast.parse(text(path)).body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("document", "least"), [("requirements.md", 40), ("reliability.md", 10)])
def test_the_tests_that_a_document_names_exist(document: str, least: int) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text(DOCS / document))
    assert len(named) > least
    for file, test in named:
        assert (ROOT / file).is_file(), file
        assert not test or test in functions_of(ROOT / file), f"{file}::{test}"


def test_every_promise_of_reliability_is_proved() -> None:
    rows = re.findall(r"^\|([^|]+)\|([^|]+)\|$", text(DOCS / "reliability.md"), re.MULTILINE)
    promises = [(said.strip(), proof) for said, proof in rows if said.strip() not in ("promise", "---")]
    assert len(promises) > 10
    for said, proof in promises:
        assert said.endswith("."), said
        assert "`tests/" in proof, said


def test_requirements_name_rows_that_exist() -> None:
    requirements = text(DOCS / "requirements.md")
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from bench_rows import ROWS  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    rows = {row.name: row for row in ROWS}
    shown = set(re.findall(r"bench (\w+(?:-\w+)+)", requirements))
    assert shown <= rows.keys()
    stated = {name for name, row in rows.items() if row.stated}
    assert stated <= shown, "a stated figure without its line"
    for row in rows.values():
        assert row.measured == row.name or rows[row.of].story == row.story, row.name


def test_every_threat_has_a_test_that_exists() -> None:
    security = text(DOCS / "security.md")
    rows = [
        row.split("|") for row in re.findall(r"^\| (.+) \|$", security, re.MULTILINE) if not row.startswith("threat")
    ]
    assert len(rows) > 20
    assert all("tests/" in row[-1] or row[-1].strip() == "the same" for row in rows)
    for file, test in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", security):
        assert test in functions_of(ROOT / file), f"{file}::{test}"


def test_every_line_of_requirements_is_shown_or_says_which_issue_brings_it() -> None:
    rows = re.findall(r"^\|(.+)\|$", text(DOCS / "requirements.md"), re.MULTILINE)
    lines = [row.split("|") for row in rows if not re.fullmatch(r"[-| ]+", row)]
    shown = [cells[-1].strip() for cells in lines if cells[-1].strip() != "shown by"]
    assert len(shown) > 80
    assert all(shown)
    ids = {cells[0].strip() for cells in lines}
    assert ids >= {f"{letter}{number}" for letter in "KCG" for number in range(1, 8)}
    assert ids >= {f"A{number}" for number in range(1, 9)}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_are_plain(document: Path) -> None:
    """No ornaments, and examples that are whole: a fence that opens also closes."""
    assert not re.search(r"[\u2190-\u2bff\U0001f000-\U0001faff]", text(document))
    assert len(re.findall(r"^```", text(document), re.MULTILINE)) % 2 == 0
