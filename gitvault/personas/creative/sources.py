"""Files as people name them: one on disk, or one in a snapshot, brought where programs can read it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.core.utils.names import to_line
from gitvault.errors import NotFoundError, UnsupportedMedia
from gitvault.formats.confined import Confined

if TYPE_CHECKING:
    from gitvault.vault import Vault


@contextmanager
def at_hand(named: str, vault: Callable[[], Vault]) -> Iterator[Path]:
    """The file that `named` is: a path on disk, or SNAPSHOT:PATH, which is then a copy for as long as this lasts.

    The vault is opened for the latter only. Raises NotFoundError, what opening and reading raise.
    """
    snapshot, colon, path = named.partition(":")
    if os.path.lexists(named) or not colon:
        if not os.path.isfile(named):
            raise NotFoundError(f"{to_line(os.fsencode(named))}: no such file; a saved one is SNAPSHOT:PATH")
        yield Path(named)
        return
    import tempfile

    with tempfile.TemporaryDirectory(prefix="gitvault-") as folder:
        yield fetched(vault(), snapshot, os.fsencode(path), Path(folder))


@contextmanager
def steady(*paths: Path) -> Iterator[None]:
    """Files that nobody may write meanwhile: raises UnsupportedMedia at the end when one of them changed."""
    before = [_stamp(path) for path in paths]
    refused = None
    try:
        yield
    except UnsupportedMedia as error:
        # What is half written looks like damage.
        refused = error
    for path, stamp in zip(paths, before, strict=True):
        if _stamp(path) != stamp:
            raise UnsupportedMedia(
                f"{to_line(os.fsencode(path))}: it changed while it was read; try again"
            ) from refused
    if refused:
        raise refused


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


def fetched(vault: Vault, snapshot: str, path: bytes, folder: Path) -> Path:
    """A copy in `folder` of a file of a snapshot, with its extension, and of the buffers a glTF file has beside it.

    Raises NotFoundError, CorruptionError.
    """
    target = folder / ("file" + os.path.splitext(os.fsdecode(path))[1])
    with open(target, "wb") as file:
        vault.read_file(snapshot, path, file)
    if target.suffix.lower() == ".gltf":
        with Confined() as child:
            names = child.call("gitvault.formats.scene.gltf:buffers_beside", str(target))
        for name in names:
            beside = folder / name
            beside.parent.mkdir(parents=True, exist_ok=True)
            try:
                with open(beside, "wb") as file:
                    vault.read_file(snapshot, os.path.join(os.path.dirname(path), os.fsencode(name)), file)
            except NotFoundError:
                # Who reads the file says what it lacks.
                beside.unlink()
    return target
