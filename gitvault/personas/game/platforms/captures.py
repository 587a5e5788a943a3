"""Settings kept in the vault, area `platforms/<project>`: `<id>/capture.json` says when and of what build,
`settings/<hash>.json` what they were, once for all captures that found the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gitvault.core.models import Problem
from gitvault.core.utils.names import from_ref_component, from_text, ref_component, to_line, to_text
from gitvault.core.versioning.edits import stamp
from gitvault.errors import AmbiguousError, CorruptionError, NotFoundError
from gitvault.personas.game.platforms.settings import Configuration, Read, Value, Values

if TYPE_CHECKING:
    from gitvault.vault import Vault

_VERSION = 1
_SHORTEST = 4


@dataclass(frozen=True, slots=True)
class Capture:
    """Settings as they were."""

    id: str
    project: str
    time: str
    """ISO 8601 in UTC."""
    build: str
    snapshot: str
    """Of which they were read; empty: from disk."""
    engine: str
    version: str
    platforms: tuple[str, ...]
    keys: int
    settings: str
    """The hash of what they are: the same for the same settings."""


def capture(vault: Vault, project: str, read: Read, *, build: str = "", snapshot: str = "") -> Capture:
    """Keep settings. Raises OSError."""
    found = read.configuration
    content = _encode(_document(read))
    digest = hashlib.sha256(content).hexdigest()[:32]
    said: dict[str, Any] = {
        "project": project,
        "time": stamp(vault.now()),
        "build": build,
        "snapshot": snapshot,
        "engine": found.engine,
        "version": found.version,
        "platforms": list(found.platforms),
        "keys": len({key for values in (found.common, *found.platforms.values()) for key in values}),
        "settings": digest,
    }
    record = _encode({"v": _VERSION, **said})
    kept = _capture(said, hashlib.sha256(record).hexdigest()[:16])
    files: dict[bytes, bytes] = {f"{kept.id}/capture.json".encode(): record, _settings(digest): content}
    vault.area(f"platforms/{ref_component(project)}").add(files, f"Settings of {project} {build}".rstrip())
    return kept


def captures(vault: Vault, project: str | None = None) -> Iterator[Capture]:
    """What was captured of a project or of all, newest first. Raises CorruptionError."""
    prefix = "refs/vault/platforms/"
    wanted = f"{prefix}{ref_component(project)}" if project is not None else None
    found: list[Capture] = []
    for ref in vault.history.refs.list(prefix):
        if wanted in (None, ref):
            area = vault.area(ref.removeprefix("refs/vault/"))
            # A record says the name that the project had then.
            now = from_ref_component(ref.removeprefix(prefix))
            for path, text in area.named(b"capture.json"):
                with _understood(path):
                    said = {**json.loads(text), "project": now}
                    found.append(_capture(said, path[: path.index(b"/")].decode()))
    return iter(sorted(found, key=lambda one: (one.time, one.id), reverse=True))


def find(vault: Vault, name: str, project: str | None = None) -> Capture:
    """The capture whose id begins so, or the newest of a build. Raises NotFoundError, AmbiguousError."""
    known = list(captures(vault, project))
    if built := [one for one in known if one.build == name]:
        return built[0]
    found = [one for one in known if len(name) >= _SHORTEST and one.id.startswith(name)]
    if not found:
        raise NotFoundError(f"{name}: nothing was captured of it; git-vault platform list names what was")
    if len(found) > 1:
        raise AmbiguousError(f"{name}: fits {len(found)} captures: {', '.join(one.id for one in found[:5])}")
    return found[0]


def loaded(vault: Vault, one: Capture) -> Read:
    """The settings of a capture. Raises CorruptionError."""
    path = _settings(one.settings)
    area = vault.area(f"platforms/{ref_component(one.project)}")
    with _understood(path):
        said = json.loads(area.read(path))
        return Read(_configuration(said), dict(said["rules"]))


@contextmanager
def _understood(path: bytes) -> Iterator[None]:
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptionError(f"{to_line(path)}: no record of settings ({error}); run git-vault verify") from error


def _settings(digest: str) -> bytes:
    return f"settings/{digest}.json".encode()


def _document(read: Read) -> dict[str, Any]:
    found = read.configuration

    def written(values: Values) -> dict[str, list[str] | None]:
        return {key: [value.text, value.source] if value else None for key, value in values.items()}

    return {
        "v": _VERSION,
        "engine": found.engine,
        "version": found.version,
        "common": written(found.common),
        # A list: their order is the engine's.
        "platforms": [[name, written(values)] for name, values in found.platforms.items()],
        "problems": [[to_text(problem.path), problem.reason] for problem in found.problems],
        "rules": dict(read.own),
    }


def _configuration(said: Mapping[str, Any]) -> Configuration:
    def read(values: Mapping[str, Any]) -> dict[str, Value | None]:
        return {key: Value(*value) if value is not None else None for key, value in values.items()}

    return Configuration(
        said["engine"],
        said["version"],
        {key: value for key, value in read(said["common"]).items() if value},
        {name: read(values) for name, values in said["platforms"]},
        tuple(Problem(from_text(path), reason) for path, reason in said["problems"]),
    )


def _capture(said: Mapping[str, Any], id: str) -> Capture:
    fields = {key: said[key] for key in Capture.__dataclass_fields__ if key != "id"}
    return Capture(id, **{**fields, "platforms": tuple(said["platforms"])})


def _encode(document: Mapping[str, Any]) -> bytes:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass") + b"\n"
