"""The verb for a game's assets: what they cost, what bundles hold, what nothing uses."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gitvault.cli import render
from gitvault.cli.arguments import filled, wrong
from gitvault.core.utils.names import to_line, to_text
from gitvault.errors import UnsupportedMedia
from gitvault.personas.base import Answer, Session, Verb

if TYPE_CHECKING:
    from gitvault.formats.bundles import Bundle
    from gitvault.personas.game.assets.bundles import AssetChange, Build, BundleChange, Duplicate
    from gitvault.personas.game.assets.ratios import TypeSize
    from gitvault.personas.game.assets.usage import Usage

_DIFFERENT = 1
_LISTED = 20
_NAMELESS = "(without a name)"


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
                        render.line(asset.name) or _NAMELESS,
                        f"{render.size(asset.before)} -> {render.size(asset.after)}",
                    )
                    for asset in largest[:_LISTED]
                ),
            )
        )
        if len(largest) > _LISTED:
            yield f"  and {len(largest) - _LISTED:,} more; --json lists all"


def _show(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.game.assets.bundles import one_bundle

    bundle = one_bundle(arguments.words[0], lambda: session.vault)
    document = {
        "format": bundle.format,
        "version": bundle.version,
        "opaque": bundle.opaque,
        "damaged": list(bundle.damaged),
        "assets": [
            {"name": asset.name, "kind": asset.kind, "size": asset.size, "hash": asset.hash} for asset in bundle.assets
        ],
    }
    return Answer(document, _show_lines(bundle), code=_DIFFERENT if bundle.damaged else 0)


def _show_lines(bundle: Bundle) -> Iterator[str]:
    whole = sum(asset.size for asset in bundle.assets)
    count = render.plural(len(bundle.assets), "asset")
    yield f"{bundle.format} {render.line(bundle.version)}: {count}, {render.size(whole)}"
    if bundle.opaque:
        yield f"opaque: {bundle.opaque}; its bytes are saved all the same"
    yield from (f"damaged: {render.line(name)}" for name in bundle.damaged)
    if bundle.assets:
        largest = sorted(bundle.assets, key=lambda asset: (-asset.size, asset.name))
        yield from render.table(
            (
                (render.size(asset.size), render.line(asset.kind), render.line(asset.name) or _NAMELESS)
                for asset in largest
            ),
            right=(0,),
        )


def _find(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.game.assets.bundles import find

    found = list(find(session.vault, _project(session, arguments), arguments.words[0]))
    document = [
        {
            "snapshot": one.snapshot.id,
            "time": render.iso(one.snapshot.time),
            "path": to_text(one.path),
            "name": one.asset.name,
            "kind": one.asset.kind,
            "size": one.asset.size,
            "hash": one.asset.hash,
        }
        for one in found
    ]
    rows = (
        (
            one.snapshot.id[: render.SHORT],
            render.local(one.snapshot.time),
            to_line(one.path),
            render.line(one.asset.kind),
            render.line(one.asset.name),
            render.size(one.asset.size),
        )
        for one in found
    )
    return Answer(document, render.table(rows, right=(5,)) if found else ["in no bundle of any build"])


def _growth(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.game.assets.bundles import growth

    found = list(growth(session.vault, _project(session, arguments)))
    document = [
        {
            "snapshot": one.snapshot.id,
            "time": render.iso(one.snapshot.time),
            "path": to_text(one.path),
            "size": one.size,
            "before": one.before,
            "assets": one.assets,
            "loaded": one.loaded,
        }
        for one in found
    ]
    rows = (
        (
            to_line(one.path),
            one.snapshot.id[: render.SHORT],
            render.local(one.snapshot.time),
            render.size(one.size),
            _signed(one.size - one.before) if one.before else "",
            render.plural(one.assets, "asset"),
            render.subject(one.snapshot.message),
        )
        for one in found
    )
    return Answer(document, render.table(rows, right=(3, 4, 5)) if found else ["no bundles in any build"])


def _signed(count: int) -> str:
    return f"{'-' if count < 0 else '+'}{render.size(abs(count))}"


def _duplicates(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.game.assets.bundles import Reader, duplicates

    with Reader(session.vault) as reader:
        build = reader.build(_snapshot(session, arguments))
    found = duplicates(build)
    document = {
        "snapshot": build.snapshot,
        "wasted_bytes": sum(one.wasted for one in found),
        "duplicates": [
            {
                "name": one.name,
                "kind": one.kind,
                "size": one.size,
                "hash": one.hash,
                "bundles": [to_text(path) for path in one.places],
            }
            for one in found
        ],
        "problems": render.problems_document(build.problems),
    }
    return Answer(document, _duplicate_lines(found), problems=build.problems)


def _duplicate_lines(found: list[Duplicate]) -> Iterator[str]:
    if not found:
        yield "no asset is in the bundles twice"
        return
    wasted = sum(one.wasted for one in found)
    yield f"{render.plural(len(found), 'asset')} more than once, {render.size(wasted)} that one copy each would save"
    yield from render.table(
        (
            (
                render.size(one.wasted),
                f"{len(one.places)} x",
                render.line(one.kind),
                render.line(one.name),
                ", ".join(map(to_line, dict.fromkeys(one.places))),
            )
            for one in found
        ),
        right=(0, 1),
    )


def _unused(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.game.assets.usage import usage

    snapshot = _snapshot(session, arguments)
    found = usage(session.vault, snapshot)
    if not found:
        raise UnsupportedMedia(f"{snapshot[: render.SHORT]}: no project of Godot, Unity or Unreal in it")
    document = {
        "snapshot": snapshot,
        "projects": [
            {
                "root": one.root,
                "engine": one.engine,
                "assets": one.assets,
                "bytes": one.size,
                "unused_bytes": sum(size for _, size in one.unused),
                "unused": [{"path": path, "size": size} for path, size in one.unused],
            }
            for one in found
        ],
    }
    return Answer(document, _unused_lines(found))


def _unused_lines(found: list[Usage]) -> Iterator[str]:
    for one in found:
        unused = sum(size for _, size in one.unused)
        yield (
            f"{render.line(one.root) or '.'} ({one.engine}): nothing leads to {len(one.unused)} of"
            f" {render.plural(one.assets, 'asset')}, {render.size(unused)} of {render.size(one.size)}"
        )
        yield from (
            f"  {line}"
            for line in render.table(((render.size(size), render.line(path)) for path, size in one.unused), right=(0,))
        )


_ACTIONS = {
    "report": (_report, 0, 0),
    "list": (_list, 0, 1),
    "show": (_show, 1, 1),
    "diff": (_diff, 2, 2),
    "find": (_find, 1, 1),
    "growth": (_growth, 0, 0),
    "duplicates": (_duplicates, 0, 1),
    "unused": (_unused, 0, 1),
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
