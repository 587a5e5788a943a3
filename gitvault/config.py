"""Settings: git-config keys `vault.*`, read in git's order (system, user, the vault's own file, last wins).

`[vault "x"]` sections belong to plug-ins and personas and are left alone; any other key that is not in
`SETTINGS` is an error, so that a mistyped one never passes for the default.

There is no switch for deduplication: content is stored under its hash, so equal content is one object.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gitvault.core.utils import process
from gitvault.core.utils.files import read_plain
from gitvault.core.utils.layout import FORMAT_VERSION, LONGEST, is_vault
from gitvault.errors import ConfigError, GitVaultError, ToolFailed, UnsupportedFormatVersion

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from gitvault.core.backup_engine.retention import Retention
    from gitvault.core.interfaces import ChunkingStrategy
    from gitvault.core.utils.files import Disk
    from gitvault.plugins import Plugin

STRATEGIES = ("asset-aware", "fixed", "rolling-hash")

KIB = 1 << 10
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Config:
    """The settings of one vault; sizes are bytes."""

    chunking_strategy: str = "asset-aware"
    """`asset-aware`, `fixed`, `rolling-hash` or the name of a plug-in."""
    compression_level: int = 1
    """zstd, 1 to 22."""
    min_chunk: int = 64 * KIB
    avg_chunk: int = 128 * KIB
    max_chunk: int = 512 * KIB
    inline_limit: int = 64 * KIB
    """Binary files over this size go to the chunk store."""
    binary_extensions: frozenset[str] = frozenset()
    """Lower case with their dot: binary whatever the content."""
    ignore: tuple[str, ...] = ()
    """gitignore patterns, for every project."""
    policy: str = "on"
    """`on` or `off`: whether what can be made again is left out, and version control's ignore files count."""
    policy_file: str = ""
    """A file of the form of `.gitvault.toml` that holds for every project; empty for none."""
    maintenance: str = "auto"
    """`auto` or `off`: whether a snapshot starts what is due in the background."""
    quota: int = 0
    """Bytes that the vault may take; 0: as many as there are."""
    quota_policy: str = "refuse"
    """At the quota a snapshot is refused, or, `prune`, snapshots go by the vault.keep settings first."""
    reserve: int = 4 * MIB
    """Bytes set aside for prune and sweep on a full disk."""
    parity: int = 0
    """Per cent of redundancy kept beside each pack, so that it can be healed; 0: none."""
    secrets: str = "note"
    """`note` or `keep`: whether a snapshot points out files that look like secrets."""
    smudge_limit: int = 512 * MIB
    """Bytes up to which git's filter fills files in: git holds each of them in memory, as it does its own files up to
    its core.bigFileThreshold, which is 512 MiB."""
    lock_timeout: int = 60
    """Seconds to wait for another run."""
    keep_last: int = 0
    """What `prune` keeps when it is not told; likewise the next ones, see `Retention`."""
    keep_hourly: int = 0
    keep_daily: int = 0
    keep_weekly: int = 0
    keep_monthly: int = 0
    keep_yearly: int = 0
    keep_within: str = ""
    keep_milestones: bool = False
    format_version: int = FORMAT_VERSION
    user_name: str = ""
    user_email: str = ""
    remote_timeout: str = "7d"
    """For how long a remote may fail to answer until what it held counts as gone."""
    copies: tuple[str, ...] = ()
    """Folders of vaults that hold the same: what is damaged here may be whole there."""
    known_copies: tuple[tuple[str, str], ...] = ()
    """The ids of vaults that were copied to, each with its folder then: one that was moved is still that copy."""
    auto_remotes: tuple[str, ...] = ()
    """The names of remotes that are pushed to after each snapshot."""
    id: str = ""
    """32 hex digits that `init` drew; empty for a vault made before there were any."""
    player_key: str = ""
    """64 hex digits, drawn when the first player is kept: players are hashed with it."""
    machine: str = ""
    """What snapshots name as the host they were taken on."""
    inspects: str = ""
    """The name of the remote whose vault this one only looks at: it holds what was asked for, and is not written."""


class Setting(NamedTuple):
    """One key: how it is spelled, which field of Config it fills, what its value may be."""

    key: str
    field: str
    read: Callable[[str], Any]
    """The value from its text. Raises ValueError, which says what is allowed."""
    many: bool = False
    """Several values: lines of the file add up."""


def _one_of(*allowed: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"expected {' or '.join(allowed)}")
        return text

    return read


_NUMBER = re.compile(r"([0-9]{1,18})([kKmMgG]?)")


def _number(low: int, high: int, unit: str = "") -> Callable[[str], int]:
    def read(text: str) -> int:
        match = _NUMBER.fullmatch(text)
        value = int(match[1]) << {"": 0, "k": 10, "m": 20, "g": 30}[match[2].lower()] if match else -1
        if not low <= value <= high:
            raise ValueError(f"expected a number{unit} from {low} to {high}")
        return value

    return read


def _strategy(text: str) -> str:
    if text in STRATEGIES:
        return text
    from gitvault import plugins

    if plugins.find(plugins.CHUNKING, text) is None:
        known = [*STRATEGIES, *(plugin.name for plugin in plugins.installed(plugins.CHUNKING))]
        raise ValueError(f"expected one of {', '.join(known)}{_nearest(text, known)}")
    return text


def _extensions(text: str) -> tuple[str, ...]:
    words = text.lower().split()
    if any("/" in word or not word.strip(".") for word in words):
        raise ValueError("expected extensions, such as: .dat .pak")
    return tuple(f".{word.lstrip('.')}" for word in words)


def _pattern(text: str) -> tuple[str, ...]:
    if not text.strip() or "\n" in text:
        raise ValueError("expected a gitignore pattern, such as: build/")
    return (text,)


def _folder(text: str) -> tuple[str, ...]:
    if not os.path.isabs(text):
        raise ValueError("expected a folder's absolute path")
    return (text,)


def _file(text: str) -> str:
    if not os.path.isabs(text):
        raise ValueError("expected a file's absolute path")
    return text


def _key(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise ValueError("expected 64 hex digits")
    return text


def _id(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{32}", text):
        raise ValueError("expected 32 hex digits, as init draws them")
    return text


def _known_copy(text: str) -> tuple[tuple[str, str], ...]:
    name, _, folder = text.partition(" ")
    return ((_id(name), _folder(folder)[0]),)


def _name(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("expected a name")
    return text


def _duration(text: str) -> str:
    from gitvault.core.utils.dates import duration

    duration(text)
    return text


def _flag(text: str) -> bool:
    if text.lower() not in _FLAGS:
        raise ValueError(f"expected one of {', '.join(_FLAGS)}")
    return _FLAGS[text.lower()]


_FLAGS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_SIZE = " of bytes (k, m and g are understood)"
SETTINGS: dict[str, Setting] = {
    setting.key.lower(): setting
    for setting in (
        Setting("vault.chunkingStrategy", "chunking_strategy", _strategy),
        Setting("vault.compressionLevel", "compression_level", _number(1, 22)),
        Setting("vault.minChunk", "min_chunk", _number(1 * KIB, 1 * MIB, _SIZE)),
        Setting("vault.avgChunk", "avg_chunk", _number(2 * KIB, 4 * MIB, _SIZE)),
        Setting("vault.maxChunk", "max_chunk", _number(4 * KIB, 16 * MIB, _SIZE)),
        Setting("vault.inlineLimit", "inline_limit", _number(0, 16 * MIB, _SIZE)),
        Setting("vault.binaryExtensions", "binary_extensions", _extensions, many=True),
        Setting("vault.ignore", "ignore", _pattern, many=True),
        Setting("vault.policy", "policy", _one_of("on", "off")),
        Setting("vault.policyFile", "policy_file", _file),
        Setting("vault.maintenance", "maintenance", _one_of("auto", "off")),
        Setting("vault.quota", "quota", _number(0, 1 << 60, _SIZE)),
        Setting("vault.quotaPolicy", "quota_policy", _one_of("refuse", "prune")),
        Setting("vault.reserve", "reserve", _number(0, 1 << 30, _SIZE)),
        Setting("vault.parity", "parity", _number(0, 100, " of per cent")),
        Setting("vault.secrets", "secrets", _one_of("note", "keep")),
        Setting("vault.smudgeLimit", "smudge_limit", _number(0, 1 << 60, _SIZE)),
        Setting("vault.lockTimeout", "lock_timeout", _number(0, 86_400, " of seconds")),
        *(
            Setting(f"vault.keep{period.capitalize()}", f"keep_{period}", _number(0, 1_000_000))
            for period in ("last", "hourly", "daily", "weekly", "monthly", "yearly")
        ),
        Setting("vault.keepWithin", "keep_within", _duration),
        Setting("vault.keepMilestones", "keep_milestones", _flag),
        Setting("vault.formatVersion", "format_version", _number(1, 1 << 30)),
        Setting("vault.remoteTimeout", "remote_timeout", _duration),
        Setting("vault.copies", "copies", _folder, many=True),
        Setting("vault.knownCopies", "known_copies", _known_copy, many=True),
        Setting("vault.id", "id", _id),
        Setting("vault.playerKey", "player_key", _key),
        Setting("vault.machine", "machine", _name),
        Setting("vault.inspects", "inspects", _name),
        Setting("vault.dir", "", _name),
        Setting("user.name", "user_name", str),
        Setting("user.email", "user_email", str),
    )
}
"""Every key by its lower-case spelling. `vault.dir` says which vault is the default, see `default_vault`."""


_INCLUDE = rb"(?i)\[\s*include(?:if)?\s*[\]\".]"


def load(vault: Path) -> Config:
    """The settings that hold for the vault.

    Raises UnsupportedFormatVersion before any key is judged: a newer gitvault may have keys this one does not know;
    ConfigError names the file and the line.
    """
    # A vault may come from anywhere, and git would read whatever it names, a pipe without an end among it.
    if re.search(_INCLUDE, read_plain(vault / "config", LONGEST)):
        raise ConfigError(f"{vault / 'config'}: includes other files; put what they say into your own ~/.gitconfig")
    try:
        listing = process.git(vault, "config", "-z", "--list", "--show-origin")
    except ToolFailed as error:
        # git itself names the file and the line.
        said = " ".join(error.stderr.split()) or str(error)
        # It may be the user's own file, too.
        hint = "; git-vault verify --repair writes it anew" if os.fspath(vault / "config") in said else ""
        raise ConfigError(f"{vault}: {said}{hint}") from error
    fields = listing.decode("utf-8", "surrogateescape").split("\0")
    rows: list[tuple[str, str, str | None]] = []
    for origin, pair in zip(fields[::2], fields[1::2], strict=False):
        key, has_value, text = pair.partition("\n")
        if key.startswith("vault.") or key in SETTINGS:
            rows.append((origin, key, text if has_value else None))
    for _, key, value in rows:
        if key == "vault.formatversion" and value and value.isdecimal() and int(value) > FORMAT_VERSION:
            raise UnsupportedFormatVersion(
                f"{vault}: format version {value}, this gitvault reads up to {FORMAT_VERSION}; install a newer gitvault"
            )
    values: dict[str, Any] = {}
    origins: dict[str, tuple[str, str, str | None]] = {}
    for origin, key, value in rows:
        if key.count(".") > 1:
            if (remote := re.fullmatch(r"vault\.remote\.(.+)\.auto", key)) and _FLAGS.get((value or "true").lower()):
                values["auto_remotes"] = (*values.get("auto_remotes", ()), remote[1])
            continue
        try:
            setting = _setting(key)
            read = _value(setting, value)
        except ValueError as error:
            raise ConfigError(f"{_place(vault, origin, key, value)}: {error}") from None
        if setting.field:
            values[setting.field] = (*values.get(setting.field, ()), *read) if setting.many else read
            origins[setting.field] = (origin, key, value)
    values["binary_extensions"] = frozenset(values.get("binary_extensions", ()))
    values.setdefault("machine", _hostname())
    config = Config(**values)
    if wrong := _bounds(config):
        last = next((origins[field] for field in _BOUNDS if field in origins), ("", "", None))
        raise ConfigError(f"{_place(vault, *last)}: {wrong}")
    return config


def edit(vault: Path, *changes: Sequence[str], unless: str = "", disk: Disk | None = None) -> None:
    """Change the vault's own file, all of it or nothing, durable when this returns.

    `changes`: each the words of one `git config`. `unless`: a key; where the file has it by now, nothing is changed.
    Raises LockedError, ToolFailed, StorageFullError, OSError.
    """
    from tempfile import TemporaryDirectory

    from gitvault.core.utils.files import Disk
    from gitvault.core.versioning.refs import LockFile

    file = vault / "config"
    # git writes it without a sync, and two changes are two files to it: a cut or a kill may cost all settings, or one.
    with LockFile(file, disk or Disk()) as lock, TemporaryDirectory(prefix="gitvault-") as folder:
        draft = Path(folder, "config")
        draft.write_bytes(read_plain(file, LONGEST))
        if unless and process.git(vault, "config", "-f", draft, "--get-all", unless, ok=(0, 1)):
            return
        for words in changes:
            # Code 5: there was nothing to unset.
            process.git(vault, "config", "-f", draft, *words, ok=(0, 5))
        lock.commit(draft.read_bytes())


def set(vault: Path, key: str, value: str | int | Sequence[str], *, disk: Disk | None = None) -> None:
    """Write one setting into the vault's own file, instead of what the file says of it; a sequence for several values.

    Raises ConfigError, and nothing is written, when the key or the value cannot be; what `edit` does.
    """
    texts = [str(value)] if isinstance(value, str | int) else list(value)
    try:
        setting = _setting(key.lower())
        if not setting.many and len(texts) != 1:
            raise ValueError(f"{setting.key} takes one value, found {len(texts)}")
        read = [_value(setting, text) for text in texts]
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from None
    if setting.field in _BOUNDS:
        from dataclasses import replace

        if wrong := _bounds(replace(load(vault), **{setting.field: read[0]})):
            raise ConfigError(f"{setting.key} = {value}: {wrong}")
    edit(vault, *assign(setting.key, texts), disk=disk)


def assign(key: str, texts: Sequence[str]) -> list[Sequence[str]]:
    """The changes for `edit` that let a key have these values and no others."""
    return [("--unset-all", key), *(("--add", key, text) for text in texts)]


def origin(vault: Path, key: str, value: str) -> tuple[str, int]:
    """The file that sets one of a setting's values, and the line; ("", 0) where that cannot be told."""
    try:
        listing = process.git(vault, "config", "-z", "--show-origin", "--get-all", key, ok=(0, 1))
    except ToolFailed:
        return "", 0
    fields = listing.decode("utf-8", "surrogateescape").split("\0")
    for where, text in reversed(list(zip(fields[::2], fields[1::2], strict=False))):
        if text == value and where.startswith("file:"):
            file, _, line = _place(vault, where, key.lower(), value).rpartition(": ")[0].partition(", line ")
            return file, int(line or 0)
    return "", 0


def remember_copy(vault: Path, folder: str, name: str, *, disk: Disk | None = None) -> None:
    """Note where a copy of the vault is, and its id; of one that was moved, the old place is forgotten.

    Raises ConfigError where the settings cannot be read, and what `edit` does.
    """
    config = load(vault)
    left = [path for known, path in config.known_copies if known == name != _id_at(path) and path != folder]
    copies = [path for path in config.copies if path not in left]
    known = [(other, path) for other, path in config.known_copies if path not in (*left, folder)]
    if folder not in copies:
        copies.append(folder)
    if name:
        known.append((name, folder))
    if tuple(copies) != config.copies or sorted(known) != sorted(config.known_copies):
        pairs = [" ".join(pair) for pair in known]
        edit(vault, *assign("vault.copies", copies), *assign("vault.knownCopies", pairs), disk=disk)


def _id_at(folder: str) -> str:
    """The id of the vault in a folder; empty when there is none any more."""
    try:
        return load(Path(folder)).id if is_vault(Path(folder)) else ""
    except GitVaultError:
        return ""


def is_setting(name: str, value: str) -> bool:
    """Whether a line `name = value` of the section `vault` is a setting that could be read; the format's is none."""
    key = f"vault.{name.lower()}"
    try:
        return key != "vault.formatversion" and bool(_value(_setting(key), value) or True)
    except ValueError:
        return False


def default_vault() -> Path:
    """Where the vault is when nobody says: `vault.dir`, else the user's data folder.

    Only the system's and the user's settings count, not those of the repository one happens to stand in.
    """
    found = process.git(Path(os.devnull), "config", "-z", "--path", "--get", "vault.dir", ok=(0, 1))
    if found:
        return Path(os.fsdecode(found.rstrip(b"\0"))).absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("gitvault", appauthor=False)) / "vault.git"


def chunking(config: Config) -> ChunkingStrategy:
    """The strategy that the settings choose. Raises ConfigError for a plug-in that does not work."""
    from gitvault import plugins
    from gitvault.core import chunking as chunkers

    bounds = (config.min_chunk, config.avg_chunk, config.max_chunk)
    level = config.compression_level
    name = config.chunking_strategy
    if name == "fixed":
        return chunkers.FixedSize(*bounds, level)
    if name == "rolling-hash":
        return chunkers.RollingHash(*bounds, level)
    if name == "asset-aware":
        return chunkers.AssetAware(*bounds, level)
    plugin = plugins.find(plugins.CHUNKING, name)
    if plugin is None:
        raise ConfigError(f"vault.chunkingStrategy = {name}: no installed package brings it; install it again")
    strategy = chunking_plugin(plugin)(*bounds)
    if not (hasattr(strategy, "plan") and hasattr(strategy, "chunk_data")):
        raise plugin.wrong(strategy, "a ChunkingStrategy")
    return strategy


def chunking_plugin(plugin: Plugin) -> Callable[[int, int, int], ChunkingStrategy]:
    """What makes a plug-in's strategy from chunk bounds. Raises ConfigError when it brings something else."""
    make = plugin.load()
    if not callable(make):
        raise plugin.wrong(make, "a callable (min_size, avg_size, max_size)")
    return make


def retention(config: Config) -> Retention:
    """What the settings say is to be kept; nothing when they are silent."""
    from dataclasses import fields

    from gitvault.core.backup_engine.retention import Retention

    return Retention(**{field.name: getattr(config, f"keep_{field.name}") for field in fields(Retention)})


def remote_limit(config: Config, now: datetime) -> timedelta:
    """`vault.remoteTimeout`, counted back from `now`."""
    from gitvault.core.utils.dates import duration, earlier

    moment = now
    for count, unit in duration(config.remote_timeout):
        moment = earlier(moment, count, unit)
    return now - moment


def _hostname() -> str:
    if hasattr(os, "uname"):
        return os.uname().nodename
    import socket

    return socket.gethostname()


_BOUNDS = ("max_chunk", "avg_chunk", "min_chunk")


def _bounds(config: Config) -> str:
    if config.min_chunk < config.avg_chunk < config.max_chunk:
        return ""
    found = f"{config.min_chunk}, {config.avg_chunk}, {config.max_chunk}"
    return f"expected vault.minChunk < vault.avgChunk < vault.maxChunk, found {found}"


def _setting(key: str) -> Setting:
    if key not in SETTINGS:
        known = [setting.key for setting in SETTINGS.values() if setting.key.startswith("vault.")]
        raise ValueError(f"unknown setting{_nearest(key, known) or '; known are ' + ', '.join(known)}")
    return SETTINGS[key]


def _value(setting: Setting, text: str | None) -> Any:
    try:
        return setting.read(text or "")
    except ValueError as error:
        raise ValueError(f"found {text!r}, {error}" if text is not None else f"no value, {error}") from None


def _nearest(word: str, known: Sequence[str]) -> str:
    import difflib

    # Without the prefix that all keys share, and that would make any two look alike.
    lower = {name.lower().removeprefix("vault."): name for name in known}
    near = difflib.get_close_matches(word.lower().removeprefix("vault."), lower, n=1)
    return f"; did you mean {lower[near[0]]}?" if near else ""


_SECTION = r"\s*\[\s*([^\s\"\]]+)\s*\](.*)"


def _place(vault: Path, origin: str, key: str, value: str | None) -> str:
    """`FILE, line N: key`, the line being the last that sets the key (to that value, when it is found so)."""
    section, _, variable = key.rpartition(".")
    shown = SETTINGS[key].key if key in SETTINGS else key
    if not origin.startswith("file:"):
        return f"{origin or vault}: {shown}"
    file = Path(vault, origin.removeprefix("file:"))
    current, found, exact = "", 0, 0
    try:
        lines = file.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        lines = []
    for number, line in enumerate(lines, 1):
        if match := re.match(_SECTION, line):
            current, line = match[1].lower(), match[2]
        elif line.lstrip().startswith("["):
            current = ""
        name, _, text = line.partition("=")
        if current == section and name.strip().lower() == variable:
            found = number
            if value is not None and value in text:
                exact = number
    where = f", line {exact or found}" if found else ""
    return f"{file}{where}: {shown}"
