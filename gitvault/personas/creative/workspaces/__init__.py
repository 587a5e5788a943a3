"""Workspaces of applications: layouts, preferences, brushes, keymaps, presets, captured and put back.

`applications` knows where they are, `capture` reads them into records of the area `workspaces`, `restore` writes them.
"""

from gitvault.personas.creative.workspaces.capture import Workspace, capture, changes, find, workspaces
from gitvault.personas.creative.workspaces.restore import restore

__all__ = ["Workspace", "capture", "changes", "find", "restore", "workspaces"]
