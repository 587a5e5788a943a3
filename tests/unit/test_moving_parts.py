"""The parts of moving in that need no other program: tar streams, names with dates, paths put together."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from trees import write

from gitvault import config as settings
from gitvault.core.backup_engine import incoming as incoming_module
from gitvault.core.backup_engine.incoming import Changes, Content, Given, Incoming
from gitvault.core.models import ObjectId
from gitvault.core.utils import process
from gitvault.core.utils.kinds import SNIFF
from gitvault.core.versioning.history import Details
from gitvault.errors import CorruptionError, ExistsError, StorageFullError, ToolFailed, ToolMissing
from gitvault.moving import borg, restic, tar
from gitvault.moving.export import Exported, export
from gitvault.moving.folders import FolderSource
from gitvault.moving.listing import Listing, differences
from gitvault.moving.move_in import move_in
from gitvault.moving.part import Part
from gitvault.vault import Vault
from gitvault.vault.opened import WHOLE_LIMIT

LONG = b"folder/" * 40 + "ä".encode() * 60


def packed(form: int, **more: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for name, kind, content in (
            ("plain", tarfile.REGTYPE, b"plain"),
            (LONG.decode(), tarfile.REGTYPE, bytes(3000)),
            ("folder", tarfile.DIRTYPE, b""),
            ("left", tarfile.REGTYPE, b"not wanted" * 100),
            ("link", tarfile.SYMTYPE, LONG),
            ("pipe", tarfile.FIFOTYPE, b""),
        ):
            member = tarfile.TarInfo(name)
            member.type = kind
            if kind == tarfile.SYMTYPE:
                member.linkname = content.decode()
            else:
                member.size = len(content)
            if form == tarfile.PAX_FORMAT:
                member.pax_headers = more
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def read(data: bytes) -> dict[bytes, tuple[bytes, object]]:
    def wanted(name: bytes) -> Given | None:
        return None if name == b"left" else Given(name, "file", 0o644, 0)

    found: dict[bytes, tuple[bytes, object]] = {}
    for given, stream in tar.contents(io.BytesIO(data), wanted):
        found[given.path] = stream.read(), given.xattrs
    return found


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_what_a_tar_stream_holds_is_what_was_put_in(form: int) -> None:
    found = read(packed(form))
    assert {name: content for name, (content, _) in found.items()} == {
        b"plain": b"plain",
        LONG: bytes(3000),
        b"folder": b"",
        b"link": LONG,
    }


def test_names_in_two_parts_and_attributes_are_read() -> None:
    found = read(packed(tarfile.PAX_FORMAT, **{"SCHILY.xattr.user.a": "b=\nc", "comment": "x"}))
    assert found[b"plain"] == (b"plain", {"user.a": b"b=\nc"})
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("a" * 90 + "/" + "b" * 90))
    assert list(read(stream.getvalue())) == [b"a" * 90 + b"/" + b"b" * 90]


def test_a_tar_stream_that_is_none_is_refused() -> None:
    good = packed(tarfile.PAX_FORMAT)
    for bad in (good[: good.index(b" path=") + 3], b"x" * 2000, good[:512] + b"y" * 600):
        with pytest.raises(CorruptionError, match="tar stream"):
            read(bad)
    huge = bytearray(packed(tarfile.GNU_FORMAT))
    place = bytes(huge).index(b"././@LongLink")
    huge[place + 124 : place + 136] = b"77777777777\0"
    huge[place + 148 : place + 156] = b" " * 8
    huge[place + 148 : place + 156] = b"%06o\0 " % sum(huge[place : place + 512])
    with pytest.raises(CorruptionError, match="tells 8589934591 bytes of one file"):
        read(bytes(huge))
    odd = bytearray(good)
    place = bytes(odd).index(b"plain\0")
    odd[place + 124 : place + 136] = b"zzzzzzzzzzz\0"
    odd[place + 148 : place + 156] = b" " * 8
    odd[place + 148 : place + 156] = b"%06o\0 " % sum(odd[place : place + 512])
    with pytest.raises(CorruptionError, match="where a number belongs"):
        read(bytes(odd))
    records = good.replace(b" path=", b"99path=")
    with pytest.raises(CorruptionError, match="attributes that cannot be read"):
        read(records)


def test_a_stream_without_an_end_is_refused_even_when_its_program_says_nothing(tmp_path: Path) -> None:
    """Cut between two files it would look like one of fewer files."""
    whole = packed(tarfile.PAX_FORMAT)

    def told(size: int) -> list[bytes]:
        (tmp_path / "stream").write_bytes(whole[:size])
        found = tar.printed(["cat", tmp_path / "stream"], lambda name: Given(name, "file", 0o644, 0))
        return [given.path for given, _ in found]

    assert told(len(whole))[:1] == [b"plain"]
    for size in (0, 1024, 1024 + 3):
        with pytest.raises(CorruptionError, match="the tar stream is damaged or cut short"):
            told(size)


def test_a_part_ends_where_it_ends_or_the_stream_does() -> None:
    stream = io.BytesIO(b"0123456789")
    part = Part(stream, 4)
    assert (part.read(3), part.read(), part.read()) == (b"012", b"3", b"")
    part = Part(stream, 100)
    part.skip()
    assert (part.left, stream.read()) == (0, b"")


@pytest.mark.parametrize(
    ("name", "project", "moment"),
    [
        ("acme-2024-03-01", "acme", "2024-03-01 00:00:00"),
        ("2024_03_01 acme", "acme", "2024-03-01 00:00:00"),
        ("acme 20240301", "acme", "2024-03-01 00:00:00"),
        ("acme (01.03.2024)", "acme", "2024-03-01 00:00:00"),
        ("acme-20240301-153059", "acme", "2024-03-01 15:30:59"),
        ("acme_2024-03-01T15.30", "acme", "2024-03-01 15:30:00"),
        ("my-acme-2024-03-01-final", "my-acme-final", "2024-03-01 00:00:00"),
        ("2024-03-01", "old", "2024-03-01 00:00:00"),
        # No dates: a number of more digits, a day that no month has.
        ("acme-120240301", "acme-120240301", "2001-09-09 01:46:40"),
        ("acme-2024-02-31", "acme-2024-02-31", "2001-09-09 01:46:40"),
    ],
)
def test_dates_are_read_as_people_write_them(name: str, project: str, moment: str, tmp_path: Path) -> None:
    copy = write(tmp_path / "old" / name, {"a": b"a"})
    os.utime(copy / "a", (1e9, 1e9))
    (found,) = FolderSource([str(copy)]).copies()
    shown = found.time if moment.startswith("2024") else found.time.astimezone(UTC)
    assert (found.project, shown.strftime("%Y-%m-%d %H:%M:%S")) == (project, moment)


def test_listings_differ_by_what_is_new_other_or_another_kind() -> None:
    def listing(*given: Given) -> Listing:
        return Listing(entries={one.path: one for one in given})

    then = listing(Given(b"a", "file", 1, 1), Given(b"b", "file", 1, 1), Given(b"c", "folder", 1, 1))
    now = listing(Given(b"a", "file", 1, 1), Given(b"b", "folder", 1, 1), Given(b"d", "file", 1, 1))
    changes, wanted = differences(now, then, lambda path: False)
    assert (changes.gone, [one.path for one in changes.given], list(wanted)) == ([b"b", b"c"], [b"b", b"d"], [b"d"])
    changes, wanted = differences(now, then, lambda path: True, folders=True)
    assert list(wanted) == [b"a", b"b", b"d"]
    changes, wanted = differences(now, now, lambda path: True, folders=True)
    assert list(wanted) == [b"a", b"d"]


def test_what_borg_was_told_to_save_names_the_project() -> None:
    named = borg._named
    assert named("borg create --comment x -e '*.o' repo::one /home/ann/art") == ["/home/ann/art"]
    assert named(["borg", "create", "repo::one", "a b", "c", "-x"]) == ["a b", "c"]
    assert named("borg create 'repo::one") == []


def test_where_the_paths_of_restic_lie() -> None:
    nodes = {path: Given(path, "folder", 0, 0) for path in (b"x", b"home", b"home/ann", b"home/ann/art")}
    nodes[b"home/ann/one"] = Given(b"home/ann/one", "file", 0, 0)
    assert restic._root(nodes, ["/home/ann/art"]) == b"home/ann/art"
    assert restic._root(nodes, ["/home/ann/art", "/home/ann/one"]) == b"home/ann"
    assert restic._root(nodes, ["/home/ann/one"]) == b"home/ann"
    assert restic._root(nodes, ["/work/x"]) == b"x"
    assert restic._root(nodes, ["/work"]) == b""
    with pytest.raises(CorruptionError, match="restic tells of a time"):
        restic._nanoseconds("yesterday")
    assert restic._nanoseconds("1970-01-01T02:00:01.5+02:00") == 1_500_000_000


DETAILS = Details("acme", "m", datetime.fromisoformat("2024-03-01T10:00:00Z"), 0, 0)


def test_paths_that_are_none_are_refused_and_nothing_is_made(vault: Vault) -> None:
    incoming = vault.incoming("acme", "/nowhere", archived=True)
    content = Content(ObjectId(bytes(20)), 0)
    for path, match in (
        (b"../a", "not a path"),
        (b"a/..", "not a path"),
        (b"a//b", "not a path"),
        (b"", "below a file"),
        (b"a/\0", "not a path"),
        (b"a/" * 400_000, "a path of more than"),
        (b"file/a/b", "below a file, file"),
    ):
        given = [Given(b"file", "file", 0o644, 0), Given(path, "file", 0o644, 0)]
        with pytest.raises(CorruptionError, match=match), incoming:
            incoming.record(Changes((), given), {one.path: content for one in given}, DETAILS)
    with incoming:
        assert incoming.flush() == 0
    assert vault.history.projects() == []


def test_an_imported_project_must_have_a_name_that_can_be(vault: Vault, tmp_path: Path) -> None:
    vault.create_snapshot(write(tmp_path / "acme", {"a": b"a"}))
    with pytest.raises(ExistsError, match="differs from the project acme only in case"):
        vault.incoming("ACME", "/nowhere", archived=True)


def saved(incoming: Incoming, *files: tuple[bytes, bytes]) -> dict[bytes, Content]:
    found = {}
    for path, data in files:
        found[path] = incoming.save(Given(path, "file", 0o644, 0, size=len(data)), io.BytesIO(data))()
    return found


def test_files_go_where_a_snapshot_of_a_folder_would_put_them(vault: Vault, tmp_path: Path) -> None:
    limit = vault.config.inline_limit + SNIFF
    files = {
        b"late": b"x" * SNIFF + b"\0" + b"x" * limit,
        b"early": b"x" * (SNIFF - 1) + b"\0" + b"x" * limit,
        b"small": b"\0",
        b"like": b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
        b".gitmodules": b'[submodule "x"]\n\tpath = ../../x\n',
        b".git/config": b"[core]\n",
    }
    write(tmp_path / "own", {os.fsdecode(path): data for path, data in files.items()})
    own = vault.create_snapshot(tmp_path / "own").snapshot
    with vault.incoming("acme", "/nowhere", archived=True) as incoming:
        contents = saved(incoming, *files.items())
        incoming.record(Changes((), [Given(path, "file", 0o644, 0) for path in files]), contents, DETAILS)
        assert incoming.flush() > 0
    trees = [vault.history.commit(vault.history.locate(one)).tree for one in (own, vault.resolve("acme"))]
    assert trees[0] == trees[1]


def test_what_goes_on_from_a_snapshot_makes_what_one_run_makes(vault: Vault) -> None:
    first = [(b"a/b/c", b"1"), (b"a/d", b"2"), (b"e", b"3"), (b".gitmodules", b'[submodule "x"]\n\tpath = ../x\n')]
    # A file takes the place of a folder, and a folder that of a file, also when nobody said that these are gone.
    more = Changes(
        [b"a/d"], [Given(b"e", "folder", 0o700, 5), Given(b"e/f", "file", 0o600, 7), Given(b"a/b", "file", 0o600, 7)]
    )

    def start(project: str) -> Incoming:
        incoming = vault.incoming(project, "/nowhere", archived=True)
        with incoming:
            given = [Given(path, "file", 0o644, 9, (1, 2)) for path, _ in first]
            incoming.record(Changes((), given), saved(incoming, *first), DETAILS)
            incoming.flush()
        return incoming

    def go_on(incoming: Incoming) -> None:
        with incoming:
            incoming.record(more, saved(incoming, (b"e/f", b"4"), (b"a/b", b"5")), DETAILS)
            incoming.flush()

    go_on(start("one"))
    start("two")
    again = vault.incoming("two", "/nowhere", archived=True)
    again.go_on(vault.resolve("two"))
    assert again.content(b"a/b/c") == again.content(b"a/b/c") is not None
    go_on(again)
    one, two = (vault.history.trees(vault.resolve(name)) for name in ("one", "two"))
    assert one == two
    assert [entry.path for entry in vault.entries("two", recursive=True)] == [
        b".gitmodules", b"a", b"a/b", b"e", b"e/f",
    ]  # fmt: skip
    assert vault.verify(data=True).ok


def test_a_quota_holds_for_what_comes_from_elsewhere(vault: Vault) -> None:
    settings.set(vault.path, "vault.quota", "1k")
    vault.__dict__.pop("config")
    incoming = vault.incoming("acme", "/nowhere", archived=True)
    with pytest.raises(StorageFullError, match=r"vault\.quota"), incoming:
        contents = saved(incoming, (b"a", os.urandom(5000)))
        incoming.record(Changes((), [Given(b"a", "file", 0o644, 0)]), contents, DETAILS)
        incoming.flush()
    assert vault.history.projects() == []


def test_what_was_exported_is_told(vault: Vault, tmp_path: Path) -> None:
    made = vault.create_snapshot(write(tmp_path / "acme", {"a": b"abc"}))
    day = f"{vault.get_snapshot_info(made.snapshot).time.astimezone():%Y-%m-%d}"
    target = tmp_path / "out" / f"acme-{day}-{made.snapshot[:12]}"
    assert export(vault, ["acme"], tmp_path / "out", tar=False) == [Exported(made.snapshot, target, 1, 3, ())]


def test_folders_may_be_deep_and_go_with_their_last_file(vault: Vault) -> None:
    deep = b"/".join([b"d"] * 1500)
    with vault.incoming("acme", "/nowhere", archived=True) as incoming:
        contents = saved(incoming, (deep + b"/f", b"1"), (b"top", b"2"))
        given = [Given(path, "file", 0o644, 0) for path in contents]
        incoming.record(Changes((), given, only_files=True), contents, DETAILS)
        incoming.record(Changes([deep + b"/f"], (), only_files=True), {}, DETAILS)
        incoming.flush()
    assert [entry.path for entry in vault.entries("acme", recursive=True)] == [b"top"]
    assert vault.get_snapshot_info("acme~1").files == 2


def test_a_program_that_is_read_while_it_runs_is_missing_fails_or_is_left(tmp_path: Path) -> None:
    with process.reading([sys.executable, "-c", "print('a'); print('b')"]) as stream:
        assert stream.read(1) == b"a"
    with pytest.raises(ToolFailed, match="went wrong"), process.reading([sys.executable, "-c", FAILS]) as stream:
        assert stream.read() == b"some"
    with pytest.raises(ToolMissing, match="not found"), process.reading(["no-such-program"]):
        pass
    with pytest.raises(KeyboardInterrupt), process.reading([sys.executable, "-c", "while True: print('y')"]) as stream:
        raise KeyboardInterrupt


FAILS = "import sys; sys.stdout.write('some'); sys.stdout.flush(); sys.exit('went wrong')"


def test_a_large_file_of_another_size_than_was_said_is_refused(vault: Vault) -> None:
    size = WHOLE_LIMIT + 10
    wrong = pytest.raises(CorruptionError, match=f"expected {size} bytes, found {size - 1}")
    with vault.incoming("acme", "/nowhere", archived=True) as incoming, wrong:
        incoming.save(Given(b"a", "file", 0o644, 0, size=size), io.BytesIO(bytes(size - 1)))


def test_files_that_are_stored_at_once_are_compared_each(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming_module, "_UNDER_WAY", 1_000_000)
    contents = [bytes([number]) + bytes(300_000 + number) for number in range(8)]
    with vault.incoming("acme", "/nowhere", archived=True) as incoming:
        waiting = []
        for number, data in enumerate(contents):
            digest = f"sha256:{hashlib.sha256(data if number % 2 else b'other').hexdigest()}"
            given = Given(b"%d.bin" % number, "file", 0o644, 0, size=len(data), digest=digest)
            waiting.append(incoming.save(given, io.BytesIO(data)))
        for number, (content, data) in enumerate(zip(waiting, contents, strict=True)):
            if number % 2:
                pointer = content().pointer
                assert pointer and pointer.oid == hashlib.sha256(data).hexdigest()
            else:
                with pytest.raises(CorruptionError, match="expected the hash sha256:"):
                    content()


def test_a_source_that_does_not_give_what_it_lists_makes_no_snapshot(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = write(tmp_path / "acme-2024-01-01", {"a": b"a", "b": b"b"})
    monkeypatch.setattr(FolderSource, "contents", lambda *_: iter(()))
    done = move_in(vault, FolderSource([str(copy)]))
    assert (done.snapshots, vault.history.projects()) == (0, [])
    assert "did not give 2 of its files, a for one" in done.problems[0].reason
