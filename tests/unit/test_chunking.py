"""Chunking: boundaries never change silently, and a file is judged by what it is."""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib

import pytest

from gitvault.core.chunking import AssetAware, FixedSize, RollingHash
from gitvault.core.models import ChunkPlan
from gitvault.errors import ConfigError


def noise(size: int, seed: bytes = b"noise") -> bytes:
    """The same bytes everywhere and forever."""
    blocks = (hashlib.sha256(seed + i.to_bytes(8, "big")).digest() for i in range(size // 32 + 1))
    return b"".join(blocks)[:size]


def lengths(data: bytes, plan: ChunkPlan | None = None) -> list[int]:
    return [len(piece) for piece in AssetAware().chunk_data(memoryview(data), None, plan)]


def test_boundaries_are_those_that_vaults_were_written_with() -> None:
    """Another cut would store every file again: if this fails, the library changed and must be pinned."""
    cuts = lengths(noise(1_000_000))
    assert cuts == FROZEN_DEFAULT
    small = ChunkPlan(2048, 8192, 65536, 3, True, "")
    assert lengths(noise(100_000, b"small"), small) == FROZEN_SMALL


def test_the_pure_python_cutter_makes_the_same_cuts() -> None:
    """Machines without a compiled pyfastcdc share vaults with machines that have it."""
    from pyfastcdc.py import FastCDC

    cutter = FastCDC(8192, min_size=2048, max_size=65536)
    assert [chunk.length for chunk in cutter.cut_buf(noise(100_000, b"small"))] == FROZEN_SMALL


@pytest.mark.parametrize(
    ("head", "extension", "reason", "delta"),
    [
        (b"\xff\xd8\xff\xe0\0\x10JFIF", ".bin", "already compressed (jpeg)", False),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", None, "already compressed (png)", False),
        (b"ID3\x03\0\0\0\0\0\x21", None, "compressed members (mp3)", True),
        (b"\xff\xfb\x90\x64", None, "compressed members (mp3)", True),
        (b"\0\0\0\x20ftypisom", None, "compressed members (mp4)", True),
        (b"OggS\0\x02", None, "compressed members (ogg)", True),
        (b"fLaC\0\0\0\x22", None, "compressed members (flac)", True),
        (b"PK\x03\x04\x14\0", ".docx", "compressed members (zip)", True),
        (b"\x1f\x8b\x08\0\0\0\0\0", ".unitypackage", "already compressed (gzip)", False),
        (b"\x28\xb5\x2f\xfd\x04", ".blend", "already compressed (zstd)", False),
        (b"\xfd7zXZ\0\0\x04", None, "already compressed (xz)", False),
        (b"7z\xbc\xaf\x27\x1c\0\x04", None, "already compressed (7z)", False),
        (b"RIFF\x10\0\0\0WEBPVP8 ", None, "already compressed (webp)", False),
        (b"RIFF\x10\0\0\0WAVEfmt ", None, "binary", True),
        (b"unknown", ".mp3", "compressed members (mp3)", True),
        ("gr\u00fc\u00dfe\n".encode() * 100, ".txt", "text", True),
        (b"\0\1\2\3" * 1000, None, "binary", True),
        (noise(65536), None, "binary", True),
        (b"", None, "text", True),
    ],
)
def test_content_is_judged_before_extension(head: bytes, extension: str | None, reason: str, delta: bool) -> None:
    plan = AssetAware().plan(head, 10_000_000, extension)
    assert (plan.reason, plan.delta) == (reason, delta)


def test_real_archives_are_recognised() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", b"a" * 1000)
    assert "zip" in AssetAware().plan(buffer.getvalue(), None).reason
    compressor = zlib.compressobj(wbits=31)
    assert "gzip" in AssetAware().plan(compressor.compress(b"x") + compressor.flush(), None).reason


def test_what_is_compressed_costs_little_time_and_few_chunks() -> None:
    strategy = AssetAware(level=9)
    jpeg, text = strategy.plan(b"\xff\xd8\xff\xe0", 10_000_000), strategy.plan(b"words " * 1000, 10_000_000)
    assert jpeg.level <= 1 < text.level == 9
    assert jpeg.avg_size > text.avg_size


def test_a_head_cut_inside_a_character_is_still_text() -> None:
    assert AssetAware().plan("\u20ac".encode() * 200 + b"\xe2\x82", 10_000).reason == "text"
    assert AssetAware().plan(b"plain \xff\xfe bytes" * 50, 10_000).reason == "binary"


def test_a_large_container_is_named() -> None:
    assert AssetAware().plan(b"8BPS\0\1" + bytes(1000), 200 << 20, ".psd").reason == "large container"


@pytest.mark.parametrize("strategy", [FixedSize(), RollingHash(), AssetAware()])
def test_the_number_of_chunks_is_bounded_for_huge_files(strategy: AssetAware | RollingHash | FixedSize) -> None:
    usual = strategy.plan(bytes(100), 1 << 30)
    huge = strategy.plan(bytes(100), 1 << 40)
    assert usual.avg_size == 128 << 10
    assert (1 << 40) / huge.avg_size <= 600_000
    assert huge.min_size <= 1 << 20 and huge.max_size <= 16 << 20


@pytest.mark.parametrize(
    "bounds",
    [(10, 1000, 2000), (2000, 1000, 4000), (1000, 5000, 4000), (1 << 21, 1 << 22, 1 << 23), (64, 256, 1 << 25)],
)
def test_impossible_bounds_are_refused(bounds: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError, match=r"vault\.minChunk"):
        RollingHash(*bounds)


def test_an_impossible_level_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"level 23.*vault\.compressionLevel"):
        AssetAware(level=23)


FROZEN_DEFAULT = [103266, 135861, 93351, 269986, 155568, 202262, 39706]
FROZEN_SMALL = [11909, 4948, 2881, 18026, 6159, 8653, 12755, 6750, 2538, 2859, 22522]
