"""Unity's .unitypackage: a gzipped tar with a folder for each asset, named by its GUID."""

from __future__ import annotations

import tarfile
from hashlib import sha256
from pathlib import Path
from typing import Any

from gitvault.errors import UnsupportedMedia
from gitvault.formats.bundles.records import MOST, Asset, Bundle, kind_of_name

_NAME = 1 << 16
_INFLATED = 1 << 36
_BLOCK = 1 << 20


def read(path: Path) -> Bundle:
    """What is in a package. Raises UnsupportedMedia."""
    from isal import igzip, igzip_lib

    opened: Any = igzip.open(path, "rb")  # type: ignore[no-untyped-call]
    cut_off: Any = igzip_lib.IsalError
    names: dict[str, str] = {}
    contents: dict[str, tuple[int, str]] = {}
    inflated = 0
    try:
        with opened as stream, tarfile.open(fileobj=stream, mode="r|", bufsize=_BLOCK) as tar:
            for member in tar:
                inflated += member.size
                if inflated > _INFLATED or len(names) + len(contents) > 2 * MOST:
                    raise ValueError("more than 64 GiB, or more assets than a package has")
                guid, _, part = member.name.removeprefix("./").partition("/")
                file = tar.extractfile(member) if part in ("asset", "pathname") else None
                if not file:
                    continue
                if part == "pathname":
                    names[guid] = file.read(_NAME).partition(b"\n")[0].decode("utf-8", "replace")
                    continue
                found = sha256()
                while piece := file.read(_BLOCK):
                    found.update(piece)
                contents[guid] = member.size, found.hexdigest()
    except (tarfile.TarError, cut_off, EOFError, ValueError) as error:
        raise UnsupportedMedia(f"{path.name}: cut off or damaged: {error}; its bytes are saved") from error
    assets = (
        Asset(name := names.get(guid, guid), kind_of_name(name), size, digest)
        for guid, (size, digest) in contents.items()
    )
    return Bundle("unitypackage", "", tuple(sorted(assets, key=lambda asset: asset.name)))
