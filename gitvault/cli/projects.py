"""The verb for the list of projects: which there are, and what is said of them."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from gitvault.cli import render
from gitvault.cli.arguments import FACTS, add_facts, disk_path, filled, names, tag, wrong
from gitvault.core.models import RELATIONS
from gitvault.personas.base import Answer, Session, Verb

if TYPE_CHECKING:
    from gitvault.core.models import Project
    from gitvault.core.versioning.edits import Edit
    from gitvault.personas.code.projects import Standing


def _configure(parser: ArgumentParser) -> None:
    what = (
        "names, or KEY:VALUE with name, client, stack, phase, tag, path, host, mode, related, archived; "
        "patterns as in *.py, -KEY:VALUE for all others, KEY: for none; all must fit"
    )
    actions = "edit SELECTION ... | rename OLD NEW | move NAME PATH | archive SELECTION | unarchive SELECTION |"
    actions += " relate A succeeds B | unrelate A shares-code-with B | remove SELECTION | undo"
    parser.add_argument("words", metavar="SELECTION", type=filled(str), nargs="*", help=f"{what}. Or: {actions}")
    parser.add_argument("--name", metavar="N", type=filled(str), help="edit: another name")
    parser.add_argument("--path", metavar="DIR", type=filled(disk_path), help="edit: where it lies on this machine")
    add_facts(parser)
    what = "edit: take a word away; repeatable"
    parser.add_argument("--untag", metavar="T", type=tag, action="append", default=[], help=what)


def _run(session: Session, arguments: Namespace) -> Answer:
    action, *words = arguments.words or [""]
    facts = {key: given for key in FACTS if (given := getattr(arguments, key)) is not None}
    edits = bool(facts or arguments.name or arguments.path or arguments.tag or arguments.untag)
    if edits and action != "edit":
        raise wrong("--name, --path, --client, --stack, --phase, --tag and --untag go with: projects edit SELECTION")
    if action == "edit":
        if not (words and edits):
            raise wrong("expected: projects edit SELECTION, and what is to be different")
        return _edit(session, words, facts, arguments)
    if action in _ACTIONS:
        return _ACTIONS[action](session, words)
    return _list(session, arguments.words)


# ---------------------------------------------------------------------------------------------- list


def _list(session: Session, words: Sequence[str]) -> Answer:
    from gitvault.personas.code.projects import overview

    found = overview(session.vault, words, home=os.path.expanduser("~"))
    if not found:
        none = f"no projects yet; {session.command} snapshot PATH"
        if session.vault.projects():
            none = f"all projects are archived; {session.command} projects archived:yes   lists them"
        return Answer([], ["no project is so" if words else none])
    return Answer([_document(one) for one in found], _table(session, found))


def _document(one: Standing) -> dict[str, object]:
    last = render.iso(one.newest.time) if one.newest else None
    return {
        **render.project_document(one.project),
        "snapshots": one.snapshots,
        "last": last,
        "snapshot": one.newest.id if one.newest else None,
        "time": last,
    }


_COUNT = 5


def _table(session: Session, found: Sequence[Standing]) -> Iterator[str]:
    machine = session.vault.config.machine
    rows = [
        (
            render.line(project.name),
            render.line(project.client),
            render.line(project.stack),
            render.line(project.phase),
            render.line(" ".join(project.tags)),
            f"{one.snapshots:,}",
            render.local(one.newest.time) if one.newest else "never saved",
            render.line(project.path),
            "" if project.host == machine else f"on {render.line(project.host)}",
            "archived" if project.archived else "",
        )
        for one in found
        for project in (one.project,)
    ]
    used = [number for number, column in enumerate(zip(*rows, strict=True)) if any(column)]
    return render.table((tuple(row[number] for number in used) for row in rows), right=(used.index(_COUNT),))


# --------------------------------------------------------------------------------------------- edits


def _edit(session: Session, words: Sequence[str], facts: dict[str, str], arguments: Namespace) -> Answer:
    from gitvault.core.versioning.edits import Edit

    found = names(session, words)
    if len(found) > 1 and (arguments.name or arguments.path):
        raise wrong(f"--name and --path are for one project, and the selection means {len(found)}")
    if arguments.name and arguments.name != found[0]:
        session.vault.rename_project(found[0], arguments.name)
        found = [arguments.name]
    if arguments.path:
        session.vault.move_project(found[0], arguments.path)
    return _changed(session, found, Edit(facts, {"tags": arguments.tag}, {"tags": arguments.untag}))


def _changed(session: Session, found: Sequence[str], edit: Edit) -> Answer:
    edited = session.vault.edit_projects(found, edit)
    return Answer(list(map(render.project_document, edited)), [_line(project) for project in edited])


def _line(project: Project) -> str:
    related = (f"{kind} {other}" for kind, other in project.relations)
    said = (project.client, project.stack, project.phase, *project.tags, *related)
    facts = ", ".join(render.line(word) for word in said if word)
    state = " (archived)" if project.archived else ""
    return f"{render.line(project.name)}: {render.line(project.path)}{f'; {facts}' if facts else ''}{state}"


def _rename(session: Session, words: list[str]) -> Answer:
    if len(words) != 2:
        raise wrong("expected: projects rename OLD NEW")
    done = session.vault.rename_project(*words)
    old, new = map(render.line, words)
    return Answer({"old": words[0], "new": words[1], "operation": done.number}, [f"{old} is now {new}"])


def _move(session: Session, words: list[str]) -> Answer:
    if len(words) != 2:
        raise wrong("expected: projects move NAME PATH")
    project = session.vault.move_project(words[0], disk_path(words[1]))
    missing = [] if os.path.isdir(project.path) else ["there is no such folder yet; nothing is moved by this"]
    return Answer([render.project_document(project)], [_line(project), *missing])


def _archive(session: Session, words: list[str]) -> Answer:
    return _turned(session, words, "archive", True)


def _unarchive(session: Session, words: list[str]) -> Answer:
    return _turned(session, [*words, "archived:any"] if words else words, "unarchive", False)


def _turned(session: Session, words: list[str], action: str, archived: bool) -> Answer:
    from gitvault.core.versioning.edits import Edit

    if not words:
        raise wrong(f"expected: projects {action} SELECTION")
    return _changed(session, names(session, words), Edit({"archived": archived}))


def _relate(session: Session, words: list[str]) -> Answer:
    return _related(session, words, "relate")


def _unrelate(session: Session, words: list[str]) -> Answer:
    return _related(session, words, "unrelate")


def _related(session: Session, words: list[str], action: str) -> Answer:
    from gitvault.core.versioning.edits import Edit

    if len(words) != 3 or words[1] not in RELATIONS:
        raise wrong(f"expected: projects {action} A {' | '.join(RELATIONS)} B")
    one, kind, other = words
    if action == "unrelate":
        return _changed(session, [one], Edit(taken={"relations": [(kind, other)]}))
    return _changed(session, [one], Edit(put={"relations": [(kind, session.vault.project(other).name)]}))


def _undo(session: Session, words: list[str]) -> Answer:
    if words:
        raise wrong("expected: projects undo")
    changed = session.vault.undo_edit()
    gone = [project for project in changed if project.removed]
    lines = [*map(_line, (project for project in changed if not project.removed))]
    lines += [f"{render.line(project.name)}: no longer registered" for project in gone]
    return Answer([render.project_document(project) for project in changed if not project.removed], lines)


def _remove(session: Session, words: list[str]) -> Answer:
    from gitvault.core.versioning.edits import Edit

    if not words:
        raise wrong("expected: projects remove SELECTION")
    found = names(session, words)
    session.vault.edit_projects(found, Edit({"removed": True}))
    kept = "; its snapshots stay" if len(found) == 1 else "; their snapshots stay"
    return Answer({"removed": found}, [f"no longer registered: {', '.join(map(render.line, found))}{kept}"])


_ACTIONS: dict[str, Callable[[Session, list[str]], Answer]] = {
    "rename": _rename,
    "move": _move,
    "archive": _archive,
    "unarchive": _unarchive,
    "relate": _relate,
    "unrelate": _unrelate,
    "remove": _remove,
    "undo": _undo,
}

VERBS = (
    Verb(
        "projects",
        "list the projects, and say what they are",
        "git-vault projects client:acme stack:python -tag:old\n"
        "git-vault projects edit client:acme --phase build --tag urgent\n"
        "git-vault projects move shop ~/work/shop-rs",
        _configure,
        _run,
    ),
)
