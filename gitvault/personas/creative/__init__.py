"""For the artist: pictures of what changed, the past of a file, one layer brought back, what files refer to.

with CreativeVault("forest", "~/art/forest") as forest:
    forest.backup(message="before the new light")
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.personas.project import ProjectVault

if TYPE_CHECKING:
    from gitvault.formats import Element
    from gitvault.personas.creative.elements import Restored


class CreativeVault(ProjectVault):
    """An artist's project in the vault that `vault`, else GIT_VAULT_DIR, else the settings name."""

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
    ) -> Restored:
        """Write the file `into` with an element, by id or name, of the file `source`, all else as it is, proven.

        Both are FILE or SNAPSHOT:PATH. Raises UnsupportedMedia, NotFoundError, AmbiguousError, ExistsError.
        """
        from gitvault.personas.creative.elements import restore_element

        return restore_element(element, source, into, Path(output), lambda: self.vault, overwrite=overwrite)
