"""The records of a remote: who pushed when, what the refs were, and which runs of the index say where all of it is.

`machines/CHAIN/NUMBER-HASH`: each vault that pushes writes a chain of its own, CHAIN being drawn at random when it
first does. NUMBER has 20 digits and goes up by one; HASH is the SHA-256 of the record, the commit point of a push.
Whatever is not as it says is junk: it is skipped and told.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from gitvault.core.models import ObjectId
from gitvault.errors import UnsupportedFormatVersion
from gitvault.remotes.index import Run

FOLDER = "machines/"
VERSION = 1
LAST = 10**20 - 1
"""The greatest number that a name has room for."""
_NAME = re.compile(r"machines/([0-9a-f]{32})/([0-9]{20})-([0-9a-f]{64})")
# As git has it: whatever else is there, it would become a path here.
_REF = re.compile(r"refs/(?!.*(?:\.\.|@\{|//|/\.|\./|\.lock(?:/|$)|[/.]$))[^\x00-\x20\x7f~^:?*\[\\]+", re.DOTALL)
_OID = re.compile(r"[0-9a-f]{40}")


class Torn(ValueError):
    """It may have been a record; its bytes are not those that were pushed."""


@dataclass(frozen=True, slots=True)
class Record:
    """One push, or what a prune left."""

    vault: str
    machine: str
    chain: str
    number: int
    time: str
    previous: str
    """The hash of the record before; empty for the first."""
    refs: Mapping[str, ObjectId]
    runs: tuple[Run, ...]
    condemned: Mapping[str, int] = field(default_factory=dict)
    """Parts that nobody who pushes is to rely on, with when, in seconds by the place's clock, a prune said that they
    will be removed; 0: they are damaged."""

    def encode(self) -> bytes:
        """The bytes of the record."""
        document = {
            "record": VERSION,
            "vault": self.vault,
            "machine": self.machine,
            "chain": self.chain,
            "number": self.number,
            "time": self.time,
            "previous": self.previous,
            "refs": {name: oid.hex() for name, oid in self.refs.items()},
            "runs": [run.document() for run in self.runs],
            **({"condemned": dict(self.condemned)} if self.condemned else {}),
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def digest(record: Record) -> str:
    """The hash that is in its name, and in the next record."""
    return hashlib.sha256(record.encode()).hexdigest()


def name_of(record: Record) -> str:
    """Where it goes."""
    return f"{FOLDER}{record.chain}/{record.number:020d}-{digest(record)}"


def parse_name(name: str) -> tuple[str, int, str] | None:
    """Chain, number and hash; None for what no record is called."""
    found = _NAME.fullmatch(name)
    return (found[1], int(found[2]), found[3]) if found else None


def decode(name: str, content: bytes, vault: str) -> Record:
    """The record of that name.

    Raises ValueError for junk, Torn where it is damaged, UnsupportedFormatVersion for one of a newer gitvault.
    """
    parsed = parse_name(name)
    if parsed is None:
        raise ValueError("its name is not a record's")
    chain, number, digest = parsed
    if hashlib.sha256(content).hexdigest() != digest:
        raise Torn("its bytes do not have the hash in its name")
    try:
        said = json.loads(content)
        if isinstance(said, dict) and isinstance(said.get("record"), int) and said["record"] > VERSION:
            raise UnsupportedFormatVersion(f"{name}: a newer gitvault wrote it, update this one")
        record = _read(said)
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"it is no record ({type(error).__name__}: {error})") from error
    if (record.chain, record.number) != (chain, number):
        raise ValueError("it belongs elsewhere")
    if record.vault != vault:
        raise ValueError("it is of another vault")
    return record


def _read(said: Any) -> Record:
    refs = {name: _oid(name, oid) for name, oid in said["refs"].items()}
    runs = tuple(map(Run.read, said["runs"]))
    return Record(
        str(said["vault"]),
        str(said["machine"]),
        str(said["chain"]),
        int(said["number"]),
        str(said["time"]),
        str(said["previous"]),
        refs,
        runs,
        {str(name): int(seconds) for name, seconds in said.get("condemned", {}).items()},
    )


def _oid(name: object, oid: object) -> ObjectId:
    if not (isinstance(name, str) and isinstance(oid, str) and _REF.fullmatch(name) and _OID.fullmatch(oid)):
        raise ValueError(f"{name!r}: not a ref")
    return ObjectId(bytes.fromhex(oid))


def time_text(now: datetime) -> str:
    """A time as records have it."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def by_chain(names: Iterator[str]) -> dict[str, list[tuple[int, str]]]:
    """Numbers and names of what may be records, by chain, the newest first."""
    chains: dict[str, list[tuple[int, str]]] = {}
    for name in names:
        if parsed := parse_name(name):
            chains.setdefault(parsed[0], []).append((parsed[1], name))
    return {chain: sorted(found, reverse=True) for chain, found in chains.items()}
