"""A file as memory that is read only where it is looked at."""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gitvault.errors import UnsupportedMedia


class PartRefused(UnsupportedMedia):
    """What of a file cannot be read, and why; `mapped` adds which file that is."""


@contextmanager
def mapped(path: Path) -> Iterator[memoryview]:
    """The bytes of a file. What goes wrong while they are interpreted becomes UnsupportedMedia; raises OSError."""
    with path.open("rb") as file:
        # Not closed: parts of it may still be held by the error on its way up.
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    try:
        yield view
    except PartRefused as error:
        raise UnsupportedMedia(f"{path.name}: {error}; its bytes are saved") from error
    except (struct.error, LookupError, ArithmeticError, ValueError, zlib.error) as error:
        why = " ".join(str(error).split())[:200]
        raise UnsupportedMedia(f"{path.name}: cut off or damaged: {why}; its bytes are saved") from error
