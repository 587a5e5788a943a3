"""Settings: read in git's order, validated, written back; an error names the file and the line."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from faults.recording import RecordingDisk

from gitvault import config
from gitvault.core import chunking
from gitvault.core.backup_engine.retention import Retention
from gitvault.core.chunking import AssetAware, FixedSize, RollingHash
from gitvault.core.versioning import refs
from gitvault.errors import ConfigError, LockedError, ToolFailed, UnsupportedFormatVersion
from gitvault.vault import Vault


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without settings; nothing of this machine's."""
    home = tmp_path / "home"
    home.mkdir()
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture
def vault(tmp_path: Path, home: Path) -> Path:
    """A bare repository."""
    path = tmp_path / "v.git"
    subprocess.run(["git", "init", "-q", "--bare", path], check=True)
    return path


def append(vault: Path, text: str) -> None:
    with open(vault / "config", "a", encoding="utf-8") as file:
        file.write(text)


def line_of(vault: Path, text: str) -> int:
    return next(n for n, line in enumerate((vault / "config").read_text().splitlines(), 1) if text in line)


def test_without_settings_everything_has_its_default(vault: Path) -> None:
    found = config.load(vault)
    assert found.machine
    assert found == config.Config(machine=found.machine)
    assert found.chunking_strategy == "asset-aware"
    assert found.inline_limit == 64 * config.KIB


def test_the_bounds_are_those_of_the_strategies(vault: Path) -> None:
    default = config.Config()
    assert (default.min_chunk, default.avg_chunk, default.max_chunk) == (
        chunking.MIN_SIZE,
        chunking.AVG_SIZE,
        chunking.MAX_SIZE,
    )
    for key, most in (
        ("vault.minchunk", chunking.MAX_MIN_SIZE),
        ("vault.avgchunk", chunking.MAX_AVG_SIZE),
        ("vault.maxchunk", chunking.MAX_MAX_SIZE),
    ):
        assert config.SETTINGS[key].read(str(most)) == most
        with pytest.raises(ValueError, match="expected a number of bytes"):
            config.SETTINGS[key].read(str(most + 1))


def test_every_setting_is_read(vault: Path) -> None:
    append(
        vault,
        """
[vault]
    chunkingStrategy = fixed
    compressionLevel = 19
    minChunk = 16k
    avgChunk = 65536
    maxChunk = 1m
    inlineLimit = 0
    binaryExtensions = .DAT pak
    binaryExtensions = .x
    ignore = build/
    ignore = "*.tmp"
    maintenance = off
    lockTimeout = 5
    formatVersion = 1
    machine = studio
[user]
    name = Åsa
    email = asa@example.org
""",
    )
    assert config.load(vault) == config.Config(
        chunking_strategy="fixed",
        compression_level=19,
        min_chunk=16 * config.KIB,
        avg_chunk=64 * config.KIB,
        max_chunk=config.MIB,
        inline_limit=0,
        binary_extensions=frozenset({".dat", ".pak", ".x"}),
        ignore=("build/", "*.tmp"),
        maintenance="off",
        lock_timeout=5,
        format_version=config.FORMAT_VERSION,
        user_name="Åsa",
        user_email="asa@example.org",
        machine="studio",
    )


def test_the_vaults_own_file_wins_over_the_users_and_patterns_add_up(vault: Path, home: Path) -> None:
    (home / ".gitconfig").write_text("[vault]\n compressionLevel = 9\n lockTimeout = 7\n ignore = a\n")
    append(vault, "[vault]\n compressionLevel = 4\n ignore = b\n")
    found = config.load(vault)
    assert (found.compression_level, found.lock_timeout, found.ignore) == (4, 7, ("a", "b"))


def test_an_error_in_the_users_file_names_that_file(vault: Path, home: Path) -> None:
    (home / ".gitconfig").write_text("[vault]\n\n compressionLevel = 99\n")
    with pytest.raises(ConfigError) as caught:
        config.load(vault)
    assert str(caught.value) == (
        f"{home / '.gitconfig'}, line 3: vault.compressionLevel: found '99', expected a number from 1 to 22"
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("chunkingStrategy = rolling", "expected one of asset-aware, fixed, rolling-hash; did you mean rolling-hash?"),
        ("compressionLevl = 3", "unknown setting; did you mean vault.compressionLevel?"),
        ("qqq = 3", "unknown setting; known are vault.chunkingStrategy, "),
        ("compressionLevel = 0", "expected a number from 1 to 22"),
        ("compressionLevel = three", "expected a number from 1 to 22"),
        ("maxChunk = 17m", "expected a number of bytes (k, m and g are understood) from 4096 to 16777216"),
        ("minChunk = 512", "expected a number of bytes"),
        ("inlineLimit = -1", "expected a number of bytes"),
        ("maintenance = sometimes", "expected auto or off"),
        ("binaryExtensions = .", "expected extensions"),
        ("ignore =", "expected a gitignore pattern"),
        ("ignore", "no value, expected a gitignore pattern"),
        ("machine = ", "expected a name"),
    ],
)
def test_a_wrong_key_or_value_is_an_error_that_names_file_and_line(vault: Path, line: str, expected: str) -> None:
    append(vault, f'[other]\n\t{line}\n[vault "policy"]\n\tx = 1\n[vault]\n\t# {line}\n\tlockTimeout = 3\n\t{line}\n')
    with pytest.raises(ConfigError) as caught:
        config.load(vault)
    message = str(caught.value)
    at = len((vault / "config").read_text().splitlines())
    assert message.startswith(f"{vault / 'config'}, line {at}: vault.")
    assert expected in message


def test_a_setting_beside_its_section_header_is_found(vault: Path) -> None:
    append(vault, "[vault] lockTimeout = soon\n")
    with pytest.raises(ConfigError, match=f"line {line_of(vault, 'soon')}: vault.lockTimeout"):
        config.load(vault)


@pytest.mark.parametrize("bounds", [(64, 64, 512), (200, 128, 512), (32, 600, 512)])
def test_chunk_bounds_must_grow(vault: Path, bounds: Sequence[int]) -> None:
    append(
        vault, "[vault]\n" + "".join(f" {n}Chunk = {b}k\n" for n, b in zip(("min", "avg", "max"), bounds, strict=True))
    )
    with pytest.raises(ConfigError, match=r"line \d+: vault.maxChunk: expected vault.minChunk < vault.avgChunk"):
        config.load(vault)


def test_a_file_that_git_cannot_read_is_a_clear_error(vault: Path) -> None:
    append(vault, "[vault\n")
    with pytest.raises(ConfigError, match=r"bad config line .* git-vault verify --repair writes it anew"):
        config.load(vault)


def test_a_newer_format_is_said_before_its_unknown_settings(vault: Path) -> None:
    append(vault, f"[vault]\n\tfromTheFuture = 1\n\tformatVersion = {config.FORMAT_VERSION + 1}\n")
    with pytest.raises(UnsupportedFormatVersion, match="install a newer gitvault"):
        config.load(vault)


def test_subsections_belong_to_others(vault: Path) -> None:
    append(vault, '[vault "acme"]\n\tanything = goes\n')
    assert config.load(vault) == config.Config(machine=config.load(vault).machine)


@pytest.mark.parametrize(
    ("key", "value", "field", "expected"),
    [
        ("vault.inlineLimit", "128k", "inline_limit", 128 * config.KIB),
        ("vault.lockTimeout", 9, "lock_timeout", 9),
        ("vault.ignore", ["build/", 'odd "name" #1; \\x'], "ignore", ("build/", 'odd "name" #1; \\x')),
        ("vault.ignore", [], "ignore", ()),
        ("vault.binaryextensions", "bin .DAT", "binary_extensions", frozenset({".bin", ".dat"})),
        ("vault.chunkingStrategy", "fixed", "chunking_strategy", "fixed"),
        ("vault.maxChunk", "4m", "max_chunk", 4 * config.MIB),
    ],
)
def test_a_setting_that_was_written_is_read_back(
    vault: Path, key: str, value: str | int | list[str], field: str, expected: object
) -> None:
    before = config.load(vault)
    config.set(vault, key, "overwritten" if field in ("ignore",) else value)
    config.set(vault, key, value)
    assert config.load(vault) == replace(before, **{field: expected})


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("vault.nonsense", "1", "unknown setting"),
        ("vault.compressionLevel", "99", "expected a number from 1 to 22"),
        ("vault.compressionLevel", ["1", "2"], "takes one value, found 2"),
        ("vault.maxChunk", "64k", "expected vault.minChunk < vault.avgChunk < vault.maxChunk"),
        ("core.bare", "false", "unknown setting"),
    ],
)
def test_a_wrong_setting_is_not_written(vault: Path, key: str, value: str | list[str], expected: str) -> None:
    before = (vault / "config").read_bytes()
    with pytest.raises(ConfigError, match=expected):
        config.set(vault, key, value)
    assert (vault / "config").read_bytes() == before


def test_every_setting_of_the_table_fills_a_field_of_config() -> None:
    fields = set(config.Config.__dataclass_fields__)
    assert {setting.field for setting in config.SETTINGS.values()} - {""} | {"auto_remotes"} == fields
    assert all(isinstance(setting, config.Setting) for setting in config.SETTINGS.values())


def test_the_default_vault_is_in_the_users_data_folder_unless_said_otherwise(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = config.default_vault()
    assert default.is_relative_to(home)
    assert default.parts[-2:] == ("gitvault", "vault.git")
    (home / ".gitconfig").write_text("[vault]\n dir = ~/my vault.git\n")
    assert config.default_vault() == home / "my vault.git"
    # The repository one happens to stand in does not decide where backups go.
    repository = tmp_path / "repository"
    subprocess.run(["git", "init", "-q", repository], check=True)
    subprocess.run(["git", "-C", repository, "config", "vault.dir", "/elsewhere"], check=True)
    monkeypatch.chdir(repository)
    monkeypatch.setitem(os.environ, "GIT_DIR", str(repository / ".git"))
    assert config.default_vault() == home / "my vault.git"


@pytest.mark.parametrize(
    ("name", "kind"), list(zip(config.STRATEGIES, (AssetAware, FixedSize, RollingHash), strict=True))
)
def test_the_strategy_is_made_as_configured(name: str, kind: type) -> None:
    made = config.chunking(config.Config(chunking_strategy=name, max_chunk=config.MIB, compression_level=5))
    assert type(made) is kind
    assert made.name == name
    assert made.plan(b"text\n" * 100, 10**6, ".txt").max_size == config.MIB


def test_a_strategy_that_is_no_longer_installed_is_a_clear_error() -> None:
    with pytest.raises(ConfigError, match=r"vault.chunkingStrategy = gone: no installed package brings it"):
        config.chunking(config.Config(chunking_strategy="gone"))


def test_what_is_to_be_kept(vault: Path) -> None:
    assert not config.retention(config.load(vault))
    for key, value in (("keepLast", 3), ("keepYearly", 2), ("keepWithin", "1y6m"), ("keepMilestones", "yes")):
        config.set(vault, f"vault.{key}", value)
    assert config.retention(config.load(vault)) == Retention(last=3, yearly=2, within="1y6m", milestones=True)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("keepDaily", "-1", "expected a number from 0"),
        ("keepWithin", "soon", "expected a duration, such as 36h"),
        ("keepMilestones", "perhaps", "expected one of true, yes, on"),
    ],
)
def test_what_is_no_rule(vault: Path, key: str, value: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"vault.{key}: found '{value}', {said}"):
        config.set(vault, f"vault.{key}", value)


def test_how_long_a_remote_may_be_silent(vault: Path) -> None:
    now = datetime(2026, 3, 31, tzinfo=UTC)
    assert config.remote_limit(config.load(vault), now) == timedelta(days=7)
    config.set(vault, "vault.remoteTimeout", "1w36h")
    assert config.remote_limit(config.load(vault), now) == timedelta(days=8, hours=12)
    with pytest.raises(ConfigError, match="expected a duration"):
        config.set(vault, "vault.remoteTimeout", "soon")


def test_a_key_of_players_is_64_digits(tmp_path: Path) -> None:
    Vault.create(tmp_path / "v").close()
    with pytest.raises(ConfigError, match="expected 64 hex digits"):
        config.set(tmp_path / "v", "vault.playerKey", "00ff")


def test_a_change_is_there_whole_or_not_at_all(vault: Path) -> None:
    before = (vault / "config").read_bytes()
    with pytest.raises(ToolFailed):
        config.edit(vault, *config.assign("vault.quota", ["1g"]), ("--add", "no key", "x"))
    assert (vault / "config").read_bytes() == before
    assert not list(vault.glob("config.*"))
    config.edit(vault, *config.assign("vault.quota", ["1g"]), *config.assign("vault.copies", ["/a", "/b"]))
    assert config.load(vault).quota == 1 << 30
    assert config.load(vault).copies == ("/a", "/b")


def test_a_change_is_durable_before_it_has_its_name(vault: Path) -> None:
    disk = RecordingDisk(vault)
    config.set(vault, "vault.quota", "1g", disk=disk)
    assert [(op.kind, op.target or op.path) for op in disk.ops] == [
        ("create", "config.lock"),
        ("write", "config.lock"),
        ("sync", "config.lock"),
        ("rename", "config"),
        ("sync_folder", ""),
    ]


def test_changes_wait_for_each_other_and_for_git(vault: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is lost; what a killed process left is waited for and removed."""
    keys = ("keepLast", "keepHourly", "keepDaily", "keepWeekly", "keepMonthly", "keepYearly")
    with ThreadPoolExecutor(len(keys)) as pool:
        list(pool.map(lambda key: config.set(vault, f"vault.{key}", 7), keys))
    found = config.load(vault)
    assert all(getattr(found, f"keep_{key[4:].lower()}") == 7 for key in keys)
    monkeypatch.setattr(refs, "_STALE_SECONDS", 0.01)
    (vault / "config.lock").touch()
    config.set(vault, "vault.keepLast", 8)
    assert config.load(vault).keep_last == 8
    monkeypatch.setattr(refs, "_LOCK_SECONDS", 0)
    (vault / "config.lock").touch()
    with pytest.raises(LockedError, match=r"config\.lock"):
        config.set(vault, "vault.keepLast", 9)
    assert config.load(vault).keep_last == 8
