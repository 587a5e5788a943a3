"""What must be sound before a vault can be opened at all: its `config` and its `HEAD`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from gitvault.core.models import Repair
from gitvault.core.utils.files import Disk, copy_file
from gitvault.core.utils.process import git
from gitvault.core.versioning.history import HEADS
from gitvault.core.versioning.refs import RefStore
from gitvault.errors import CorruptionError, ToolFailed

_HEAD = re.compile(rb"(ref: refs/[^\s]+|[0-9a-f]{40})\s*")
_SETTING = re.compile(rb"\s*([a-zA-Z]+) = ([ -~]*)")


def mend_frame(
    vault: Path, config: bytes, wanted: Sequence[tuple[str, str]], valid: Callable[[str, str], bool], disk: Disk
) -> list[Repair]:
    """Make a vault openable again whose `config` or `HEAD` is damaged or gone; nothing for what is no vault at all.

    `config`: what a new vault has, its last section being `vault`. `wanted`: its keys and values. Settings of the old
    file are kept when they, key and value, are `valid`.
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
    if any(pairs.get(key.lower()) != value for key, value in wanted):
        keep_copy(file, vault, disk)
        lines = file.read_bytes().splitlines() if file.is_file() else []
        said = [match for match in map(_SETTING.fullmatch, lines) if match]
        kept = [match[0] + b"\n" for match in said if valid(match[1].decode(), match[2].decode())]
        disk.write_durably(file, config + b"".join(kept))
        done.append(Repair("vault", "config", f"written anew, settings kept: {len(kept)}"))
    return done


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
