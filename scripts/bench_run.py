"""Compare git-vault with its peers: alternately in one run, medians, from process start to exit."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import bench_builds
import bench_library
import bench_moving
import bench_pictures
import bench_remote
import bench_rescue
from bench_game import players
from bench_histories import histories
from bench_rows import ROWS, Line, Row, judge, table
from bench_stories import STORIES, Bench, say
from bench_timeline import timeline
from bench_tools import Failed, git_vault

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 when git-vault failed, or with --stated when a figure was missed."""
    options = parser().parse_args(arguments)
    rows = chosen(options)
    workdir = options.workdir.resolve()
    workdir.mkdir(parents=True, exist_ok=True)
    bench = Bench(
        [row.measured for row in rows],
        workdir,
        options.scale,
        options.repeat,
        options.cold,
        options.clones,
        options.assets,
    )
    stories = {
        **STORIES,
        **{"library": bench_library.library, "links": bench_library.links, "timeline": timeline},
        "workspace": bench_library.workspace,
        **{"players": players, "histories": histories},
        **{"remote": bench_remote.remote, "remote-files": bench_remote.remote_files},
        **{"import": bench_moving.moving, "import-files": bench_moving.moving_files},
        **{"milestones": bench_builds.milestones, "releases": bench_builds.releases},
        "textures": bench_builds.textures,
        "rescue": bench_rescue.rescue,
        **{"playtest": bench_builds.playtest, "platforms": bench_builds.platforms},
        **{"images": bench_pictures.images, "models": bench_pictures.models, "elements": bench_pictures.elements},
    }
    for name, story in stories.items():
        if any(row.story == name for row in rows):
            say(name)
            try:
                story(bench)
            except Failed as error:
                bench.failures[name] = str(error)
                say(f"  {name} FAILED: {error}")
            # What a story leaves behind is as large as its data.
            for folder in ("source", "tools", "restored", "forest", "images", "models", "layers"):
                shutil.rmtree(workdir / folder, ignore_errors=True)
    lines = list(judge(rows, bench))
    print(table(lines))
    if options.scale < 1:
        print(f"\nScale {options.scale:g}: start-up weighs more than in the figures the goals are for (--full).")
    for what, why in bench.failures.items():
        print(f"failed: {what}: {why}")
    say(f"written to {written(options, bench, lines)}")
    missed = options.stated and any(line.met is False for line in lines)
    return 1 if bench.failures or missed else 0


def parser() -> argparse.ArgumentParser:
    """The options; the help lists the rows."""
    listed = "\n".join(f"  {row.name:<16} {row.work}" for row in ROWS)
    result = argparse.ArgumentParser(
        prog="scripts/bench",
        description=__doc__,
        epilog=f"rows:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--only", metavar="ROW,...", help="these rows; a name's beginning stands for all that have it")
    result.add_argument("--stated", action="store_true", help="the figures of requirements.md; a miss is exit code 1")
    result.add_argument("--repeat", type=int, default=3, metavar="N", help="samples per tool (3)")
    size = result.add_mutually_exclusive_group()
    size.add_argument("--scale", type=float, default=0.1, metavar="X", help="of the sizes that the goals are for (0.1)")
    size.add_argument(
        "--full", action="store_const", const=1.0, dest="scale", help="--scale 1: takes 60 GB and an hour"
    )
    result.add_argument(
        "--workdir",
        type=Path,
        default=ROOT / "bench-results",
        metavar="DIR",
        help="for data, which is kept, repositories and the result (bench-results)",
    )
    result.add_argument(
        "--clones",
        type=Path,
        metavar="DIR",
        help="a folder of clones of real repositories, for rows that need them",
    )
    result.add_argument(
        "--assets",
        type=Path,
        metavar="DIR",
        help="a folder of clones of real games, bare or not; alone: the rows of their histories",
    )
    result.add_argument("--cold", action="store_true", help="drop the disk cache before each run (Linux, root)")
    return result


def chosen(options: argparse.Namespace) -> list[Row]:
    """The rows asked for. Raises SystemExit for a name that fits none."""
    rows = [row for row in ROWS if row.stated == options.stated]
    if options.assets and not options.only:
        return [row for row in rows if row.story == "histories"]
    if not options.only:
        return rows
    names = tuple(options.only.split(","))
    for name in names:
        if not any(row.name.startswith(name) for row in ROWS):
            parser().error(f"no row begins with {name}")
    return [row for row in ROWS if row.name.startswith(names)]


def written(options: argparse.Namespace, bench: Bench, lines: list[Line]) -> Path:
    """The run as JSON: parameters, versions, every sample, every line."""
    now = datetime.now(UTC)
    path = bench.workdir / f"{now:%Y%m%dT%H%M%SZ}.json"
    document = {
        "time": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "machine": {"system": platform.platform(), "cores": os.cpu_count(), "python": platform.python_version()},
        "versions": versions(),
        "scale": options.scale,
        "repeat": options.repeat,
        "cold": options.cold,
        "lines": [
            {
                "row": line.row.name,
                "unit": line.row.unit,
                "goal": asdict(line.goal),
                "ours": line.ours,
                "theirs": line.theirs,
                "ratio": line.ratio,
                "met": line.met,
            }
            for line in lines
        ],
        "samples": bench.samples,
        "failures": bench.failures,
    }
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path


def versions() -> dict[str, str]:
    """The first line of each program's --version."""
    commands = {
        "git-vault": git_vault(),
        "git": ["git"],
        "restic": ["restic"],
        "borg": ["borg"],
        "bup": ["bup"],
        "casync": ["casync"],
        "radosgw": ["radosgw"],
    }
    found = {}
    for name, command in commands.items():
        if shutil.which(command[0]):
            word = "version" if name == "restic" else "--version"
            done = subprocess.run([*command, word], capture_output=True, text=True, check=False)
            found[name] = (done.stdout.strip().splitlines() or ["unknown"])[0]
    return found


if __name__ == "__main__":
    sys.exit(main())
