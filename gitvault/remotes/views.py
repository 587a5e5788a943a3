"""A machine's refs over the vault's own objects: what a record names, read as a history."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from gitvault.core.models import ObjectId
from gitvault.core.utils.files import Disk, FleetingDisk
from gitvault.core.versioning.history import HEADS, GitHistory


@contextmanager
def viewed(history: GitHistory, refs: Mapping[str, ObjectId]) -> Iterator[GitHistory]:
    """Meanwhile a history with these refs, and no others, over the objects of `history`."""
    with TemporaryDirectory(prefix="gitvault-") as folder:
        view = GitHistory(Path(folder), decode_pointer=history.decode_pointer)
        view.objects = history.objects
        write_refs(Path(folder), refs, FleetingDisk())
        yield view


def write_refs(git_dir: Path, refs: Mapping[str, ObjectId], disk: Disk) -> None:
    """Let a bare repository that has no others have these refs."""
    branch = next((ref for ref in sorted(refs) if ref.startswith(HEADS)), f"{HEADS}main")
    lines = "".join(f"{oid.hex()} {ref}\n" for ref, oid in sorted(refs.items()))
    disk.write_durably(git_dir / "packed-refs", lines.encode())
    disk.write_durably(git_dir / "HEAD", f"ref: {branch}\n".encode())
