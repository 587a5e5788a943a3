"""The verb for platform settings: capture, list, show, compare, drift."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitvault.cli import render
from gitvault.cli.arguments import SNAPSHOT, around, disk_path, filled, wrong
from gitvault.errors import NotFoundError
from gitvault.personas.base import Answer, Session, Verb

if TYPE_CHECKING:
    from gitvault.core.models import Problem
    from gitvault.personas.game.platforms import Capture, Drift, PlatformDifference, Read
    from gitvault.personas.game.platforms.settings import Values

_DIFFERENT = 1
_WIDE = 48


def _configure(parser: ArgumentParser) -> None:
    actions = "capture [PATH] | list | show [ID] | compare PLATFORM PLATFORM | drift [OLD [NEW]]"
    parser.add_argument("action", choices=_ACTIONS, metavar="ACTION", help=actions)
    what = "a folder, platforms (android, pc, ...), or captures by id, build or snapshot"
    parser.add_argument("words", metavar="WORD", type=filled(str), nargs="*", help=what)
    parser.add_argument("--project", metavar="P", type=filled(str), help="of this project")
    parser.add_argument("--build", metavar="B", type=filled(str), help="capture: of this build")
    parser.add_argument("--path", metavar="PATH", type=filled(disk_path), help="the settings in this folder")
    parser.add_argument("--snapshot", metavar="S", type=filled(str), help=f"those in a snapshot: {SNAPSHOT}")
    parser.add_argument("--on", metavar="PLATFORM", type=filled(str), help="show: what holds there")
    parser.add_argument("--all", action="store_true", help="compare, drift: list what is expected too")


def _run(session: Session, arguments: Namespace) -> Answer:
    least, most = _WORDS[arguments.action]
    if not least <= len(arguments.words) <= most:
        raise wrong(f"platform {arguments.action}: expected {_EXPECTED[arguments.action]}")
    if arguments.path and arguments.snapshot:
        raise wrong("--path and --snapshot: expected one of them")
    return _ACTIONS[arguments.action](session, arguments)


def _capture(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.game.platforms import capture

    folder = arguments.words[0] if arguments.words else arguments.path
    if bool(folder) == bool(arguments.snapshot):
        raise wrong("platform capture: expected PATH, or --snapshot S")
    snapshot = session.vault.resolve(arguments.snapshot) if arguments.snapshot else ""
    read = _in_snapshot(session, snapshot) if snapshot else _on_disk(folder)
    project = arguments.project or (
        session.vault.get_snapshot_info(snapshot).project if snapshot else _project_of(session, folder)
    )
    kept = capture(session.vault, project, read, build=arguments.build or "", snapshot=snapshot)
    problems = read.configuration.problems
    lines = [
        f"captured {render.line(kept.project)}: {kept.engine} {render.line(kept.version)}".rstrip()
        + f", {render.plural(kept.keys, 'setting')}, id {kept.id}",
        f"  platforms: {render.line(', '.join(kept.platforms))}",
    ]
    hints = [f"{session.command} platform compare PLATFORM PLATFORM"]
    return Answer(_document(kept) | _problems(problems), lines, hints, problems=problems)


def _project_of(session: Session, folder: str) -> str:
    """The project in which a folder lies; of none, the folder's name."""
    found = around(session, folder)
    return found.name if found else os.path.basename(os.path.realpath(folder)) or "platforms"


def _on_disk(folder: str) -> Read:
    from gitvault.personas.game.platforms import on_disk, read

    return read(on_disk(Path(os.path.abspath(folder))))


def _in_snapshot(session: Session, snapshot: str) -> Read:
    from gitvault.personas.game.platforms import in_snapshot, read

    return read(in_snapshot(session.vault, snapshot))


def _chosen(session: Session, arguments: Namespace, word: str = "") -> Read:
    """The settings that the arguments mean: a folder's, a snapshot's, a capture's; by default the newest capture's."""
    from gitvault.personas.game.platforms import captures, find, loaded

    if arguments.path:
        return _on_disk(arguments.path)
    if arguments.snapshot:
        return _in_snapshot(session, session.vault.resolve(arguments.snapshot))
    if word:
        try:
            return loaded(session.vault, find(session.vault, word, arguments.project))
        except NotFoundError as missing:
            try:
                return _in_snapshot(session, session.vault.resolve(word))
            except NotFoundError:
                raise missing from None
    known = captures(session.vault, arguments.project)
    newest = next(known, None)
    if newest is None:
        raise NotFoundError(f"nothing was captured yet; {session.command} platform capture PATH, or --path PATH")
    if others := sorted({one.project for one in known} - {newest.project}):
        raise wrong(f"--project P: which one? there are {', '.join(sorted([newest.project, *others]))}")
    return loaded(session.vault, newest)


def _document(one: Capture) -> dict[str, object]:
    return {
        **asdict(one),
        "platforms": list(one.platforms),
        "build": one.build or None,
        "snapshot": one.snapshot or None,
        "version": one.version or None,
    }


def _problems(problems: Sequence[Problem]) -> dict[str, object]:
    return {"problems": render.problems_document(problems)}


def _list(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.game.platforms import captures

    found = list(captures(session.vault, arguments.project))
    rows = (
        (
            one.id,
            render.line(one.project),
            one.time[:16].replace("T", " "),
            render.line(one.build),
            f"{one.engine} {render.line(one.version)}".rstrip(),
            render.plural(one.keys, "setting"),
            render.line(" ".join(one.platforms[:6])) + (" ..." if len(one.platforms) > 6 else ""),
        )
        for one in found
    )
    none = [f"nothing was captured yet; {session.command} platform capture PATH"]
    return Answer([_document(one) for one in found], render.table(rows) if found else none)


def _show(session: Session, arguments: Namespace) -> Answer:
    found = _chosen(session, arguments, *arguments.words).configuration
    document: dict[str, Any] = {
        "engine": found.engine,
        "version": found.version or None,
        "platforms": list(found.platforms),
        **_problems(found.problems),
    }
    if arguments.on:
        platform = found.platform(arguments.on)
        values = found.effective(platform)
        document |= {"platform": platform, "values": _values(values)}
        return Answer(document, _table((key, values[key].text, values[key].source) for key in sorted(values)))
    document["common"] = _values(found.common)
    document["own"] = {name: _values(values) for name, values in found.platforms.items()}
    return Answer(document, _shown(found.engine, found.version, found.common, found.platforms))


def _values(values: Values) -> dict[str, object]:
    return {key: value and {"value": value.text, "source": value.source} for key, value in values.items()}


def _shown(engine: str, version: str, common: Values, platforms: Mapping[str, Values]) -> Iterator[str]:
    yield f"{engine} {render.line(version)}".rstrip() + f", {render.plural(len(common), 'setting')} for all platforms"
    rows = ((render.line(name), f"{len(values):,} of its own") for name, values in platforms.items())
    yield from (f"  {line}" for line in render.table(rows))


def _table(rows: Iterable[Sequence[str | None]]) -> Iterator[str]:
    held = [tuple(_short(cell) for cell in row) for row in rows]
    return render.table(held) if held else iter(())


def _short(text: str | None) -> str:
    shown = "-" if text is None else render.line(text.replace("\n", " | "))
    return shown if len(shown) <= 2 * _WIDE else f"{shown[:_WIDE]}..."


def _compare(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.game.platforms import compare

    read = _chosen(session, arguments)
    a, b = names = [read.configuration.platform(word) for word in arguments.words]
    found = compare(read.configuration, a, b, read.rules)
    return Answer(
        [_difference(one) for one in found],
        _compared(names, found, everything=arguments.all),
        code=_DIFFERENT if any(one.kind != "expected" for one in found) else 0,
        problems=read.configuration.problems,
    )


def _difference(one: PlatformDifference) -> dict[str, object]:
    return {"key": one.key, "values": dict(one.values), "sources": dict(one.sources), "kind": one.kind}


def _compared(names: Sequence[str], found: Sequence[PlatformDifference], *, everything: bool) -> Iterator[str]:
    shown = [one for one in found if everything or one.kind != "expected"]
    rows = [(one.kind, one.key, *(one.values[name] for name in names)) for one in shown]
    yield from _table([("", "", *names), *rows] if rows else [])
    yield from _summary(len(found), len(found) - len(shown))


def _summary(count: int, hidden: int) -> Iterator[str]:
    if not count:
        yield "the same"
    elif hidden:
        yield f"{hidden:,} more {'difference' if hidden == 1 else 'differences'}, as expected; --all lists them"


def _drift(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.game.platforms import drift

    old, new = _sides(session, arguments)
    found = drift(old.configuration, new.configuration, new.rules)
    shown = [one for one in found if arguments.all or one.kind != "expected"]
    lines = [
        *_table((one.kind, one.key, one.before, one.after, ", ".join(one.platforms), one.source) for one in shown),
        *_summary(len(found), len(found) - len(shown)),
    ]
    return Answer(
        [_drifted(one) for one in found],
        lines,
        code=_DIFFERENT if shown and any(one.kind != "expected" for one in shown) else 0,
        problems=new.configuration.problems,
    )


def _sides(session: Session, arguments: Namespace) -> tuple[Read, Read]:
    """What was before and what is now: two words, or one and the folder, or the newest capture and the folder."""
    alone = Namespace(path=None, snapshot=None, project=arguments.project)
    old = _chosen(session, alone, *arguments.words[:1])
    if len(arguments.words) == 2:
        return old, _chosen(session, alone, arguments.words[1])
    if not (arguments.path or arguments.snapshot):
        raise wrong("platform drift: expected OLD NEW, or --path PATH, or --snapshot S")
    return old, _chosen(session, arguments)


def _drifted(one: Drift) -> dict[str, object]:
    return {
        "key": one.key,
        "before": one.before,
        "after": one.after,
        "platforms": list(one.platforms),
        "source": one.source,
        "kind": one.kind,
    }


_ACTIONS = {"capture": _capture, "list": _list, "show": _show, "compare": _compare, "drift": _drift}
_WORDS = {"capture": (0, 1), "list": (0, 0), "show": (0, 1), "compare": (2, 2), "drift": (0, 2)}
_EXPECTED = {
    "capture": "one PATH",
    "list": "nothing else",
    "show": "one ID at most",
    "compare": "two platforms",
    "drift": "two captures, builds or snapshots at most",
}


VERBS = (
    Verb(
        "platform",
        "keep the settings of a game on each platform; compare platforms and builds",
        "git-vault platform capture ~/games/lantern --build alpha-1\n"
        "git-vault platform compare android pc --path ~/games/lantern\n"
        "git-vault platform drift alpha-1 alpha-2",
        _configure,
        _run,
    ),
)
