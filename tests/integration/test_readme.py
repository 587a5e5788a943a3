"""The README's examples are what really happens: each command is run, each output compared.

What differs from run to run is compared as a kind: ids, dates, durations, sizes on disk, the home folder.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the README shows the paths and tools of Linux")

_VARYING = (
    (re.compile(r"\b[0-9a-f]{64}\b"), "<hash>"),
    (re.compile(r"\b[0-9a-f]{40}\b|\b[0-9a-f]{12}\b|\b[0-9a-f]{7}\b"), "<id>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d \d\d:\d\d\b"), "<date>"),
    (re.compile(r"\b\d+(\.\d+)? (s|ms|second|seconds|min)\b"), "<time>"),
    (re.compile(r" *\b[\d.,]+ (B|KiB|MiB)\b"), " <size>"),
    (re.compile(r"\d+\.\d:1"), "<ratio>"),
    (re.compile(r"\d+ objects"), "<count> objects"),
)


def normal(text: str) -> str:
    for pattern, kind in _VARYING:
        text = pattern.sub(kind, text)
    return text


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def examples() -> list[tuple[str, str]]:
    """Each command with the output that the README shows for it."""
    found: list[tuple[str, str]] = []
    for line in "".join(blocks("console")).splitlines(keepends=True):
        if line.startswith("$ "):
            found.append((line[2:].strip(), ""))
        else:
            command, output = found.pop()
            found.append((command, output + line))
    return found


def make_project(folder: Path) -> None:
    """The project that the examples speak of: a text, a source file, a picture of 3 MB."""
    (folder / "src").mkdir(parents=True)
    (folder / "art").mkdir()
    (folder / "README.md").write_text("# Acme\n")
    (folder / "src" / "main.c").write_text("int main(void) { return 0; }\n")
    picture = random.Random(7).randbytes(3_000_000).translate(bytes(range(16)) * 16)
    (folder / "art" / "hero.tga").write_bytes(b"\0\0\2" + picture)
    for path in [*folder.rglob("*"), folder]:
        os.utime(path, (1_700_000_000, 1_700_000_000))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".gitconfig").write_text("[user]\n\tname = You\n\temail = you@example.invalid\n")
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "git-vault"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gitvault "$@"\n')
    command.chmod(0o755)
    make_project(tmp_path / "acme")
    return tmp_path


def run(command: str, home: Path) -> str:
    """What a person sees who types the command in the home folder."""
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "XDG_"))},
        "HOME": os.fspath(home),
        "PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([os.fspath(Path(__file__).parents[2]), *sys.path[1:]]),
        "TZ": "UTC",
        "LC_ALL": "C.UTF-8",
    }
    done = subprocess.run(
        ["sh", "-c", command], cwd=home, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    return done.stdout.decode().replace(os.fspath(home), "/home/you")


def test_every_command_of_the_readme_prints_what_the_readme_shows(home: Path) -> None:
    shown = examples()
    assert len(shown) > 10
    for command, output in shown:
        assert (command, normal(run(command, home))) == (command, normal(output))


def test_the_library_example_prints_what_the_readme_shows(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [example] = blocks("python")
    [output] = blocks("text")
    monkeypatch.chdir(home)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(example, "README.md", "exec"), {})
    assert printed.getvalue() == output
    assert (home / "elsewhere" / "src" / "main.c").read_bytes() == (home / "acme" / "src" / "main.c").read_bytes()
    assert not (home / "elsewhere" / "art").exists()
