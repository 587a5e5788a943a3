"""Objects in a bucket of S3, Google Cloud Storage or Azure, or of a server that speaks as S3 does."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from gitvault.errors import (
    ConfigError,
    NotFoundError,
    RemoteError,
    RemoteFull,
    RemoteRefused,
    RemoteUnreachable,
    ToolMissing,
)
from gitvault.remotes.places import Content, Stored

if TYPE_CHECKING:
    from obstore.store import ObjectStore

    from gitvault.remotes.places.history import History

# Bytes; of more MD5 is an eighth of a push's processor time. Packs, which records need, and no record is that long.
_COMPARED = 1 << 20
# With these the body of a request is not signed.
_UNSIGNED = frozenset({"AWS_SKIP_SIGNATURE", "AWS_UNSIGNED_PAYLOAD"})
_MD5 = re.compile(r'"?([0-9a-f]{32})"?')
# What servers say, in words that mean one thing each. The first that fits counts.
_SENTENCES: tuple[tuple[str, type[RemoteError], str], ...] = (
    # Whoever has no credentials asks the cloud's machine for them, which answers only there.
    ("169.254.169.254", RemoteRefused, "no credentials are found; give them as that store's own programs want them"),
    ("MissingAccount", RemoteRefused, "no account is named; set AZURE_STORAGE_ACCOUNT_NAME"),
    ("NoSuchBucket", RemoteRefused, "no such bucket; make it, or look at the name"),
    ("ContainerNotFound", RemoteRefused, "no such container; make it, or look at the name"),
    ("RequestTimeTooSkewed", RemoteRefused, "this machine's clock is wrong; set it, then run again"),
    ("ExpiredToken", RemoteRefused, "the credentials have expired; log in again"),
    ("InvalidAccessKeyId", RemoteRefused, "the server does not know this access key"),
    ("SignatureDoesNotMatch", RemoteRefused, "the secret does not fit the access key"),
    ("QuotaExceeded", RemoteFull, "the quota is reached; prune the remote, or have it raised"),
    ("InsufficientStorage", RemoteFull, "the server has no room left"),
    ("status code: 507", RemoteFull, "the server has no room left"),
    ("SlowDown", RemoteUnreachable, "the server wants fewer requests; run again later"),
    ("AccessDenied", RemoteRefused, "access denied; look at the rights of these credentials"),
    ("status code: 401", RemoteRefused, "access denied; look at the credentials"),
    ("status code: 403", RemoteRefused, "access denied; look at the rights of these credentials"),
    ("after 0 retries", RemoteUnreachable, "no sound answer; run again later"),
)


class Bucket:
    """See Place; tries once. Credentials come from where AWS, gcloud and Azure keep them."""

    def __init__(self, scheme: str, bucket: str, prefix: str, environment: Mapping[str, str]) -> None:
        """Raises ToolMissing without the library, RemoteRefused without credentials."""
        self.requests: Counter[str] = Counter()
        self._shown = f"{scheme}://{bucket}{'/' * bool(prefix)}{prefix}"
        try:
            import obstore
        except ImportError:
            raise ToolMissing(f"{self._shown}: needs the package obstore; pip install 'gitvault[remote]'") from None
        self._api = obstore
        self._prefix = f"{prefix}/" if prefix else ""
        self._bucket = bucket
        self._environment = environment
        # Only S3 is asked for versions and locks.
        self._lock = threading.Lock()
        self._asked: History | None = None
        self._has_history = scheme == "s3"
        self._is_signed = scheme == "s3" and _UNSIGNED.isdisjoint(environment)
        with self._said(""):
            self._store = _store(scheme, bucket, environment)

    def put(self, name: str, content: bytes) -> None:
        """See Place. What the server says of the bytes it got is compared with those that were sent, unless they are
        many and it has compared their SHA-256, which is signed with the request.
        """
        with self._said(name):
            done = self._api.put(self._store, self._prefix + name, content, use_multipart=False)
        if self._is_signed and len(content) > _COMPARED:
            return
        tag = _MD5.fullmatch(done.get("e_tag") or "")
        sound = tag and tag[1] == hashlib.md5(content, usedforsecurity=False).hexdigest()
        # Servers that encrypt have other tags.
        if not sound and self.get(name) != content:
            raise RemoteUnreachable(f"{self._shown}: {name} did not arrive as it was sent; run again")

    def get(self, name: str, start: int = 0, length: int | None = None) -> Content:
        """See Place."""
        with self._said(name):
            if length is None:
                return memoryview(self._api.get(self._store, self._prefix + name).bytes())[start:]
            if not length:
                return b""
            return memoryview(self._api.get_range(self._store, self._prefix + name, start=start, length=length))

    def names(self, prefix: str = "") -> Iterator[Stored]:
        """See Place."""
        with self._said(prefix):
            for batch in self._api.list(self._store, prefix=(self._prefix + prefix) or None):
                for found in batch:
                    name = found["path"].removeprefix(self._prefix)
                    yield Stored(name, found["size"], found["last_modified"].timestamp())

    def delete(self, names: Sequence[str]) -> None:
        """See Place."""
        if self._has_history:
            with self._said(""):
                history = self._history()
                if history.keeps():
                    history.remove(names)
                    return
        with self._said(""), suppress(FileNotFoundError):
            self._api.delete(self._store, [self._prefix + name for name in names])

    def versions(self, name: str) -> Iterator[Content]:
        """See Place."""
        if self._has_history:
            # Without the right to list them there is the newest.
            with suppress(RemoteRefused), self._said(name):
                yield from self._history().contents(name)
                return
        with suppress(NotFoundError):
            yield self.get(name)

    def retain(self, days: int) -> None:
        """Have the server lock whatever comes from now on for so many days. Raises ConfigError where it cannot."""
        with self._said(""):
            try:
                self._history().retain(days)
            except ValueError as error:
                if re.search("InvalidBucketState|InvalidRequest", str(error)):
                    raise ConfigError(
                        f"{self._shown}: the bucket cannot lock objects; make one with object lock (and versions) on"
                    ) from None
                raise

    def _history(self) -> History:
        from gitvault.remotes.places.history import History

        with self._lock:
            # Made when it is first needed, and once: that takes half a second.
            if not self._asked:
                self._asked = History(self._bucket, self._prefix, self._environment)
            return self._asked

    def close(self) -> None:
        """See Place."""

    @contextmanager
    def _said(self, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error) or "ContainerNotFound" in str(error):
                raise RemoteRefused(f"{self._shown}: no such bucket; make it, or look at the name") from None
            raise NotFoundError(f"{self._shown}: no {name} there") from None
        except (self._api.exceptions.BaseError, OSError, ValueError) as error:
            # Not `from error`: its text may hold what was sent with the request.
            raise self._error(error) from None

    def _error(self, error: Exception) -> RemoteError:
        text = str(error)
        if isinstance(error, self._api.exceptions.UnauthenticatedError):
            return RemoteRefused(f"{self._shown}: the credentials are not accepted; look at them")
        for word, kind, sentence in _SENTENCES:
            if re.search(rf"\b{word}\b", text):
                return kind(f"{self._shown}: {sentence}")
        if isinstance(error, self._api.exceptions.PermissionDeniedError):
            return RemoteRefused(f"{self._shown}: access denied; look at the rights of these credentials")
        return RemoteUnreachable(f"{self._shown}: no answer ({type(error).__name__}); run again when it can be reached")


def _store(scheme: str, bucket: str, environment: Mapping[str, str]) -> ObjectStore:
    from obstore import store

    # Retries are ours, so that they are counted and said.
    options: dict[str, Any] = {"retry_config": {"max_retries": 0}, "client_options": {"timeout": "120s"}}
    if scheme == "gs":
        return store.GCSStore(bucket, **options)
    if scheme == "az":
        return store.AzureStore(bucket, **options)
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL", "")
    if endpoint:
        options["endpoint"] = endpoint
        options["client_options"]["allow_http"] = endpoint.startswith("http://")
    if "AWS_ACCESS_KEY_ID" not in environment and (provider := _profile()):
        options["credential_provider"] = provider
    if not any(key in environment for key in ("AWS_REGION", "AWS_DEFAULT_REGION")):
        options["region"] = "us-east-1"
    # AWS takes nothing without a checksum into a bucket that locks.
    return store.S3Store(bucket, checksum_algorithm="SHA256", **options)


def _profile() -> Callable[..., Any] | None:
    """Credentials of `~/.aws`, where boto3 is there to read them; None: those of the machine, if any."""
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider

        return Boto3CredentialProvider()
    except (ImportError, ValueError):
        return None
