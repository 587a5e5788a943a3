"""The verbs for builds: which one players got, and what a build calls itself."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from typing import TYPE_CHECKING

from gitvault.cli import render
from gitvault.cli.arguments import around, date, disk_path, filled, project, wrong
from gitvault.errors import NotFoundError
from gitvault.personas.base import Answer, Session, Verb

if TYPE_CHECKING:
    from gitvault.personas.game.builds import Deploy

_UNSAVED = 1


def _configure_deploy(parser: ArgumentParser) -> None:
    parser.add_argument("action", choices=_ACTIONS, metavar="ACTION", help="record | list")
    parser.add_argument("--project", metavar="P", type=filled(str), help="of this project")
    parser.add_argument("--target", metavar="T", type=filled(str), help="record: the shop, steam say")
    parser.add_argument("--branch", metavar="B", type=filled(str), default="default", help="record: whose players")
    parser.add_argument("--build", metavar="N", type=filled(str), help="record: as the shop or the game calls it")
    parser.add_argument("--at", metavar="T", type=filled(date(end=False)), help="record: since when; else now")
    parser.add_argument("--snapshot", metavar="S", type=filled(str), help="record: what it was made of")


def _run_deploy(session: Session, arguments: Namespace) -> Answer:
    return _ACTIONS[arguments.action](session, arguments)


def _record(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.game import builds

    if not (arguments.target and arguments.build):
        raise wrong("deploy record: expected --target T --build N")
    made = builds.deploy(
        session.vault,
        project(session, arguments.project),
        target=arguments.target,
        branch=arguments.branch,
        build=arguments.build,
        at=arguments.at or session.vault.now(),
        snapshot=arguments.snapshot or "",
    )
    lines = [" ".join(_row(made)), *([] if made.snapshot else ["no snapshot was found for it; --snapshot names one"])]
    return Answer(_document(made), lines)


def _list(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.game import builds

    found = builds.Builds(session.vault, project(session, arguments.project)).deploys
    none = [f"nothing was deployed yet; {session.command} deploy record --target T --build N"]
    return Answer([_document(one) for one in found], render.table(map(_row, found)) if found else none)


def _document(one: Deploy) -> dict[str, object]:
    return {**asdict(one), "snapshot": one.snapshot or None}


def _row(one: Deploy) -> tuple[str, ...]:
    return (
        one.at[:16].replace("T", " "),
        render.line(f"{one.target}/{one.branch}"),
        render.line(one.build),
        one.snapshot[: render.SHORT],
        f"{one.confidence:.0%}",
    )


def _configure_build_id(parser: ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", type=filled(disk_path), nargs="?", default=".", help="in the project")


def _run_build_id(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.game import builds

    found = around(session, arguments.path)
    if found is None:
        where = render.disk_text(os.path.realpath(arguments.path))
        raise NotFoundError(f"{where}: in no project; {session.command} snapshot PATH makes one")
    made = builds.build_id(session.vault, found.name)
    document = {"build": made.text, "snapshot": made.snapshot, "saved": made.saved}
    return Answer(document, [made.text], code=0 if made.saved else _UNSAVED)


_ACTIONS = {"record": _record, "list": _list}


VERBS = (
    Verb(
        "deploy",
        "note which build players got, and when",
        "git-vault deploy record --project lantern --target steam --branch default --build 4711 --at 2026-01-02",
        _configure_deploy,
        _run_deploy,
    ),
    Verb(
        "build-id",
        "print what the game embeds, so that feedback leads back to its snapshot",
        "git-vault build-id ~/games/lantern > lantern/build_id.txt",
        _configure_build_id,
        _run_build_id,
    ),
)
