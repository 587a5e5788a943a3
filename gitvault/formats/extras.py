"""Libraries that come with an extra, imported where they are used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from gitvault.errors import ToolMissing


def need(module: str, extra: str) -> Any:
    """The module. Raises ToolMissing, which says what to install, when it is not there."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ToolMissing(f"{module}: not installed; pip install 'gitvault[{extra}]'") from error
