"""Which programs run now."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from gitvault.core.utils.process import run


def running(names: Collection[str], home: Path) -> str:
    """One of these programs that runs for the user of that home, empty for none.

    Where it cannot be told whose a program is, any counts. Raises ToolError.
    """
    # The kernel keeps 15 characters.
    cut = {name[:15] if sys.platform == "linux" else name for name in names}
    for name, whose in _programs():
        if name in cut and whose in (None, os.fsencode(home)):
            return name
    return ""


def _programs() -> Iterator[tuple[str, bytes | None]]:
    """The name of each process and its home folder, None where that cannot be told."""
    if sys.platform == "win32":
        listed = run(["tasklist", "/fo", "csv", "/nh"]).decode("utf-8", "replace")
        yield from ((line.split('","')[0].strip('"'), None) for line in listed.splitlines())
    elif sys.platform == "linux":
        for folder in Path("/proc").glob("[0-9]*"):
            # It may be gone by now, or somebody else's.
            try:
                name = (folder / "comm").read_text(errors="replace").strip()
            except OSError:
                continue
            try:
                said = (folder / "environ").read_bytes().split(b"\0")
                home = next((word[5:] for word in said if word.startswith(b"HOME=")), None)
            except OSError:
                home = None
            yield name, home
    else:
        listed = run(["ps", "-A", "-o", "comm="]).decode("utf-8", "replace")
        yield from ((os.path.basename(line.strip()), None) for line in listed.splitlines())
