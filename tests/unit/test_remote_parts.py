"""The parts of remotes: index, records, journal, settings, and a place that is patient."""

from __future__ import annotations

import errno
import hashlib
import pickle
import random
import sqlite3
from concurrent.futures import Future
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import pytest

from gitvault.core.models import ChunkId, ObjectId
from gitvault.core.storage.packs import Chunk, Frame, PackInMemory, format_table, read_table, table_hash
from gitvault.core.utils.files import Disk
from gitvault.core.versioning.packfile import PackInMemory as GitPack
from gitvault.errors import (
    ChecksumMismatch,
    ConfigError,
    CorruptionError,
    ExistsError,
    NotFoundError,
    RemoteError,
    RemoteFull,
    RemoteRefused,
    RemoteUnreachable,
    StorageFullError,
    ToolFailed,
    ToolMissing,
    UnsupportedFormatVersion,
)
from gitvault.remotes import index, records, settings
from gitvault.remotes.index import Index, Part, Row, Run
from gitvault.remotes.journal import Journal
from gitvault.remotes.opening import open_remote
from gitvault.remotes.places import Place, Stored, folder_of, open_place, scheme_of
from gitvault.remotes.places.folder import Folder
from gitvault.remotes.places.history import History
from gitvault.remotes.places.patient import Patient
from gitvault.remotes.places.sftp import Sftp
from gitvault.remotes.records import Record
from gitvault.remotes.remote import MARKER, VERSION, Remote, in_order, name_of
from gitvault.vault import Vault

ID = "ab" * 16


def digits(number: int, length: int = 64) -> str:
    return hashlib.sha256(b"%d" % number).hexdigest()[:length]


def test_rows_are_found_after_any_merges() -> None:
    """Every id leads to the pack that it was pushed in, through pieces and merged runs."""
    objects: dict[str, bytes] = {}
    runs: list[Run] = []
    expected: dict[str, str] = {}
    for number, count in enumerate((9_000, 10, 40, 1, 700)):
        part = Part(f"git/{digits(-number)}.pack", number)
        rows = sorted((digits(number * 10_000 + n, 40), index.git_row(0, 12 + n)) for n in range(count))
        expected.update((one, part.name) for one, _ in rows)
        known = Index(runs, objects.__getitem__)
        merged = index.absorbed(runs, len(rows))
        made = index.merge(known, merged, [part], rows, objects.__setitem__)
        runs = [run for run in runs if run not in merged] + [made]
    known = Index(runs, objects.__getitem__)
    assert len(runs) == 2
    assert len(max(runs, key=lambda run: run.rows).pieces) > 1
    found = known.find(expected)
    assert {one: row.part.name for one, row in found.items()} == expected
    assert [found[digits(n, 40)].offset() for n in (0, 8_999)] == [12, 9_011]
    # Few are searched for, of many the piece is taken apart.
    assert all(known.find([one])[one] == found[one] for one in list(expected)[::500])
    assert known.find([*expected, *(digits(-n, 40) for n in range(1, 2_000))]) == found
    assert known.find([digits(-99, 40)]) == {}
    assert known.parts().keys() == set(expected.values())
    one = next(iter(expected))
    assert [part.name for part in known.packs_of(one)] == [expected[one]]
    assert expected[one] in {part.name for part in known.packs_of(one[:2])}
    assert sum(1 for run in known.runs for _ in known.rows(run)) == len(expected)
    gone = expected[one]
    without = Index(runs, objects.__getitem__, [gone])
    assert without.find([one]) == {}
    assert gone not in without.parts()
    left = index.merge(known, runs, (), (), objects.__setitem__, [gone])
    assert left.rows == len(expected) - list(expected.values()).count(gone)
    assert all(name.removeprefix(index.FOLDER) == hashlib.sha256(objects[name]).hexdigest() for name in left.objects())
    assert Run.read(left.document()) == left
    name = f"{index.FOLDER}{left.pieces[0][1]}"
    junk = Index([left], {**objects, name: b"junk"}.__getitem__)
    with pytest.raises(CorruptionError):
        list(junk.rows(left))
    first = left.pieces[0][0]
    assert junk.find([first]) == {} and junk.packs_of(first) == []


def test_a_row_says_where_a_frame_and_a_chunk_are() -> None:
    chunk, base = ChunkId(b"a" * 32), ChunkId(b"b" * 32)
    frame, place = Frame(3, 100, 20, 300, (base,)), Chunk(chunk, 3, 40, 50)
    kind, number, *words = index.chunk_row(7, frame, place).split(" ")
    row = Row(kind, Part("x", 1), tuple(words))
    assert number == "7"
    assert row.frame() == Frame(0, 100, 20, 300, (base,))
    assert row.chunk(chunk) == Chunk(chunk, 0, 40, 50)
    assert index.manifest_row(1, [chunk]) == f"m 1 {chunk.hex()}"
    with pytest.raises(ValueError, match="expected 64 hex digits"):
        index.chunk_id("xyz")


def record(**other: object) -> Record:
    values = {"number": 1, "previous": "", "refs": {"refs/heads/x": ObjectId(b"1" * 20)}, "runs": ()}
    return Record(ID, "desk", "cd" * 16, **{"time": "2026-01-01T00:00:00Z", **values, **other})  # type: ignore[arg-type]


def test_records_are_read_as_written_and_junk_is_told() -> None:
    one = record(condemned={"git/x": 5})
    name = records.name_of(one)
    assert records.decode(name, one.encode(), ID) == one
    assert records.parse_name(name) == (one.chain, 1, records.digest(one))
    assert records.by_chain(iter([name, "machines/x"])) == {one.chain: [(1, name)]}
    with pytest.raises(ValueError, match="of another vault"):
        records.decode(name, one.encode(), "0" * 32)
    with pytest.raises(ValueError, match=r"do not have the hash"):
        records.decode(name, b"{}", ID)
    with pytest.raises(ValueError, match="not a record's"):
        records.decode("machines/x", b"{}", ID)

    def named(content: bytes, number: int = 1) -> str:
        return f"machines/{one.chain}/{number:020d}-{hashlib.sha256(content).hexdigest()}"

    for junk in (b"{}", b"[]", b"1", b"nothing", one.encode().replace(b"refs/heads/x", b"../../config")):
        with pytest.raises(ValueError, match=r"."):
            records.decode(named(junk), junk, ID)
    with pytest.raises(ValueError, match="belongs elsewhere"):
        records.decode(named(one.encode(), 2), one.encode(), ID)
    newer = b'{"record":2}'
    with pytest.raises(UnsupportedFormatVersion):
        records.decode(named(newer), newer, ID)


def test_the_journal_forgets_nothing_and_what_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a" / "journal.db"
    journal = Journal(path, Disk())
    assert journal.next_number() == 0
    journal.add(Part("git/a", 5), [("bb", "g 0"), ("aa", "g 0")])
    journal.close()
    journal = Journal(path, Disk())
    assert (journal.next_number(), journal.count()) == (1, 2)
    assert journal.known(["aa", "cc"]) == {"aa"}
    assert journal.parts() == [Part("git/a", 5)]
    assert list(journal.rows()) == [("aa", "g 0"), ("bb", "g 0")]
    journal.clear()
    assert journal.count() == 0
    journal.close()
    path.write_bytes(b"no database" * 1000)
    journal = Journal(path, Disk())
    assert journal.parts() == []
    journal.close()


def test_settings_of_remotes(vault: Vault) -> None:
    settings.add(vault.path, "off", {"url": "s3://b/x", "auto": "true", "rate": "2m", "more": ("a", "b")})
    told = settings.get(vault.path, "off")
    assert (told.url, told.auto, told.rate, told.values["more"]) == ("s3://b/x", True, 2 << 20, ("a", "b"))
    assert (told.id, told.chain, told.chunks) == ("", "", "")
    vault.__dict__.pop("config", None)
    assert vault.config.auto_remotes == ("off",)
    settings.note(vault.path, "off", {"id": ID})
    assert settings.load(vault.path)["off"].id == ID
    with pytest.raises(ExistsError):
        settings.add(vault.path, "off", {"url": "s3://b/x"})
    with pytest.raises(ConfigError, match="not a name"):
        settings.add(vault.path, "a.b", {"url": "s3://b/x"})
    with pytest.raises(ConfigError, match=r"vault\.remote\.r\.rate = fast"):
        settings.add(vault.path, "r", {"url": "s3://b/x", "rate": "fast"})
    settings.remove(vault.path, "off")
    with pytest.raises(NotFoundError, match="there is none"):
        settings.get(vault.path, "off")


@pytest.mark.parametrize(
    ("url", "scheme"),
    [
        ("s3://bucket/x", "s3"),
        ("gs://bucket", "gs"),
        ("az://container/x", "az"),
        ("sftp://me@host:22/x", "sftp"),
        ("/mnt/share", "folder"),
        ("file:///mnt/share", "folder"),
        ("C:/share", "folder"),
        ("git@host:me/vault.git", "git"),
        ("https://host/vault.git", "git"),
        ("git+file:///mnt/vault.git", "git"),
    ],
)
def test_a_url_says_what_is_there(url: str, scheme: str) -> None:
    assert scheme_of(url) == scheme


def test_urls_that_name_no_place(tmp_path: Path) -> None:
    assert folder_of("file:///mnt/a%20b") == Path("/mnt/a b")
    with pytest.raises(ConfigError, match="a password does not belong"):
        open_place("sftp://me:secret@host/x", {})
    with pytest.raises(ConfigError, match="names no bucket"):
        open_place("s3:///x", {})
    with pytest.raises(ConfigError, match="no place for objects"):
        open_place("https://host/x", {})
    Vault.create(tmp_path / "v.git").close()
    with pytest.raises(ConfigError, match=r"v.git: a vault itself, no remote; git-vault --vault .*v.git copy --to DIR"):
        open_place(str(tmp_path / "v.git"), {})


@pytest.mark.parametrize("url", ["s3://bucket/x", "sftp://host/x"])
def test_without_the_library_it_is_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("obstore", "asyncssh"):
        monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(ToolMissing, match=r"gitvault\[remote\]"):
        open_place(url, {})


class Failing:
    """Fails so many times."""

    def __init__(self, times: int, error: RemoteError) -> None:
        self.left = times
        self.error = error

    def put(self, name: str, content: bytes) -> None:
        if self.left:
            self.left -= 1
            raise self.error


def test_what_may_pass_is_tried_again_with_longer_waits() -> None:
    waits: list[float] = []
    place = Patient(Failing(3, RemoteUnreachable("no")), "x", sleep=waits.append)  # type: ignore[arg-type]
    place.put("a", b"12345")
    assert len(waits) == 3
    assert waits[2] > waits[0]
    assert place.requests["put"] == 4
    assert place.requests["up"] == 20
    with pytest.raises(RemoteUnreachable):
        Patient(Failing(99, RemoteUnreachable("no")), "x", sleep=waits.append).put("a", b"")  # type: ignore[arg-type]
    for error in (RemoteRefused("no"), RemoteFull("no")):
        waits.clear()
        with pytest.raises(type(error)):
            Patient(Failing(1, error), "x", sleep=waits.append).put("a", b"")  # type: ignore[arg-type]
        assert not waits
    assert (RemoteUnreachable.exit_code, RemoteRefused.exit_code, RemoteFull.exit_code) == (13, 14, 12)
    assert issubclass(RemoteFull, StorageFullError)


def test_the_rate_is_kept(tmp_path: Path) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    place = Patient(Folder(tmp_path / "p", Disk()), "x", rate=1000, sleep=sleep, clock=lambda: now[0])
    for number in range(10):
        place.put(f"a/{number}", bytes(500))
    assert now[0] == pytest.approx(4.5)
    assert len(place.get("a/1")) == 500
    place.close()


def test_a_folder_is_a_place(tmp_path: Path) -> None:
    place: Place = Patient(Folder(tmp_path / "p", Disk()), "x")
    with pytest.raises(NotFoundError):
        place.get("a/b")
    noise = random.Random(3).randbytes(5000)
    for name in ("a/b", "a/c/d", "b"):
        place.put(name, noise)
    (tmp_path / "p/a/x.tmp").write_bytes(b"half")
    assert [stored.name for stored in place.names()] == ["a/b", "a/c/d", "b"]
    assert [stored.name for stored in place.names("a/")] == ["a/b", "a/c/d"]
    assert list(place.names("none/")) == []
    first = next(iter(place.names()))
    assert isinstance(first, Stored)
    assert (first.size, first.time > 0) == (5000, True)
    assert place.get("b", 10, 20) == noise[10:30]
    assert place.get("b", 4990, 100) == noise[4990:]
    assert list(place.versions("b")) == [noise]
    assert list(place.versions("none")) == []
    place.delete(["b", "none"])
    place.delete([])
    assert [stored.name for stored in place.names()] == ["a/b", "a/c/d"]


def test_a_folder_that_is_away_full_or_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Folder(tmp_path / "mount" / "p", Disk())
    with pytest.raises(RemoteUnreachable, match="mount it"):
        place.put("a", b"1")
    with pytest.raises(RemoteUnreachable, match="mount it"):
        list(place.names())

    def failing(error: OSError) -> Folder:
        class Bad(Disk):
            def create(self, path: Path, mode: int = 0o600):  # type: ignore[no-untyped-def]
                raise error

        return Folder(tmp_path / "p", Bad())

    with pytest.raises(RemoteRefused, match="who owns it"):
        failing(PermissionError(13, "Permission denied")).put("a", b"1")
    with pytest.raises(RemoteRefused, match="Read-only file system; mount it writable"):
        failing(OSError(errno.EROFS, "Read-only file system")).put("a", b"1")
    with pytest.raises(RemoteUnreachable):
        failing(OSError(5, "Input/output error")).put("a", b"1")
    with pytest.raises(RemoteFull):
        failing(StorageFullError("full")).put("a", b"1")  # type: ignore[arg-type]
    monkeypatch.setattr(Path, "read_bytes", lambda path: b"other")
    with pytest.raises(RemoteUnreachable, match="does not read back"):
        Folder(tmp_path / "q", Disk()).put("a", b"1")


def test_what_says_which_vault_is_there(tmp_path: Path) -> None:
    remote = open_remote(settings.Settings("off", str(tmp_path / "p")), {}, vault=tmp_path / "v")
    assert remote.vault_id() == ""
    remote.found(ID)
    assert remote.vault_id() == ID
    remote.expect("", ID)
    remote.place.put(MARKER, b'{"gitvault-remote":%d,"vault":"%s"}' % (VERSION + 1, ID.encode()))
    with pytest.raises(UnsupportedFormatVersion):
        remote.vault_id()
    remote.place.put(MARKER, b"something else")
    with pytest.raises(CorruptionError, match="is this the right place"):
        remote.vault_id()
    name = name_of("git/", b"content", ".pack")
    remote.place.put(name, b"contemt")
    told: list[str] = []
    with pytest.raises(ChecksumMismatch):
        remote.get(name, told.append)
    assert told == [name]
    with pytest.raises(NotFoundError):
        remote.get(name_of("git/", b"none", ".pack"))
    remote.place.put(name, b"content")
    assert remote.cached(name) == remote.cached(name) == b"content"
    assert Remote(remote.place, "x").cached(name) == b"content"
    remote.note_damaged([name])
    assert remote.damaged() == {name}
    assert Remote(remote.place, "x").damaged() == set()
    remote.close()


def test_packs_in_memory_are_packs(tmp_path: Path) -> None:
    from gitvault.core.storage import frames

    pack = PackInMemory(level=3)
    data = b"some bytes " * 50
    chunk = ChunkId(hashlib.sha256(data).digest())
    stored = frames.compress(data, 3)
    pack.add_copy(Frame(9, 0, len(stored), len(data)), stored, [Chunk(chunk, 9, 0, len(data))])
    pack.add_manifest("e" * 64, (chunk,))
    (tmp_path / (name := pack.seal())).write_bytes(pack.content())
    table = read_table(tmp_path / name, strict=True)
    assert table.chunks[0].id == chunk
    assert f"{table_hash(format_table(table))}.zpk" == name
    git = GitPack()
    oid = git.add(b"blob", b"hello")
    content, offsets = git.take()
    assert offsets == {oid: 12}
    assert content[-20:] == hashlib.sha1(content[:-20]).digest()
    assert len(git) == 0


def test_a_journal_that_cannot_be_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = sqlite3.connect(":memory:")
    closed.close()
    monkeypatch.setattr("gitvault.remotes.journal.sqlite3.connect", lambda *words, **options: closed)
    with pytest.raises(OSError, match="cannot be made"):
        Journal(tmp_path / "journal.db", Disk())


def test_what_an_sftp_server_takes_in_part_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    asyncssh = pytest.importorskip("asyncssh")

    class File:
        async def __aenter__(self) -> File:
            return self

        async def __aexit__(self, *error: object) -> None: ...

        async def write(self, content: bytes) -> None: ...

        async def fsync(self) -> None: ...

    class Client:
        size = 3

        async def makedirs(self, folder: str, exist_ok: bool) -> None: ...

        def open(self, path: str, mode: str) -> File:
            return File()

        async def stat(self, path: str) -> Client:
            return self

    async def client() -> Client:
        return Client()

    async def full(path: str, content: bytes) -> None:
        raise asyncssh.SFTPNoSpaceOnFilesystem("full")

    place = Sftp("host", None, None, "/x")
    monkeypatch.setattr(place, "_client", client)
    with pytest.raises(RemoteUnreachable, match="3 of 5 bytes arrived"):
        place.put("a", b"12345")
    monkeypatch.setattr(place, "_put", full)
    with pytest.raises(RemoteFull):
        place.put("a", b"12345")
    place.close()


def test_what_a_server_refuses_to_remove_and_is_not_locked_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    stub = pytest.importorskip("botocore.stub")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    history = History("bucket", "vault/", {})
    when = datetime(2026, 1, 2, tzinfo=UTC)
    listed = {"Versions": [{"Key": "vault/x", "VersionId": "1", "LastModified": when}], "IsTruncated": False}
    refused = {"Errors": [{"Key": "vault/x", "VersionId": "1", "Code": "AccessDenied", "Message": "no rights"}]}
    head = {"ResponseMetadata": {"HTTPHeaders": {"date": "Fri, 02 Jan 2026 00:00:00 GMT"}, "HTTPStatusCode": 200}}
    with stub.Stubber(history._client) as server:
        server.add_response("list_object_versions", listed)
        server.add_response("delete_objects", refused)
        server.add_response("head_object", head)
        with pytest.raises(ValueError, match=r"\(AccessDenied\) no rights"):
            history.remove(["x"])


@pytest.mark.parametrize("piece", [b"\xff", b"0" * 40 + b" g 7\n", b"0" * 40 + b" g x\n"])
def test_pieces_of_an_index_that_are_none_know_nothing(piece: bytes) -> None:
    names = ["a" * 64, "b" * 64]
    parts = f"git/{digits(1)}.pack 5\n".encode()
    objects = {
        f"{index.FOLDER}{name}": index.frames.compress(content, 3)
        for name, content in zip(names, (parts, piece), strict=True)
    }
    run = Run(1, names[0], (("0" * 40, names[1]),))
    assert Index([run], objects.__getitem__).find(["0" * 40]) == {}
    assert Index([run], objects.__getitem__).packs_of("0" * 40) == []


def test_an_error_is_the_same_where_another_process_says_it() -> None:
    for error in (ChecksumMismatch("pack", "aa", "bb"), ToolFailed("git fsck", 3, "fatal: no"), NotFoundError("x")):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_parts_come_in_order_so_many_at_once_and_what_cannot_be_had_is_told() -> None:
    parts = [Part(str(number), 1) for number in range(9)]
    futures: dict[str, Future[str]] = {}
    lacking: list[str] = []

    def submit(part: Part) -> Future[str]:
        futures[part.name] = future = Future()
        if part.name == "2":
            future.set_exception(NotFoundError("gone"))
        elif part.name < "5":
            future.set_result(part.name * 2)
        return future

    coming = in_order(parts, submit, 3, lambda part, error: lacking.append(f"{part.name} {error}"))
    assert [made for _, made in islice(coming, 4)] == ["00", "11", "33", "44"]
    assert lacking == ["2 gone"]
    assert list(futures) == ["0", "1", "2", "3", "4", "5", "6"]
    coming.close()
    assert futures["5"].cancelled()
