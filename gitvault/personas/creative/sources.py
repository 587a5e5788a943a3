"""Files as people name them: one on disk, or one in a snapshot, brought where programs can read it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.core.utils.names import to_line
from gitvault.errors import NotFoundError
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
    with tempfile.TemporaryDirectory(prefix="gitvault-") as folder:
        yield fetched(vault(), snapshot, os.fsencode(path), Path(folder))


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
