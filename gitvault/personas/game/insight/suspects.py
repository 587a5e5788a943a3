"""Suspects: which changes between two builds may have caused what players report, the likeliest first, with reasons.

Evidence is what reports name: functions and files of stacks, scenes, assets by path or number, settings, words. It is
held against what each change touched. Every piece adds its weight, and the reason says which it was.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher

from gitvault.core.utils.kinds import kind_of
from gitvault.core.utils.names import to_line, to_text
from gitvault.personas.game.insight.clues import Clues, pairs, plain, words
from gitvault.personas.game.insight.places import Line, Place, lines_of, places_of, same_end
from gitvault.personas.game.insight.signatures import plain_function
from gitvault.personas.game.insight.touched import Change, Fate, Read, Touched, counterparts, references, touched
from gitvault.personas.game.insight.translations import translations

# What each kind of evidence weighs. Fitted by hand on the breakages of docs/insight.md.
_STACK = 7.0
_TOUCHED_FUNCTION, _TOUCHED_LINE = 6.0, 5.0
_NAMED = 12.0
_GONE = 4.0
_FATES = {Fate.UNDEFINED: 10.0, Fate.WENT: 7.0, Fate.TOUCHED: 3.0}
_VICTIM = 0.6
"""Of the stack's weight, where a message says that a name is not there: who uses it did not take it away."""
_STILL_NAMED = 0.4
"""Of the weight of such a name in what only uses it."""
_OWNER = 7.0
"""Of what the message says lacks it."""
_CALLED = 5.0
"""Of a function that the stack's line calls."""
_ON_THE_LINE = 0.9
"""Of a name's weight, where the report does not say it but the line of code that its stack names."""
_ALSO_THERE = 0.5
"""Of that, where the message names what is not there."""
_CLASS_ON_THE_LINE = 6.0
_NAMED_LIKE = 4.0
"""Where a name on that line has all words of the file's."""
_ALIKE, _RENAMED = 0.7, 8.0
"""How alike a name that came is to one that is not there, where nobody took that away; what it weighs."""
_WORD_IN_PATH, _WORD_IN_CHANGE, _WORD_OF_THE_LINE = 4.0, 2.0, 1.5
_WORD_OF_A_NUMBER = 3.5
"""Where nothing but numbers is another in its line."""
_PAIR_IN_PATH, _PAIR_IN_CHANGE = 2.5, 2.0
"""Of two words that follow each other in a report and there."""
_LOST = 3.0
"""Of what was deleted, where a report misses something."""
_WORD_OF_AN_AMOUNT = 2.0
"""Where a line that came gives a number to what has it in its name, and the report is of too much or too little."""
_OF_A_FOLDER, _OF_PART_OF_A_NAME = 0.7, 0.75
_WHOLLY_NEW = 0.8
"""Of words in a file that was not there before: it did not break what worked."""
_NEIGHBOUR, _USES = 4.0, 0.75
"""What is used breaks what uses it; the other way round less often."""
_SETS = 2.0
"""Of what uses it, where a message says that it was to be set there."""
_SCENE, _IN_SCENE, _WANTS_IT = 5.0, 2.5, 2.5
_TOPIC = 1.0
_RECENT = 0.5
_OUTSIDE = 0.5
"""Of all, where a file is not what is played."""
_TRANSLATED = 0.4
"""Of words in a file of texts in some language, where no report is of texts."""
_TEXTS = 2.0
"""Of the texts that others are translated from, where one is."""
_WORD_AROUND = 0.8
"""In lines that are as they were, beside those that changed, and in the names of functions in which these are."""
_PLAIN = {"code": 0.6, "text": 0.4, "image": 0.1, "audio": 0.1, "model": 0.2}

_SCENES = (b".tscn", b".scn", b".unity", b".umap", b".prefab", b".tmx", b".ldtk")
_SETTINGS = (b"project.godot", b"manifest.json", b"game.uproject")
_ASSETS = ("image", "audio", "video", "model", "font", "archive")
_BESIDE = (b".md", b".rst", b".meta", b".import", b".uid", b".sln", b".csproj", b".yml")
_PAPERS = (b"readme", b"license", b"licence", b"changelog", b"credits", b"authors", b"copying", b".git")
_FOLDERS = frozenset((b"test", b"tests", b"doc", b"docs", b"editor", b".github", b"documentation"))
_ASSET_ENDINGS = (b".tres", b".res", b".asset", b".mat", b".anim", b".controller", b".uasset", b".shader", b".gdshader")


@dataclass(frozen=True, slots=True)
class Suspect:
    """A change, and why it may be the cause."""

    path: bytes
    state: str
    score: float
    reasons: tuple[str, ...]
    """The strongest first."""

    @property
    def kind(self) -> str:
        """`scene`, `setting`, `asset` or `file`."""
        name = self.path.rpartition(b"/")[2].lower()
        if name.endswith(_SCENES):
            return "scene"
        if name in _SETTINGS or name.endswith((b".ini", b".cfg")) or b"ProjectSettings/" in self.path:
            return "setting"
        return "asset" if kind_of(name) in _ASSETS or name.endswith(_ASSET_ENDINGS) else "file"


@dataclass(slots=True)
class _Scored:
    """A change with the evidence against it."""

    change: Change
    touched: Touched
    made_of: bytes
    """The file that was there before: itself, where it was moved from, or one that went; empty for none."""
    path_words: set[str]
    scores: list[tuple[float, str]] = field(default_factory=list)

    def add(self, score: float, reason: str) -> None:
        self.scores.append((score, reason))


@dataclass(frozen=True, slots=True)
class _Counts:
    """How many changes have a name or a word: the rarer, the more it says."""

    changes: int
    names: Counter[str]
    losses: Counter[str]
    """Names that went, and came nowhere else."""
    undefined: Counter[str]
    """Of these, where the definition went."""
    made: Counter[str]
    """Names that are defined and were not."""
    moved: set[str]
    """Names that went in one file and are defined in another that did not before."""
    words: Counter[str]
    path_words: Counter[str]
    around: Counter[str]

    @staticmethod
    def of(seen: Sequence[_Scored]) -> _Counts:
        made = {name for one in seen for name in one.touched.made}
        fates = [(name, fate) for one in seen for name, fate in one.touched.names.items()]
        moved = {name for name, fate in fates if fate > Fate.TOUCHED and name in made}
        return _Counts(
            len(seen),
            Counter(name for name, _ in fates),
            Counter(name for name, fate in fates if fate > Fate.TOUCHED and name not in moved),
            Counter(name for name, fate in fates if fate is Fate.UNDEFINED and name not in moved),
            Counter(name for one in seen for name in one.touched.made),
            moved,
            Counter(word for one in seen for word in one.touched.words),
            Counter(word for one in seen for word in one.path_words),
            Counter(word for one in seen for word in one.touched.around),
        )

    def fate(self, one: _Scored, name: str) -> Fate | None:
        found = one.touched.names.get(name)
        return Fate.TOUCHED if found and name in self.moved else found

    def rare(self, count: int) -> float:
        """1 for what one of many changes has, towards 0 for what all have."""
        of = self.changes
        return max(0.05, math.log((of + 1) / max(count, 1)) / math.log(of + 1)) if of > 1 else 1.0


def suspects(
    told: Clues,
    changes: Sequence[Change],
    older: Read,
    newer: Read,
    *,
    topics: Mapping[str, Iterable[str]] | None = None,
    numbers: Mapping[str, bytes] | None = None,
    others: Sequence[bytes] = (),
) -> list[Suspect]:
    """The changes, the likeliest first, all of them.

    `topics`: words with the endings of files that they are about. `numbers`: the paths of assets by Unity's GUID.
    `others`: files that did not change, through which a change may reach what is named.
    """
    came_from = counterparts(changes, older, newer)
    # What a file lost of which another was made is told by that one.
    went_on = set(came_from.values())
    seen = []
    for change in changes:
        source = came_from.get(change.path, b"")
        before = (lambda _: b"") if change.path in went_on else older
        made_of = source or change.source or (change.path if change.state != "added" else b"")
        seen.append(_Scored(change, touched(change, source, before, newer), made_of, words(to_text(change.path))))
    present = [*(one.change.path for one in seen if one.change.state != "deleted"), *others]
    places = places_of(told.frames, present, [one.change.path for one in seen if one.change.state == "deleted"])
    lines = list(lines_of(places, newer))
    counts = _Counts.of(seen)
    texts = translations({*present, *(one.change.path for one in seen)})
    judged = [one for one in seen if one.change.path not in went_on]
    for one in seen:
        _by_name(told, one, numbers or {})
    for one in judged:
        _by_stack(told, one, places.get(one.change.path, ()))
        _by_identifier(told, lines, one, counts)
        _by_words(told, lines, one, counts, in_texts=one.change.path in texts)
        if told.is_text and texts.get(one.change.path):
            one.add(_TEXTS, "texts, which the reports are of")
    _by_topic(told, judged, topics or {}, counts)
    _by_neighbours(told, seen, places, present, newer, numbers or {})
    for one in seen:
        if one.change.recency and len(seen) > 1:
            one.add(_RECENT * one.change.recency, "changed late")
        one.add(_PLAIN.get(kind_of(one.change.path.rpartition(b"/")[2]), 0.0), "")
    found = []
    for one in seen:
        ordered = sorted(one.scores, key=lambda pair: -pair[0])
        score = sum(score for score, _ in ordered) * (_OUTSIDE if _is_outside(one.change.path) else 1.0)
        reasons = tuple(dict.fromkeys(reason for score, reason in ordered if reason and score > 0.2))
        found.append(Suspect(one.change.path, one.change.state, round(score, 2), reasons or ("changed in between",)))
    return sorted(found, key=lambda one: (-one.score, one.path))


# ------------------------------------------------------------------------------------- evidence


def _by_stack(told: Clues, one: _Scored, places: Sequence[Place]) -> None:
    """Files of frames, by their path's end, else by the class that is named like the file."""
    best: dict[str, float] = {}
    # Where all is new, that this line is says nothing.
    told_by = 1 - 0.8 * one.touched.share
    lost = any(one.touched.names.get(name, Fate.TOUCHED) > Fate.TOUCHED for name in told.lacking)
    victim = _VICTIM if told.is_unset or (told.lacking and not lost) else 1.0
    for step, worth, share in places:
        place = f"{plain_function(step.function) or step.file}{f':{step.line}' if step.line else ''}"
        _better(best, f"in the stack: {place}", _STACK * worth * share * victim)
        function = plain_function(step.function).rpartition(".")[2]
        if function and function in one.touched.functions:
            _better(best, f"changed in the stack's {function}", _TOUCHED_FUNCTION * worth * told_by * victim)
        elif step.line and any(number in one.touched.lines for number in range(step.line - 2, step.line + 3)):
            _better(best, f"changed at the stack's line {step.line}", _TOUCHED_LINE * worth * told_by * victim)
    # A deep stack in one file is one piece of evidence.
    for kind in ("in the stack", "changed in", "changed at"):
        if of_kind := [(score, reason) for reason, score in best.items() if reason.startswith(kind)]:
            one.add(*max(of_kind))


def _better(best: dict[str, float], reason: str, score: float) -> None:
    best[reason] = max(score, best.get(reason, 0.0))


def _by_name(told: Clues, one: _Scored, numbers: Mapping[str, bytes]) -> None:
    """Assets that a report names by path, by file name or by number; those that went by where they were."""
    paths = [path for path in (one.change.path, one.made_of) if path]
    if named := max(filter(None, (_named(told, path) for path in paths)), default=None):
        one.add(*named)
    having = {name for path in paths for name in (path, path.removesuffix(b".meta"))}
    numbered = [number for number in told.guids if numbers.get(number) in having]
    for number in numbered:
        one.add(_NAMED, f"named by its GUID {number}")
    was_there = one.change.state == "deleted" or one.made_of not in (b"", one.change.path)
    if was_there and (named or numbered):
        one.add(_GONE, "and it was deleted" if one.change.state == "deleted" else "and it was moved")
    for scene in told.scenes:
        if words(scene) and _stem(scene) == _stem(to_text(one.change.path)):
            one.add(_SCENE, f"the scene {scene}")


def _named(told: Clues, path: bytes) -> tuple[float, str] | None:
    text = to_text(path)
    for said in sorted(told.paths):
        there = re.sub(r"^(?:res|user)://", "", said).strip("/ ")
        # What the stack has said counts there.
        if there.lower().rpartition("/")[2] == text.lower().rpartition("/")[2] and not any(
            frame.file.endswith(there) for frame, _ in told.frames
        ):
            is_sure = "/" in there and (text.endswith(there) or there.endswith(text))
            return _NAMED if is_sure else _NAMED * 0.7, f"named: {said.strip()}"
    return None


def _is_outside(path: bytes) -> bool:
    """Whether a file is about the game rather than in it: documents, tests, what an editor keeps beside a file."""
    *folders, name = path.lower().split(b"/")
    return name.endswith(_BESIDE) or name.startswith(_PAPERS) or not _FOLDERS.isdisjoint(folders)


def _stem(text: str) -> str:
    return text.replace("\\", "/").rpartition("/")[2].partition(".")[0].lower()


def _title(path: bytes) -> str:
    """A file's name without its endings, as it is written."""
    return to_text(path).rpartition("/")[2].partition(".")[0]


def _by_identifier(told: Clues, lines: Sequence[Line], one: _Scored, counts: _Counts) -> None:
    """Identifiers of reports, and of the code they name, in what came and went; the rarer, the more they say."""
    beside = _ALSO_THERE if told.lacking else 1.0
    said = {name: (1.0 if name in told.lacking else beside, shown) for shown in told.names if (name := plain(shown))}
    on_the_line = _ON_THE_LINE * beside
    for line in lines:
        for name in line.names:
            said.setdefault(plain(name), (on_the_line * line.worth, f"{name}, of {line.place},"))
    # An asset of the line's name: HeroRegistry.asset is what heroTypeRegistry reads.
    stem_words = words(_title(one.change.path))
    if len(stem_words) > 1:
        of_line = [(line.worth, name) for line in lines[:6] for name in line.names if stem_words <= words(name)]
        if of_line:
            worth, name = max(of_line)
            one.add(_NAMED_LIKE * worth, f"its name is in {name}, of the stack's line")
    # Its own stack names it anyway.
    in_stack = any(reason.startswith("in the stack") for _, reason in one.scores)
    stem = "" if in_stack else plain(_stem(to_text(one.change.path)))
    weighed = []
    for name, (worth, shown) in said.items():
        if fate := counts.fate(one, name):
            is_gone = fate > Fate.TOUCHED
            having = counts.losses if fate is Fate.UNDEFINED else counts.names
            # Short ones are everywhere.
            rare = counts.rare(having[name]) * min(1.0, len(name) / 6)
            uses = _STILL_NAMED if name in told.lacking and not is_gone else 1.0
            weighed.append((_FATES[fate] * rare * worth * uses, f"{shown} {'is gone' if is_gone else 'came or went'}"))
        if len(name) > 3 and name == stem:
            weighed.append((_CLASS_ON_THE_LINE * worth, f"{shown} is its name"))
        if name in told.lacking and name not in one.touched.names and not counts.undefined[name]:
            like, came = max(((_alike(name, made), made) for made in one.touched.made), default=(0.0, ""))
            if like >= _ALIKE:
                weighed.append((_RENAMED * like * counts.rare(counts.made[came]), f"{came}, much like {shown}, came"))
    # The second and third say less that is new.
    for (score, reason), share in zip(sorted(weighed, reverse=True), (1.0, 0.4, 0.2), strict=False):
        one.add(score * share, reason)
    if stem in told.owners:
        one.add(_OWNER, "what lacks it, as the message says")
    called = {name: line for line in lines[:6] for name in line.names if name in one.touched.functions}
    if called and not in_stack:
        name, line = next(iter(called.items()))
        told_by = 1 - 0.8 * one.touched.share
        one.add(_CALLED * line.worth * told_by, f"changed in {name}, which {line.place} calls")


def _alike(one: str, other: str) -> float:
    """How alike two names are, from 0 to 1."""
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    return matcher.ratio() if matcher.real_quick_ratio() >= _ALIKE else 0.0


def _by_words(told: Clues, lines: Sequence[Line], one: _Scored, counts: _Counts, *, in_texts: bool) -> None:
    """Words of what people wrote in a change's path, and in what came and went; less in texts of some language."""
    of_language, note = (_TRANSLATED, ", a translation's") if in_texts and not told.is_text else (1.0, "")
    worth = of_language * (1.0 if one.made_of else _WHOLLY_NEW)
    stem = words(_title(one.change.path))
    most = max(told.words.values(), default=1)
    said = {word: math.sqrt(many / most) for word, many in told.words.items()}
    of_lines = {word: 1.0 for line in lines[:3] for name in line.names for word in words(name) if word not in said}
    # Thousands of lines have every word.
    dense = 1 / (1 + math.log1p(len(one.touched.words) / 100))
    within = (one.touched.words - one.path_words, counts.words)
    for weight, heard, (place, having), where in (
        (_WORD_IN_PATH, said, (one.path_words, counts.path_words), "in its name"),
        (_WORD_OF_THE_LINE, of_lines, (one.path_words, counts.path_words), "of the stack's line in its name"),
        (
            _WORD_OF_A_NUMBER / (1 + math.log1p(len(one.touched.tweaked) / 50)),
            said,
            (one.touched.tweaked.keys(), counts.words),
            "in a line whose number changed",
        ),
        (
            _WORD_OF_AN_AMOUNT / (1 + math.log1p(len(one.touched.given) / 50)) if told.is_amount else 0.0,
            said,
            (one.touched.given - one.touched.tweaked.keys(), counts.words),
            "in what is given a number",
        ),
        (_WORD_IN_CHANGE * dense, said, within, "in what changed"),
        (
            _WORD_AROUND / (1 + math.log1p(len(one.touched.around) / 100)),
            said,
            (one.touched.around - one.path_words, counts.around),
            "around what changed",
        ),
    ):
        fitting = []
        for word in heard.keys() & place:
            of_name = 1.0
            if "name" in where:
                of_part = max(_OF_PART_OF_A_NAME, len(stem & heard.keys()) / len(stem)) if stem else 1.0
                of_name = of_part if word in stem else _OF_A_FOLDER
            fitting.append((heard[word] * counts.rare(having[word]) * of_name, word))
        for (score, word), share in zip(sorted(fitting, reverse=True), (1.0, 0.8, 0.5), strict=False):
            one.add(
                weight * score * share * worth,
                f"“{told.spelled.get(word, word)}” {where}{note}",
            )
    if told.is_gone and one.change.state == "deleted" and (about := said.keys() & stem):
        word = max(about, key=lambda word: said[word])
        one.add(_LOST * said[word] * len(about) / len(stem), "and it was deleted")
    for weight, follow, where in (
        (_PAIR_IN_PATH, pairs(_title(one.change.path)), "in its name"),
        (_PAIR_IN_CHANGE * dense, one.touched.pairs, "in what changed"),
    ):
        if both := max(told.pairs & follow, default=None):
            rare = counts.rare(min(counts.words[both[0]], counts.words[both[1]]))
            spelled = " ".join(told.spelled.get(word, word) for word in both)
            one.add(weight * rare * of_language, f"“{spelled}” {where}{note}")


def _by_topic(told: Clues, seen: Sequence[_Scored], topics: Mapping[str, Iterable[str]], counts: _Counts) -> None:
    """What people talk about when files of a kind are broken; the fewer of the changes are, the more it says."""
    most = max(told.words.values(), default=1)
    best: dict[bytes, tuple[float, str]] = {}
    for topic, of_topic in topics.items():
        word = next(iter(words(topic)), "")
        if word not in told.words:
            continue
        endings = tuple(of_topic)
        fitting = [
            one.change.path for one in seen if to_text(one.change.path).rpartition("/")[2].lower().endswith(endings)
        ]
        score = _TOPIC * told.words[word] / most * counts.rare(len(fitting))
        for path in fitting:
            best[path] = max(best.get(path, (0.0, "")), (score, f"“{topic}” is about such files"))
    for one in seen:
        if one.change.path in best:
            one.add(*best[one.change.path])


def _by_neighbours(
    told: Clues,
    seen: Sequence[_Scored],
    places: Mapping[bytes, Sequence[Place]],
    present: Sequence[bytes],
    newer: Read,
    numbers: Mapping[str, bytes],
) -> None:
    """Changes that a file of the stack, or a scene that is named, refers to, and those that refer to it."""
    by_path = {one.change.path: one for one in seen}
    anchors: dict[bytes, tuple[float, str]] = {}
    scenes = {_stem(scene) for scene in told.scenes if scene}
    for path in present:
        worth = max((place.worth for place in places.get(path, ())), default=0.0)
        if worth >= 0.2:
            anchors[path] = (worth * _NEIGHBOUR, "the stack's")
        elif _stem(to_text(path)) in scenes:
            anchors[path] = (_IN_SCENE, "the scene")
    by_name: dict[str, list[bytes]] = defaultdict(list)
    for path in by_path:
        by_name[to_text(path).rpartition("/")[2]].append(path)
    gains: dict[bytes, tuple[float, str]] = {}

    def gain(path: bytes, score: float, reason: str) -> None:
        if score > gains.get(path, (0.0, ""))[0]:
            gains[path] = (score, reason)

    for path, (worth, what) in anchors.items():
        for target in references(newer(path), numbers):
            for reached in by_name.get(target.rpartition("/")[2], ()):
                if reached != path and same_end(target, to_text(reached)) >= min(2, target.count("/") + 1):
                    more = _GONE if by_path[reached].change.state == "deleted" else 0.0
                    gain(reached, worth + more, f"{what} {to_line(path)} uses it")
    for one in seen:
        if one.change.state != "deleted" and told.lacking & one.touched.names.keys():
            anchors.setdefault(one.change.path, (_WANTS_IT, "what wants it,"))
    wanted = {to_text(path).rpartition("/")[2]: (path, said) for path, said in anchors.items()}
    for one in seen:
        if one.change.state == "deleted":
            continue
        for target in references(newer(one.change.path), numbers):
            path, (worth, what) = wanted.get(target.rpartition("/")[2], (b"", (0.0, "")))
            if path and path != one.change.path:
                gain(one.change.path, worth * (_SETS if told.is_unset else _USES), f"it uses {what} {to_line(path)}")
    for path, (score, reason) in gains.items():
        by_path[path].add(score, reason)
