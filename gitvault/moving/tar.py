"""Content out of a tar stream, as other programs write them."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import BinaryIO

from gitvault.core.backup_engine.incoming import Given
from gitvault.errors import CorruptionError

_XATTR = "SCHILY.xattr."


def contents(stream: BinaryIO, wanted: Callable[[bytes], Given | None]) -> Iterator[tuple[Given, BinaryIO]]:
    """The files and symlinks of a stream that are wanted, asked for by their names in it, and folders as no bytes.

    Extended attributes that it tells of are added. Raises CorruptionError for a stream that is none.
    """
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=1 << 18, errorlevel=1) as members:
            for member in members:
                # It keeps every member it has seen.
                members.members = []  # type: ignore[attr-defined]
                given = wanted(member.name.encode("utf-8", "surrogateescape").strip(b"/"))
                if given is None:
                    continue
                xattrs = {
                    key.removeprefix(_XATTR): value.encode("utf-8", "surrogateescape")
                    for key, value in member.pax_headers.items()
                    if key.startswith(_XATTR)
                }
                if xattrs:
                    given = given._replace(xattrs=xattrs)
                if member.issym():
                    target = member.linkname.encode("utf-8", "surrogateescape")
                    yield given._replace(size=len(target)), BytesIO(target)
                elif member.isreg():
                    content = members.extractfile(member)
                    assert content
                    yield given, content  # type: ignore[misc]
                elif member.isdir():
                    yield given, BytesIO()
    except tarfile.TarError as error:
        raise CorruptionError(f"the tar stream cannot be read: {error}") from error
