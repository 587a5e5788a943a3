"""Verbs for those who use the vault with git and git-lfs: setup, hydrate."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.cli import render
from gitvault.cli.arguments import command_line, disk_path, filled
from gitvault.errors import VaultNotFound
from gitvault.personas.base import Answer, Session, Verb

if TYPE_CHECKING:
    from gitvault.core.utils.files import Disk
    from gitvault.stock.settings import Setup

_MAN = b".TH GIT-VAULT "


def _configure_setup(parser: ArgumentParser) -> None:
    parser.add_argument("--undo", action="store_true", help="take all of it out again, for every vault")


def _setup(session: Session, arguments: Namespace) -> Answer:
    from gitvault import config
    from gitvault.core.utils.files import Disk
    from gitvault.stock import settings

    disk = Disk()
    if arguments.undo:
        removed = settings.uninstall(_own_folder(), disk)
        for path in filter(_is_ours, _shell_files()):
            disk.unlink(path)
            _remove_empty(path.parent, disk)
            removed.append(os.fspath(path))
        said = f"took out {len(removed)} settings and files" if removed else "nothing was set up"
        return Answer({"removed": list(map(render.disk_text, removed))}, [said])
    if not session.vault_path.exists() and session.vault_path != config.default_vault():
        # The default one is made by the first snapshot.
        raise VaultNotFound(f"{session.vault_path}: no vault; make one with: {session.command} init")
    changed = settings.install(_settings(session.vault_path), disk)
    for path, content in _stale_files().items():
        disk.make_folder(path.parent, 0o755)
        disk.write_durably(path, content, 0o644)
        changed.append(os.fspath(path))
    in_the_way = [os.fspath(path) for path in _shell_files() if not _is_ours(path)]
    document: dict[str, object] = {
        "vault": render.disk_text(os.fspath(session.vault_path)),
        "changed": list(map(render.disk_text, changed)),
        "in_the_way": list(map(render.disk_text, in_the_way)),
    }
    return Answer(document, _setup_lines(session.vault_path, changed, in_the_way), _hints())


def _setup_lines(vault: Path, changed: list[str], in_the_way: list[str]) -> Iterator[str]:
    yield f"git and git-lfs know {render.line(os.fspath(vault))}" if changed else "all was set up already"
    yield from (f"  {render.line(each)}" for each in changed)
    yield from (f"left as it is, not ours: {render.line(each)}" for each in in_the_way)


def _hints() -> list[str]:
    """What a shell has to be told by its user."""
    files = {path.name: path for path in _shell_files()}
    found = []
    if shutil.which("zsh") and "_git-vault" in files:
        found.append(f"in ~/.zshrc, before compinit: fpath=({files['_git-vault'].parent} $fpath)")
    if shutil.which("pwsh") or sys.platform == "win32":
        found.append(f"in PowerShell's $PROFILE: . '{files['git-vault.ps1']}'")
    return found


def not_set_up(vault: Path) -> list[str]:
    """What `setup` would change for a vault: keys and files. Raises ToolError."""
    from gitvault.stock import settings

    return [*settings.missing(_settings(vault)), *map(os.fspath, _stale_files())]


def _settings(vault: Path) -> Setup:
    from gitvault.stock import settings

    return settings.setup(command_line(), Path(os.path.abspath(vault)), _own_folder())


def _own_folder() -> Path:
    import platformdirs

    return Path(platformdirs.user_data_dir("gitvault", appauthor=False))


def _shell_files() -> Mapping[Path, bytes]:
    """The man page and the completions, by where the user's programs look for them."""
    from gitvault.cli import completion, main

    verbs = [verb for name in main.VERBS if (verb := main.builtin_verb(name))]
    commands = [completion.command(verb.name, verb.summary, main.verb_parser(verb)) for verb in verbs]
    common = completion.command("", "", main.main_parser()).options
    texts = {shell: write(commands, common).encode() for shell, write in completion.SHELLS.items()}
    files = {_own_folder() / "git-vault.ps1": texts["powershell"]}
    if sys.platform == "win32":
        return files
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    page = Path(__file__).parent.parent / "docs" / "git-vault.1"
    return files | {
        data / "man" / "man1" / "git-vault.1": page.read_bytes(),
        data / "bash-completion" / "completions" / "git-vault": texts["bash"],
        data / "zsh" / "site-functions" / "_git-vault": texts["zsh"],
        data / "fish" / "vendor_completions.d" / "git-vault.fish": texts["fish"],
    }


def _is_ours(path: Path) -> bool:
    from gitvault.cli.completion import MARK

    try:
        head = path.read_bytes()[:4096]
    except OSError:
        return False
    return head.startswith(_MAN) or MARK.encode() in head


def _stale_files() -> dict[Path, bytes]:
    """Those of `_shell_files` that are missing, or ours and of another version."""
    wanted = _shell_files().items()
    return {
        path: content
        for path, content in wanted
        if not path.exists() or (_is_ours(path) and path.read_bytes() != content)
    }


def _remove_empty(folder: Path, disk: Disk) -> None:
    """A folder and those above it that have nothing in them any more, up to the home folder."""
    home = Path.home()
    while home in folder.parents and folder.is_dir() and not any(folder.iterdir()):
        disk.remove_folder(folder)
        folder = folder.parent


def _configure_hydrate(parser: ArgumentParser) -> None:
    what = "files or folders of the work tree (else: all of it)"
    parser.add_argument("paths", metavar="PATH", type=filled(disk_path), nargs="*", help=what)


def _hydrate(session: Session, arguments: Namespace) -> Answer:
    from gitvault.cli.plumbing import repository
    from gitvault.core.storage.store import ChunkStore
    from gitvault.stock.hydrate import hydrate
    from gitvault.vault import Vault

    here = repository()
    with contextlib.ExitStack() as opened:

        @cache
        def store() -> ChunkStore:
            return opened.enter_context(Vault.open(here.vault(lambda: session.vault_path))).store

        done = hydrate(here, arguments.paths, store, session.progress)
    document = {
        "files": done.files,
        "bytes": done.bytes,
        "modified": done.modified,
        "problems": render.problems_document(done.problems),
    }
    return Answer(document, _hydrated_lines(done.files, done.bytes, done.modified), problems=done.problems)


def _hydrated_lines(files: int, size: int, modified: int) -> Iterator[str]:
    if not files:
        yield "no pointers to fill in"
        return
    yield f"filled in {render.plural(files, 'file')}, {render.size(size)}"
    if modified:
        what = render.plural(modified, "file")
        yield f"git shows {what} as modified: no attribute has it filter them here; git vault setup does that"


VERBS = (
    Verb(
        "setup",
        "let git, git-lfs and your shell know of the vault",
        "git-vault setup\ngit-vault setup --undo",
        _configure_setup,
        _setup,
    ),
    Verb(
        "hydrate",
        "fill in large files that git left as pointers",
        "git-vault hydrate\ngit-vault hydrate art/video.mov",
        _configure_hydrate,
        _hydrate,
    ),
)
