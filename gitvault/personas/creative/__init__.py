"""For the artist: pictures of what changed, the past of a file, one layer brought back, what files refer to.

with CreativeVault("forest", "~/art/forest") as forest:
    forest.backup(message="before the new light")
    forest.capture_workspace("krita")         brushes, layouts and settings, linked to the newest snapshots
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.personas.project import ProjectVault

if TYPE_CHECKING:
    from gitvault.formats import Element
    from gitvault.personas.creative.elements import RestoredElement
    from gitvault.personas.creative.workspaces import Workspace
    from gitvault.personas.creative.workspaces.applications import Surroundings
    from gitvault.personas.creative.workspaces.restore import Restored


class CreativeVault(ProjectVault):
    """An artist's project in the vault that `vault`, else GIT_VAULT_DIR, else the settings name."""

    def capture_workspace(self, app: str, *, home: Path | str | None = None) -> Workspace:
        """Keep an application's workspace. Raises NotFoundError for one that is not known, or keeps nothing here."""
        from gitvault.errors import NotFoundError
        from gitvault.personas.creative import workspaces
        from gitvault.personas.creative.workspaces.applications import find, known

        applications = known()
        if app not in applications:
            raise NotFoundError(f"{app}: no such application; there are {', '.join(sorted(applications))}")
        around = _around(home)
        return workspaces.capture(self.vault, find(applications[app], around), around)

    def restore_workspace(self, workspace: str, *, home: Path | str | None = None) -> Restored:
        """Put a workspace back, by its id or as the newest of an application; see `workspaces.restore`."""
        from gitvault.personas.creative import workspaces
        from gitvault.personas.creative.workspaces.applications import known
        from gitvault.personas.creative.workspaces.running import running

        found = workspaces.find(self.vault, workspace)
        return workspaces.restore(self.vault, found, known(), _around(home), running)

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


def _around(home: Path | str | None) -> Surroundings:
    from gitvault.personas.creative.workspaces.applications import SYSTEMS, Surroundings

    return Surroundings(Path(os.path.abspath(home or Path.home())), SYSTEMS.get(sys.platform, "linux"), {})
