"""One look at a project's checkouts. All that can read one is imported here; who remembers them needs none of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.vcs import git_state, hg_state, others, svn_state
from gitvault.vcs.find import Finder, checkout_at
from gitvault.vcs.state import Asking, Checkout, State

if TYPE_CHECKING:
    from gitvault.core.interfaces import Rules

_CHECKOUTS = 1000
"""Looked at in one project."""


def look(root: Path, rules: Rules, asking: Asking, known: Mapping[Path, State]) -> tuple[list[State], int]:
    """The states of a project's checkouts, and how many of its files are in none.

    `known`: states of checkouts that need not be looked at.
    """
    finder = Finder(root, rules)
    loose = 0
    pending: list[Checkout] = []
    if top := checkout_at(root):
        pending.append(top)
    else:
        for found in finder.look():
            if isinstance(found, Checkout):
                pending.append(found)
            else:
                loose += 1
    states: list[State] = []
    seen: set[Path] = set()
    while pending and len(states) < _CHECKOUTS:
        checkout = pending.pop(0)
        if checkout.path not in seen:
            seen.add(checkout.path)
            states.append(known.get(checkout.path) or read_state(checkout, finder, asking))
            pending.extend(states[-1].nested)
    return states, loose


def read_state(checkout: Checkout, finder: Finder, asking: Asking) -> State:
    """What of a checkout exists only here, whatever version control it is of; never raises for what is on disk."""
    if checkout.vcs == "git":
        return git_state.state(checkout, finder, asking)
    if checkout.vcs == "hg":
        return hg_state.state(checkout, finder, asking)
    if checkout.vcs == "svn":
        return svn_state.state(checkout, finder, asking)
    return others.state(checkout)
