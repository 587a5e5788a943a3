"""Hostile files are read in a process of its own, with limits."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gitvault.errors import NotFoundError, UnsupportedMedia
from gitvault.formats.confined import SECONDS, Confined

READERS = """
import os, time
from gitvault.errors import NotFoundError
from gitvault.formats import Element
def element(path): print("noise"); return [Element("1", path, "layer", None, "00")]
def sleep(path): time.sleep(60)
def crash(path): os._exit(1)
def eat(path): return len(bytearray(1 << 40))
def refuse(path): raise NotFoundError("nothing there")
def stumble(path): raise ValueError("bad\\nheader")
"""


@pytest.fixture
def readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "readers_of_a_test.py").write_text(READERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "readers_of_a_test:"


def test_records_come_back_as_dicts_and_what_a_library_prints_is_no_answer(readers: str) -> None:
    with Confined() as child:
        [found] = child.call(readers + "element", "a.psd")
    assert found == {"id": "1", "name": "a.psd", "kind": "layer", "parent": None, "hash": "00"}


def test_what_ends_the_reader_is_said_and_the_next_file_is_read(readers: str) -> None:
    with Confined() as child:
        with pytest.raises(UnsupportedMedia, match=r"^big\.psd: the process that read it ended; .*saved"):
            child.call(readers + "crash", "/x/big.psd")
        assert SECONDS > 0.5
        with pytest.raises(UnsupportedMedia, match=r"^big\.psd: not read within 0\.5 seconds"):
            child.call(readers + "sleep", "/x/big.psd", seconds=0.5)
        assert len(child.call(readers + "element", "next.psd")) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on memory there")
def test_more_memory_than_it_may_have_is_refused(readers: str) -> None:
    with Confined(memory=1 << 30) as child, pytest.raises(UnsupportedMedia, match="MemoryError"):
        child.call(readers + "eat", "bomb.png")


def test_errors_of_ours_keep_their_kind_and_those_of_libraries_become_a_line(readers: str) -> None:
    with Confined() as child:
        with pytest.raises(NotFoundError, match=r"^nothing there$"):
            child.call(readers + "refuse", "a.psd")
        with pytest.raises(UnsupportedMedia, match=r"^a\.psd: cannot be read: ValueError: bad header; its bytes"):
            child.call(readers + "stumble", "a.psd")


def test_threads_take_turns_and_each_gets_its_own_answer(readers: str) -> None:
    names = [f"{number}.psd" for number in range(50)]
    with Confined() as child, ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda name: child.call(readers + "element", name)[0]["name"], names))
    assert found == names
