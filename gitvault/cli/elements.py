"""The verb for parts of files: layers, pages, members."""

from __future__ import annotations

import dataclasses
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.cli import render
from gitvault.cli.arguments import SNAPSHOT, disk_path, filled, wrong
from gitvault.personas.base import Answer, Session, Verb

if TYPE_CHECKING:
    from gitvault.formats import Element
    from gitvault.personas.creative.elements import RestoredElement
    from gitvault.vault import Vault


def _configure(parser: ArgumentParser) -> None:
    what = (
        "list FILE: what it consists of; extract ELEMENT: as a file of its own; restore ELEMENT: into another version"
    )
    parser.add_argument("action", choices=("list", "extract", "restore"), help=what)
    parser.add_argument("what", metavar="WHAT", type=filled(disk_path), help="FILE, or ELEMENT: its id, or its name")
    parser.add_argument(
        "--from", dest="source", metavar="FILE", type=filled(disk_path), help="where ELEMENT is as wanted"
    )
    parser.add_argument("--into", metavar="FILE", type=filled(disk_path), help="restore: the version to put it into")
    parser.add_argument("-o", "--output", metavar="OUT", type=filled(disk_path), help="the new file")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT when it is there")
    parser.epilog = f"{parser.epilog}\n\nFILE is a file, or SNAPSHOT:PATH; SNAPSHOT is {SNAPSHOT}."


def _elements(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.creative import elements

    def vault() -> Vault:
        return session.vault

    if arguments.action == "list":
        found = elements.list_elements(arguments.what, vault)
        return Answer([dataclasses.asdict(element) for element in found], _table(found))
    if not arguments.source or not arguments.output:
        raise wrong(f"elements {arguments.action}: give --from FILE and -o OUT")
    output = Path(arguments.output)
    if arguments.action == "extract":
        element = elements.extract_element(
            arguments.source, arguments.what, output, vault, overwrite=arguments.overwrite
        )
        return Answer(
            {"element": element.id, "output": render.disk_text(arguments.output)},
            [f"{render.line(element.name)} ({element.kind}) is in {render.line(arguments.output)}"],
        )
    if not arguments.into:
        raise wrong("elements restore: give --into FILE")
    done = elements.restore_element(
        arguments.what,
        arguments.source,
        arguments.into,
        output,
        vault,
        overwrite=arguments.overwrite,
    )
    return Answer({**dataclasses.asdict(done), "output": render.disk_text(done.output)}, _lines(done))


def _table(elements: list[Element]) -> Iterator[str]:
    if elements:
        yield from render.table((render.line(e.id), e.kind, render.line(e.name)) for e in elements)


def _lines(done: RestoredElement) -> Iterator[str]:
    yield (
        f"{render.line(done.output)}: {render.plural(len(done.changed), 'element')} restored, "
        f"{len(done.unchanged):,} unchanged, each read again and compared"
    )
    if done.stale:
        yield done.stale


VERBS = (
    Verb(
        "elements",
        "list, take out and restore layers and other parts of files",
        "git-vault elements list forest~3:hero.psd\n"
        "git-vault elements restore Sky --from forest~3:hero.psd --into hero.psd -o hero-sky.psd",
        _configure,
        _elements,
    ),
)
