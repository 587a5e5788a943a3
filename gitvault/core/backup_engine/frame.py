"""What a vault is before anything is saved: its folders and the files that never change, made and made anew.

`config` and `HEAD` must be sound before it can be opened at all.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from gitvault.core.backup_engine import rescue
from gitvault.core.models import Repair
from gitvault.core.utils.files import Disk, copy_file
from gitvault.core.utils.layout import FORMAT_VERSION
from gitvault.core.utils.process import git
from gitvault.core.versioning.history import HEADS
from gitvault.core.versioning.refs import RefStore
from gitvault.errors import CorruptionError, ExistsError, ToolFailed

_HEAD = re.compile(rb"(ref: refs/[^\s]+|[0-9a-f]{40})\s*")
_HEADER = re.compile(rb'\s*\[([A-Za-z0-9.-]+)(\s+"(?:[^"\\]|\\.)*")?\].*')
_SETTING = re.compile(rb"\s*([a-zA-Z]+) = ([ -~]*)")
_FOLDERS = ("objects/info", "objects/pack", "refs/heads", "refs/tags", "info", "chunks/tmp", "cache", "tmp")
# The section `vault` is the last: settings are added to it.
_CONFIG = f"""\
[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = true
\tlogAllRefUpdates = false
[gc]
\tauto = 0
[maintenance]
\tauto = false
[vault]
\tformatVersion = {FORMAT_VERSION}
""".encode()
# Sections that `_CONFIG` has in full; with others included no vault is opened.
_OURS = (b"core", b"gc", b"maintenance")
_REFUSED = (b"include", b"includeif")
_WANTED = (
    ("core.bare", "true"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("vault.formatversion", str(FORMAT_VERSION)),
)
_ATTRIBUTES = b"""\
# Written by gitvault: what the projects' own .gitattributes say must not change a byte on the way out.
* -text !eol -ident !working-tree-encoding -export-subst -export-ignore filter=vault
"""


def constant_files() -> dict[str, bytes]:
    """What is in every vault and never changes, by its name there."""
    return {"info/attributes": _ATTRIBUTES, **rescue.texts()}


def make_frame(vault: Path, disk: Disk) -> None:
    """Make a vault; durable when it returns. Raises ExistsError for a folder with something else in it."""
    constant = {"HEAD": b"ref: refs/heads/main\n", **constant_files()}
    if vault.exists() and not _is_unfinished(vault, constant):
        raise ExistsError(f"{vault}: not a vault and not empty; name a folder that does not exist yet")
    above = next(folder for folder in vault.parents if folder.exists())
    disk.make_folder(vault)
    vault.chmod(0o700)
    for folder in _FOLDERS:
        disk.make_folder(vault / folder)
    for left in vault.rglob("*.tmp"):
        disk.unlink(left)
    for name, content in constant.items():
        disk.write_durably(vault / name, content)
    # A sync of what is in `objects/pack` says nothing about its own name. What else may be missing is made again.
    disk.sync_folder(vault / "objects")
    made = vault
    disk.sync_folder(made)
    while made != above:
        made = made.parent
        disk.sync_folder(made)
    # Last: a folder without it is not a vault yet, and is made again from the start.
    disk.write_durably(vault / "config", _CONFIG + f"\tid = {secrets.token_hex(16)}\n".encode())


def _is_unfinished(path: Path, constant: Mapping[str, bytes]) -> bool:
    """Whether a folder is empty, or what a killed `init` left: nothing but what it makes before the config."""
    folders = {parent.as_posix() for folder in _FOLDERS for parent in (Path(folder), *Path(folder).parents)}
    found = (re.sub(r"\.\d+\.tmp$", "", each.relative_to(path).as_posix()) for each in path.rglob("*"))
    allowed = {*folders, *constant, "config"}
    return path.is_dir() and not (path / "config").exists() and all(name in allowed for name in found)


def mend_frame(vault: Path, valid: Callable[[str, str], bool], disk: Disk) -> list[Repair]:
    """Make a vault openable again whose `config` or `HEAD` is damaged or gone; nothing for what is no vault at all.

    Of the old file, settings of the vault are kept when they, key and value, are `valid`; other sections, remotes among
    them, as far as git can read them.
    """
    done = []
    if not ((vault / "objects").is_dir() and (vault / "chunks").is_dir()):
        return []
    head = vault / "HEAD"
    if not (head.is_file() and _HEAD.fullmatch(head.read_bytes())):
        branches: Iterable[str] = ()
        with suppress(CorruptionError):
            branches = RefStore(vault, disk).list(HEADS)
        keep_copy(head, vault, disk)
        disk.write_durably(head, f"ref: {next(iter(branches), f'{HEADS}main')}\n".encode())
        done.append(Repair("vault", "HEAD", "written anew"))
    file = vault / "config"
    listed: list[str] = []
    with suppress(ToolFailed):
        listed = git(vault, "config", "-f", file, "-z", "--list").decode("utf-8", "replace").split("\0")
    pairs = {pair.partition("\n")[0]: pair.partition("\n")[2] for pair in listed if pair}
    if any(pairs.get(key) != value for key, value in _WANTED):
        keep_copy(file, vault, disk)
        settings, sections = _salvaged(file.read_bytes() if file.is_file() else b"", valid)
        disk.write_durably(file, _CONFIG + b"".join(settings + sections))
        kept = f"settings kept: {len(settings)}" + f", sections: {len(sections)}" * bool(sections)
        done.append(Repair("vault", "config", f"written anew, {kept}"))
    return done


def _salvaged(config: bytes, valid: Callable[[str, str], bool]) -> tuple[list[bytes], list[bytes]]:
    """What a damaged config still says: lines for the section `vault`, and sections that are none of ours."""
    blocks: list[tuple[bytes, bytes, list[bytes]]] = [(b"", b"", [])]
    for line in config.splitlines(keepends=True):
        if header := _HEADER.fullmatch(line.rstrip(b"\r\n")):
            blocks.append((header[1].lower(), header[2] or b"", [line]))
        else:
            blocks[-1][2].append(line)
    is_named = any(name == b"vault" and not inner for name, inner, _ in blocks)
    settings: list[bytes] = []
    sections: list[bytes] = []
    for name, inner, lines in blocks:
        # Where the header of `vault` is gone, its lines are in whatever section came before. A remote has an id, too.
        if not inner and (name == b"vault" or not is_named):
            said = [match for line in lines if (match := _SETTING.fullmatch(line.rstrip(b"\r\n")))]
            settings += [match[0] + b"\n" for match in said if valid(match[1].decode(), match[2].decode())]
        if not name or name in _REFUSED or (not inner and name in (*_OURS, b"vault")):
            continue
        if not _is_read(b"".join(lines)):
            lines = [lines[0], *(line for line in lines[1:] if _is_read(lines[0] + line))]
        if _is_read(b"".join(lines)):
            sections.append(b"".join(lines).rstrip() + b"\n")
    return settings, sections


def _is_read(config: bytes) -> bool:
    with suppress(ToolFailed):
        # Not in the vault: git would stop at its damaged config.
        git(Path(os.devnull), "config", "-f", "-", "--list", stdin=config)
        return True
    return False


def keep_copy(path: Path, vault: Path, disk: Disk) -> None:
    """Put a copy of a file of the vault into its quarantine, durably, before the file is written anew."""
    if not path.is_file():
        return
    folder = vault / "quarantine"
    disk.make_folder(folder)
    number = 1
    while (target := folder / f"{path.name}.{number}").exists():
        number += 1
    copy_file(path, target, disk)
    disk.sync_folder(folder)
