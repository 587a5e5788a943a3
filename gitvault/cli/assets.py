"""The verb for a game's assets: what they cost, what bundles hold, what nothing uses."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gitvault.cli import render
from gitvault.cli.arguments import filled, wrong
from gitvault.core.utils.names import to_line, to_text
from gitvault.personas.base import Answer, Session, Verb

if TYPE_CHECKING:
    from gitvault.personas.game.assets.bundles import AssetChange, Build, BundleChange
    from gitvault.personas.game.assets.ratios import TypeSize

_DIFFERENT = 1
_LISTED = 20


def _configure(parser: ArgumentParser) -> None:
    actions = (
        "report | list [SNAPSHOT] | show SNAPSHOT:PATH | diff A B | find TEXT | growth | duplicates [SNAPSHOT]"
        " | unused [SNAPSHOT]"
    )
    parser.add_argument("action", choices=_ACTIONS, metavar="ACTION", help=actions)
    parser.add_argument("words", metavar="WORD", type=filled(str), nargs="*", help="a snapshot, a milestone, a text")
    parser.add_argument("--project", metavar="P", type=filled(str), help="of this project; its newest snapshot")


def _run(session: Session, arguments: Namespace) -> Answer:
    action, least, most = _ACTIONS[arguments.action]
    if not least <= len(arguments.words) <= most:
        wanted = render.plural(least, "word") if least == most else f"at most {render.plural(most, 'word')}"
        raise wrong(f"assets {arguments.action}: expected {wanted}, found {len(arguments.words)}")
    return action(session, arguments)


def _snapshot(session: Session, arguments: Namespace) -> str:
    """The one that is named, else the newest of the project."""
    name = arguments.words[0] if arguments.words else _project(session, arguments)
    return session.vault.resolve(name)


def _project(session: Session, arguments: Namespace) -> str:
    if arguments.project:
        return session.vault.project(arguments.project).name
    known = [project.name for project in session.vault.projects()]
    if len(known) != 1:
        raise wrong(f"--project P: which one? there {'are ' + ', '.join(known) if known else 'is none yet'}")
    return known[0]


def _report(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.game.assets.ratios import report

    found = report(session.vault, [arguments.project] if arguments.project else ())
    document = [
        {
            "type": one.type,
            "files": one.files,
            "versions": one.versions,
            "logical_bytes": one.logical_bytes,
            "stored_bytes": one.stored_bytes,
            "ratio": round(one.ratio, 3),
        }
        for one in found
    ]
    return Answer(document, _report_lines(found))


def _report_lines(found: list[TypeSize]) -> Iterator[str]:
    if not found:
        yield "nothing is saved yet"
        return
    logical, stored = sum(one.logical_bytes for one in found), sum(one.stored_bytes for one in found)
    rows = [("type", "files", "versions", "bytes", "stored", "ratio")]
    rows += [
        (
            render.line(one.type) or "(none)",
            f"{one.files:,}",
            f"{one.versions:,}",
            render.size(one.logical_bytes),
            render.size(one.stored_bytes),
            f"{one.ratio:.2f}",
        )
        for one in found
    ]
    total = f"{logical / stored:.2f}" if stored else "0.00"
    files, versions = sum(one.files for one in found), sum(one.versions for one in found)
    rows.append(("all", f"{files:,}", f"{versions:,}", render.size(logical), render.size(stored), total))
    yield from render.table(rows, right=(1, 2, 3, 4, 5))


def _list(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.game.assets.bundles import Reader

    with Reader(session.vault) as reader:
        build = reader.build(_snapshot(session, arguments))
    document = [
        {
            "path": to_text(one.path),
            "format": one.bundle.format,
            "version": one.bundle.version,
            "size": one.size,
            "assets": len(one.bundle.assets),
            "loaded": sum(asset.size for asset in one.bundle.assets),
            "opaque": one.bundle.opaque,
            "damaged": list(one.bundle.damaged),
        }
        for one in build.bundles
    ]
    whole = {"snapshot": build.snapshot, "bundles": document, "problems": render.problems_document(build.problems)}
    return Answer(whole, _list_lines(build), problems=build.problems)


def _list_lines(build: Build) -> Iterator[str]:
    if not build.bundles:
        yield "no bundles in it"
        return
    yield from render.table(
        (
            (
                to_line(one.path),
                one.bundle.format,
                render.line(one.bundle.version),
                render.size(one.size),
                render.plural(len(one.bundle.assets), "asset"),
                f"{len(one.bundle.damaged)} damaged" if one.bundle.damaged else "",
                f"opaque: {one.bundle.opaque}" if one.bundle.opaque else "",
            )
            for one in build.bundles
        ),
        right=(3, 4),
    )


def _diff(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.game.assets.bundles import Reader, compare

    with Reader(session.vault) as reader:
        before, after = (reader.build(session.vault.resolve(name)) for name in arguments.words)
    found = compare(before, after)
    problems = (*before.problems, *after.problems)
    document = {
        "older": before.snapshot,
        "newer": after.snapshot,
        "bundles": [
            {
                "path": to_text(one.path),
                "was": to_text(one.was),
                "state": one.state,
                "before": one.before,
                "after": one.after,
                "opaque": one.opaque,
                "assets": [_asset_document(asset) for asset in one.assets],
            }
            for one in found
        ],
        "problems": render.problems_document(problems),
    }
    code = _DIFFERENT if found else 0
    return Answer(document, _diff_lines(found), code=code, problems=problems)


def _asset_document(asset: AssetChange) -> dict[str, object]:
    return {
        "name": asset.name,
        "kind": asset.kind,
        "state": asset.state,
        "before": asset.before,
        "after": asset.after,
    }


def _diff_lines(found: list[BundleChange]) -> Iterator[str]:
    if not found:
        yield "the bundles are the same"
    for one in found:
        was = f" (was {to_line(one.was)})" if one.was != one.path else ""
        sizes = f"{render.size(one.before)} -> {render.size(one.after)}"
        yield f"{one.state} {to_line(one.path)}{was}: {sizes}{f'; {one.opaque}' if one.opaque else ''}"
        largest = sorted(one.assets, key=lambda asset: -abs(asset.after - asset.before))
        yield from (
            f"  {line}"
            for line in render.table(
                (
                    (
                        asset.state,
                        render.line(asset.kind),
                        render.line(asset.name) or "(without names)",
                        f"{render.size(asset.before)} -> {render.size(asset.after)}",
                    )
                    for asset in largest[:_LISTED]
                ),
            )
        )
        if len(largest) > _LISTED:
            yield f"  and {len(largest) - _LISTED:,} more; --json lists all"


_ACTIONS = {
    "report": (_report, 0, 0),
    "list": (_list, 0, 1),
    "diff": (_diff, 2, 2),
}


VERBS = (
    Verb(
        "assets",
        "tell what assets cost by type, what is in bundles of builds, what nothing uses",
        "git-vault assets report\ngit-vault assets diff alpha-1 beta-1",
        _configure,
        _run,
    ),
)
