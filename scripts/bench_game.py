"""What players say: a million records imported, asked for and counted, with the whole command."""

from __future__ import annotations

import json
import random
from functools import partial

from bench_rows import OURS
from bench_stories import Bench, ours

_BUILDS, _PLAYERS, _SIGNATURES = 400, 100_000, 5000
_FIELDS = {
    "id": "Id",
    "time": "When",
    "kind": "Kind",
    "text": "Text",
    "player": "Who",
    "build": "Build",
    "rating": "Stars",
    "sig": "Sig",
}
_SECOND = 15_000
"""Records that an import is to take in a second."""


def _line(number: int, chance: random.Random, words: list[str], weights: list[float]) -> str:
    build = chance.randrange(_BUILDS)
    said = {
        "Id": number,
        "When": 1_700_000_000 + build * 86400 + chance.randrange(86400),
        "Kind": chance.choice(("crash", "bug", "review", "event", "request")),
        "Text": " ".join(chance.choices(words, cum_weights=weights, k=12)),
        "Who": f"player {chance.randrange(_PLAYERS)}",
        "Build": f"b{build}",
        "Stars": round(chance.random(), 3),
        "Sig": f"NullReferenceException in Thing{chance.randrange(_SIGNATURES)}.Update",
        "device": {"gpu": "RTX 3060", "ram": 16384, "os": "Windows 10"},
    }
    return json.dumps(said) + "\n"


def players(bench: Bench) -> None:
    """A million records of 400 builds, 100,000 players and 5,000 signatures; words as rare as in a language."""
    count = bench.count(1_000_000)
    chance = random.Random(7)
    words = [f"word{number}" for number in range(20_000)]
    weights = [0.0]
    for number in range(1, len(words)):
        weights.append(weights[-1] + 1 / (number + 2))
    file, columns, folder = (bench.workdir / name for name in ("feedback.jsonl", "feedback.toml", "forest"))
    columns.write_text("".join(f'{field} = "{column}"\n' for field, column in _FIELDS.items()))
    with file.open("w") as lines:
        lines.writelines(_line(number, chance, words, weights) for number in range(count))
    tool = ours(bench.tools(OURS))
    tool.init()
    folder.mkdir(exist_ok=True)
    tool.call("add", folder, "--name", "lantern")
    done = tool.call(
        "feedback", "import", file, "--project", "lantern", "--source", "jsonl", "--map", columns, "--json"
    )
    bench.note("feedback-import", OURS, done.seconds * _SECOND / count)
    ask = partial(tool.call, "feedback", "query", "--json")
    for row, question in (
        ("feedback-build", ("--build", "b7")),
        ("feedback-kind", ("--kind", "crash", "--limit", "100")),
        ("feedback-text", ("--text", "word100", "--limit", "100")),
        ("feedback-common", ("--text", "word1 word2", "--limit", "100")),
    ):
        bench.alternate(row, {OURS: partial(ask, *question)}, bench.repeat)
    bench.alternate("feedback-report", {OURS: partial(tool.call, "feedback", "report", "--json")}, bench.repeat)
    file.unlink()
