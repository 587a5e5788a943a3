"""For the developer: one project in the vault, what is safe of it, and the past of all.

with CodeVault("shop", "~/work/shop") as shop:
    shop.backup(message="before the rewrite")
    shop.safety().reason                      what would be lost with this machine
    shop.explain("src/main.py").rule          why a path is saved or left out
    for found in shop.search("parse_header").found: ...
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.personas.project import ProjectVault

if TYPE_CHECKING:
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
