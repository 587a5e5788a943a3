"""Godot: `project.godot` with its feature tags, `override.cfg`, `export_presets.cfg`.

`key.android=1` holds where a build has the feature `android`. Of several that fit, Godot 4 takes the one that was set
first, Godot 3 the last. A build is taken to be a release for 64 bits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from gitvault.personas.game.platforms.nodes import check_merged
from gitvault.personas.game.platforms.settings import Configuration, Value
from gitvault.personas.game.platforms.trees import Reader

PROJECT = "project.godot"
_PRESETS = "export_presets.cfg"

_ANY = frozenset({"release", "template", "template_release"})
_PC = _ANY | {"pc", "64", "x86_64", "s3tc", "bptc"}
_PHONE = _ANY | {"mobile", "64", "arm64", "etc", "etc2", "astc"}
# Names of Godot 3 beside those of Godot 4.
_FEATURES: Mapping[str, frozenset[str]] = {
    "windows": _PC | {"windows"},
    "linux": _PC | {"linux", "linuxbsd", "x11"},
    "macos": _PC | {"macos", "osx", "universal"},
    "android": _PHONE | {"android"},
    "ios": _PHONE | {"ios", "apple_embedded"},
    "web": _ANY | {"web", "html5", "javascript", "wasm32"},
}
_OTHERS = frozenset(
    [
        "debug",
        "editor",
        "editor_hint",
        "editor_runtime",
        "template_debug",
        "double",
        "single",
        "threads",
        "nothreads",
        "movie",
        "server",
        "dedicated_server",
        "bsd",
        "freebsd",
        "openbsd",
        "netbsd",
        "uwp",
        "visionos",
        "x86",
        "x86_32",
        "arm32",
        "arm",
        "rv64",
        "ppc64",
        "32",
        "64",
        "simulator",
        "web_android",
        "web_ios",
        "web_linuxbsd",
        "web_macos",
        "web_windows",
        "xr_editor",
    ]
)
# What a preset calls the platform it is for, lower case.
_EXPORTED = {
    "windows desktop": "windows",
    "linux/x11": "linux",
    "mac osx": "macos",
    "html5": "web",
}
_VALUE = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*("?)|[\[({})\]\n]', re.S)
_ESCAPE = re.compile(r'\\(["\\nt])')
_DEEPEST = 1000


def read(reader: Reader) -> Configuration:
    """The settings of a project of Godot."""
    settings: dict[str, Value] = {}
    for name in (PROJECT, "override.cfg"):
        for section, entries in _sections(reader, name):
            settings |= {f"{section}/{key}" if section else key: value for key, value in entries.items()}
    presets = list(_presets(reader))
    custom = {feature for _, _, features, _ in presets for feature in features}
    known = _OTHERS.union(custom, *_FEATURES.values(), {platform for _, platform, _, _ in presets})
    common, tagged = _split(settings, known)
    if "config_version" in common and common["config_version"].text in ("3", "4"):
        tagged = {key: tags[::-1] for key, tags in tagged.items()}
    platforms: dict[str, dict[str, Value | None]] = {}
    for name, platform, features, options in [(name, name, frozenset[str](), {}) for name in _FEATURES] + presets:
        having = _FEATURES.get(platform, _ANY | {platform}) | features
        own = {key: value for key, tags in tagged.items() if (value := _first(tags, having))}
        platforms[name] = {**own, **options}
    version = common.get("application/config/features")
    found = re.search(r'"(\d+\.\d+)"', version.text) if version else None
    return Configuration("godot", found[1] if found else "", common, platforms, tuple(reader.problems))


def _split(
    settings: Mapping[str, Value], known: frozenset[str]
) -> tuple[dict[str, Value], dict[str, list[tuple[str, Value]]]]:
    """What holds everywhere, and by key what holds with a feature, in order."""
    common: dict[str, Value] = {}
    tagged: dict[str, list[tuple[str, Value]]] = {}
    for key, value in settings.items():
        base, *tags = key.split(".")
        fitting = [tag.strip().lower() for tag in tags if tag.strip().lower() in known]
        if fitting:
            tagged.setdefault(base, []).extend((tag, value) for tag in fitting)
        else:
            common[key] = value
    return common, tagged


def _first(tags: list[tuple[str, Value]], having: frozenset[str]) -> Value | None:
    return next((value for tag, value in tags if tag in having), None)


def _presets(reader: Reader) -> Iterator[tuple[str, str, frozenset[str], dict[str, Value]]]:
    """Name, platform, features of its own, options.

    The first plain preset of a platform is that platform's; others get a name of their own, `windows:Demo`.
    """
    sections = dict(_sections(reader, _PRESETS))
    taken: set[str] = set()
    for section, preset in sections.items():
        if not re.fullmatch(r"preset\.\d+", section) or "platform" not in preset:
            continue
        said = preset["platform"].text.lower()
        platform = _EXPORTED.get(said, said)
        listed = preset["custom_features"].text.split(",") if "custom_features" in preset else []
        features = frozenset(tag.strip().lower() for tag in listed if tag.strip())
        name = platform
        if features or platform in taken:
            name = f"{platform}:{preset['name'].text if 'name' in preset else section}"
        taken.add(name)
        kept = {key: value for key, value in preset.items() if key not in ("name", "platform", "runnable")}
        options = {f"export/{key}": value for key, value in {**kept, **sections.get(f"{section}.options", {})}.items()}
        if "dedicated_server" in preset and preset["dedicated_server"].text == "true":
            features |= {"dedicated_server"}
        yield name, platform, features, options


def _sections(reader: Reader, path: str) -> Iterator[tuple[str, dict[str, Value]]]:
    text = reader.text(path)
    if text is None:
        return
    try:
        check_merged(text)
    except ValueError as error:
        reader.problem(path, error)
        return
    section: tuple[str, dict[str, Value]] = ("", {})
    at, line = 0, 1
    while at < len(text) and not reader.gave_up(path):
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        content = text[at:end].strip()
        if not content or content[0] == ";":
            pass
        elif content[0] == "[" and content[-1] == "]":
            yield section
            section = (content[1:-1], {})
        elif "=" in content:
            key = text[at : text.index("=", at)].strip()
            began = at + text[at:end].index("=") + 1
            if end_of_value := _end(text, began):
                value = text[began:end_of_value].strip()
                section[1][_plain(key)] = Value(_plain(value), f"{path}:{line}")
                end = end_of_value
            else:
                reader.problem(path, f"line {line}: {key}: does not end; its quotes or brackets do not match")
        else:
            reader.problem(path, f"line {line}: neither a section nor KEY=VALUE")
        line += text.count("\n", at, end + 1)
        at = end + 1
    yield section


def _end(text: str, at: int) -> int:
    """Where a value ends, which is at the end of a line outside of quotes and brackets; 0 when it never does."""
    depth = 0
    for found in _VALUE.finditer(text, at):
        token = found[0]
        if token == "\n" and not depth:
            return found.start()
        depth += (token in "[({") - (token in "])}")
        if depth > _DEEPEST or (token[0] == '"' and not found[1]):
            return 0
    return len(text) if not depth else 0


def _plain(value: str) -> str:
    """A string without its quotes; anything else on one line."""
    if len(value) > 1 and value[0] == value[-1] == '"' and not re.search(r'(?<!\\)"', value[1:-1]):
        return _ESCAPE.sub(lambda found: {"n": "\n", "t": "\t"}.get(found[1], found[1]), value[1:-1])
    return " ".join(value.split())
