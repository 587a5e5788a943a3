"""What is said in records: of a vault's own refs and areas, of remotes, of caches, and what other programs tell."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgpack
from parsers.target import Place, Target

from gitvault.core import beside
from gitvault.core.backup_engine import extent
from gitvault.core.models import Affected, ChunkId, Defect, ObjectId, SnapshotId
from gitvault.core.storage import frames
from gitvault.core.storage.packs import Chunk, Frame
from gitvault.core.utils.files import Disk
from gitvault.core.utils.lock import VaultLock
from gitvault.core.versioning import counts, losses, notes, operations, repack
from gitvault.core.versioning.history import GitHistory
from gitvault.core.versioning.refs import RefStore
from gitvault.personas.code.activity import heartbeat
from gitvault.personas.creative.workspaces.capture import File, Left, Workspace
from gitvault.personas.creative.workspaces.capture import _decode as _workspace
from gitvault.personas.creative.workspaces.capture import _encode as encoded_workspace
from gitvault.personas.game import builds, platforms
from gitvault.personas.game.feedback import segments
from gitvault.personas.game.playtests.sessions import Session, events, sessions
from gitvault.personas.game.playtests.sessions import _encode as encoded_session
from gitvault.remotes import records
from gitvault.remotes.index import Index, Run, chunk_row, manifest_row
from gitvault.remotes.remote import MARKER, Remote
from gitvault.remotes.sealed import age, objects
from gitvault.remotes.sealed.names import Names
from gitvault.stock.filter import FilterProcess
from gitvault.stock.transfer import TransferAgent
from gitvault.vault.area import Area
from gitvault.vault.waiting import last
from gitvault.vcs import lean, looked, remotes, svn_store
from gitvault.vcs.protect import record as checkouts

_OID = ObjectId(bytes(range(20)))
_HASH = "ab" * 32
_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def _line(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"


# -- of the vault --------------------------------------------------------------------------------


class _History:
    """One commit on whatever ref one asks for, whose files all hold the input."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.refs = self

    def read(self, ref: str) -> ObjectId:
        return _OID

    def commit(self, oid: ObjectId) -> SimpleNamespace:
        return SimpleNamespace(tree=_OID, parents=())

    def tree(self, oid: ObjectId) -> dict[bytes, tuple[int, ObjectId]]:
        return {name: (0o100644, _OID) for name in (operations.RECORD_FILE, _OID.hex().encode())}

    def blob(self, oid: ObjectId) -> bytes:
        return self._data

    def read_file(self, ref: str, name: bytes) -> bytes:
        return self._data


def _of(read: Callable[[GitHistory], object]) -> Callable[[bytes], object]:
    return lambda data: read(cast(GitHistory, _History(data)))


_MOVE = operations.RefMove("refs/heads/a", _OID, None)
_OPERATION = operations.Operation(
    3, "prune", _AT, "host", (_MOVE,), (_OID,), (2,), (SnapshotId(_OID.hex()),), (("a", "b"),)
)
_LOSS = Defect("blob", _HASH, "gone", (Affected("p", SnapshotId(_OID.hex()), b"a/b\xff"),))
_pending = Place("vault.git/operation.pending")


def _complete(data: bytes) -> None:
    git_dir = _pending.put(data).parent
    (git_dir / "HEAD").write_bytes(b"ref: refs/heads/main\n")
    operations.complete(git_dir, RefStore(git_dir, Disk()), Disk())


# -- of areas ------------------------------------------------------------------------------------


class _Area:
    """An area whose records all hold the input."""

    def __init__(self, data: bytes, *paths: bytes) -> None:
        self._data = data
        self._paths = paths
        self.history = self
        self.refs = self

    def area(self, name: str) -> _Area:
        return self

    def list(self, prefix: str) -> dict[str, ObjectId]:
        return {f"{prefix}p": _OID}

    def paths(self, below: bytes = b"") -> Iterator[bytes]:
        return iter(path for path in self._paths if path.startswith(below))

    def named(self, name: bytes, below: bytes = b"", *, depth: int = 1) -> Iterator[tuple[bytes, bytes]]:
        return ((path, self._data) for path in self.paths(below) if path.rpartition(b"/")[2] == name)

    def read(self, path: bytes) -> bytes:
        return self._data


def _session(data: bytes) -> None:
    area = cast(Any, _Area(data, b"0123/session.json"))
    for session in sessions(area):
        assert session.project == "p"
    events(area, _SESSION)


_SESSION = Session("0123", "p", "1.0", settings={"a": 1}, attachments=("log.txt",))
_WORKSPACE = Workspace(
    *("0123", "krita", "Krita", "5", "h", "linux", "/home/a", "2026-01-02T03:04:05Z"),
    (File("config", "kritarc", 0o644, 5, _HASH),),
    (Left("cache", "a cache"),),
    {"p": _OID.hex()},
)
_DEPLOY = builds.Deploy("0123", "steam", "main", "1.0", "2026-01-02T03:04:05Z", _OID.hex(), 1.0)
_CAPTURE = {
    "v": 1, "project": "p", "time": "2026-01-02T03:04:05Z", "build": "1.0", "snapshot": "", "engine": "godot",
    "version": "4", "platforms": ["windows"], "keys": 1, "settings": "ab" * 16,
}  # fmt: skip
_SETTINGS = {
    "engine": "godot", "version": "4", "common": {"a/b": ["1", "project.godot"], "c": None}, "rules": {"a": "b"},
    "platforms": [["windows", {"a/b": ["2", "export_presets.cfg"]}]], "problems": [["a\\xff", "why"]], "v": 1,
}  # fmt: skip


def _settings(data: bytes) -> None:
    [one] = platforms.captures(cast(Any, _Area(_line(_CAPTURE), b"0123/capture.json")))
    platforms.loaded(cast(Any, _Area(data)), one)


# -- of remotes ----------------------------------------------------------------------------------

_CHUNK = ChunkId(bytes(range(32)))
_RUN = Run(3, _HASH, ((_HASH[:40], _HASH),))
_RECORD = records.Record(
    _HASH[:32], "host", "cd" * 16, 7, "2026-01-02T03:04:05Z", "", {"refs/heads/p": _OID}, (_RUN,),
    {f"git/{_HASH}.pack": 17},
)  # fmt: skip
_PARTS = f"chunks/{_HASH}.zpk 900\ngit/{_HASH}.pack 700\n".encode()
_ROWS = "".join(
    f"{one} {rest}\n"
    for one, rest in sorted(
        {
            _OID.hex(): "g 1",
            _CHUNK.hex(): chunk_row(0, Frame(0, 24, 100, 900, (_CHUNK,)), Chunk(_CHUNK, 0, 8, 80)),
            _HASH: manifest_row(0, [_CHUNK]) + f" {_HASH}:{_CHUNK.hex()}:24:100:900:8:80:{_CHUNK.hex()}",
        }.items()
    )
).encode()


def _remote_record(data: bytes) -> None:
    import hashlib

    name = records.name_of(replace(_RECORD, number=7)).rpartition("-")[0]
    records.decode(f"{name}-{hashlib.sha256(data).hexdigest()}", data, _RECORD.vault)


def _index(*, rows: Callable[[bytes], bytes] = lambda data: _ROWS, parts: Callable[[bytes], bytes]) -> Any:
    def read(data: bytes) -> None:
        run = Run(3, "01" * 32, ((_OID.hex(), "02" * 32),))
        held = {"index/" + "01" * 32: parts(data), "index/" + "02" * 32: rows(data)}
        index = Index([run], held.__getitem__)
        wanted = [_OID.hex(), _CHUNK.hex(), _HASH, "ff" * 20]
        for row in index.find(wanted).values():
            with contextlib.suppress(ValueError, IndexError):
                row.frame(), row.chunk(_CHUNK)
            with contextlib.suppress(ValueError):
                row.manifest()
            assert all(hint.kind == "c" for hint in row.hints().values())
        for prefix in ("", "00", _OID.hex()):
            Index([run], held.__getitem__).packs_of(prefix)
        index.parts()
        for _, rest in index.rows(run):
            assert isinstance(rest, str)

    return read


def _packed(data: bytes) -> bytes:
    return frames.compress(data, 1)


class _Held:
    """A place that has the input under one name."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        assert name == MARKER
        return self._data

    def versions(self, name: str) -> tuple[bytes, ...]:
        return ()


_names = Names(bytes(32))


def _hidden(data: bytes) -> None:
    shown = _names.show(data.decode("latin-1"))
    assert shown is None or _names.hide(shown) == data.decode("latin-1")


class _Sealed:
    """What somebody sealed with nothing but the public key."""

    def __init__(self) -> None:
        self._key: Any = None

    def read(self, data: bytes) -> None:
        if self._key is None:
            import pyrage

            self._key = pyrage.x25519.Identity.from_str(_KEY)
        sealed = age.encrypt(data, [age.Recipient(self._key.to_public(), age.key_bytes(str(self._key.to_public())))])
        objects.unseal("packs/a", sealed, bytes(32), [age.Identity(self._key, age.key_bytes(_KEY))])

    def open(self, data: bytes) -> None:
        """What somebody put there who need not know any key."""
        import pyrage

        with contextlib.suppress(age.NoKey):
            objects.decrypt("packs/a", data, [age.Identity(pyrage.x25519.Identity.from_str(_KEY), age.key_bytes(_KEY))])


_KEY = "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33"
# "abc", sealed to that key.
_AGE_FILE = bytes.fromhex(
    "6167652d656e6372797074696f6e2e6f72672f76310a2d3e2058323535313920564b6c793552694d666d3730514f5645754f"
    "304258475a697a515561644658325a677643516157794f57410a4f736f594530437933692f6f782b51424449725835386f66"
    "337730393473444c71416f74374c346b436a490a2d2d2d2041335261593145423735675157396c4d396542434e4371795066"
    "744d6e3564626e773263362f596c7742340a7e7af93e2ae9db5e018457a10d0c5b54d5ee84c62632e5c495f15924834d75b3"
    "021092"
)
_sealed = _Sealed()


# -- of caches and of others ---------------------------------------------------------------------

_cache = {name: Place(f"v.git/cache/{name}") for name in ("verify.json", "counts.json", "repack.json", "looked.json")}
_last = Place("v.git/cache/remotes/origin.last")
_answers = Place("v.git/cache/answers")
_lease = Place("vault.lease")
_beats = Place("heartbeats.jsonl")


def _heartbeats(data: bytes) -> None:
    _beats.put(b"")
    file = heartbeat.HeartbeatFile(_beats.path)
    _beats.put(data + b"\n")
    file.read(1_800_000_000.0)


def _verdicts(data: bytes) -> None:
    looked._load(_cache["looked.json"].put(data), "/p")


def _answered(data: bytes) -> None:
    folder = Path("/nowhere")
    file = remotes.answers_file(folder, _answers.path.parent)
    file.write_bytes(data)
    remotes.load(folder, file.parent)


def _git_filter(data: bytes) -> None:
    def nothing() -> Any:
        raise EOFError

    FilterProcess(io.BytesIO(data), io.BytesIO(), nothing, Path("/"), lambda text: None).serve()


def _packet(*lines: str) -> bytes:
    return b"".join(b"%04x%b\n" % (len(line) + 5, line.encode()) for line in lines) + b"0000"


_FILTERED = (
    _packet("git-filter-client", "version=2")
    + _packet("capability=clean", "capability=smudge")
    + _packet("command=smudge", "pathname=a")
    + _packet("content")
)


class _Nothing:
    def has(self, pointer: object) -> bool:
        return False


def _lfs(data: bytes) -> None:
    folder = _lease.path.parent
    TransferAgent(io.BytesIO(data), io.BytesIO(), lambda remote: cast(Any, _Nothing()), lambda: folder).serve()


TARGETS = {
    "operation": Target(
        _of(lambda history: list(operations.log(history))),
        [operations._encode(_OPERATION)],
        found=[operations._encode(_OPERATION).replace(b'"number":3', b'"number":Infinity')],
    ),
    "operation.pending": Target(
        _complete,
        [_line({"number": 3, "what": "prune", "refs": [{"ref": "refs/heads/a", "old": None, "new": None}]})],
        (OSError,),
        [b'{"refs":[{"ref":"refs/heads/a\\ud800","old":null,"new":null}]}'],
    ),
    "tombstones": Target(
        _of(operations.tombstones), [f"{_OID.hex()} 2026-01-02T03:04:05Z\n{_HASH} 2026-01-02T03:04:05Z\n".encode()]
    ),
    "losses": Target(_of(losses.load), [losses._encode(_LOSS).encode()], found=[b"[]", b'{"affects":[3]}']),
    "note": Target(_of(lambda history: notes.read(history, "x", _OID)), [b'{"a":1}\n{"b":[2]}\n']),
    "checkout-of-git": Target(
        checkouts.decode,
        [
            checkouts.encode(
                checkouts.Record(
                    *(b"a\xff", b"a/.git", None, "/home/a", "", "refs/heads/main", _OID.hex(), {"origin": "https://x"}),
                    *({"refs/remotes/origin/main": _OID.hex()}, (b"gone",), "1234"),
                    (checkouts.Part((_OID.hex(),), (_OID.hex(),), 2),),
                )
            )
        ],
    ),
    "checkout-of-others": Target(
        lean.decode, [lean.encode(lean.Record("svn", "a", "/h", "https://x", deleted=("b/c",)))]
    ),
    "texts-of-svn": Target(
        lambda data: svn_store.decode_texts(data, [cast(Any, None)] * data.count(b"\0")),
        [b"%b 7 trunk/a b\0%b 8 trunk/c\0" % ((b"ab" * 20,) * 2)],
    ),
    "deploy": Target(
        lambda data: list(builds.deploys(cast(Any, _Area(data, builds.FOLDER + b"/0123.json")), "p")),
        [_line({"v": 1, **asdict(_DEPLOY)})],
    ),
    "playtest": Target(
        _session, [encoded_session(_SESSION)], found=[encoded_session(_SESSION).replace(b'{"a"', b'{\n"a"')]
    ),
    "workspace": Target(lambda data: _workspace(data, b"krita/0123"), [encoded_workspace(_WORKSPACE)]),
    "capture": Target(
        lambda data: list(platforms.captures(cast(Any, _Area(data, b"0123/capture.json")))), [_line(_CAPTURE)]
    ),
    "captured-settings": Target(_settings, [_line(_SETTINGS)]),
    "feedback-segment": Target(
        lambda data: list(segments.read(cast(Area, _Area(data)), b"a.jsonl")),
        [_line({"id": "ab" * 16, "source": "steam", "kind": "review", "text": "good", "v": 1, "was": {"a": 1}})],
    ),
    "remote-record": Target(
        _remote_record,
        [_RECORD.encode()],
        (ValueError,),
        [_RECORD.encode().replace(b'"number":7', b'"number":1e999'), _RECORD.encode().replace(b":17}", b":-Infinity}")],
    ),
    "remote-marker": Target(
        lambda data: Remote(cast(Any, _Held(data)), "there").vault_id(),
        [_line({"gitvault-remote": 1, "vault": _HASH[:32]})],
    ),
    "remote-rows": Target(_index(rows=_packed, parts=lambda data: _packed(_PARTS)), [_ROWS], found=[b"00\n"]),
    "remote-parts": Target(_index(rows=lambda data: _packed(_ROWS), parts=_packed), [_PARTS]),
    "remote-index": Target(_index(rows=bytes, parts=bytes), [_packed(_ROWS), _packed(_PARTS)]),
    "sealed-name": Target(_hidden, [_names.hide("packs/0123").encode(), _names.hide("a").encode()]),
    "sealed-object": Target(
        _sealed.read,
        [b"gitvault packs/a 3 %b\nabc" % objects._mac(bytes(32), "packs/a", b"abc").encode()],
        found=[b"gitvault packs/a 3 \xff\nabc"],
    ),
    "age-file": Target(
        _sealed.open,
        [_AGE_FILE],
        found=[
            _AGE_FILE[:40],
            _AGE_FILE[:-20],
            _AGE_FILE.replace(b"X25519", b"X25518"),
            b"age-encryption.org/v1\n\n--- ",
        ],
    ),
    "verify-state": Target(
        lambda data: extent._load(_cache["verify.json"].put(data)),
        [_line({"of": 30, "next": 3, "since": "2026-01-02T03:04:05+00:00", "packs": ["a"]})],
        found=[b'{"of":Infinity,"next":0,"since":null,"packs":[]}'],
    ),
    "counts": Target(
        lambda data: counts._load(_cache["counts.json"].put(data)),
        [_line({"p": [_OID.hex(), 12], "q": ["", 0]})],
        found=[b'{"p":["",Infinity]}'],
    ),
    "repack-state": Target(
        lambda data: repack._read_state(_cache["repack.json"].put(data).parents[1]),
        [_line({"packs": ["a"], "made": ["b"]})],
    ),
    "beside": Target(
        lambda data: beside.still(data, 1_800_000_000.0),
        [msgpack.packb((["/nowhere/a"], ["/nowhere"], 2e9, bytes(20)))],
        found=[
            *(msgpack.packb((path, [], 2e9, bytes(20))) for path in (["a"], [7], ["/\0"], [b"/a"])),
            # As many bytes as the number says would be made.
            msgpack.packb((["/a"], [], 2e9, 1 << 62)),
        ],
    ),
    "looked": Target(
        _verdicts,
        [
            _line(
                {
                    **{"version": 1, "root": "/p", "mark": "", "beside": "", "loose": 0},
                    "states": [{"checkout": ["/p", "git", False], "nested": [], "local": ["/p/a"], "base": "ab"}],
                }
            )
        ],
    ),
    "answers-of-remotes": Target(
        _answered, [_line({"origin": {"asked": 1.0, "answered": 1.0, "refs": {}, "lost": [], "trouble": ""}})]
    ),
    "last-push": Target(
        lambda data: last(_last.put(data).parents[2], "origin"),
        [_line({"pushed": "2026-01-02T03:04:05Z", "said": "no network"})],
    ),
    "lease": Target(
        lambda data: VaultLock.holder(_lease.put(data).with_suffix(".lock")),
        [_line({"pid": 7, "host": "h", "purpose": "snapshot", "since": "2026"}) + b"%020d\n" % 7],
    ),
    "heartbeats": Target(_heartbeats, [_line({"entity": "/p/a.c", "is_write": True, "time": 1_800_000_000.5})]),
    "git-filter": Target(_git_filter, [_FILTERED]),
    "lfs-agent": Target(
        _lfs,
        [_line({"event": "init", "remote": "origin"}) + _line({"event": "download", "oid": _HASH, "size": 5})],
        found=[b'{"event":"download","oid":"ab","size":Infinity}\n'],
    ),
}
"""By name."""
