"""Applications and where they keep what makes them somebody's own: data in applications.toml, looked up here."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gitvault.core.utils.names import to_line
from gitvault.errors import ConfigError, NotFoundError

SYSTEMS = {"linux": "linux", "darwin": "macos", "win32": "windows"}
"""How `sys.platform` says what the table says."""
_KEYS = {"name", "processes", "leave_out", *SYSTEMS.values()}
_VERSION = re.compile(r"\d+(?:[._]\d+)*")


@dataclass(frozen=True, slots=True)
class Application:
    """One program, as the table has it."""

    id: str
    name: str
    processes: tuple[str, ...]
    leave_out: tuple[str, ...]
    places: Mapping[str, Mapping[str, str]]
    """Patterns of paths by system (`linux`, `macos`, `windows`) and place."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Whose workspace: a home folder on some system, and what its environment says of others."""

    home: Path
    system: str
    """`linux`, `macos` or `windows`."""
    variables: Mapping[str, str]
    """Of the environment; those that lead elsewhere than the home folder does."""

    def folders(self) -> dict[str, str]:
        """What stands for the words in braces."""
        home, said = os.fspath(self.home), self.variables
        support, app_data = f"{home}/Library/Application Support", f"{home}/AppData"
        return {
            "home": home,
            "documents": f"{home}/Documents",
            "config": said.get("XDG_CONFIG_HOME") or f"{home}/.config",
            "data": support if self.system == "macos" else said.get("XDG_DATA_HOME") or f"{home}/.local/share",
            "preferences": f"{home}/Library/Preferences",
            "roaming": said.get("APPDATA") or f"{app_data}/Roaming",
            "local": said.get("LOCALAPPDATA") or f"{app_data}/Local",
        }


@dataclass(frozen=True, slots=True)
class Installed:
    """What an application keeps here: one version of it."""

    application: Application
    version: str
    """Empty where its folders do not say."""
    places: Mapping[str, Path]
    """Those that exist."""


def known(more: Path | None = None) -> dict[str, Application]:
    """The applications by id: those that come with gitvault, and those of a file of the user's, which come first.

    Raises ConfigError, which names the file, for one that cannot be read or says what nothing understands.
    """
    found = _read(Path(__file__).with_name("applications.toml"))
    return found | (_read(more) if more else {})


def named(applications: Mapping[str, Application], name: str) -> Application:
    """The application of this id. Raises NotFoundError, which lists those there are."""
    if name not in applications:
        raise NotFoundError(
            f"{to_line(os.fsencode(name))}: no such application; there are {', '.join(sorted(applications))}"
        )
    return applications[name]


def _read(file: Path) -> dict[str, Application]:
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{file}: {getattr(error, 'strerror', None) or error}; expected applications in TOML"
        ) from error
    return {id: _application(file, id, said) for id, said in table.items()}


def _application(file: Path, id: str, said: object) -> Application:
    if not isinstance(said, dict) or not re.fullmatch("[a-z0-9][a-z0-9_-]{0,40}", id):
        raise ConfigError(
            f"{file}: {id}: expected a table [name] of small letters and digits with the places of a program"
        )
    if wrong := sorted(said.keys() - _KEYS):
        raise ConfigError(f"{file}: [{id}] {wrong[0]}: unknown; there are {', '.join(sorted(_KEYS))}")
    places = {system: said.get(system, {}) for system in SYSTEMS.values()}
    words = {word: f"{{{word}}}" for word in (*Surroundings(Path(), "linux", {}).folders(), "version")}
    for system, patterns in places.items():
        for place, pattern in patterns.items() if isinstance(patterns, dict) else (("", None),):
            try:
                good = isinstance(pattern, str) and pattern.format(**words) == pattern and pattern.startswith("{")
            except (KeyError, ValueError, IndexError):
                good = False
            if not good or not re.fullmatch("[a-z0-9_-]+", place):
                raise ConfigError(f'{file}: [{id}] {system}: expected place = "{{config}}/folder", found {patterns}')
    lists = {key: said.get(key, []) for key in ("processes", "leave_out")}
    for key, value in lists.items():
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise ConfigError(f"{file}: [{id}] {key}: expected a list of words, found {value}")
    return Application(id, str(said.get("name", id)), tuple(lists["processes"]), tuple(lists["leave_out"]), places)


def find(application: Application, around: Surroundings, version: str | None = None) -> Installed:
    """The newest version of an application that has something here, or this one. Raises NotFoundError."""
    found = list(installed(application, around))
    for one in found:
        if version in (None, one.version):
            return one
    looked = [_shown(pattern, around) for pattern in application.places.get(around.system, {}).values()]
    if version and found:
        said = ", ".join(one.version for one in found)
        raise NotFoundError(f"{application.name} {version}: keeps nothing here; there is {said}")
    where = f"looked for {', '.join(looked)}" if looked else f"nothing is known of it on {around.system}"
    raise NotFoundError(f"{application.name}: keeps nothing here: {where}")


def installed(application: Application, around: Surroundings) -> Iterator[Installed]:
    """The versions of an application that have something here, newest first."""
    versions: dict[str, dict[str, Path]] = {}
    shared: dict[str, Path] = {}
    for place, pattern in application.places.get(around.system, {}).items():
        if "{version}" not in pattern:
            path = Path(pattern.format(**around.folders()))
            if path.exists():
                shared[place] = path
            continue
        for version, path in _versions(pattern, around):
            versions.setdefault(version, {})[place] = path
    for version in sorted(versions, key=_order, reverse=True):
        yield Installed(application, version, {**shared, **versions[version]})
    if shared and not versions:
        yield Installed(application, "", shared)


def place_of(application: Application, around: Surroundings, place: str, version: str) -> Path | None:
    """Where a place is, or would be; None where the application has no such place."""
    pattern = application.places.get(around.system, {}).get(place)
    return Path(pattern.format(**around.folders(), version=version)) if pattern else None


def _versions(pattern: str, around: Surroundings) -> Iterator[tuple[str, Path]]:
    parent, _, rest = pattern.partition("{version}")
    parent, _, before = parent.rpartition("/")
    after, _, below = rest.partition("/")
    folder = Path(parent.format(**around.folders()))
    named = re.compile(re.escape(before) + f"({_VERSION.pattern}|20[0-9]{{2}})" + re.escape(after))
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    for name in names:
        if found := named.fullmatch(name):
            path = folder / name / below if below else folder / name
            if path.exists():
                yield found[1], path


def _order(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def _shown(pattern: str, around: Surroundings) -> str:
    return pattern.format(**around.folders(), version="*")
