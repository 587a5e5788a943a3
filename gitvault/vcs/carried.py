"""One hg or svn checkout while a project is walked: which files its server has, and what the snapshot says of it.

Its base is the revision it is at, as an index of git names the files (see `protect.worktree`): all that the store of
the checkout and a bundle of changesets that are not public lead to. The copy of the repository that it carries is left
out.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from gitvault.core.backup_engine.trees import Attachment, Stored, Walked
from gitvault.core.beside import Beside
from gitvault.core.models import PROTECTED
from gitvault.core.utils.names import to_line, to_text
from gitvault.core.versioning import index
from gitvault.core.versioning.history import GitHistory
from gitvault.core.versioning.index import IndexEntry
from gitvault.core.versioning.indexed import Indexes
from gitvault.errors import CorruptionError, NotFoundError, ToolError, ToolFailed, ToolMissing
from gitvault.vcs import hg, hg_store, lean, others, svn_store
from gitvault.vcs.lean import Attached, Record
from gitvault.vcs.protect import record
from gitvault.vcs.protect.repository import without_credentials
from gitvault.vcs.protect.worktree import WorkTree
from gitvault.vcs.servers import Served, Server
from gitvault.vcs.state import Checkout


@dataclass(frozen=True, slots=True)
class Left:
    """What of a folder is left out: these names, or all but these."""

    names: frozenset[bytes] = frozenset()
    all_but: bool = False

    @property
    def digest(self) -> bytes:
        """Tells them apart; empty for nothing."""
        return repr((sorted(self.names), self.all_but)).encode() if self.names or self.all_but else b""

    def omits(self, name: bytes) -> bool:
        """Whether a name is one of them."""
        return (name in self.names) != self.all_but


@dataclass(frozen=True, slots=True)
class _Base:
    """The files of the revision that a checkout is at."""

    index: bytes = b""
    texts: bytes = b""
    """Of svn: where each is."""


class Carried:
    """A checkout in the folder `path` of a project. Perforce's and such have a record and nothing else.

    `previous`: how the last snapshot in `history` holds it. `doubt`: why what a server had cannot be relied on.
    """

    def __init__(
        self,
        path: bytes,
        checkout: Checkout,
        *,
        previous: Attached | None,
        history: GitHistory,
        indexes: Indexes,
        asked: hg.Server,
        served: Callable[[Server], Served],
    ) -> None:
        self.path = path
        self.left: dict[bytes, Left] = {}
        """By folders of the project, what is not saved of them."""
        self._note = ""
        self._checkout = checkout
        self._folder = checkout.path
        self._previous = previous
        self._history = history
        self._asked = asked
        self._served = served
        self._beside: Beside | None = Beside()
        self._has_local = False
        self._base = _Base()
        self._record = Record(checkout.vcs, to_text(path), os.fspath(checkout.path))
        self._tree = WorkTree(os.fspath(checkout.path), path, indexes.read(""))
        try:
            self._read()
            base = indexes.made(os.fspath(checkout.path), self._base.index)
            self._tree = WorkTree(os.fspath(checkout.path), path, base)
        except (ToolError, ValueError, OSError, sqlite3.Error) as error:
            self._store_in_full(error)

    def _read(self) -> None:
        own = self.path + b"/" if self.path else b""
        if self._checkout.vcs == "svn":
            self._read_svn(own + b".svn")
        elif self._checkout.vcs == "hg":
            self._read_hg(own + b".hg")
        else:
            said = others.described(self._checkout)
            client, branch, revision = (said.get(key, "") for key in ("client", "stream", "revision"))
            self._record = replace(self._record, client=client, branch=branch, revision=revision)

    def _rely_on(self, server: Server) -> None:
        served = self._served(server)
        self._beside = served.beside
        if served.doubt:
            raise ValueError(served.doubt)

    def _store_in_full(self, error: Exception) -> None:
        # What is wrong with the checkout itself is so until it is touched.
        self._beside = self._beside if isinstance(error, ValueError) else None
        reason = hg.told(error) if isinstance(error, ToolFailed) else str(error)
        self.left.clear()
        self._has_local, self._base = False, _Base()
        self._record = replace(self._record, full=reason, state="")
        # That a program is missing is said once, however many checkouts there are.
        missing = isinstance(error, ToolMissing)
        self._note = reason if missing else f"{to_line(self.path) or '.'}: stored in full: {reason}"

    # -- svn -------------------------------------------------------------------------------------

    def _read_svn(self, own: bytes) -> None:
        state = svn_store.state_of(self._folder)
        facts = svn_store.about(self._folder)
        server = Server(self._folder, "svn", facts["url"], (facts["revision"],), facts["uuid"])
        url = without_credentials(facts["url"])
        self._record = replace(self._record, url=url, branch=facts["branch"], revision=facts["revision"], state=state)
        self._rely_on(server)
        self._leave_svn(own, svn_store.only_here(self._folder))
        before = self._held()
        if state and before and before.record.state == state:
            self._base = _Base(self._joined(record.INDEX), self._joined(lean.TEXTS))
        if self._base.index and self._base.texts:
            return
        known = {text.entry.path: text for text in self._texts()}
        texts = svn_store.base_of(self._folder, known)
        self._base = _Base(index.encode(text.entry for text in texts), svn_store.encode_texts(texts))

    def _texts(self) -> list[svn_store.Text]:
        with suppress(CorruptionError):
            return svn_store.decode_texts(self._joined(lean.TEXTS), self._entries())
        return []

    def _leave_svn(self, own: bytes, only_here: set[bytes]) -> None:
        if not only_here:
            self.left[own] = Left(frozenset((b"pristine", b"tmp")))
            return
        self.left[own] = Left(frozenset((b"tmp",)))
        shards = {name.partition(b"/")[0] for name in only_here}
        self.left[own + b"/pristine"] = Left(frozenset(shards), all_but=True)
        for shard in shards:
            names = {name.partition(b"/")[2] for name in only_here if name.startswith(shard + b"/")}
            self.left[own + b"/pristine/" + shard] = Left(frozenset(names), all_but=True)

    # -- hg --------------------------------------------------------------------------------------

    def _read_hg(self, own: bytes) -> None:
        where = hg_store.place_of(self._folder, self._asked)
        url = without_credentials(where.url)
        self._record = replace(self._record, url=url, branch=where.branch, revision=where.base)
        self._rely_on(Server(self._folder, "hg", where.url, where.relied))
        if hg.shared_of(self._folder) != self._folder / ".hg":
            self._beside = None
        self._has_local = where.has_local
        before = self._held()
        if before and before.record.revision == where.base:
            self._base = _Base(self._joined(record.INDEX))
        if not self._base.index and where.base:
            known = {entry.path: entry for entry in self._entries()}
            known_at = before.record.revision if before and known else ""
            found = hg_store.base_of(self._folder, self._asked, where.base, known, known_at)
            self._base = _Base(index.encode(found))
        self.left[own] = Left(hg_store.CACHES)
        self.left[own + b"/store"] = Left(hg_store.KEPT, all_but=True)

    # -- the last snapshot's ---------------------------------------------------------------------

    def _held(self) -> Attached | None:
        """It, when it has a base."""
        previous = self._previous
        return previous if previous and previous.has_base and previous.record.vcs == self._checkout.vcs else None

    def _joined(self, name: bytes) -> bytes:
        """A file that is attached to it; empty for none."""
        with suppress(CorruptionError, NotFoundError):
            # What is damaged `verify` names; here it is made anew.
            if held := self._held():
                return record.joined(self._history, held.files, name)
        return b""

    def _entries(self) -> list[IndexEntry]:
        """The files of its base."""
        data = self._joined(record.INDEX)
        return index.decode_plain(data) if data else []

    # -- while the project is walked -------------------------------------------------------------

    def digest(self, folder: bytes) -> bytes:
        """Changes with what the base has in a folder of the checkout."""
        return self._tree.digest(folder)

    def visited(self, folder: bytes) -> None:
        """A walk comes by a folder of the checkout."""
        self._tree.visited(folder)

    def present(self, folder: bytes, name: bytes) -> None:
        """A folder, which a walk looks at, has a file or symlink of this name."""
        self._tree.present(folder, name)

    @property
    def was_met(self) -> bool:
        """Whether a walk came by its top folder."""
        return self._tree.was_met

    def protects(self, folder: bytes, name: bytes) -> tuple[str, bool]:
        """Why a file or symlink need not be stored, empty when it must be; whether a look may be late."""
        same, late = self._tree.is_base(folder, name)
        return (f"{PROTECTED}{self._place()}" if same else ""), late

    def _place(self) -> str:
        said = self._record
        revision = said.revision[:12] if said.vcs == "hg" else f"r{said.revision}"
        return f"{said.vcs}: at {revision} on {said.branch or said.url}"

    # -- what the snapshot says of it ------------------------------------------------------------

    @property
    def vcs(self) -> str:
        """Of whom it is."""
        return self._checkout.vcs

    def note(self) -> Iterator[str]:
        """What people are to know about it."""
        if self._note:
            yield self._note

    def attachments(self, walked: Walked) -> Iterator[Attachment]:
        """The record and what belongs to it, by the names they are attached under. After the walk."""
        if self._has_local:
            # A failure here is the snapshot's: what no remote has would not be in it.
            yield from record.pieces(lean.BUNDLE, hg_store.bundle(self._folder, self._asked))
        for name, content in ((record.INDEX, self._base.index), (lean.TEXTS, self._base.texts)):
            held = self._held()
            if held and content and content == self._joined(name):
                yield from ((piece, Stored(stored.blob)) for piece, stored in record.stored(held.files, name))
            else:
                yield from record.pieces(name, content)
        before = self._held()
        deleted = self._tree.deleted(walked, before.deleted if before else None)
        yield lean.RECORD, lean.encode(replace(self._record, deleted=tuple(map(to_text, deleted))))

    def beside(self) -> Beside | None:
        """What all this depends on outside of the checkout; None where that is not known."""
        return self._beside
