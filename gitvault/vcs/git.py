"""git's own program, asked about a user's repository: nothing is written, nothing that the repository names is run."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from gitvault.core.utils import process
from gitvault.core.utils.files import read_plain
from gitvault.errors import CorruptionError, ToolFailed

LIMIT = 60.0
"""Seconds that one question may take."""

_SHORT = 1 << 16

Settings = Mapping[str, Sequence[str]]
"""Keys as git lists them (section and variable in lower case) and their values, the last one counts."""

Refs = Mapping[str, tuple[str, str]]
"""Of every ref the object it names, and the commit that leads to ("" for none)."""

# A list, for keys may hold `=`, which `-c` would split at. Partial clones fetch what they lack from wherever their
# configuration says: no transport is allowed at all.
_QUIET = (
    ("core.fsmonitor", "false"),
    ("core.hooksPath", os.devnull),
    ("core.pager", "cat"),
    ("log.showSignature", "false"),
    ("safe.bareRepository", "all"),
)
_ALONE = {"GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1", "GIT_NO_REPLACE_OBJECTS": "1"}
_FILTER = re.compile(r"filter\.(.+)\.(?:clean|process|smudge|required)", re.DOTALL)


def read(
    folder: Path,
    *arguments: str | Path,
    settings: Settings | None = None,
    stdin: bytes = b"",
    ok: Sequence[int] = (0,),
    timeout: float = LIMIT,
) -> bytes:
    """What git says in a work tree's top folder or a repository; never of the repository around it.

    `settings`: the repository's, for commands that look at files' contents: its filters are switched off by name.
    Raises ToolMissing, ToolFailed, ToolTimeout, NotFoundError for a folder that is gone.
    """
    pairs = [*_QUIET, *_no_filters(settings or {})]
    variables = {
        **_ALONE,
        "GIT_CEILING_DIRECTORIES": os.path.dirname(os.path.realpath(folder)),
        "GIT_CONFIG_COUNT": str(len(pairs)),
        **{f"GIT_CONFIG_KEY_{number}": key for number, (key, _) in enumerate(pairs)},
        **{f"GIT_CONFIG_VALUE_{number}": value for number, (_, value) in enumerate(pairs)},
    }
    command = ["git", "--no-optional-locks", *arguments]
    return process.run(command, cwd=folder, stdin=stdin, ok=ok, timeout=timeout, variables=variables)


def settings_of(folder: Path) -> Settings:
    """The settings that hold in a repository. Raises what `read` raises."""
    return settings_and_files(folder)[0]


def settings_and_files(folder: Path) -> tuple[Settings, frozenset[str]]:
    """The settings that hold in a repository, and every file that they, and what git ignores, come from.

    Also files that are not there and would count. Raises what `read` raises.
    """
    found: dict[str, list[str]] = {}
    files = set(_user_files())
    said = os.fsdecode(read(folder, "config", "-z", "--show-origin", "--list")).split("\0")
    for origin, pair in zip(said[::2], said[1::2], strict=False):
        key, _, value = pair.partition("\n")
        # What is given with a call comes from the command line.
        if not origin.startswith("file:"):
            continue
        file = os.path.join(folder, origin.removeprefix("file:"))
        files.add(os.path.normpath(file))
        found.setdefault(key, []).append(value)
        if key == "include.path" or (key.startswith("includeif.") and key.endswith(".path")):
            files.add(os.path.join(os.path.dirname(file), os.path.expanduser(value)))
        elif key in ("core.excludesfile", "core.attributesfile"):
            files.add(os.path.join(folder, os.path.expanduser(value)))
    return found, frozenset(files)


def _user_files() -> Iterator[str]:
    """Where git looks for settings of all repositories."""
    from platformdirs import user_config_path

    yield from ("/etc/gitconfig", "/etc/gitattributes", os.path.expanduser("~/.gitconfig"))
    for folder in dict.fromkeys((user_config_path("git", appauthor=False), Path("~/.config/git").expanduser())):
        yield from (os.fspath(folder / name) for name in ("config", "ignore", "attributes"))


def refs_of(folder: Path) -> Refs:
    """The refs of a repository. Raises what `read` raises."""
    form = "--format=%(refname)%00%(objectname)%00%(objecttype)%00%(*objectname)%00%(*objecttype)"
    found = {}
    for line in os.fsdecode(read(folder, "for-each-ref", form)).splitlines():
        name, oid, kind, peeled, peeled_kind = line.split("\0")
        commit = oid if kind == "commit" else peeled if peeled_kind == "commit" else ""
        found[name] = oid, commit
    return found


def own_folder(folder: Path) -> Path:
    """The git folder of a work tree, whether `.git` is that or a file that names it; else `folder` itself."""
    dotgit = folder / ".git"
    if dotgit.is_dir():
        return dotgit
    with contextlib.suppress(OSError, CorruptionError):
        text = os.fsdecode(read_plain(dotgit, _SHORT))
        return Path(os.path.normpath(folder / text.removeprefix("gitdir:").strip()))
    return folder


def common_folder(folder: Path) -> Path:
    """The git folder that all work trees of a repository share. `folder`: one of them, or a git folder."""
    own = own_folder(folder)
    with contextlib.suppress(OSError, CorruptionError):
        return Path(os.path.normpath(own / os.fsdecode(read_plain(own / "commondir", _SHORT)).strip()))
    return own


def detached_heads(folder: Path) -> list[str]:
    """Commits that work trees of a repository are at without a branch. Raises OSError."""
    common = common_folder(folder)
    found = []
    for head in (common / "HEAD", *sorted(common.glob("worktrees/*/HEAD"))):
        text = head.read_text("utf-8", "replace").strip() if head.is_file() else ""
        if re.fullmatch(r"[0-9a-f]{40,64}", text):
            found.append(text)
    return list(dict.fromkeys(found))


def said(error: ToolFailed) -> str:
    """What git gave as the reason, in one line."""
    lines = [line for line in error.stderr.splitlines() if line.strip()]
    told = [line for line in lines if re.match(r"fatal:|error:|ERROR:", line)]
    return re.sub(r"^(?:fatal|error|ERROR): ", "", (told or lines or ["no message"])[0]).strip()


def _no_filters(settings: Settings) -> list[tuple[str, str]]:
    names = {match[1] for key in settings if (match := _FILTER.fullmatch(key))}
    # An empty command is none; `process` goes before `clean`, so it has to be emptied too.
    return [
        (f"filter.{name}.{variable}", value)
        for name in sorted(names)
        for variable, value in (("clean", ""), ("smudge", ""), ("process", ""), ("required", "false"))
    ]
