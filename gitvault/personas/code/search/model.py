"""What a search is asked and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

CONVERTED = ".converted"
"""How the name of a repository ends that was made of the history of an hg or svn checkout."""
SVN = b"svn revision"
"""How the id of a version begins that is a revision of svn; its number follows."""


@dataclass(frozen=True, slots=True)
class Source:
    """A repository in which versions of a project are, read in place."""

    project: str
    folder: Path
    """A checkout, a bare repository, or the vault."""
    branch: str = ""
    """In a vault, the ref of the project's snapshots; empty: HEAD and the local branches that are not merged in it."""
    checkout: Path | None = None
    """In a vault, where the checkout is whose commits these snapshots are changes of."""

    @property
    def names_versions(self) -> bool:
        """Whether its commits say of what they are: snapshots, changesets of hg, revisions of svn."""
        return bool(self.branch) or self.folder.name.endswith(CONVERTED)


@dataclass(frozen=True, slots=True)
class Version:
    """A commit or a snapshot."""

    number: int
    """Rises along each project's history."""
    id: str
    """40 hex digits; of svn `r` and the revision."""
    project: str
    time: datetime
    """When it was committed."""
    author: str
    subject: str
    """The first line of its message."""
    snapshot: bool
    """Whether the vault has it, and not the project's own version control."""


class Change(NamedTuple):
    """A file that differs between a version and the one before it."""

    version: int
    project: str
    path: bytes
    old: bytes
    """Ids of blobs; empty for none."""
    new: bytes
    settled: bool = False
    """What commits between two snapshots changed, taken back: only for adding up, since they have it themselves."""


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for, and where.

    `kind` of `text`: a regular expression, or, `fixed`, the text itself.
    """

    text: str
    fixed: bool = False
    ignore_case: bool = False
    word: bool = False
    """Only as a whole word."""
    projects: tuple[str, ...] = ()
    """Names; none: all."""
    paths: tuple[str, ...] = ()
    """Patterns as in .gitignore, one of which a path has to fit; none: all."""
    since: datetime | None = None
    """Only what a version from then on brought (`introduced`), took away (`removed`) or, neither asked, did either."""
    until: datetime | None = None
    introduced: bool = False
    removed: bool = False
    alive: bool = False
    """Only what is still there."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A line at a path through its life; a line that takes its place in one version, and fits too, goes on with it."""

    project: str
    path: bytes
    text: bytes
    """As it was last, without the line's end."""
    introduced: Version
    modified: tuple[Version, ...]
    removed: Version | None
    """None: it is alive."""
    projects: tuple[str, ...]
    """All in which this text is or was, of those asked about."""
    blob: bytes
    """Id of the file's last content that held it."""
    last: Version
    """The version of that content."""

    @property
    def alive(self) -> bool:
        """Whether the newest version has it."""
        return self.removed is None


@dataclass(frozen=True, slots=True)
class IndexState:
    """What an update did, or would have to do."""

    versions: int
    """In the index."""
    added: int
    waiting: int
    """Versions that are not in the index yet."""
    problems: tuple[str, ...] = ()
    """What could not be read, a line each."""
