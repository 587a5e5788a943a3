"""The settings `vault.watch.*`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from gitvault.core.utils import process
from gitvault.errors import ConfigError
from gitvault.personas.code.activity.detector import Timing

_LIMITS = {"quiet": (1, 3600), "interval": (5, 86_400), "rescan": (60, 86_400)}


@dataclass(frozen=True, slots=True)
class Settings:
    """How a watcher behaves; seconds."""

    timing: Timing = field(default_factory=Timing)
    rescan: float = 1800
    """Everything is looked at so often, to find what was not told."""


def load(vault: Path) -> Settings:
    """Those that hold for a vault. Raises ConfigError for one that is unknown or cannot be."""
    found = process.git(vault, "config", "-z", "--get-regexp", r"^vault\.watch\.", ok=(0, 1))
    values: dict[str, float] = {}
    for pair in found.decode("utf-8", "replace").split("\0")[:-1]:
        key, _, text = pair.partition("\n")
        name = key.rpartition(".")[2]
        if name not in _LIMITS:
            known = ", ".join(f"vault.watch.{one}" for one in _LIMITS)
            raise ConfigError(f"{key}: unknown setting; known are {known}")
        low, high = _LIMITS[name]
        if not (text.isascii() and text.isdecimal() and low <= int(text) <= high):
            raise ConfigError(f"{key}: found {text!r}, expected a number of seconds from {low} to {high}")
        values[name] = float(text)
    default = Settings()
    quiet = values.get("quiet", default.timing.quiet)
    interval = values.get("interval", default.timing.interval)
    return Settings(Timing(quiet, interval), values.get("rescan", default.rescan))
