"""Verbs that look at what was saved: log, show, ls, cat, diff."""

from __future__ import annotations

import stat
import sys
from argparse import ArgumentParser, Namespace
from codecs import getincrementaldecoder
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO, TextIO, cast

from gitvault.cli import render
from gitvault.cli.arguments import (
    SNAPSHOT,
    add_selection,
    count,
    date,
    facts,
    filled,
    inner_path,
    names,
    pair,
    tag,
    wrong,
)
from gitvault.core.models import Filter
from gitvault.core.utils.names import to_line, to_text
from gitvault.errors import NotFoundError
from gitvault.personas.base import Answer, Session, Verb

if TYPE_CHECKING:
    from gitvault.core.models import Difference, Entry, Problem, Snapshot

DIFFERENT = 1
_MANY_A_DAY = 50
# Of a file that becomes JSON: what is held at once.
_PIECE = 1 << 20


# ----------------------------------------------------------------------------------------------- log


def _configure_log(parser: ArgumentParser) -> None:
    parser.add_argument("project", metavar="PROJECT", type=filled(str), nargs="?", help="only this project's")
    add_selection(parser, "only those projects'")
    parser.add_argument(
        "--tag", metavar="T", type=tag, action="append", default=[], help="only with this tag; repeatable"
    )
    parser.add_argument(
        "--meta", metavar="KEY=VALUE", type=pair, action="append", default=[], help="only with this fact; repeatable"
    )
    parser.add_argument("--since", metavar="DATE", type=date(end=False), help="not before: 2026-01-02, yesterday ...")
    parser.add_argument("--until", metavar="DATE", type=date(end=True), help="not after: 2026-01-02, 2 days ago ...")
    parser.add_argument("-n", metavar="COUNT", type=count, help="only the newest COUNT")
    parser.add_argument("--all", action="store_true", help=f"also of days with more than {_MANY_A_DAY}, one a line")


def _log(session: Session, arguments: Namespace) -> Answer:
    metadata = facts(arguments.meta)
    if arguments.project and arguments.select:
        raise wrong("give a PROJECT or --select")
    found = session.vault.list_snapshots(
        Filter(
            project=arguments.project,
            projects=frozenset(names(session, arguments.select)),
            tags=frozenset(arguments.tag),
            metadata=metadata,
            since=arguments.since,
            until=arguments.until,
            limit=arguments.n,
        )
    )
    folded = {} if arguments.all else _folded(found)
    rows = []
    for snapshot in found:
        many = folded.get(snapshot.id)
        if many != 0:
            note = f"... and {many - 1:,} older ones of this day" if many else _note(snapshot)
            project = render.line(snapshot.project)
            rows.append((snapshot.id[: render.SHORT], render.local(snapshot.time), project, note))
    hints = [f"{session.command} show {found[0].id[: render.SHORT]}"] if found else []
    return Answer(
        [render.snapshot_document(snapshot) for snapshot in found],
        render.table(rows) if found else ["no snapshots"],
        [*hints, *([f"{session.command} log --all"] if folded else [])],
    )


def _folded(found: Sequence[Snapshot]) -> dict[str, int]:
    """Of days with very many snapshots of a project those in the middle: the newest with their number, the others 0.

    What somebody has tagged, and the day's newest and oldest, stay.
    """
    days: dict[tuple[str, str], list[Snapshot]] = {}
    for snapshot in found:
        days.setdefault((snapshot.project, render.local(snapshot.time)[:10]), []).append(snapshot)
    middles = ([one for one in day[1:-1] if not one.tags] for day in days.values() if len(day) > _MANY_A_DAY)
    return {one.id: 0 if number else len(middle) for middle in middles for number, one in enumerate(middle)}


def _note(snapshot: Snapshot) -> str:
    tags = f"[{', '.join(map(render.line, snapshot.tags))}]" if snapshot.tags else ""
    return " ".join(filter(None, (render.subject(snapshot.message), tags)))


# ---------------------------------------------------------------------------------------------- show


def _configure_show(parser: ArgumentParser) -> None:
    parser.add_argument("snapshot", metavar="SNAPSHOT", type=filled(str), help=SNAPSHOT)


def _show(session: Session, arguments: Namespace) -> Answer:
    snapshot = session.vault.get_snapshot_info(arguments.snapshot)
    short = snapshot.id[: render.SHORT]
    return Answer(
        render.snapshot_document(snapshot),
        _show_lines(snapshot),
        [f"{session.command} ls {short}", f"{session.command} restore {short} --to DIR"],
    )


def _show_lines(snapshot: Snapshot) -> Iterator[str]:
    facts = {
        "snapshot": snapshot.id,
        "project": snapshot.project,
        "time": f"{render.local(snapshot.time)} ({render.iso(snapshot.time)})",
        "files": f"{snapshot.files:,}, {render.size(snapshot.bytes)}",
        "tags": ", ".join(snapshot.tags),
        "meta": ", ".join(f"{key}={value}" for key, value in sorted(snapshot.metadata.items())),
        "machine": snapshot.host,
        "trigger": snapshot.trigger,
        "restored": f"from {snapshot.restored_from}" if snapshot.restored_from else "",
    }
    for name, value in facts.items():
        if value:
            yield f"{name + ':':10}{render.line(value)}"
    if snapshot.message.strip():
        yield ""
        yield from (f"    {render.line(text)}".rstrip() for text in snapshot.message.strip().splitlines())


# ------------------------------------------------------------------------------------------------ ls


def _configure_ls(parser: ArgumentParser) -> None:
    parser.add_argument("snapshot", metavar="SNAPSHOT", type=filled(str), help=SNAPSHOT)
    what = "a folder or file in it (else: everything)"
    parser.add_argument("path", metavar="PATH", type=filled(inner_path), nargs="?", default=b"", help=what)
    parser.add_argument("-r", "--recursive", action="store_true", help="folders inside folders too")


def _ls(session: Session, arguments: Namespace) -> Answer:
    problems: list[Problem] = []
    entries = session.vault.entries(
        arguments.snapshot, arguments.path, recursive=arguments.recursive, damaged=problems.append
    )
    if arguments.json:
        return Answer([_entry_document(entry) for entry in entries], problems=problems)
    return Answer([], map(_entry_line, entries), problems=problems)


def _entry_document(entry: Entry) -> dict[str, object]:
    return {
        "path": to_text(entry.path),
        "kind": entry.kind,
        "mode": f"{entry.mode:04o}",
        "size": entry.size,
        "time": render.iso_ns(entry.mtime_ns) if entry.mtime_ns else None,
    }


_TYPE_BITS = {"file": stat.S_IFREG, "folder": stat.S_IFDIR, "symlink": stat.S_IFLNK}


def _entry_line(entry: Entry) -> str:
    mode = stat.filemode(_TYPE_BITS[entry.kind] | entry.mode)
    slash = "/" if entry.kind == "folder" else ""
    # What version control holds has no time of its own.
    time = render.local_ns(entry.mtime_ns) if entry.mtime_ns else f"{'-':16}"
    return f"{mode}  {entry.size:>13,}  {time}  {to_line(entry.path)}{slash}"


# ----------------------------------------------------------------------------------------------- cat


def _configure_cat(parser: ArgumentParser) -> None:
    parser.add_argument("file", metavar="SNAPSHOT:PATH", help=f"SNAPSHOT: {SNAPSHOT}")


def _cat(session: Session, arguments: Namespace) -> Answer:
    snapshot, path = _split(session, arguments.file)
    problems: list[Problem] = []
    if not arguments.json:
        session.vault.read_file(snapshot, path, sys.stdout.buffer, damaged=problems.append)
        return Answer({}, problems=problems)
    # Read twice, held never: how it is to be encoded, and that it is whole, is known at its end only.
    about = _Measured()
    session.vault.read_file(snapshot, path, cast(BinaryIO, about), damaged=problems.append)
    about.close()
    document = {"snapshot": snapshot, "path": to_text(path), "size": about.size, "encoding": about.encoding}

    def write(out: TextIO) -> None:
        begun = render.json_text({**document, "content": ""})
        out.write(begun.removesuffix('"}'))
        content = _Encoded(out, about.encoding)
        session.vault.read_file(snapshot, path, cast(BinaryIO, content))
        content.close()
        out.write('"}\n')

    return Answer(write, problems=problems)


class _Measured:
    """A target that counts, and finds out whether what is written to it is UTF-8."""

    def __init__(self) -> None:
        self.size = 0
        self.encoding = "utf-8"
        self._decoder = getincrementaldecoder("utf-8")()

    def write(self, data: bytes | memoryview) -> int:
        """Take the next bytes."""
        self.size += len(data)
        self._decode(data)
        return len(data)

    def close(self) -> None:
        """All was written."""
        self._decode(b"", final=True)

    def _decode(self, data: bytes | memoryview, *, final: bool = False) -> None:
        if self.encoding == "utf-8":
            try:
                self._decoder.decode(bytes(data), final)
            except UnicodeDecodeError:
                self.encoding = "base64"


class _Encoded:
    """A target that writes on what it is given as the inside of a JSON string."""

    def __init__(self, out: TextIO, encoding: str) -> None:
        from binascii import b2a_base64

        self._out = out
        self._base64 = b2a_base64
        self._decoder = getincrementaldecoder("utf-8")() if encoding == "utf-8" else None
        self._left = b""

    def write(self, data: bytes | memoryview) -> int:
        """Write the next bytes."""
        for at in range(0, len(data), _PIECE):
            self._piece(self._left + data[at : at + _PIECE])
        return len(data)

    def close(self) -> None:
        """Write what waits for more."""
        self._out.write(self._base64(self._left, newline=False).decode())

    def _piece(self, data: bytes) -> None:
        if self._decoder:
            self._out.write(render.json_text(self._decoder.decode(data))[1:-1])
            return
        whole = len(data) // 3 * 3
        self._out.write(self._base64(data[:whole], newline=False).decode())
        self._left = data[whole:]


def _split(session: Session, text: str) -> tuple[str, bytes]:
    """SNAPSHOT:PATH in two. Names, dates and paths may hold colons: the longest left side that is a snapshot counts."""
    cuts = [at for at, char in enumerate(text) if char == ":"]
    if not cuts:
        raise NotFoundError(f"{text}: expected SNAPSHOT:PATH, as in {session.command} cat acme:src/main.c")
    for at in reversed(cuts[1:]):
        try:
            return session.vault.resolve(text[:at]), inner_path(text[at + 1 :])
        except NotFoundError:
            continue
    return session.vault.resolve(text[: cuts[0]]), inner_path(text[cuts[0] + 1 :])


# ---------------------------------------------------------------------------------------------- diff


def _configure_diff(parser: ArgumentParser) -> None:
    parser.add_argument("a", metavar="A", type=filled(str), help=SNAPSHOT)
    parser.add_argument("b", metavar="B", type=filled(str), help="the same; usually the newer one")
    look = "what changed in images, models and layers, as pictures; A and B may also be two files or folders"
    parser.add_argument("--visual", action="store_true", help=look)
    where = "with --visual: a file or folder in both"
    parser.add_argument("path", metavar="PATH", type=filled(inner_path), nargs="?", help=where)
    new = "with --visual: a new folder for pictures and a page, index.html; (else: figures only)"
    parser.add_argument("-o", "--output", metavar="DIR", type=filled(str), help=new)
    parser.add_argument("--overwrite", action="store_true", help="DIR may be there already")


def _diff(session: Session, arguments: Namespace) -> Answer:
    if arguments.visual:
        from gitvault.cli.visual import visual

        return visual(session, arguments)
    if arguments.path is not None or arguments.output or arguments.overwrite:
        raise wrong("PATH, -o and --overwrite go with --visual")
    found = session.vault.get_version_diff(arguments.a, arguments.b)
    different = bool(found.added or found.changed or found.deleted or found.moved)
    return Answer(
        render.difference_document(found),
        _diff_lines(found),
        code=DIFFERENT if different else 0,
    )


def _diff_lines(found: Difference) -> Iterator[str]:
    named = [
        *((path, f"A\t{to_line(path)}") for path in found.added),
        *((path, f"M\t{to_line(path)}") for path in found.changed),
        *((path, f"D\t{to_line(path)}") for path in found.deleted),
        *((move.source, f"R\t{to_line(move.source)}\t{to_line(move.target)}") for move in found.moved),
    ]
    return (line for _, line in sorted(named))


VERBS = (
    Verb("log", "list snapshots, newest first", "git-vault log acme --since yesterday -n 10", _configure_log, _log),
    Verb("show", "tell all about one snapshot", "git-vault show acme~2", _configure_show, _show),
    Verb("ls", "list the files of a snapshot", "git-vault ls acme src -r", _configure_ls, _ls),
    Verb("cat", "print a file of a snapshot", "git-vault cat acme@{yesterday}:src/main.c", _configure_cat, _cat),
    Verb(
        "diff",
        "tell what changed between two snapshots",
        "git-vault diff acme~1 acme\ngit-vault diff --visual acme~1 acme renders -o what-changed",
        _configure_diff,
        _diff,
    ),
)
