"""What asset managers exchange as files: tags and other facts that are in the files or beside them, and references."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from gitvault.core.models import Problem
from gitvault.core.utils.names import to_text
from gitvault.errors import ExistsError, UnsupportedMedia
from gitvault.formats.confined import Confined
from gitvault.personas.creative.references import Library, Link, files_in

_SEPARATOR = ";"


@dataclass(frozen=True, slots=True)
class Asset:
    """A file with what it says of itself."""

    path: str
    size: int
    facts: dict[str, list[str]] = field(default_factory=dict)
    """`tags`, `title`, `description`, `creator`, `rights`, `rating`, `label`, `id` ...: from XMP in the file and in the
    sidecar beside it, which comes first."""
    links: list[Link] = field(default_factory=list)


def assets(library: Library, starts: Sequence[str], problems: list[Problem]) -> list[Asset]:
    """Every file of files and folders but sidecars, with its facts and links. What cannot be read is in `problems`."""
    files = [path for start in starts for path in (files_in(start) if os.path.isdir(start) else (start,))]
    with Confined() as reader:
        return [
            Asset(path, _size(path), _facts(path, reader, problems), list(library.all_links([path], problems)))
            for path in files
            if not path.lower().endswith(".xmp")
        ]


def _size(path: str) -> int:
    with suppress(OSError):
        return os.stat(path).st_size
    return 0


def _facts(path: str, reader: Confined, problems: list[Problem]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    # `a.jpg.xmp` as darktable and digiKam write it, `a.xmp` as Adobe does.
    for name in (path + ".xmp", os.path.splitext(path)[0] + ".xmp", path):
        if os.path.isfile(name):
            try:
                said = reader.call("gitvault.formats.references.packets:facts", name)
            except UnsupportedMedia as error:
                problems.append(Problem(os.fsencode(name), str(error)))
                continue
            for key, values in said.items():
                found.setdefault(key, values)
    return found


def write(found: Iterable[Asset], output: str, *, overwrite: bool = False) -> None:
    """Assets as JSON or, one row each, as CSV, by the output's ending. Raises ExistsError, OSError."""
    rows = [_document(asset) for asset in found]
    text = _csv(rows) if output.lower().endswith(".csv") else json.dumps(rows, ensure_ascii=False, indent=1) + "\n"
    try:
        with open(output, "w" if overwrite else "x", encoding="utf-8", newline="") as file:
            file.write(text)
    except FileExistsError:
        raise ExistsError(f"{Path(output)}: exists; choose another name or say --overwrite") from None


def _document(asset: Asset) -> dict[str, object]:
    def text(path: str) -> str:
        return to_text(os.fsencode(path))

    links = [
        {
            "target": link.target,
            "kind": link.kind,
            "resolved": text(link.resolved) if link.resolved else None,
            "exists": link.exists,
        }
        for link in asset.links
    ]
    return {"path": text(asset.path), "size": asset.size, **asset.facts, "references": links}


_COLUMNS = ("path", "size", "tags", "title", "description", "creator", "rights", "rating", "label", "id", "references")


def _csv(rows: Iterable[dict[str, object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(_COLUMNS)
    for row in rows:
        writer.writerow([_SEPARATOR.join(_words(row.get(column, ""))) for column in _COLUMNS])
    return out.getvalue()


def _words(value: object) -> Iterator[str]:
    for one in value if isinstance(value, list) else (value,):
        word = str(one["resolved"] or one["target"]) if isinstance(one, dict) else str(one)
        # A sheet would take what begins so for a formula.
        yield f"'{word}" if word.startswith(("=", "+", "-", "@")) else word
