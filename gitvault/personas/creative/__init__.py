"""For the artist: pictures of what changed, the past of a file, one layer brought back, what files refer to.

with CreativeVault("forest", "~/art/forest") as forest:
    forest.backup(message="before the new light")
"""

from __future__ import annotations

from gitvault.personas.project import ProjectVault


class CreativeVault(ProjectVault):
    """An artist's project in the vault that `vault`, else GIT_VAULT_DIR, else the settings name."""
