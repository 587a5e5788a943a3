"""File formats: what gitvault knows of a family of files beyond its bytes. Packages add theirs by entry point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gitvault import plugins


@dataclass(frozen=True, slots=True)
class Format:
    """One family of files."""

    name: str
    summary: str
    sniff: Callable[[bytes], bool]
    """Whether a file that begins with these bytes (up to 64 KiB) is one."""
    extensions: tuple[str, ...] = ()
    """Usual ones, lower case, with their dot; the likely format is asked first."""


def formats() -> tuple[Format, ...]:
    """Every format there is. Raises ConfigError for a plug-in that does not work."""
    return tuple(map(format_plugin, plugins.installed(plugins.FORMATS)))


def format_plugin(plugin: plugins.Plugin) -> Format:
    """The format that a plug-in brings. Raises ConfigError when it brings something else."""
    record = plugin.load()
    if not isinstance(record, Format):
        raise plugin.wrong(record, "a gitvault.formats.Format")
    return record


def identify(head: bytes, file_extension: str | None = None) -> Format | None:
    """The format of a file by its first bytes; None when no format knows it."""
    likely_first = sorted(formats(), key=lambda known: file_extension not in known.extensions)
    return next((known for known in likely_first if known.sniff(head)), None)
