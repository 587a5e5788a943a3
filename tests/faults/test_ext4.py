"""A real file system, a real end: ext4 on a loop device, shut down the moment a snapshot is acknowledged."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.stage import Stage, look

from gitvault.core.utils.files import Disk

# _IOR('X', 125, __u32), and its flag that throws the journal's unwritten part away too.
SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2


@pytest.fixture
def ext4(tmp_path: Path) -> Iterator[Path]:
    image, mount = tmp_path / "image", tmp_path / "mount"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(64 << 20)

    def mounted() -> bool:
        return subprocess.run(["mount", "-o", "loop", image, mount], capture_output=True).returncode == 0

    if subprocess.run(["mkfs.ext4", "-q", image], capture_output=True).returncode or not mounted():
        pytest.skip("no loop-mounted ext4 here: needs root and a loop device")
    yield mount
    subprocess.run(["umount", mount], check=False)


@pytest.mark.deep
@pytest.mark.needs("mkfs.ext4")
@pytest.mark.skipif(sys.platform != "linux", reason="ext4")
def test_what_was_acknowledged_survives_the_end_of_the_file_system(ext4: Path, tmp_path: Path, record_property) -> None:
    import fcntl

    (tmp_path / "stage").mkdir()
    stage = Stage(tmp_path / "stage")
    stage.root = ext4
    stage.vault = ext4 / "vault.git"
    for day in range(5):
        if day:
            stage.work()
        stage.snapshot(Disk())
        fd = os.open(ext4, os.O_RDONLY)
        fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        os.close(fd)
        with pytest.raises(OSError):
            (ext4 / "dead").write_bytes(b"x")
        subprocess.run(["umount", ext4], check=True)
        subprocess.run(["mount", "-o", "loop", tmp_path / "image", ext4], check=True)
        look(stage, stage.vault, list(stage.saved), tmp_path / "out", again=False)
    record_property("shutdowns", 5)
