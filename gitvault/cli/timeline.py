"""The verb that shows the past in pictures."""

from __future__ import annotations

import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.cli import render
from gitvault.cli.arguments import count, disk_path, filled, here, inner_path, wrong
from gitvault.core.models import Problem
from gitvault.core.utils import layout
from gitvault.core.utils.names import to_line, to_text
from gitvault.errors import ExistsError, NotFoundError, UnsupportedMedia
from gitvault.personas.base import Answer, Session, Verb

if TYPE_CHECKING:
    from gitvault.personas.creative.timeline import Version

_LARGEST_SIDE = 1024
_REASONS = 5


def _configure(parser: ArgumentParser) -> None:
    whose = "whose past, or the path on disk (else: where one is)"
    parser.add_argument("project", metavar="PROJECT", type=filled(str), nargs="?", help=whose)
    parser.add_argument("path", metavar="PATH", type=filled(str), nargs="?", help="a file or folder in it")
    parser.add_argument(
        "-o", dest="output", metavar="FILE", type=_output, help="a page (.html) or a sheet of pictures (.png)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace FILE when it is there")
    parser.add_argument("--fold", action="store_true", help="leave out versions that look like the next one")
    parser.add_argument(
        "--elements", action="store_true", help="name what changed inside layered files and scenes; reads them whole"
    )
    parser.add_argument("--side", metavar="PIXELS", type=_side, default=256, help="of thumbnails, 256 unless said")
    parser.add_argument(
        "--ahead", action="store_true", help="draw what is missing of the newest snapshots of all projects, no more"
    )


def _output(text: str) -> Path:
    if os.path.splitext(text)[1].lower() not in (".html", ".htm", ".png"):
        raise ArgumentTypeError(f"expected a name that ends with .html or .png, found {text!r}")
    return Path(disk_path(text))


def _side(text: str) -> int:
    side = count(text)
    if not 16 <= side <= _LARGEST_SIDE:
        raise ArgumentTypeError(f"expected 16 to {_LARGEST_SIDE} pixels, found {text}")
    return side


def _run(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.creative.timeline import timeline
    from gitvault.personas.creative.timeline.similar import folded

    if arguments.ahead:
        return _ahead(session, arguments)
    project, path = _named(session, arguments.project, arguments.path)
    output: Path | None = arguments.output
    if output and os.path.lexists(output) and not arguments.overwrite:
        raise ExistsError(f"{to_line(os.fsencode(output))}: is there already; give another name, or --overwrite")
    versions = timeline(
        session.vault,
        project,
        path,
        side=arguments.side,
        elements=arguments.elements,
        progress=session.progress,
    )
    shown = folded(versions) if arguments.fold else versions
    title = f"{project}: {to_text(path)}" if path else project
    if output:
        _write(output, shown, title, overwrite=arguments.overwrite)
    problems = [Problem(version.path, version.reason) for version in shown if version.is_bad]
    code = UnsupportedMedia.exit_code if problems else 0
    return Answer([_document(version) for version in shown], _lines(shown, output), code=code, problems=problems)


def _ahead(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.creative.timeline.drawing import draw_ahead

    if arguments.project or arguments.output:
        raise wrong("--ahead is for all projects and writes no FILE")
    made = draw_ahead(session.vault)
    return Answer({"drawn": made}, [f"{render.plural(made, 'thumbnail')} drawn"])


def _named(session: Session, first: str | None, path: str | None) -> tuple[str, bytes]:
    """Project and path inside it: PROJECT, PROJECT PATH, a path on disk in a project; nothing: where one is."""
    vault = session.vault
    projects = vault.projects()
    places = {project.name: project.path for project in here(session, projects)}
    names = {project.name for project in projects} | set(vault.history.projects())
    if first and (path or first in names):
        if path and os.path.isabs(path) and (found := _within(disk_path(path), {first: places.get(first, "")})):
            return found
        return first, inner_path(path or "")
    place = disk_path(first) if first else os.getcwd()
    if found := _within(place, places):
        return found
    said = to_line(os.fsencode(place))
    raise NotFoundError(f"{said}: neither a project nor a path in one; {session.command} projects lists them")


def _within(place: str, projects: Mapping[str, str]) -> tuple[str, bytes] | None:
    """The innermost project that a path on disk is in, and the path inside; what is there may be gone."""
    folder, name = os.path.split(os.path.abspath(place))
    # A link is a file of the project that it is in, whatever it leads to.
    real = os.path.join(os.path.realpath(folder), name)
    inside = [(path, project) for project, path in projects.items() if path and layout.is_within(real, path)]
    if not inside:
        return None
    path, project = max(inside, key=lambda found: len(found[0]))
    return project, inner_path(os.path.relpath(real, path).replace(os.sep, "/"))


def _write(output: Path, shown: Sequence[Version], title: str, *, overwrite: bool) -> None:
    if output.suffix.lower() == ".png":
        from gitvault.personas.creative.timeline.sheet import sheet

        data = sheet(shown, title)
    else:
        from gitvault.personas.creative.timeline.page import page

        data = page(shown, title)
    with open(output, "wb" if overwrite else "xb") as file:
        file.write(data)


def _document(version: Version) -> dict[str, object]:
    return {
        "snapshot": version.snapshot,
        "time": render.iso(version.time),
        "message": version.message,
        "path": to_text(version.path),
        "size": version.size,
        "thumbnail": render.disk_text(os.fspath(version.thumbnail)) if version.thumbnail else None,
        "changed": _changed(version),
        "milestone": list(version.milestones),
        **({"elements": version.elements} if version.elements else {}),
    }


def _lines(shown: Sequence[Version], output: Path | None) -> Iterator[str]:
    if not shown:
        yield "no versions"
        return
    rows = [
        (
            version.snapshot[: render.SHORT],
            render.local(version.time),
            render.size(version.size),
            render.line(": ".join(filter(None, (_changed(version), _inside(version))))),
            to_line(version.path),
            _note(version),
        )
        for version in shown
    ]
    yield from render.table(rows, right=(2,))
    if output:
        yield ""
        yield f"wrote {to_line(os.fsencode(output))}"
    missing = Counter(version.reason for version in shown if version.reason and not version.is_bad)
    for reason, times in missing.most_common(_REASONS):
        yield f"{render.plural(times, 'version')} without a picture: {render.line(reason)}"


def _changed(version: Version) -> str:
    from gitvault.personas.creative.timeline.similar import said

    return said(version)


def _inside(version: Version) -> str:
    from gitvault.personas.creative.timeline.similar import inside

    return inside(version)


def _note(version: Version) -> str:
    names = f"[{', '.join(map(render.line, version.milestones))}]" if version.milestones else ""
    return " ".join(filter(None, (render.subject(version.message), names)))


VERBS = (
    Verb(
        "timeline",
        "show the versions of a file or project in pictures",
        "git-vault timeline forest art/hero.psd -o hero.html\ngit-vault timeline forest --fold -o forest.png",
        _configure,
        _run,
    ),
)
