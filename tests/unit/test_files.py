"""The door to the disk: what is written is whole, what is read is left alone, a full disk has a name."""

from __future__ import annotations

import errno
import os
import random
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from gitvault.core.utils import files
from gitvault.core.utils.files import (
    HAS_DIR_FD,
    DirectWriter,
    Disk,
    FleetingDisk,
    UncachedFile,
    full_disk_named,
    is_full,
    list_source,
    open_source,
    read_link,
    scan_source,
)
from gitvault.errors import StorageFullError

pytestmark = pytest.mark.disk

posix = pytest.mark.skipif(not HAS_DIR_FD, reason="needs calls relative to a folder")


def test_write_durably_replaces_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "config"
    disk = Disk()
    disk.write_durably(path, b"one")
    disk.write_durably(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in tmp_path.iterdir()] == ["config"]


def test_write_durably_leaves_the_old_content_when_it_fails(tmp_path: Path) -> None:
    class Full(Disk):
        def rename(self, source: Path, target: Path) -> None:
            with full_disk_named(target.parent):
                raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "config"
    path.write_bytes(b"one")
    with pytest.raises(StorageFullError, match="no space left on the disk; free some space and run again"):
        Full().write_durably(path, b"two")
    assert path.read_bytes() == b"one"
    assert [p.name for p in tmp_path.iterdir()] == ["config"]


def test_only_a_full_disk_is_called_one(tmp_path: Path) -> None:
    assert [is_full(OSError(number, "")) for number in (errno.ENOSPC, errno.EDQUOT, errno.EIO)] == [True, True, False]
    with pytest.raises(OSError, match="Input/output error"), full_disk_named(tmp_path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_new_file_never_takes_a_name_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "pack").write_bytes(b"theirs")
    with pytest.raises(FileExistsError):
        Disk().create(tmp_path / "pack")
    assert (tmp_path / "pack").read_bytes() == b"theirs"


def test_folder_sync_hides_no_input_output_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", broken)
    if sys.platform == "linux":
        with pytest.raises(OSError, match="Input/output error"):
            Disk().sync_folder(tmp_path)

    def unsupported(fd: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", unsupported)
    Disk().sync_folder(tmp_path)


def test_remove_folder(tmp_path: Path) -> None:
    folder = tmp_path / "scratch"
    folder.mkdir()
    (folder / "made by git").write_bytes(b"x")
    (folder / "made by git").chmod(0o444)
    Disk().remove_folder(folder)
    assert (folder / "made by git").read_bytes() == b"x"
    Disk().unlink(folder / "made by git")
    Disk().remove_folder(folder)
    assert not folder.exists()
    Disk().remove_folder(folder)


@posix
def test_reading_leaves_the_access_time(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    os.utime(path, ns=(1_000_000_000, 2_000_000_000))
    fd = open_source(str(path))
    assert os.read(fd, 100) == b"content"
    os.close(fd)
    if sys.platform == "linux":
        assert path.stat().st_atime_ns == 1_000_000_000


@posix
def test_a_symlink_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(OSError, match="symbolic links"):
        open_source(str(tmp_path / "link"))
    assert read_link(str(tmp_path / "link")) == b"file"


@posix
def test_a_fifo_in_a_files_place_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    os.close(open_source(str(tmp_path / "fifo")))


@posix
def test_paths_longer_than_the_system_takes_in_one_call(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    path = str(tmp_path)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=here)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here, path = below, f"{path}/{'d' * 200}"
    fd = os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=here)
    os.write(fd, b"deep")
    os.close(fd)
    os.symlink("target", "link", dir_fd=here)
    os.close(here)
    assert len(path) > 4096
    fd = open_source(f"{path}/file")
    assert os.read(fd, 10) == b"deep"
    os.close(fd)
    assert read_link(f"{path}/link") == b"target"
    with pytest.raises(FileNotFoundError):
        open_source(f"{path}/nothing")
    with pytest.raises(OSError, match="File name too long"):
        open_source("n" * 5000)
    with pytest.raises(OSError, match="File name too long"):
        read_link("n" * 5000)


# -- past the page cache -----------------------------------------------------------------------------

MEMORY = Path("/dev/shm")


@pytest.fixture(params=["disk", "memory", "refused", "unknown"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on a file system that has direct writes, as a rule, and on some that have none."""
    if request.param == "unknown":
        monkeypatch.setattr(files, "_DIRECT", 0)
    if request.param == "refused":
        fcntl = pytest.importorskip("fcntl")
        control = fcntl.fcntl

        def refusing(fd: int, command: int, flags: int = 0) -> int:
            if command == fcntl.F_SETFL:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            return int(control(fd, command, flags))

        monkeypatch.setattr(fcntl, "fcntl", refusing)
    if request.param != "memory":
        yield tmp_path
        return
    if not os.access(MEMORY, os.W_OK):
        pytest.skip("no file system in memory")
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield Path(folder)


NOISE = random.Random(5).randbytes(9 << 20)
# Around a page and the writer's buffer.
SIZES = st.one_of(
    st.integers(0, 5000),
    st.sampled_from([4095, 4096, 4097, (4 << 20) - 1, 4 << 20, (4 << 20) + 1]),
    st.integers(0, 6 << 20),
)


@hypothesis.settings(max_examples=25, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(st.lists(SIZES, max_size=6), st.data())
def test_an_uncached_file_has_the_bytes_of_a_plain_one(place: Path, sizes: list[int], data: st.DataObject) -> None:
    """And any range of what was written can be read at any time."""
    path = place / "file"
    path.unlink(missing_ok=True)
    content = b""
    with Disk().create_uncached(path) as file:
        for number, size in enumerate(sizes):
            piece = NOISE[number : number + size]
            file.write([piece, bytearray(piece), memoryview(piece)][number % 3])
            content += piece
            assert file.size == len(content)
            offset = data.draw(st.integers(0, len(content) + 5000))
            length = data.draw(st.one_of(st.integers(0, 10_000), st.just(len(content))))
            assert file.read(offset, length) == content[offset : offset + length]
        file.sync()
        assert path.read_bytes() == content
        assert file.read(1, 10) == content[1:11]
    file.close()
    assert path.stat().st_size == len(content)


@pytest.mark.parametrize("size", [0, 1, 4096, (4 << 20) + 5])
def test_a_direct_writer_leaves_a_file_that_is_written_as_before(place: Path, size: int) -> None:
    """Whoever opened it goes on with pieces of any size."""
    fd = os.open(place / "file", os.O_RDWR | os.O_CREAT)
    try:
        writer = DirectWriter(fd)
        writer.write(NOISE[:size])
        assert writer.held == size % (4 << 20)
        assert writer.tail(0, writer.held) == NOISE[size - writer.held : size]
        writer.finish()
        os.write(fd, b"odd")
    finally:
        os.close(fd)
    assert (place / "file").read_bytes() == NOISE[:size] + b"odd"


def failing_write(monkeypatch: pytest.MonkeyPatch, error: int, *, taken: int = 0) -> list[int]:
    """The first write takes `taken` bytes, if any; others fail while they go past the cache, or all but EINVAL's."""
    write = os.write
    calls: list[int] = []

    def failing(fd: int, data: memoryview) -> int:
        calls.append(len(data))
        if taken and len(calls) == 1:
            return write(fd, data[:taken])
        if error != errno.EINVAL or len(calls) <= 1 + bool(taken):
            raise OSError(error, os.strerror(error))
        return write(fd, data)

    monkeypatch.setattr(os, "write", failing)
    return calls


@pytest.mark.skipif(sys.platform != "linux", reason="direct writes are Linux's")
@pytest.mark.parametrize("taken", [0, 4096])
def test_a_file_system_that_refuses_a_direct_write_gets_a_plain_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    """Also when it took a part of it before."""
    with Disk().create_uncached(tmp_path / "file") as file:
        with monkeypatch.context() as patch:
            calls = failing_write(patch, errno.EINVAL, taken=taken)
            file.write(NOISE)
        assert len(calls) >= 3
        file.sync()
    assert (tmp_path / "file").read_bytes() == NOISE


def test_a_plain_write_that_is_refused_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not tried for ever."""
    monkeypatch.setattr(files, "_DIRECT", 0)
    with Disk().create_uncached(tmp_path / "file") as file:
        failing_write(monkeypatch, errno.EINVAL)
        with pytest.raises(OSError, match="Invalid argument"):
            file.write(NOISE)


@pytest.mark.parametrize("late", [False, True])
def test_a_full_disk_has_a_name_and_the_buffer_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(files, "_spare", [])
        file = UncachedFile(tmp_path / "file", 0o600)
        failing_write(patch, errno.ENOSPC)
        with pytest.raises(StorageFullError, match="no space left"):
            if late:
                file.write(b"little")
                file.sync()
            else:
                file.write(NOISE)
        file.close()
        file.close()
        assert len(files._spare) == 1


def test_buffers_are_used_again_and_few_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_spare", [])
    opened = [UncachedFile(tmp_path / str(n), 0o600) for n in range(6)]
    for file in opened:
        file.write(b"old bytes")
        file.close()
    assert len(files._spare) == 4
    # What was held and not synced is in no file, and in none that comes later.
    with Disk().create_uncached(tmp_path / "new") as new:
        assert len(files._spare) == 3
        new.write(b"n")
        assert new.read(0, 10) == b"n"
        new.sync()
    assert len(files._spare) == 4
    assert (tmp_path / "new").read_bytes() == b"n"
    assert (tmp_path / "0").read_bytes() == b""


def test_many_threads_take_and_return_buffers(tmp_path: Path) -> None:
    def work(number: int) -> bool:
        for n in range(20):
            with Disk().create_uncached(tmp_path / f"{number}-{n}") as file:
                file.write(NOISE[number : number + 100])
                file.sync()
        return all((tmp_path / f"{number}-{n}").read_bytes() == NOISE[number : number + 100] for n in range(20))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def test_what_does_not_outlive_the_process_is_read_after_a_sync_that_waits_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda fd: pytest.fail("waited for the medium"))
    disk = FleetingDisk()
    with disk.create(tmp_path / "pack") as file:
        file.write(NOISE)
        file.sync()
        assert (tmp_path / "pack").read_bytes() == NOISE
    disk.sync_file(tmp_path / "pack")
    disk.sync_folder(tmp_path)
    with pytest.raises(FileExistsError):
        disk.create(tmp_path / "pack")


def test_an_uncached_file_never_takes_a_name_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "pack").write_bytes(b"theirs")
    with pytest.raises(FileExistsError):
        Disk().create_uncached(tmp_path / "pack")
    assert (tmp_path / "pack").read_bytes() == b"theirs"


def test_others_read_what_one_thread_writes(tmp_path: Path) -> None:
    wrong: list[int] = []
    ended = threading.Event()

    def read() -> None:
        rng = random.Random(1)
        while not ended.is_set():
            size = file.size
            offset = rng.randrange(size + 1)
            if file.read(offset, 10_000)[: size - offset] != NOISE[offset : min(offset + 10_000, size)]:
                wrong.append(offset)

    with Disk().create_uncached(tmp_path / "file") as file:
        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            thread.start()
        for start in range(0, len(NOISE), 70_001):
            file.write(NOISE[start : start + 70_001])
        file.sync()
        ended.set()
        for thread in threads:
            thread.join()
    assert not wrong
    assert (tmp_path / "file").read_bytes() == NOISE


def test_a_tail_is_replaced_only_behind_its_head(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"head 1\n")
    Disk().replace_tail(file, b"head ", b"2")
    assert file.read_bytes() == b"head 2\n"
    Disk().replace_tail(file, b"Head ", b"3")
    assert file.read_bytes() == b"head 2\n"
    with pytest.raises(FileNotFoundError):
        Disk().replace_tail(tmp_path / "none", b"", b"x")


def test_a_users_folder_is_read_without_a_trace(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    os.utime(tmp_path, ns=(1, os.stat(tmp_path).st_mtime_ns))
    assert sorted(list_source(tmp_path)) == ["file", "folder"]
    with scan_source(tmp_path) as listed:
        assert {entry.name: entry.is_dir() for entry in listed} == {"file": False, "folder": True}
    assert os.stat(tmp_path).st_atime_ns == 1
    with pytest.raises(NotADirectoryError):
        list_source(tmp_path / "file")
