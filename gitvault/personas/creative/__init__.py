"""For the artist: pictures of what changed, the past of a file, one layer brought back, what files refer to.

with CreativeVault("forest", "~/art/forest") as forest:
    forest.backup(message="before the new light")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gitvault.core.utils.names import from_text
from gitvault.personas.project import ProjectVault

if TYPE_CHECKING:
    from gitvault.core.interfaces import Progress
    from gitvault.personas.creative.timeline import Version


class CreativeVault(ProjectVault):
    """An artist's project in the vault that `vault`, else GIT_VAULT_DIR, else the settings name."""

    def timeline(
        self, path: str | bytes = b"", *, fold: bool = False, progress: Progress | None = None
    ) -> list[Version]:
        """The versions of a file, of all in a folder, or of the project, oldest first, with thumbnails.

        `fold`: without those that the next one looks the same as. Raises NotFoundError, CorruptionError.
        """
        from gitvault.personas.creative.timeline import timeline
        from gitvault.personas.creative.timeline.similar import folded

        inner = from_text(path) if isinstance(path, str) else path
        versions = timeline(self.vault, self.project.name, inner, progress=progress)
        return folded(versions) if fold else versions
