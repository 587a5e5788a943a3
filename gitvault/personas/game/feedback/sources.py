"""What each service's records say, in our fields. One function a source; docs/feedback.md names their documentation.

A function raises KeyError, TypeError or ValueError for a record that is not what its source documents.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gitvault.errors import ConfigError
from gitvault.personas.game.feedback import values
from gitvault.personas.game.feedback.values import Raw

_Said = dict[str, Any]
"""Our fields, and `own`: what the source calls the record; missing where it calls it nothing."""

_DAY = 86400


@dataclass(frozen=True, slots=True)
class Source:
    """How the records of a service are read."""

    name: str
    read: Callable[[Raw], _Said]
    lists: frozenset[str] = frozenset()
    """Under which keys an export has its records, when it is an object."""
    identities: tuple[str, ...] = ()
    """Keys that name people, beside those that do everywhere."""
    rows: bool = False
    """Whether it is CSV."""


def _steam(raw: Raw) -> _Said:
    author = values.object_in(raw, "author")
    played = author.get("playtime_at_review", author.get("playtime_forever"))
    return {
        "own": values.word_in(raw, "recommendationid"),
        "time": values.moment(raw.get("timestamp_updated") or raw["timestamp_created"]),
        "kind": "review",
        "text": values.text_in(raw, "review"),
        "player": values.word_in(author, "steamid"),
        "rating": float(values.flag_in(raw, "voted_up")),
        # Minutes.
        "playtime": None if played is None else values.number(played) * 60,
        "platform": "steamdeck" if raw.get("primarily_steam_deck") is True else "",
    }


_ITCH = {
    "time": ("createdat", "date", "timestamp"),
    "text": ("review", "blurb", "text", "comment", "body"),
    "rating": ("rating", "score", "stars"),
    "player": ("userid", "user", "username", "email"),
    "own": ("id", "ratingid", "commentid"),
    "build": ("version", "build", "uploadversion"),
}


def _itch(raw: Raw) -> _Said:
    cells = {values.plain(key): str(value).strip() for key, value in raw.items()}
    found = {field: next((cells[name] for name in names if cells.get(name)), "") for field, names in _ITCH.items()}
    if not (found["text"] or found["rating"]):
        raise ValueError(f"says nothing: expected a column {_listed(_ITCH['text'])} or {_listed(_ITCH['rating'])}")
    rating = values.rating(found["rating"], 5) if found["rating"] else None
    kind = "comment" if rating is None else "review"
    return {**found, "time": values.moment(found["time"]), "rating": rating, "kind": kind}


def _discord(raw: Raw) -> _Said:
    if raw.get("type") not in ("Default", "Reply", "ThreadStarterMessage", 0, 19):
        raise ValueError(f"a message of the type {raw.get('type')}; only what people write counts")
    author, text = values.object_in(raw, "author"), values.text_in(raw, "content")
    for other in raw.get("mentions") or ():
        for key in ("nickname", "name"):
            if isinstance(name := other.get(key), str) and name:
                text = text.replace(f"@{name}", "@somebody")
    if not text.strip():
        raise ValueError("says nothing in words")
    return {
        "own": values.word_in(raw, "id"),
        "time": values.moment(raw.get("timestamp")),
        "kind": "comment",
        "text": text,
        "player": values.word_in(author, "id"),
    }


_LABELS = (
    ("crash", ("crash",)),
    ("bug", ("bug", "defect", "regression")),
    ("request", ("enhancement", "feature", "request", "suggestion", "idea")),
)
# `Version: 1.2.0`, or what an issue form makes of a field: `### Version`, an empty line, `1.2.0`.
_VERSION = re.compile(
    r"^\W{0,8}(?:game |app )?(?:build|version)(?: id| number)?\W{0,4}?(?::|=|\n|\r\n)\s{0,8}`?([\w.+-]{1,64})",
    re.IGNORECASE | re.MULTILINE,
)


def _issue(raw: Raw, own: str, created: str, who: object, text: str, labels: list[str]) -> _Said:
    named = " ".join(labels).lower()
    version = _VERSION.search(text)
    return {
        "own": own,
        "time": values.moment(created),
        "kind": next((kind for kind, words in _LABELS if any(word in named for word in words)), "issue"),
        "text": text,
        "player": str(who or ""),
        "build": version[1] if version else "",
    }


def _github(raw: Raw) -> _Said:
    if raw.get("pull_request"):
        raise ValueError("a pull request, not an issue")
    where = raw.get("html_url") or raw.get("url") or raw.get("repository_url") or ""
    author = raw.get("user") or raw.get("author") or {}
    labels = [str(one.get("name", "")) if isinstance(one, dict) else str(one) for one in raw.get("labels") or ()]
    text = values.joined(values.text_in(raw, "title"), raw.get("body"))
    created = raw.get("created_at") or raw["createdAt"]
    return _issue(raw, f"{where}#{int(raw['number'])}", created, author.get("login"), text, labels)


def _gitlab(raw: Raw) -> _Said:
    author = raw.get("author") or {}
    labels = [str(one.get("name", "")) if isinstance(one, dict) else str(one) for one in raw.get("labels") or ()]
    text = values.joined(values.text_in(raw, "title"), raw.get("description"))
    own = f"{raw.get('web_url') or raw.get('project_id') or ''}#{int(raw['iid'])}"
    return _issue(raw, own, raw["created_at"], author.get("username"), text, labels)


def _sentry(raw: Raw) -> _Said:
    own = raw.get("eventID") or raw.get("event_id") or raw["id"]
    tags = values.pairs(raw.get("tags"))
    user = raw.get("user") or {}
    release = raw.get("release") or tags.get("release") or ""
    if isinstance(release, dict):
        release = release.get("version") or ""
    level = str(raw.get("level") or tags.get("level") or "error")
    entries = {one.get("type"): one.get("data") for one in raw.get("entries") or () if isinstance(one, dict)}
    thrown = ((entries.get("exception") or raw.get("exception") or {}).get("values")) or []
    frames = ((thrown[-1].get("stacktrace") or {}).get("frames") or []) if thrown else []
    first = f"{thrown[-1].get('type') or ''}: {thrown[-1].get('value') or ''}" if thrown else ""
    who = next((user[key] for key in ("id", "username", "email", "ip_address") if user.get(key)), "")
    return {
        "own": values.word(own),
        "time": values.moment(
            raw.get("dateReceived") or raw.get("received") or raw.get("dateCreated") or raw.get("timestamp")
        ),
        "kind": "crash" if level == "fatal" else "error",
        "text": str(raw.get("title") or first or raw.get("message") or ""),
        "player": str(who),
        # `lantern@1.2.0+4711`.
        "build": str(release).rpartition("@")[2],
        "branch": str(raw.get("environment") or tags.get("environment") or ""),
        "platform": str(tags.get("os.name") or tags.get("os") or raw.get("platform") or ""),
        "scene": str(tags.get("scene") or tags.get("level.name") or ""),
        "sig": str(raw.get("groupID") or ""),
        # The innermost comes last.
        "stack": [
            values.frame(
                one.get("function"), one.get("filename") or one.get("module"), one.get("lineNo") or one.get("lineno")
            )
            for one in reversed(frames[-values.FRAMES :])
        ],
    }


def _unity(raw: Raw) -> _Said:
    said = {values.plain(key): value for key, value in raw.items()}
    described = (values.pairs(said.get(key)) for key in ("devicemetadata", "dimensions", "fields", "metadata"))
    about = {values.plain(name): value for pairs in described for name, value in pairs.items()}
    own = said.get("identifier") or said.get("reportid") or said["id"]
    stack = said.get("stacktrace") or about.get("stacktrace") or ""
    text = said.get("message") or said.get("exception") or said.get("summary")
    notes = about.get("description") or about.get("notes")
    if text is None and not notes:
        raise KeyError("summary")
    native = str(said.get("type") or said.get("reporttype") or "").lower()
    kind = "bug" if not stack else "crash" if "crash" in native or "native" in native else "error"
    return {
        "own": values.word(own),
        "time": values.moment(said.get("receivedon") or said.get("timestamp") or said.get("time")),
        "kind": kind,
        "text": values.joined(str(text or ""), notes),
        "player": str(said.get("userid") or said.get("ipaddress") or about.get("deviceid") or ""),
        "build": str(
            next(
                (value for key in _UNITY_BUILDS for where in (said, about) if (value := where.get(key))),
                "",
            )
        ),
        "platform": str(said.get("platform") or about.get("platform") or ""),
        "scene": str(about.get("scene") or about.get("scenename") or ""),
        "stack": values.lines(stack),
    }


_UNITY_BUILDS = ("buildguid", "buildid", "build", "appversion", "applicationversion", "version", "gameversion")


def _backtrace(raw: Raw) -> _Said:
    attributes = values.object_in(raw, "attributes")
    threads = raw.get("threads") or {}
    main = threads.get(str(raw.get("mainThread"))) or next(
        (one for one in threads.values() if isinstance(one, dict) and one.get("fault")), {}
    )
    frames = [one for one in main.get("stack") or () if isinstance(one, dict)]
    classes = [str(one) for one in raw.get("classifiers") or ()]
    kind = str(attributes.get("error.type") or "Crash").lower()
    message = attributes.get("error.message") or (raw.get("annotations") or {}).get("Message") or ""
    return {
        "own": values.word(raw["uuid"]),
        "time": values.moment(raw["timestamp"]),
        "kind": "crash" if kind in ("crash", "hang", "low memory") else "error",
        "text": ": ".join(filter(None, (", ".join(classes), str(message)))),
        "player": str(attributes.get("user.id") or attributes.get("guid") or ""),
        "build": str(
            next((attributes[key] for key in _BACKTRACE_BUILDS if attributes.get(key)), ""),
        ),
        "branch": str(attributes.get("environment") or ""),
        "platform": str(attributes.get("uname.sysname") or attributes.get("device.platform") or ""),
        "session": str(attributes.get("application.session") or ""),
        "scene": str(attributes.get("scene.name") or attributes.get("scene") or ""),
        "playtime": values.seconds(attributes.get("process.age")),
        "sig": str(attributes.get("fingerprint") or attributes.get("_mod_fingerprint") or ""),
        "stack": [
            values.frame(one.get("funcName"), one.get("path") or one.get("library"), one.get("line"))
            for one in frames[: values.FRAMES]
        ],
    }


_BACKTRACE_BUILDS = ("build.id", "application.build", "build", "application.version", "version")


def _gameanalytics(raw: Raw) -> _Said:
    data = values.object_in(raw, "data") if "data" in raw else raw
    category = values.text_in(data, "category")
    client, arrival = data.get("client_ts"), raw.get("arrival_ts", data.get("server_ts"))
    time = values.moment(client if client is not None else arrival)
    if (
        client is not None
        and arrival is not None
        and not (time and abs(values.epoch(client) - values.epoch(arrival)) < _DAY)
    ):
        # A player's clock may say anything.
        time = values.moment(arrival)
    severe = data.get("severity") == "critical"
    kinds = {"error": "crash" if severe else "error", "session_end": "session"}
    return {
        "own": values.word(data["event_uuid"]) if data.get("event_uuid") else "",
        "time": time,
        "kind": kinds.get(category, "event"),
        "text": str(data.get("message") or data.get("event_id") or category),
        "player": values.word_in(data, "user_id"),
        "build": str(data.get("build") or ""),
        "platform": str(data.get("platform") or ""),
        "session": str(data.get("session_id") or ""),
        "scene": str(data.get("progression01") or data.get("area") or ""),
        "playtime": values.seconds(data.get("length")),
    }


def _unity_analytics(raw: Raw) -> _Said:
    said = {values.plain(key): value for key, value in raw.items()}
    more = said.get("customparams") or said.get("eventparams") or said.get("eventjson") or {}
    more = {values.plain(key): value for key, value in more.items()} if isinstance(more, dict) else {}
    name = said.get("eventname") or said.get("name") or said["type"]
    ended = values.plain(str(name)) in ("gameended", "sessionend", "appstop")
    length = said.get("duration") if ended else None
    builds = (where.get(key) for where in (said, more) for key in ("clientversion", "appver", "appversion", "build"))
    return {
        "own": values.word(said["eventuuid"]) if said.get("eventuuid") else "",
        "time": values.moment(said["eventtimestamp"] if "eventtimestamp" in said else said["ts"]),
        "kind": "session" if ended else "event",
        "text": str(name),
        "player": values.word(said["userid"]),
        "build": str(next(filter(None, builds), "")),
        "platform": str(said.get("platform") or ""),
        "session": str(said.get("sessionid") or ""),
        "scene": str(more.get("scene") or more.get("level") or more.get("levelname") or ""),
        "playtime": None if length is None else values.number(length) / 1000,
    }


def _playfab(raw: Raw) -> _Said:
    entity = raw.get("Entity") or {}
    payload = raw.get("Payload") if isinstance(raw.get("Payload"), dict) else raw
    more = {values.plain(key): value for key, value in {**payload, **(raw.get("CustomTags") or {})}.items()}  # type: ignore[dict-item]
    name = raw.get("EventName") or raw.get("Name") or str(raw["FullName"]).rpartition(".")[2]
    severe = "crash" in str(name).lower()
    return {
        "own": values.word(raw.get("EventId") or raw["Id"]),
        "time": values.moment(raw.get("OriginalTimestamp") or raw["Timestamp"]),
        "kind": "crash" if severe else "error" if "error" in str(name).lower() else "event",
        "text": values.joined(str(name), more.get("message")),
        "player": str(entity.get("Id") or raw.get("EntityId") or ""),
        "build": str(more.get("build") or more.get("buildid") or more.get("version") or more.get("gameversion") or ""),
        "platform": str(more.get("platform") or ""),
        "session": str(more.get("sessionid") or ""),
        "scene": str(more.get("level") or more.get("scene") or ""),
    }


_ENTITIES = ("EntityId", "EntityLineage", "Entity", "WriterEntity", "OriginInfo", "EntityChain")

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        Source("steam", _steam, lists=frozenset({"reviews"})),
        Source("itch", _itch, identities=("email",), rows=True),
        Source("discord", _discord, lists=frozenset({"messages"}), identities=("inlineemojis", "reactions")),
        Source("github", _github, lists=frozenset({"items"})),
        Source("gitlab", _gitlab),
        Source("sentry", _sentry),
        Source("unity", _unity, lists=frozenset({"reports", "results"}), identities=("licenselevel",)),
        Source("backtrace", _backtrace, lists=frozenset({"objects"}), identities=("guid", "user.id", "user.name")),
        Source("gameanalytics", _gameanalytics, identities=("google_gcm_id", "ios_idfa", "ios_idfv", "android_id")),
        Source("unity-analytics", _unity_analytics),
        Source("playfab", _playfab, lists=frozenset({"History", "Events"}), identities=_ENTITIES),
    )
}
"""The services whose exports are understood as they are."""

MAPPED = ("csv", "jsonl")
"""Formats whose columns somebody names in a file."""
FIELDS = (
    "id time kind text player build branch platform session scene rating playtime count sig stack".split()  # noqa: SIM905
)
"""What such a file may name."""


def source(name: str, map: Path | None = None) -> Source:
    """The source of a name; `map`: the file for `MAPPED`. Raises ConfigError, OSError."""
    if name in MAPPED:
        if map is None:
            raise ConfigError(f'{name}: expected --map FILE, TOML with lines such as text = "their column"')
        return mapped(name, map)
    if name not in SOURCES:
        raise ConfigError(f"{name}: no such source; there are {', '.join((*SOURCES, *MAPPED))}")
    if map is not None:
        raise ConfigError(f"{name}: takes no --map; its columns are known")
    return SOURCES[name]


def mapped(name: str, file: Path) -> Source:
    """The source whose columns a TOML file names: `our field = "their column"`; in JSON lines also `"a.b"`.

    `best`: what their best rating is, 1 if nothing is said. `[fixed]`: fields that are the same for all. Raises
    ConfigError for a file that does not say that, OSError.
    """
    try:
        said = tomllib.loads(file.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: no TOML: {' '.join(str(error).split())}") from None
    fixed, best = said.pop("fixed", {}), said.pop("best", 1)
    unknown = [key for key in (*said, *fixed) if key not in FIELDS]
    wrong = [key for key, value in said.items() if not (isinstance(value, str) and value)]
    if unknown or wrong or not said:
        what = ", ".join(unknown or wrong) or "nothing in it"
        raise ConfigError(f'{file}: {what}: expected FIELD = "COLUMN", where FIELD is one of {", ".join(FIELDS)}')
    if isinstance(best, bool) or not isinstance(best, int | float) or best <= 0:
        raise ConfigError(f"{file}: best: expected a number over 0")

    readers = _readers(best)
    plan = [(field, said.get(field), fixed.get(field), readers[field]) for field in {**fixed, **said}]

    def read(raw: Raw) -> _Said:
        found: _Said = {"kind": "comment"}
        is_there = False
        for field, column, default, reader in plan:
            value = None
            if column is not None:
                value = raw[column] if column in raw else values.at(raw, column)
            if value is not None and value != "":
                is_there = True
            elif (value := default) is None or value == "":
                continue
            found[field] = reader(value)
        if not is_there:
            raise KeyError(", ".join(said.values()))
        return _named(found)

    who = (str(said["player"]).rpartition(".")[2],) if "player" in said else ()
    return Source(name, read, identities=who, rows=name == "csv")


def _said(raw: Raw) -> _Said:
    if unknown := sorted(raw.keys() - {*FIELDS}):
        raise ValueError(f"{', '.join(unknown)}: expected of {', '.join(FIELDS)}")
    found = {key: _ADDED[key](value) for key, value in raw.items() if value not in (None, "")}
    return _named({"kind": "comment", **found})


def _named(found: _Said) -> _Said:
    found["own"] = found.pop("id", "")
    return found


def _readers(best: float) -> Mapping[str, Callable[[Any], Any]]:
    """By field what reads it as somebody named it."""
    return {
        **dict.fromkeys(FIELDS, str),
        "time": values.moment,
        "kind": lambda value: str(value).strip().lower(),
        "rating": lambda value: values.rating(value, best),
        "playtime": values.number,
        "count": lambda value: max(1, int(values.number(value))),
        "stack": values.lines,
    }


_ADDED = _readers(1)
ADDED = Source("added", _said)
"""What somebody says in our own fields."""


def _listed(names: tuple[str, ...]) -> str:
    return " or ".join(names)
