"""zstd frames: alone, or coded against a dictionary of earlier bytes. Safe to call from several threads."""

from __future__ import annotations

import threading
from functools import cache
from typing import TYPE_CHECKING, Any

from gitvault.errors import CorruptionError

try:
    from isal.isal_zlib import crc32
except ImportError:  # as in versioning/packfile
    from zlib import crc32

if TYPE_CHECKING:
    import zstandard

# Bytes; of a shorter dictionary a library makes none, and there is nothing to gain.
_LEAST = 9


class _PerThread(threading.local):
    """Contexts are expensive to make and must not be shared by two threads at once."""

    def __init__(self) -> None:
        self.compressors: dict[int, zstandard.ZstdCompressor] = {}
        self.decompressor: zstandard.ZstdDecompressor | None = None


_per_thread = _PerThread()


def compress(data: bytes | memoryview, level: int, dictionary: bytes = b"") -> bytes:
    """One frame that declares its length and has a checksum, so that `zstd -t` finds damage.

    With a dictionary: `zstd -d --patch-from` decodes it.
    """
    import zstandard

    if len(dictionary) < _LEAST:
        compressor = _per_thread.compressors.get(level)
        if compressor is None:
            compressor = _per_thread.compressors[level] = zstandard.ZstdCompressor(level=level, write_checksum=True)
        return compressor.compress(data)
    level = max(level, 3)
    prefixed = _prefixed()
    window_log = max(18, (len(dictionary) + len(data)).bit_length())
    parameter = prefixed.CompressionParameter
    options = {parameter.compression_level: level, parameter.window_log: window_log, parameter.checksum_flag: 1}
    if level == 3:
        # The default tables of level 3 forget the front of a 1 MiB dictionary: with 20 edits in 1 MiB, 142,000 bytes
        # instead of 1,457. An eighth of its length is enough, 157 MB/s; a half (hash_log 20) costs half the speed.
        # Higher levels search chains, which small tables cut short: 124 MB of edits became 15.1 MB at level 3, 14.1 at
        # 9, 13.1 at 17; with the tables of level 3 it was 23.0 at 9.
        hash_log = max(17, (len(dictionary) - 1).bit_length() - 3)
        options |= {parameter.hash_log: hash_log, parameter.chain_log: hash_log - 1}
    # As a prefix, which is for one frame: a dictionary is read as if for many, and took 2.7 times as long in all.
    prefix = prefixed.ZstdDict(dictionary, is_raw=True).as_prefix
    frame: bytes = prefixed.compress(data, options=options, zstd_dict=prefix)
    return frame


@cache
def _prefixed() -> Any:
    """The library that knows prefixes: zstandard does not."""
    try:
        from compression import zstd
    except ImportError:  # before Python 3.14
        from backports import zstd
    return zstd


def check(frame: bytes, length: int, dictionary: bytes = b"") -> None:
    """What cannot be read back was not stored: raises CorruptionError unless the frame decodes, checksum and all.

    Its checksum is of what was compressed, so the two need not be compared.
    """
    try:
        decompress(frame, length, dictionary)
    except CorruptionError as error:
        raise CorruptionError("a frame does not decode to what was compressed; check this machine's memory") from error


def checksum(frame: bytes) -> int:
    """CRC-32 of a frame as it is stored: a copy that has that of one that was checked is as good.

    What zstd itself compares is of 32 bits too. 15 GB/s; decoding 4.5 GB and comparing the hashes of the chunks was a
    quarter of a first push.
    """
    return crc32(frame)


def decompress_up_to(frame: bytes, limit: int) -> bytes:
    """As `decompress`, where only the frame knows its length: at most `limit` bytes."""
    declared = _declared(frame)
    if not 0 <= declared <= limit:
        raise CorruptionError(f"frame: at most {limit} bytes expected, it declares {declared}; run git-vault verify")
    return decompress(frame, declared)


def decompress(frame: bytes, length: int, dictionary: bytes = b"") -> bytes:
    """The frame's `length` bytes. Raises CorruptionError when the frame is damaged or declares another length.

    Nothing is allocated before the lengths agree: a 32 KB frame can claim to be 1 GiB.
    """
    import zstandard

    declared = _declared(frame)
    if declared != length:
        raise CorruptionError(f"frame: expected {length} bytes, it declares {declared}; run git-vault verify")
    try:
        if dictionary:
            raw = zstandard.ZstdCompressionDict(dictionary, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
            decompressor = zstandard.ZstdDecompressor(dict_data=raw)
        else:
            decompressor = _per_thread.decompressor or zstandard.ZstdDecompressor()
            _per_thread.decompressor = decompressor
        return decompressor.decompress(frame, max_output_size=length, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CorruptionError(f"frame: {error}; run git-vault verify --data") from error


def _declared(frame: bytes) -> int:
    import zstandard

    try:
        return zstandard.get_frame_parameters(frame).content_size
    except zstandard.ZstdError as error:
        raise CorruptionError(f"frame: {error}; run git-vault verify --data") from error
