"""For the developer: one project in the vault, what is safe of it, and the past of all.

with CodeVault("shop", "~/work/shop") as shop:
    shop.backup(message="before the rewrite")
    shop.safety().reason                      what would be lost with this machine
    shop.explain("src/main.py").rule          why a path is saved or left out
    for found in shop.search("parse_header").found: ...
    shop.edit(client="acme", phase="build", tags=["urgent"])
    for project in shop.select("client:acme", "tag:urgent"): ...
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.errors import GitVaultError
from gitvault.personas.project import ProjectVault

if TYPE_CHECKING:
    from gitvault.core.models import Project
    from gitvault.personas.code.search.answers import Page, Wanted
    from gitvault.personas.code.search.index import Index
    from gitvault.policy.explain import Decision
    from gitvault.vcs.verdict import Safety


class CodeVault(ProjectVault):
    """A developer's project in the vault that `vault`, else GIT_VAULT_DIR, else the settings name."""

    def explain(self, path: Path | str) -> Decision:
        """What is saved of a path of the project, and by which rule. Raises ConfigError."""
        return self.vault.explain(os.path.join(self.project.path, path))

    def safety(self, *, probe: bool = False) -> Safety:
        """What would be lost if this machine were. `probe`: ask the remotes now."""
        [found] = self.vault.vcs_status([self.project.name], probe=probe)
        return found

    def select(self, *words: str) -> list[Project]:
        """The projects of the vault that words mean, `client:acme`, `tag:urgent` or a name; none: all not archived.

        Raises GitVaultError for a word that means nothing, NotFoundError for a name that no project has.
        """
        from gitvault.personas.code.projects import select

        return select(self.vault.projects(), words, home=os.path.expanduser("~"))

    def edit(
        self,
        *selection: str,
        client: str | None = None,
        stack: str | None = None,
        phase: str | None = None,
        tags: Iterable[str] = (),
        without: Iterable[str] = (),
        archived: bool | None = None,
    ) -> list[Project]:
        """Say something of this project, or of all that a selection means, in one go; as they are then.

        None leaves a fact as it is, "" takes it away. `tags`: to add; `without`: tags to take away.
        Raises GitVaultError for an empty tag, NotFoundError, LockedError, StorageFullError; nothing is edited then.
        """
        from gitvault.core.versioning.edits import Edit
        from gitvault.personas.code.projects import chosen

        project = self.project.name
        known = self.vault.projects()
        names = chosen(known, selection, home=os.path.expanduser("~")) if selection else [project]
        said = {"client": client, "chosen": stack, "phase": phase, "archived": archived}
        values: dict[str, object] = {key: value for key, value in said.items() if value is not None}
        put, taken = ([tag.strip() for tag in given] for given in (tags, without))
        if not all((*put, *taken)):
            raise GitVaultError("a tag that is empty; give a word")
        self.__dict__.pop("project", None)
        return self.vault.edit_projects(names, Edit(values, {"tags": put}, {"tags": taken}))

    def relate(self, kind: str, other: str) -> list[Project]:
        """Say that this project `shares-code-with` another one, or `succeeds` it. Raises as `edit`."""
        from gitvault.core.models import RELATIONS
        from gitvault.core.versioning.edits import Edit

        if kind not in RELATIONS:
            raise GitVaultError(f"{kind!r}: no such relation; expected {' or '.join(RELATIONS)}")
        name, related = self.project.name, (kind, self.vault.project(other).name)
        self.__dict__.pop("project", None)
        return self.vault.edit_projects([name], Edit(put={"relations": [related]}))

    def search(self, pattern: str, *, fixed: bool = False, everywhere: bool = False) -> Page:
        """Lines that match now or did, in this project's past or, `everywhere`, in all of them.

        Raises ConfigError for a pattern that does not compile, ToolError.
        """
        from gitvault.personas.code.search import answers

        with self._index() as index:
            return answers.lines(index, answers.query([pattern], self._wanted(everywhere), fixed=fixed))

    def symbol(self, name: str, *, everywhere: bool = False) -> Page:
        """Where functions, classes and the like of that name were defined, and their lives."""
        from gitvault.personas.code.search import answers

        with self._index() as index, answers.symbols_of(index) as ledger:
            return answers.symbols(index, ledger, name, self._wanted(everywhere))[0]

    def _wanted(self, everywhere: bool) -> Wanted:
        from gitvault.personas.code.search.answers import Wanted

        return Wanted(None if everywhere else frozenset({self.project.name}))

    @contextmanager
    def _index(self) -> Iterator[Index]:
        from gitvault.personas.code.search.answers import bring_up, index_of

        with index_of(self.vault) as index:
            bring_up(self.vault, index)
            yield index
