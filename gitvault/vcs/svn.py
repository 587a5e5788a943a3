"""Subversion's own program, which runs nothing that a working copy names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.core.utils import process
from gitvault.errors import ToolFailed

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

LIMIT = 60.0
"""Seconds that one question may take."""


def ask(folder: Path, *arguments: str, timeout: float = LIMIT) -> Element:
    """What svn says in a folder, its XML read. Raises ToolMissing, ToolFailed, ToolTimeout."""
    from xml.etree.ElementTree import ParseError, fromstring

    command = ["svn", arguments[0], "--non-interactive", "--xml", *arguments[1:]]
    try:
        return fromstring(process.run(command, cwd=folder, timeout=timeout))
    except ParseError as error:
        raise ToolFailed(f"svn {arguments[0]}", 0, f"its answer is no XML: {error}") from None


def told(error: ToolFailed) -> str:
    """What svn gave as the reason, in one line."""
    found = re.search(r"svn: (E\d+: .*)", error.stderr)
    return found[1] if found else str(error)
