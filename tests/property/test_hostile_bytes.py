"""Whatever bytes a parser is given: an answer, or an error that says so; see tests/fuzzing.py for more of it."""

from __future__ import annotations

import random

import fuzzing
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

# Of each of a hundred parsers, several times: more of it is for the deep run, and for atheris.
FEW = settings(max_examples=settings.default.max_examples // 4)


@pytest.mark.parametrize("name", fuzzing.TARGETS)
@FEW
@given(st.randoms(use_true_random=False))
def test_what_resembles_sound_bytes(name: str, rng: random.Random) -> None:
    target = fuzzing.TARGETS[name]
    data = rng.choice(target.seeds)
    for _ in range(3):
        data = fuzzing.mutate(rng, data)
        fuzzing.feed(target, data)


@pytest.mark.parametrize("name", fuzzing.TARGETS)
@FEW
@given(st.binary(max_size=300))
def test_any_bytes(name: str, data: bytes) -> None:
    fuzzing.feed(fuzzing.TARGETS[name], data)


@pytest.mark.parametrize("name", fuzzing.TARGETS)
def test_what_is_nested_long_or_was_too_much_once(name: str) -> None:
    target = fuzzing.TARGETS[name]
    for data in (b"", b"[" * 100_000, b"9" * 5000, b"\xff" * 2000, *target.found):
        fuzzing.feed(target, data)


@pytest.mark.parametrize("name", fuzzing.TARGETS)
def test_sound_bytes_are_read(name: str) -> None:
    """Else the tests above would show nothing."""
    for seed in fuzzing.TARGETS[name].seeds:
        fuzzing.TARGETS[name].run(seed)
