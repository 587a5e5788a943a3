"""The verb for playtests: record, list, show, export, compare, replay, map."""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from gitvault.cli import render
from gitvault.cli.arguments import count, disk_path, facts, filled, pair, project, wrong
from gitvault.errors import ExistsError, NotFoundError
from gitvault.personas.base import Answer, Session, Verb

if TYPE_CHECKING:
    from gitvault.personas.game.playtests import Session as Playtest

_INCOMPLETE = 1
_DIFFERENT = 1


def _configure(parser: ArgumentParser) -> None:
    actions = "record | listen | list | show ID | export ID | compare A B | replay ID | map ID|BUILD | funnel BUILD"
    parser.add_argument("action", choices=_ACTIONS, metavar="ACTION", help=actions)
    parser.add_argument("words", metavar="ID|BUILD", type=filled(str), nargs="*", help="a session, or all of a build")
    parser.add_argument("--project", metavar="P", type=filled(str), help="of this project")
    what = "record: the build, where the session does not say; list: of this build"
    parser.add_argument("--build", metavar="B", type=filled(str), help=what)
    parser.add_argument("--platform", metavar="N", type=filled(str), help="record: what it ran on")
    parser.add_argument("--player", metavar="WHO", type=filled(str), help="record: kept as a hash only")
    parser.add_argument("--meta", metavar="K=V", type=pair, action="append", default=[], help="record: a setting")
    parser.add_argument(
        "--from", dest="source", metavar="FILE", type=filled(disk_path), help="record: JSON lines, or -"
    )
    parser.add_argument(
        "--attach", metavar="FILE", type=filled(disk_path), action="append", default=[], help="record: a save game"
    )
    parser.add_argument("--port", metavar="N", type=count, help="listen: instead of 9247; 0: any that is free")
    parser.add_argument("--count", metavar="N", type=count, help="listen: end after so many sessions")
    parser.add_argument("--at", metavar="S", type=float, help="replay: seconds after the start")
    parser.add_argument(
        "--event",
        metavar="E",
        type=filled(str),
        action="append",
        default=[],
        help="map: instead of deaths; funnel: steps",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=filled(disk_path),
        help="export, map: into this file; compare: a picture, too",
    )


def _run(session: Session, arguments: Namespace) -> Answer:
    wanted = {"record": 0, "listen": 0, "list": 0, "compare": 2}.get(arguments.action, 1)
    if len(arguments.words) != wanted:
        raise wrong(f"playtest {arguments.action}: expected {render.plural(wanted, 'session or build')}")
    return _ACTIONS[arguments.action](session, arguments)


def _record(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.game.playtests import keep, lines_of

    if not arguments.source:
        raise wrong("playtest record: expected --from FILE")
    name = project(session, arguments.project)
    for file in arguments.attach:
        if not os.path.isfile(file):
            raise NotFoundError(f"{render.disk_text(file)}: no such file to attach")
    said: dict[str, Any] = {
        "build": arguments.build or "",
        "platform": arguments.platform or "",
        "player": arguments.player or "",
        "about": facts(arguments.meta),
        "attachments": [Path(file) for file in arguments.attach],
    }
    from_pipe = arguments.source == "-"
    with open(sys.stdin.fileno() if from_pipe else arguments.source, "rb", closefd=not from_pipe) as file:
        kept = keep(session.vault, name, lines_of(file), **said)
    one = kept.session
    lines = [
        f"kept {one.id}: {render.plural(one.events, 'event')}, {render.plural(one.states, 'state')}"
        + (f", build {render.line(one.build)}" if one.build else ""),
        *(f"  line {bad.line}: {render.line(bad.reason)}" for bad in kept.rejected[:20]),
    ]
    document = {**_document(one), "rejected": [asdict(bad) for bad in kept.rejected]}
    hints = [f"{session.command} playtest show {one.id}"]
    return Answer(document, lines, hints, code=_INCOMPLETE if kept.rejected else 0)


def _listen(session: Session, arguments: Namespace) -> Answer:
    from gitvault.core.models import Problem
    from gitvault.personas.game import GameVault

    played = session.vault.project(project(session, arguments.project))
    kept: list[Playtest] = []
    problems: list[Problem] = []
    game = GameVault(played.name, played.path, vault=session.vault_path)
    with (
        suppress(KeyboardInterrupt),
        game,
        game.listen(arguments.port, build=arguments.build or "") as (port, arriving),
    ):
        # Somebody waits for this line, to start the game.
        render.say(f"listening on 127.0.0.1:{port} for {render.line(played.name)}; Ctrl-C ends it")
        for one in islice(arriving, arguments.count):
            if isinstance(one, Problem):
                problems.append(one)
                continue
            kept.append(one)
            render.say(f"kept {one.id}: {render.plural(one.events, 'event')}, {render.line(one.platform)}".rstrip(", "))
    lines = [f"{render.plural(len(kept), 'session')} kept"]
    return Answer([_document(one) for one in kept], lines, problems=problems)


def _document(one: Playtest) -> dict[str, Any]:
    return {
        "id": one.id,
        "project": one.project,
        "build": one.build,
        "platform": one.platform,
        "player": one.player or None,
        "start": one.start,
        "end": one.end,
        "events": one.events,
        "states": one.states,
        "cut": one.cut,
        "snapshot": one.snapshot or None,
        "settings": dict(one.settings or {}),
        "attachments": list(one.attachments),
    }


def _list(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.game.playtests import sessions

    if arguments.project:
        session.vault.project(arguments.project)
    found = [one for one in sessions(session.vault, arguments.project) if arguments.build in (None, one.build)]
    rows = (
        (
            one.id,
            render.line(one.project),
            render.line(one.build),
            render.line(one.platform),
            one.start[:16].replace("T", " "),
            render.plural(one.events, "event"),
            "cut off" if one.cut else "",
        )
        for one in found
    )
    none = [f"no playtests yet; {session.command} playtest record --project P --build B --from FILE"]
    return Answer([_document(one) for one in found], render.table(rows) if found else none)


def _show(session: Session, arguments: Namespace) -> Answer:
    from datetime import datetime

    from gitvault.personas.game.playtests import events, find, levels

    one = find(session.vault, arguments.words[0])
    happened = events(session.vault, one)
    lasted = (datetime.fromisoformat(one.end) - datetime.fromisoformat(one.start)).total_seconds()
    way = levels(happened, lasted)
    counts: dict[str, int] = {}
    for event in happened:
        if "e" in event:
            counts[event["e"]] = counts.get(event["e"], 0) + 1
    document = {
        **_document(one),
        "seconds": lasted,
        "counts": counts,
        "levels": list(way.path),
        "level_seconds": dict(way.seconds),
        "deaths": dict(way.deaths),
    }
    return Answer(document, _shown(one, lasted, counts, way.path))


def _shown(one: Playtest, lasted: float, counts: dict[str, int], path: tuple[str, ...]) -> Iterator[str]:
    yield f"{one.id} of {render.line(one.project)} {render.line(one.build)}".rstrip()
    yield f"  {one.start[:16].replace('T', ' ')} UTC, {render.seconds(lasted)}{', cut off' if one.cut else ''}"
    if one.platform or one.player:
        yield f"  {render.line(one.platform)} {one.player[:12]}".rstrip()
    for key, value in sorted((one.settings or {}).items()):
        yield f"  {render.line(key)} = {render.line(str(value))}"
    if path:
        yield f"  way: {render.line(' > '.join(path))}"
    rows = ((f"{count:,}", render.line(name)) for name, count in sorted(counts.items()))
    yield from (f"  {line}" for line in render.table(rows))


def _export(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.game.playtests import events, find

    one = find(session.vault, arguments.words[0])
    happened = events(session.vault, one)
    lines = (json.dumps(event, sort_keys=True) for event in happened)
    if arguments.output:
        with _created(arguments.output) as file:
            file.writelines(f"{line}\n" for line in lines)
        document = {"output": render.disk_text(arguments.output), "events": len(happened)}
        return Answer(document, [f"{len(happened):,} lines"])
    return Answer([dict(event) for event in happened], lines)


def _created(path: str) -> TextIO:
    try:
        return open(path, "x", encoding="utf-8")
    except FileExistsError:
        raise ExistsError(f"{render.disk_text(path)}: is there already; choose another name") from None


def _check_free(path: str) -> None:
    if os.path.lexists(path):
        raise ExistsError(f"{render.disk_text(path)}: is there already; choose another name")


def _of(session: Session, arguments: Namespace, word: str) -> list[Playtest]:
    """The sessions of a build, or the one of an id."""
    from gitvault.personas.game.playtests import find, sessions

    found = [one for one in sessions(session.vault, arguments.project) if one.build == word]
    return found or [find(session.vault, word)]


def _compare(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.game.playtests import Side, compare, events, side_by_side

    if arguments.output:
        _check_free(arguments.output)
    sides = []
    for word in arguments.words:
        found = _of(session, arguments, word)
        happened = [events(session.vault, one) for one in found]
        sides.append(Side(word, compare(zip(found, happened, strict=True)), happened))
    a, b = (side.figures for side in sides)
    said = {}
    if arguments.output:
        Path(arguments.output).write_bytes(side_by_side(*sides))
        said = {"output": render.disk_text(arguments.output)}
    different = asdict(a) != asdict(b)
    names = sorted({*a.per_hour, *b.per_hour})
    rows = [
        ("sessions", f"{a.sessions:,}", f"{b.sessions:,}"),
        ("players", f"{a.players:,}", f"{b.players:,}"),
        ("hours", f"{a.hours:.2f}", f"{b.hours:.2f}"),
        ("cut off", f"{a.crashes:,}", f"{b.crashes:,}"),
        *((f"{render.line(name)} an hour", *(f"{x.per_hour.get(name, 0):.1f}" for x in (a, b))) for name in names),
        *(
            (f"{render.line(level)}, seconds", *(f"{x.level_seconds.get(level, 0):.1f}" for x in (a, b)))
            for level in sorted({*a.level_seconds, *b.level_seconds})
        ),
        *(
            (f"{render.line(level)}, reached by", *(f"{x.reached.get(level, 0) / x.sessions:.0%}" for x in (a, b)))
            for level in sorted({*a.reached, *b.reached})
        ),
    ]
    head = ("", *(render.line(word) for word in arguments.words))
    document = {"a": asdict(a), "b": asdict(b), **said}
    return Answer(document, render.table([head, *rows]), code=_DIFFERENT if different else 0)


def _replay(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.game.playtests import at, events, find

    if arguments.at is None:
        raise wrong("playtest replay: expected --at SECONDS")
    found = at(events(session.vault, find(session.vault, arguments.words[0])), arguments.at)
    return Answer(found, [render.json_text(found, indent=1)])


def _funnel(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.game.playtests import events, funnel

    steps = funnel((events(session.vault, one) for one in _of(session, arguments, arguments.words[0])), arguments.event)
    first = steps[0].sessions if steps else 0
    rows = [
        (
            render.line(one.name),
            f"{one.sessions:,}",
            f"{one.sessions / first:.0%}" if first else "",
            "#" * round(40 * one.sessions / first) if first else "",
        )
        for one in steps
    ]
    return Answer([asdict(one) for one in steps], render.table(rows, right=(1, 2)) if rows else ["no levels in it"])


def _map(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.game.playtests import events, heat_map

    if not arguments.output:
        raise wrong("playtest map: expected -o FILE.png")
    _check_free(arguments.output)
    happened = (events(session.vault, one) for one in _of(session, arguments, arguments.words[0]))
    picture, count = heat_map(happened, frozenset(arguments.event)) if arguments.event else heat_map(happened)
    Path(arguments.output).write_bytes(picture)
    where = render.disk_text(arguments.output)
    return Answer({"output": where, "events": count}, [f"{where}: {render.plural(count, 'event')}"])


_ACTIONS = {
    "record": _record,
    "listen": _listen,
    "list": _list,
    "show": _show,
    "export": _export,
    "compare": _compare,
    "replay": _replay,
    "map": _map,
    "funnel": _funnel,
}


VERBS = (
    Verb(
        "playtest",
        "keep sessions of players with their build; look at them, compare builds",
        "git-vault playtest record --project lantern --build alpha-1 --from events.jsonl\n"
        "git-vault playtest compare alpha-1 alpha-2",
        _configure,
        _run,
    ),
)
