"""Numbers that documents promise or that other versions of gitvault rely on."""

from __future__ import annotations

from gitvault import config
from gitvault.core import chunking
from gitvault.core.storage import appender, deltas, intake, packs, store
from gitvault.core.versioning import objects, packreader, repack
from gitvault.vault import WHOLE_LIMIT

MIB = 1 << 20


def test_the_borders_of_the_chunk_store() -> None:
    assert WHOLE_LIMIT == 16 * MIB
    assert packs.MAX_CHUNK >= chunking.MAX_MAX_SIZE == 16 * MIB
    assert appender.PACK_SIZE == 64 * MIB
    assert intake.RUN_SIZE == MIB
    assert chunking.HEAD_SIZE < store.WINDOW == 8 * MIB


def test_chains_of_deltas_stay_short() -> None:
    assert (deltas.MAX_DEPTH, deltas.MAX_DEPTH_LARGE) == (16, 8)


def test_what_is_read_whole_is_bounded() -> None:
    assert config.LONGEST == MIB
    assert objects.LONGEST_PATH == 1 << 16, "longer than any system's, shorter than what would cost anything"


def test_what_git_calls_its_kinds() -> None:
    assert objects.KIND_CODES == {b"commit": 1, b"tree": 2, b"blob": 3, b"tag": 4}


def test_sizes_are_bounded_before_anything_is_allocated() -> None:
    assert packreader.MAX_OBJECT > WHOLE_LIMIT
    assert repack.BIG_PACK > packreader.MAX_OBJECT // 2
