"""Sessions of playtests in the vault: read from JSON lines, kept in the area `playtests/<project>`, listed.

`<id>/session.json` says what the session was, `<id>/events.jsonl` what happened, as docs/playtests.md has it. The id
follows from both, so that the same file kept twice is one session.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from io import BufferedReader
from typing import TYPE_CHECKING, Any, BinaryIO

from gitvault.core.utils.names import from_ref_component, ref_component, to_line
from gitvault.core.versioning.edits import stamp
from gitvault.errors import AmbiguousError, CorruptionError, GitVaultError, NotFoundError
from gitvault.personas.game.players import hasher

if TYPE_CHECKING:
    from pathlib import Path

    from gitvault.vault import Vault

VERSION = 1
_LONGEST_LINE = 64 << 20
_ZSTD = b"\x28\xb5\x2f\xfd"
_NAMES = ("e", "event", "name", "type")
_STATES = ("s", "state")
_TIMES = ("t", "time", "timestamp", "ts")
# Made once: `json.dumps` makes one for each line, a quarter of what a session costs.
_line = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
# Numbers beyond are seconds, or milliseconds, since 1970.
_EPOCH, _EPOCH_MS = 1e8, 1e11
_FIRST, _LAST = datetime(1990, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Session:
    """One playtest."""

    id: str
    project: str
    build: str
    platform: str = ""
    player: str = ""
    """A hash with the vault's own key; empty for nobody in particular."""
    start: str = ""
    end: str = ""
    """ISO 8601 in UTC."""
    events: int = 0
    states: int = 0
    cut: bool = False
    """Whether the file ends without saying so: the game crashed."""
    snapshot: str = ""
    """What the build is in the vault; empty where that is not known."""
    settings: Mapping[str, Any] | None = None
    attachments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line that says nothing that could be kept."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Kept:
    """What came of a file of events."""

    session: Session
    rejected: tuple[Rejected, ...]


def keep(
    vault: Vault,
    project: str,
    lines: Iterable[bytes],
    *,
    build: str = "",
    platform: str = "",
    player: str = "",
    about: Mapping[str, Any] | None = None,
    attachments: Iterable[Path] = (),
) -> Kept:
    """Keep a session: events and states as lines of JSON, a Recorder's or anybody's.

    `build`, `platform`, `player`: where the file's first line does not say. The player is kept as a hash only. `about`:
    settings. What cannot be read is told by line. Raises GitVaultError when nothing can be, OSError.
    """
    said: dict[str, Any] = {}
    rejected: list[Rejected] = []
    found: list[tuple[datetime | float | None, dict[str, Any]]] = []
    ended = False
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            document = _document(line)
            if number == 1 and "v" in document and not {*_NAMES, *_STATES} & document.keys():
                said = document
            elif document.get("end") is True:
                ended = True
                found.append((_time(document), {}))
            else:
                found.append((_time(document), _event(document)))
        except ValueError as error:
            rejected.append(Rejected(number, str(error)))
    if not any(event for _, event in found):
        why = f": line {rejected[0].line}: {rejected[0].reason}" if rejected else ""
        raise GitVaultError(f'no event in what was given{why}; expected lines of JSON such as {{"event": "jump"}}')
    start, moments = _moments(said.get("start"), [when for when, _ in found], vault.now())
    rows = [{"t": moment, **event} for moment, (_, event) in zip(moments, found, strict=True) if event]
    # A clock that went back says nothing of the order, which is that of the file.
    content = b"".join(_line(row).encode() + b"\n" for row in rows)
    files = {path.name: path for path in attachments}
    who = str(said.get("player") or player)
    session = Session(
        id="",
        project=project,
        build=str(said.get("build") or build),
        platform=str(said.get("platform") or platform),
        player=str(said.get("player_hash") or "") or (hashed(vault, who) if who else ""),
        start=stamp(start),
        end=stamp(start + timedelta(seconds=max(moments, default=0.0))),
        events=sum("e" in row for row in rows),
        states=sum("s" in row for row in rows),
        cut=bool(said) and not ended,
        settings={**dict(said.get("settings") or {}), **(about or {})},
        attachments=tuple(sorted(files)),
    )
    session = replace(session, snapshot=_snapshot(vault, project, session.build))
    digest = hashlib.sha256(_encode(replace(session, snapshot="")) + content).hexdigest()[:16]
    session = replace(session, id=digest)
    area = vault.area(f"playtests/{ref_component(project)}")
    below = session.id.encode() + b"/"
    if below + b"session.json" not in set(area.paths(session.id.encode())):
        records: dict[bytes, bytes | Path] = {below + b"events.jsonl": content}
        records[below + b"session.json"] = _encode(session)
        records |= {below + b"files/" + name.encode("utf-8", "surrogateescape"): path for name, path in files.items()}
        area.add(records, f"Playtest of {project} {session.build}".rstrip())
    return Kept(session, tuple(rejected))


def lines_of(file: BufferedReader) -> Iterator[bytes]:
    """The lines of a file, which may be compressed by zstd; one that is too long comes in pieces, which are no JSON.

    Raises GitVaultError for a damaged file; of one that was cut off, what is there comes.
    """
    return _unpacked(file) if file.peek(4)[:4] == _ZSTD else _bounded(file)


def _unpacked(file: BinaryIO) -> Iterator[bytes]:
    import zstandard

    stream = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
    try:
        yield from _bounded(BufferedReader(stream))
    except zstandard.ZstdError as error:
        raise GitVaultError(f"a damaged zstd file ({error}); zstd -d gives what can be read of it") from error


def _bounded(file: BinaryIO) -> Iterator[bytes]:
    return iter(partial(file.readline, _LONGEST_LINE + 1), b"")


def sessions(vault: Vault, project: str | None = None) -> Iterator[Session]:
    """The sessions of a project or of all, newest first. Raises CorruptionError."""
    prefix = "refs/vault/playtests/"
    wanted = f"{prefix}{ref_component(project)}" if project is not None else None
    found: list[Session] = []
    for ref in vault.history.refs.list(prefix):
        if wanted in (None, ref):
            area = vault.area(ref.removeprefix("refs/vault/"))
            # A record says the name that the project had then.
            now = from_ref_component(ref.removeprefix(prefix))
            found += (replace(_decode(text, path), project=now) for path, text in area.named(b"session.json"))
    return iter(sorted(found, key=lambda session: (session.start, session.id), reverse=True))


def find(vault: Vault, name: str) -> Session:
    """The session whose id begins so. Raises NotFoundError, AmbiguousError."""
    found = [session for session in sessions(vault) if session.id.startswith(name)]
    if not found:
        raise NotFoundError(f"{name}: no such playtest; git-vault playtest list names them")
    if len(found) > 1:
        raise AmbiguousError(f"{name}: fits {len(found)} playtests: {', '.join(one.id for one in found[:5])}")
    return found[0]


def events(vault: Vault, session: Session) -> list[dict[str, Any]]:
    """What happened, in order: `t` (seconds since the start), `e` or `s` (a state) with the name, `d` (data).

    Raises CorruptionError, NotFoundError.
    """
    area = vault.area(f"playtests/{ref_component(session.project)}")
    path = f"{session.id}/events.jsonl".encode()
    try:
        return [dict(json.loads(line)) for line in area.read(path).splitlines()]
    except (ValueError, TypeError, RecursionError) as error:
        raise CorruptionError(f"{to_line(path)}: no events of a playtest ({error}); run git-vault verify") from error


def hashed(vault: Vault, player: str) -> str:
    """What stands for a player in records: the same in all of this vault, and nobody's name."""
    return hasher(vault)(player)


def _document(line: bytes) -> dict[str, Any]:
    if len(line) > _LONGEST_LINE:
        raise ValueError("longer than 64 MiB")
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise ValueError("expected an object")
    return document


def _event(document: dict[str, Any]) -> dict[str, Any]:
    for keys, kind in ((_STATES, "s"), (_NAMES, "e")):
        for key in keys:
            if isinstance(name := document.get(key), str) and name:
                rest = {k: value for k, value in document.items() if k not in (key, "d", *_TIMES)}
                data = document["d"] if "d" in document else rest.pop("data", rest) if key != "d" else rest
                return {kind: name, "d": data}
    raise ValueError("names no event and no state")


def _time(document: dict[str, Any]) -> datetime | float | None:
    """A moment, or seconds since the start; None where nothing is said."""
    said = next((document[key] for key in _TIMES if key in document), None)
    if said is None:
        return None
    if isinstance(said, str):
        moment = _iso(said)
        if moment is None:
            raise ValueError(f"{to_line(said.encode('utf-8', 'replace'))[:40]}: not a time")
        return moment
    if isinstance(said, bool) or not isinstance(said, int | float) or not math.isfinite(said):
        raise ValueError("not a time")
    if abs(said) > _EPOCH:
        seconds = said / 1000 if abs(said) > _EPOCH_MS else said
        try:
            return datetime.fromtimestamp(seconds, UTC)
        except (ValueError, OverflowError, OSError):
            raise ValueError("not a time") from None
    return float(said)


def _iso(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment if _FIRST < moment < _LAST else None


def _moments(said: object, times: list[datetime | float | None], now: datetime) -> tuple[datetime, list[float]]:
    """When the session began, and of each line the seconds since then; of one that does not say, those of the last."""
    absolute = [moment for moment in times if isinstance(moment, datetime)]
    start = (_iso(said) if said else None) or (min(absolute) if absolute else None) or now
    moments: list[float] = []
    last = 0.0
    for moment in times:
        if moment is not None:
            last = round((moment - start).total_seconds() if isinstance(moment, datetime) else moment, 4)
        moments.append(last)
    return start, moments


def _snapshot(vault: Vault, project: str, build: str) -> str:
    """What a build is in the vault: the milestone, the snapshot, or the newest that says `version`; empty for none."""
    if not build:
        return ""
    from gitvault.core.models import Filter

    for name in (f"{project}/{build}", build):
        try:
            snapshot = vault.resolve(name)
        except GitVaultError:
            continue
        if vault.get_snapshot_info(snapshot).project == project:
            return snapshot
    if vault.history.tip(project) is None:
        return ""
    for key in ("version", "build"):
        found = vault.list_snapshots(Filter(project=project, metadata={key: build}, limit=1))
        if found:
            return found[0].id
    return ""


def _encode(session: Session) -> bytes:
    return json.dumps({"v": VERSION, **asdict(session)}, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def _decode(text: bytes, path: bytes) -> Session:
    try:
        said = json.loads(text)
        values = {key: said[key] for key in Session.__dataclass_fields__}
        return Session(**{**values, "attachments": tuple(said["attachments"])})
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptionError(f"{to_line(path)}: no record of a playtest ({error}); run git-vault verify") from error
