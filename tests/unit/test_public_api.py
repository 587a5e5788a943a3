"""Every public name of the package is used by a test, and every error class is expected by one."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from gitvault import errors

ROOT = Path(__file__).parent.parent.parent
# gitvault/rescue is a program that no module imports.
MODULES = sorted(p for p in (ROOT / "gitvault").rglob("*.py") if p.parent.name != "rescue")
TESTS = sorted(p for p in (ROOT / "tests").rglob("*.py") if p != Path(__file__))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def public_names(tree: ast.Module) -> Iterator[str]:
    """Functions, classes with their methods, and constants that a module defines without an underscore."""
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.ClassDef(name=name):
                yield name
                if not name.startswith("_"):
                    yield from (m.name for m in node.body if isinstance(m, ast.FunctionDef))
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                yield name


def used_names(tree: ast.Module) -> Iterator[str]:
    """Names a test touches, also as a whole string: a verb of the command line, a module run with -m."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.keyword(arg=str(name)):
                yield name
            case ast.alias(name=name):
                yield from name.split(".")
            case ast.Constant(value=str(text)) if " " not in text:
                yield from text.split(".")


def error_classes(base: type[Exception] = errors.GitVaultError) -> Iterator[type[Exception]]:
    yield base
    for derived in base.__subclasses__():
        yield from error_classes(derived)


def calls(tree: ast.Module, function: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == function:
            yield node


def names_in(node: ast.AST) -> Iterator[str]:
    for child in ast.walk(node):
        match child:
            case ast.Name(id=name) | ast.Attribute(attr=name):
                yield name


RAISED = {
    name
    for module in MODULES
    for node in ast.walk(parsed(module))
    if isinstance(node, ast.Raise) and node.exc
    for name in names_in(node.exc)
}


@cache
def used_by_tests() -> frozenset[str]:
    return frozenset(name for test in TESTS for name in used_names(parsed(test)))


@cache
def expected_by_tests() -> frozenset[str]:
    return frozenset(name for test in TESTS for call in calls(parsed(test), "pytest.raises") for name in names_in(call))


@pytest.mark.parametrize("module", MODULES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_public_name_is_used_by_a_test(module: Path) -> None:
    unused = {name for name in public_names(parsed(module)) if not name.startswith("_")} - used_by_tests()
    assert not unused, f"no test uses {', '.join(sorted(unused))}"


@pytest.mark.parametrize("error", list(error_classes()), ids=lambda e: e.__name__)
def test_every_error_is_raised_by_the_package_and_expected_by_a_test(error: type[Exception]) -> None:
    if not error.__subclasses__():
        assert error.__name__ in RAISED, "nothing raises it"
    if error.__name__ in RAISED:
        assert error.__name__ in expected_by_tests(), "no test expects it in pytest.raises"


def test_the_models_have_nothing_else() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nonsense'"):
        importlib.import_module("gitvault.core.models").Nonsense  # noqa: B018
