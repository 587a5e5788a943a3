"""Objects on a server that speaks SFTP."""

from __future__ import annotations

import asyncio
import posixpath
import secrets
import stat
import threading
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from gitvault.errors import NotFoundError, RemoteError, RemoteFull, RemoteRefused, RemoteUnreachable, ToolMissing
from gitvault.remotes.places import Stored

if TYPE_CHECKING:
    from asyncssh import SFTPClient, SSHClientConnection

_T = TypeVar("_T")
_TEMPORARY = ".tmp"
# Seconds until a server that does not answer at all is given up.
_CONNECT = 30
_SILENCE = 120


class Sftp:
    """See Place; tries once. Keys, agents, `~/.ssh/config` and known_hosts are those of ssh."""

    def __init__(self, host: str, port: int | None, user: str | None, path: str) -> None:
        """`path`: as in the URL; one that begins with `/~/` is below the home folder. Raises ToolMissing."""
        self.requests: Counter[str] = Counter()
        self._shown = f"sftp://{f'{user}@' if user else ''}{host}{f':{port}' if port else ''}{path}"
        try:
            import asyncssh
        except ImportError:
            raise ToolMissing(f"{self._shown}: needs the package asyncssh; pip install 'gitvault[remote]'") from None
        self._api = asyncssh
        self._where = (host, port, user)
        self._root = path.removeprefix("/~/") if path.startswith("/~/") else path.rstrip("/") or "/"
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opened: tuple[SSHClientConnection, SFTPClient] | None = None
        self._opening: asyncio.Lock | None = None
        self._made: set[str] = set()

    def put(self, name: str, content: bytes) -> None:
        """See Place. The length that arrived is compared; each packet's bytes are, by ssh itself."""
        self._run(self._put(f"{self._root}/{name}", content), name)

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """See Place."""
        return self._run(self._get(f"{self._root}/{name}", start, length), name)

    def names(self, prefix: str = "") -> Iterator[Stored]:
        """See Place."""
        yield from sorted(self._run(self._names(prefix), prefix), key=lambda found: found.name)

    def delete(self, names: Sequence[str]) -> None:
        """See Place."""
        for name in names:
            with suppress(NotFoundError):
                self._run(self._delete(f"{self._root}/{name}"), name)

    def versions(self, name: str) -> Iterator[bytes]:
        """See Place: the one there is."""
        with suppress(NotFoundError):
            yield self.get(name)

    def close(self) -> None:
        """See Place."""
        with self._lock:
            loop, self._loop = self._loop, None
            if loop is None:
                return
            opened, self._opened = self._opened, None
            if opened:
                with suppress(Exception):
                    asyncio.run_coroutine_threadsafe(_end(opened[0]), loop).result(5)
            loop.call_soon_threadsafe(loop.stop)

    async def _put(self, path: str, content: bytes) -> None:
        client = await self._client()
        folder = posixpath.dirname(path)
        if folder not in self._made:
            await client.makedirs(folder, exist_ok=True)
            self._made.add(folder)
        temporary = f"{path}.{secrets.token_hex(4)}{_TEMPORARY}"
        async with client.open(temporary, "wb") as file:
            await file.write(content)
            with suppress(self._api.SFTPError):
                # Where the server knows how.
                await file.fsync()
        size = (await client.stat(temporary)).size
        if size != len(content):
            raise RemoteUnreachable(f"{self._shown}: {size} of {len(content)} bytes arrived; run again")
        try:
            await client.posix_rename(temporary, path)
        except self._api.SFTPOpUnsupported:
            with suppress(self._api.SFTPNoSuchFile):
                await client.remove(path)
            await client.rename(temporary, path)

    async def _get(self, path: str, start: int, length: int | None) -> bytes:
        client = await self._client()
        async with client.open(path, "rb") as file:
            content = await file.read(-1 if length is None else length, start)
        assert isinstance(content, bytes)
        return content

    async def _names(self, prefix: str) -> list[Stored]:
        client = await self._client()
        found: list[Stored] = []
        pending = [prefix]
        while pending:
            below = pending.pop()
            try:
                entries = await client.readdir(f"{self._root}/{below}".rstrip("/"))
            except self._api.SFTPNoSuchFile:
                continue
            for entry in entries:
                name, attributes = str(entry.filename), entry.attrs
                if name in (".", "..") or name.endswith(_TEMPORARY):
                    continue
                if stat.S_ISDIR(attributes.permissions or 0):
                    pending.append(f"{below}{name}/")
                else:
                    found.append(Stored(f"{below}{name}", attributes.size or 0, float(attributes.mtime or 0)))
        return found

    async def _delete(self, path: str) -> None:
        await (await self._client()).remove(path)

    async def _client(self) -> SFTPClient:
        if self._opening is None:
            self._opening = asyncio.Lock()
        async with self._opening:
            if self._opened is None or self._opened[0].is_closed():
                host, port, user = self._where
                given: dict[str, Any] = {key: value for key, value in (("port", port), ("username", user)) if value}
                connection = await self._api.connect(
                    host, **given, connect_timeout=_CONNECT, keepalive_interval=_SILENCE // 4, keepalive_count_max=3
                )
                self._opened = connection, await connection.start_sftp_client()
            return self._opened[1]

    def _run(self, task: Coroutine[Any, Any, _T], name: str) -> _T:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="sftp", daemon=True).start()
            loop = self._loop
        with self._said(name):
            return asyncio.run_coroutine_threadsafe(asyncio.wait_for(task, _SILENCE), loop).result()

    @contextmanager
    def _said(self, name: str) -> Iterator[None]:
        api = self._api
        try:
            yield
        except api.SFTPNoSuchFile:
            raise NotFoundError(f"{self._shown}: no {name} there") from None
        except api.HostKeyNotVerifiable:
            raise RemoteRefused(
                f"{self._shown}: the server's key is not the one in known_hosts, or not in it; ask who runs it, "
                "then ssh there once"
            ) from None
        except (api.PermissionDenied, api.SFTPPermissionDenied):
            raise RemoteRefused(f"{self._shown}: access denied; look at the key, the user and the folder") from None
        except (api.SFTPNoSpaceOnFilesystem, api.SFTPQuotaExceeded):
            raise RemoteFull(f"{self._shown}: no room left there; free some, or prune the remote") from None
        except api.SFTPFailure as error:
            # OpenSSH says no more than that, of a full disk too.
            raise RemoteUnreachable(f"{self._shown}: the server failed ({error.reason}); is its disk full?") from None
        except RemoteError:
            raise
        except (api.Error, OSError, TimeoutError) as error:
            said = getattr(error, "reason", "") or getattr(error, "strerror", "") or type(error).__name__
            raise RemoteUnreachable(f"{self._shown}: no answer ({said}); run again when it can be reached") from None


async def _end(connection: SSHClientConnection) -> None:
    connection.close()
    await connection.wait_closed()
