"""What is on its way: who may begin, who waits, and how it ends."""

from __future__ import annotations

import threading

import pytest

from gitvault.core.versioning.arrivals import Arrivals
from gitvault.errors import RemoteUnreachable


def test_a_folder_lacks_something_until_its_last_pack_is_here() -> None:
    arrivals = Arrivals()
    assert (arrivals.objects, arrivals.changes) == (0, 0)
    assert arrivals.lacks(b"a"), "nobody knows yet"
    arrivals.expect({b"a": 0, b"a/b": 1, b"c": 3}, 30)
    assert (arrivals.objects, arrivals.changes) == (30, 1)
    assert [arrivals.lacks(folder) for folder in (b"a", b"a/b", b"c", b"other")] == [False, True, True, True]
    arrivals.come(2)
    arrivals.come(1)
    assert arrivals.changes == 3
    assert [arrivals.lacks(folder) for folder in (b"a/b", b"c")] == [False, True]
    arrivals.expect({b"other": 2}, 4)
    assert arrivals.objects == 34
    assert not arrivals.lacks(b"other")
    arrivals.end()
    assert not arrivals.lacks(b"c")
    assert not arrivals.lacks(b"never told of")


def test_who_waits_hears_of_the_first_that_is_whole() -> None:
    arrivals = Arrivals()

    def bring() -> None:
        arrivals.expect({b"a": 2, b"b": 3}, 2)
        arrivals.come(1)
        arrivals.come(2)

    with_packs = threading.Thread(target=bring)
    with_packs.start()
    arrivals.wait([b"b", b"a"])
    with_packs.join()
    assert (arrivals.lacks(b"a"), arrivals.lacks(b"b")) == (False, True)
    arrivals.end()
    arrivals.wait([b"b"])


def test_the_error_that_ends_it_reaches_who_waits_and_the_first_counts() -> None:
    arrivals = Arrivals()
    arrivals.end(RemoteUnreachable("the cable"))
    arrivals.end(RemoteUnreachable("later"))
    with pytest.raises(RemoteUnreachable, match="the cable"):
        arrivals.wait([b"a"])
    with pytest.raises(RemoteUnreachable, match="the cable"):
        arrivals.lacks(b"a")


def test_the_order_of_the_large_files_is_waited_for_and_the_first_counts() -> None:
    arrivals = Arrivals()
    told: list[dict[str, int]] = []
    waits = threading.Thread(target=lambda: told.append(dict(arrivals.order())))
    waits.start()
    waits.join(0.05)
    assert not told
    arrivals.plan(["second", "first"])
    waits.join(60)
    assert told == [{"second": 0, "first": 1}]
    arrivals.plan(())
    assert arrivals.order() == told[0]
