"""Which projects there are: canonical JSON lines, one a project and machine, under `refs/vault/catalog`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime

from gitvault.core.models import Project
from gitvault.core.versioning.history import GitHistory
from gitvault.errors import CorruptionError

REF = "refs/vault/catalog"
FILE = b"projects.jsonl"


def load(history: GitHistory) -> list[Project]:
    """The projects by name. Raises CorruptionError."""
    text = history.read_file(REF, FILE)
    try:
        return [_decode(line) for line in text.decode().splitlines()]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise CorruptionError(f"{REF}: a line cannot be read ({error}); run git-vault verify") from error


def save(history: GitHistory, projects: list[Project], why: str) -> None:
    """Replace the list; durable when it returns."""
    history.write_file(REF, FILE, encode(projects), why)


def encode(projects: Iterable[Project]) -> bytes:
    """The file."""
    ordered = sorted(projects, key=lambda project: (project.name, project.host))
    return "".join(_encode(project) for project in ordered).encode()


def _encode(project: Project) -> str:
    record = {
        "added": project.added.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "host": project.host,
        "name": project.name,
        "path": project.path,
    }
    # ASCII: a surrogate escape of an undecodable path is written as \udcXX and read back as it was.
    return json.dumps(record, sort_keys=True, separators=(",", ":")) + "\n"


def _decode(line: str) -> Project:
    record = json.loads(line)
    # Not strptime, whose import is 2 ms of every `git vault status`.
    added = datetime.fromisoformat(record["added"]).astimezone(UTC)
    return Project(str(record["name"]), str(record["path"]), str(record["host"]), added)
