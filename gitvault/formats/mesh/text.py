"""Numbers in text, in bulk."""

from __future__ import annotations

import warnings

import numpy as np

from gitvault.formats.mesh.model import Floats, Ints


def numbers(text: bytes) -> Floats:
    """The numbers in a text, separated by white space, as far as they go: compare their count. Raises ValueError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return np.fromstring(text, sep=" ")
        except ValueError:
            raise ValueError("there is something else where numbers should be") from None


def words_per_line(text: bytes) -> Ints:
    """How many words each line has; every line has its end."""
    letters = np.frombuffer(text, dtype=np.uint8)
    is_space = letters <= 32
    begins = ~is_space
    begins[1:] &= is_space[:-1]
    before_end = np.searchsorted(np.flatnonzero(begins), np.flatnonzero(letters == 10))
    return np.diff(before_end, prepend=0)
