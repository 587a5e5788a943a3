"""A file that looks like a secret is pointed out once, and saved."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from trees import contents, write

from gitvault.core.backup_engine import intake
from gitvault.core.models import Secret
from gitvault.vault import Vault

KEY = b"-----BEGIN RSA " + b"PRIVATE KEY-----\nMIIE\n"


def said(vault: Vault, project: Path) -> dict[bytes, str]:
    found = vault.create_snapshot(project, project="acme").secrets
    assert all(isinstance(one, Secret) for one in found)
    return {one.path: one.reason for one in found}


@pytest.fixture(params=["in this process", "by workers"])
def project(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if request.param == "by workers":
        monkeypatch.setattr(intake, "_WORKERS_FROM", 1)
    return write(tmp_path / "acme", {"src/main.c": b"int main;", "conf/.env": b"PASSWORD=x", "deploy/key": KEY})


def test_a_secret_is_pointed_out_once(project: Path, vault: Vault, tmp_path: Path) -> None:
    assert said(vault, project) == {
        b"conf/.env": "settings that often hold passwords",
        b"deploy/key": "a private key",
    }
    assert said(vault, project) == {}
    write(project, {"conf/.env": b"PASSWORD=y", "src/main.c": b"int main = 1;"})
    assert said(vault, project) == {}, "another version of what was pointed out"
    for cache in (vault.path / "cache").glob("stat-*"):
        cache.unlink()
    write(project, {"src/main.c": b"int main = 2;"})
    assert said(vault, project) == {}, "whatever becomes of the cache"
    write(project, {"src/main.c": KEY, "release.keystore": b"\0" * 200_000})
    assert said(vault, project) == {
        b"src/main.c": "a private key",
        b"release.keystore": "a store of keys or passwords",
    }, "what becomes one is new, and large ones count by name"
    vault.restore_snapshot("acme", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(project), "nothing is left out"


def test_whoever_keeps_secrets_is_not_told(project: Path, vault: Vault) -> None:
    subprocess.run(["git", "--git-dir", vault.path, "config", "vault.secrets", "keep"], check=True)
    with Vault.open(vault.path) as again:
        assert said(again, project) == {}


def test_an_earlier_version_that_is_lost_costs_nothing(project: Path, vault: Vault) -> None:
    from damage import lose

    said(vault, project)
    env = vault.history.blob_at(vault.history.commit(vault.history.locate(vault.resolve("acme"))), b"conf/.env")
    assert env
    lose(vault, env)
    write(project, {"conf/.env": b"PASSWORD=y"})
    assert said(vault, project).keys() == {b"conf/.env"}


def test_the_command_says_which_and_what_to_do(
    command: Callable[..., subprocess.CompletedProcess[str]], vault: Vault, tmp_path: Path
) -> None:
    project = write(tmp_path / "acme", {f"{n:02}\x1b.env": b"A=b" for n in range(12)})
    done = command("snapshot", project)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    start = lines.index("  12 files may be secret; saved like any other:")
    assert lines[start + 1] == "    00\\x1b.env: settings that often hold passwords"
    assert lines[start + 11] == "    and 2 more; --json lists all"
    assert "vault.ignore" in lines[start + 12] and "vault.secrets keep" in lines[start + 12]
    write(project, {"id_rsa": KEY})
    document = json.loads(command("snapshot", project, "--json").stdout)
    assert document["secrets"] == [{"path": "id_rsa", "reason": "a private key"}]
    assert document["problems"] == []
    assert "secret" not in command("snapshot", project).stdout
