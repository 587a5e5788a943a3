"""How answers look: JSON for programs, lines for people."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gitvault.core.utils.names import one_line, to_line, to_text
from gitvault.core.utils.sizes import size as size

if TYPE_CHECKING:
    from gitvault.core.models import Difference, Problem, Project, Snapshot

SHORT = 12
"""Digits of a snapshot's id that people are shown."""
_LISTED_PROBLEMS = 20
# They stand only within strings, where each may be written so.
_BIDI = (0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))
_CONTROLS = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), *_BIDI)}


def plural(count: int, noun: str) -> str:
    """`1 file`, `1,234 files`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def seconds(duration: float) -> str:
    """`0.84 s`, `3 min 20 s`."""
    if duration < 60:
        return f"{duration:.2f} s" if duration < 10 else f"{duration:.0f} s"
    return f"{duration // 60:.0f} min {duration % 60:.0f} s"


def iso(moment: datetime) -> str:
    """`2026-01-02T03:04:05Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def iso_ns(nanoseconds: int) -> str:
    """`iso` of a file's time; years that no datetime can hold become the nearest one it can."""
    return iso(_moment(nanoseconds))


def local(moment: datetime) -> str:
    """`2026-01-02 03:04`, in the system's time zone."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")


def local_ns(nanoseconds: int) -> str:
    """`local` of a file's time."""
    return local(_moment(nanoseconds))


def _moment(nanoseconds: int) -> datetime:
    # The years 2 to 9998: every time zone's local time stays within datetime's 1 to 9999.
    return datetime.fromtimestamp(min(max(nanoseconds // 10**9, -62_104_060_800), 253_370_764_800), UTC)


def disk_text(path: str) -> str:
    """A path of this system as JSON holds it."""
    return to_text(os.fsencode(path))


def line(text: str) -> str:
    """Text of any origin as one line that a terminal cannot mistake for commands."""
    return to_line(text.encode("utf-8", "surrogateescape"))


def json_text(document: object, *, indent: int | None = None) -> str:
    """A document as JSON, without the control characters that JSON itself would let through to a terminal."""
    import json

    text = json.dumps(document, ensure_ascii=False, indent=indent)
    return text.translate(_CONTROLS)


def say(message: str) -> None:
    """One line on standard error; names in it are escaped already."""
    print(f"git-vault: {one_line(message)}", file=sys.stderr)


def error_text(error: Exception) -> str:
    """What an error says, with the file it is about."""
    if not isinstance(error, OSError):
        return str(error)
    reason = error.strerror or str(error) or type(error).__name__
    return f"{os.fsdecode(error.filename)}: {reason}" if isinstance(error.filename, str | bytes) else reason


def subject(message: str) -> str:
    """A message's first line."""
    stripped = message.strip()
    return line(stripped.splitlines()[0]) if stripped else ""


def table(rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> Iterator[str]:
    """Rows as aligned columns; those numbered in `right` are aligned to the right."""
    held = [tuple(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*held, strict=True)]
    for row in held:
        cells = (
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()


def problems_document(problems: Iterable[Problem]) -> list[dict[str, str]]:
    """Problems for JSON."""
    return [{"path": to_text(problem.path), "reason": problem.reason} for problem in problems]


def problems_lines(problems: Sequence[Problem]) -> Iterator[str]:
    """Problems for people, the first twenty of them."""
    if problems:
        yield f"  {plural(len(problems), 'problem')}:"
    for problem in problems[:_LISTED_PROBLEMS]:
        # Readers of formats name the file themselves.
        reason = line(problem.reason).removeprefix(f"{to_line(problem.path).rpartition('/')[2]}: ")
        yield f"    {to_line(problem.path) or '.'}: {reason}"
    if len(problems) > _LISTED_PROBLEMS:
        yield f"    and {len(problems) - _LISTED_PROBLEMS:,} more; --json lists all"


def project_document(project: Project) -> dict[str, object]:
    """A project for JSON."""
    return {
        "name": project.name,
        "path": disk_text(project.path),
        "host": project.host,
        "added": iso(project.added),
        "client": project.client,
        "stack": project.stack,
        "phase": project.phase,
        "tags": list(project.tags),
        "relations": [{"kind": kind, "project": other} for kind, other in project.relations],
        "mode": project.mode,
        "archived": project.archived,
    }


def snapshot_document(snapshot: Snapshot) -> dict[str, object]:
    """A snapshot for JSON."""
    return {
        "snapshot": snapshot.id,
        "project": snapshot.project,
        "time": iso(snapshot.time),
        "message": snapshot.message,
        "tags": list(snapshot.tags),
        "metadata": dict(snapshot.metadata),
        "files": snapshot.files,
        "bytes": snapshot.bytes,
        "host": snapshot.host,
        "trigger": snapshot.trigger,
        "restored_from": snapshot.restored_from,
    }


def difference_document(found: Difference) -> dict[str, object]:
    """What differs between two snapshots, in JSON."""
    lists = {"added": found.added, "changed": found.changed, "deleted": found.deleted}
    return {
        **{what: [to_text(path) for path in paths] for what, paths in lists.items()},
        "moved": [{"from": to_text(move.source), "to": to_text(move.target)} for move in found.moved],
    }
