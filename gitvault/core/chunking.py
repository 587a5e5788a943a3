"""How content is cut into chunks: fixed sizes, a rolling hash, or a rolling hash chosen by what the content is.

All three take the same settings, cut without copying, and are safe to share between threads.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gitvault.core.models import ChunkPlan
from gitvault.errors import ConfigError

if TYPE_CHECKING:
    from pyfastcdc import FastCDC

# Seven versions of 24 assets (1.24 GB; in-place edits, insertions, brush strokes): all edits stored 30.4, 30.3 and
# 30.2 MB with an average of 64, 128 and 256 KiB, because a delta pays for what a large chunk repeats; without
# deltas 101, 123 and 163. 128 needs half the index of 64, and loses less than 256 where there is no past to
# be coded against. A minimum of half the average stores the same as a quarter and cuts faster.
MIN_SIZE = 64 << 10
AVG_SIZE = 128 << 10
MAX_SIZE = 512 << 10

# What pyfastcdc can do; max is also the longest chunk that a pack may hold.
MAX_MIN_SIZE = 1 << 20
MAX_AVG_SIZE = 4 << 20
MAX_MAX_SIZE = 16 << 20

# A list of chunks costs about 300 bytes of memory per chunk while a file is stored. Above this size
# the average grows, so that no file has more than about 300,000 chunks (90 MB).
_GROW_FROM = 32 << 30


@dataclass(frozen=True, slots=True)
class _Settings:
    """What every strategy can be told: chunk bounds in bytes and the zstd level for what compresses."""

    min_size: int = MIN_SIZE
    avg_size: int = AVG_SIZE
    max_size: int = MAX_SIZE
    level: int = 1

    def __post_init__(self) -> None:
        if not (
            64 <= self.min_size <= MAX_MIN_SIZE
            and 256 <= self.avg_size <= MAX_AVG_SIZE
            and 1024 <= self.max_size <= MAX_MAX_SIZE
            and self.min_size <= self.avg_size <= self.max_size
        ):
            raise ConfigError(
                f"chunk sizes {self.min_size}/{self.avg_size}/{self.max_size}: expected minimum <= average <= maximum, "
                "from 64, 256 and 1024 bytes up to 1 MiB, 4 MiB and 16 MiB; change vault.minChunk, avgChunk, maxChunk"
            )
        if not -50 <= self.level <= 22:
            raise ConfigError(f"compression level {self.level}: expected -50 to 22; change vault.compressionLevel")

    def _sized(self, size: int | None, level: int, delta: bool, reason: str, *, coarser: int = 0) -> ChunkPlan:
        """The plan with these bounds, doubled `coarser` times and as often as a huge file needs."""
        doublings = coarser + (max(0, size - 1) // _GROW_FROM).bit_length() if size else coarser
        return ChunkPlan(
            min(self.min_size << doublings, max(self.min_size, MAX_MIN_SIZE)),
            min(self.avg_size << doublings, MAX_AVG_SIZE),
            min(self.max_size << doublings, MAX_MAX_SIZE),
            level,
            delta,
            reason,
        )


@dataclass(frozen=True, slots=True)
class FixedSize(_Settings):
    """Chunks of exactly the average size: fast, and good for what is only ever changed in place."""

    @property
    def name(self) -> str:
        """`fixed`."""
        return "fixed"

    def plan(self, head: bytes, size: int | None, file_extension: str | None = None) -> ChunkPlan:
        """The same for every content."""
        return self._sized(size, self.level, True, "fixed size")

    def chunk_data(
        self, buffer: memoryview, file_extension: str | None = None, plan: ChunkPlan | None = None
    ) -> Iterator[memoryview]:
        """Slices of the average size; the last one may be shorter."""
        step = (plan or self.plan(b"", len(buffer))).avg_size
        for start in range(0, len(buffer), step):
            yield buffer[start : start + step]


@dataclass(frozen=True, slots=True)
class RollingHash(_Settings):
    """FastCDC: cuts where the content says so, so that an insertion moves only the cuts around it."""

    @property
    def name(self) -> str:
        """`rolling-hash`."""
        return "rolling-hash"

    def plan(self, head: bytes, size: int | None, file_extension: str | None = None) -> ChunkPlan:
        """The same for every content."""
        return self._sized(size, self.level, True, "rolling hash")

    def chunk_data(
        self, buffer: memoryview, file_extension: str | None = None, plan: ChunkPlan | None = None
    ) -> Iterator[memoryview]:
        """Slices between the plan's minimum and maximum; the last one may be shorter."""
        return _cut(buffer, plan or self.plan(bytes(buffer[:HEAD_SIZE]), len(buffer), file_extension))


@dataclass(frozen=True, slots=True)
class AssetAware(_Settings):
    """FastCDC with bounds, level and delta chosen by what the file is: by content first, then by extension."""

    @property
    def name(self) -> str:
        """`asset-aware`."""
        return "asset-aware"

    def plan(self, head: bytes, size: int | None, file_extension: str | None = None) -> ChunkPlan:
        """What the first bytes show, then what the extension promises, then whether it is text."""
        known = _by_content(head) or _BY_EXTENSION.get(file_extension or "")
        if known is not None:
            if known.cascades:
                # One change rewrites all that follows, so small chunks find nothing that large ones do not.
                return self._sized(size, min(self.level, 1), False, f"already compressed ({known.name})", coarser=2)
            return self._sized(size, min(self.level, 1), True, f"compressed members ({known.name})")
        if _is_text(head):
            return self._sized(size, self.level, True, "text")
        large = size is not None and size >= _LARGE
        return self._sized(size, self.level, True, "large container" if large else "binary")

    def chunk_data(
        self, buffer: memoryview, file_extension: str | None = None, plan: ChunkPlan | None = None
    ) -> Iterator[memoryview]:
        """Slices between the plan's minimum and maximum; the last one may be shorter."""
        return _cut(buffer, plan or self.plan(bytes(buffer[:HEAD_SIZE]), len(buffer), file_extension))


HEAD_SIZE = 64 << 10
"""How many bytes `plan` wants to see."""

_LARGE = 64 << 20


@dataclass(frozen=True, slots=True)
class _Compressed:
    """A format whose bytes zstd cannot shrink."""

    name: str
    cascades: bool
    """Whether one edit changes the whole rest of the stream; else members stay as they were."""


_JPEG = _Compressed("jpeg", True)
_PNG = _Compressed("png", True)
_GZIP = _Compressed("gzip", True)
_ZSTD = _Compressed("zstd", True)
_XZ = _Compressed("xz", True)
_BZIP2 = _Compressed("bzip2", True)
_SEVEN = _Compressed("7z", True)
_WEBP = _Compressed("webp", True)
_WOFF2 = _Compressed("woff2", True)
_JXL = _Compressed("jpeg xl", True)
_ZIP = _Compressed("zip", False)
_RAR = _Compressed("rar", False)
_MP3 = _Compressed("mp3", False)
_MP4 = _Compressed("mp4", False)
_MATROSKA = _Compressed("matroska", False)
_OGG = _Compressed("ogg", False)
_FLAC = _Compressed("flac", False)
_UNITY = _Compressed("unity bundle", False)

_MAGIC = (
    (re.compile(rb"\xff\xd8\xff"), _JPEG),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), _PNG),
    (re.compile(rb"PK(?:\x03\x04|\x05\x06|\x07\x08)"), _ZIP),
    (re.compile(rb"\x1f\x8b\x08"), _GZIP),
    (re.compile(rb"\x28\xb5\x2f\xfd"), _ZSTD),
    (re.compile(rb"\xfd7zXZ\x00"), _XZ),
    (re.compile(rb"BZh[1-9]1AY&SY"), _BZIP2),
    (re.compile(rb"7z\xbc\xaf\x27\x1c"), _SEVEN),
    (re.compile(rb"Rar!\x1a\x07"), _RAR),
    (re.compile(rb"ID3[\x02-\x04]|\xff[\xfb\xf3\xf2][\x10-\xef]"), _MP3),
    (re.compile(rb"....ftyp", re.DOTALL), _MP4),
    (re.compile(rb"\x1aE\xdf\xa3"), _MATROSKA),
    (re.compile(rb"OggS\x00"), _OGG),
    (re.compile(rb"fLaC"), _FLAC),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), _WEBP),
    (re.compile(rb"wOF2"), _WOFF2),
    (re.compile(rb"\xff\x0a|\x00\x00\x00\x0cJXL \r\n\x87\n"), _JXL),
    (re.compile(rb"Unity(?:FS|Web)\x00"), _UNITY),
)

_BY_EXTENSION = {
    extension: kind
    for kind, extensions in (
        (_JPEG, ".jpg .jpeg"),
        (_GZIP, ".gz .tgz .unitypackage"),
        (_XZ, ".xz .txz"),
        (_BZIP2, ".bz2"),
        (_MP3, ".mp3 .aac"),
        (_MP4, ".mp4 .m4a .m4v .mov .heic .avif"),
        (_OGG, ".ogg .opus .oga .ogv"),
    )
    for extension in extensions.split()
}


def _by_content(head: bytes) -> _Compressed | None:
    return next((kind for pattern, kind in _MAGIC if pattern.match(head)), None)


def _is_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    try:
        head.decode()
    except UnicodeDecodeError as error:
        # The head may end inside a character.
        return error.start >= len(head) - 3 and error.reason == "unexpected end of data"
    return True


class _PerThread(threading.local):
    """pyfastcdc wants one cutter per thread."""

    def __init__(self) -> None:
        self.cutters: dict[tuple[int, int, int], FastCDC] = {}


_per_thread = _PerThread()


def _cut(buffer: memoryview, plan: ChunkPlan) -> Iterator[memoryview]:
    if not buffer:
        return
    bounds = plan.min_size, plan.avg_size, plan.max_size
    cutter = _per_thread.cutters.get(bounds)
    if cutter is None:
        from pyfastcdc import FastCDC

        cutter = FastCDC(plan.avg_size, min_size=plan.min_size, max_size=plan.max_size)
        _per_thread.cutters[bounds] = cutter
    for chunk in cutter.cut_buf(buffer):
        yield chunk.data
