"""Verbs that look after the vault: verify, stats, maintain."""

from __future__ import annotations

from argparse import ArgumentError, ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gitvault.cli import render
from gitvault.cli.arguments import count, filled
from gitvault.core.utils.names import to_line, to_text
from gitvault.errors import CorruptionError, LockedError
from gitvault.personas.base import Answer, Session, Verb

if TYPE_CHECKING:
    from gitvault.core.models import Defect, MaintenanceReport, Repair, StorageStats, VerifyReport

_LISTED = 10


def _configure_verify(parser: ArgumentParser) -> None:
    parser.add_argument("--data", action="store_true", help="read every stored byte too, not only what leads to it")
    parser.add_argument("--repair", action="store_true", help="read every stored byte and heal what is damaged")
    parser.add_argument(
        "--from",
        dest="copies",
        metavar="DIR",
        type=filled(str),
        action="append",
        default=[],
        help="with --repair: a second vault that may have what is lost, repeatable",
    )
    parser.add_argument("--share", metavar="1/N", type=share, help="read the part of N whose turn it is")
    parser.add_argument("--restart", action="store_true", help="do not go on where an interrupted run stopped")
    parser.add_argument("--drill", metavar="N", type=count, default=0, help="get N random files back without gitvault")
    parser.add_argument("--seed", metavar="N", type=count, help="which random files")


def share(text: str) -> tuple[int, int]:
    """So many parts of so many."""
    parts, _, of = text.partition("/")
    if not (parts.isdecimal() and of.isdecimal() and 1 <= int(parts) <= int(of) <= 10_000):
        raise ArgumentTypeError(f"expected parts of a whole, such as 1/30, found {text!r}")
    return int(parts), int(of)


def _verify(session: Session, arguments: Namespace) -> Answer:
    from random import Random

    if arguments.copies and not arguments.repair:
        raise ArgumentError(None, "--from goes with --repair")
    if arguments.repair and (arguments.share or arguments.drill or arguments.restart):
        raise ArgumentError(None, "--repair reads everything; --share, --drill and --restart go without it")
    mended: list[Repair] = []
    if arguments.repair:
        from gitvault.vault import Vault

        mended = Vault.mend(session.vault_path)
        report = session.vault.verify(repair=True, copies=arguments.copies, progress=session.progress)
    else:
        report = session.vault.verify(
            data=arguments.data or arguments.share is not None,
            share=arguments.share,
            restart=arguments.restart,
            drill=arguments.drill,
            chance=None if arguments.seed is None else Random(arguments.seed),
            progress=session.progress,
        )
    repaired = (*mended, *report.repaired)
    read = arguments.data or arguments.repair or arguments.share is not None
    return Answer(
        verify_document(report, repaired),
        verify_lines(report, repaired, read),
        _verify_hints(session, report, arguments),
        0 if report.ok else CorruptionError.exit_code,
    )


def verify_document(report: VerifyReport, repaired: Sequence[Repair] = ()) -> dict[str, object]:
    """What `--json` says of a verification, of a vault or of a remote."""
    return {
        "ok": report.ok,
        "objects_checked": report.objects_checked,
        "bytes_checked": report.bytes_checked,
        "defects": [_defect_document(defect) for defect in report.defects],
        "repaired": [{"kind": done.kind, "object": done.object, "how": done.how} for done in repaired],
        "quarantined": [_defect_document(defect) for defect in report.quarantined],
        "drilled": report.drilled,
        "note": report.note,
    }


def _verify_hints(session: Session, report: VerifyReport, arguments: Namespace) -> list[str]:
    if report.ok or arguments.repair:
        return []
    return [f"{session.command} verify --repair" if arguments.data else f"{session.command} verify --data"]


def _defect_document(defect: Defect) -> dict[str, object]:
    return {
        "kind": defect.kind,
        "object": defect.object,
        "reason": defect.reason,
        "affects": [
            {"project": place.project, "snapshot": place.snapshot, "path": to_text(place.path)}
            for place in defect.affects
        ],
    }


def verify_lines(report: VerifyReport, repaired: Sequence[Repair], data: bool) -> Iterator[str]:
    """What people read of it; `data`: whether every byte was read."""
    checked = f"{render.plural(report.objects_checked, 'object')}, {render.size(report.bytes_checked)}"
    checked += f" ({report.note})" if report.note else ""
    checked += f", got {render.plural(report.drilled, 'file')} back without gitvault" if report.drilled else ""
    if repaired:
        yield f"{render.plural(len(repaired), 'repair')}"
        yield from (f"  {done.kind} {render.line(done.object)}: {render.line(done.how)}" for done in repaired)
    if report.ok:
        yield f"all is well: checked {checked}{'' if data else '; --data reads every stored byte too'}"
    else:
        yield f"{render.plural(len(report.defects), 'defect')}; checked {checked}"
        yield from _defect_lines(report.defects)
    known = [defect for defect in report.quarantined if defect not in report.defects]
    if known:
        yield f"lost before, as an earlier repair found: {render.plural(len(known), 'thing')}"
        yield from _defect_lines(known)


def _defect_lines(defects: Sequence[Defect]) -> Iterator[str]:
    for defect in defects:
        yield f"  {defect.kind} {render.line(defect.object)}: {render.line(defect.reason)}"
        for place in defect.affects[:_LISTED]:
            yield f"    in {place.snapshot[: render.SHORT]} {render.line(place.project)}:{to_line(place.path)}"
        if len(defect.affects) > _LISTED:
            yield f"    and {len(defect.affects) - _LISTED:,} more places; --json lists all"


def _stats(session: Session, arguments: Namespace) -> Answer:
    stats = session.vault.get_storage_stats()
    return Answer(
        {
            "projects": stats.projects,
            "snapshots": stats.snapshots,
            "logical_bytes": stats.logical_bytes,
            "unique_bytes": stats.unique_bytes,
            "stored_bytes": stats.stored_bytes,
            "ratio": round(stats.ratio, 3),
            "kinds": [
                {"kind": kind.kind, "files": kind.files, "bytes": kind.bytes, "stored": kind.stored}
                for kind in stats.kinds
            ],
        },
        _stats_lines(stats),
    )


def _stats_lines(stats: StorageStats) -> Iterator[str]:
    yield f"{render.plural(stats.projects, 'project')}, {render.plural(stats.snapshots, 'snapshot')}"
    yield f"  all snapshots, each whole   {render.size(stats.logical_bytes):>12}"
    yield f"  each content once           {render.size(stats.unique_bytes):>12}"
    yield f"  on disk                     {render.size(stats.stored_bytes):>12}   {stats.ratio:.1f}:1"
    if stats.kinds:
        yield ""
        rows = [("kind", "files", "bytes", "stored")]
        rows += [
            (render.line(kind.kind), f"{kind.files:,}", render.size(kind.bytes), render.size(kind.stored))
            for kind in stats.kinds
        ]
        yield from render.table(rows, right=(1, 2, 3))


def _configure_maintain(parser: ArgumentParser) -> None:
    parser.add_argument("--idle", action="store_true", help="give way as soon as another run wants the vault")


def _maintain(session: Session, arguments: Namespace) -> Answer:
    report = session.vault.maintain(idle=arguments.idle, progress=session.progress)
    if made := _thumbnails(session, arguments.idle):
        report = replace(report, actions=(*report.actions, f"drew {render.plural(made, 'thumbnail')}"))
    return Answer(
        {
            "bytes_before": report.bytes_before,
            "bytes_after": report.bytes_after,
            "seconds": round(report.seconds, 3),
            "actions": list(report.actions),
        },
        _maintain_lines(report),
    )


def _thumbnails(session: Session, idle: bool) -> int:
    """Draw what the next timeline will want, where somebody has looked at one."""
    from gitvault.core.utils import layout

    if not (session.vault_path / layout.THUMBNAILS).is_dir():
        return 0
    from gitvault.core.utils.lock import VaultLock
    from gitvault.personas.creative.timeline.drawing import draw_ahead

    stop = VaultLock.wanted(session.vault_path / layout.LOCK).exists if idle else lambda: False
    try:
        return draw_ahead(session.vault, stop=stop)
    except LockedError:
        # Another run does it.
        return 0


def _maintain_lines(report: MaintenanceReport) -> Iterator[str]:
    if not report.actions:
        yield "nothing was due"
        return
    yield from (render.line(action) for action in report.actions)
    yield (
        f"on disk: {render.size(report.bytes_before)} before, {render.size(report.bytes_after)} now; "
        f"took {render.seconds(report.seconds)}"
    )


VERBS = (
    Verb("verify", "prove that everything saved can be read", "git-vault verify --data", _configure_verify, _verify),
    Verb("stats", "tell what the vault holds and costs", "git-vault stats --json", lambda parser: None, _stats),
    Verb("maintain", "do all upkeep that is due", "git-vault maintain", _configure_maintain, _maintain),
)
