"""Rules that are gitignore patterns, the same for every folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pathspec

    from gitvault.core.interfaces import Scope


class Patterns:
    """Leaves out what gitignore patterns match, as in a .gitignore of the root. Rules."""

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        self.patterns = tuple(patterns)
        self.digest = hashlib.sha1(repr(self.patterns).encode(), usedforsecurity=False).digest()
        self._spec: pathspec.GitIgnoreSpec | None = None

    def marks(self, names: Iterable[str]) -> Sequence[str]:
        """See Rules."""
        return ()

    def scope(self, path: bytes, marks: Sequence[str], outer: Scope | None) -> Scope:
        """See Rules."""
        return _Inside(self, path + b"/" if path else b"")

    def excluded_by(self, path: bytes, is_folder: bool) -> str | None:
        """The pattern that leaves `path` out, None when it is saved. Its parents are not looked at."""
        if not self.patterns:
            return None
        if self._spec is None:
            import pathspec

            # Not whichever matcher is installed: re2 raises for a name that is not UTF-8.
            self._spec = pathspec.GitIgnoreSpec.from_lines(self.patterns, backend="simple")
        found = self._spec.check_file(os.fsdecode(path) + ("/" if is_folder else ""))
        return self.patterns[found.index] if found.include and found.index is not None else None


@dataclass(slots=True)
class _Inside:
    """The patterns, seen from one folder. A Scope."""

    _rules: Patterns
    _prefix: bytes

    @property
    def digest(self) -> bytes:
        return self._rules.digest

    def omits(self, name: bytes, is_folder: bool) -> str:
        pattern = self._rules.excluded_by(self._prefix + name, is_folder) if self._rules.patterns else None
        return f"left out by vault.ignore = {pattern}" if pattern else ""
