"""The verb for feedback: import, add, list, query, report, purge; what rose and why is in `insight`."""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitvault.cli import insight, render
from gitvault.cli.arguments import count, date, disk_path, filled, project, wrong
from gitvault.errors import NotFoundError
from gitvault.personas.base import Answer, Session, Verb

if TYPE_CHECKING:
    from gitvault.personas.game.feedback import BuildFigures, Feedback, Imported, Report, Wanted

_INCOMPLETE = 1
_SHOWN = 50
_LISTED = 20
_LENGTH = 72


def _configure(parser: ArgumentParser) -> None:
    actions = "import FILE | add | list | query | report | spikes | suspects SIGNATURE | categories | purge"
    parser.add_argument("action", choices=_ACTIONS, metavar="ACTION", help=actions)
    parser.add_argument(
        "file",
        metavar="FILE|SIGNATURE",
        type=filled(disk_path),
        nargs="?",
        help="import: an export, or -; suspects: of what",
    )
    parser.add_argument("--project", metavar="P", type=filled(str), help="of this project")
    sources = "steam itch discord github gitlab sentry unity backtrace gameanalytics unity-analytics playfab csv jsonl"
    parser.add_argument("--source", metavar="S", type=filled(str), help=f"import, query: {sources}")
    parser.add_argument("--map", metavar="FILE", type=filled(disk_path), help="import: TOML, our field = their column")
    parser.add_argument("--encoding", metavar="E", type=filled(str), help="import: of a file not in UTF-8")
    parser.add_argument(
        "--build", metavar="B", type=filled(str), help="import, add: where it is not said; query: of it"
    )
    parser.add_argument("--branch", metavar="B", type=filled(str), help="import: whose players they are")
    parser.add_argument("--kind", metavar="K", type=filled(str), help="add, query: review, bug, crash ...")
    parser.add_argument("--text", metavar="T", type=filled(str), help="add: what was said; query: words in it")
    parser.add_argument(
        "--player", metavar="WHO", type=filled(str), help="add, query, purge: by name or id, or the hash"
    )
    parser.add_argument("--rating", metavar="R", type=float, help="add: from 0 to 1")
    parser.add_argument("--sig", metavar="SIG", type=filled(str), help="query: with this signature")
    parser.add_argument("--since", metavar="D", type=filled(date(end=False)), help="query: from then on")
    parser.add_argument("--until", metavar="D", type=filled(date(end=True)), help="query: until then")
    parser.add_argument("--limit", metavar="N", type=count, help="query: the newest so many; list: 50")
    parser.add_argument("--raw", action="store_true", help="query: with the source's own record")
    parser.add_argument("--group", action="store_true", help="query: what says the same in nearly the same words")
    parser.add_argument("--id", metavar="ID", type=filled(str), help="query, purge: this record")
    parser.add_argument("--from", dest="older", metavar="A", type=filled(str), help="suspects: build before")
    parser.add_argument("--to", dest="newer", metavar="B", type=filled(str), help="suspects: build it rose in")
    parser.add_argument("--yes", action="store_true", help="purge: do it")


def _run(session: Session, arguments: Namespace) -> Answer:
    word = {"import": "FILE", "suspects": "SIGNATURE"}.get(arguments.action)
    if (arguments.file is not None) != (word is not None):
        raise wrong(f"feedback {arguments.action}: {f'expected {word}' if word else 'takes no FILE'}")
    return _ACTIONS[arguments.action](session, arguments)


def _import(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.game import feedback

    if not arguments.source:
        raise wrong("feedback import: expected --source S")
    name = project(session, arguments.project)
    source = feedback.source(arguments.source, Path(arguments.map) if arguments.map else None)
    encoding = _encoding(arguments.encoding) if arguments.encoding else ""
    with ExitStack() as stack:
        here = arguments.file == "-"
        file = sys.stdin.buffer if here else stack.enter_context(open(arguments.file, "rb"))
        done = feedback.import_file(
            session.vault,
            name,
            file,
            source,
            encoding=encoding,
            build=arguments.build or "",
            branch=arguments.branch or "",
            progress=session.progress,
        )
    hints = [f"{session.command} feedback report --project {name}"]
    return Answer(asdict(done), _imported(done), hints, code=_INCOMPLETE if done.rejected_count else 0)


def _encoding(name: str) -> str:
    import codecs

    try:
        return codecs.lookup(name).name
    except LookupError:
        raise wrong(f"--encoding {name}: expected one that Python knows, such as cp1252") from None


def _imported(done: Imported) -> Iterator[str]:
    yield f"{render.plural(done.read, 'record')}: {done.imported:,} new, {done.duplicates:,} known"
    if done.rejected_count:
        yield f"  rejected: {done.rejected_count:,}"
    yield from (f"    {bad.record}: {render.line(bad.reason)}" for bad in done.rejected[:_LISTED])
    if done.rejected_count > _LISTED:
        yield f"    and {done.rejected_count - _LISTED:,} more"


def _add(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.game import feedback

    if not arguments.text:
        raise wrong("feedback add: expected --text T")
    said = {key: getattr(arguments, key) for key in ("text", "kind", "build", "branch", "player", "rating", "sig")}
    record = {key: value for key, value in said.items() if value is not None}
    one = feedback.add(session.vault, project(session, arguments.project), record)
    return Answer(_document(one, ""), _lines([one]))


def _projects(session: Session, arguments: Namespace) -> list[str]:
    """The project that is named, else those with feedback."""
    from gitvault.core.utils.names import from_ref_component

    if arguments.project:
        return [session.vault.project(arguments.project).name]
    prefix = "refs/vault/feedback/"
    return [from_ref_component(ref[len(prefix) :]) for ref in session.vault.history.refs.list(prefix)]


def _player(session: Session, who: str | None) -> str:
    """The hash of somebody, who is named as the source names them, or by the hash itself."""
    from gitvault.personas.game.players import hasher

    if who is None or re.fullmatch("[0-9a-f]{32}", who):
        return who or ""
    return hasher(session.vault)(who)


def _wanted(session: Session, arguments: Namespace) -> Wanted:
    from gitvault.personas.game.feedback import Wanted

    return Wanted(
        build=arguments.build or "",
        kind=arguments.kind or "",
        source=arguments.source or "",
        text=arguments.text or "",
        since=arguments.since,
        until=arguments.until,
        player=_player(session, arguments.player),
        sig=arguments.sig or "",
        id=arguments.id or "",
        limit=arguments.limit,
    )


def _query(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.game.feedback import Table, find

    wanted = _wanted(session, arguments)
    found: list[tuple[str, Feedback]] = []
    for name in _projects(session, arguments):
        with Table(session.vault, name) as table:
            found += ((name, one) for one in find(table, wanted, raw=arguments.raw))
    found.sort(key=lambda pair: pair[1].time, reverse=True)
    found = found[: wanted.limit]
    if arguments.group:
        return insight.groups(one for _, one in found)
    records = [_document(one, name, raw=arguments.raw) for name, one in found]
    none = ["no feedback that fits"]
    return Answer(records, _lines(one for _, one in found) if found else none)


def _list(session: Session, arguments: Namespace) -> Answer:
    if arguments.limit is None:
        arguments.limit = _SHOWN
    return _query(session, arguments)


def _document(one: Feedback, project: str, *, raw: bool = False) -> dict[str, Any]:
    # `asdict` copies all that is within: half of the time of an answer of thousands.
    said = {field.name: getattr(one, field.name) for field in fields(one) if raw or field.name != "raw"}
    if project:
        said["project"] = project
    said["stack"] = list(one.stack)
    said["time"] = one.time or None
    said["snapshot"] = one.snapshot or None
    return said


def _lines(found: Any) -> Iterator[str]:
    rows = []
    for one in found:
        text = " ".join(one.text.split())
        rows.append(
            (
                one.time[:16].replace("T", " "),
                render.line(one.source),
                render.line(one.kind),
                render.line(one.build or one.snapshot[: render.SHORT]),
                "" if one.rating is None else f"{one.rating:.0%}",
                render.line(text[:_LENGTH] + ("..." if len(text) > _LENGTH else "")),
            )
        )
    yield from render.table(rows)


def _report(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.game.feedback import Table, report

    name = project(session, arguments.project)
    with Table(session.vault, name) as table:
        found = report(table)
    document = {
        **asdict(found),
        "project": name,
        "signatures": [{"sig": sig, "players": players, "records": n} for sig, players, n in found.signatures],
        "builds": [{**asdict(one), "snapshot": one.snapshot or None} for one in found.builds],
    }
    return Answer(document, _reported(name, found))


def _reported(project: str, found: Report) -> Iterator[str]:
    if not found.records:
        yield f"{render.line(project)}: no feedback yet"
        return
    between = f", {found.first[:10]} to {found.last[:10]}" if found.first else ""
    yield (
        f"{render.line(project)}: {render.plural(found.records, 'record')} of {render.plural(found.players, 'player')}"
        f"{between}"
    )
    for what in (found.sources, found.kinds):
        yield f"  {', '.join(f'{count:,} {render.line(name)}' for name, count in what.items())}"
    head = ("build", "records", "players", "good", "sure", "")
    yield from render.table([head, *map(_build_row, found.builds[:_LISTED])], right=(1, 2, 3, 4))
    if len(found.builds) > _LISTED:
        yield f"and {len(found.builds) - _LISTED:,} more builds; --json lists all"
    if found.signatures:
        rows_of_signatures = (
            (f"{players:,}", f"{records:,}", render.line(sig[:_LENGTH])) for sig, players, records in found.signatures
        )
        yield from render.table([("players", "records", "signature"), *rows_of_signatures], right=(0, 1))


def _build_row(one: BuildFigures) -> tuple[str, ...]:
    name = ", ".join(map(render.line, one.names[:2])) + (" ..." if len(one.names) > 2 else "")
    named = f"{one.snapshot[: render.SHORT]} {name}".strip() if one.snapshot else f"unknown {name}".strip()
    return (
        named,
        f"{one.records:,}",
        f"{one.players:,}",
        "" if one.rating is None else f"{one.rating:.0%}",
        f"{one.confidence:.0%}" if one.snapshot else "",
        ", ".join(f"{count:,} {render.line(kind)}" for kind, count in one.kinds.items()),
    )


def _purge(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.game.feedback import Table, Wanted, count, purge

    if not (arguments.player or arguments.id):
        raise wrong("feedback purge: expected --player WHO or --id ID")
    wanted = Wanted(player=_player(session, arguments.player), id=arguments.id or "")
    purged = 0
    for name in _projects(session, arguments):
        with Table(session.vault, name) as table:
            purged += purge(table, wanted) if arguments.yes else count(table, wanted)
    if not purged:
        raise NotFoundError(
            "no feedback of theirs; a player is named as the source names them, by their id on Steam say"
        )
    what = render.plural(purged, "record")
    lines = [f"purged {what}" if arguments.yes else f"would purge {what}; --yes does it"]
    hints = [f"{session.command} sweep"] if arguments.yes else []
    return Answer({"purged": purged, "done": arguments.yes}, lines, hints)


_ACTIONS = {
    "import": _import,
    "add": _add,
    "list": _list,
    "query": _query,
    "report": _report,
    "spikes": insight.spikes,
    "suspects": insight.suspects,
    "categories": insight.categories,
    "purge": _purge,
}


VERBS = (
    Verb(
        "feedback",
        "keep what players say and what their games report, with the build it is about",
        "git-vault feedback import reviews.json --project lantern --source steam\n"
        "git-vault feedback query --build alpha-1 --kind crash --text 'save'",
        _configure,
        _run,
    ),
)
