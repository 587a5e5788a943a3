"""For the artist: pictures of what changed, the past of a file, one layer brought back, what files refer to.

with CreativeVault("forest", "~/art/forest") as forest:
    forest.backup(message="before the new light")
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.personas.project import ProjectVault

if TYPE_CHECKING:
    from gitvault.personas.creative.diff import FileDifference


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
