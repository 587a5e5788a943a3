"""The verb for workspaces: what makes an application somebody's own, captured and put back."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.cli import render
from gitvault.cli.arguments import disk_path, filled, wrong
from gitvault.personas.base import Answer, Session, Verb

if TYPE_CHECKING:
    from gitvault.personas.creative.workspaces import Workspace
    from gitvault.personas.creative.workspaces.applications import Application, Surroundings

_DIFFERENT = 1
_VARIABLES = ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "APPDATA", "LOCALAPPDATA")


def _configure(parser: ArgumentParser) -> None:
    actions = "capture APP | list [APP] | show ID | diff ID [ID] | restore ID | apps"
    parser.add_argument("action", choices=_ACTIONS, metavar="ACTION", help=f"{actions}; ID: or APP for its newest")
    parser.add_argument("words", metavar="APP|ID", type=filled(str), nargs="*", help="blender, krita ...; or an id")
    parser.add_argument("--home", metavar="DIR", type=filled(disk_path), help="another home folder than yours")
    parser.add_argument("--app-version", metavar="V", type=filled(str), help="capture: this version, not the newest")
    parser.add_argument(
        "--apps", dest="table", metavar="FILE", type=filled(disk_path), help="more applications, see docs/workspaces.md"
    )


def _run(session: Session, arguments: Namespace) -> Answer:
    least, most = _WORDS[arguments.action]
    if not least <= len(arguments.words) <= most:
        raise wrong(f"workspace {arguments.action}: expected {_EXPECTED[least, most]}")
    return _ACTIONS[arguments.action](session, arguments)


def _around(arguments: Namespace) -> Surroundings:
    from gitvault.personas.creative.workspaces.applications import SYSTEMS, Surroundings

    home = Path(os.path.abspath(arguments.home or os.path.expanduser("~")))
    # Another home folder has its own.
    said = {} if arguments.home else {key: os.environ[key] for key in _VARIABLES if os.environ.get(key)}
    return Surroundings(home, SYSTEMS.get(sys.platform, "linux"), said)


def _known(arguments: Namespace) -> dict[str, Application]:
    import platformdirs

    from gitvault.personas.creative.workspaces.applications import known

    own = Path(platformdirs.user_config_dir("gitvault", appauthor=False)) / "workspaces.toml"
    return known(Path(arguments.table) if arguments.table else own if own.exists() else None)


def _application(arguments: Namespace, name: str) -> Application:
    from gitvault.personas.creative.workspaces.applications import named

    return named(_known(arguments), name)


def _capture(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.creative.workspaces import capture
    from gitvault.personas.creative.workspaces.applications import find

    around = _around(arguments)
    found = find(_application(arguments, arguments.words[0]), around, arguments.app_version)
    workspace = capture(session.vault, found, around)
    lines = [
        f"captured {workspace.name} {workspace.version}".rstrip()
        + f": {render.plural(len(workspace.files), 'file')}, {render.size(workspace.size)}; id {workspace.id}",
        *(f"  left out: {render.line(left.path)}: {render.line(left.reason)}" for left in workspace.left_out),
    ]
    return Answer(_document(workspace), lines, [f"{session.command} workspace restore {workspace.id}"])


def _document(workspace: Workspace) -> dict[str, object]:
    return {
        "id": workspace.id,
        "app": workspace.app,
        "version": workspace.version,
        "files": len(workspace.files),
        "bytes": workspace.size,
        "left_out": [asdict(left) for left in workspace.left_out],
        "time": workspace.time,
        "host": workspace.host,
        "system": workspace.system,
        "home": workspace.home,
        "snapshots": dict(workspace.snapshots),
    }


def _list(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.creative.workspaces import workspaces

    found = list(workspaces(session.vault, *arguments.words))
    rows = (
        (one.id, one.app, one.version, one.time[:16].replace("T", " "), render.size(one.size), render.line(one.host))
        for one in found
    )
    none = [f"no workspaces yet; {session.command} workspace capture APP"]
    return Answer([_document(one) for one in found], render.table(rows) if found else none)


def _show(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.creative.workspaces import find

    one = find(session.vault, arguments.words[0])
    document = _document(one) | {"contents": [asdict(file) for file in one.files]}
    return Answer(document, _shown(one))


def _shown(one: Workspace) -> Iterator[str]:
    yield f"{one.name} {one.version}".rstrip() + f" of {render.line(one.host)}, {one.time[:16].replace('T', ' ')} UTC"
    yield from render.table((render.size(file.size), render.line(f"{file.place}/{file.path}")) for file in one.files)
    yield from (f"left out: {render.line(left.path)}: {render.line(left.reason)}" for left in one.left_out)


def _diff(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.creative.workspaces import changes, find
    from gitvault.personas.creative.workspaces.applications import find as find_installed
    from gitvault.personas.creative.workspaces.capture import present

    before, *others = (find(session.vault, name) for name in arguments.words)
    around = _around(arguments)
    if others:
        after = others[0]
    else:
        installed = find_installed(_application(arguments, before.app), around, before.version or None)
        after = present(session.vault, installed, around)
    found = changes(before, after)
    lists: dict[str, Sequence[str]] = asdict(found)
    lines = [f"{what:8}{render.line(path)}" for what, paths in lists.items() for path in paths]
    document = {key: list(paths) for key, paths in lists.items()}
    return Answer(document, lines or ["the same"], code=_DIFFERENT if lines else 0)


def _restore(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.creative.workspaces import find, restore
    from gitvault.personas.creative.workspaces.running import running

    one = find(session.vault, arguments.words[0])
    done = restore(session.vault, one, _known(arguments), _around(arguments), running)
    lines = [
        f"restored {one.name} {one.version}".rstrip()
        + f": {render.plural(done.files, 'file')}, {render.size(done.bytes)}",
        *(f"  not here: {render.line(place)}; {one.name} keeps no such thing on this system" for place in done.left),
    ]
    hints = (
        [f"{session.command} workspace restore {done.safety.id}"] if done.safety and done.safety.id != one.id else []
    )
    return Answer(
        {
            "id": one.id,
            "app": one.app,
            "version": one.version,
            "files": done.files,
            "bytes": done.bytes,
            "safety": done.safety.id if done.safety else None,
            "not_here": list(done.left),
        },
        lines,
        hints,
    )


def _apps(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.creative.workspaces.applications import installed

    around = _around(arguments)
    rows = []
    for id, application in sorted(_known(arguments).items()):
        here = list(installed(application, around))
        rows.append((id, application.name, [one.version for one in here], bool(here)))
    document = [{"app": id, "name": name, "versions": there, "found": found} for id, name, there, found in rows]
    return Answer(
        document,
        render.table((id, name, " ".join(there) or ("found" if found else "-")) for id, name, there, found in rows),
    )


_ACTIONS = {"capture": _capture, "list": _list, "show": _show, "diff": _diff, "restore": _restore, "apps": _apps}
_WORDS = {"capture": (1, 1), "list": (0, 1), "show": (1, 1), "diff": (1, 2), "restore": (1, 1), "apps": (0, 0)}
_EXPECTED = {
    (0, 0): "nothing else",
    (0, 1): "one APP at most",
    (1, 1): "one APP or ID",
    (1, 2): "one ID, or two",
}


VERBS = (
    Verb(
        "workspace",
        "capture what makes an application yours, and put it back",
        "git-vault workspace capture blender\ngit-vault workspace restore blender --home /mnt/new/home/sofia",
        _configure,
        _run,
    ),
)
