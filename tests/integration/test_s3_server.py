"""The server that tests of remotes run against: what they rely on of it."""

from __future__ import annotations

import pytest
from servers import S3

pytestmark = pytest.mark.needs("radosgw")


def test_an_overwritten_object_is_kept_and_a_pusher_cannot_delete(s3: S3) -> None:
    """Versions and rights are the server's own, not a mock's."""
    from botocore.exceptions import ClientError

    bucket = s3.bucket(locks=True, append_only=True)
    pusher = s3.client("pusher")
    first = pusher.put_object(Bucket=bucket, Key="name", Body=b"one")["VersionId"]
    pusher.put_object(Bucket=bucket, Key="name", Body=b"two")
    for version in ({}, {"VersionId": first}):
        with pytest.raises(ClientError, match="AccessDenied"):
            pusher.delete_object(Bucket=bucket, Key="name", **version)
    assert s3.client().get_object(Bucket=bucket, Key="name", VersionId=first)["Body"].read() == b"one"
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.client("stranger").list_objects_v2(Bucket=bucket)
