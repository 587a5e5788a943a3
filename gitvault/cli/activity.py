"""Verbs for sessions of work: watch, service, hook."""

from __future__ import annotations

import os
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from gitvault.cli import render
from gitvault.cli.arguments import command_line, count, filled, wrong
from gitvault.personas.base import Answer, Session, Verb

if TYPE_CHECKING:
    from gitvault.personas.code.activity.watcher import Happening


# --------------------------------------------------------------------------------------------- watch


def _configure_watch(parser: ArgumentParser) -> None:
    parser.add_argument(
        "projects", metavar="PROJECT", type=filled(str), nargs="*", help="which (else: every one of this machine)"
    )


def _watch(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.code.activity import settings
    from gitvault.personas.code.activity.watcher import Watcher

    vault = session.vault
    watcher = Watcher(vault, arguments.projects, settings.load(vault.path))

    def stop(number: int, frame: object) -> None:
        watcher.stop()

    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), stop)
    happenings = watcher.run()
    return Answer(lambda out: _write_happenings(happenings, out), _happening_lines(happenings))


def _write_happenings(happenings: Iterator[Happening], out: TextIO) -> None:
    """A list, an element a line: one document when the watcher ends, and readable line by line before."""
    before = "["
    for happening in happenings:
        out.write(f"{before}{render.json_text(_happening_document(happening))}\n")
        out.flush()
        before = ","
    out.write("]\n" if before == "," else "[]\n")


def _happening_document(happening: Happening) -> dict[str, Any]:
    return {
        "time": render.iso(datetime.fromtimestamp(happening.time, UTC)),
        "project": happening.project,
        "event": happening.event,
        "detail": happening.detail,
        "snapshot": happening.snapshot,
    }


def _happening_lines(happenings: Iterator[Happening]) -> Iterator[str]:
    for happening in happenings:
        yield _happening_line(happening)
        # Also into a pipe, as things happen.
        sys.stdout.flush()


def _happening_line(happening: Happening) -> str:
    when = datetime.fromtimestamp(happening.time, UTC).astimezone().strftime("%H:%M:%S")
    snapshot = f" {happening.snapshot[: render.SHORT]}" if happening.snapshot else ""
    name = f" {render.line(happening.project)}:" if happening.project else ""
    return f"{when}{name} {happening.event}{snapshot} ({render.line(happening.detail)})"


# ------------------------------------------------------------------------------------------- service


def _configure_service(parser: ArgumentParser) -> None:
    parser.add_argument("action", choices=("install", "uninstall", "status"), help="what to do")


def _service(session: Session, arguments: Namespace) -> Answer:
    from gitvault.core.touched import ask
    from gitvault.core.utils.files import Disk
    from gitvault.personas.code.activity import service

    home = Path.home()
    config = Path(os.environ.get("APPDATA" if sys.platform == "win32" else "XDG_CONFIG_HOME") or home / ".config")
    where = service.place(sys.platform, home, config)
    problem = ""
    if arguments.action == "install":
        command = [*command_line(), "--vault", str(session.vault.path), "watch"]
        problem = service.install(where, command, Disk())
    elif arguments.action == "uninstall":
        problem = service.uninstall(where, Disk())
    installed = where.file.exists()
    running = installed and service.is_running(where)
    watcher = ask(session.vault_path / "cache", {"state": True})
    said = "installed" if installed else "not installed"
    lines = [f"{where.system}: {said}, {'running' if running else 'not running'}; {render.line(str(where.file))}"]
    lines += [f"not done: {render.line(problem)}"] if problem else []
    lines += list(_watcher_lines(watcher))
    document = {
        "system": where.system,
        "file": render.disk_text(str(where.file)),
        "installed": installed,
        "running": running,
        "problem": problem or None,
        "watcher": watcher,
    }
    return Answer(document, lines, code=1 if problem or (arguments.action == "status" and not watcher) else 0)


def _watcher_lines(watcher: dict[str, Any] | None) -> Iterator[str]:
    if watcher is None:
        yield "this vault has no watcher"
        return
    yield f"process {watcher['process']} watches {render.plural(len(watcher['projects']), 'project')}"
    for one in watcher["projects"]:
        unsaved = one["unsaved_seconds"]
        state = "nothing unsaved" if unsaved is None else f"unsaved for {render.seconds(unsaved)}"
        yield f"  {render.line(one['project'])}: {state}, {'a session' if one['session'] else 'no session'}"
        if one["list"] != "kept":
            yield f"    every snapshot looks at everything: {render.line(one['list'])}"


# ---------------------------------------------------------------------------------------------- hook


def _configure_hook(parser: ArgumentParser) -> None:
    parser.add_argument("action", choices=("install", "uninstall", "status", "run"), help="what to do")
    what = "a folder in the repository (else: this one); for run: the hook's name, then files"
    parser.add_argument("words", metavar="PATH", nargs="*", help=what)
    parser.add_argument("--detach", action="store_true", help="run: in the background")
    parser.add_argument("--limit", metavar="BYTES", type=count, default=5 << 20, help="run check-large: what is large")


def _hook(session: Session, arguments: Namespace) -> Answer:
    if arguments.action == "run":
        return _hook_run(session, arguments)
    if len(arguments.words) > 1:
        raise wrong("expected at most one PATH")
    from gitvault.core.utils.files import Disk
    from gitvault.personas.code.activity import hooks

    path = Path(arguments.words[0] if arguments.words else ".").absolute()
    command = [*command_line(), "--vault", str(session.vault.path)]
    if (path / ".hg").is_dir():
        text = hooks.snippet(command, "hg")
        lines = ["Mercurial has one file for all hooks; add to .hg/hgrc:", *text.splitlines()]
        return Answer({"folder": None, "installed": [], "in_the_way": "hgrc", "snippet": text}, lines, code=1)
    removed: list[str] = []
    if arguments.action == "uninstall":
        removed = hooks.uninstall(path, Disk())
    found = hooks.install(path, command, Disk()) if arguments.action == "install" else hooks.look(path)
    snippet = hooks.snippet(command) if found.in_the_way else None
    lines = [f"{render.line(found.folder)}: {', '.join(found.installed) or 'none of ours'}"]
    lines += [f"removed {', '.join(removed)}"] if removed else []
    if snippet:
        lines += [f"nothing is installed over others' hooks ({render.line(found.in_the_way)}); add to them:", snippet]
    document = {
        "folder": render.disk_text(found.folder),
        "installed": list(found.installed),
        "removed": removed,
        "in_the_way": found.in_the_way or None,
        "snippet": snippet,
    }
    missing = not found.installed and arguments.action != "uninstall"
    return Answer(document, lines, code=1 if missing else 0)


def _hook_run(session: Session, arguments: Namespace) -> Answer:
    from gitvault.personas.code.activity import hooks

    name, *files = arguments.words or [""]
    if name == "check-large":
        large = hooks.too_large(files, arguments.limit)
        lines = [f"{render.line(file)}: over {render.size(arguments.limit)}" for file in large]
        return Answer({"large": large}, lines, code=1 if large else 0)
    if name == "check-secrets":
        secrets = hooks.secrets(files)
        found = [{"path": render.disk_text(file), "reason": reason} for file, reason in secrets]
        return Answer({"secrets": found}, [f"{render.line(f)}: {r}" for f, r in secrets], code=1 if secrets else 0)
    if name not in (*hooks.NAMES, "commit", "snapshot"):
        raise wrong(
            f"expected {', '.join(hooks.NAMES)}, commit, snapshot, check-large or check-secrets, found {name!r}"
        )
    if arguments.detach:
        from gitvault.core.utils.process import start_detached

        start_detached(["-m", "gitvault", "--vault", str(session.vault_path), "hook", "run", name])
        return Answer({"snapshot": None})
    report = hooks.run(session.vault, Path.cwd(), name)
    return Answer({"snapshot": report.snapshot if report else None})


VERBS = (
    Verb(
        "watch",
        "save projects while they are worked on",
        "git-vault watch\ngit-vault watch acme --json",
        _configure_watch,
        _watch,
    ),
    Verb(
        "service",
        "have the watcher started with every session at this computer",
        "git-vault service install\ngit-vault service status --json",
        _configure_service,
        _service,
    ),
    Verb(
        "hook",
        "have git save a project with every commit",
        "git-vault hook install ~/work/acme",
        _configure_hook,
        _hook,
    ),
)
