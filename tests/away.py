"""Vaults and remotes for the tests of what goes elsewhere."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gitvault import config
from gitvault.core.utils.files import Disk
from gitvault.errors import NotFoundError, RemoteError
from gitvault.remotes import settings
from gitvault.remotes.places import Place, Stored
from gitvault.remotes.places.folder import Folder
from gitvault.remotes.push import PushReport, push
from gitvault.remotes.remote import Remote
from gitvault.vault import Vault


def quiet(what: str, done: int, total: int) -> None:
    """No progress."""


def clock(hour: int = 0) -> Callable[[], datetime]:
    """Minutes that go on with each question."""
    times = iter(datetime(2026, 1, 1, hour, tzinfo=UTC) + timedelta(minutes=n) for n in range(100_000))
    return lambda: next(times)


def made(path: Path, machine: str, hour: int = 0) -> Vault:
    """An empty vault of a machine, with small chunks."""
    Vault.create(path).close()
    return opened(path, machine, hour)


def opened(path: Path, machine: str, hour: int = 0) -> Vault:
    """A vault that is there, as that machine's."""
    for key, value in (("minChunk", "1k"), ("avgChunk", "4k"), ("maxChunk", "8k"), ("inlineLimit", "2k")):
        config.set(path, f"vault.{key}", value)
    config.set(path, "vault.machine", machine)
    config.set(path, "vault.maintenance", "off")
    return Vault.open(path, now=clock(hour))


def fill(folder: Path, seed: int, size: int = 200_000) -> None:
    """A project: text, a small and a large binary, folders."""
    noise = random.Random(seed)
    (folder / "src" / "deep" / "er").mkdir(parents=True, exist_ok=True)
    for number in range(20):
        (folder / "src" / f"file{number}.txt").write_text(f"text {seed} {number}\n" * 30)
    (folder / "src" / "deep" / "er" / "one.txt").write_text(f"plain words of {seed}\n")
    (folder / "large.bin").write_bytes(noise.randbytes(size))
    (folder / "mid.bin").write_bytes(noise.randbytes(9_000))


def age(folder: Path, seconds: int) -> None:
    """Let everything in a folder have come that much earlier."""
    for path in folder.rglob("*"):
        stat = path.stat()
        os.utime(path, (stat.st_atime - seconds, stat.st_mtime - seconds))


def edit(folder: Path, at: int, text: bytes = b"edited here") -> None:
    """Change a few bytes of the large file."""
    content = bytearray((folder / "large.bin").read_bytes())
    content[at : at + len(text)] = text
    (folder / "large.bin").write_bytes(content)


class Counted:
    """A folder that counts, and fails when it is told to."""

    def __init__(self, root: Path) -> None:
        self.requests: Counter[str] = Counter()
        self.put_names: list[str] = []
        self.fail: Callable[[str, str], RemoteError | None] = lambda what, name: None
        self.spoil: Callable[[str, bytes], bytes] = lambda name, content: content
        self._inner = Folder(root, Disk())

    def put(self, name: str, content: bytes) -> None:
        self._ask("put", name)
        self.requests["up"] += len(content)
        self.put_names.append(name)
        self._inner.put(name, content)

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        self._ask("get", name)
        content = self.spoil(name, self._inner.get(name, start, length))
        self.requests["down"] += len(content)
        return content

    def names(self, prefix: str = "") -> Iterator[Stored]:
        self._ask("list", prefix)
        try:
            yield from list(self._inner.names(prefix))
        except NotFoundError:
            return

    def delete(self, names: Sequence[str]) -> None:
        for name in names:
            self._ask("delete", name)
        self._inner.delete(names)

    def versions(self, name: str) -> Iterator[bytes]:
        yield from self._inner.versions(name)

    def close(self) -> None:
        self._inner.close()

    def _ask(self, what: str, name: str) -> None:
        self.requests[what] += 1
        if error := self.fail(what, name):
            raise error


def remote_of(vault: Vault | None, place: Place, name: str = "off") -> Remote:
    """The remote at a place, as a vault sees it."""
    cache = vault.path / "cache" / "remotes" / f"{name}.index" if vault else None
    return Remote(place, "the place", cache=cache)


def told_of(vault: str = "") -> settings.Settings:
    """What a machine knows of that place: at most which vault is there."""
    return settings.Settings("off", "/nowhere", id=vault)


def pushed(vault: Vault, place: Place, projects: Sequence[str] = ()) -> PushReport:
    """Push to a place that is called `off`."""
    if "off" not in settings.load(vault.path):
        settings.add(vault.path, "off", {"url": "/nowhere"})
    return push(vault, remote_of(vault, place), settings.get(vault.path, "off"), projects=projects, progress=quiet)
