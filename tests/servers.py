"""Real servers for tests: an S3 server that all tests of a run share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

_SCRIPT = Path(__file__).parent.parent / "scripts" / "s3_server.py"
USERS = ("owner", "pusher", "stranger")


@dataclass(frozen=True)
class S3:
    """Ceph's radosgw with the accounts `owner`, who owns what `bucket` makes, `pusher` and `stranger`."""

    endpoint: str
    users: Mapping[str, tuple[str, str]]

    def environment(self, user: str = "owner", endpoint: str = "") -> dict[str, str]:
        """What an account's holder has in the environment. `endpoint`: another way to the server, such as a proxy's."""
        access, secret = self.users[user]
        return {
            "AWS_ENDPOINT_URL": endpoint or self.endpoint,
            "AWS_ACCESS_KEY_ID": access,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }

    def client(self, user: str = "owner") -> Any:
        """boto3's client for an account."""
        import boto3

        access, secret = self.users[user]
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=access,
            aws_secret_access_key=secret,
            region_name="us-east-1",
        )

    def bucket(self, *, locks: bool = False, append_only: bool = False) -> str:
        """A new bucket. `locks`: with versions, and able to lock objects. `append_only`: `pusher` may read and put."""
        name = f"bucket-{uuid4().hex[:12]}"
        client = self.client()
        client.create_bucket(Bucket=name, **({"ObjectLockEnabledForBucket": True} if locks else {}))
        if append_only:
            resources = [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"]
            # An object belongs to who put it there: the bucket's owner has no right to it by itself.
            rights = {
                "owner": ["s3:*"],
                "pusher": ["s3:PutObject", "s3:GetObject", "s3:List*", "s3:GetBucketVersioning"],
            }
            statements = [
                {"Effect": "Allow", "Principal": {"AWS": [f"arn:aws:iam:::user/{user}"]}, "Action": actions}
                for user, actions in rights.items()
            ]
            policy = {"Version": "2012-10-17", "Statement": [{**one, "Resource": resources} for one in statements]}
            client.put_bucket_policy(Bucket=name, Policy=json.dumps(policy))
        return name


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """The server, started by the first test that asks, ended with the run. Such tests are marked `needs("radosgw")`."""
    base = tmp_path_factory.getbasetemp()
    parallel = "PYTEST_XDIST_WORKER" in os.environ
    folder = (base.parent if parallel else base) / "s3"
    server = None
    try:
        folder.mkdir()
        first = True
    except FileExistsError:
        first = False
    if first:
        # It watches this run's first process, which outlives each of its workers.
        lives = os.getppid() if parallel else os.getpid()
        users = [word for user in USERS for word in ("--user", user)]
        with folder.with_name("s3.out").open("wb") as output, folder.with_name("s3.err").open("wb") as errors:
            command = [sys.executable, str(_SCRIPT), str(folder), "--while", str(lives), *users]
            server = subprocess.Popen(command, stdout=output, stderr=errors, start_new_session=True)
    for _ in range(1500):
        with suppress(ValueError, OSError):
            found = json.loads(folder.with_name("s3.out").read_text())
            break
        time.sleep(0.1)
    else:
        pytest.fail(f"no S3 server: {folder.with_name('s3.err').read_text()}", pytrace=False)
    yield S3(found["endpoint"], {user: tuple(keys) for user, keys in found["users"].items()})
    if server and not parallel:
        server.terminate()
        server.wait()
