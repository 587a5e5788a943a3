"""Extensions from outside: entry points of other installed packages, loaded when asked for.

* `gitvault.chunking`: a callable `(min_size, avg_size, max_size) -> ChunkingStrategy`, for files when
  `vault.chunkingStrategy` is the entry point's name
* `gitvault.formats`: a `gitvault.formats.Format`, for files it recognizes by their content
* `gitvault.personas`: a `gitvault.personas.base.Persona`, whose verbs join the command line's
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gitvault.errors import ConfigError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

CHUNKING = "gitvault.chunking"
FORMATS = "gitvault.formats"
PERSONAS = "gitvault.personas"


@dataclass(frozen=True, slots=True)
class Plugin:
    """One entry point of an installed package."""

    group: str
    name: str
    distribution: str
    """The package that brings it, with its version: `acme-chunks 1.2`."""
    entry_point: EntryPoint

    def load(self) -> object:
        """What the entry point names. Raises ConfigError, which names the package, when it cannot be imported."""
        try:
            return self.entry_point.load()
        # Foreign code may raise anything while it is imported; whatever it is, it is the package's fault.
        except Exception as error:
            raise ConfigError(f"{self}: cannot be loaded: {_line(error)}; {self.mend}") from error

    def wrong(self, found: object, expected: str) -> ConfigError:
        """The error to raise when the entry point names something else than its group asks for."""
        return ConfigError(f"{self}: expected {expected}, found {type(found).__name__}; {self.mend}")

    @property
    def mend(self) -> str:
        """What to do about a broken one."""
        return f"update or uninstall {self.distribution.split()[0]}"

    def __str__(self) -> str:
        return f"plug-in {self.name} ({self.group}) of package {self.distribution}"


def installed(group: str) -> tuple[Plugin, ...]:
    """Every plug-in of the group, by name. Takes some 30 ms: importlib.metadata reads every package's folder."""
    from importlib.metadata import entry_points

    found = [
        Plugin(group, point.name, f"{point.dist.name} {point.dist.version}" if point.dist else point.value, point)
        for point in entry_points(group=group)
    ]
    return tuple(sorted(found, key=lambda plugin: (plugin.name, plugin.distribution)))


def find(group: str, name: str) -> Plugin | None:
    """The plug-in of that name; None when there is none. Raises ConfigError when two packages claim the name."""
    found = [plugin for plugin in installed(group) if plugin.name == name]
    if len(found) > 1:
        packages = " and ".join(plugin.distribution for plugin in found)
        raise ConfigError(f"plug-in {name} ({group}): both {packages} bring it; uninstall one of them")
    return found[0] if found else None


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
