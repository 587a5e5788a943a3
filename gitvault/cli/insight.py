"""What feedback says of builds: `feedback spikes|suspects|categories`, and the verb `game`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.cli import render
from gitvault.cli.arguments import disk_path, filled, project, wrong
from gitvault.core.utils.names import to_line, to_text
from gitvault.personas.base import Answer, Session, Verb

if TYPE_CHECKING:
    from gitvault.personas.game.feedback import Feedback
    from gitvault.personas.game.insight import Rises, Suspicion
    from gitvault.personas.game.insight.alike import Group

_LISTED = 20
_SHOWN = 72
_REASONS = 3


def spikes(session: Session, arguments: Namespace) -> Answer:
    """Which signatures rose between builds."""
    from gitvault.personas.game.feedback import Table
    from gitvault.personas.game.insight import rises

    name = project(session, arguments.project)
    with Table(session.vault, name) as table:
        found = rises(session.vault, table, build=arguments.build or "")
    hints = [f"{session.command} feedback suspects {render.line(found.spikes[0].sig)}"] if found.spikes else []
    return Answer([asdict(one) for one in found.spikes], _risen(found), hints)


def _risen(found: Rises) -> Iterator[str]:
    if not found.spikes:
        builds = render.plural(len(found.builds), "build")
        yield f"nothing rose in {builds}" if len(found.builds) > 1 else "feedback of one build: nothing to compare with"
        return
    head = ("players", "before", "after", "q", "build", "signature")
    yield from render.table(
        [
            head,
            *(
                (f"{one.players:,}", f"{one.before:.3g}", f"{one.after:.3g}", f"{one.q:.1g}", *map(render.line, last))
                for one in found.spikes
                for last in [(one.builds[1], one.sig)]
            ),
        ],
        right=(0, 1, 2, 3),
    )
    yield f"before, after: players who met it per 1,000 {found.per}; q: the share of false alarms down to this line"


def suspects(session: Session, arguments: Namespace) -> Answer:
    """What changed between the builds a signature rose in, the likeliest cause first."""
    from gitvault.personas.game.feedback import Table
    from gitvault.personas.game.insight import suspicion

    name = project(session, arguments.project)
    with Table(session.vault, name) as table:
        found = suspicion(
            session.vault, table, arguments.file, older=arguments.older or "", newer=arguments.newer or ""
        )
    rows = [
        {
            "path": to_text(one.path),
            "state": one.state,
            "kind": one.kind,
            "score": one.score,
            "reason": one.reasons[0],
            "reasons": list(one.reasons),
        }
        for one in found.suspects
    ]
    hints = [f"{session.command} diff {found.older[: render.SHORT]} {found.newer[: render.SHORT]}"]
    return Answer(rows, _suspected(found), hints if rows else [])


def _suspected(found: Suspicion) -> Iterator[str]:
    reports = render.plural(found.records, "report")
    between = f"{found.older[: render.SHORT]} -> {found.newer[: render.SHORT]}"
    yield f"{between}: {render.plural(len(found.suspects), 'change')}, held against {reports}"
    yield from render.table(
        (f"{one.score:.1f}", one.state, to_line(one.path), render.line("; ".join(one.reasons[:_REASONS])))
        for one in found.suspects[:_LISTED]
    )
    if len(found.suspects) > _LISTED:
        yield f"and {len(found.suspects) - _LISTED:,} more; --json lists all"


def categories(session: Session, arguments: Namespace) -> Answer:
    """What feedback is about, by rules that can be read and changed."""
    from gitvault.personas.game.feedback import Table
    from gitvault.personas.game.insight import by_category

    name = project(session, arguments.project)
    with Table(session.vault, name) as table:
        found = by_category(session.vault, table, arguments.build or "")
    rows = [
        {
            "category": one.name,
            "records": one.records,
            "players": one.players,
            "examples": [{"why": why, "text": text} for why, text in one.examples],
        }
        for one in found
    ]
    return Answer(rows, _categories(rows) if rows else ["no feedback with words"])


def _categories(rows: list[dict[str, object]]) -> Iterator[str]:
    lines = []
    for row in rows:
        examples = row["examples"]
        assert isinstance(examples, list)
        shown = f"{examples[0]['why']}: {examples[0]['text']}" if examples else ""
        lines.append((f"{row['players']:,}", f"{row['records']:,}", str(row["category"]), render.line(shown)[:90]))
    yield from render.table([("players", "records", "category", ""), *lines], right=(0, 1))


def groups(records: Iterable[Feedback]) -> Answer:
    """Records that say the same in nearly the same words, together."""
    from gitvault.personas.game.insight import alike

    found = alike.groups(records)
    rows = [
        {
            "text": one.text,
            "players": one.players,
            "records": len(one.records),
            "builds": sorted({said.build for said in one.records} - {""}),
            "first": min((said.time for said in one.records if said.time), default=None),
            "last": max((said.time for said in one.records if said.time), default=None),
            "ids": [said.id for said in one.records],
        }
        for one in found
    ]
    return Answer(rows, _grouped(found) if found else ["no feedback that fits"])


def _grouped(found: Sequence[Group]) -> Iterator[str]:
    several = [one for one in found if len(one.records) > 1]
    lines = []
    for one in several[:_LISTED]:
        text, others = one.text.split(), {" ".join(said.text.split()) for said in one.records}
        shown = render.line(" ".join(text))[:_SHOWN]
        ways = f"in {len(others):,} ways" if len(others) > 1 else ""
        lines.append((f"{one.players:,}", f"{len(one.records):,}", shown, ways))
    if lines:
        yield from render.table([("players", "records", "said", ""), *lines], right=(0, 1))
    if len(several) > _LISTED:
        yield f"and {len(several) - _LISTED:,} more; --json lists all"
    yield f"{render.plural(len(found) - len(several), 'record')} that no other resembles"


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("action", choices=("report",), metavar="ACTION", help="report A B")
    parser.add_argument("builds", metavar="BUILD", type=filled(str), nargs="*", help="a build id, version, milestone")
    parser.add_argument("--project", metavar="P", type=filled(str), help="of this project")
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=filled(disk_path), help="write the page here, else game-report"
    )
    parser.add_argument("--overwrite", action="store_true", help="although something is there")


def _run(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.game.insight.page import write_report

    if len(arguments.builds) != 2:
        raise wrong("game report: expected two builds, A and B")
    name = project(session, arguments.project)
    folder = Path(arguments.output or "game-report")
    a, b = arguments.builds
    page, figures = write_report(
        session.vault, name, a, b, folder, overwrite=arguments.overwrite, progress=session.progress
    )
    document: Mapping[str, object] = {"page": render.disk_text(str(page)), **figures}
    lines = [f"{key}: {value:,}" if isinstance(value, int) else f"{key}: {value}" for key, value in figures.items()]
    return Answer(document, lines, [f"look at {render.disk_text(str(page))}"])


VERBS = (
    Verb(
        "game",
        "write a page about two builds: what changed, what players said, what the numbers did",
        "git-vault game report alpha-1 alpha-2 --project lantern -o report",
        _configure,
        _run,
    ),
)
