"""Snapshots as plain folders, or tar files, that need nothing of ours."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.core.models import Problem, SnapshotId
from gitvault.core.utils.attributes import read_xattrs
from gitvault.core.utils.files import Disk
from gitvault.core.utils.layout import is_within
from gitvault.core.utils.names import file_name
from gitvault.errors import ExistsError, GitVaultError
from gitvault.vcs.protect.rebuild import restore
from gitvault.vcs.protect.view import View

if TYPE_CHECKING:
    from gitvault.core.interfaces import Progress
    from gitvault.vault import Vault

_ID = 12


@dataclass(frozen=True, slots=True)
class Exported:
    """A snapshot that is a folder or a file now."""

    snapshot: SnapshotId
    path: Path
    files: int
    bytes: int
    problems: tuple[Problem, ...]


def export(
    vault: Vault, snapshots: Sequence[str], target: Path, *, tar: bool, progress: Progress | None = None
) -> list[Exported]:
    """Write each snapshot as PROJECT-DATE-ID below `target`, made when missing; `tar`: as PROJECT-DATE-ID.tar.

    Each has its name when it is whole. Raises NotFoundError and ExistsError before anything is written, GitVaultError
    for a folder inside the vault, OSError, CorruptionError.
    """
    if is_within(os.path.realpath(target), os.path.realpath(vault.path)):
        raise GitVaultError(f"{target}: lies inside the vault; export into another folder")
    names: dict[str, SnapshotId] = {}
    for name in snapshots:
        found = vault.get_snapshot_info(name)
        day = found.time.astimezone().strftime("%Y-%m-%d")
        names[f"{file_name(found.project)}-{day}-{found.id[:_ID]}{'.tar' if tar else ''}"] = found.id
    for name in names:
        if os.path.lexists(target / name):
            raise ExistsError(f"{target / name}: is there already; remove it, or name another folder with --to")
    if target.exists() and not target.is_dir():
        raise ExistsError(f"{target}: not a folder; name one, or a name that does not exist yet")
    target.mkdir(parents=True, exist_ok=True)
    return [_export(vault, snapshot, target / name, tar, progress) for name, snapshot in names.items()]


def _export(vault: Vault, snapshot: SnapshotId, path: Path, tar: bool, progress: Progress | None) -> Exported:
    disk = Disk()
    folder = path.with_name(f".{path.name}.partial")
    # Of a run that was interrupted.
    shutil.rmtree(folder, ignore_errors=True)
    try:
        report = restore(View(vault.history, snapshot), folder, store=vault.store, progress=progress)
        if tar:
            packed = path.with_name(f".{path.name}.packed")
            _pack(folder, path.stem, packed)
            disk.rename(packed, path)
        else:
            disk.rename(folder, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Exported(snapshot, path, report.files, report.bytes, report.problems)


def _pack(folder: Path, name: str, file: Path) -> None:
    """Everything in a folder, below `name`, with nanoseconds, extended attributes and hard links, in pax's form."""

    def described(member: tarfile.TarInfo) -> tarfile.TarInfo:
        inside = member.name.partition("/")[2]
        place = os.path.join(folder, inside) if inside else os.fspath(folder)
        moment = os.lstat(place).st_mtime_ns
        member.mtime = moment // 1_000_000_000
        # Of a time before 1970 the fraction counts down as the seconds do.
        seconds, fraction = divmod(abs(moment), 1_000_000_000)
        member.pax_headers = {"mtime": f"{'-' if moment < 0 else ''}{seconds}.{fraction:09}"}
        if member.isreg() or member.isdir():
            fd = os.open(place, os.O_RDONLY)
            try:
                for label, value in read_xattrs(fd).items():
                    member.pax_headers[f"SCHILY.xattr.{label}"] = value.decode("utf-8", "surrogateescape")
            finally:
                os.close(fd)
        return member

    with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(folder, name, filter=described)
