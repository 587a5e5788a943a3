"""Every public name of the package is used by a test, and every error class is expected by one."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from gitvault import errors

ROOT = Path(__file__).parent.parent.parent
# gitvault/rescue is a program that no module imports.
MODULES = sorted(p for p in (ROOT / "gitvault").rglob("*.py") if p.parent.name != "rescue")
TESTS = sorted(p for p in (ROOT / "tests").rglob("*.py") if p != Path(__file__))


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


def used_names(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Names a test touches, also as a whole string: a verb of the command line, a module run with -m."""
    for node in nodes:
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.keyword(arg=str(name)):
                yield name
            case ast.alias(name=name):
                yield from name.split(".")
            case ast.Constant(value=str(text)) if " " not in text:
                yield from text.split(".")


def error_classes(base: type[Exception] = errors.GitVaultError) -> Iterator[type[Exception]]:
    yield base
    for derived in subclasses(base):
        yield from error_classes(derived)


def subclasses(base: type[Exception]) -> list[type[Exception]]:
    """The package's own; tests that ran before have others."""
    return [derived for derived in base.__subclasses__() if derived.__module__.startswith("gitvault.")]


def calls_of_raises(nodes: Iterable[ast.AST]) -> Iterator[ast.Call]:
    for node in nodes:
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="pytest"), attr="raises")):
                yield node


def raised_names(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and node.exc:
            yield from names_in(node.exc)


def names_in(node: ast.AST) -> Iterator[str]:
    for child in ast.walk(node):
        match child:
            case ast.Name(id=name) | ast.Attribute(attr=name):
                yield name


class Told(NamedTuple):
    """What the tests use, and what they expect in pytest.raises."""

    used: set[str]
    expected: set[str]


@pytest.fixture(scope="module")
def told() -> Told:
    """Read once: 60,000 lines."""
    told = Told(set(), set())
    for test in TESTS:
        nodes = list(ast.walk(parsed(test)))
        told.used.update(used_names(nodes))
        told.expected.update(name for call in calls_of_raises(nodes) for name in names_in(call))
    return told


def test_every_public_name_is_used_by_a_test(told: Told) -> None:
    unused = {
        f"{module.relative_to(ROOT)}: {name}"
        for module in MODULES
        for name in public_names(parsed(module))
        if not name.startswith("_") and name not in told.used
    }
    assert not unused, "no test uses these"


def test_every_error_is_raised_by_the_package_and_expected_by_a_test(told: Told) -> None:
    raised = {name for module in MODULES for name in raised_names(parsed(module))}
    every = {error.__name__: error for error in error_classes()}
    leaves = {name for name, error in every.items() if not subclasses(error)}
    assert not leaves - raised, "nothing raises these"
    assert not raised & every.keys() - told.expected, "no test expects these in pytest.raises"


def test_the_models_have_nothing_else() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nonsense'"):
        importlib.import_module("gitvault.core.models").Nonsense  # noqa: B018
