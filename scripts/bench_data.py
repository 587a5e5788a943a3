"""Deterministic benchmark data: a source tree, mixed assets, one big file, a tree of many tiny files.

Everything follows from the parameters, so that two machines measure the same bytes. A data set is
made once per work folder and copied from there; the edits of version n depend only on n.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path

import numpy as np

RECIPE = 1
"""Part of every data set's name; raise it when the bytes change."""

KIB, MIB = 1 << 10, 1 << 20
WORKERS = os.cpu_count() or 1


@dataclass(frozen=True)
class Item:
    """One file of a data set."""

    path: str
    size: int
    seed: int


@dataclass(frozen=True)
class Step:
    """What happens between two versions."""

    number: int
    changed: tuple[Item, ...]
    new: tuple[Item, ...]
    deleted: tuple[Item, ...]
    renamed: tuple[tuple[Item, Item], ...]


def _steps(items: list[Item], versions: int, counts: Sequence[int], weight: Callable[[Item], float]) -> Iterator[Step]:
    """Steps with `counts` = (changed, new, deleted, renamed) files; a file of weight 2 is drawn twice as often."""
    changed, new, deleted, renamed = counts
    live = list(items)
    for number in range(2, versions + 1):
        rng = random.Random(f"step {number}")
        live.sort(key=lambda item: rng.random() ** (1 / weight(item)), reverse=True)
        edited, gone, moved, rest = _cut(live, changed, deleted, renamed)
        added = [
            Item(_beside(item.path, f"_v{number}"), item.size, rng.getrandbits(48)) for item in rng.sample(rest, new)
        ]
        pairs = [(item, Item(_beside(item.path, f"_moved{number}"), item.size, item.seed)) for item in moved]
        yield Step(number, tuple(edited), tuple(added), tuple(gone), tuple(pairs))
        live = [*edited, *rest, *added, *(target for _, target in pairs)]


def _cut(items: list[Item], *sizes: int) -> list[list[Item]]:
    ends = list(accumulate(sizes))
    return [items[a:b] for a, b in zip([0, *ends], [*ends, len(items)], strict=True)]


def _beside(path: str, suffix: str) -> str:
    stem, dot, extension = path.rpartition(".")
    return f"{stem}{suffix}{dot}{extension}"


# --- source code ------------------------------------------------------------------------------

_WORDS = """
get set add remove update load save read write open close parse format build create delete find list item node
tree index value key name path file size count total start end next prev first last left right width height
color user account order price client server request response header body status error result state event
handler callback session token cache buffer stream socket thread queue task job worker config option default
"""

_SYLLABLES = ("b c d f g h l m n p r s t v w st tr ch pl", "a e i o u al er in")

_C = (
    ("if (%s->%s == %s) {", "}"),
    ("if (!%s || %s < %s) {", "}"),
    ("for (int i = 0; i < %s; i++) {", "}"),
    ("while (%s != NULL) {", "}"),
    ("} else {", ""),
    ("%s = %s(%s, %s);", ""),
    ("%s->%s = %s;", ""),
    ("return %s;", ""),
    ("int %s = %s(%s);", ""),
    ("const char *%s = %s[%s].%s;", ""),
    ("/* %s the %s of %s before %s is %s */", ""),
    ('log_error("%s: cannot %s %s", %s);', ""),
    ("assert(%s >= 0 && %s <= %s);", ""),
    ("memcpy(%s, %s + %s, sizeof(%s));", ""),
)
_PYTHON = (
    ("if %s.%s is None:", ""),
    ("for %s in %s.%s(%s):", ""),
    ("with %s(%s) as %s:", ""),
    ("try:", ""),
    ("%s = %s.%s(%s, %s=%s)", ""),
    ("self.%s = %s", ""),
    ("return %s[%s]", ""),
    ("raise ValueError(f'%s of {%s} is not a %s')", ""),
    ("# the %s of a %s is kept until %s has %s", ""),
    ("%s.append((%s, %s))", ""),
    ("assert %s == %s, %s", ""),
    ("logger.info('%s %s', %s)", ""),
)
_SCRIPT = (
    ("if (this.%s.%s !== %s) {", "}"),
    ("%s.forEach((%s) => {", "});"),
    ("export const %s = async (%s, %s) => {", "};"),
    ("const { %s, %s } = this.props.%s;", ""),
    ("const %s = await %s.%s(%s);", ""),
    ("return %s.map((%s) => %s.%s);", ""),
    ("throw new Error(`%s: ${%s} has no %s`);", ""),
    ("expect(%s.%s).toEqual(%s);", ""),
    ("// %s %s when the %s was %s", ""),
    ('<%s className="%s-%s" onClick={%s}>', "</div>"),
)
_DATA = (
    ('"%s": {', "},"),
    ('"%s": [', "],"),
    ('"%s": "%s",', ""),
    ('"%s": "%s/%s/%s",', ""),
    ('{ "id": "%s", "type": "%s", "%s": "%s" },', ""),
)
_PROSE = (
    ("The %s of the %s is %s when %s and %s have been %s by the %s.", ""),
    ("- `%s`: %s of %s, see %s", ""),
    ("Every %s that %s a %s must %s its %s.", ""),
    ("    %s = %s.%s(%s)", ""),
    ("", ""),
)
LANGUAGES = (
    (".c", _C, 30),
    (".h", _C, 12),
    (".py", _PYTHON, 20),
    (".ts", _SCRIPT, 24),
    (".json", _DATA, 8),
    (".md", _PROSE, 6),
)


@cache
def _identifiers() -> tuple[list[str], list[str]]:
    """40,000 names, and a list of 2**18 in which a name is as frequent as its rank says."""
    rng = random.Random("identifiers")
    starts, ends = _SYLLABLES
    syllables = [a + b for a in starts.split() for b in ends.split()]
    keywords = _WORDS.split()
    words = keywords + ["".join(rng.choices(syllables, k=rng.choice((1, 2, 2, 3)))) for _ in range(6000)]
    frequent = rng.choices(words, [1 / (rank + 8) for rank in range(len(words))], k=120_000)
    names = []
    for i in range(40_000):
        parts = frequent[3 * i : 3 * i + rng.choice((1, 1, 2, 2, 3))]
        style = rng.random()
        if style < 0.45:
            names.append("_".join(parts))
        elif style < 0.85:
            names.append(parts[0] + "".join(p.title() for p in parts[1:]))
        else:
            names.append(str(rng.choice((0, 1, 2, 8, 16, 64, 100, 255, 1000, rng.randrange(10_000)))))
    weights = [1 / (rank + 20) for rank in range(len(names))]
    return names, rng.choices(names, weights, k=1 << 18)


@cache
def _blocks(extension: str) -> list[tuple[str, int]]:
    """2,000 skeletons of a function or paragraph, each with the number of names it wants."""
    templates = next(t for e, t, _ in LANGUAGES if e == extension)
    rng = random.Random("blocks" + extension)
    unit = "  " if templates is _SCRIPT or templates is _DATA else "    "
    result = []
    for _ in range(2000):
        lines: list[str] = []
        closing: list[str] = []
        for _ in range(rng.randint(4, 28)):
            opener, closer = rng.choice(templates)
            lines.append(unit * len(closing) + opener)
            if (closer or opener.endswith(":")) and len(closing) < 5:
                closing.append(closer)
            elif closing and rng.random() < 0.35 and (last := closing.pop()):
                lines.append(unit * len(closing) + last)
        while closing:
            if last := closing.pop():
                lines.append(unit * len(closing) + last)
        text = "\n".join(lines) + "\n\n"
        result.append((text, text.count("%s")))
    return result


def source_text(item: Item) -> bytes:
    """A file that reads and compresses like source code (zlib about 3.2)."""
    rng = random.Random(item.seed)
    _, frequent = _identifiers()
    local = rng.choices(frequent, k=40 + item.size // 36)
    weights = [1 / (rank + 40) for rank in range(len(local))]
    pool = rng.choices(local, weights, k=1024)
    blocks = _blocks("." + kind(item))
    pieces: list[str] = []
    length = 0
    while length < item.size:
        text, slots = rng.choice(blocks)
        piece = text % tuple(rng.choices(pool, k=slots))
        pieces.append(piece)
        length += len(piece)
    return "".join(pieces).encode()[: item.size - 1] + b"\n"


def code_items(count: int) -> list[Item]:
    """The plan of a source tree: 10 files per folder, sizes with median 3 KB and mean 7.5 KB."""
    rng = random.Random("code tree")
    names, _ = _identifiers()
    folders = ["src"]
    for i in range(max(1, count // 10) - 1):
        # Mostly below a recent folder: a few levels of siblings, the deepest paths about 20 levels down.
        parent = folders[max(0, len(folders) - 1 - int(rng.expovariate(1 / 40)))]
        if parent.count("/") > 14 or i % 200 == 0:
            parent = "src"
        folders.append(f"{parent}/{rng.choice(names)}{i % 7}")
    extensions = [e for e, _, _ in LANGUAGES]
    kinds = rng.choices(extensions, [w for _, _, w in LANGUAGES], k=count)
    return [
        Item(
            f"{rng.choice(folders)}/{rng.choice(names)}_{i}{kinds[i]}",
            min(2 * MIB, max(60, int(rng.lognormvariate(8.006, 1.354)))),
            rng.getrandbits(48),
        )
        for i in range(count)
    ]


def _write_source(root: str, items: list[Item]) -> None:
    for item in items:
        _write(os.path.join(root, item.path), source_text(item))


def code_steps(files: int, versions: int) -> Iterator[Step]:
    """What leads from the source tree of `files` files to its versions 2, 3 ... `versions`."""
    counts = [max(1, files * share // 100_000) for share in (500, 50, 20, 10)]
    return _steps(code_items(files), versions, counts, lambda item: 1)


def edit_source(root: Path, step: Step) -> None:
    """Bring a source tree to version `step.number`: some lines rewritten, inserted or taken out."""
    for item in step.changed:
        rng = random.Random(f"{step.number} {item.path}")
        lines = (root / item.path).read_bytes().splitlines(keepends=True)
        fresh = source_text(Item(item.path, 2000, rng.getrandbits(48))).splitlines(keepends=True)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(lines) + 1)
            lines[at : at + rng.randint(0, 3)] = rng.sample(fresh, rng.randint(0, 5))
        lines.append(b"// %d\n" % step.number)
        (root / item.path).write_bytes(b"".join(lines))
    _write_source(str(root), list(step.new))
    _delete_and_rename(root, step)


def _delete_and_rename(root: Path, step: Step) -> None:
    for item in step.deleted:
        (root / item.path).unlink()
    for source, target in step.renamed:
        (root / source.path).rename(root / target.path)


# --- assets -----------------------------------------------------------------------------------

_MAGIC = {
    "jpg": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x48\x00\x48\x00\x00",
    "png": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x04\x00\x00\x00\x04\x00\x08\x06\x00\x00\x00",
    "ogg": b"OggS\x00\x02" + bytes(20) + b"\x01\x1e\x01vorbis",
}
_COMPRESSED_SHARE = 0.34
"""Of the bytes; the real histories behind the goals store 4.3 GB in 1.9-2.1 GB."""


def asset_items(count: int, total: int) -> list[Item]:
    """The plan of an asset library: half the files are already compressed, the rest is raw."""
    rng = random.Random("assets")
    names, _ = _identifiers()
    rows = []
    for i in range(count):
        packed = i % 2 == 0
        extension = rng.choice(
            ("jpg", "png", "png", "ogg") if packed else ("tga", "tga", "tga", "mesh", "wav", "level")
        )
        weight = rng.lognormvariate(0, 1.0)
        rows.append(
            (
                f"{extension}/{rng.choice(names)}/{rng.choice(names)}_{i}.{extension}",
                packed,
                weight,
                rng.getrandbits(48),
            )
        )
    sums = {p: sum(w for _, packed, w, _ in rows if packed == p) for p in (True, False)}
    share = {True: total * _COMPRESSED_SHARE, False: total * (1 - _COMPRESSED_SHARE)}
    return [Item(path, max(4096, int(share[p] * w / sums[p])) & ~63, seed) for path, p, w, seed in rows]


def asset_bytes(item: Item) -> bytes:
    """Content by kind: noise behind a known header, or raw pixels, vertices, samples, records."""
    rng = np.random.default_rng(item.seed)
    magic = _MAGIC.get(kind(item))
    if magic:
        return magic + rng.bytes(item.size - len(magic))
    return _RAW[kind(item)](rng, item.size)[: item.size]


def _texture(rng: np.random.Generator, size: int) -> bytes:
    side = max(16, int((size / 4) ** 0.5))
    rows = size // (4 * side) + 1
    cell = 16
    coarse = rng.integers(0, 255, (rows // cell + 2, side // cell + 2, 4), dtype=np.uint8)
    image = coarse.repeat(cell, axis=0).repeat(cell, axis=1)[:rows, :side].copy()
    grain = rng.integers(0, 256, (rows, side), dtype=np.uint8)
    image[..., :3] += ((grain < 40) * (grain & 7))[..., None]
    image[..., 3] = 255
    return bytes(18) + image.tobytes()


def _mesh(rng: np.random.Generator, size: int) -> bytes:
    count = size // 32 + 1
    walk = np.cumsum(rng.integers(-3, 4, (count, 3)), axis=0).astype(np.float32) / 64
    vertices = np.zeros((count, 8), dtype=np.float32)
    vertices[:, :3] = walk
    vertices[:, 3:6] = np.round(np.sin(walk), 1)
    vertices[:, 6:] = (np.arange(count)[:, None] % 64) / 64
    return vertices.tobytes()


def _wave(rng: np.random.Generator, size: int) -> bytes:
    count = size // 2 + 1
    time = np.arange(count) / 48_000
    sound = np.sum([2000 * np.sin(time * f) for f in rng.integers(200, 9000, 3)], axis=0)
    quiet = np.repeat(rng.integers(0, 3, count // 24_000 + 1), 24_000)[:count]
    samples = ((sound + rng.integers(0, 8, count)) * quiet).astype(np.int16) & np.int16(~7)
    data: bytes = samples.tobytes()
    return b"RIFF" + bytes(40) + data


def _level(rng: np.random.Generator, size: int) -> bytes:
    count = size // 64 + 1
    records = np.zeros((count, 16), dtype=np.uint32)
    records[:, 0] = np.arange(count)
    records[:, 1] = rng.integers(0, 40, count)
    records[:, 2:5] = rng.integers(0, 4096, (count, 3)) * 16
    records[:, 8] = rng.integers(0, 8, count)
    records[:, 12] = 0x3F800000
    return records.tobytes()


_RAW: dict[str, Callable[[np.random.Generator, int], bytes]] = {
    "tga": _texture,
    "mesh": _mesh,
    "wav": _wave,
    "level": _level,
}


def _write_assets(root: str, items: list[Item]) -> None:
    for item in items:
        _write(os.path.join(root, item.path), asset_bytes(item))


def asset_steps(files: int, total: int, versions: int) -> Iterator[Step]:
    """What leads from the library to its versions 2, 3 ... `versions`; raw files are worked on, some exports follow."""
    counts = [max(1, files * share // 2262) for share in (140, 6, 3, 4)]
    return _steps(asset_items(files, total), versions, counts, lambda item: 1 if kind(item) in _MAGIC else 8)


def kind(item: Item) -> str:
    """The file's extension without its dot."""
    return item.path.rpartition(".")[2]


def edit_assets(root: Path, step: Step) -> None:
    """Bring an asset library to version `step.number`.

    A compressed file is exported anew. In a raw one a few regions are worked over, or in one of twelve small
    changes lie all over the file; some get an insertion.
    """
    for item in step.changed:
        rng = random.Random(f"{step.number} {item.path}")
        path = root / item.path
        if kind(item) in _MAGIC:
            path.write_bytes(asset_bytes(Item(item.path, item.size, rng.getrandbits(48))))
            continue
        data = bytearray(path.read_bytes())
        everywhere = rng.random() < 1 / 12
        for _ in range(len(data) // 10_000 if everywhere else rng.randint(3, 12)):
            length = 12 if everywhere else min(len(data) // 4, rng.choice((16, 64, 400, 3000, 20_000)))
            at = rng.randrange(18, len(data) - length)
            for offset in range(at, at + length, 4):
                data[offset] = (data[offset] + 1 + (offset >> 8 & 3)) & 255
        if rng.random() < 0.4:
            at = rng.randrange(len(data)) & ~63
            length = 64 * rng.randint(1, 200)
            data[at:at] = data[at // 2 : at // 2 + length]
        data[8:12] = step.number.to_bytes(4, "little")
        path.write_bytes(data)
    _write_assets(str(root), list(step.new))
    _delete_and_rename(root, step)


# --- big file, many files ---------------------------------------------------------------------


def _write_big(path: Path, size: int) -> None:
    """A game's pack: 4 MiB of noise, 4 MiB of records, and so on."""
    with open(path, "wb") as file:
        for number in range(0, size, 8 * MIB):
            rng = np.random.default_rng(number)
            file.write((rng.bytes(4 * MIB) + _level(rng, 4 * MIB)[: 4 * MIB])[: size - number])


def edit_big(path: Path, edit: int = 1) -> int:
    """Overwrite four runs and insert one near the end; the number of new bytes (about 0.1 % of the file)."""
    size = path.stat().st_size
    run = max(4096, size // 4096)
    with open(path, "r+b") as file:
        for number in range(4):
            file.seek(size * (2 * number + 1) // (8 + edit))
            file.write(random.Random(f"edit {edit} run {number}").randbytes(run))
        at = size * 31 // 32
        file.seek(at)
        tail = file.read()
        file.seek(at)
        file.write(random.Random(f"insert {edit}").randbytes(run // 4) + tail)
    return 4 * run + run // 4


def _write_tiny(root: str, first: int, last: int) -> None:
    names, _ = _identifiers()
    for number in range(first, last):
        folder = number // 20
        path = f"{root}/{names[folder % 83]}/{names[folder % 991]}/{folder}/{names[number % 40_000]}_{number % 20}.txt"
        _write(path, b"%d\n" % number * (1 + number % 9))


# --- making and keeping -----------------------------------------------------------------------


def _write(path: str, data: bytes) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


class DataSets:
    """The data sets of one work folder; each is made when it is first asked for."""

    def __init__(self, workdir: Path) -> None:
        self.folder = workdir / "data"

    def code(self, files: int) -> Path:
        """A source tree."""
        return self._made(f"code-{files}", lambda root: _spread(_write_source, root, sorted_items(code_items(files))))

    def assets(self, files: int, total: int) -> Path:
        """An asset library of `total` bytes."""
        return self._made(
            f"assets-{files}-{total // MIB}m",
            lambda root: _spread(_write_assets, root, sorted_items(asset_items(files, total))),
        )

    def big(self, size: int) -> Path:
        """A folder that holds one file, `game.pak`."""
        return self._made(f"big-{size // MIB}m", lambda root: _write_big(root / "game.pak", size))

    def tiny(self, files: int) -> Path:
        """A tree of very small files, 20 to a folder."""

        def make(root: Path) -> None:
            starts = range(0, files, 20_000)
            with ProcessPoolExecutor(WORKERS) as pool:
                _finish([pool.submit(_write_tiny, str(root), start, min(files, start + 20_000)) for start in starts])

        return self._made(f"tiny-{files}", make)

    def _made(self, name: str, make: Callable[[Path], None]) -> Path:
        root = self.folder / f"{name}-r{RECIPE}"
        if not root.exists():
            half = root.with_name(root.name + ".part")
            shutil.rmtree(half, ignore_errors=True)
            half.mkdir(parents=True)
            make(half)
            half.rename(root)
        return root


def _finish(futures: list[Future[None]]) -> None:
    for future in futures:
        future.result()


def sorted_items(items: list[Item]) -> list[Item]:
    """By path: folders are then written one after the other."""
    return sorted(items, key=lambda item: item.path)


def _spread(write: Callable[[str, list[Item]], None], root: Path, items: list[Item]) -> None:
    size = max(1, min(1000, len(items) // (4 * WORKERS)))
    starts = range(0, len(items), size)
    with ProcessPoolExecutor(WORKERS) as pool:
        _finish([pool.submit(write, str(root), items[start : start + size]) for start in starts])
