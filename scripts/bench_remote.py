"""Stories of a remote: saved to an S3 server, edited, brought back on an empty machine; encrypted, beside restic."""

from __future__ import annotations

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import bench_data
from bench_data import MIB, Step
from bench_rows import OURS
from bench_stories import Bench, say
from bench_tools import Failed, GitVault, Restic, Run, Tool, git_vault, run, size_of

_SERVER = Path(__file__).parent / "s3_server.py"
_ROOM = 24
"""GiB: of two repositories twice."""


@dataclass(frozen=True)
class Server:
    """radosgw on this machine, with a bucket for each tool."""

    folder: Path
    endpoint: str
    access: str
    secret: str

    @property
    def env(self) -> dict[str, str]:
        """What its user has in the environment."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }

    def empty(self, bucket: str) -> None:
        """Make the bucket, without what was in it."""
        import boto3

        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access,
            aws_secret_access_key=self.secret,
            region_name="us-east-1",
        )
        if bucket in [found["Name"] for found in client.list_buckets()["Buckets"]]:
            # Now, not in the background while the next tool is measured.
            words = ["bucket", "rm", "--bucket", bucket, "--purge-objects", "--bypass-gc", "--yes-i-really-mean-it"]
            run(["radosgw-admin", "-c", self.folder / "ceph.conf", *words], env={})
        client.create_bucket(Bucket=bucket)

    @contextmanager
    def counting(self, counts: list[int]) -> Iterator[None]:
        """Add the requests that come meanwhile."""
        before = self._requests()
        yield
        counts.append(self._requests() - before)

    def _requests(self) -> int:
        """By the server's own counter, of all since it started."""
        with socket.socket(socket.AF_UNIX) as asked, asked.makefile("rb") as answer:
            asked.connect(os.fspath(self.folder / "client.admin.asok"))
            asked.sendall(b'{"prefix": "perf dump", "logger": "rgw"}\0')
            size = int.from_bytes(answer.read(4), "big")
            requests: int = json.loads(answer.read(size))["rgw"]["req"]
            return requests


@dataclass(frozen=True, kw_only=True)
class AwayVault(GitVault):
    """A snapshot and its push; the machine that pushes has no key that reads."""

    server: Server
    requests: list[int] = field(default_factory=list)

    @property
    def _key(self) -> Path:
        return self.home / "key.txt"

    def _init(self) -> None:
        import pyrage

        self.server.empty("vault")
        super()._init()
        identity = pyrage.x25519.Identity.generate()
        self._key.write_text(f"{identity}\n")
        self.call("remote", "add", "off", "s3://vault/bench", "--encrypt", str(identity.to_public()))

    def save(self, source: Path, *, sample: bool = False) -> Run:
        """Both."""
        with self.server.counting(self.requests):
            saved = super().save(source, sample=sample)
            pushed = self.call("push", "off", "--json", sample=sample)
        return replace(pushed, seconds=saved.seconds + pushed.seconds, memory=max(saved.memory, pushed.memory))

    def restore(self, target: Path, *, sample: bool = False) -> Run:
        """With nothing but the URL and the key."""
        words: list[str | Path] = [
            "--remote",
            "s3://vault/bench",
            self.project,
            "--to",
            target,
            "--identity",
            self._key,
            "--json",
        ]
        with self.server.counting(self.requests):
            return run([*git_vault(), "restore", *words], env=self.env, sample=sample)


@dataclass(frozen=True, kw_only=True)
class AwayRestic(Restic):
    """`restic backup` to the server."""

    server: Server
    requests: list[int] = field(default_factory=list)

    def _restic(self, *arguments: str | Path) -> list[str | Path]:
        repository = f"s3:{self.server.endpoint}/restic/bench"
        return ["restic", "--quiet", "--repo", repository, "--cache-dir", self.home / "cache", *arguments]

    def _init(self) -> None:
        self.server.empty("restic")
        super()._init()

    def save(self, source: Path, *, sample: bool = False) -> Run:
        """With the cache of this machine."""
        with self.server.counting(self.requests):
            return super().save(source, sample=sample)

    def restore(self, target: Path, *, sample: bool = False) -> Run:
        """As on an empty machine: without a cache."""
        shutil.rmtree(self.home / "cache", ignore_errors=True)
        with self.server.counting(self.requests):
            return super().restore(target, sample=sample)


def remote(bench: Bench) -> None:
    """An asset library through some days."""
    files, total = bench.count(2262), bench.count(4300) * MIB
    steps = bench_data.asset_steps(files, total, 1 + bench.repeat)
    _through(bench, "remote", bench.data.assets(files, total), steps, bench_data.edit_assets)


def remote_files(bench: Bench) -> None:
    """A source tree through some days."""
    files = bench.count(100_000)
    steps = bench_data.code_steps(files, 1 + bench.repeat)
    _through(bench, "remote-files", bench.data.code(files), steps, bench_data.edit_source)


def _through(bench: Bench, name: str, data: Path, steps: Iterable[Step], edit: Callable[[Path, Step], None]) -> None:
    source = bench.copy(data)
    gigabytes = size_of(source) / 1e9
    with _served(bench.workdir / "s3") as server:
        found = _tools(bench.workdir, server)
        bench.first_saves(f"{name}-first", found, source)
        _counted(bench, f"{name}-first-requests", found, gigabytes)
        if bench.wants(f"{name}-edits", f"{name}-edits-requests"):
            for step in steps:
                edit(source, step)
                bench.saves(f"{name}-edits", found, source)
            _counted(bench, f"{name}-edits-requests", found)
        if bench.wants(f"{name}-restore", f"{name}-restore-requests"):
            bench.restores(f"{name}-restore", found, source)
            _counted(bench, f"{name}-restore-requests", found, gigabytes)


def _tools(workdir: Path, server: Server) -> dict[str, Tool]:
    env = {"HOME": str(workdir / "home"), "LC_ALL": "C", **server.env}
    homes = workdir / "tools"
    (workdir / "home").mkdir(parents=True, exist_ok=True)
    made: dict[str, Tool] = {OURS: AwayVault(OURS, homes / OURS, dict(env), server=server)}
    if shutil.which("restic"):
        made["restic"] = AwayRestic("restic", homes / "restic", dict(env), server=server)
    return made


def _counted(bench: Bench, row: str, found: dict[str, Tool], gigabytes: float = 1) -> None:
    """The requests of each tool's runs since the last call, for each GB."""
    for name, tool in found.items():
        assert isinstance(tool, AwayVault | AwayRestic)
        if tool.requests:
            requests = statistics.median(tool.requests)
            say(f"  {row}: {name} {requests:.0f} requests")
            bench.note(row, name, requests / gigabytes)
        tool.requests.clear()


@contextmanager
def _served(folder: Path) -> Iterator[Server]:
    """The server, new and empty, while in this context. Raises Failed."""
    if not all(shutil.which(program) for program in ("radosgw", "ceph-mon", "ceph-osd")):
        raise Failed(f"no radosgw; {_SERVER.name} says what to install")
    shutil.rmtree(folder, ignore_errors=True)
    words = ["--size", str(_ROOM), "--while", str(os.getpid()), "--user", "owner"]
    process = subprocess.Popen([sys.executable, _SERVER, folder, *words], stdout=subprocess.PIPE)
    try:
        assert process.stdout
        line = process.stdout.readline()
        if not line:
            raise Failed(f"{_SERVER.name} ended with {process.wait()}")
        told = json.loads(line)
        yield Server(folder, told["endpoint"], *told["users"]["owner"])
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)
