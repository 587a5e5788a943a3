"""Remotes on real servers, Ceph's radosgw and OpenSSH: what they refuse is one clear line, with no credential in it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from away import edit, fill
from servers import S3
from trees import differences

from gitvault.errors import NotFoundError, RemoteRefused, RemoteUnreachable
from gitvault.remotes.places import open_place
from gitvault.remotes.places.buckets import Bucket
from gitvault.remotes.places.patient import Patient
from gitvault.remotes.places.sftp import Sftp

Command = Callable[..., subprocess.CompletedProcess[str]]
_SFTP_SERVER = shutil.which("sshd") or "/usr/sbin/sshd"


class Cable:
    """A proxy that cuts each connection, or flips a bit, when so many bytes have come through, a number of times."""

    def __init__(self, host: str, port: int, limit: int, times: int, *, flips: bool = False) -> None:
        self.cuts = 0
        self._flips = flips
        self._target = host, port
        self._limit = limit
        self._times = times
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                threading.Thread(target=self._pump, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(1 << 14):
                passed += len(data)
                if counted and passed > self._limit and self.cuts < self._times:
                    self.cuts += 1
                    if not self._flips:
                        break
                    data = bytes((data[0] ^ 1,)) + data[1:]
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()


def round_trip(command: Command, url: str, tmp_path: Path) -> None:
    """Add, push, push again, verify, restore one file and all, clone; with the command, as a user would."""
    project = tmp_path / "p"
    project.mkdir()
    fill(project, 8)
    command("snapshot", project)
    added = command("remote", "add", "off", url)
    assert added.returncode == 0, added.stderr
    first = json.loads(command("push", "off", "--json").stdout)
    assert first["snapshots"] == 1
    assert json.loads(command("push", "off", "--json").stdout)["uploaded"] == 0
    edit(project, 100_000)
    command("snapshot", project)
    assert json.loads(command("push", "off", "--json").stdout)["bytes"] < 30_000
    assert json.loads(command("remote", "verify", "off", "--data", "--json").stdout)["ok"]
    done = command("--vault", tmp_path / "none", "restore", "--remote", url, "p", "--to", tmp_path / "out", "--json")
    assert json.loads(done.stdout)["problems"] == []
    assert differences(project, tmp_path / "out") == {}
    done = command("restore", "--remote", "off", "p~1", "mid.bin", "--to", tmp_path / "old", "--json")
    assert sum(json.loads(done.stdout)["requests"][kind] for kind in ("get", "list")) <= 40
    assert json.loads(command("clone", url, tmp_path / "c.git", "--json").stdout)["snapshots"] == 2
    assert json.loads(command("remote", "prune", "off", "--yes", "--json").stdout)["deleted"] == 0


@pytest.fixture
def owner(s3: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    for key, value in s3.environment().items():
        monkeypatch.setenv(key, value)
    return s3


@pytest.mark.needs("radosgw")
def test_an_s3_server(owner: S3, command: Command, tmp_path: Path) -> None:
    round_trip(command, f"s3://{owner.bucket()}/some/where", tmp_path)


@pytest.mark.needs("radosgw")
def test_what_an_s3_server_refuses_is_one_line(
    owner: S3, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = command("remote", "add", "none", "s3://no-such-bucket-here/x")
    assert (none.returncode, "no such bucket" in none.stderr) == (14, True)
    assert command("remote", "list", "--json").stdout.strip() == "[]"
    url = f"s3://{owner.bucket()}/x"
    (tmp_path / "p").mkdir()
    fill(tmp_path / "p", 1)
    command("snapshot", tmp_path / "p")
    command("remote", "add", "off", url)
    for key, value, said in (
        ("AWS_SECRET_ACCESS_KEY", "wrong-secret-word", "the secret does not fit"),
        ("AWS_ACCESS_KEY_ID", "nobody-at-all", "does not know this access key"),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(key, value)
            done = command("push", "off")
            assert (done.returncode, said in done.stderr) == (14, True)
            assert "wrong-secret-word" not in done.stderr
            assert done.stderr.count("\n") == 1
    for key, value in owner.environment("stranger").items():
        monkeypatch.setenv(key, value)
    done = command("push", "off")
    assert (done.returncode, "access denied" in done.stderr) == (14, True)
    place = Bucket("s3", "x", "", {**os.environ, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"})
    with pytest.raises(RemoteUnreachable, match="run again when it can be reached"):
        place.get("a")


@pytest.mark.needs("radosgw")
def test_an_s3_connection_that_breaks_is_taken_up_again(owner: S3, tmp_path: Path) -> None:
    host, _, port = owner.endpoint.removeprefix("http://").partition(":")
    cable = Cable(host, int(port), 300_000, 3)
    try:
        bucket = Bucket("s3", owner.bucket(), "a", owner.environment(endpoint=f"http://127.0.0.1:{cable.port}"))
        place = Patient(bucket, "x", sleep=lambda seconds: None)
        content = os.urandom(1_000_000)
        place.put("b/c", content)
        assert cable.cuts == 3
        assert place.get("b/c") == content
        assert place.get("b/c", 10, 0) == b""
        assert [(one.name, one.size) for one in place.names("b/")] == [("b/c", 1_000_000)]
        assert list(place.versions("none")) == []
        place.delete(["b/c"])
        with pytest.raises(NotFoundError):
            place.get("b/c")
        place.close()
    finally:
        cable.close()


@pytest.mark.needs("radosgw")
def test_a_bit_that_flips_on_the_way_up_never_arrives(owner: S3) -> None:
    """Of what is small its MD5 is compared here; of more the server compares the SHA-256, which is signed."""
    host, _, port = owner.endpoint.removeprefix("http://").partition(":")
    cable = Cable(host, int(port), 300_000, 3, flips=True)
    try:
        place = Bucket("s3", owner.bucket(), "a", owner.environment(endpoint=f"http://127.0.0.1:{cable.port}"))
        for size in (500_000, 3_000_000):
            content = os.urandom(size)
            cable.cuts = 2
            with pytest.raises(RemoteUnreachable):
                place.put("b", content)
            with pytest.raises(NotFoundError):
                place.get("b")
            assert cable.cuts == 3
            place.put("b", content)
            assert place.get("b") == content
            place.delete(["b"])
    finally:
        cable.close()


class _Lying:
    """The library, but that a server's hash is another one and the bytes come back wrong."""

    def __init__(self, real: object) -> None:
        self._real = real

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)

    def put(self, *words: object, **options: object) -> dict[str, str]:
        return {"e_tag": '"' + "0" * 32 + '"'}

    def get(self, *words: object) -> object:
        class Result:
            def bytes(self) -> bytes:
                return b"other"

        return Result()


@pytest.mark.needs("radosgw")
def test_what_did_not_arrive_as_it_was_sent_is_noticed(owner: S3) -> None:
    bucket = Bucket("s3", owner.bucket(), "", owner.environment())
    bucket._api = _Lying(bucket._api)  # type: ignore[assignment]
    with pytest.raises(RemoteUnreachable, match="did not arrive as it was sent"):
        bucket.put("a", b"content")
    unsigned = Bucket("s3", owner.bucket(), "", {**owner.environment(), "AWS_UNSIGNED_PAYLOAD": "true"})
    unsigned._api = _Lying(unsigned._api)  # type: ignore[assignment]
    with pytest.raises(RemoteUnreachable, match="did not arrive as it was sent"):
        unsigned.put("a", bytes(3_000_000))


@pytest.fixture(scope="module")
def ssh(tmp_path_factory: pytest.TempPathFactory, own_home: Path) -> Iterator[tuple[int, Path]]:
    """OpenSSH's server on a free port as this user, whose key and known host are in the home folder."""
    if not Path(_SFTP_SERVER).exists():
        pytest.skip("sshd is not installed: apt-get install openssh-server")
    folder = tmp_path_factory.mktemp("ssh")
    for name in ("host", "id", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    (folder / "conf").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/id.pub\n"
        f"StrictModes no\nUsePAM no\nPidFile {folder}/pid\nSubsystem sftp internal-sftp\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    server = subprocess.Popen([_SFTP_SERVER, "-D", "-f", folder / "conf", "-E", folder / "log"])
    home = own_home / ".ssh"
    home.mkdir(mode=0o700, exist_ok=True)
    (home / "config").write_text(f"Host 127.0.0.1\n  IdentityFile {folder}/id\n")
    known(own_home, port, folder / "host.pub")
    while server.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            break
        time.sleep(0.02)
    yield port, folder
    server.terminate()
    server.wait()
    shutil.rmtree(home)


def known(home: Path, port: int, key: Path) -> None:
    kind, digits = key.read_text().split()[:2]
    (home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {digits}\n")


def test_an_sftp_server(ssh: tuple[int, Path], command: Command, tmp_path: Path) -> None:
    round_trip(command, f"sftp://127.0.0.1:{ssh[0]}{tmp_path}/away/vault", tmp_path)
    assert not list((tmp_path / "away").rglob("*.tmp"))


def test_what_an_sftp_server_refuses_is_one_line(ssh: tuple[int, Path], own_home: Path, tmp_path: Path) -> None:
    port, folder = ssh
    url = f"sftp://127.0.0.1:{port}{tmp_path}/x"
    known(own_home, port, folder / "other.pub")
    with pytest.raises(RemoteRefused, match="known_hosts"):
        open_place(url, {}).get("a")
    known(own_home, port, folder / "host.pub")
    config = own_home / ".ssh" / "config"
    text = config.read_text()
    config.write_text(text.replace("/id", "/other"))
    with pytest.raises(RemoteRefused, match="access denied"):
        open_place(url, {}).get("a")
    config.write_text(text)
    place = open_place(url, {})
    with pytest.raises(NotFoundError):
        place.get("a")
    place.put("a/b", b"12345")
    assert place.get("a/b", 1, 2) == b"23"
    assert list(place.versions("none")) == []
    place.delete(["a/b", "none"])
    assert list(place.names()) == []
    place.close()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RemoteUnreachable, match="the server failed"):
        Sftp("127.0.0.1", port, None, f"{tmp_path}/file").put("a/b", b"1")
    with pytest.raises(RemoteUnreachable, match="no answer"):
        Sftp("127.0.0.1", 1, None, "/x").get("a")


def test_an_sftp_connection_that_breaks_is_taken_up_again(
    ssh: tuple[int, Path], own_home: Path, tmp_path: Path
) -> None:
    port, folder = ssh
    cable = Cable("127.0.0.1", port, 300_000, 2)
    try:
        known(own_home, cable.port, folder / "host.pub")
        place = Patient(Sftp("127.0.0.1", cable.port, None, f"{tmp_path}/y"), "x", sleep=lambda seconds: None)
        content = os.urandom(1_000_000)
        place.put("b/c", content)
        assert cable.cuts == 2
        assert place.get("b/c") == content
        assert [one.name for one in place.names()] == ["b/c"]
        place.close()
    finally:
        cable.close()
        known(own_home, port, folder / "host.pub")
