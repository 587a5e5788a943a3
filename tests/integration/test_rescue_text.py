"""RESCUE.md, done as it says: a vault is read back with git, zstd and a shell, and gitvault has no part in it.

What the two scripts can do is in test_rescue_scripts.py.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gitvault import config
from gitvault.core.storage.packs import read_table
from gitvault.vault import Vault

TEXT = (Path(__file__).parents[2] / "gitvault" / "docs" / "rescue.md").read_text("utf-8")

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the text is for the tools of Linux, and says what differs"),
    pytest.mark.needs("zstd"),
]

Shell = Callable[[str], str]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    noise = random.Random(3)
    project = tmp_path / "acme"
    (project / "art").mkdir(parents=True)
    (project / "empty").mkdir()
    (project / "deep" / "inner").mkdir(parents=True)
    (project / "README.md").write_bytes(b"# Acme\n")
    (project / ".gitattributes").write_bytes(b"* text eol=crlf\n*.md export-ignore\n")
    (project / ".git").mkdir()
    (project / ".git" / "config").write_bytes(b"[core]\n")
    (project / "art" / "hero.tga").write_bytes(b"\0" + noise.randbytes(900_000).translate(bytes(range(16)) * 16))
    (project / "art" / "one chunk.bin").write_bytes(b"\0" + noise.randbytes(70_000))
    (project / "art" / "user's pointer").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n")
    return project


@pytest.fixture
def vault(tmp_path: Path, project: Path) -> Path:
    """Three versions of a large file, so that the newest stands on others, and a list of many chunks."""
    path = tmp_path / "a vault.git"
    clock = iter(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hour) for hour in range(1000))
    Vault.create(path).close()
    for key, value in (("vault.minChunk", "1k"), ("vault.avgChunk", "8k"), ("vault.maxChunk", "16k")):
        config.set(path, key, value)
    config.set(path, "vault.maintenance", "off")
    with Vault.open(path, now=lambda: next(clock)) as vault:
        hero = project / "art" / "hero.tga"
        for number in range(3):
            vault.create_snapshot(project, project="a/b", message=f"Version {number}")
            content = hero.read_bytes()
            at = 200_000 * number + 50_000
            hero.write_bytes(content[:at] + b"edited in version %d" % number + content[at:])
        vault.create_snapshot(project, project="a/b", message="Version 3")
    return path


@pytest.fixture
def shell(tmp_path: Path, vault: Path) -> Shell:
    """Runs what the text says, with its words in capitals replaced."""

    def run(command: str) -> str:
        words = {"VAULT": f"'{vault}'", "DIR": "out", "PROJECT": "a%2Fb", "SNAPSHOT": "a%2Fb~1"}
        for word, value in words.items():
            command = re.sub(rf"\b{word}\b", value, command)
        done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, check=True, env={**os.environ})
        return done.stdout.decode()

    return run


def said(pattern: str) -> str:
    """A command of the text, which must be in it as a test uses it."""
    [found] = re.findall(pattern, TEXT, re.MULTILINE)
    return str(found)


def test_looking(shell: Shell) -> None:
    assert shell(said("`(git [^`]* branch)`")).split()[-1] == "a%2Fb"
    assert "`a%2Fb` is `a/b`" in TEXT
    assert "Version 3" in shell(said("`(git [^`]* log PROJECT)`"))
    assert shell(said("`(git [^`]* show SNAPSHOT:PATH)`").replace("PATH", "README.md")) == "# Acme\n"


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_whole_snapshot_with_its_large_files(shell: Shell, tmp_path: Path, vault: Path) -> None:
    """By the commands at the head of the text."""
    tables = [read_table(path) for path in (vault / "chunks").glob("*.zpk")]
    assert any(frame.bases for table in tables for frame in table.frames), "nothing is stored as a delta"
    assert any(table.manifests for table in tables), "no file has several chunks"
    with Vault.open(vault) as opened:
        opened.restore_snapshot("a/b~1", tmp_path / "expected")
    for number, script in enumerate(("sh VAULT/rescue.sh", "python3 VAULT/rescue.py")):
        assert "Version 2" in shell(said(rf"^    ({re.escape(script)} list)$"))
        command = said(rf"^    ({re.escape(script)} restore SNAPSHOT DIR)$")
        shell(command.replace("DIR", f"out{number}"))
        assert content(tmp_path / f"out{number}") == content(tmp_path / "expected")
    shell(said("^    (python3 .* DIR PATH)$").replace("DIR PATH", "one README.md"))
    assert content(tmp_path / "one") == {"README.md": b"# Acme\n"}


def test_by_hand(shell: Shell, tmp_path: Path, vault: Path) -> None:
    """Unpacked by git and tar, and a frame with bases decoded as the text says."""
    for command in re.findall(r"^    (mkdir DIR|git .* \| tar .*)$", TEXT, re.MULTILINE):
        shell(command)
    assert (tmp_path / "out" / "%2Egit" / "config").read_bytes() == b"[core]\n"
    pointer = (tmp_path / "out" / "art" / "hero.tga").read_text()
    assert re.fullmatch(r"version .*\noid sha256:[0-9a-f]{64}\nsize \d+\n", pointer)

    tables, decode = re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    shell(tables)
    rows = [line.removeprefix(f"{vault}/").split() for line in (tmp_path / "table").read_text().splitlines()]
    assert {row[1] for row in rows} >= {"frame", "chunk", "manifest", "end"}
    chunks = {row[2]: row for row in rows if row[1] == "chunk"}
    frames = {(row[0], row[2]): row for row in rows if row[1] == "frame"}

    def frame(key: tuple[str, str], chunk: list[str]) -> bytes:
        """Decoded, with what it stands on."""
        row = frames[key]
        bases = b"".join(piece(base) for base in row[6:])
        (tmp_path / "bases").write_bytes(bases)
        lines = [
            line
            for line in decode.splitlines()
            if ("with them" if bases else "without") in line or "|" in line or ">" in line
        ]
        words = {
            "OFFSET": row[3],
            "STORED": row[4],
            "PACK": f"'{vault}/{row[0]}'",
            "INNER": chunk[4],
            "LENGTH": chunk[5],
        }
        script = "rm -f frame\n" + "\n".join(lines)
        for word, value in words.items():
            script = re.sub(rf"\b{word}\b", value, script)
        assert shell(script).split()[0] == chunk[2]
        return (tmp_path / "frame").read_bytes()

    def piece(chunk: str) -> bytes:
        row = chunks[chunk]
        at, length = int(row[4]), int(row[5])
        return frame((row[0], row[3]), row)[at : at + length]

    [delta] = [row for row in chunks.values() if len(frames[row[0], row[3]]) > 6][:1]
    piece(delta[2])


def test_times_and_the_rest(shell: Shell, project: Path) -> None:
    show = said("`(git [^`]* show refs/vault/meta/[^`]*)`")
    readme = shell(show.replace("FOLDER", "%00meta")).split("\n")[3]
    assert re.fullmatch(rf"f \d+ {(project / 'README.md').stat().st_mtime_ns // 10**9}\.\d{{9}} - 7 README.md", readme)
    assert " one chunk.bin\tsha256=" in shell(show.replace("FOLDER", "art"))
    assert re.fullmatch(r"gitvault-meta 1\nd .* \.\n", shell(show.replace("FOLDER", "deep/%00meta")))
    assert re.fullmatch(r"gitvault-meta 1\nd .* \.\n", shell(show.replace("FOLDER", "empty")))
    named = re.search(r"Vault-Meta: (\w+)", shell("git --git-dir=VAULT log -1 SNAPSHOT"))
    assert named
    older = show.replace("FOLDER", "art").replace("refs/vault/meta/PROJECT", named[1])
    assert shell(older) != shell(show.replace("FOLDER", "art"))
