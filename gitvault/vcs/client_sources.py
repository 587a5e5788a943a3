"""Where the files come from that a snapshot leaves to an hg or svn server: the checkout it was taken of, or the server.

Every content is compared with its id, so it does not matter how much a place is to be trusted.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from gitvault.core.models import ObjectId
from gitvault.core.versioning.history import GitHistory
from gitvault.core.versioning.index import IndexEntry
from gitvault.core.versioning.objects import object_id
from gitvault.errors import NotFoundError, ToolError, ToolFailed
from gitvault.vcs import hg, hg_store, lean, svn_store
from gitvault.vcs.lean import Attached
from gitvault.vcs.protect import record

_Contents = Iterable[tuple[ObjectId, bytes]]
_Place = Callable[[Mapping[ObjectId, IndexEntry]], _Contents]


class ClientSources:
    """The files of one checkout's base; a context manager. Asks the server only when nothing else has them.

    `place`: the checkout restored, where its history is looked for first. `fetch`: whether servers are asked at all.
    """

    def __init__(
        self,
        history: GitHistory,
        attached: Attached,
        *,
        place: Path | None = None,
        fetch: bool = True,
        server: hg.Server = hg.SERVER,
    ) -> None:
        self._history = history
        self._attached = attached
        self._place = place
        self._fetch = fetch
        self._server = server
        self._scratch: Path | None = None
        self.failed: list[str] = []
        """What was tried in vain, for people."""

    def __enter__(self) -> ClientSources:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def read_many(self, oids: Iterable[ObjectId]) -> Iterator[tuple[ObjectId, bytes]]:
        """Contents in any order; what is nowhere to be had is left out. Raises CorruptionError."""
        wanted = set(oids)
        left = {entry.blob: entry for entry in lean.entries_of(self._history, self._attached) if entry.blob in wanted}
        for give in self._hg() if self._attached.record.vcs == "hg" else self._svn():
            for oid, data in give(left):
                if oid in left and object_id(b"blob", data) == oid:
                    del left[oid]
                    yield oid, data
            if not left:
                return

    def read(self, oid: ObjectId) -> bytes:
        """One content. Raises NotFoundError, CorruptionError."""
        for _, data in self.read_many([oid]):
            return data
        raise NotFoundError(f"{oid.hex()}: {self.reason()}")

    def reason(self) -> str:
        """Why a content is nowhere to be had."""
        return f"{self._attached.record.vcs} protected it, and nobody has it any more: {'; '.join(self.failed)}"

    def _hg(self) -> Iterator[_Place]:
        said = self._attached.record

        def in_repository(folder: Path) -> _Place:
            def give(left: Mapping[ObjectId, IndexEntry]) -> _Contents:
                by_path = {entry.path: oid for oid, entry in left.items()}
                try:
                    for path, data in hg_store.contents(folder, self._server, said.revision, list(by_path)):
                        yield by_path[path], data
                except (ToolError, OSError) as error:
                    self._failed(str(folder), error)

            return give

        for folder in (self._place, Path(said.home)):
            if folder and (folder / ".hg").is_dir():
                yield in_repository(folder)
            elif folder:
                self.failed.append(f"{folder} is gone")
        if self._fetch:
            own = self._scratch = Path(tempfile.mkdtemp(prefix="gitvault-"))
            try:
                local = self._attached.local(self._history)
                hg_store.scratch_copy(said.url, Path(said.home), local, own / "clone")
            except (ToolError, OSError) as error:
                self._failed(said.url, error)
                return
            yield in_repository(own / "clone")

    def _svn(self) -> Iterator[_Place]:
        said = self._attached.record
        entries = lean.entries_of(self._history, self._attached)
        joined = record.joined(self._history, self._attached.files, lean.TEXTS)
        texts = {text.entry.blob: text for text in svn_store.decode_texts(joined, entries)}

        def wanted(left: Mapping[ObjectId, IndexEntry]) -> list[svn_store.Text]:
            return [texts[oid] for oid in left]

        home = Path(said.home)
        if (home / ".svn").is_dir():
            yield lambda left: svn_store.kept_texts(home, wanted(left))
        else:
            self.failed.append(f"{home} is gone")
        if self._fetch:
            yield lambda left: svn_store.asked_texts(said.url, wanted(left), self.failed)

    def _failed(self, place: str, error: Exception) -> None:
        self.failed.append(f"{place}: {hg.told(error) if isinstance(error, ToolFailed) else error}")
