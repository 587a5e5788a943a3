"""Stories of a game's builds: milestones, playtests recorded beside a game, settings of platforms."""

from __future__ import annotations

import json
import shutil
import statistics
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
from bench_data import MIB
from bench_rows import OURS
from bench_stories import Bench, ours, say
from bench_tools import GitVault, Run, git_vault, run, size_of

from gitvault import GameVault

_FRAMES, _EVENTS, _SECONDS = 50, 20, 30
"""Frames in a second, events in each of them, seconds of play."""
_SETTINGS, _SECTIONS = 5000, 50
_ENGINES = ("project.godot", "ProjectSettings/ProjectSettings.asset", "*.uproject")
_DIFFERENT = 1
_TEXTURES, _SIDE, _HEADER = 32, 1448, 18
"""So many, of so many pixels a side: 8 MiB each; bytes of a TGA's header."""
_CHANGED = 60e6
"""Bytes of changed files that a second is to take."""


def milestones(bench: Bench) -> None:
    """A source tree that was saved."""
    source = bench.data.code(bench.count(100_000))
    tool = ours(bench.tools(OURS))
    tool.init()
    tool.save(source)
    create = _creator(tool)
    if bench.wants("milestone-unchanged"):
        bench.alternate("milestone-unchanged", {OURS: create}, bench.repeat)
    if bench.wants("milestone-verify-files"):
        proved = partial(create, "--verify", factor=5e9 / size_of(source))
        bench.alternate("milestone-verify-files", {OURS: proved}, bench.repeat)


def releases(bench: Bench) -> None:
    """An asset library, new and then unchanged."""
    source = bench.data.assets(bench.count(2262), bench.count(4300) * MIB)
    size = size_of(source)
    tool = ours(bench.tools(OURS))
    create = _creator(tool)

    def new(name: str) -> None:
        tool.init()
        tool.call("add", source, "--name", tool.project)
        bench.warm(source)

    if bench.wants("milestone-new"):
        bench.alternate("milestone-new", {OURS: partial(create, "--verify", factor=1e9 / size)}, bench.repeat, new)
    else:
        new(OURS)
        tool.save(source)
    if bench.wants("milestone-verify"):
        bench.alternate("milestone-verify", {OURS: partial(create, "--verify", factor=5e9 / size)}, bench.repeat)


def textures(bench: Bench) -> None:
    """Uncompressed textures, all of them edited: a square of 2 % of each, so that every file has changed."""
    source = bench.workdir / "source"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    rng = np.random.default_rng(7)
    paths = [source / f"texture-{number:02}.tga" for number in range(bench.count(_TEXTURES))]
    for path in paths:
        path.write_bytes(_texture(rng))
    tool = ours(bench.tools(OURS))
    tool.init()
    size = size_of(source)
    tool.save(source)

    def edit(name: str) -> None:
        for path in paths:
            _repaint(path, rng)
        bench.warm(source)

    def save() -> Run:
        done = tool.save(source)
        return replace(done, seconds=done.seconds * _CHANGED / size)

    bench.alternate("textures-edited", {OURS: save}, bench.repeat, edit)


def _texture(rng: np.random.Generator) -> bytes:
    """A TGA of four channels: smooth fields with a little noise."""
    at = np.linspace(0, 1, _SIDE)
    waves = [np.sin(2 * np.pi * (rng.uniform(1, 6) * at[:, None] + rng.uniform(1, 6) * at)) for _ in range(4)]
    pixels = 128 + 100 * np.stack(waves, axis=-1) + rng.normal(0, 2, (_SIDE, _SIDE, 4))
    return struct.pack("<3B9x2H2B", 0, 0, 2, _SIDE, _SIDE, 32, 8) + pixels.clip(0, 255).astype(np.uint8).tobytes()


def _repaint(path: Path, rng: np.random.Generator) -> None:
    """Other pixels in a square somewhere in it, of 2 % of its area."""
    edge = round(_SIDE * 0.02**0.5)
    header, pixels = (part := path.read_bytes())[:_HEADER], np.frombuffer(part[_HEADER:], np.uint8).copy()
    across, down = rng.integers(0, _SIDE - edge, 2)
    square = pixels.reshape(_SIDE, _SIDE, 4)[down : down + edge, across : across + edge]
    square[:] = 255 - square + rng.integers(0, 4, square.shape, np.uint8)
    path.write_bytes(header + pixels.tobytes())


def _creator(tool: GitVault) -> Callable[..., Run]:
    """Makes a milestone with another name each time; `factor`: its seconds are those of so many times as much."""
    numbers = count(1)

    def create(*options: str, factor: float = 1) -> Run:
        words = ("--project", tool.project, "--type", "alpha", *options, "--json")
        done = tool.call("milestone", "create", f"build-{next(numbers)}", *words)
        return replace(done, seconds=done.seconds * factor)

    return create


def playtest(bench: Bench) -> None:
    """Half a minute of a game in this process, with a session and, for what is its own, without."""
    folder = bench.workdir / "forest"
    folder.mkdir(exist_ok=True)
    tool = ours(bench.tools(OURS))
    tool.init()
    frames = max(2, bench.count(_SECONDS)) * _FRAMES
    with GameVault("lantern", folder, vault=tool.repository) as game:
        for _ in range(bench.repeat):
            alone, empty = _play(lambda name, **data: None, frames)
            with game.playtest("alpha-1", platform="linux", player="anna") as session:
                recorded, calls = _play(session.event, frames)
            slow, nothing = (statistics.quantiles(each, n=1000)[-1] for each in (calls, empty))
            say(
                f"  playtest: {recorded - alone:.4f} s of processor a second, 99.9 % of calls in {slow * 1e6:.1f} us,"
                f" of those to nothing in {nothing * 1e6:.1f} us"
            )
            bench.note("playtest-load", OURS, recorded - alone)
            bench.note("playtest-call", OURS, slow)


def _play(event: Callable[..., object], frames: int) -> tuple[float, list[float]]:
    """Processor seconds for each second of play, and how long each call took."""
    calls = []
    spent, begin = time.process_time(), time.perf_counter()
    for frame in range(frames):
        for number in range(_EVENTS):
            start = time.perf_counter()
            event("hit", level="cave", enemy=number, damage=12.5, pos=[frame, number, 3.25])
            calls.append(time.perf_counter() - start)
        time.sleep(max(0.0, begin + (frame + 1) / _FRAMES - time.perf_counter()))
    return (time.process_time() - spent) / (time.perf_counter() - begin), calls


def platforms(bench: Bench) -> None:
    """A project of Unreal with very many settings, and the games among the clones."""
    folder = bench.workdir / "forest"
    _write_settings(folder, bench.count(_SETTINGS))
    tool = ours(bench.tools(OURS))
    compare = partial(_compared, tool)
    if bench.wants("platform-compare"):
        bench.alternate("platform-compare", {OURS: partial(compare, folder)}, bench.repeat)
    if bench.wants("platform-clones") and bench.clones:
        games = {str(path.relative_to(bench.clones)): partial(compare, path) for path in _games(bench.clones)}
        bench.alternate("platform-clones", games, bench.repeat)
        if medians := [median for name in games if (median := bench.median("platform-clones", name)) is not None]:
            bench.note("platform-clones", OURS, max(medians))


def _compared(tool: GitVault, folder: Path) -> Run:
    words: list[str | Path] = ["platform", "compare", "pc", "android", "--path", folder, "--json"]
    return run([*git_vault(), *words], env=tool.env, ok=(0, _DIFFERENT))


def _games(clones: Path) -> list[Path]:
    """The folders of projects, at most three levels down in a clone."""
    found = {
        path.parents[engine.count("/")]
        for engine in _ENGINES
        for depth in range(1, 5)
        for path in clones.glob("*/" * depth + engine)
    }
    return sorted(found)


def _write_settings(folder: Path, settings: int) -> None:
    """Half of them are said anew for Android."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, step in (("DefaultEngine.ini", 1), ("Android/AndroidEngine.ini", 2)):
        path = folder / "Config" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = (
            f"[/Script/Game.Section{number}]\n"
            + "".join(f"Setting{key}={key * step}\n" for key in range(number, settings, _SECTIONS) if not key % step)
            for number in range(_SECTIONS)
        )
        path.write_text("".join(lines))
    (folder / "lantern.uproject").write_text(json.dumps({"FileVersion": 3, "EngineAssociation": "5.4"}))
