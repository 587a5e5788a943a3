"""A process that fetches packs into the vault of a restore: what opens sealed ones keeps the interpreter of its process
to itself, and the one that restores needs its own for what came.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import count
from typing import IO

from gitvault.core.utils.files import UncachedFleetingDisk
from gitvault.core.utils.messages import finish, receive, send, tell
from gitvault.core.utils.process import keep_memory, start_python
from gitvault.errors import GitVaultError
from gitvault.remotes.fetch import StoredPack, store_part
from gitvault.remotes.index import Part
from gitvault.remotes.opening import open_remote
from gitvault.remotes.remote import Remote, in_order
from gitvault.vault import Vault


class Fetcher:
    """The process, from here."""

    def __init__(self, vault: Vault, remote: Remote) -> None:
        """`vault`: one that does not outlive the restore. `remote`: one that can be opened `again`."""
        self._remote = remote
        self._requests: Counter[str] = Counter()
        self._numbers = count()
        self._waiting: dict[int, Future[StoredPack]] = {}
        # What was asked for before it is wanted, and all that was asked for.
        self._early: dict[Part, Future[StoredPack]] = {}
        self._asked: set[Part] = set()
        self._lock = threading.Lock()
        self.ended = False
        """Whether it has ended, by itself too: nothing can be had of it any more."""
        self._process = start_python("gitvault.remotes.fetcher")
        self._listener = threading.Thread(target=self._listen, name="remote-fetcher", daemon=True)
        self._listener.start()
        # Not as arguments, which everybody can see.
        tell(self._process, (remote.again, vault.path))

    def fetch(
        self, parts: Iterable[Part], failed: Callable[[Part, GitVaultError], None]
    ) -> Iterator[tuple[Part, StoredPack]]:
        """As `Remote.fetch` with `store_part`. Raises ChildProcessError where the process has ended before."""
        return in_order(parts, self._take, self._remote.at_once, failed)

    def ahead(self, parts: Iterable[Part]) -> None:
        """Begin with parts that will be fetched, in this order, but for those asked for before.

        Between two calls of `fetch` it would have nothing to do.
        """
        for part in parts:
            if part not in self._asked:
                self._early[part] = self._submit(part)

    def close(self) -> None:
        """End it, after what is under way."""
        finish(self._process)
        self._listener.join()
        self._remote.place.requests.update(self._requests)

    def _take(self, part: Part) -> Future[StoredPack]:
        return self._early.pop(part, None) or self._submit(part)

    def _submit(self, part: Part) -> Future[StoredPack]:
        self._asked.add(part)
        future: Future[StoredPack] = Future()
        number = next(self._numbers)
        with self._lock:
            if self.ended:
                future.set_exception(_gone())
                return future
            self._waiting[number] = future
        tell(self._process, (number, part))
        return future

    def _listen(self) -> None:
        assert self._process.stdout
        with self._process.stdout as pipe:
            while reply := receive(pipe):
                number, made, self._requests = reply
                with self._lock:
                    future = self._waiting.pop(number)
                _settle(future, made)
        with self._lock:
            self.ended = True
        for future in self._waiting.values():
            _settle(future, _gone())


def _settle(future: Future[StoredPack], made: StoredPack | BaseException) -> None:
    # Whoever waited may have been stopped.
    if future.set_running_or_notify_cancel():
        if isinstance(made, BaseException):
            future.set_exception(made)
        else:
            future.set_result(made)


def _gone() -> ChildProcessError:
    return ChildProcessError("the process that fetches has ended")


def serve(requests: IO[bytes], replies: IO[bytes]) -> None:
    """The process's life: what to open, then parts, and what became of each."""
    if (settings := receive(requests)) is None:
        return
    again, folder = settings
    lock = threading.Lock()
    with (
        contextlib.closing(open_remote(*again)) as remote,
        Vault(folder, disk=UncachedFleetingDisk()) as vault,
        ThreadPoolExecutor(remote.at_once, "remote-get") as pool,
    ):

        def reply(number: int, done: Future[StoredPack]) -> None:
            # Nobody hears it any more where the parent was killed.
            with lock, contextlib.suppress(BrokenPipeError):
                send(replies, (number, done.exception() or done.result(), remote.place.requests))

        def bring(part: Part) -> StoredPack:
            return store_part(vault, part, remote.get(part.name))

        while message := receive(requests):
            number, part = message
            pool.submit(bring, part).add_done_callback(partial(reply, number))


if __name__ == "__main__":
    # What goes over the pipes are classes of the module by its name, which this one has not.
    from gitvault.remotes import fetcher

    # Ctrl-C reaches every process of the terminal: the parent says what happened.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Before there are threads.
    keep_memory()
    # Where the remote cannot be opened, the parent goes on by itself and says why.
    with contextlib.suppress(OSError, GitVaultError):
        fetcher.serve(sys.stdin.buffer, sys.stdout.buffer)
