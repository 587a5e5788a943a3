"""Texts that say the same in nearly the same words, found together.

A text is the set of its words, in small letters, without accents, without the endings that English words take, and
without words that say nothing (`_EMPTY`). Of scripts without spaces it is pairs of characters. Two texts are alike when
they have at least half of all their words in common, and both or neither deny something (`_NOT`). The text that most
people wrote leads a group, and others join the leader that they are most alike: nobody joins by way of a third.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from gitvault.personas.game.feedback import Feedback

LEAST = 0.5
_TEXT = 2_000
"""Characters that are looked at."""
_MOST = 20_000
"""Records that are compared, the first that are given."""
_LED = 50
"""So many groups are found by a word, the largest: of what thousands say, else all would be compared with all."""
_WORD = re.compile(r"\w+")
_ENDING = re.compile(r"(?<=\w{3})(?:ing|ed|es|s|e)$")
_UNSPACED = re.compile("[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]")
# As they are written without apostrophes and accents.
_EMPTY = frozenset(
    _WORD.findall(
        "a an the this that these those it its i im ive my me we our you your he she they there is are was were be been"
        " am has have had do does did will would can could should and or but so too very just really way pretty quite"
        " please pls plz to of in on at for from with when while as by if then than also some any get got"
        " der die das den dem ein eine einen ist sind war ich mein meine wir und oder aber zu viel sehr im auf bei mit"
        " le la les l un une des du de est sont je mon ma mes et ou mais trop tres dans sur avec"
        " el los las una uno es son mi y o pero muy demasiado en con os um uma e eu meu minha mas muito il lo gli"
    )
)

_NOT = frozenset(
    _WORD.findall(
        "not no never without cant cannot dont doesnt didnt isnt wasnt arent wont wouldnt couldnt shouldnt hasnt havent"
        " nicht kein keine nie ohne pas jamais sans nunca sin nao non senza"
    )
)


@dataclass(frozen=True, slots=True)
class Group:
    """Records that say the same."""

    text: str
    """In the words that most used."""
    players: int
    """Distinct ones; a record of nobody counts as one."""
    records: tuple[Feedback, ...]
    """That with the text first, then in the order in which they were given."""


def groups(records: Iterable[Feedback]) -> list[Group]:
    """Records by what they say, the most players first; no sessions, events and what has no words. Of more than
    20,000 the first.
    """
    spoken = (one for one in records if one.text and one.kind not in ("event", "session"))
    said = list(islice(spoken, _MOST))
    found = []
    for places in alike([one.text for one in said]):
        members = tuple(said[place] for place in places)
        players = len({one.player or one.id for one in members})
        found.append(Group(members[0].text, players, members))
    return sorted(found, key=lambda one: (-one.players, -len(one.records)))


def alike(texts: Sequence[str], least: float = LEAST) -> list[list[int]]:
    """Groups of places in `texts`, the leader's first, the largest group first; a text without words is in none."""
    same: dict[frozenset[str], list[int]] = {}
    for place, text in enumerate(texts):
        if found := words(text):
            same.setdefault(found, []).append(place)
    spread = Counter(word for found in same for word in found)
    leaders: dict[str, list[frozenset[str]]] = {}
    joined: dict[frozenset[str], list[int]] = {}
    for found in sorted(same, key=lambda one: (-len(same[one]), same[one][0])):
        # Two that are alike share one of so many of each one's words; of the rarest, which few others have.
        rare = sorted(found, key=lambda word: (spread[word], word))[: len(found) - int(least * len(found) - 1e-9)]
        near = dict.fromkeys(leader for word in rare for leader in leaders.get(word, ())[:_LED])
        best, leader = max(((_share(found, one), one) for one in near), key=_first, default=(0.0, found))
        if best >= least:
            joined[leader] += same[found]
            continue
        joined[found] = list(same[found])
        for word in rare:
            leaders.setdefault(word, []).append(found)
    return sorted(joined.values(), key=lambda group: (-len(group), group[0]))


def words(text: str) -> frozenset[str]:
    """The words of a text as they are compared; all of them where none says anything."""
    plain = unicodedata.normalize("NFKD", text[:_TEXT].casefold().replace("'", "").replace("\u2019", ""))
    found = _WORD.findall("".join(char for char in plain if not unicodedata.combining(char)))
    return frozenset(_compared(word for word in found if word not in _EMPTY)) or frozenset(found)


def _compared(found: Iterable[str]) -> Iterator[str]:
    for word in found:
        if _UNSPACED.search(word):
            yield from (word[at : at + 2] for at in range(max(1, len(word) - 1)))
        else:
            yield _ENDING.sub("", word)


def _share(a: frozenset[str], b: frozenset[str]) -> float:
    """What both have of what either has; of which one denies and the other does not, nothing."""
    return len(a & b) / len(a | b) if a.isdisjoint(_NOT) == b.isdisjoint(_NOT) else 0.0


def _first(pair: tuple[float, frozenset[str]]) -> float:
    return pair[0]
