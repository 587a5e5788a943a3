"""What `git-vault doctor` finds wrong, and how it says to mend it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from gitvault import config
from gitvault.cli import doctor, main
from gitvault.core.utils import process
from gitvault.core.utils.lock import VaultLock

Checks = Callable[[], dict[str, doctor.Check]]


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bare repository that passes for a vault."""
    path = tmp_path / "v.git"
    subprocess.run(["git", "init", "-q", "--bare", path], check=True)
    config.set(path, "vault.formatVersion", 1)
    subprocess.run(["git", "-C", path, "config", "gc.auto", "0"], check=True)
    path.chmod(0o700)
    monkeypatch.setenv("GIT_VAULT_DIR", str(path))
    return path


@pytest.fixture
def checks(vault: Path, capfd: pytest.CaptureFixture[str]) -> Checks:
    def run() -> dict[str, doctor.Check]:
        code = main.main(["doctor", "--json"])
        answer: dict[str, Any] = json.loads(capfd.readouterr().out)
        found = [doctor.Check(**check) for check in answer["checks"]]
        assert answer["ok"] is not any(check.state == "wrong" for check in found)
        assert code == (0 if answer["ok"] else doctor.WRONG)
        assert all(bool(check.mend) is (check.state != "ok") for check in found)
        return {check.name: check for check in found}

    return run


def test_all_is_well(checks: Checks) -> None:
    assert {check.state for check in checks().values()} <= {"ok", "advice"}


def test_an_old_git(checks: Checks, monkeypatch: pytest.MonkeyPatch) -> None:
    major, minor = doctor.OLDEST_GIT
    for text, state in ((f"git version {major}.{minor - 1}.9", "wrong"), (f"git version {major}.{minor}.0", "ok")):
        monkeypatch.setattr(process, "run", lambda command, text=text, **options: text.encode())
        monkeypatch.setattr(process, "git", lambda *words, **options: b"0\n")
        assert checks()["git"].state == state


def test_a_missing_library(checks: Checks, monkeypatch: pytest.MonkeyPatch) -> None:
    version = metadata.version

    def without(name: str) -> str:
        if name in ("zstandard", "gitvault"):
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", without)
    found = checks()
    assert (found["zstandard"].state, found["zstandard"].mend) == ("wrong", "pip install zstandard")
    assert found["gitvault"].found.startswith("not installed, run from its folder")


def test_a_missing_helper_is_advice(checks: Checks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert checks()["git-lfs"].state == "advice"


def test_a_full_disk(checks: Checks, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=doctor.LEAST_FREE - 1))
    assert checks()["space"].state == "wrong"


def test_a_vault_that_may_not_be_written(checks: Checks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert checks()["writable"].state == "wrong"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_a_vault_that_others_can_read(checks: Checks, vault: Path) -> None:
    """git made this one, with the umask of the shell; then a single file of it is opened."""
    assert checks()["private"].state == "advice"
    subprocess.run(["chmod", "-R", "go=", vault], check=True)
    assert (checks()["private"].state, checks()["private"].found) == ("ok", "yes")
    (vault / "objects/pack/x.pack").touch(0o644)
    found = checks()["private"]
    assert (found.state, found.found) == ("advice", f"{vault / 'objects/pack/x.pack'} is 0644")
    assert found.mend.startswith(f"chmod -R go= {vault}:")


def test_automatic_gc(checks: Checks, vault: Path) -> None:
    subprocess.run(["git", "-C", vault, "config", "--unset", "gc.auto"], check=True)
    assert checks()["gc.auto"].mend == f"git --git-dir={vault} config gc.auto 0"


def test_locks_that_were_left(checks: Checks, vault: Path) -> None:
    for name in ("HEAD.lock", "refs/heads/acme.lock"):
        (vault / name).touch()
        assert checks()["locks"].found == str(vault / name)


def test_a_wrong_setting(checks: Checks, vault: Path) -> None:
    subprocess.run(["git", "-C", vault, "config", "vault.nonsense", "1"], check=True)
    assert "vault.nonsense: unknown setting" in checks()["vault"].found


def test_a_vault_that_is_not_there_yet(checks: Checks, vault: Path) -> None:
    shutil.rmtree(vault)
    assert (checks()["vault"].state, checks()["vault"].mend) == ("advice", "git vault init")


def test_a_broken_plugin(checks: Checks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "acme_bad-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-bad\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[gitvault.formats]\nbad = nowhere:x\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = checks()["plug-in"]
    assert (found.state, found.mend) == ("wrong", "update or uninstall acme-bad")


def test_who_writes(checks: Checks, vault: Path) -> None:
    assert checks()["writer"].found == "nobody writes at present"
    with VaultLock(vault / "vault.lock", "prune", 0, host="desk"):
        assert checks()["writer"].found.startswith(f"process {os.getpid()} on desk (prune, since ")
