"""What a project's settings are on each of its platforms, and how they differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gitvault.core.models import Problem
from gitvault.core.utils.names import from_text
from gitvault.errors import AmbiguousError, NotFoundError
from gitvault.personas.game.platforms.rules import Rules, rules_for


@dataclass(frozen=True, slots=True)
class Value:
    """One value, as its file has it, strings without their quotes; of several, one a line."""

    text: str
    source: str
    """`file:line` in the project."""


Values = Mapping[str, Value | None]
"""By key; None where a platform takes away what the others have."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """The settings of one engine's project."""

    engine: str
    """`godot`, `unity`, `unreal` or `plain`."""
    version: str
    """The engine's, empty where no file says."""
    common: Mapping[str, Value]
    """What holds wherever a platform says nothing else."""
    platforms: Mapping[str, Values]
    """By the engine's own names: what a platform says."""
    problems: tuple[Problem, ...] = ()
    """Files, or parts of them, that could not be understood."""

    def effective(self, platform: str) -> dict[str, Value]:
        """All that holds on a platform, by `platform`'s own name."""
        return {key: value for key, value in {**self.common, **self.platforms[platform]}.items() if value is not None}

    def platform(self, word: str) -> str:
        """The platform of a name or alias, in whatever case. Raises NotFoundError, AmbiguousError."""
        names = {name.lower(): name for name in self.platforms}
        wanted = word.lower()
        if wanted in names:
            return names[wanted]
        for name in _ALIASES.get(wanted, ()):
            if name.lower() in names:
                return names[name.lower()]
        # A preset or a build profile by its own name alone.
        found = [name for low, name in names.items() if low.endswith(f":{wanted}")]
        if len(found) > 1:
            raise AmbiguousError(f"{word}: fits {', '.join(found)}; which one?")
        if not found:
            raise NotFoundError(f"{word}: no such platform here; there are {', '.join(self.platforms)}")
        return found[0]


@dataclass(frozen=True, slots=True)
class Read:
    """A project's settings, and what the project itself says of them."""

    configuration: Configuration
    own: Mapping[str, Any]
    """Its rules, as `.gitvault-platforms.toml` has them."""

    @property
    def rules(self) -> Rules:
        """Ours and its own."""
        return rules_for(self.configuration.engine, self.own)


@dataclass(frozen=True, slots=True)
class PlatformDifference:
    """One setting that is not the same on two platforms."""

    key: str
    values: Mapping[str, str | None]
    """By platform; None where it has none, which means what the engine does by itself."""
    sources: Mapping[str, str]
    """`file:line` by platform."""
    kind: str
    """`different`, `missing` or `expected`."""


@dataclass(frozen=True, slots=True)
class Drift:
    """One setting that is not what it was."""

    key: str
    before: str | None
    after: str | None
    platforms: tuple[str, ...]
    """On which it changed; empty: on all."""
    source: str
    """`file:line` where it is, or where it was when it is gone."""
    kind: str
    """`changed`, `added`, `removed` or `expected`."""


def compare(configuration: Configuration, a: str, b: str, rules: Rules) -> list[PlatformDifference]:
    """What is different on platform `b` than on `a`, by key. Raises NotFoundError, AmbiguousError."""
    names = tuple(configuration.platform(word) for word in (a, b))
    sides = [configuration.effective(name) for name in names]
    found = []
    for key in sorted({*sides[0], *sides[1]}):
        held = {name: side.get(key) for name, side in zip(names, sides, strict=True)}
        if len(held) < 2 or same(*held.values()):
            continue
        is_missing = None in held.values()
        kind = "expected" if rules.expected(key) else "missing" if is_missing else "different"
        found.append(
            PlatformDifference(
                key,
                {name: value.text if value else None for name, value in held.items()},
                {name: value.source for name, value in held.items() if value},
                kind,
            )
        )
    return found


def drift(before: Configuration, after: Configuration, rules: Rules) -> list[Drift]:
    """What changed from one build's settings to another's, by key."""
    # Without platforms there is what holds everywhere.
    platforms = list(dict.fromkeys([*before.platforms, *after.platforms])) or [""]
    old = {name: before.effective(name) if name in before.platforms else dict(before.common) for name in platforms}
    new = {name: after.effective(name) if name in after.platforms else dict(after.common) for name in platforms}
    found: list[Drift] = []
    for key in sorted({key for side in (*old.values(), *new.values()) for key in side}):
        changes: dict[tuple[str | None, str | None], list[str]] = {}
        for name in platforms:
            was, now = old[name].get(key), new[name].get(key)
            if not same(was, now):
                changes.setdefault((was.text if was else None, now.text if now else None), []).append(name)
        having = [name for name in platforms if key in old[name] or key in new[name]]
        for (earlier, later), where in changes.items():
            there = new[where[0]].get(key) or old[where[0]][key]
            kind = "added" if earlier is None else "removed" if later is None else "changed"
            found.append(
                Drift(
                    key,
                    earlier,
                    later,
                    () if len(where) == len(having) else tuple(where),
                    there.source,
                    "expected" if rules.changing(key) else kind,
                )
            )
    return found


def same(a: Value | None, b: Value | None) -> bool:
    """Whether two values mean the same: `1.0` and `1.000000`, `True` and `true` do."""
    if a is None or b is None:
        return a is b
    return a.text == b.text or _meant(a.text) == _meant(b.text)


def _meant(text: str) -> str | float:
    low = text.strip().lower()
    if low in ("true", "false"):
        return low
    # What float() also takes (inf, 1_000) is left to the comparison of texts.
    if low[:1] in "+-.0123456789" and low[-1:].isdigit() and "_" not in low:
        try:
            return float(low)
        except ValueError:
            return text
    return text


def hidden(configuration: Configuration, rules: Rules) -> Configuration:
    """The same without secrets: what leads on from here has never seen them."""

    return _each(configuration, lambda key, value: Value(rules.shown(key, value.text), value.source))


def placed(configuration: Configuration, folder: str) -> Configuration:
    """The same with sources from where its folder lies in."""
    if not folder:
        return configuration
    problems = (replace(one, path=from_text(f"{folder}/") + one.path) for one in configuration.problems)
    found = _each(configuration, lambda _, value: Value(value.text, f"{folder}/{value.source}"))
    return replace(found, problems=tuple(problems))


def _each(configuration: Configuration, made: Callable[[str, Value], Value]) -> Configuration:
    return replace(
        configuration,
        common={key: made(key, value) for key, value in configuration.common.items()},
        platforms={
            name: {key: value and made(key, value) for key, value in values.items()}
            for name, values in configuration.platforms.items()
        },
    )


_DESKTOP = ("Standalone", "Windows", "pc")
_ALIASES = {
    "pc": _DESKTOP,
    "desktop": _DESKTOP,
    "windows": ("Windows", "Standalone"),
    "win": ("Windows", "Standalone"),
    "win32": ("Windows", "Standalone"),
    "win64": ("Windows", "Standalone"),
    "standalone": ("Windows",),
    "mac": ("Mac", "macos", "Standalone"),
    "macos": ("Mac", "Standalone"),
    "osx": ("Mac", "macos", "Standalone"),
    "linux": ("Linux", "Standalone"),
    "linuxbsd": ("linux", "Standalone"),
    "x11": ("linux", "Standalone"),
    "steamdeck": ("Linux", "Standalone"),
    "mobile": ("Android", "iPhone", "iOS"),
    "ios": ("iPhone",),
    "iphone": ("iOS",),
    "ipad": ("iPhone", "iOS"),
    "appletv": ("tvOS",),
    "web": ("WebGL", "HTML5"),
    "webgl": ("web", "HTML5"),
    "html5": ("web", "WebGL"),
    "switch": ("Nintendo Switch",),
    "nintendo switch": ("Switch",),
    "xbox": ("GameCoreScarlett", "XSX", "XboxOne", "XB1", "GameCoreXboxOne"),
    "xbox one": ("XboxOne", "XB1", "GameCoreXboxOne"),
    "xbox series": ("GameCoreScarlett", "XSX"),
    "playstation": ("PS5", "PS4"),
    "playstation 5": ("PS5",),
    "playstation 4": ("PS4",),
    "uwp": ("Windows Store Apps",),
    "wsa": ("Windows Store Apps",),
}
