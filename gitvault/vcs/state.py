"""What is known of a checkout, and how much may be asked to find out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from gitvault.core.beside import Beside
from gitvault.core.utils.files import Disk


@dataclass(frozen=True, slots=True)
class Checkout:
    """A folder that version control looks after."""

    path: Path
    """Its top folder; of a bare repository, that itself."""
    vcs: str
    """`git`, `hg`, `svn`, `fossil`, `perforce` or `plastic`."""
    bare: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """What of a checkout exists only here."""

    checkout: Checkout
    base: str = ""
    """The commit or revision that the work tree is at; "" before the first one."""
    branch: str = ""
    """"" when none is checked out."""
    modified: int = 0
    """Tracked files that differ from the base, staged or not; each once."""
    staged: int = 0
    """Of these, those that differ in the index."""
    conflicts: int = 0
    """Of these, those with a conflict that is not resolved."""
    untracked: int = 0
    """Files that are not under version control and that the vault keeps, ignored ones among them."""
    unpushed: Mapping[str, int] = field(default_factory=dict)
    """Commits that no remote has, by the branch (or other ref) they are on; each once."""
    stashes: int = 0
    branches: tuple[str, ...] = ()
    """Branches that no remote has."""
    tags: tuple[str, ...] = ()
    operation: str = ""
    """What was begun and is not finished: `merge`, `rebase` ..."""
    remotes: tuple[str, ...] = ()
    answered: float = 0
    """When a remote last said what it has, in seconds since 1970; 0: not known."""
    notes: tuple[str, ...] = ()
    """What else there is to say."""
    trouble: str = ""
    """Why it, or a remote that it relies on, counts as unreadable; "" when all is well."""
    local: tuple[Path, ...] = ()
    """Files that say what is only here: changed and untracked ones, and those that hold refs."""
    nested: tuple[Checkout, ...] = ()
    """Checkouts inside it."""
    beside: Beside | None = field(default=None, compare=False)
    """What outside of its folder all this depends on; None where that cannot be told."""

    @property
    def safe(self) -> bool:
        """Whether nothing of it exists only here."""
        counts = (self.modified, self.untracked, self.stashes, *self.unpushed.values())
        return not (self.trouble or self.operation or any(counts) or self.branches or self.tags)


@dataclass(frozen=True, slots=True)
class Asking:
    """How much may be asked of remotes."""

    now: datetime
    limit: timedelta
    """For how long a remote may fail to answer until what it held counts as gone."""
    cache: Path
    """Where answers are kept."""
    disk: Disk
    probe: bool = False
    """Ask each remote, whatever is known of it."""
