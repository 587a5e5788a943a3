"""Stories of an artist's library and workspace: what copies and edits take, how fast links are followed."""

from __future__ import annotations

import json
import os
import random
import shutil
from functools import partial
from pathlib import Path

import bench_data
from bench_data import MIB
from bench_rows import FILES, OURS
from bench_stories import Bench, maintained, only, ours, say, stored
from bench_tools import size_of

_VERSIONS = 5


def library(bench: Bench) -> None:
    """A fifth of the library copied under other names, then edited; what a copy for each version would take."""
    files, total = bench.count(2262), bench.count(4300) * MIB
    source = bench.copy(bench.data.assets(files, total))
    for path in sorted(path for path in source.rglob("*") if path.is_file())[::5]:
        shutil.copy2(path, path.with_stem(path.stem + " copy"))
    found = {**bench.tools(OURS, "restic", "borg zstd,3")}
    copies = size_of(source)
    bench.first_saves("library-stored", found, source)
    for step in bench_data.asset_steps(files, total, _VERSIONS):
        bench_data.edit_assets(source, step)
        copies += size_of(source)
        bench.saves("library-stored", found, source)
    bench.samples["library-stored"].clear()
    maintained(bench, ours(found))
    bench.note("library-stored", FILES, copies)
    say(f"  library-stored: a copy for each version {copies / 1e6:.1f} MB")
    stored(bench, only(found, OURS, "restic", "borg zstd,3"), "library-stored")


def links(bench: Bench) -> None:
    """500 scenes and 500 materials that name 5,000 textures, twice each."""
    source = bench.workdir / "source"
    shutil.rmtree(source, ignore_errors=True)
    _write_scenes(source, bench.count(5000))
    vault = ours(bench.tools(OURS))
    vault.init()
    follow = partial(vault.call, "refs", "check", source, "--json")

    def forget() -> None:
        (vault.repository / "cache" / "references.msgpack").unlink(missing_ok=True)

    bench.alternate("refs-first", {OURS: follow}, bench.repeat, lambda name: forget())
    bench.alternate("refs-again", {OURS: follow}, bench.repeat)


def workspace(bench: Bench) -> None:
    """A home folder in which Krita was used much: 90 MB in 600 brushes and settings."""
    home = bench.workdir / "source"
    shutil.rmtree(home, ignore_errors=True)
    chance = random.Random(5)
    brushes = home / ".local" / "share" / "krita" / "brushes"
    brushes.mkdir(parents=True)
    for number in range(600):
        (brushes / f"b{number}.gbr").write_bytes(chance.randbytes(bench.count(150_000)))
    (home / ".config").mkdir()
    (home / ".config" / "kritarc").write_text(f"[Recent]\nlast={home}/a.kra\n")
    vault = ours(bench.tools(OURS))
    capture = partial(vault.call, "workspace", "capture", "krita", "--home", home, "--json")
    bench.alternate("workspace-capture", {OURS: capture}, bench.repeat, lambda name: vault.init())


def _write_scenes(root: Path, textures: int) -> None:
    for name in ("tex", "scenes"):
        os.makedirs(root / name)
    for number in range(textures):
        (root / "tex" / f"t{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n%d" % number)
    for number in range(textures // 10):
        names = [f"../tex/t{number * 10 + place}.png" for place in range(10)]
        scene = {
            "asset": {"version": "2.0"},
            "images": [{"uri": name} for name in names],
            "buffers": [{"uri": "data:application/octet-stream;base64," + "A" * 20_000, "byteLength": 15_000}],
        }
        (root / "scenes" / f"s{number}.gltf").write_text(json.dumps(scene))
        text = "newmtl a\n" + "".join(f"map_Kd {name}\n" for name in names)
        (root / "scenes" / f"m{number}.mtl").write_text(text)
