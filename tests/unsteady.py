"""pytest's rule for a test that failed and passed when run once more (`--reruns 1`): it is named, and few may be so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

MOST = 3
"""As many unsteady tests pass as chance; with one more the run has failed."""


class Unsteady:
    """Collects what failed first and passed then; for the process that writes the reports."""

    def __init__(self) -> None:
        self.first: dict[str, str] = {}
        """What a test that has not failed for good failed with."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.outcome == "rerun":
            self.first[report.nodeid] = report.longreprtext
        elif report.failed:
            self.first.pop(report.nodeid, None)

    @pytest.hookimpl(optionalhook=True)
    def pytest_json_modifyreport(self, json_report: dict[str, Any]) -> None:
        if self.first:
            json_report["summary"].pop("rerun", None)
            json_report["summary"]["unsteady"] = len(self.first)
        for test in json_report.get("tests", ()):
            if test["nodeid"] in self.first:
                test |= {"outcome": "unsteady", "first": self.first[test["nodeid"]]}

    # Around all others: the report that is kept says how the run ended.
    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> Iterator[None]:
        if len(self.first) > MOST and exitstatus == 0:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        return (yield)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.first:
            return
        terminalreporter.section("failed, and passed when run once more", yellow=True)
        for name, failure in sorted(self.first.items()):
            terminalreporter.line(failure)
            terminalreporter.line(f"unsteady: {name}")
        if len(self.first) > MOST:
            terminalreporter.line(f"{len(self.first)} unsteady tests, more than {MOST}: a failure", red=True)
