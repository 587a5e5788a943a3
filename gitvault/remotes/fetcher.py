"""Fetches packs of the chunk store for a restore, before they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice

from gitvault.core.storage.held import HeldPack, Shelf
from gitvault.errors import GitVaultError
from gitvault.remotes.fetch import NewChunks, store_part
from gitvault.remotes.index import Part
from gitvault.remotes.remote import Remote, in_order
from gitvault.vault import Vault

# Packs that are fetched before they are asked for: between two rounds there would be nothing to do.
_AHEAD = 16


class Fetcher:
    """Of one restore."""

    def __init__(self, vault: Vault, remote: Remote, expected: Iterable[Part]) -> None:
        """`vault`: one that does not outlive the restore. `expected`: what will be fetched, as far as anybody knows."""
        self._vault = vault
        self._shelf = Shelf(vault.disk)
        self._remote = remote
        self._expected = iter(expected)
        self._pool = ThreadPoolExecutor(remote.at_once, "remote-get")
        # What was begun with and not asked for yet, and all that was begun with.
        self._early: dict[Part, Future[NewChunks]] = {}
        self._begun: set[Part] = set()

    def fetch(
        self, parts: Collection[Part], failed: Callable[[Part, GitVaultError], None]
    ) -> Iterator[tuple[Part, NewChunks]]:
        """As `Remote.fetch` with `store_part`; those expected next are begun with meanwhile."""
        self._begin(parts)
        self._begin(islice(self._expected, max(0, len(parts) + _AHEAD - len(self._early))))
        return in_order(parts, self._take, self._remote.at_once, failed)

    def close(self) -> None:
        """Begin with nothing more, and wait for what is under way."""
        self._pool.shutdown(cancel_futures=True)

    def _begin(self, parts: Iterable[Part]) -> None:
        for part in parts:
            if part not in self._begun:
                self._early[part] = self._submit(part)

    def _take(self, part: Part) -> Future[NewChunks]:
        return self._early.pop(part, None) or self._submit(part)

    def _submit(self, part: Part) -> Future[NewChunks]:
        self._begun.add(part)
        return self._pool.submit(self._store, part)

    def _store(self, part: Part) -> NewChunks:
        get = partial(self._remote.get, part.name)
        with self._remote.transfers:
            made = store_part(self._vault, part, get())
        assert isinstance(made, NewChunks)
        return replace(made, held=HeldPack(made.path, made.table, self._shelf, get))
