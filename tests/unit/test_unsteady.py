"""A test that failed and passed when run once more is named; more than a few are a failure of the run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import unsteady

SUITE = """
import pathlib, pytest

SEEN = pathlib.Path(__file__).parent

@pytest.mark.parametrize("number", range({often}))
def test_chance(number):
    seen = SEEN / str(number)
    first = not seen.exists()
    seen.touch()
    assert not first, "bad luck"

def test_steady():
    pass
"""
RULE = """
import unsteady

def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(unsteady.Unsteady())
"""


def ran(folder: Path, often: int) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """What a suite says of which some tests fail the first time, and the report of it that is kept."""
    (folder / "test_suite.py").write_text(SUITE.format(often=often))
    (folder / "conftest.py").write_text(RULE)
    plugins = [f"-p{name}" for name in ("xdist", "pytest_rerunfailures", "pytest_jsonreport.plugin")]
    report = ["--json-report", "--json-report-file=results.json"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, "-n1", "--dist=worksteal", "--reruns=1", *report],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(Path(unsteady.__file__).parent), os.environ.get("PYTHONPATH", "")]),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done, json.loads((folder / "results.json").read_text())


@pytest.mark.no_cover
def test_a_test_that_passes_the_second_time_passes_and_is_named(tmp_path: Path) -> None:
    done, results = ran(tmp_path, often=unsteady.MOST)
    assert (done.returncode, results["exitcode"]) == (0, 0)
    assert "unsteady: test_suite.py::test_chance[0]" in done.stdout
    assert done.stdout.count("unsteady: ") == unsteady.MOST
    assert "bad luck" in done.stdout
    assert results["summary"] == {"passed": 1, "unsteady": unsteady.MOST, "total": 4, "collected": 4}
    tests = {test["nodeid"].partition("::")[2]: test for test in results["tests"]}
    assert tests["test_steady"]["outcome"] == "passed"
    assert tests["test_chance[0]"]["outcome"] == "unsteady"
    assert "bad luck" in tests["test_chance[0]"]["first"]


@pytest.mark.no_cover
def test_more_than_a_few_unsteady_ones_are_a_failure(tmp_path: Path) -> None:
    done, results = ran(tmp_path, often=unsteady.MOST + 1)
    assert (done.returncode, results["exitcode"]) == (1, 1)
    assert done.stdout.count("unsteady: ") == unsteady.MOST + 1
    assert f"{unsteady.MOST + 1} unsteady tests, more than {unsteady.MOST}: a failure" in done.stdout


def test_a_test_that_fails_twice_is_not_unsteady() -> None:
    rule = unsteady.Unsteady()
    for outcome in ("rerun", "failed"):
        report = pytest.TestReport("test_it", ("", 0, ""), {}, "failed", "bad luck", "call")
        report.outcome = outcome  # type: ignore[assignment]
        rule.pytest_runtest_logreport(report)
    assert rule.first == {}
