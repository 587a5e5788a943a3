"""Verbs that put things into the vault: init, add, snapshot, status."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.cli import render
from gitvault.cli.arguments import (
    FACTS,
    add_facts,
    add_selection,
    disk_path,
    facts,
    filled,
    here,
    pair,
    selected,
    tag,
    vault_for,
    wrong,
)
from gitvault.core.models import MODES
from gitvault.core.utils.names import one_line, to_line, to_text
from gitvault.errors import GitVaultError, VaultNotFound
from gitvault.personas.base import Answer, Session, Verb

if TYPE_CHECKING:
    from gitvault.core.models import PathState, SnapshotReport

INCOMPLETE = 3
_SECRETS_SHOWN = 10


# ---------------------------------------------------------------------------------------------- init


def _configure_init(parser: ArgumentParser) -> None:
    where = "where (else: --vault, GIT_VAULT_DIR, the default vault)"
    parser.add_argument("dir", metavar="DIR", type=filled(str), nargs="?", help=where)


def _init(session: Session, arguments: Namespace) -> Answer:
    from gitvault.vault import Vault

    path = Path(arguments.dir).absolute() if arguments.dir else session.vault_path
    try:
        Vault.open(path)
        created = False
    except VaultNotFound:
        Vault.create(path)
        created = True
    return Answer(
        {"vault": render.disk_text(str(path)), "created": created},
        [f"{'made the vault' if created else 'already a vault:'} {render.line(str(path))}"],
        hints=[f"{session.command_for(arguments.dir)} snapshot PATH"],
    )


# ----------------------------------------------------------------------------------------------- add


def _configure_add(parser: ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", type=filled(disk_path), help="the project's folder")
    parser.add_argument("--name", type=filled(str), help="what to call it (else: the folder's name, made unique)")
    what = "of a checkout save what version control does not protect (the default), all of it, or the work tree alone"
    parser.add_argument("--mode", choices=MODES, help=f"{what}; also changes a registered project's")
    add_facts(parser)


def _add(session: Session, arguments: Namespace) -> Answer:
    from gitvault.core.versioning.edits import Edit

    values = {key: given for key in FACTS if (given := getattr(arguments, key)) is not None}
    project = vault_for(session, arguments.path).add_project(arguments.path, arguments.name, mode=arguments.mode)
    mode = f" ({project.mode})" if arguments.mode else ""
    if values or arguments.tag:
        [project] = here(session, session.vault.edit_projects([project.name], Edit(values, {"tags": arguments.tag})))
    return Answer(
        render.project_document(project),
        [f"added {render.line(project.name)}: {render.line(project.path)}{mode}"],
        hints=[f"{session.command} snapshot {_word(project.path)}"],
    )


# ------------------------------------------------------------------------------------------ snapshot


def _configure_snapshot(parser: ArgumentParser) -> None:
    parser.add_argument(
        "paths", metavar="PATH", type=filled(disk_path), nargs="*", help="folders to save; new ones become projects"
    )
    parser.add_argument("--all", action="store_true", help="save every project of this machine, archived ones left out")
    add_selection(parser, "save those projects of this machine")
    parser.add_argument("--project", metavar="NAME", type=filled(str), help="the project's name (with one PATH)")
    parser.add_argument("-m", "--message", metavar="TEXT", default="", help="why, in your words")
    parser.add_argument(
        "--tag", metavar="T", type=tag, action="append", default=[], help="a word to find it by; repeatable"
    )
    parser.add_argument(
        "--meta", metavar="KEY=VALUE", type=pair, action="append", default=[], help="a fact to find it by; repeatable"
    )
    parser.add_argument("--scan", action="store_true", help="look at everything, whatever a watcher says")
    links = "also save what files link to outside the folder, however far: textures, libraries"
    parser.add_argument("--with-links", action="store_true", help=links)
    parser.add_argument("--trigger", metavar="WORD", type=filled(str), default="manual", help="what had it taken")


def _snapshot(session: Session, arguments: Namespace) -> Answer:
    from gitvault.core.utils.process import keep_memory

    paths = arguments.paths
    if [bool(paths), arguments.all, bool(arguments.select)].count(True) != 1:
        raise wrong("give one or more PATHs, or --all, or --select")
    if arguments.project and len(paths) != 1:
        raise wrong("--project goes with exactly one PATH")
    keep_memory()
    if len(paths) == 1:
        report = _save(session, paths[0], arguments.project, arguments)
        return Answer(_document(report), _report_lines(report), _hints(session, report), _code(report))

    work: list[tuple[str, str | None]] = [(path, None) for path in paths]
    if not paths:
        work = [(project.path, project.name) for project in here(session, selected(session, arguments.select))]
        if not work:
            return Answer([], [f"no projects of this machine yet; {session.command} snapshot PATH"])
    documents: list[dict[str, object]] = []
    lines: list[str] = []
    codes = [0]
    for path, name in work:
        try:
            report = _save(session, path, name, arguments)
        except (GitVaultError, OSError) as error:
            # One project that cannot be saved must not keep the others from being saved.
            codes.append(getattr(error, "exit_code", GitVaultError.exit_code))
            message = render.error_text(error)
            documents.append({"path": render.disk_text(path), "project": name, "error": message})
            render.say(message)
        else:
            codes.append(_code(report))
            documents.append(_document(report))
            lines.extend(_report_lines(report))
    return Answer(documents, lines, (f"{session.command} status",) if lines else (), max(codes))


def _save(session: Session, path: str, project: str | None, arguments: Namespace) -> SnapshotReport:
    run = partial(
        vault_for(session, path).create_snapshot,
        path,
        project=project,
        message=arguments.message,
        tags=arguments.tag,
        metadata=facts(arguments.meta),
        trigger=arguments.trigger,
        scan=arguments.scan,
        progress=session.progress,
    )
    if not arguments.with_links:
        return run()
    from gitvault.personas.creative.carrying import links_of

    links, notes = links_of(session.vault, path)
    report = run(links=links)
    return replace(report, notes=(*report.notes, *notes))


def _code(report: SnapshotReport) -> int:
    return INCOMPLETE if report.problems else 0


def _document(report: SnapshotReport) -> dict[str, object]:
    return {
        "snapshot": report.snapshot,
        "project": report.project,
        "unchanged": report.unchanged,
        "files": report.files,
        "new": report.new,
        "changed": report.changed,
        "deleted": report.deleted,
        "bytes_read": report.bytes_read,
        "bytes_stored": report.bytes_stored,
        "seconds": round(report.seconds, 3),
        "problems": render.problems_document(report.problems),
        "notes": list(report.notes),
        "secrets": [{"path": to_text(found.path), "reason": found.reason} for found in report.secrets],
    }


def _report_lines(report: SnapshotReport) -> Iterator[str]:
    name = render.line(report.project)
    saved, took = report.snapshot[: render.SHORT], render.seconds(report.seconds)
    if report.unchanged:
        yield f"{name}: nothing changed since {saved} ({render.plural(report.files, 'file')}, {took})"
    else:
        yield f"saved {name} as {saved}"
        yield (
            f"  {render.plural(report.files, 'file')}: "
            f"{report.new:,} new, {report.changed:,} changed, {report.deleted:,} deleted"
        )
        yield f"  read {render.size(report.bytes_read)}, stored {render.size(report.bytes_stored)}, in {took}"
    for note in report.notes:
        yield f"  note: {render.line(note)}"
    yield from _secret_lines(report)
    yield from render.problems_lines(report.problems)


def _secret_lines(report: SnapshotReport) -> Iterator[str]:
    found = report.secrets
    if not found:
        return
    yield f"  {render.plural(len(found), 'file')} may be secret; saved like any other:"
    for one in found[:_SECRETS_SHOWN]:
        yield f"    {to_line(one.path)}: {one.reason}"
    if len(found) > _SECRETS_SHOWN:
        yield f"    and {len(found) - _SECRETS_SHOWN:,} more; --json lists all"
    yield "    to leave such files out: git config vault.ignore PATTERN; to keep them quietly: vault.secrets keep"


def _hints(session: Session, report: SnapshotReport) -> Sequence[str]:
    name = _word(report.project)
    if name.startswith("-"):
        return (f"{session.command} log -- {name}", f"{session.command} restore --to DIR -- {name}")
    return (f"{session.command} log {name}", f"{session.command} restore {name} --to DIR")


def _word(text: str) -> str:
    import shlex

    return shlex.quote(render.line(text))


# -------------------------------------------------------------------------------------------- status


def _configure_status(parser: ArgumentParser) -> None:
    parser.add_argument(
        "paths", metavar="PATH", type=filled(disk_path), nargs="*", help="files or folders (else: every project)"
    )
    add_selection(parser, "tell about those projects of this machine")
    parser.add_argument("--scan", action="store_true", help="look at the disk instead of what was last seen")


def _status(session: Session, arguments: Namespace) -> Answer:
    from gitvault.core.backup_engine.status import SCAN_LOOKS

    paths = arguments.paths
    if arguments.select:
        paths = [*paths, *(project.path for project in here(session, selected(session, arguments.select)))]
    states = session.vault.status(paths, scan=arguments.scan)
    seen_last = any(state.reason.endswith(SCAN_LOOKS) for state in states)
    hints = ("the same with --scan   looks now",) if seen_last else ()
    lines = _state_lines(session, [replace(state, reason=state.reason.removesuffix(SCAN_LOOKS)) for state in states])
    return Answer([_state_document(state) for state in states], lines, hints)


def _state_document(state: PathState) -> dict[str, object]:
    return {
        "path": state.path,
        "state": state.state,
        "snapshot": state.snapshot,
        "reason": state.reason,
    }


def _state_lines(session: Session, states: Sequence[PathState]) -> Iterator[str]:
    if not states:
        return iter((f"no projects yet; {session.command} snapshot PATH",))
    return render.table(
        (
            state.state,
            state.snapshot[: render.SHORT] if state.snapshot else "-",
            one_line(state.path),
            render.line(state.reason),
        )
        for state in states
    )


VERBS = (
    Verb("init", "make a vault", "git-vault init ~/backup.git", _configure_init, _init),
    Verb("add", "register a folder as a project", "git-vault add ~/work/acme --name acme", _configure_add, _add, True),
    Verb(
        "snapshot",
        "save folders as they are now",
        'git-vault snapshot ~/work/acme -m "before the rewrite" --tag milestone --meta client=acme\n'
        "git-vault snapshot --all",
        _configure_snapshot,
        _snapshot,
        True,
    ),
    Verb(
        "status",
        "tell whether files are saved, and why not",
        "git-vault status ~/work/acme/src/main.c\ngit-vault status --scan",
        _configure_status,
        _status,
    ),
)
