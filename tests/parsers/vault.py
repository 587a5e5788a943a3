"""What a vault is made of: git's objects, packs, refs and records of projects, chunk packs, caches."""

from __future__ import annotations

import contextlib
import hashlib
import io
import zlib
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import cast

import msgpack
from parsers.target import Target

from gitvault.core import stat_cache
from gitvault.core.backup_engine import intake
from gitvault.core.models import ChunkId, ObjectId
from gitvault.core.storage import frames, manifests, packs, pointers
from gitvault.core.utils import dates, names
from gitvault.core.utils.files import Disk
from gitvault.core.versioning import catalog, commits, meta
from gitvault.core.versioning.history import GitHistory
from gitvault.core.versioning.objects import decode_commit, decode_tree, encode_tree, object_id, parse_message
from gitvault.core.versioning.odb import ObjectStore
from gitvault.core.versioning.packfile import PackWriter, publish
from gitvault.core.versioning.packreader import BaseCache, Pack, apply_delta
from gitvault.core.versioning.refs import RefStore
from gitvault.errors import GitVaultError

_LIMIT = 1 << 16

# -- git's objects -------------------------------------------------------------------------------

_OID = ObjectId(bytes(range(20)))
_TREE = encode_tree([(b"a", 0o100644, _OID), (b"b", 0o40000, _OID), (b"%2Egit", 0o120000, _OID)])
_COMMIT = (
    b"tree %b\nparent %b\nauthor A <a@b> 1700000000 +0100\ncommitter A <a@b> 1700000000 -0230\n"
    b"gpgsig -----BEGIN\n line\n\nSubject\n\nVault-Project: x\\x0a\nVault-Meta: %b\nVault-Files: 12\nVault-Bytes: 99\n"
    b"Vault-Tag: one\nVault-Metadata: k=v\n continued\n" % ((_OID.hex().encode(),) * 3)
)


def _commit(data: bytes) -> None:
    commit = decode_commit(data)
    commits.snapshot(_OID, commit)
    commits.meta_commit(commit)


def _delta(data: bytes) -> None:
    made = apply_delta(bytes(range(256)) * 8, data)
    assert isinstance(made, bytes)


_META = (
    b"gitvault-meta 1\nd 755 1700000000.123456789 1000:1000 0 .\txattr.user.a=AAA=\n"
    b"f 644 -1.000000000 - 1234 main\\x0a.c\tsha256=%b\tlink=fe00.1\tsparse\nl 777 1.000000001 0:0 7 link\n"
    % (b"ab" * 32)
)


def _meta(data: bytes) -> None:
    own, entries = meta.decode(data)
    for said in (own, *entries.values()):
        # What a restore hands to the system must be what a system call takes.
        divmod(said.mtime_ns, 10**9)[0].to_bytes(8, "big", signed=True)
        assert all(0 <= number < 1 << 32 for number in said.owner)
        assert 0 <= said.mode <= 0o7777 and not any("\0" in label for label in said.xattrs)
        if pointer := said.as_pointer():
            bytes.fromhex(pointer.oid)
    meta.split(data)


# -- packs of git --------------------------------------------------------------------------------


def _made_pack(folder: Path) -> Path:
    (folder / "pack").mkdir()
    writer = PackWriter(folder, Disk())
    for content in (b"", b"one", b"two" * 500, bytes(range(256)) * 20):
        writer.add(b"blob", content)
    base = object_id(b"blob", b"two" * 500)
    delta = zlib.compress(b"\xdc\x0b\x05\x90\x05")
    writer.add_packed(object_id(b"blob", b"twotw"), iter([b"\x75" + base + delta]))
    made = writer.finish()
    assert made is not None
    publish(made, folder / "pack", Disk())
    return next((folder / "pack").glob("*.idx"))


class _Packs:
    """A pack and its index in a folder of their own; each input takes one's place."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory()
        self.index = _made_pack(Path(self._folder.name))
        self.sound = {suffix: self.index.with_suffix(suffix).read_bytes() for suffix in (".idx", ".pack")}

    def put(self, suffix: str, data: bytes) -> None:
        for each, sound in self.sound.items():
            path = self.index.with_suffix(each)
            path.unlink()
            path.write_bytes(data if each == suffix else sound)

    def read(self) -> None:
        with contextlib.closing(Pack(self.index)) as pack:
            cache = BaseCache(1 << 20)
            for oid in list(pack.ids())[:50]:
                offset = pack.find(oid)
                if offset is None:
                    continue
                for ask in (lambda at: pack.read(at, cache), pack.size, pack.stored_size):
                    with contextlib.suppress(GitVaultError):
                        ask(offset)
            list(zip(pack.entries(), range(50), strict=False))
        with ObjectStore(self.index.parent.parent) as store:
            store.contains(_OID)
            store.find_prefix("abcd")


_packs = _Packs()


def _index(data: bytes) -> None:
    _packs.put(".idx", data)
    _packs.read()


def _pack(data: bytes) -> None:
    body = data[:-20]
    # With the checksums right: damage to those is found at once.
    _packs.put(".pack", body + _packs.sound[".pack"][-20:])
    _packs.read()


def _loose(data: bytes) -> None:
    path = _packs.index.parent.parent / "00" / ("0" * 38)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    with ObjectStore(path.parent.parent) as store:
        store.read(ObjectId(bytes(20)), verify=False)


# -- refs and records ----------------------------------------------------------------------------


class _Refs:
    def __init__(self) -> None:
        self._folder = TemporaryDirectory()
        self.root = Path(self._folder.name)
        (self.root / "refs/heads").mkdir(parents=True)

    def read(self, name: str, data: bytes) -> None:
        path = self.root / name
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        try:
            refs = RefStore(self.root, Disk())
            for ask in (refs.head, refs.list, lambda: refs.read("HEAD"), lambda: refs.read("refs/heads/a")):
                with contextlib.suppress(GitVaultError):
                    ask()
        finally:
            path.unlink()


_refs = _Refs()


def _catalog(data: bytes) -> None:
    history = SimpleNamespace(read_file=lambda ref, name: data)
    for project in catalog.load(cast(GitHistory, history)):
        names.ref_component(project.name)


def _names(data: bytes) -> None:
    assert names.from_tree_name(names.tree_name(data)) == data
    assert names.from_text(names.to_text(data)) == data
    line = names.to_line(data)
    assert names.from_text(line) == data
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in line)
    names.from_tree_name(data)
    names.is_special(data)
    names.is_harmless(b".gitmodules", data)
    assert names.from_windows_name(mapped := names.windows_name(data)) == data
    assert names.windows_name(mapped) == mapped or b"\xef" in mapped
    assert names.from_windows_name(names.spelled(data)) == data
    names.loose_name(data)
    text = data.decode("utf-8", "surrogateescape")
    names.from_text(text)
    component = names.ref_component(text)
    assert "/" not in component and component.isascii()


def _dates(data: bytes) -> None:
    dates.parse(data.decode("utf-8", "replace"), datetime(2026, 1, 2, tzinfo=UTC), end=bool(data[:1] < b"m"))


# -- the chunk store -----------------------------------------------------------------------------

_FRAME = frames.compress(b"content " * 100, 3)
_TABLE = packs.Table(
    [packs.Frame(0, 24, len(_FRAME), 800), packs.Frame(1, 24 + len(_FRAME), 10, 10, (ChunkId(bytes(32)),))],
    [packs.Chunk(ChunkId(bytes(32)), 0, 0, 800), packs.Chunk(ChunkId(b"x" * 32), 1, 2, 8)],
    [("ab" * 32, (ChunkId(bytes(32)),))],
    9,
)


def _signed(data: bytes) -> None:
    text = data.rpartition(b"end ")[0]
    packs.parse_table(text + f"end {hashlib.sha256(text).hexdigest()}\n".encode(), "p.zpk", 1 << 40)


class _ChunkPack:
    def __init__(self) -> None:
        self._folder = TemporaryDirectory()
        self.path = Path(self._folder.name, "0" * 64 + ".zpk")
        packed = frames.compress(packs.format_table(_TABLE), 1)
        head = b"\x57\x2a\x4d\x18\x10\0\0\0gitvault pack 1\n"
        body = head + _FRAME + b"0123456789"
        block = b"\x57\x2a\x4d\x18" + len(packed).to_bytes(4, "little") + packed
        trailer = f"gitvault table {len(body) + 8:020d} {len(packed):020d}\n".encode()
        self.sound = body + 2 * block + b"\x57\x2a\x4d\x18" + len(trailer).to_bytes(4, "little") + trailer

    def read(self, data: bytes) -> None:
        self.path.write_bytes(data)
        for strict in (False, True):
            with contextlib.suppress(GitVaultError):
                packs.read_table(self.path, strict=strict)


_chunk_pack = _ChunkPack()


def _frame(data: bytes) -> None:
    for dictionary in (b"", b"content"):
        with contextlib.suppress(GitVaultError):
            assert len(frames.decompress(data, 800, dictionary)) == 800
    frames.decompress_up_to(data, _LIMIT)


def _pointer(data: bytes) -> None:
    pointer = pointers.decode(data)
    assert pointer is None or pointers.encode(pointer) == data or pointer.size == 0
    pointers.looks_like_pointer(data)


# -- caches and workers --------------------------------------------------------------------------

_STAT = stat_cache.Stat(0o100644, 5, 1700000000000000000, 1700000000000000000, 77)
_ENTRIES = stat_cache.pack_entries({b"a": stat_cache.Known(_STAT, 0o100644, b"a", bytes(20), 1)})


class _Cache:
    def __init__(self) -> None:
        self._folder = TemporaryDirectory()
        self.cache = stat_cache.StatCache(Path(self._folder.name, "stat.db"))

    def read(self, data: bytes) -> None:
        packed = data + zlib.crc32(data).to_bytes(4, "big")
        row = stat_cache.Row(b"", b"", b"", b"", b"", 1, 1)
        self.cache.replace({}, [(b"p", row, packed)], [], [])
        self.cache.entries(b"p")


_cache = _Cache()


def _message(data: bytes) -> None:
    """A message that was cut short is none; what is in one that is whole was written by this program."""
    whole = msgpack.packb(("done", [(1, data, "line")]), unicode_errors="surrogateescape")
    framed = len(whole).to_bytes(4, "big") + whole
    assert intake._receive(io.BytesIO(framed)) == ("done", ((1, data, "line"),))
    assert intake._receive(io.BytesIO(framed[: len(data) % len(framed)])) is None


TARGETS = {
    "tree": Target(decode_tree, [_TREE]),
    "commit": Target(_commit, [_COMMIT]),
    "message": Target(lambda data: parse_message(data.decode("utf-8", "replace")), [_COMMIT[150:]]),
    "delta": Target(_delta, [b"\x80\x10\x05\x90\x05", b"\x80\x10\x0a\xb3\x01\x00\x05\x00\x05hello"]),
    "meta": Target(_meta, [_META]),
    "index": Target(_index, [_packs.sound[".idx"]]),
    "pack": Target(_pack, [_packs.sound[".pack"]]),
    "loose": Target(_loose, [zlib.compress(b"blob 5\0hello"), zlib.compress(b"tree 0\0")]),
    "ref": Target(lambda data: _refs.read("refs/heads/a", data), [b"ab" * 20 + b"\n", b"ref: refs/heads/b\n"]),
    "head": Target(lambda data: _refs.read("HEAD", data), [b"ref: refs/heads/a\n", b"ab" * 20]),
    "packed-refs": Target(
        lambda data: _refs.read("packed-refs", data),
        [b"# pack-refs with: peeled fully-peeled sorted \n" + b"ab" * 20 + b" refs/tags/x\n^" + b"cd" * 20 + b"\n"],
    ),
    "catalog": Target(
        _catalog,
        [
            b'{"added":"2026-01-02T03:15:05Z","host":"h","name":"Caf\\u00e9","path":"/x\\udcff"}\n',
            b'{"added":"2026-01-02T03:15:05Z","archived":true,"client":"c","edited":{"client":"2026-01-02T03:15:05.000006Z"'
            b',"x":"2026-01-02T03:15:05.000006Z"},"host":"h","name":"n","path":"/x","relations":[["succeeds","m"]],'
            b'"tags":["a","b"],"x":{"y":[1]}}\n',
        ],
        # Half a pair that stands for no byte.
        found=[b'{"added":"2026-11-02T05","host":"h","name":"Caf\\udddd","path":"dc"}\n'],
    ),
    "names": Target(
        _names,
        [b".git", b"a%2Eb", b"\\x41", "é\u200c.GIT ".encode(), b"con.txt", b"\xff"],
        found=[b"\n" * 72 + b"x"],
    ),
    "dates": Target(_dates, [b"2026-01-02T03:04:05Z", b"yesterday 14:30", b"3 weeks ago"], (ValueError,)),
    "table": Target(_signed, [packs.format_table(_TABLE)]),
    "chunk-pack": Target(_chunk_pack.read, [_chunk_pack.sound]),
    "frame": Target(_frame, [_FRAME, frames.compress(b"content " * 100, 3, b"content")]),
    "manifest": Target(lambda data: manifests.decode(data, "oid"), [manifests.encode([(ChunkId(bytes(32)), 5)] * 3)]),
    "pointer": Target(
        _pointer, [b"version https://git-lfs.github.com/spec/v1\noid sha256:%b\nsize 5\n" % (b"ab" * 32)]
    ),
    "stat-cache": Target(_cache.read, [_ENTRIES[:-4]], (stat_cache.CacheDamaged,)),
    "message-of-a-worker": Target(_message, [b"", b"abc"]),
}
"""By name."""
