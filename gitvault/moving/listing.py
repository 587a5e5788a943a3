"""What a copy holds, listed, and how two listings differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gitvault.core.backup_engine.incoming import Changes, Given


@dataclass(slots=True)
class Listing:
    """The files, symlinks and folders of one copy."""

    root: bytes = b""
    """Where in the copy the project is; its paths are relative to that."""
    entries: dict[bytes, Given] = field(default_factory=dict)


def differences(
    now: Listing, then: Listing | None, is_fresh: Callable[[bytes], bool], *, folders: bool = False
) -> tuple[Changes, Mapping[bytes, Given]]:
    """What is different, and what of that has to be read: what is new, or another kind, or `is_fresh`.

    `folders`: also read new ones, of which then more may be known.
    """
    past = then.entries if then else {}
    gone = [path for path, old in past.items() if path not in now.entries or now.entries[path].kind != old.kind]
    given: list[Given] = []
    wanted: dict[bytes, Given] = {}
    for path, one in now.entries.items():
        old = past.get(path)
        new = old is None or old.kind != one.kind
        fresh = new or is_fresh(path)
        if fresh or one != old:
            given.append(one)
        if (folders and new) if one.kind == "folder" else fresh:
            wanted[path] = one
    return Changes(sorted(gone), given), wanted
