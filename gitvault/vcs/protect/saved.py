"""Is a file saved that git protects? It is when the newest snapshot relies on git for these very bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from gitvault.core.models import PROTECTED, ObjectId, PathState, Project
from gitvault.core.utils.files import open_source, read_link
from gitvault.core.utils.layout import is_within
from gitvault.core.versioning import contents
from gitvault.core.versioning.history import GitHistory
from gitvault.core.versioning.objects import object_id
from gitvault.errors import NotFoundError
from gitvault.vcs.protect.view import View


def settled(history: GitHistory, projects: Sequence[Project], path: str, state: PathState) -> PathState:
    """The state of a path, given what it is for those who do not know of version control."""
    by_git = state.state == "excluded" and state.reason.startswith(PROTECTED)
    if not by_git and state.state not in ("new", "unknown"):
        return state
    folder, name = os.path.split(os.path.abspath(path))
    real = os.path.join(os.path.realpath(folder), name)
    around = [project for project in projects if is_within(real, project.path)]
    project = max(around, key=lambda one: len(one.path), default=None)
    tip = history.tip(project.name) if project else None
    if project is None or tip is None:
        return state
    newest = history.identify(tip)
    view = View(history, newest)
    inside = os.fsencode(os.path.relpath(real, project.path)).replace(os.fsencode(os.sep), b"/")
    based = None if view.is_plain else view.based.get(inside)
    saved = based.entry.blob if based else None
    with suppress(NotFoundError):
        saved = contents.find_file(history, newest, inside, lambda _: None).blob
    if saved is None:
        return replace(state, state="new", reason="not in the newest snapshot") if by_git else state
    if not os.path.lexists(real):
        return replace(state, state="deleted", snapshot=newest, reason="no longer there")
    if saved == _blob_id(real):
        reason = state.reason if by_git else "as in the newest snapshot, which relies on git for it"
        return replace(state, state="saved", snapshot=newest, reason=reason)
    return replace(state, state="changed", snapshot=newest, reason="changed since the newest snapshot")


def _blob_id(path: str) -> ObjectId | None:
    """What git would call the bytes of a file or symlink; None when they cannot be read."""
    with suppress(OSError):
        if os.path.islink(path):
            return object_id(b"blob", read_link(path))
        if os.path.isfile(path):
            with open(open_source(path), "rb") as file:
                size = os.fstat(file.fileno()).st_size
                digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
                while data := file.read(1 << 20):
                    digest.update(data)
            return ObjectId(digest.digest())
    return None
