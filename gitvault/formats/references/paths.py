"""What the name of a file means on disk, and how another file is named in the same way."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from urllib.parse import quote, unquote

URIS = frozenset({"gltf", "glb", "svg"})
"""Formats whose names are URIs: blanks and other signs are percent-encoded."""
_ROOTS = {"maya": ("workspace.mel",), "godot": ("project.godot",), "unity": ("Assets",), "unreal": ("Content",)}
"""By format, what the folder holds that names may begin at."""
_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_VARIABLE = re.compile(r"\$\{|\$(?!F\d?\b)[A-Za-z_]|%[A-Za-z_]\w+%")
_PLACES = re.compile(
    r"<UDIM>|%\(UDIM\)d|<UVTILE>|%\(UVTILE\)d|<f>|<frame0?\d*>|\$F\d?\b|(?<!\w)#+(?!\w)|#{2,}|%0?\d*d", re.IGNORECASE
)
_DIGITS = re.compile(r"\d+(?=\D*$)")
_SUFFIX = re.compile(r"(?<=\.usdz)\[[^\]]*\]$", re.IGNORECASE)


There = Callable[[str], bool]
"""Whether something is at a path."""


@dataclass(frozen=True, slots=True)
class Spelling:
    """How a file is named: everything but which."""

    prefix: str = ""
    """What stands before the path: `//`, `./`, `file://`, `res://` ..."""
    base: str | None = None
    """The folder that the path begins at; None: it is absolute."""
    is_uri: bool = False
    has_backslashes: bool = False
    suffix: str = ""
    """What of a file is meant: `#part`, `[part]`."""

    def based(self, base: str | None) -> Spelling:
        """The same, for names that begin at another folder."""
        return replace(self, base=base)

    def of(self, path: str) -> str:
        """The name of a file, given its absolute path."""
        prefix = self.prefix
        if self.base is None:
            text = path.replace(os.sep, "/")
        else:
            try:
                text = os.path.relpath(path, self.base).replace(os.sep, "/")
            except ValueError:
                # On another drive: no relative path leads there.
                text, prefix = path.replace(os.sep, "/"), ""
            if prefix == "./" and text.startswith("../"):
                prefix = ""
        if self.is_uri:
            # As browsers and exporters leave them.
            text = quote(text, safe="/!$&*+,;=:@~-._<>" if prefix.startswith("file:") else "/!$&*+,;=@~-._<>")
            if self.base is None and prefix.startswith("file:") and not text.startswith("/"):
                text = "/" + text
        if self.has_backslashes:
            # Blender's two slashes are no part of the path.
            text = text.replace("/", "\\")
            prefix = prefix if prefix == "//" else prefix.replace("/", "\\")
        return prefix + text + self.suffix


def meaning(
    target: str, file: str, format_name: str = "", there: There = os.path.exists
) -> tuple[str | None, Spelling]:
    """The absolute path that a name in a file means, and how it is spelled; None: nothing on this disk, or unknown.

    `file`: the absolute path of the file that has the name. A path of a sequence or of tiles keeps its pattern. Where
    a name may mean several paths, `there` tells which.
    """
    folder = os.path.dirname(file)
    suffix = found[0] if (found := _SUFFIX.search(target)) else ""
    text = target.removesuffix(suffix)
    if text.startswith("file:"):
        return _file_url(text, folder, suffix)
    for prefix, name in (("res://", "godot"), ("/Game/", "unreal")):
        if text.startswith(prefix) and format_name == name:
            root = project_root(file, name, there)
            base = os.path.join(root, "Content") if root and name == "unreal" else root
            path = os.path.join(base, *text.removeprefix(prefix).split("/")) if base else None
            if path and name == "unreal":
                path += next((end for end in (".uasset", ".umap") if there(path + end)), ".uasset")
            return path, Spelling(prefix, base, suffix=suffix)
    if _REMOTE.match(text) and not _DRIVE.match(text):
        return None, Spelling()
    is_uri = format_name in URIS
    backslashes = "\\" in text and "/" not in text.replace("//", "", 1)
    if is_uri:
        decoded, part = _decoded(text)
        # Some programs write names as they are.
        if there(os.path.join(folder, decoded)) or not there(os.path.join(folder, text)):
            text, suffix = decoded, part + suffix
    if "\\" in text and (os.sep == "\\" or not there(os.path.join(folder, text))):
        text = text.replace("\\", "/")
    prefix = ""
    if text.startswith("//?/"):
        prefix, text = "//?/", text[4:]
    elif format_name == "blend" and text.startswith("//"):
        prefix, text = "//", text[2:]
    elif text.startswith("//"):
        # A share of another machine; on Windows it has a path, in a URI it is a host.
        return (None if is_uri or os.sep == "/" else text), Spelling("", None, is_uri, backslashes, suffix)
    elif text.startswith("./"):
        prefix, text = "./", text[2:]
    if not text or _VARIABLE.search(text):
        return None, Spelling()
    if os.path.isabs(text) or _DRIVE.match(text):
        path = os.path.normpath(text) if os.path.isabs(text) else text
        _, mark, inside = text[1:].rpartition("//")
        if format_name == "maya" and mark and not there(path):
            # Maya writes two slashes where its project begins, which may lie elsewhere by now.
            root = project_root(file, format_name, there)
            path = here if root and there(here := os.path.join(root, inside)) else path
        return path, Spelling(prefix, None, is_uri, backslashes, suffix)
    bases = [folder]
    if (root := project_root(file, format_name, there)) and format_name == "maya":
        bases.append(root)
    # Relative to the file, else to the project it belongs to.
    paths = [os.path.normpath(os.path.join(base, text)) for base in bases]
    number = next((number for number, path in enumerate(paths) if there(path)), 0)
    return paths[number], Spelling(prefix, bases[number], is_uri, backslashes, suffix)


def _file_url(text: str, folder: str, suffix: str) -> tuple[str | None, Spelling]:
    found = re.match(r"file:(//(?P<host>[^/]*))?(?P<path>.*)", text, re.DOTALL)
    assert found
    host, path = found["host"] or "", unquote(found["path"], errors="surrogateescape")
    if host not in ("", "localhost"):
        return None, Spelling()
    if _DRIVE.match(path[1:]):
        path = path[1:]
    if not os.path.isabs(path) and not _DRIVE.match(path):
        return os.path.normpath(os.path.join(folder, path)), Spelling("file:", folder, True, suffix=suffix)
    return path, Spelling(text[: found.start("path")], None, True, suffix=suffix)


def _decoded(uri: str) -> tuple[str, str]:
    """The path of a URI without percent signs, and what stands behind it."""
    path = re.split(r"[?#]", uri, maxsplit=1)[0]
    return unquote(path, errors="surrogateescape"), uri[len(path) :]


@lru_cache(4096)
def _root_of(folder: str, marks: tuple[str, ...], there: There) -> str | None:
    while True:
        if any(there(os.path.join(folder, mark)) for mark in marks):
            return folder
        folder, below = os.path.dirname(folder), folder
        if folder == below:
            return None


def project_root(file: str, format_name: str, there: There = os.path.exists) -> str | None:
    """The folder that names in such a file may begin at; None when there is none."""
    marks = _ROOTS.get(format_name)
    return _root_of(os.path.dirname(file), marks, there) if marks else None


# -- one name for many files -------------------------------------------------------------------------


def exists(path: str) -> bool:
    """Whether a path, or one that its pattern stands for, is there."""
    return os.path.exists(path) or next(members(path), None) is not None


def members(path: str, kind: str = "") -> Iterator[str]:
    """The files that a path stands for: itself, those in it, all tiles or frames of a pattern or a `sequence`."""
    if os.path.isdir(path):
        # Footage may be a folder of frames.
        yield from (found for name in _listed(path) if os.path.isfile(found := os.path.join(path, name)))
        return
    if os.path.exists(path) and kind != "sequence":
        yield path
        return
    folder, name = os.path.split(path)
    places = [found.span() for found in _PLACES.finditer(name)]
    if kind == "sequence" and not places:
        places = [found.span() for found in _DIGITS.finditer(name)]
    if places:
        pattern = _pattern(name, places)
        yield from (os.path.join(folder, one) for one in _listed(folder) if pattern.fullmatch(one))
    elif os.path.exists(path):
        yield path


def _pattern(name: str, places: Sequence[tuple[int, int]]) -> re.Pattern[str]:
    at, text = 0, ""
    for start, stop in places:
        tile = name[start:stop].upper()
        text += re.escape(name[at:start])
        text += r"u\d+_v\d+" if "UVTILE" in tile else r"\d{4}" if "UDIM" in tile else r"\d+"
        at = stop
    return re.compile(text + re.escape(name[at:]), re.DOTALL)


def _listed(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
