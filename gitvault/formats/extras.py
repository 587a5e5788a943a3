"""Libraries that not everybody installs: what needs one says so, and how to get it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from gitvault.errors import ToolMissing


def need(module: str, extra: str) -> Any:
    """A module of the optional dependencies `extra`. Raises ToolMissing."""
    try:
        return import_module(module)
    except ImportError:
        raise ToolMissing(f"{module}: not installed; pip install 'gitvault[{extra}]'") from None
