"""What is on its way: who may begin, who waits, and how it ends."""

from __future__ import annotations

import threading

import pytest

from gitvault.core.versioning.arrivals import Arrivals
from gitvault.errors import RemoteUnreachable


def test_a_folder_lacks_something_until_its_last_pack_is_here() -> None:
    arrivals = Arrivals([b"a", b"a/b", b"c"], 30)
    assert arrivals.objects == 30
    assert arrivals.number < 0
    assert [arrivals.lacks(folder) for folder in (b"a", b"a/b", b"c", b"other")] == [True, True, True, False]
    arrivals.expect({b"a/b": 1, b"c": 3})
    assert [arrivals.lacks(folder) for folder in (b"a", b"a/b", b"c")] == [False, True, True]
    arrivals.come(2)
    arrivals.come(1)
    assert arrivals.number == 2
    assert [arrivals.lacks(folder) for folder in (b"a/b", b"c")] == [False, True]
    arrivals.end()
    assert not arrivals.lacks(b"c")


def test_who_waits_hears_of_the_first_that_is_whole() -> None:
    arrivals = Arrivals([b"a", b"b"], 2)

    def bring() -> None:
        arrivals.expect({b"a": 2, b"b": 3})
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
    arrivals = Arrivals([b"a"], 1)
    arrivals.end(RemoteUnreachable("the cable"))
    arrivals.end(RemoteUnreachable("later"))
    with pytest.raises(RemoteUnreachable, match="the cable"):
        arrivals.wait([b"a"])
    with pytest.raises(RemoteUnreachable, match="the cable"):
        arrivals.lacks(b"a")
