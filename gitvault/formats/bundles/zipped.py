"""Zip archives: builds of Android, iOS, LÖVE and others."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from gitvault.errors import UnsupportedMedia
from gitvault.formats.bundles.records import Asset, Bundle, kind_of_name
from gitvault.formats.layered import archive
from gitvault.formats.mapping import mapped


def read(path: Path) -> Bundle:
    """What is in an archive. Raises UnsupportedMedia."""
    with mapped(path) as view:
        assets, damaged, hidden = [], [], 0
        members = archive.read(view).members
        for name, member in zip(archive.ids(members), members, strict=True):
            if name.endswith("/"):
                continue
            found = sha256()
            digest = ""
            try:
                for piece in member.content():
                    found.update(piece)
                digest = found.hexdigest()
            except UnsupportedMedia:
                hidden += 1
            except ValueError:
                damaged.append(name)
            assets.append(Asset(name, kind_of_name(name), member.size, digest))
        opaque = f"{hidden} of its files are encrypted, or compressed in a way that is not known" if hidden else ""
        return Bundle("zip", "", tuple(assets), opaque, tuple(damaged))
