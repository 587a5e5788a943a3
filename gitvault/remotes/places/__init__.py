"""Places that keep objects: how bytes get there and back. What a remote is made of, the modules above say."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import SplitResult, unquote, urlsplit

from gitvault.core.utils.files import Disk
from gitvault.core.utils.layout import is_vault
from gitvault.errors import ConfigError

Content = bytes | memoryview
"""An object's bytes, as they came where a copy would be work: 8 MiB of fresh memory take as long as to open them."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object that a place has: its name, its length in bytes, and when it came there by the place's own clock."""

    name: str
    size: int
    time: float
    """Seconds since 1970."""
    padded: bool = False
    """Whether the length is of what hides the object, not of the object."""


class Place(Protocol):
    """Somewhere that keeps objects: bytes under a name, whole or not at all, never changed.

    Names are ASCII words joined by `/`. Safe to call from several threads. Every method raises RemoteUnreachable (may
    be tried again later), RemoteRefused (rights, credentials), RemoteFull.
    """

    requests: Counter[str]
    """How many `put`, `get`, `list` and `delete` were sent, failed tries too, and the bytes `up` and `down`."""

    def put(self, name: str, content: bytes) -> None:
        """Keep at most 32 MiB under a name; whole when this returns, retried inside."""
        ...

    def get(self, name: str, start: int = 0, length: int | None = None) -> Content:
        """An object's bytes, or some of them; fewer where it ends. Raises NotFoundError."""
        ...

    def names(self, prefix: str = "") -> Iterator[Stored]:
        """What there is below a prefix, which is empty or ends with `/`, ordered by name."""
        ...

    def delete(self, names: Sequence[str]) -> None:
        """Remove objects; those that are not there are fine."""
        ...

    def versions(self, name: str) -> Iterator[Content]:
        """What the place still has under this name, newest first: several where the server keeps versions."""
        ...

    def close(self) -> None:
        """End connections; harmless when there are none."""
        ...


def open_place(url: str, environment: Mapping[str, str], *, rate: int = 0, disk: Disk | None = None) -> Place:
    """The place that a URL names; nothing is asked of it yet. `rate`: bytes a second at most, 0: no limit.

    Raises ConfigError for a URL that names none, a vault, or holds a password, ToolMissing where a library is not
    installed.
    """
    from gitvault.remotes.places.patient import Patient

    scheme = scheme_of(url)
    if scheme == "folder":
        from gitvault.remotes.places.folder import Folder

        folder = folder_of(url)
        if is_vault(folder):
            # Its own packs would be taken for the remote's, and what is needed of these for none.
            raise ConfigError(f"{url}: a vault itself, no remote; git-vault --vault {url} copy --to DIR copies it")
        return Patient(Folder(folder, disk or Disk()), url, rate=rate)
    parts = checked(url)
    if not parts.hostname:
        raise ConfigError(f"{url}: names no {'host' if scheme == 'sftp' else 'bucket'}; expected {scheme}://NAME/PATH")
    if scheme == "sftp":
        from gitvault.remotes.places.sftp import Sftp

        return Patient(Sftp(parts.hostname, parts.port, parts.username, unquote(parts.path)), url, rate=rate)
    if scheme in ("s3", "gs", "az"):
        from gitvault.remotes.places.buckets import Bucket

        return Patient(Bucket(scheme, parts.netloc, parts.path.strip("/"), environment), url, rate=rate)
    raise ConfigError(f"{url}: no place for objects; expected s3://, gs://, az://, sftp:// or a folder")


def checked(url: str) -> SplitResult:
    """The parts of a URL. Raises ConfigError for one that is none or holds a password, without showing that."""
    try:
        parts = urlsplit(url)
        has_port = parts.port is None or parts.port
    except ValueError as error:
        raise ConfigError(f"that URL cannot be read ({error}); expected SCHEME://HOST[:PORT]/PATH") from None
    if parts.password:
        raise ConfigError(
            f"{parts.scheme}://{parts.hostname}: a password does not belong into a URL; use a key or profile"
        )
    if not has_port or not url.isprintable():
        raise ConfigError(f"{url!r}: not a URL; expected SCHEME://HOST[:PORT]/PATH")
    return parts


def retain(url: str, environment: Mapping[str, str], text: str) -> None:
    """Have the server lock what comes from now on for a time, such as `30d`, `8w`, `6m` or `2y`.

    Raises ConfigError where that cannot be, RemoteError and its kinds.
    """
    found = re.fullmatch("([1-9][0-9]{0,4})([dwmy])", text)
    if not found:
        raise ConfigError(f"--retain {text}: expected a duration, such as 30d, 8w, 6m or 2y")
    if scheme_of(url) != "s3":
        raise ConfigError(f"{url}: objects can be locked on s3:// only; leave out --retain")
    from gitvault.remotes.places.buckets import Bucket

    parts = urlsplit(url)
    days = int(found[1]) * {"d": 1, "w": 7, "m": 30, "y": 365}[found[2]]
    Bucket("s3", parts.netloc, parts.path.strip("/"), environment).retain(days)


def scheme_of(url: str) -> str:
    """`s3`, `gs`, `az`, `sftp`, `folder`, or `git` for what only git can reach."""
    if url.startswith("file:"):
        return "folder"
    head, mark, _ = url.partition("://")
    if not mark:
        # As git tells them apart: HOST:PATH with no slash before the colon. One letter is a drive of Windows.
        host, colon, _ = url.partition(":")
        return "git" if colon and "/" not in host and len(host) > 1 else "folder"
    return head if head in ("s3", "gs", "az", "sftp") else "git"


def folder_of(url: str) -> Path:
    """The folder that a URL of that scheme names, absolute. Raises ConfigError."""
    if not url.startswith("file:"):
        return Path(url).absolute()
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise ConfigError(f"{url}: names no folder of this machine; expected file:///PATH")
    return Path(unquote(parts.path)).absolute()
