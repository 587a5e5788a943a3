"""An encrypted remote from the command line: who can read it, what its server sees, and that it cannot be destroyed."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pyrage
import pytest
from liars import TROUBLES, lying
from places import MemoryPlace
from servers import S3

from gitvault.cli import main
from gitvault.errors import ConfigError, RemoteRefused, RemoteSealed, ToolMissing
from gitvault.remotes import places, records, settings
from gitvault.remotes.opening import open_remote
from gitvault.remotes.places.buckets import Bucket
from gitvault.remotes.places.history import History
from gitvault.remotes.places.patient import Patient
from gitvault.remotes.remote import CONDEMNED
from gitvault.remotes.sealed import Sealed
from gitvault.remotes.sealed.names import Names
from gitvault.vault import Vault

SECRET = "the known plain text"


def run(*words: str | Path) -> int:
    return main.main([str(word) for word in words])


@pytest.fixture
def home(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A folder with a project, a vault with a snapshot of it, and a pair of keys."""
    project = tmp_path / "unmistakable"
    project.mkdir()
    (project / "confidential.txt").write_text(SECRET * 50)
    (project / "large.bin").write_bytes(bytes(range(256)) * 8000)
    (project / "empty").mkdir()
    identity = pyrage.x25519.Identity.generate()
    (tmp_path / "key").write_text(f"{identity}\n")
    (tmp_path / "public").write_text(str(identity.to_public()))
    assert run("init", tmp_path / "vault.git") == 0
    assert snapshot(tmp_path, "one") == 0
    return tmp_path


def snapshot(home: Path, message: str) -> int:
    return run("--vault", home / "vault.git", "snapshot", home / "unmistakable", "-m", message)


def add(home: Path, *more: str | Path, vault: str = "vault.git", url: str = "") -> int:
    public = (home / "public").read_text()
    return run("--vault", home / vault, "remote", "add", "off", url or home / "off", "--encrypt", public, *more)


def push(home: Path, vault: str = "vault.git") -> int:
    return run("--vault", home / vault, "push", "off")


def same(one: Path, other: Path) -> bool:
    return subprocess.run(["diff", "-r", one, other]).returncode == 0


Said = Callable[[], str]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """What was printed since the last time, errors too."""

    def read() -> str:
        out, err = capsys.readouterr()
        return out + err

    return read


def test_a_machine_that_only_pushes_and_an_empty_one_that_has_the_key(
    home: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of two machines that push within one second it is open whose record is the newer one.
    minutes = count()
    monkeypatch.setattr(records, "time_text", lambda now: f"2026-01-02T03:{next(minutes):02}:00Z")
    assert (add(home), push(home)) == (0, 0)
    (home / "unmistakable" / "later.txt").write_text("later")
    assert (snapshot(home, "two"), push(home)) == (0, 0)
    # What is derived can go: it knows where it was.
    shutil.rmtree(home / "vault.git" / "cache")
    said()
    assert run("--vault", home / "vault.git", "push", "off", "--json") == 0
    assert json.loads(said())["uploaded"] == 0
    for words in (["fetch", "off"], ["remote", "verify", "off", "--data"]):
        assert run("--vault", home / "vault.git", *words) in (0, RemoteRefused.exit_code)
    assert "no key that reads" in said()
    assert run("clone", home / "off", home / "clone.git", "--identity", home / "key") == 0
    assert run("--vault", home / "clone.git", "restore", "unmistakable", "--to", home / "back") == 0
    assert same(home / "unmistakable", home / "back")
    assert run("--vault", home / "clone.git", "remote", "verify", "origin", "--data") == 0
    # It has joined: what it pushes is sealed to the same keys.
    (home / "unmistakable" / "later.txt").write_text("there")
    assert run("--vault", home / "clone.git", "snapshot", home / "unmistakable") == 0
    assert run("--vault", home / "clone.git", "push", "origin") == 0
    target = home / "one"
    words = ["--remote", home / "off", "--identity", home / "key", "unmistakable", "later.txt", "--to", target]
    assert run("restore", *words) == 0
    assert (target / "later.txt").read_text() == "there"


def test_nothing_readable_leaves_the_machine(home: Path) -> None:
    subprocess.run(
        ["git", f"--git-dir={home / 'vault.git'}", "config", "vault.machine", "name-of-the-laptop"], check=True
    )
    assert (add(home), push(home)) == (0, 0)
    vault = Vault.open(home / "vault.git")
    told = settings.get(vault.path, "off")
    known = [SECRET, "confidential", "unmistakable", "large.bin", "refs/", "machines", "chunks", ".pack", told.chain]
    known += [told.id, told.sealing, vault.config.machine, (home / "public").read_text()]
    listed = ["git", f"--git-dir={vault.path}", "rev-list", "--all", "--objects", "--no-object-names"]
    known += subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split()
    vault.close()
    seen = 0
    for path in (home / "off").rglob("*"):
        if path.is_file() and not (path.parent == home / "off" and path.name in ("README", "unseal.sh", "rescue.sh")):
            seen += 1
            text = path.relative_to(home / "off").as_posix().encode() + b"\0" + path.read_bytes()
            assert [word for word in known if word.encode() in text] == []
            assert bytes.fromhex(told.id) not in text
            assert bytes(range(256)) not in text
    assert seen >= 6


def test_wrong_and_missing_keys_are_said(home: Path, said: Said) -> None:
    assert (add(home), push(home)) == (0, 0)
    (home / "wrong").write_text(str(pyrage.x25519.Identity.generate()))
    said()
    assert run("clone", home / "off", home / "clone.git") == RemoteRefused.exit_code
    assert "is encrypted; give the key that opens it: --identity FILE" in said()
    assert run("clone", home / "off", home / "clone.git", "--identity", home / "wrong") == RemoteRefused.exit_code
    assert "wrong: not a key that opens this remote; it takes one of those" in said()
    assert not (home / "clone.git").exists()
    assert run("clone", home / "off", home / "clone.git", "--identity", home / "none") == ConfigError.exit_code
    assert "none: cannot be read" in said()
    assert run("init", home / "other.git") == 0
    assert add(home, vault="other.git") == RemoteRefused.exit_code
    assert "another machine encrypted it" in said()
    assert add(home, "--identity", home / "key", vault="other.git") == RemoteRefused.exit_code
    assert "holds another vault" in said()
    assert run("--vault", home / "other.git", "remote", "list") == 0
    assert "no remotes" in said()


def test_a_plain_vault_and_a_new_place_are_told_apart(home: Path, said: Said) -> None:
    assert run("--vault", home / "vault.git", "remote", "add", "plain", home / "off") == 0
    assert run("--vault", home / "vault.git", "push", "plain") == 0
    assert add(home) == ConfigError.exit_code
    assert "the vault there is not encrypted" in said()
    (home / "empty").mkdir()
    assert run("clone", home / "empty", home / "c.git", "--identity", home / "key") == ConfigError.exit_code
    assert "no vault there that a key opens" in said()


def test_who_lost_what_it_remembered_begins_a_new_chain_and_nothing_is_lost(home: Path) -> None:
    assert (add(home), push(home)) == (0, 0)
    before = settings.get(home / "vault.git", "off").chain
    shutil.rmtree(home / "vault.git" / "remotes")
    shutil.rmtree(home / "vault.git" / "cache")
    (home / "unmistakable" / "later.txt").write_text("later")
    assert (snapshot(home, "two"), push(home)) == (0, 0)
    assert settings.get(home / "vault.git", "off").chain != before
    assert run("clone", home / "off", home / "clone.git", "--identity", home / "key") == 0
    assert run("--vault", home / "clone.git", "restore", "unmistakable", "--to", home / "back") == 0
    assert same(home / "unmistakable", home / "back")


def test_a_rotated_key_from_the_command_line(home: Path, said: Said) -> None:
    """New keys: what comes is sealed to them; with the old one beside it everything is there."""
    assert (add(home), push(home)) == (0, 0)
    identity = pyrage.x25519.Identity.generate()
    (home / "new").write_text(f"{identity}\n")
    settings.note(home / "vault.git", "off", {"encrypt": str(identity.to_public())})
    (home / "unmistakable" / "later.txt").write_text("later")
    assert (snapshot(home, "two"), push(home)) == (0, 0)
    said()
    assert run("clone", home / "off", home / "c.git", "--identity", home / "new") != 0
    assert "add the secret key of that time" in said()
    shutil.rmtree(home / "c.git", ignore_errors=True)
    # Who has only the old one gets what was there when it changed, and is told that there is more.
    assert run("clone", home / "off", home / "old.git", "--identity", home / "key") == 0
    assert "sealed to other keys" in said()
    (home / "new").write_text((home / "new").read_text() + (home / "key").read_text())
    assert run("clone", home / "off", home / "c.git", "--identity", home / "new") == 0
    assert run("--vault", home / "c.git", "restore", "unmistakable", "--to", home / "back") == 0
    assert same(home / "unmistakable", home / "back")


@pytest.mark.needs("age", "zstd")
def test_the_age_program_and_a_shell_get_everything_back(home: Path) -> None:
    assert (add(home), push(home)) == (0, 0)
    away = home / "downloaded"
    shutil.copytree(home / "off", away)
    subprocess.run(["sh", away / "unseal.sh", home / "key", away, home / "rescued.git"], check=True)
    rescue = ["sh", home / "rescued.git" / "rescue.sh"]
    assert b"one" in subprocess.run([*rescue, "list"], check=True, capture_output=True).stdout
    subprocess.run([*rescue, "restore", "unmistakable", home / "back"], check=True, stderr=subprocess.DEVNULL)
    assert same(home / "unmistakable", home / "back")
    [some] = (home / "off").rglob("keys/*")
    assert some.is_file()
    next(path for path in away.rglob("*/*") if path.is_file() and path.parent.name != "keys").write_bytes(b"junk")
    again = ["sh", away / "unseal.sh", home / "key", away, home / "again.git"]
    assert subprocess.run(again, capture_output=True).returncode == 1
    assert subprocess.run(again, capture_output=True).returncode == 128


@pytest.mark.needs("radosgw")
def test_who_may_only_put_cannot_destroy(home: Path, s3: S3, monkeypatch: pytest.MonkeyPatch, said: Said) -> None:
    """On a real server: the laptop's owner is an attacker with its credentials, its settings, and its vault."""
    bucket = s3.bucket(locks=True, append_only=True)
    url = f"s3://{bucket}/deep/vault"

    def become(user: str) -> None:
        for key, value in s3.environment(user).items():
            monkeypatch.setenv(key, value)

    become("owner")
    assert add(home, "--retain", "30d", url=url) == 0
    become("pusher")
    assert push(home) == 0
    told = settings.get(home / "vault.git", "off")
    attacker = s3.client("pusher")
    listed = attacker.list_objects_v2(Bucket=bucket)["Contents"]
    assert all(b"unmistakable" not in each["Key"].encode() for each in listed)
    for each in listed:
        with pytest.raises(Exception, match="AccessDenied"):
            attacker.delete_object(Bucket=bucket, Key=each["Key"])
        attacker.put_object(Bucket=bucket, Key=each["Key"], Body=b"junk")
    # Records of his own, in a name that counts.
    hidden = Names(bytes.fromhex(told.sealing)).hide(f"machines/{told.chain}/{99:020d}-{'0' * 64}")
    attacker.put_object(Bucket=bucket, Key=f"deep/vault/{hidden}", Body=b"junk")
    become("owner")
    become("owner")
    said()
    assert run("clone", url, home / "clone.git", "--identity", home / "key") == 0
    assert "skipped there: machines/" in said()
    assert run("--vault", home / "clone.git", "restore", "unmistakable", "--to", home / "back") == 0
    assert same(home / "unmistakable", home / "back")
    words = ["--remote", url, "--identity", home / "key", "unmistakable", "confidential.txt", "--to", home / "one"]
    assert run("restore", *words) == 0
    assert (home / "one" / "confidential.txt").read_text() == SECRET * 50
    # The lock holds against the owner too.
    place = places.open_place(url, s3.environment("owner"))
    before = {name: list(place.versions(name)) for name in [stored.name for stored in place.names()]}
    place.delete(list(before))
    assert {name: list(place.versions(name)) for name in before} == before
    become("stranger")
    assert run("--vault", home / "clone.git", "fetch", "origin") == RemoteRefused.exit_code


@pytest.mark.needs("radosgw")
def test_objects_without_lock_are_removed_with_all_their_versions(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in s3.environment("owner").items():
        monkeypatch.setenv(key, value)
    client = s3.client()
    for locks in (True, False):
        bucket = s3.bucket(locks=locks)
        place = places.open_place(f"s3://{bucket}", s3.environment("owner"))
        place.put("a/b", b"one")
        place.put("a/b", b"two")
        place.put("a/bc", b"other")
        assert list(place.versions("a/b")) == ([b"two", b"one"] if locks else [b"two"])
        place.delete(["a/b", "a/none"])
        assert [stored.name for stored in place.names("a/")] == ["a/bc"]
        left = client.list_object_versions(Bucket=bucket)
        assert [each["Key"] for each in left["Versions"]] == ["a/bc"]
        assert "DeleteMarkers" not in left
        assert History(bucket, "", s3.environment("owner")).keeps() is locks
        place.close()


@pytest.mark.needs("radosgw")
def test_who_may_not_remove_is_told(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in s3.environment("pusher").items():
        monkeypatch.setenv(key, value)
    place = places.open_place(f"s3://{s3.bucket(locks=True, append_only=True)}", s3.environment("pusher"))
    place.put("a", b"one")
    with pytest.raises(RemoteRefused, match="access denied"):
        place.delete(["a"])
    assert place.get("a") == b"one"


def test_without_boto3_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(ToolMissing, match="versions and locks need boto3"):
        History("bucket", "", {})


def test_a_host_of_git_reads_what_it_gets(home: Path, said: Said) -> None:
    assert add(home, url="https://example.invalid/vault.git") == 129
    assert "a host of git reads what it gets" in said()


@pytest.mark.needs("radosgw")
def test_what_cannot_be_locked_is_said(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in s3.environment("owner").items():
        monkeypatch.setenv(key, value)
    with pytest.raises(ConfigError, match="cannot lock objects; make one with object lock"):
        places.retain(f"s3://{s3.bucket()}", s3.environment("owner"), "30d")
    for url, text, sentence in (
        ("/a/folder", "30d", "on s3:// only"),
        ("s3://bucket", "30", "expected a duration"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            places.retain(url, {}, text)
    assert MemoryPlace().requests == {}


def test_a_prune_takes_nothing_from_those_who_cannot_read_what_it_says(home: Path, said: Said) -> None:
    """The pusher knows from its own index that content is there; when that was removed, it is sent again."""
    vault = home / "vault.git"
    assert (add(home), push(home)) == (0, 0)
    away = home / "large.bin"
    (home / "unmistakable" / "large.bin").rename(away)
    assert (snapshot(home, "without"), push(home)) == (0, 0)
    assert run("--vault", vault, "forget", "--path", "large.bin", "--yes") == 0
    assert push(home) == 0
    # The key is there for once.
    before = [path for path in (home / "off").rglob("*") if path.is_file()]
    for path in before:
        # The place's clock says that all of it came long ago.
        os.utime(path, (1e9, 1e9))
    settings.note(vault, "off", {"identity": str(home / "key")})
    assert run("--vault", vault, "remote", "prune", "off", "--grace", "0", "--yes") == 0
    assert len([path for path in before if not path.exists()]) > 1
    settings.note(vault, "off", {"identity": ""})
    away.rename(home / "unmistakable" / "large.bin")
    assert (snapshot(home, "back"), push(home)) == (0, 0)
    assert run("clone", home / "off", home / "last.git", "--identity", home / "key") == 0
    assert run("--vault", home / "last.git", "remote", "verify", "origin", "--data") == 0
    assert run("--vault", home / "last.git", "restore", "unmistakable", "--to", home / "back") == 0
    assert same(home / "unmistakable", home / "back")


def test_who_cannot_read_it_all_does_not_judge_what_is_needed(home: Path, said: Said) -> None:
    assert (add(home), push(home)) == (0, 0)
    assert run("clone", home / "off", home / "owner.git", "--identity", home / "key") == 0
    assert run("--vault", home / "owner.git", "push", "origin") == 0
    said()
    assert run("--vault", home / "vault.git", "remote", "prune", "off", "--yes") == RemoteRefused.exit_code
    assert "what it needs must stay" in said()


def test_what_another_machine_condemned_is_seen_in_names(home: Path) -> None:
    """The pusher cannot read the record of who prunes. What is about to go is sent again, before it is gone."""
    assert (add(home), push(home)) == (0, 0)
    vault = home / "vault.git"
    told = settings.get(vault, "off")
    assert run("clone", home / "off", home / "owner.git", "--identity", home / "key") == 0
    assert run("--vault", home / "owner.git", "push", "origin") == 0
    with open_remote(settings.get(home / "owner.git", "origin"), {}) as remote:
        [part] = [stored.name for stored in remote.place.names("chunks/")]
        remote.place.put(CONDEMNED + part, b"\n")
    with open_remote(told, {}, vault=vault) as remote:
        known = remote.records(told.id)
        assert set(known) == {told.chain}
        assert remote.condemned(known.values()) == {part}
        assert [line.partition(": ")[2] for line in remote.demand(known.values())] == ["sealed to other keys"]
        with pytest.raises(RemoteSealed, match="no key here opens what machines wrote"):
            remote.demand([])
    (home / "unmistakable" / "more.txt").write_text("more")
    sent = home / "off" / Names(bytes.fromhex(told.sealing)).hide(part)
    before = sent.stat().st_ino
    assert (snapshot(home, "two"), push(home)) == (0, 0)
    with open_remote(settings.get(home / "owner.git", "origin"), {}) as remote:
        assert sent.stat().st_ino != before or len(list(remote.place.names("chunks/"))) == 2


@pytest.mark.needs("radosgw")
def test_a_server_that_fails_and_lies_is_asked_again(home: Path, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors, throttling, wrong bytes, half an object, a body that breaks off: each once for each object."""
    for key, value in s3.environment().items():
        monkeypatch.setenv(key, value)
    bucket = s3.bucket()
    public = (home / "public").read_text()
    drawn = (random.Random(number).randbytes(1 << (2 * number)) for number in range(9))
    contents = {f"index/{hashlib.sha256(content).hexdigest()}": content for content in drawn}

    def through(endpoint: str) -> Sealed:
        away = Bucket("s3", bucket, "a", s3.environment(endpoint=endpoint))
        return Sealed(Patient(away, "x", sleep=lambda seconds: None), [public], bytes(32), home / "key")

    with lying(s3.endpoint) as (endpoint, done):
        place = through(endpoint)
        for name, content in contents.items():
            place.put(name, content)
        place = through(endpoint)
        assert {stored.name for stored in place.names("index/")} == contents.keys()
        assert all(place.get(name) == content for name, content in contents.items())
        assert min(done[trouble] for trouble in TROUBLES) >= len(contents)
