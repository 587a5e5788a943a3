"""The verb for milestones: builds with a name that stay."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.cli import render
from gitvault.cli.arguments import disk_path, facts, filled, pair, tag, wrong
from gitvault.cli.arguments import project as project_named
from gitvault.errors import NotFoundError
from gitvault.personas.base import Answer, Session, Verb

if TYPE_CHECKING:
    from gitvault.personas.game.contexts import Heard
    from gitvault.personas.game.insight import Resolved
    from gitvault.personas.game.milestones import Changelog, Milestone
    from gitvault.personas.game.platforms import Drift

_DIFFERENT = 1
_WIDE = 60
_TYPES = "first-playable, prototype, alpha, beta, release-candidate, release, patch, demo or custom"


def _configure(parser: ArgumentParser) -> None:
    actions = "create NAME | list | show NAME | annotate NAME | compare A B | release NAME | restore NAME"
    parser.add_argument("action", choices=_ACTIONS, metavar="ACTION", help=actions)
    parser.add_argument("names", metavar="NAME", type=filled(str), nargs="*", help="a name, or PROJECT/NAME")
    parser.add_argument("--project", metavar="P", type=filled(str), help="of this project")
    parser.add_argument("--type", metavar="T", default="custom", help=f"create: {_TYPES}")
    parser.add_argument("--snapshot", metavar="S", type=filled(str), help="create: of this snapshot, nothing is saved")
    parser.add_argument(
        "--attach", metavar="FILE", type=filled(disk_path), action="append", default=[], help="create: keep"
    )
    parser.add_argument("--verify", action="store_true", help="create: read everything back")
    parser.add_argument("-m", "--message", metavar="TEXT", default="", help="create, annotate: what is to be said")
    parser.add_argument("--tag", metavar="T", type=tag, action="append", default=[], help="create: a word, repeatable")
    parser.add_argument(
        "--meta", metavar="K=V", type=pair, action="append", default=[], help="create, annotate: a fact"
    )
    what = "release: a shop, a branch, an event; restore: a folder"
    parser.add_argument("--to", metavar="WHERE", type=filled(str), help=what)


def _run(session: Session, arguments: Namespace) -> Answer:
    wanted = {"list": 0, "compare": 2}.get(arguments.action, 1)
    if len(arguments.names) != wanted:
        raise wrong(f"milestone {arguments.action}: expected {render.plural(wanted, 'name')}")
    return _ACTIONS[arguments.action](session, arguments)


def _create(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.game import milestones
    from gitvault.personas.game.milestones import GameVersionType

    kind = arguments.type.lower().replace("_", "-")
    if kind not in list(GameVersionType):
        raise wrong(f"--type {arguments.type}: expected {_TYPES}")
    vault, [name] = session.vault, arguments.names
    project = _project(session, arguments)
    milestones.check_new(vault, project, name)
    for file in arguments.attach:
        if not os.path.isfile(file):
            raise NotFoundError(f"{render.disk_text(file)}: no such file to attach")
    if arguments.snapshot:
        snapshot = vault.resolve(arguments.snapshot)
    else:
        folder = vault.project(project).path
        if not os.path.isdir(folder):
            raise NotFoundError(
                f"{render.disk_text(folder)}: no such folder; --snapshot {project} names its newest snapshot"
            )
        snapshot = vault.create_snapshot(folder, project=project, message=name, progress=session.progress).snapshot
    made = milestones.create(
        vault,
        name,
        snapshot,
        GameVersionType(kind),
        message=arguments.message,
        labels=arguments.tag,
        metadata=facts(arguments.meta),
        artefacts=[Path(file) for file in arguments.attach],
    )
    lines = [f"{render.line(made.tag.project)}/{render.line(name)}: {kind}, snapshot {made.tag.snapshot[:12]}"]
    document = _document(made)
    if arguments.verify:
        document["verified_bytes"] = read = vault.read_back(snapshot, session.progress)
        lines.append(f"read back: {render.size(read)}, every hash is right")
    return Answer(document, lines, [f"{session.command} restore {made.tag.project}/{name} --to DIR"])


def _project(session: Session, arguments: Namespace) -> str:
    if arguments.project:
        return str(arguments.project)
    if arguments.snapshot:
        return session.vault.get_snapshot_info(session.vault.resolve(arguments.snapshot)).project
    return project_named(session, None)


def _document(one: Milestone) -> dict[str, object]:
    return {
        "name": one.tag.name,
        "type": one.tag.type,
        "snapshot": one.tag.snapshot,
        "tag": one.tag.ref.removeprefix("refs/tags/"),
        "project": one.tag.project,
        "time": render.iso(one.tag.time) if one.tag.time else None,
        "message": one.tag.message,
        "tags": list(one.tag.tags),
        "metadata": dict(one.tag.metadata),
        "released": one.released or None,
        "artefacts": list(one.artefacts),
        "annotations": [dict(said) for said in one.annotations],
    }


def _list(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.game.milestones import milestones

    if arguments.project:
        session.vault.project(arguments.project)
    found = list(milestones(session.vault, arguments.project))
    rows = (
        (
            render.line(f"{one.tag.project}/{one.tag.name}"),
            one.tag.type,
            one.tag.snapshot[:12],
            render.local(one.tag.time) if one.tag.time else "",
            render.line(one.tag.message.partition("\n")[0]),
        )
        for one in found
    )
    none = [f"no milestones yet; {session.command} milestone create NAME --project P --type alpha"]
    return Answer([_document(one) for one in found], render.table(rows) if found else none)


def _show(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.game.contexts import context, heard
    from gitvault.personas.game.milestones import find

    one = find(session.vault, arguments.names[0], arguments.project)
    found, said = context(session.vault, one), heard(session.vault, one)
    settings = found.settings.configuration if found.settings else None
    document = _document(one) | {
        "settings": settings
        and {"engine": settings.engine, "version": settings.version or None, "platforms": list(settings.platforms)},
        "playtests": [played.id for played in found.playtests],
        "feedback": _heard_document(said),
    }
    lines = [*_shown(one)]
    if settings:
        platforms = render.line(", ".join(settings.platforms))
        engine = " ".join(filter(None, (settings.engine, render.line(settings.version))))
        lines.append(f"  settings  {engine}: {platforms}")
    if found.playtests:
        players = len({played.player or played.id for played in found.playtests})
        lines.append(
            f"  playtests {render.plural(len(found.playtests), 'session')}, {render.plural(players, 'player')}, "
            f"{sum(played.cut for played in found.playtests):,} cut off"
        )
    if said:
        lines += [f"  feedback  {line}" for line in _heard(said)]
    return Answer(document, lines)


def _heard_document(said: Heard | None) -> dict[str, object] | None:
    if not said:
        return None
    return {
        "records": said.records,
        "categories": [
            {"category": one.name, "records": one.records, "players": one.players} for one in said.categories
        ],
        "rose": [asdict(one) for one in said.rose],
    }


def _heard(said: Heard) -> Iterator[str]:
    about = ", ".join(f"{render.line(one.name)} {one.players:,}" for one in said.categories)
    yield f"{render.plural(said.records, 'record')}; players by category: {about or 'none'}"
    for one in said.rose:
        yield f"rose: {render.line(one.sig)[:_WIDE]}, {render.plural(one.players, 'player')} (q {one.q:g})"


def _shown(one: Milestone) -> Iterator[str]:
    yield f"{render.line(one.tag.project)}/{render.line(one.tag.name)}: {one.tag.type}"
    yield f"  snapshot  {one.tag.snapshot}"
    if one.tag.time:
        yield f"  made      {render.local(one.tag.time)}"
    if one.tag.tags:
        yield f"  tags      {render.line(' '.join(one.tag.tags))}"
    yield from (f"  {render.line(key)} = {render.line(value)}" for key, value in sorted(one.tag.metadata.items()))
    yield from (f"  file      {render.line(name)}" for name in one.artefacts)
    for said in one.annotations:
        shown = ", ".join(f"{key}: {value}" for key, value in said.items() if key not in ("milestone", "t"))
        yield f"  {str(said.get('t', ''))[:16].replace('T', ' ')}  {render.line(shown)}"
    yield from (f"  {render.line(line)}" for line in one.tag.message.splitlines())


def _annotate(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.game.milestones import annotate, find

    said: dict[str, object] = {"text": arguments.message} if arguments.message else {}
    if arguments.meta:
        said["facts"] = facts(arguments.meta)
    if not said:
        raise wrong("milestone annotate: expected -m TEXT or --meta KEY=VALUE")
    one = annotate(session.vault, find(session.vault, arguments.names[0], arguments.project), said)
    return Answer(_document(one), _shown(one))


def _release(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.game.milestones import annotate, find

    if not arguments.to:
        raise wrong("milestone release: expected --to WHERE")
    one = annotate(
        session.vault, find(session.vault, arguments.names[0], arguments.project), {"released": arguments.to}
    )
    return Answer(_document(one), _shown(one))


def _compare(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.game.contexts import heard, resolved, settings_drift
    from gitvault.personas.game.milestones import compare, find

    older, newer = (find(session.vault, name, arguments.project) for name in arguments.names)
    found = compare(session.vault, older, newer)
    drifted = settings_drift(session.vault, older, newer)
    said = [heard(session.vault, one) for one in (older, newer)]
    gone = resolved(session.vault, older, newer)
    different = any(any(row) for row in found.kinds.values()) or bool(found.difference.moved)
    return Answer(
        {
            "older": _document(older),
            "newer": _document(newer),
            "kinds": {
                kind: dict(zip(("added", "changed", "deleted"), row, strict=True)) for kind, row in found.kinds.items()
            },
            **render.difference_document(found.difference),
            "settings": [asdict(one) | {"platforms": list(one.platforms)} for one in drifted],
            "feedback": {
                "older": _heard_document(said[0]),
                "newer": _heard_document(said[1]),
                "resolved": [asdict(one) for one in gone],
            },
        },
        [*_changelog(found), *_settings(drifted), *_feedback(said, gone)] if different else ["the same"],
        code=_DIFFERENT if different else 0,
    )


def _changelog(found: Changelog) -> Iterator[str]:
    yield f"{render.line(found.older.tag.name)} -> {render.line(found.newer.tag.name)}"
    yield from render.table(
        (kind, f"{added} added", f"{changed} changed", f"{deleted} deleted")
        for kind, (added, changed, deleted) in found.kinds.items()
    )
    if found.difference.moved:
        yield f"{render.plural(len(found.difference.moved), 'file')} moved"


def _settings(drifted: Sequence[Drift]) -> Iterator[str]:
    for one in drifted:
        was, now = ("-" if text is None else render.line(text)[:_WIDE] for text in (one.before, one.after))
        yield f"  {render.line(one.key)}: {was} -> {now}"


def _feedback(said: Sequence[Heard | None], resolved: Sequence[Resolved]) -> Iterator[str]:
    """Players by category in both, what is resolved, what rose."""
    counts = [{one.name: one.players for one in side.categories} if side else {} for side in said]
    names = dict.fromkeys(name for side in reversed(counts) for name in side)
    yield from render.table(
        (f"  {render.line(name)}", *(render.plural(side.get(name, 0), "player") for side in counts)) for name in names
    )
    for one in resolved:
        sig, of = render.line(one.sig)[:_WIDE], f"{one.players:,} of {one.of:,} players"
        yield f"  resolved: {sig}, {of}, 0 of {one.among:,} now"
    if said[1]:
        yield from (f"  {line}" for line in list(_heard(said[1]))[1:])


def _restore(session: Session, arguments: Namespace) -> Answer:
    from gitvault.cli.restore import report_document, report_lines
    from gitvault.personas.game.contexts import restore
    from gitvault.personas.game.milestones import find

    if not arguments.to:
        raise wrong("milestone restore: expected --to DIR")
    one = find(session.vault, arguments.names[0], arguments.project)
    report, beside = restore(session.vault, one, Path(disk_path(arguments.to)), session.progress)
    where = render.disk_text(str(beside))
    return Answer(
        report_document(report, arguments.to) | {"beside": where},
        [*report_lines(report, arguments.to), f"  settings, playtests and attached files are in {where}"],
        code=_DIFFERENT if report.problems else 0,
    )


_ACTIONS = {
    "create": _create,
    "list": _list,
    "show": _show,
    "annotate": _annotate,
    "compare": _compare,
    "release": _release,
    "restore": _restore,
}


VERBS = (
    Verb(
        "milestone",
        "give a build a name that stays; list, annotate and compare them",
        "git-vault milestone create alpha-1 --project lantern --type alpha -m 'first level'\n"
        "git-vault milestone compare alpha-1 beta-1",
        _configure,
        _run,
    ),
)
