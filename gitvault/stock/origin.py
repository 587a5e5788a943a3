"""Which vault a repository's large files are in."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from gitvault.core.models import ObjectId
from gitvault.core.utils.layout import is_vault
from gitvault.core.utils.process import run
from gitvault.errors import NotFoundError, ToolFailed

VARIABLES = ("GIT_DIR", "GIT_COMMON_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
"""What git tells the programs it starts about the repository it works on."""


class Repository:
    """The repository that git works on in a folder."""

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        """`variables`: those of `VARIABLES` that the environment has."""
        self._folder = folder
        self._variables = variables

    def git(self, *words: str, stdin: bytes = b"", ok: tuple[int, ...] = (0,)) -> bytes:
        """What git says there. Raises ToolError."""
        command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"]
        return run([*command, *words], stdin=stdin, cwd=self._folder, ok=ok, variables=self._variables)

    def folder(self, what: str) -> Path:
        """What `git rev-parse` says of `--git-common-dir`, say. Raises NotFoundError where there is none."""
        try:
            said = os.fsdecode(self.git("rev-parse", what).removesuffix(b"\n"))
        except ToolFailed as error:
            raise NotFoundError(
                f"{self._folder}: in no work tree of git; go into a worktree or clone of a vault"
            ) from error
        return Path(os.path.realpath(self._folder / said))

    def staged(self, path: str) -> ObjectId | None:
        """The blob that the index has for a file, by its path from the top; None when it has none."""
        said = self.git("--literal-pathspecs", "ls-files", "-s", "-z", "--", path).split()
        return ObjectId(bytes.fromhex(said[1].decode())) if said else None

    def vault(self, default: Callable[[], Path], remote: str = "origin") -> Path:
        """The vault that it is, is a worktree of or was cloned from, as this remote says first; else the default."""
        common = self.folder("--git-common-dir")
        places = (common, *(place for path in self._remotes(remote) for place in (path, Path(f"{path}.git"))))
        return next(filter(is_vault, places), None) or default()

    def _remotes(self, first: str) -> Iterator[Path]:
        listed = self.git("config", "-z", "--get-regexp", r"^remote\..*\.url$", ok=(0, 1)).split(b"\0")
        pairs = [os.fsdecode(pair).partition("\n") for pair in listed if pair]
        for _, _, url in sorted(pairs, key=lambda pair: pair[0] != f"remote.{first}.url"):
            if (path := _local(url)) is not None:
                yield path
        if (path := _local(first)) is not None:
            yield path


def _local(url: str) -> Path | None:
    """The folder that a remote's URL means on this machine."""
    if url.startswith("file://"):
        path = unquote(urlsplit(url).path)
        return Path(path.lstrip("/") if sys.platform == "win32" else path)
    return Path(url) if os.path.isabs(url) else None
