"""For the artist: pictures of what changed, the past of a file, one layer brought back, what files refer to.

with CreativeVault("forest", "~/art/forest") as forest:
    forest.backup(message="before the new light")
    forest.compare_versions("forest~1", "forest", folder="changes")   pictures, and a page
    forest.timeline("hero.kra")                the versions of a file, with thumbnails
    forest.restore_element("Ink", "forest~3:hero.kra", "hero.kra", "hero-with-ink.kra")
    forest.asset_graph()                       what the project needs, and what of that is missing
    forest.capture_workspace("krita")          brushes, layouts and settings, linked to the newest snapshots
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.core.utils.names import from_text
from gitvault.personas.project import ProjectVault

if TYPE_CHECKING:
    from gitvault.core.interfaces import Progress
    from gitvault.core.models import RestoreReport, SnapshotReport
    from gitvault.formats import Element
    from gitvault.personas.creative.diff import FileDifference
    from gitvault.personas.creative.elements import RestoredElement
    from gitvault.personas.creative.references import Graph, Library, Link
    from gitvault.personas.creative.relocation import Relocation
    from gitvault.personas.creative.timeline import Version
    from gitvault.personas.creative.workspaces import Workspace
    from gitvault.personas.creative.workspaces.applications import Surroundings
    from gitvault.personas.creative.workspaces.restore import Restored


class CreativeVault(ProjectVault):
    """An artist's project in the vault that `vault`, else GIT_VAULT_DIR, else the settings name."""

    def compare_versions(
        self, a: str, b: str, path: str | bytes = b"", *, folder: Path | str | None = None, overwrite: bool = False
    ) -> list[FileDifference]:
        """How files differ between two snapshots, below `path`; with `folder`, a new one, pictures and a page there.

        What cannot be read is told in `problem`. Raises NotFoundError, CorruptionError, ToolMissing, ExistsError.
        """
        from gitvault.personas.creative.diff import compare_snapshots, new_folder
        from gitvault.personas.creative.page import write_page

        target = Path(folder) if folder else None
        if target:
            new_folder(target, overwrite=overwrite)
        below = path.encode() if isinstance(path, str) else path
        found = list(compare_snapshots(self.vault, a, b, below, target))
        if target:
            write_page(f"{a} → {b}", found, target)
        return found

    def timeline(
        self,
        path: str | bytes = b"",
        *,
        fold: bool = False,
        elements: bool = False,
        progress: Progress | None = None,
    ) -> list[Version]:
        """The versions of a file, of all in a folder, or of the project, oldest first, with thumbnails.

        `fold`: without those that the next one looks the same as. `elements`: with the names of what changed inside
        layered files and scenes, which are read for it where nobody has done so. Raises NotFoundError, CorruptionError.
        """
        from gitvault.personas.creative.timeline import timeline
        from gitvault.personas.creative.timeline.similar import folded

        inner = from_text(path) if isinstance(path, str) else path
        versions = timeline(self.vault, self.project.name, inner, elements=elements, progress=progress)
        return folded(versions) if fold else versions

    def elements(self, source: str) -> list[Element]:
        """What a file, FILE or SNAPSHOT:PATH, consists of: layers, pages ... Raises UnsupportedMedia, NotFoundError."""
        from gitvault.personas.creative.elements import list_elements

        return list_elements(source, lambda: self.vault)

    def extract_elements(
        self, name: str, id: str, output: Path | str, elements: Sequence[str] = (), *, suffix: str | None = None
    ) -> list[Path]:
        """Write elements of the file `name`, a path in the project, as it was in the snapshot `id`, into a folder.

        `elements`: ids or names; without any all that hold nothing else. Each becomes a file of its own with the
        extension `suffix`, else the file's. Nothing is overwritten.
        Raises UnsupportedMedia, NotFoundError, AmbiguousError, ExistsError.
        """
        from gitvault.personas.creative.elements import extract_into

        return extract_into(f"{id}:{name}", Path(output), elements, lambda: self.vault, suffix=suffix)

    def restore_element(
        self, element: str, source: str, into: str, output: Path | str, *, overwrite: bool = False
    ) -> RestoredElement:
        """Write the file `into` with an element, by id or name, of the file `source`, all else as it is, proven.

        Both are FILE or SNAPSHOT:PATH. Raises UnsupportedMedia, NotFoundError, AmbiguousError, ExistsError.
        """
        from gitvault.personas.creative.elements import restore_element

        return restore_element(element, source, into, Path(output), lambda: self.vault, overwrite=overwrite)

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

    def capture_workspace(self, app: str, *, home: Path | str | None = None) -> Workspace:
        """Keep an application's workspace. Raises NotFoundError for one that is not known, or keeps nothing here."""
        from gitvault.personas.creative import workspaces
        from gitvault.personas.creative.workspaces.applications import find, known, named

        around = _around(home)
        return workspaces.capture(self.vault, find(named(known(), app), around), around)

    def restore_workspace(self, workspace: str, *, home: Path | str | None = None) -> Restored:
        """Put a workspace back, by its id or as the newest of an application; see `workspaces.restore`."""
        from gitvault.personas.creative import workspaces
        from gitvault.personas.creative.workspaces.applications import known
        from gitvault.personas.creative.workspaces.running import running

        found = workspaces.find(self.vault, workspace)
        return workspaces.restore(self.vault, found, known(), _around(home), running)

    def _library(self) -> Library:
        from gitvault.personas.creative.references import Library

        return Library(self.vault.path / "cache")


def _around(home: Path | str | None) -> Surroundings:
    from gitvault.personas.creative.workspaces.applications import SYSTEMS, Surroundings

    return Surroundings(Path(os.path.abspath(home or Path.home())), SYSTEMS.get(sys.platform, "linux"), {})
