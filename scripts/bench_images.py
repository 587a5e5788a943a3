"""Measure `diff --visual` of 4K and 8K images against oiiotool, idiff, odiff and ImageMagick, where they are installed.

    python scripts/bench_images.py FOLDER [--sizes 4k 8k] [--kinds png tif exr] [--runs 3] [--odiff PROGRAM]

Makes the images in FOLDER when they are not there: a scene; the same with a patch 8/255 lighter, a small one of another
colour, and one pixel one level off (`edited`); and the same with noise everywhere (`noisy`). All tools in turn, several
times: the median of wall clock and of processor time, and the most memory of the process and those it starts.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

SIZES = {"4k": (3840, 2160), "8k": (7680, 4320)}
KINDS = {"png": "8-bit PNG", "16.png": "16-bit PNG", "16.tif": "16-bit TIFF", "jpg": "JPEG", "exr": "EXR, 9 channels"}
GOALS = {"4k": 2.5, "8k": 8.0}
GOALS_EXR = {"4k": 4.0, "8k": 15.0}
_STARTER = """
import resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
wall, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
print(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
"""


def scene(width: int, height: int) -> Any:
    """Gradients, discs and grain; height x width x 3 of floats between 0 and 1."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width].astype(np.float32) / width
    image = np.stack([0.5 + 0.4 * np.sin(9 * x), 0.5 + 0.4 * np.cos(7 * y), 0.5 + 0.3 * np.sin(11 * (x + y))], -1)
    for _ in range(60):
        middle = int(rng.integers(width)), int(rng.integers(height))
        colour = [float(value) for value in rng.random(3)]
        cv2.circle(image, middle, int(rng.integers(width // 60, width // 12)), colour, -1, cv2.LINE_AA)
    return (image + rng.normal(0, 0.01, (height, width, 1)).astype(np.float32)).clip(0, 1)


def versions(width: int, height: int) -> Iterator[tuple[str, Any]]:
    """Each by its name."""
    image = scene(width, height)
    yield "base", image
    edited, side = image.copy(), width // 30
    edited[height // 3 :][:side, width // 4 :][:, :side] += 8 / 255
    edited[height // 2 :][: side // 2, width // 2 :][:, :side] = 0.9, 0.2, 0.1
    edited[10, 20, 1] += 1 / 255
    yield "edited", edited.clip(0, 1)
    grain = np.random.default_rng(3).normal(0, 0.004, image.shape).astype(np.float32)
    yield "noisy", (image + grain).clip(0, 1)


def write(path: Path, image: Any) -> None:
    """In the format that its name says."""
    if path.suffix == ".exr":
        import OpenEXR

        half = image.astype(np.float16)
        layers = {"RGB": half, "Z": half[..., 0] * 100, "spec": half[..., 2], "id": half[..., 1]}
        layers |= {f"diffuse.{name}": half[..., place] for place, name in enumerate("RGB")}
        head = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        OpenEXR.File(head, {name: np.ascontiguousarray(plane) for name, plane in layers.items()}).write(str(path))
        return
    full, kind = (65535, np.uint16) if "16." in path.name else (255, np.uint8)
    options = [cv2.IMWRITE_PNG_COMPRESSION, 3] if path.suffix == ".png" else []
    cv2.imwrite(str(path), np.rint(image[..., ::-1] * full).astype(kind), options)


def commands(old: Path, new: Path, out: Path, odiff: str | None) -> dict[str, list[str]]:
    """What is run, by its name."""
    ours = [sys.executable, "-m", "gitvault", "diff", "--visual", str(old), str(new), "--json"]
    found = {
        "git-vault, pictures": [*ours, "-o", str(out / "seen"), "--overwrite"],
        "git-vault, figures": ours,
        "oiiotool --diff": ["oiiotool", "--diff", str(old), str(new)],
        "idiff": ["idiff", str(old), str(new)],
    }
    if old.suffix != ".exr":
        found["ImageMagick"] = ["compare", "-metric", "AE", str(old), str(new), "null:"]
    if odiff and old.suffix == ".png" and "16." not in old.name:
        found["odiff"] = [odiff, "--threshold=0", str(old), str(new), str(out / "odiff.png")]
    return {name: words for name, words in found.items() if shutil.which(words[0])}


def measured(words: Sequence[str]) -> tuple[float, float, float]:
    """Seconds of wall clock and of processor time, MiB."""
    # A process begins with the memory of the one it comes from: a small one starts it.
    done = subprocess.run([sys.executable, "-S", "-c", _STARTER, *words], capture_output=True, text=True, check=True)
    wall, cpu, mib = map(float, done.stdout.split()[-3:])
    return wall, cpu, mib


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--odiff")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    print("| images | tool | wall s | CPU s | of oiiotool's CPU | MiB | goal s |\n|---|---|---|---|---|---|---|")
    for size in chosen.sizes:
        paths = {
            (name, kind): chosen.folder / f"{size}-{name}-{kind if '.' in kind else '8.' + kind}"
            for name in ("base", "edited", "noisy")
            for kind in chosen.kinds
        }
        if not all(path.exists() for path in paths.values()):
            for name, image in versions(*SIZES[size]):
                for kind in chosen.kinds:
                    write(paths[name, kind], image)
        for kind in chosen.kinds:
            for name in ("edited", "noisy"):
                words = commands(paths["base", kind], paths[name, kind], chosen.folder, chosen.odiff)
                samples: dict[str, list[tuple[float, float, float]]] = {tool: [] for tool in words}
                for _ in range(chosen.runs):
                    for tool, command in words.items():
                        samples[tool].append(measured(command))
                medians = {
                    tool: [statistics.median(column) for column in zip(*rows, strict=True)]
                    for tool, rows in samples.items()
                }
                peer = medians.get("oiiotool --diff", [0, 0, 0])[1]
                for tool, (wall, cpu, mib) in medians.items():
                    ratio = f"{cpu / peer:.2f}" if peer else "-"
                    goal = (GOALS_EXR if kind == "exr" else GOALS)[size] if tool.endswith("pictures") else ""
                    label = f"{size} {KINDS[kind]}, {name}"
                    print(f"| {label} | {tool} | {wall:.2f} | {cpu:.2f} | {ratio} | {mib:.0f} | {goal} |", flush=True)


if __name__ == "__main__":
    main()
