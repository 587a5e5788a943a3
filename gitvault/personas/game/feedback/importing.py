"""How records come into the vault: read, checked, made nobody's, compared with what is there, kept in segments.

A segment is durable before the table knows of it, so a run that was killed is completed by running it again.
"""

from __future__ import annotations

import hashlib
import json
import marshal
import secrets
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from gitvault.core.models import SnapshotId
from gitvault.core.utils.process import ahead
from gitvault.core.versioning.edits import stamp
from gitvault.errors import GitVaultError
from gitvault.personas.game.feedback import reading, segments
from gitvault.personas.game.feedback.identities import scrubber, without_addresses
from gitvault.personas.game.feedback.lines import digest, encode
from gitvault.personas.game.feedback.queries import Wanted, find
from gitvault.personas.game.feedback.reading import Read
from gitvault.personas.game.feedback.record import VERSION, Feedback
from gitvault.personas.game.feedback.rows import Row, row_of
from gitvault.personas.game.feedback.sources import ADDED, Source
from gitvault.personas.game.feedback.table import Table
from gitvault.personas.game.players import hasher

if TYPE_CHECKING:
    from gitvault.core.interfaces import Progress
    from gitvault.vault import Vault

NOTES = "feedback"
LISTED = 10_000
"""How many rejected records are listed; all are counted."""
_BATCH, _SEGMENT = 20_000, 8 << 20
# Of marshal's formats the one that looks for no object twice: a third of the time.
_PLAIN = 2


_Made = tuple[int, bytes, int, int, str, tuple[Any, ...]]
"""A record's number, its line, and what `rows.Row` begins with."""


class _Batch(NamedTuple):
    """What was read at one go. Plain tuples: another process may have made it."""

    read: int
    made: list[_Made]
    refused: list[tuple[int, str]]
    is_last: bool


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that was not kept."""

    record: int
    """Its number in the file, from 1."""
    reason: str


@dataclass(slots=True)
class Imported:
    """What came of an import: `read` is what the other three numbers add up to."""

    read: int = 0
    imported: int = 0
    duplicates: int = 0
    """Records that were there already, saying the same."""
    rejected: list[Rejected] = field(default_factory=list)
    """At most `LISTED`."""
    rejected_count: int = 0
    changed: int = 0
    """Those of the rejected whose id is there with another content, of which the first is kept."""

    def reject(self, number: int, reason: str) -> None:
        """Count a record that is not kept."""
        self.rejected_count += 1
        if len(self.rejected) < LISTED:
            self.rejected.append(Rejected(number, reason))


def import_file(
    vault: Vault,
    project: str,
    file: BinaryIO,
    source: Source,
    *,
    encoding: str = "",
    build: str = "",
    branch: str = "",
    progress: Progress | None = None,
) -> Imported:
    """Keep the records of an export. `build`, `branch`: of records that do not say.

    Raises UnsupportedMedia for a file that cannot be such an export, LockedError, StorageFullError, OSError.
    """
    content = reading.opened(file)
    records = (
        reading.csv_records(content, encoding) if source.rows else reading.json_records(content, source.lists, encoding)
    )
    return keep(vault, project, records, source, build=build, branch=branch, progress=progress)


def keep(
    vault: Vault,
    project: str,
    records: Iterable[Read],
    source: Source,
    *,
    build: str = "",
    branch: str = "",
    progress: Progress | None = None,
) -> Imported:
    """Keep records that were read, see `import_file`."""
    done = Imported()
    made = _maker(hasher(vault), source, build, branch)
    segments.settle(segments.area_of(vault, project))
    with Table(vault, project) as table, table.loading():
        [(before,)] = table.db.execute("SELECT ifnull(max(row), 0) FROM said")
        with closing(_beside(_batches(records, made))) as batches:
            for read, new, refused, _ in batches:
                done.read += read
                for number, reason in refused:
                    done.reject(number, reason)
                _store(table, new, done)
                if progress:
                    progress("importing", done.read, done.read)
        _summarise(vault, table, source.name, before)
    return done


def _batches(records: Iterable[Read], made: Callable[[dict[str, Any]], dict[str, Any]]) -> Iterator[_Batch]:
    """The records as they are kept, as many at a time as make a segment."""
    waiting: list[_Made] = []
    refused: list[tuple[int, str]] = []
    read = size = 0
    for number, document, reason in records:
        read += 1
        try:
            if document is None:
                raise ValueError(reason)
            said = made(document)
            line = encode(said)
            key, told, build, cells, _, _ = row_of(said, digest(line))
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            refused.append((number, _why(error)))
        else:
            waiting.append((number, line, key, told, build, cells))
            size += len(line)
        if size > _SEGMENT or read == _BATCH:
            yield _Batch(read, waiting, refused, is_last=False)
            waiting, refused = [], []
            read = size = 0
    yield _Batch(read, waiting, refused, is_last=True)


def _beside(batches: Iterator[_Batch]) -> Generator[_Batch, None, None]:
    """The same batches. Where there are several, a copy of this process makes the next while one is stored."""
    first = next(batches)
    beside = None if first.is_last else ahead(marshal.dumps(tuple(batch), _PLAIN) for batch in batches)
    try:
        yield first
        yield from (_Batch(*marshal.loads(message)) for message in beside) if beside else batches
    finally:
        if beside:
            beside.close()


def keep_said(vault: Vault, project: str, records: Iterable[Mapping[str, Any]], *, build: str = "") -> Imported:
    """Keep records in our own fields, see `sources.FIELDS`; `build`: of those that do not say."""
    read = (Read(number, dict(record)) for number, record in enumerate(records, 1))
    return keep(vault, project, read, ADDED, build=build)


def add(vault: Vault, project: str, said: Mapping[str, Any]) -> Feedback:
    """Keep one record in our own fields, of now if it does not say. Raises GitVaultError for what is none."""
    own = str(said.get("id") or secrets.token_hex(16))
    record = {**said, "id": own, "time": said.get("time") or stamp(vault.now())}
    done = keep_said(vault, project, [record])
    if done.rejected:
        raise GitVaultError(f"{done.rejected[0].reason}; nothing was added")
    with Table(vault, project) as table:
        return next(find(table, Wanted(id=_id(ADDED.name, own))))


def _id(source: str, own: str) -> str:
    return hashlib.sha256(f"{source}\0{own}".encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _summarise(vault: Vault, table: Table, source: str, before: int) -> None:
    """Note on each snapshot how many records of it came, so that `git log --notes` shows them."""
    counts: dict[SnapshotId, dict[str, int]] = {}
    for snapshot, kind, count in table.db.execute(
        "SELECT snapshot, kind, count(*) FROM said JOIN tie ON tie = number"
        " WHERE row > ? AND snapshot <> '' GROUP BY 1, 2",
        (before,),
    ):
        counts.setdefault(SnapshotId(snapshot), {})[kind] = count
    if counts:
        at = stamp(vault.now())
        lines = {one: [{"source": source, "t": at, "records": kinds}] for one, kinds in counts.items()}
        vault.annotate_all(NOTES, lines, f"Feedback from {source}")


def _maker(
    hashed: Callable[[str], str], source: Source, build: str, branch: str
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What makes a record of a source's own."""
    scrub = scrubber(hashed, source.identities)
    name, read = source.name, source.read

    def made(raw: dict[str, Any]) -> dict[str, Any]:
        said = read(raw)
        said["was"] = clean = scrub(raw)
        own = said.pop("own", "") or json.dumps(clean, sort_keys=True)
        said["id"] = _id(name, own)
        said["v"], said["source"] = VERSION, name
        if player := said.get("player"):
            said["player"] = hashed(player)
        if text := said.get("text"):
            said["text"] = without_addresses(text)
        if build and not said.get("build"):
            said["build"] = build
        if branch and not said.get("branch"):
            said["branch"] = branch
        return said

    return made


def _store(table: Table, made: Sequence[_Made], done: Imported) -> None:
    """Keep those that are new."""
    there = table.held([key for _, _, key, *_ in made])
    lines: list[bytes] = []
    rows: list[Row] = []
    at = 0
    for number, line, key, told, build, cells in made:
        if key not in there:
            there[key] = told
            rows.append(Row(key, told, build, cells, at, len(line)))
            lines.append(line)
            at += len(line)
        elif there[key] == told:
            done.duplicates += 1
        else:
            done.changed += 1
            done.reject(number, "its id is there with another content; the first is kept")
    if lines:
        segment = segments.add(table.area, lines, f"Feedback: {len(lines)} records")
        table.put(segment, rows)
        table.noted()
        done.imported += len(lines)


def _why(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"has no {error.args[0]}"
    return " ".join(str(error).split())[:300] or type(error).__name__
