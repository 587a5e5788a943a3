"""The verb refs: which files name which others, what is missing, and names put right when files move."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gitvault.cli import render
from gitvault.cli.arguments import disk_path, filled, here, wrong
from gitvault.core.models import Problem
from gitvault.errors import NotFoundError, VaultNotFound
from gitvault.personas.base import Answer, Session, Verb

if TYPE_CHECKING:
    from gitvault.personas.creative.references import Graph, Library, Link
    from gitvault.personas.creative.relocation import Relocation

_MISSING = 1
_ACTIONS = ("list", "graph", "check", "relocate", "export")


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("action", choices=_ACTIONS, help="what to do")
    where = "files and folders (else: every project of this machine); relocate: OLD NEW"
    parser.add_argument("paths", metavar="PATH", type=filled(disk_path), nargs="*", help=where)
    asset = "graph: what this file needs, and what needs it, however far"
    parser.add_argument("--asset", metavar="FILE", type=filled(disk_path), help=asset)
    parser.add_argument("--in-place", action="store_true", help="relocate: change originals, once they are saved")
    scope = "relocate: where files may name OLD (else: every project here and the current folder); repeatable"
    parser.add_argument("--within", metavar="DIR", type=filled(disk_path), action="append", default=[], help=scope)
    out = "export: the file to write, .json or .csv"
    parser.add_argument("-o", "--output", metavar="FILE", type=filled(disk_path), help=out)
    parser.add_argument("--overwrite", action="store_true", help="export: replace the file")


def _refs(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.creative.references import Library

    alone = {"asset": "graph", "in_place": "relocate", "within": "relocate", "output": "export", "overwrite": "export"}
    for option, action in alone.items():
        if getattr(arguments, option) and arguments.action != action:
            raise wrong(f"--{option.replace('_', '-')} goes with {action}")
    run = {"list": _list, "graph": _graph, "check": _check, "relocate": _relocate, "export": _export}[arguments.action]
    try:
        cache = session.vault.path / "cache"
    except VaultNotFound:
        # Files are looked through all the same, each time anew.
        cache = None
    with Library(cache) as library:
        return run(session, arguments, library)


def _starts(session: Session, arguments: Namespace) -> list[str]:
    """The files and folders that are meant. Raises NotFoundError."""
    if not arguments.paths:
        return [project.path for project in here(session, session.vault.projects()) if not project.archived]
    for path in arguments.paths:
        if not os.path.lexists(path):
            raise NotFoundError(f"{render.line(path)}: no such file or folder")
    return [os.path.abspath(path) for path in arguments.paths]


def _links(session: Session, arguments: Namespace, library: Library) -> tuple[list[Link], list[Problem]]:
    problems: list[Problem] = []
    starts = _starts(session, arguments)
    if len(starts) == 1 and os.path.isfile(starts[0]):
        # One file that cannot be read is no list with a gap.
        return library.links(starts[0]), []
    return list(library.all_links(starts, problems)), problems


# ---------------------------------------------------------------------------------------- list, check


def _list(session: Session, arguments: Namespace, library: Library) -> Answer:
    found, problems = _links(session, arguments, library)
    return Answer([_link_document(link) for link in found], _link_lines(found), problems=problems)


def _link_document(link: Link) -> dict[str, object]:
    """A link for JSON."""
    return {
        "source": render.disk_text(link.source),
        "element": link.element,
        "target": link.target,
        "kind": link.kind,
        "resolved": None if link.resolved is None else render.disk_text(link.resolved),
        "exists": link.exists,
    }


def _link_lines(found: Sequence[Link]) -> Iterator[str]:
    if not found:
        return iter(("no references",))
    state = {True: "", False: "missing", None: "elsewhere"}
    return render.table(
        (render.line(_short(link.source)), link.kind, render.line(link.target), state[link.exists]) for link in found
    )


def _short(path: str) -> str:
    """A path below the current folder as it is from there."""
    folder = os.getcwd() + os.sep
    return path.removeprefix(folder)


def _check(session: Session, arguments: Namespace, library: Library) -> Answer:
    graph = library.graph(_starts(session, arguments))
    code = _MISSING if graph.missing else 0
    documents = [_link_document(link) for link in graph.missing]
    return Answer(documents, _check_lines(graph), code=code, problems=graph.problems)


def _check_lines(graph: Graph) -> Iterator[str]:
    for link in graph.missing:
        yield f"{render.line(_short(link.source))}: {link.kind} {render.line(link.target)} is missing"
        yield f"    looked for at {render.line(link.resolved or '?')}"
    yield f"{render.plural(len(graph.needs), 'file')}, {render.plural(len(graph.missing), 'reference')} missing"


# --------------------------------------------------------------------------------------------- graph


def _graph(session: Session, arguments: Namespace, library: Library) -> Answer:
    from gitvault.personas.creative import references

    starts = _starts(session, arguments)
    graph = library.graph(starts)
    if arguments.asset:
        return _asset(graph, os.path.abspath(arguments.asset))
    used_by = graph.used_by
    linked = [path for path in graph.needs if used_by[path]]
    same = references.duplicates(linked)
    circles = references.cycles(graph.needs)
    wasted = sum(group.size * (len(group.files) - 1) for group in same)
    shared = references.shared(graph, [start for start in starts if os.path.isdir(start)])
    text = render.disk_text
    document = {
        "files": [
            {"path": text(path), "needs": [*map(text, needs)], "used_by": [*map(text, used_by[path])]}
            for path, needs in sorted(graph.needs.items())
            if needs or used_by[path]
        ],
        "missing": [_link_document(link) for link in graph.missing],
        "duplicates": [{"hash": group.hash, "size": group.size, "files": [*map(text, group.files)]} for group in same],
        "cycles": [[*map(text, circle)] for circle in circles],
        "bytes_duplicated": wasted,
        "bytes_shared": shared,
    }

    def lines() -> Iterator[str]:
        for path, needs in sorted(graph.needs.items()):
            if needs:
                yield render.line(_short(path))
                yield from (f"    {render.line(_short(other))}" for other in needs)
        yield f"{render.plural(len(linked), 'linked file')}, {render.plural(len(graph.missing), 'reference')} missing"
        if same:
            yield f"the same content under several names, {render.size(wasted)} in all:"
            yield from (f"    {'  '.join(render.line(_short(path)) for path in group.files)}" for group in same[:10])
        for circle in circles[:10]:
            yield f"a circle: {'  '.join(render.line(_short(path)) for path in circle)}"
        if shared:
            yield f"{render.size(shared)} saved by what several projects share"

    return Answer(document, lines(), problems=graph.problems)


def _asset(graph: Graph, asset: str) -> Answer:
    from gitvault.personas.creative import references

    if asset not in graph.needs:
        raise NotFoundError(f"{render.line(asset)}: nothing that was looked at names it; name its folder too")
    needs = references.reached(graph.needs, [asset])
    used_by = references.reached(graph.used_by, [asset])
    text = render.disk_text
    document = {"asset": text(asset), "needs": [*map(text, needs)], "used_by": [*map(text, used_by)]}

    def lines() -> Iterator[str]:
        for title, found in (("needs", needs), ("used by", used_by)):
            yield f"{title}{'' if found else ' nothing'}"
            yield from (f"    {render.line(_short(path))}" for path in found)

    return Answer(document, lines(), problems=graph.problems)


# ------------------------------------------------------------------------------------------ relocate


def _relocate(session: Session, arguments: Namespace, library: Library) -> Answer:
    from gitvault.personas.creative import relocation

    if len(arguments.paths) != 2:
        raise wrong("relocate takes OLD and NEW")
    old, new = map(os.path.abspath, arguments.paths)
    scope = [os.path.abspath(folder) for folder in arguments.within] or _scope(session, old, new)
    saved: list[str] = []

    def save(touched: Sequence[str]) -> None:
        saved.extend(relocation.save_first(session.vault, scope, touched))

    done = relocation.relocate(library, scope, old, new, in_place=save if arguments.in_place else None)
    return Answer(
        _relocation_document(done) | {"safety": saved},
        _relocation_lines(done, saved),
        [f"{session.command} restore {snapshot[: render.SHORT]} --in-place   # takes it back" for snapshot in saved],
        problems=done.problems,
    )


def _scope(session: Session, old: str, new: str) -> list[str]:
    """Every project, the folder that OLD and NEW are in, and the current one; never all of a home or a disk."""
    try:
        found = {project.path for project in here(session, session.vault.projects()) if not project.archived}
    except VaultNotFound:
        found = set()
    home = os.path.realpath(os.path.expanduser("~"))
    try:
        found.add(os.path.commonpath([os.path.dirname(old), os.path.dirname(new)]))
    except ValueError:
        # Two drives.
        found |= {os.path.dirname(old), os.path.dirname(new)}
    found.add(os.getcwd())
    return sorted(folder for folder in found if os.path.realpath(folder) != home and os.path.dirname(folder) != folder)


def _relocation_document(done: Relocation) -> dict[str, object]:
    """What a relocation did, for JSON."""
    text = render.disk_text
    return {
        "moved": [{"from": text(old), "to": text(new)} for old, new in done.moved],
        "rewritten": [
            {"source": text(one.source), "output": text(one.output), "references": one.references}
            for one in done.rewritten
        ],
        "problems": render.problems_document(done.problems),
    }


def _relocation_lines(done: Relocation, saved: Sequence[str]) -> Iterator[str]:
    word = "moved" if saved else "copied"
    for old, new in done.moved:
        yield f"{word} {render.line(_short(old))} to {render.line(_short(new))}"
    for one in done.rewritten:
        where = "" if one.source == one.output else f" in {render.line(_short(one.output))}"
        yield f"{render.line(_short(one.source))}: {render.plural(one.references, 'reference')} written anew{where}"
    if not (done.moved or done.rewritten):
        yield "nothing to do"
    for snapshot in saved:
        yield f"  what was there before is saved as {snapshot[: render.SHORT]}"


# -------------------------------------------------------------------------------------------- export


def _export(session: Session, arguments: Namespace, library: Library) -> Answer:
    from gitvault.personas.creative import exchange

    if not arguments.output or not arguments.output.lower().endswith((".json", ".csv")):
        raise wrong("export takes -o FILE.json or -o FILE.csv")
    problems: list[Problem] = []
    assets = exchange.assets(library, _starts(session, arguments), problems)
    exchange.write(assets, arguments.output, overwrite=arguments.overwrite)
    document = {"output": render.disk_text(os.path.abspath(arguments.output)), "assets": len(assets)}
    line = f"{render.plural(len(assets), 'asset')} in {render.line(arguments.output)}"
    return Answer(document, [line], problems=problems)


VERBS = (
    Verb(
        "refs",
        "tell what files refer to, and put that right when files move",
        "git-vault refs list scene.blend\n"
        "git-vault refs check ~/art/forest\n"
        "git-vault refs graph ~/art --asset ~/art/textures/bark.png\n"
        "git-vault refs relocate textures/bark.png library/bark.png --in-place\n"
        "git-vault refs export ~/art/forest -o forest.csv",
        _configure,
        _refs,
    ),
)
