"""Spikes: which troubles more players have in one build than those before it let expect.

Reports come in bursts: one player sends a hundred, a video sends a thousand players. So distinct players are counted,
held against how much the build was played, and the builds before say how far such counts scatter on their own: a
negative binomial, not a Poisson. Of thousands of signatures some are high by chance; Benjamini-Hochberg keeps their
share of what is told below `rate`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

RATE = 0.05
"""The share of false alarms that is allowed among spikes."""
WINDOW = 10
"""So many builds before are looked at: what a game was a year ago says little."""
_FEWEST = 3
"""Players; fewer are an anecdote."""
_PRIOR = 0.5
"""Players that a signature nobody met yet is taken to have had: between none and one."""
# What the scatter between builds is taken for until the builds say more, as the square of the relative deviation.
_SCATTER, _SCATTER_WEIGHT = 0.1, 20.0
_CLEAR = 0.2
"""A chance above this is no spike, however it is computed."""
# Gauss-Hermite quadrature for a standard normal, 12 nodes: the mean over a rate that is known to a factor only.
_NODES = tuple(
    (sign * node, weight)
    for node, weight in (
        (0.444403001944, 0.321664361513),
        (1.340375197152, 0.146967048045),
        (2.259464451001, 0.0291166879124),
        (3.22370982877, 0.00220338068753),
        (4.271825847932, 4.83718492259e-05),
        (5.500901704468, 1.49992716764e-07),
    )
    for sign in (1, -1)
)


@dataclass(frozen=True, slots=True)
class Spike:
    """A signature that rose from one build to the next."""

    sig: str
    builds: tuple[str, str]
    """The build before, and the one in which it rose."""
    players: int
    """Distinct players who met it in the latter."""
    before: float
    after: float
    """Players who met it per 1,000 of what `exposure` counts: over the builds before, and in this one."""
    q: float
    """The share of false alarms among all that are at least as striking."""


@dataclass(frozen=True, slots=True)
class Played:
    """A build, and how much it was played."""

    build: str
    exposure: float
    """Sessions, hours or players: the same for all builds."""


def spikes(
    counts: Mapping[str, Sequence[int]],
    builds: Sequence[Played],
    *,
    rate: float = RATE,
    only: str | None = None,
) -> list[Spike]:
    """What rose, the most striking first; at most `rate` of it false alarms.

    `counts`: by signature the distinct players who met it in each of `builds`, oldest first. `only`: in this build.
    """
    tried: list[tuple[float, int, str]] = []
    scatter = _scatter(counts, builds)
    total = sum(sum(row) for row in counts.values())
    # What a signature that nobody met yet may be expected to be.
    mean = total / (len(counts) * sum(one.exposure for one in builds)) if total else 0.0
    for number in range(1, len(builds)):
        if only not in (None, builds[number].build) or builds[number].exposure <= 0:
            continue
        first = max(0, number - WINDOW)
        played = sum(one.exposure for one in builds[first:number])
        if played <= 0:
            continue
        for sig, row in counts.items():
            seen = sum(row[first:number])
            # By the sum of both, which says nothing of how it divides: else the filter would spoil the rate.
            if seen + row[number] < _FEWEST:
                continue
            alpha = seen + _PRIOR
            expected = builds[number].exposure * alpha / (played + _PRIOR / mean)
            # The builds before scatter as well, and so does what is expected because of them.
            doubt = 1 / alpha + scatter * sum(one.exposure**2 for one in builds[first:number]) / played**2
            tried.append((_chance(row[number], expected, scatter, doubt), number, sig))
    found = []
    for (_, number, sig), q in zip(tried, adjusted([p for p, *_ in tried]), strict=True):
        if q <= rate and counts[sig][number] >= _FEWEST:
            first = max(0, number - WINDOW)
            played = sum(one.exposure for one in builds[first:number])
            found.append(
                Spike(
                    sig,
                    (builds[number - 1].build, builds[number].build),
                    counts[sig][number],
                    round(1000 * sum(counts[sig][first:number]) / played, 3),
                    round(1000 * counts[sig][number] / builds[number].exposure, 3),
                    float(f"{q:.3g}"),
                )
            )
    return sorted(found, key=lambda one: (one.q, -one.after, one.sig))


def _chance(count: int, expected: float, scatter: float, doubt: float) -> float:
    """The chance of at least so many, where the rate itself is known with that relative variance only."""
    chance = upper_tail(count, expected, 1 / (scatter + doubt))
    if chance > _CLEAR:
        return chance
    # A gamma would fit the middle; its tail is too thin for thousands of signatures.
    spread = math.sqrt(math.log1p(doubt))
    return sum(
        weight * upper_tail(count, expected * math.exp(spread * node - spread**2 / 2), 1 / scatter)
        for node, weight in _NODES
    )


def upper_tail(count: int, mean: float, size: float) -> float:
    """The chance that a negative binomial of that mean, its variance `mean + mean**2 / size`, reaches `count`."""
    if count <= 0:
        return 1.0
    if mean <= 0:
        return 0.0
    return _beta(mean / (mean + size), count, size)


def adjusted(chances: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg's q of each p."""
    order = sorted(range(len(chances)), key=lambda number: -chances[number])
    found = [0.0] * len(chances)
    lowest = 1.0
    for rank, number in zip(range(len(chances), 0, -1), order, strict=True):
        lowest = min(lowest, chances[number] * len(chances) / rank)
        found[number] = lowest
    return found


def _scatter(counts: Mapping[str, Sequence[int]], builds: Sequence[Played]) -> float:
    """How far rates scatter between builds beyond chance: the square of the relative deviation.

    Without the fiftieth of signatures that scatters most: the spikes that are looked for must not hide themselves.
    """
    played = sum(one.exposure for one in builds)
    if played <= 0 or len(builds) < 3:
        return _SCATTER
    found = []
    for row in counts.values():
        total = sum(row)
        # Of fewer nothing can be seen.
        if total < 3 * len(builds):
            continue
        over = square = 0.0
        for count, one in zip(row, builds, strict=True):
            expected = total * one.exposure / played
            over += (count - expected) ** 2 - expected
            square += expected**2
        # The total is fitted: one degree of freedom.
        found.append(max(0.0, over / square * len(builds) / (len(builds) - 1)))
    kept = sorted(found)[: len(found) - len(found) // 50]
    return (sum(kept) + _SCATTER * _SCATTER_WEIGHT) / (len(kept) + _SCATTER_WEIGHT)


def _beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function, by Lentz's continued fraction."""
    if x >= 1:
        return 1.0
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    # It converges fast on this side of the mean only.
    if x > (a + 1) / (a + b + 2):
        return max(0.0, 1 - front * _fraction(1 - x, b, a) / b)
    return min(1.0, front * _fraction(x, a, b) / a)


def _fraction(x: float, a: float, b: float) -> float:
    tiny = 1e-300
    c, d = 1.0, 1 / _off_zero(1 - (a + b) * x / (a + 1), tiny)
    found = d
    for m in range(1, 10_000):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _off_zero(1 + term * d, tiny)
            c = _off_zero(1 + term / c, tiny)
            found *= c * d
        if abs(c * d - 1) < 1e-12:
            break
    return found


def _off_zero(value: float, tiny: float) -> float:
    return value if abs(value) > tiny else tiny
