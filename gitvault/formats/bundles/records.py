"""What is known of a bundle: a file in which an engine ships many assets."""

from __future__ import annotations

from dataclasses import dataclass

MOST = 1 << 20
"""Assets in one bundle; a table that claims more is damaged, or hostile."""


@dataclass(frozen=True, slots=True)
class Asset:
    """One asset in a bundle."""

    name: str
    """As the engine knows it: its path in the project where the bundle says that; "" for all that have none."""
    kind: str
    """Its extension without the dot, or the engine's class: `png`, `ctex`, `Texture2D` ..."""
    size: int
    """Bytes when it is loaded."""
    hash: str
    """SHA-256 (hex) of what it is; the same in two bundles of one format: the same asset. "": not to be seen."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What is in one."""

    format: str
    """`godot`, `unity`, `unitypackage`, `unreal`, `zip`."""
    version: str
    """Of the engine that wrote it, else of the format; "" where it does not say."""
    assets: tuple[Asset, ...]
    opaque: str = ""
    """Why some or all of it cannot be seen, in words; "": all can."""
    damaged: tuple[str, ...] = ()
    """Names of assets whose bytes are not what the bundle says they are."""


def kind_of_name(name: str) -> str:
    """The extension of a path, lower case and without its dot."""
    return name.rpartition("/")[2].rpartition(".")[2].lower() if "." in name.rpartition("/")[2] else ""
