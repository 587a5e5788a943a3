"""What `git-vault setup` writes into the user's git configuration, and takes out again; nothing else there changes.

git-lfs's own settings stay as they are: ours have names of their own, and the agent is named for the vault's URL only.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gitvault.core.utils.files import Disk
from gitvault.core.utils.process import run
from gitvault.errors import ConfigError, ToolFailed

_AGENT = "vault"
# The last word of each of our commands.
_COMMANDS = {
    "filter.vault.process": "filter-process",
    "diff.vault.textconv": "textconv",
    "difftool.vault.cmd": '"$REMOTE"',
    "lfs.customtransfer.vault.args": "lfs-agent",
}
# As git lists them: lower case, but for what is in the middle.
_INCLUDES = re.compile(r"includeif\..*\.path", re.DOTALL)
_URLS = re.compile(r"url\..*\.insteadof", re.DOTALL)
_AGENTS = re.compile(r"lfs\..*\.standalonetransferagent", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Setup:
    """What belongs into the user's git configuration for one vault."""

    settings: tuple[tuple[str, str], ...]
    """Keys as `git config` takes them, each with its one value."""
    files: tuple[tuple[Path, bytes], ...]
    """What these settings lead to."""


def setup(command: Sequence[str], vault: Path, folder: Path) -> Setup:
    """`command`: how git-vault is run. `folder`: where our files go."""
    from gitvault.formats.table import FORMATS

    attributes, included = folder / "git-attributes", folder / "git-config"
    # As people and git may spell it.
    whole = dict.fromkeys((vault, Path(os.path.realpath(vault))))
    spelt = dict.fromkeys(where for path in whole for where in (path, _short(path)))
    words = shlex.join(command)
    settings = (
        ("filter.vault.process", f"{words} filter-process"),
        # Without it git maps a file as a whole to clean it: 2 GiB of memory for 2 GiB, and with it 4 MiB.
        ("filter.vault.required", "true"),
        ("diff.vault.textconv", f"{words} textconv"),
        ("difftool.vault.cmd", f'{words} diff --visual "$LOCAL" "$REMOTE"'),
        ("lfs.customtransfer.vault.path", command[0]),
        ("lfs.customtransfer.vault.args", shlex.join([*command[1:], "lfs-agent"])),
        # One process is as fast as several: it has a thread for each core.
        ("lfs.customtransfer.vault.concurrent", "false"),
        *((f"lfs.{path.as_uri()}.standalonetransferagent", _AGENT) for path in spelt),
        # git checks a clone of a path out before it knows the last of these settings, one of a URL after that; and
        # git-lfs from 3.6 on finds no pointers in the former. It counts for all paths that begin so: none cut short.
        *((f"url.{path.as_uri()}.insteadOf", os.fspath(path)) for path in whole),
        # The vault with its worktrees, and its clones.
        (f"includeIf.gitdir:{_pattern(vault.as_posix())}/.path", os.fspath(included)),
        *(
            (f"includeIf.hasconfig:remote.*.url:{url}.path", os.fspath(included))
            for path in spelt
            for url in (_pattern(path.as_posix()), path.as_uri())
        ),
    )
    patterns = sorted({ending for each in FORMATS if each.compare or each.elements for ending in each.extensions})
    text = "# Written by git-vault setup, for vaults and their clones.\n* filter=vault\n"
    text += "".join(f"*{ending} diff=vault\n" for ending in patterns)
    quoted = os.fspath(attributes).replace("\\", "\\\\").replace('"', '\\"')
    config = f'# Written by git-vault setup.\n[core]\n\tattributesFile = "{quoted}"\n'
    return Setup(settings, ((attributes, text.encode()), (included, config.encode())))


def _short(vault: Path) -> Path:
    """Without the ending, which `git clone` adds when it looks for a repository."""
    return vault.with_suffix("") if vault.suffix == ".git" else vault


def _pattern(path: str) -> str:
    return re.sub(r"([*?\[\]\\])", r"\\\1", path)


def missing(wanted: Setup) -> list[str]:
    """What is not as it should be: keys, and paths of files. Raises ToolError."""
    there = set(_listed())
    keys = [key for key, value in wanted.settings if (_canonical(key), value) not in there]
    return keys + [os.fspath(path) for path, content in wanted.files if _content(path) != content]


def install(wanted: Setup, disk: Disk) -> list[str]:
    """Write what is missing; what that was. Raises ConfigError where somebody else's value is in the way, ToolError.

    Nothing is written then.
    """
    todo = missing(wanted)
    included = os.fspath(wanted.files[-1][0])
    there = _listed()
    ours = set(_ours(there, included))
    for key, _ in wanted.settings:
        for found, value in there:
            if found == _canonical(key) and (found, value) not in ours:
                raise ConfigError(f"{key} is {value!r} in your git configuration: not ours; nothing was changed")
    for path, content in wanted.files:
        disk.make_folder(path.parent)
        disk.write_durably(path, content, 0o644)
    for key, value in wanted.settings:
        if key in todo:
            _git("--replace-all", key, value)
    return todo


def uninstall(folder: Path, disk: Disk) -> list[str]:
    """Take out all that `install` wrote, for every vault; which keys and files. Raises ToolError."""
    removed = []
    for key, value in dict.fromkeys(_ours(_listed(), os.fspath(folder / "git-config"))):
        file = _git("-z", "--show-origin", "--fixed-value", "--get", key, value).split(b"\0")[0].removeprefix(b"file:")
        _git("--fixed-value", "--unset-all", key, value)
        _remove_header(Path(os.path.realpath(os.fsdecode(file))), key, disk)
        removed.append(key)
    for name in ("git-attributes", "git-config"):
        if (folder / name).exists():
            disk.unlink(folder / name)
            removed.append(os.fspath(folder / name))
    disk.remove_folder(folder)
    return removed


def _remove_header(file: Path, key: str, disk: Disk) -> None:
    """The header of a key's section, where nothing is left in it: git leaves it when a comment is near."""
    section, _, rest = key.partition(".")
    inner = rest.rpartition(".")[0].replace("\\", "\\\\").replace('"', '\\"')
    header = f'[{section} "{inner}"]'.lower().encode("utf-8", "surrogateescape")
    lines = file.read_bytes().splitlines(keepends=True)
    # A section ends with the next one; comments in it are the user's.
    filled = [number for number, line in enumerate(lines) if line.strip() and line.strip()[:1] not in b"#;"]
    for at, after in zip(filled, [*filled[1:], len(lines)], strict=False):
        is_empty = after == len(lines) or lines[after].lstrip().startswith(b"[")
        if is_empty and lines[at].strip().lower() == header:
            del lines[at]
            disk.write_durably(file, b"".join(lines), file.stat().st_mode & 0o777)
            return


def _ours(there: Sequence[tuple[str, str]], included: str) -> list[tuple[str, str]]:
    """Those settings that earlier runs wrote, for this vault or another, by this installation or another."""
    commands = {key for key, value in there if value.split(" ")[-1] == _COMMANDS.get(key)}
    filtered, agent = ("filter.vault.process" in commands, "lfs.customtransfer.vault.args" in commands)

    def is_ours(key: str, value: str) -> bool:
        if key in _COMMANDS:
            return key in commands
        if key == "filter.vault.required":
            return filtered
        if key in ("lfs.customtransfer.vault.path", "lfs.customtransfer.vault.concurrent"):
            return agent
        if _URLS.fullmatch(key):
            return agent and os.path.isabs(value) and key == f"url.{Path(value).as_uri()}.insteadof"
        if _AGENTS.fullmatch(key):
            return agent and value == _AGENT
        return value == included and _INCLUDES.fullmatch(key) is not None

    return [(key, value) for key, value in there if is_ours(key, value)]


def _canonical(key: str) -> str:
    """As `git config --list` spells it: what is in the middle keeps its case."""
    first, last = key.index("."), key.rindex(".")
    return key[:first].lower() + key[first:last] + key[last:].lower()


def _listed() -> list[tuple[str, str]]:
    try:
        pairs = _git("-z", "--list").decode("utf-8", "surrogateescape").split("\0")
    except ToolFailed as error:
        if "No such file" not in error.stderr:
            raise
        return []
    return [(key, value) for key, _, value in (pair.partition("\n") for pair in pairs if pair)]


def _git(*words: str) -> bytes:
    return run(["git", "config", "--global", *words])


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
