"""For the artist: pictures of what changed, the past of a file, one layer brought back, what files refer to.

with CreativeVault("forest", "~/art/forest") as forest:
    forest.backup(message="before the new light")
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.personas.project import ProjectVault

if TYPE_CHECKING:
    from gitvault.core.models import RestoreReport, SnapshotReport
    from gitvault.personas.creative.references import Graph, Library, Link
    from gitvault.personas.creative.relocation import Relocation


class CreativeVault(ProjectVault):
    """An artist's project in the vault that `vault`, else GIT_VAULT_DIR, else the settings name."""

    def references(self, *files: Path | str) -> list[Link]:
        """What files refer to, without any what those of the project do. Raises UnsupportedMedia for one given."""
        with self._library() as library:
            if files:
                return [link for file in files for link in library.links(str(Path(file).absolute()))]
            return list(library.all_links([self.project.path], []))

    def asset_graph(self) -> Graph:
        """The project's files with all that they need, in the project or elsewhere, and what of that is missing."""
        with self._library() as library:
            return library.graph([self.project.path])

    def backup_with_links(self, message: str = "") -> SnapshotReport:
        """Save the project as it is with all files elsewhere that it needs; `restore` has the files find them."""
        from gitvault.personas.creative.carrying import links_of

        links, _ = links_of(self.vault, self.project.path)
        return self.vault.create_snapshot(self.project.path, project=self.project.name, message=message, links=links)

    def restore(self, snapshot: str, target: Path | str, paths: Iterable[str | bytes] = ()) -> RestoreReport:
        """Get a snapshot back; the files of one with links refer to what came with it."""
        from gitvault.core.utils.names import from_text
        from gitvault.personas.creative import carrying

        wanted = [from_text(path) if isinstance(path, str) else path for path in paths]
        return carrying.restore(self.vault, snapshot, target, paths=wanted)

    def relocate(self, old: Path | str, new: Path | str, *, in_place: bool = False) -> Relocation:
        """Move a file or folder, unless that is done, and put the project's references to it right.

        Without `in_place` copies are made and no original changes; with it the project is saved first. Raises
        NotFoundError, ExistsError.
        """
        from gitvault.personas.creative import relocation

        scope = [self.project.path]

        def save(touched: list[str]) -> None:
            relocation.save_first(self.vault, scope, touched)

        with self._library() as library:
            return relocation.relocate(library, scope, str(old), str(new), in_place=save if in_place else None)

    def _library(self) -> Library:
        from gitvault.personas.creative.references import Library

        return Library(self.vault.path / "cache")
