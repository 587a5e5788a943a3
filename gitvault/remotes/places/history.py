"""What S3 keeps beside the newest version of an object, and how long nobody may remove any. obstore cannot ask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any

from gitvault.errors import ToolMissing

# What one request may name.
_BATCH = 1000


class History:
    """Versions and locks in a bucket. What goes wrong is a ValueError that says what the server said."""

    def __init__(self, bucket: str, prefix: str, environment: Mapping[str, str]) -> None:
        """Asks nothing yet. Raises ToolMissing."""
        try:
            import boto3
        except ImportError:
            raise ToolMissing(f"s3://{bucket}: versions and locks need boto3; pip install 'gitvault[remote]'") from None
        self._bucket = bucket
        self._prefix = prefix
        with _told():
            session = boto3.session.Session()
            region = None if session.region_name or "AWS_REGION" in environment else "us-east-1"
            endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or None
            self._client: Any = session.client("s3", endpoint_url=endpoint, region_name=region)

    def contents(self, name: str) -> Iterator[bytes]:
        """Every version of an object, the newest first."""
        for version in self._versions(self._prefix + name):
            with _told():
                found = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name, VersionId=version)
                yield found["Body"].read()

    def keeps(self) -> bool:
        """Whether the bucket keeps what is overwritten or removed."""
        with _told():
            return "Status" in self._client.get_bucket_versioning(Bucket=self._bucket)

    def remove(self, names: Sequence[str]) -> None:
        """Remove every version of objects, but for those that are locked, which stay to be removed another time."""
        doomed = [
            {"Key": self._prefix + name, "VersionId": version}
            for name in names
            for version in self._versions(self._prefix + name, markers=True)
        ]
        for start in range(0, len(doomed), _BATCH):
            with _told():
                request = {"Objects": doomed[start : start + _BATCH], "Quiet": True}
                done = self._client.delete_objects(Bucket=self._bucket, Delete=request)
            # One answers for all: they were refused for the same reason.
            for error in done.get("Errors", ())[:1]:
                if not self._is_locked(error["Key"], error["VersionId"]):
                    raise ValueError(f"({error.get('Code')}) {error.get('Message')}")

    def _is_locked(self, key: str, version: str) -> bool:
        with _told():
            found = self._client.head_object(Bucket=self._bucket, Key=key, VersionId=version)
        until = found.get("ObjectLockRetainUntilDate")
        # By the server's clock, which is the one that counts.
        now = parsedate_to_datetime(found["ResponseMetadata"]["HTTPHeaders"]["date"])
        return found.get("ObjectLockLegalHoldStatus") == "ON" or bool(until and until > now)

    def retain(self, days: int) -> None:
        """Let the server lock each object that comes from now on for so many days, against everybody."""
        rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": days}}
        with _told():
            self._client.put_object_lock_configuration(
                Bucket=self._bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
            )

    def _versions(self, key: str, *, markers: bool = False) -> Iterator[str]:
        with _told():
            for page in self._client.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=key):
                found = [*page.get("Versions", ()), *(page.get("DeleteMarkers", ()) if markers else ())]
                for version in sorted(found, key=lambda version: version["LastModified"], reverse=True):
                    if version["Key"] == key:
                        yield str(version["VersionId"])


@contextmanager
def _told() -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise ValueError(str(error)) from None
