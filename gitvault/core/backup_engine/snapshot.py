"""From disk to snapshot.

One pass down the folders: an unchanged folder costs its listing and nothing else; of a changed one, each
file that its stat does not vouch for is read. Small files go into git packs, large ones into the chunk
store, both while the walk goes on. Then, from the leaves up, the trees of touched folders; then the barrier,
the commits, the refs. Nothing is visible before the refs move, and the cache is written after.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from gitvault.core.backup_engine import outside
from gitvault.core.backup_engine.baseline import last_trees, prepare_cache, rows_for, rows_of_gone
from gitvault.core.backup_engine.intake import Intake
from gitvault.core.backup_engine.reading import (
    NOT_REGULAR,
    Batch,
    Limits,
    Outcome,
    Slice,
    read_stable,
    saved,
    tree_mode,
)
from gitvault.core.backup_engine.secrets import secret
from gitvault.core.backup_engine.trees import Alone, Company, Done, Walked, attach, build_trees
from gitvault.core.backup_engine.untouched import to_look_at
from gitvault.core.beside import Beside
from gitvault.core.interfaces import Progress, Rules, StorageManager
from gitvault.core.models import ObjectId, Pointer, Problem, Secret, SnapshotId, SnapshotReport
from gitvault.core.scan import Folder, Partly, Same, Untouched, collection_paused, walk
from gitvault.core.stat_cache import (
    CacheDamaged,
    Known,
    Row,
    Stat,
    StatCache,
    join_packed,
    pack_known,
    racy_ns,
    stat_of,
)
from gitvault.core.storage import pointers
from gitvault.core.touched import Touched, Watch
from gitvault.core.utils.attributes import not_kept
from gitvault.core.utils.files import open_source, read_link
from gitvault.core.utils.names import is_special, to_line
from gitvault.core.versioning import meta, operations, origins
from gitvault.core.versioning.history import Details, GitHistory
from gitvault.core.versioning.objects import MODE_SYMLINK
from gitvault.core.versioning.packfile import NewPack
from gitvault.errors import CorruptionError, NotFoundError, StorageFullError

# Folders whose files are being read: bounds memory, and lets the walk run ahead of the reading.
_FILES_UNDER_WAY = 60_000
# What a snapshot that is safe already spends on parity; the background does the rest.
_PARITY_SECONDS = 30
# Large files that are waited for at once.
_LARGE_AT_ONCE = 8


@dataclass(slots=True)
class _Pending:
    """A changed folder, until everything in it is read."""

    folder: Folder
    previous: dict[bytes, Known]
    lines: dict[bytes, str]
    """Meta lines of the last snapshot that can be written again as they are."""
    results: dict[bytes, tuple[Known, str]] = field(default_factory=dict)
    """name -> what the snapshot holds and its meta line."""
    ordinary: list[tuple[list[tuple[bytes, Stat]], Batch]] = field(default_factory=list)
    """New files, not in `results`: their names and stats, and what was made of them."""
    size: int = 0
    """Of the `ordinary` files, in bytes."""
    key: int = 0
    """In `_Run.pending`, while files are under way."""
    waiting: int = 0
    steady: bool = True
    """Whether the folder's signature vouches for what was saved."""

    def path(self, name: bytes) -> bytes:
        """Of an entry, relative to the root."""
        return self.folder.path + b"/" + name if self.folder.path else name

    def at(self, name: bytes) -> bytes:
        """Where on disk an entry is, relative to the root."""
        return self.folder.at + b"/" + name if self.folder.at else self.path(name)


class _Run:
    """The state of one snapshot being taken."""

    def __init__(
        self,
        root: Path,
        history: GitHistory,
        store: StorageManager,
        cache: StatCache,
        limits: Limits,
        number: int,
        progress: Progress | None,
    ) -> None:
        self.root = root
        self.history = history
        self.store = store
        self.cache = cache
        self.progress = progress
        self.number = number
        self.limits = limits
        self.problems: list[Problem] = []
        self.secrets: list[Secret] = []
        self.notes: list[str] = []
        self.new = self.changed = self.deleted = 0
        self.bytes_read = self.bytes_found = 0
        self.pack = history.new_pack()
        self.intake = Intake(root, limits, self.pack, history.objects, history.git_dir, number)
        self.pending: dict[int, _Pending] = {}
        """Folders with files under way, by number."""
        self.folders = 0
        self.large: deque[tuple[Future[Outcome], _Pending, bytes, Stat]] = deque()
        """In the order in which they are stored."""
        # More than cores: one waits for its lock, or its windows, while others work. Of two cores 7.8 % stood idle
        # with two, 5.6 when less was handed over between threads, 4.4 with three.
        self.pool = ThreadPoolExecutor(3, thread_name_prefix="store")
        self.made: list[NewPack] = []
        self.done: list[Done] = []
        self.kept: dict[bytes, Row] = {}
        """Unreadable folders that stay as the last snapshot has them."""
        self.kept_files = self.kept_bytes = 0
        self.forgotten: Mapping[str, str] = {}
        """Content that was purged from history, and when."""

    # -- one folder ------------------------------------------------------------------------------

    def take(self, folder: Same | Folder | Untouched) -> None:
        """Begin with a folder the walk found."""
        if isinstance(folder, Untouched):
            self.kept[folder.path] = folder.row
            return
        if isinstance(folder, Same):
            self.done.append(Done(folder.path, folder.folders, folder.row))
            return
        previous = self.cache.entries(folder.path) if folder.row else {}
        pending = _Pending(folder, previous, self._lines(folder))
        self.deleted += len(previous.keys() - {name for name, _ in folder.entries} - folder.elsewhere)
        pending.steady = bool(folder.signature)
        owner = folder.stat.st_uid, folder.stat.st_gid
        files: list[tuple[bytes, Stat]] = []
        for name, st in folder.entries:
            known = previous.get(name)
            found = stat_of(st)
            if known and known.stat == found and name in pending.lines:
                pending.results[name] = known, pending.lines[name]
            elif stat.S_ISLNK(st.st_mode):
                self._take_symlink(pending, pending.at(name), st, owner)
            else:
                files.append((name, found))
                self.bytes_found += st.st_size
        if files:
            self.folders += 1
            self.pending[self.folders] = pending
            pending.key, pending.waiting = self.folders, len(files)
            self.intake.submit(Slice(pending.key, folder.at or folder.path, owner, files))
        else:
            self._finish(pending)
        self._collect(block_over=_FILES_UNDER_WAY)

    def _lines(self, folder: Folder) -> dict[bytes, str]:
        """The lines of the last snapshot, unless the folder's owner, which they leave out, is another now."""
        if not folder.row:
            return {}
        try:
            blob = self.history.blob(ObjectId(folder.row.meta_blob))
        except (CorruptionError, NotFoundError):
            return {}
        own, lines = meta.split(blob)
        same = own.split(" ", 4)[3] == f"{folder.stat.st_uid}:{folder.stat.st_gid}"
        return lines if same else {}

    def _take_symlink(self, pending: _Pending, path: bytes, st: os.stat_result, owner: tuple[int, int]) -> None:
        name = path.rpartition(b"/")[2]
        try:
            target = read_link(f"{os.fspath(self.root)}/{os.fsdecode(path)}")
        except OSError as error:
            gone = error.errno in (errno.ENOENT, errno.EINVAL)
            self._keep(pending, name, "" if gone else f"link cannot be read: {error.strerror}")
            return
        blob = self.pack.add(b"blob", target)
        # Nothing reads a link twice to be sure: a fresh one is looked at again next time.
        torn = racy_ns(st, time.time_ns()) > 0
        outcome = saved(path, blob, st, None, len(target), owner, kind="symlink", torn=torn, escape=is_special(name))
        self._saved(pending, name, stat_of(st), outcome)

    def _collect(self, block_over: int = 0) -> None:
        """Take what has come back; wait while more than `block_over` files are under way."""
        done = self.intake.ready()
        while done or self.intake.under_way > block_over:
            for part, batch in done or self.intake.next():
                self._returned(part, batch)
            done = self.intake.ready()
            self._report()
        while len(self.large) > block_over:
            # Not for each: waking up takes the interpreter from those who store. Those before may take longer.
            for place in min(len(self.large), _LARGE_AT_ONCE) - 1, 0:
                self.large[place][0].exception()
            self._take_stored()
        self._take_stored()

    def _take_stored(self) -> None:
        """Those that are stored, up to the first that is not."""
        while self.large and self.large[0][0].done():
            self._stored(*self.large.popleft())
        self._report()

    def _report(self) -> None:
        if self.progress:
            self.progress("saving", self.bytes_read, self.bytes_found)

    def _returned(self, part: Slice, batch: Batch) -> None:
        pending = self.pending[part.key]
        for place, outcome in batch.odd:
            name, found = part.files[place]
            if outcome.large:
                self._begin_large(pending, name, found)
            else:
                self._settle(pending, name, found, outcome)
        files = batch.ordinary(part)
        if pending.previous or self.forgotten:
            for name, found, blob, line in batch.rows(files):
                self.bytes_read += self._saved(pending, name, found, Outcome(blob, line))
        elif files:
            size = sum(found.size for _, found in files)
            self.new += len(files)
            self.bytes_read += size
            pending.size += size
            pending.ordinary.append((files, batch))
        if files:
            self._settled(pending, len(files))

    def _begin_large(self, pending: _Pending, name: bytes, found: Stat) -> None:
        known = pending.previous.get(name)
        base = self._pointer(known.blob) if known and known.tree_mode != MODE_SYMLINK else None
        path = pending.at(name)
        owner = pending.folder.stat.st_uid, pending.folder.stat.st_gid
        self.large.append((self.pool.submit(self._store, path, base, owner), pending, name, found))

    def _store(self, path: bytes, base: Pointer | None, owner: tuple[int, int]) -> Outcome:
        """Runs on a thread of the pool: one large file into the chunk store. The blob is the pointer's text."""
        name = os.fsdecode(path)
        made: list[Pointer] = []

        def save(descriptor: int, _size: int) -> bytes:
            os.lseek(descriptor, 0, os.SEEK_SET)
            with open(descriptor, "rb", buffering=0, closefd=False) as source:
                made.append(self.store.store_file(source, base=base, file_extension=os.path.splitext(name)[1].lower()))
            return b""

        try:
            fd = open_source(f"{os.fspath(self.root)}/{name}")
        except FileNotFoundError:
            return Outcome(gone=True)
        except OSError as error:
            return Outcome(problem=f"cannot be read: {error.strerror}")
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return Outcome(problem=NOT_REGULAR)
            _, found, stable = read_stable(fd, save)
            pointer = made[-1]
            torn = not stable or pointer.size != found.st_size
            text = pointers.encode(pointer)
            base_name = path.rpartition(b"/")[2]
            escape = is_special(base_name)
            outcome = saved(path, text, found, fd, pointer.size, owner, pointer=pointer.oid, torn=torn, escape=escape)
            return outcome._replace(secret=secret(base_name, b"") if self.limits.secrets else "")
        except OSError as error:
            return Outcome(problem=f"cannot be read: {error.strerror}")
        finally:
            os.close(fd)

    def _stored(self, future: Future[Outcome], pending: _Pending, name: bytes, found: Stat) -> None:
        outcome = future.result()
        if outcome.line:
            if self.forgotten and (pointer := pointers.decode(outcome.blob)):
                self._note_forgotten(pending.path(name), pointer.oid)
            outcome = outcome._replace(blob=self.pack.add(b"blob", outcome.blob))
        self._settle(pending, name, found, outcome)

    def _settle(self, pending: _Pending, name: bytes, found: Stat, outcome: Outcome) -> None:
        if outcome.line:
            self.bytes_read += self._saved(pending, name, found, outcome)
        else:
            self._keep(pending, name, outcome.problem)
        self._settled(pending, 1)

    def _settled(self, pending: _Pending, files: int) -> None:
        pending.waiting -= files
        if not pending.waiting:
            del self.pending[pending.key]
            self._finish(pending)

    def _saved(self, pending: _Pending, name: bytes, found: Stat, outcome: Outcome) -> int:
        """Take in what was read, given the walk's stat; its size."""
        blob, line, said, size, tree_name, torn = outcome[:6]
        if said is None:
            said, size = found, found.size
        mode = MODE_SYMLINK if stat.S_ISLNK(said.mode) else tree_mode(said.mode)
        since = self.number
        known = pending.previous.get(name)
        if self.forgotten and (known is None or known.blob != blob):
            self._note_forgotten(pending.path(name), blob.hex())
        if known is None:
            self.new += 1
        elif known.blob != blob or known.tree_mode != mode:
            self.changed += 1
        else:
            since = known.since
        if said is not found:
            if torn or said != found:
                # It changed since the walk saw it: the folder's signature does not vouch for what was saved.
                pending.steady = False
            if torn and mode != MODE_SYMLINK:
                reason = "kept changing while it was read; saved as last read, the next snapshot looks again"
                self.problems.append(Problem(pending.path(name), reason))
        if outcome.secret and (known is None or not self._was_secret(name, known)):
            self.secrets.append(Secret(pending.path(name), outcome.secret))
        pending.results[name] = Known(said, mode, tree_name or name, blob, since), line
        return size

    def _note_forgotten(self, path: bytes, digest: str) -> None:
        if digest in self.forgotten:
            self.notes.append(f"{to_line(path)} holds what was forgotten on {self.forgotten[digest][:10]}; saved again")

    def _was_secret(self, name: bytes, known: Known) -> bool:
        """Whether the version saved before looked like one, too: then it has been said."""
        try:
            return bool(secret(name, self.history.blob(ObjectId(known.blob))))
        except (CorruptionError, NotFoundError):
            return False

    def _keep(self, pending: _Pending, name: bytes, reason: str) -> None:
        """A file that is not to be had: without a reason it is gone; else its last saved version stays."""
        pending.steady = False
        known = pending.previous.get(name)
        if not reason:
            self.deleted += known is not None
            return
        path = pending.path(name)
        line = pending.lines.get(name)
        if known and line:
            reason += "; the version saved before is kept"
            pending.results[name] = known, line
        self.problems.append(Problem(path, reason))

    def _pointer(self, blob: bytes) -> Pointer | None:
        if self.history.objects.size(ObjectId(blob)) > 1024:
            return None
        return pointers.decode(self.history.blob(ObjectId(blob)))

    def _finish(self, pending: _Pending) -> None:
        """Everything in the folder is read: its meta blob, its row, its part of the tree."""
        folder = pending.folder
        entries: list[tuple[bytes, int, ObjectId]] = []
        packed: list[bytes] = []
        for files, batch in pending.ordinary:
            packed.append(batch.packed)
            blobs = batch.blobs
            for at, (name, found) in zip(range(0, len(blobs), 20), files, strict=True):
                entries.append((name, tree_mode(found.mode), ObjectId(blobs[at : at + 20])))
        if len(pending.ordinary) == 1 and not pending.results:
            lines = [pending.ordinary[0][1].text]
        else:
            named = [(name, line) for files, batch in pending.ordinary for name, _, _, line in batch.rows(files)]
            named += [(name, line) for name, (_, line) in pending.results.items()]
            lines = [line for _, line in sorted(named)]
        for name, (known, _) in pending.results.items():
            entries.append((known.tree_name, known.tree_mode, ObjectId(known.blob)))
            packed.append(pack_known(name, known))
            pending.size += known.stat.size
        st = folder.stat
        text = meta.encode(stat.S_IMODE(st.st_mode), st.st_mtime_ns, (st.st_uid, st.st_gid), lines, folder.xattrs)
        self.done.append(
            Done(
                folder.path,
                folder.folders,
                None,
                entries,
                self.pack.add(b"blob", text),
                folder.signature if pending.steady else b"",
                folder.scope,
                len(entries),
                pending.size,
                join_packed(len(entries), packed),
            )
        )

    # -- the whole -------------------------------------------------------------------------------

    def collect(self) -> None:
        """Wait for everything under way."""
        self._collect()
        self.intake.end()

    def finish(self) -> list[NewPack]:
        """Every pack of this run, synced under a temporary name."""
        self.pool.shutdown()
        own = self.pack.finish()
        self.made = [*self.intake.finish(), *([own] if own else [])]
        return self.made

    def abandon(self) -> None:
        """Leave nothing behind but what was published."""
        for pack in self.made:
            self.history.disk.unlink(pack.pack)
            self.history.disk.unlink(pack.index)
        self.pool.shutdown(cancel_futures=True)
        self.intake.abandon()
        self.pack.abandon()
        self.store.discard()

    def summary(self, project: str) -> str:
        """The message of a snapshot nobody described."""
        found = ((self.new, "new"), (self.changed, "changed"), (self.deleted, "deleted"))
        counts = [f"{count} {what}" for count, what in found if count]
        return f"{project}: {', '.join(counts) or 'attributes only'}"

    def count_untouched(self, rows: Mapping[bytes, Row]) -> None:
        """What is in folders that nobody looked at: all that there was, but for that of the given rows."""
        about = self.cache.about()
        looked_at = [row for path, row in rows.items() if path not in self.kept]
        self.kept_files += int(about["files"]) - sum(row.files for row in looked_at)
        self.kept_bytes += int(about["bytes"]) - sum(row.size for row in looked_at)

    def settle_missing(self, rows: dict[bytes, Row], visited: set[bytes]) -> list[bytes]:
        """Folders that the walk did not reach: unreadable ones stay as they were, the others' paths are returned."""
        unreadable = {problem.path for problem in self.problems} & rows.keys() - visited
        gone: list[bytes] = []
        for path, row in rows.items():
            if path in visited:
                continue
            keeper = next((p for p in unreadable if path == p or path.startswith(p + b"/")), None)
            if keeper is None:
                gone.append(path)
                self.deleted += row.files
                continue
            if path == keeper:
                self.kept[path] = row
            self.kept_files += row.files
            self.kept_bytes += row.size
        return gone


class Links(NamedTuple):
    """Files from elsewhere that a snapshot carries."""

    name: str
    """Of the folder in the project that they are put into."""
    files: Sequence[str]
    """Absolute paths."""


@collection_paused()
def take_snapshot(
    root: Path,
    details: Details,
    *,
    history: GitHistory,
    store: StorageManager,
    cache: StatCache,
    rules: Rules,
    limits: Limits,
    redundancy: int = 0,
    admit: Callable[[int], None] = lambda size: None,
    company: Company | None = None,
    beside: Callable[[], Beside | None] = Beside,
    links: Links | None = None,
    watch: Watch | None = None,
    scan: bool = False,
    progress: Progress | None = None,
) -> SnapshotReport:
    """Save `root` as the project's next snapshot; it survives a power cut when this returns.

    `redundancy`: per cent of parity. `admit`: told the bytes of git packs before they get their names; raises
    StorageFullError to keep them out. `company`: what belongs to the snapshot beside the project's own files.
    `beside`: asked after the walk what outside of the project the rules depend on; None: that cannot be told.
    `links`: files from elsewhere that it carries, see `outside`.
    `watch`: asked what to look at; with `scan` all is looked at nevertheless, and it is told what it missed.
    The message, files and bytes of `details` are filled in. The caller holds the vault's lock.
    Raises OSError when the root cannot be read, StorageFullError, and CacheDamaged before anything is saved.
    """
    started = time.perf_counter()
    begun_ns = time.time_ns()
    company = company or Alone()
    # Where there is no room for anything, that is said before all is read.
    admit(1)
    history.objects.refresh()
    origin = origins.ref_of(os.fspath(root))
    if source := history.refs.read(origin):
        details = replace(details, restored_from=history.identify(source))
    parent = history.tip(details.project)
    number = prepare_cache(cache, history, parent, root) + 1
    seen = watch.touched(cache.about().get("watch", b"")) if watch else None
    touched = None if scan or links else to_look_at(seen, cache, details.time.timestamp())
    touched = company.widened(touched) if touched else None
    rows = rows_for(touched, cache)
    run = _Run(root, history, store, cache, limits, number, progress)
    with suppress(CorruptionError, NotFoundError):
        run.forgotten = operations.tombstones(history)
    if parent is None and (limit := not_kept()):
        run.notes.append(limit)
    try:
        visited: set[bytes] = set()
        changed: set[bytes] = set()
        untouched: set[bytes] = set()
        missed: list[bytes] = []
        partly = Partly(touched, cache.rows_below) if touched else None
        linked: list[Folder] = []
        if links:
            linked = outside.folders(root, links.name, links.files, rows, run.problems)
            if b"" in rows:
                # What the disk lists vouches for no folder that comes from elsewhere.
                rows[b""] = replace(rows[b""], signature=b"")
        walked = walk(root, rows, rules, run.problems, run.notes, vault=history.git_dir, partly=partly)
        for folder in chain(walked, linked):
            if linked and not folder.path:
                assert isinstance(folder, Folder)
                folder.folders.append(linked[0].path)
                folder.signature = b""
            visited.add(folder.path)
            if isinstance(folder, Folder):
                changed.add(folder.path)
            elif isinstance(folder, Untouched):
                untouched.add(folder.path)
            if seen and not seen.covers(folder.path) and _differs(folder):
                missed.append(folder.path)
            run.take(folder)
        run.collect()
        if touched:
            rows |= rows_of_gone(rows, visited, cache)
            run.count_untouched(rows)
        gone = run.settle_missing(rows, visited)
        tree = attach(history, run.pack, company.attachments(Walked(frozenset(changed), frozenset(untouched))))
        trees = build_trees(history, run.pack, cache, run.done, run.kept, tree)
        trees.files += run.kept_files
        trees.size += run.kept_bytes
        unchanged = last_trees(history, parent) == (trees.tree, trees.meta)
        if unchanged:
            assert parent is not None
            run.abandon()
            # The newest snapshot is acknowledged again: make sure of what an interrupted run renamed.
            store.flush()
            history.publish([])
            history.sync_tip(details.project)
            snapshot, stored = history.identify(parent), 0
        else:
            message = details.message or run.summary(details.project)
            full = replace(details, message=message, files=trees.files, bytes=trees.size)
            recorded = history.record(run.pack, trees.tree, trees.meta, full)
            stored = store.flush()
            packs = run.finish()
            size = sum(pack.bytes for pack in packs)
            admit(size)
            history.publish(packs)
            history.advance(recorded)
            stored += size
            snapshot = SnapshotId(recorded.commit.hex())
    except BaseException:
        run.abandon()
        raise
    if source:
        # Said now; or nothing changed, and the newest snapshot is where the content comes from.
        history.refs.delete(origin)
    if watch and seen and missed:
        run.notes.extend(_missed(watch, cache.about().get("watch", b""), missed))
    kept = Beside.of(cache.about().get("beside", b"")) if touched else Beside()
    around = _outside((company.beside(), beside(), kept), begun_ns) if seen else b""
    about = {
        **_watched(seen if around else None, run.problems, trees.rows),
        "beside": around,
        "snapshot": snapshot.encode(),
        "root": os.fsencode(root),
        "number": b"%d" % (number - unchanged),
        "files": b"%d" % trees.files,
        "bytes": b"%d" % trees.size,
        "time": b"%d" % int(details.time.timestamp()),
        "problems": b"%d" % len(run.problems),
    }
    version = None if unchanged else (number, snapshot)
    try:
        cache.replace(about, trees.rows, trees.moved, gone, version)
    except CacheDamaged:
        # The snapshot is taken; the next one reads everything.
        cache.forget()
    if redundancy:
        from gitvault.core.storage import parity

        try:
            parity.protect(history.git_dir, redundancy, history.disk, _PARITY_SECONDS)
        except (OSError, StorageFullError) as error:
            run.notes.append(f"parity not written ({error}); the next maintain does it")
    return SnapshotReport(
        snapshot,
        details.project,
        unchanged,
        trees.files,
        run.new,
        run.changed,
        run.deleted,
        run.bytes_read,
        stored,
        time.perf_counter() - started,
        tuple(sorted(run.problems, key=lambda problem: problem.path)),
        tuple(run.notes),
        tuple(sorted(run.secrets, key=lambda secret: secret.path)),
    )


def _watched(
    seen: Touched | None, problems: Sequence[Problem], rows: Iterable[tuple[bytes, Row, bytes]]
) -> dict[str, bytes]:
    """From when on the table can be believed, but for the folders that have to be looked at again."""
    # What could not be read is looked at, and said, every time.
    if seen is None or problems:
        return {"watch": b"", "again": b""}
    return {"watch": seen.mark, "again": b"\0".join(path for path, row, _ in rows if not row.signature)}


def _outside(parts: Iterable[Beside | None], read_ns: int) -> bytes:
    """What lies outside of the project and counts, as it is now; b"" when that cannot be told."""
    whole = Beside()
    for part in parts:
        if part is None:
            return b""
        whole |= part
    return whole.noted(read_ns)


def _differs(folder: Same | Folder | Untouched) -> bool:
    """Whether a folder is not as it was seen, under the same rules, when all of it could be saved."""
    row = folder.row
    return isinstance(folder, Folder) and row is not None and row.signature != b"" and row.scope == folder.scope


def _missed(watch: Watch, mark: bytes, found: Iterable[bytes]) -> Iterator[str]:
    """Changes that a watcher did not tell of, though it was asked after they were seen: it is not to be believed."""
    now = watch.touched(mark)
    if now is None or not (wrong := [path for path in found if not now.covers(path)]):
        return
    watch.distrust(wrong[0])
    where = to_line(wrong[0]) or "the project's own folder"
    yield f"the watcher missed a change in {where}; what it says is not believed until it is started again"
