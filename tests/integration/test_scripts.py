"""The scripts of the checkout, with interpreters that only write down what they are asked to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
TOOLS = ("sh", "dirname", "basename", "cat", "cksum", "chmod", "mkdir")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX shell scripts; on Windows they run in Git Bash")

# `-m venv DIR` makes an environment with the same stand-in, everything else is only written down.
STAND_IN = """#!/bin/sh
case "$1" in
-c) exit {code} ;;
--version) echo Python 3.9.2; exit 0 ;;
esac
echo "$@" >>"{log}"
if [ "$2" = venv ]; then mkdir -p "$3/bin" && cat "$0" >"$3/bin/python" && chmod +x "$3/bin/python"; fi
"""


class Checkout:
    """A copy of the scripts below a folder with a space, and a PATH that has nothing but `python3`."""

    def __init__(self, folder: Path, code: int) -> None:
        self.root = folder / "a clone"
        self.log = folder / "log"
        self.bin = folder / "bin"
        shutil.copytree(ROOT / "scripts", self.root / "scripts", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", self.root)
        self.bin.mkdir()
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool) or tool)
        python = self.bin / "python3"
        python.write_text(STAND_IN.format(code=code, log=self.log))
        python.chmod(0o755)

    def run(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """From another folder, without an active environment."""
        env = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"} | {"PATH": str(self.bin)}
        command = [self.root / "scripts" / script, *arguments]
        return subprocess.run(command, cwd=self.bin, env=env, capture_output=True, text=True, check=False)

    def asked(self) -> list[str]:
        """What Python was asked to do since the last call."""
        lines = self.log.read_text().splitlines()
        self.log.unlink()
        return lines


def test_the_first_run_sets_up_and_later_ones_do_not(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, code=0)
    first = checkout.run("vault", "snapshot", "a folder", "--json")
    environment = checkout.root / ".venv"
    assert first.returncode == 0
    assert checkout.asked() == [
        f"-m venv {environment}",
        f"-m pip install --quiet --disable-pip-version-check --editable {checkout.root}",
        "-m gitvault snapshot a folder --json",
    ]
    assert first.stdout == ""
    assert "virtual environment" in first.stderr
    later = checkout.run("vault", "log")
    assert (later.stdout, later.stderr) == ("", "")
    assert checkout.asked() == ["-m gitvault log"]


def test_changed_dependencies_are_installed_again(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, code=0)
    checkout.run("vault", "log")
    checkout.asked()
    with open(checkout.root / "pyproject.toml", "a") as file:
        file.write("# another dependency\n")
    checkout.run("vault", "log")
    assert any("pip install" in line for line in checkout.asked())


def test_without_a_new_enough_python_one_line_says_so(tmp_path: Path) -> None:
    done = Checkout(tmp_path, code=1).run("vault", "log")
    assert done.returncode == 1
    assert done.stderr == "vault: needs Python 3.11 or newer on PATH; found Python 3.9.2\n"


def test_the_whole_suite_is_measured_and_its_results_kept_but_a_part_is_not(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, code=0)
    checkout.run("test")
    *_, whole = checkout.asked()
    assert "--json-report-file=pytest_results.json" in whole
    assert "--cov-fail-under=90" in whole
    checkout.run("test", "tests/unit", "-x")
    assert checkout.asked() == ["-m pytest tests/unit -x"]


def test_an_installed_copy_has_all_it_needs_and_is_found_by_git(tmp_path: Path) -> None:
    """`pip install .`, and whatever calls it: files beside the code come along, `git vault` runs the command."""
    source, installed = tmp_path / "source", tmp_path / "installed"
    left_out = shutil.ignore_patterns("__pycache__", "pictures")
    shutil.copytree(ROOT / "gitvault", source / "gitvault", ignore=left_out)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    alone = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check")
    subprocess.run([sys.executable, "-m", "pip", "install", *alone, "--target", installed, source], check=True)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "a.txt").write_text("kept")
    env = {
        **os.environ,
        "PYTHONPATH": str(installed),
        "PATH": os.pathsep.join((str(installed / "bin"), os.environ["PATH"])),
    }

    def git_vault(*words: str) -> None:
        subprocess.run(["git", "vault", "--vault", "v.git", *words], cwd=tmp_path, env=env, check=True)

    git_vault("init")
    git_vault("snapshot", "work")
    git_vault("restore", "work", "--to", "back")
    assert (tmp_path / "back" / "a.txt").read_text() == "kept"
    assert all((tmp_path / "v.git" / name).stat().st_size for name in ("rescue.sh", "rescue.py", "RESCUE.md"))
    where = [sys.executable, "-c", "import gitvault; print(gitvault.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, env=env, capture_output=True, text=True, check=True).stdout
    assert Path(found).is_relative_to(installed)
    brought = {path.relative_to(installed) for path in (installed / "gitvault").rglob("*") if path.is_file()}
    assert {path.relative_to(source) for path in (source / "gitvault").rglob("*.*") if path.is_file()} <= brought
