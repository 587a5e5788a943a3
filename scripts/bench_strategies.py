"""What each chunking strategy stores of the binary files in a git repository's history.

    python scripts/bench_strategies.py REPOSITORY...

Every version of every binary file over 64 KiB, oldest first, each with the version before it as its base,
goes into a fresh chunk store; the table has the bytes on disk per kind of file, and the seconds that storing took.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from gitvault.core.chunking import AssetAware, FixedSize, RollingHash
from gitvault.core.models import Pointer
from gitvault.core.storage.store import ChunkStore
from gitvault.core.utils.kinds import kind_of

LEAST = 64 << 10
STRATEGIES = {"fixed": FixedSize, "rolling-hash": RollingHash, "asset-aware": AssetAware}
Version = tuple[bytes, str]


def versions(repository: Path) -> Iterator[Version]:
    """Path and blob id of each version, oldest commit first."""
    git = ["git", f"--git-dir={repository}", "log", "--reverse", "--raw", "--no-renames", "--no-abbrev", "-z"]
    fields = subprocess.check_output([*git, "--format=", "HEAD"]).split(b"\0")
    for change, path in zip(fields[::2], fields[1::2], strict=False):
        blob = change.split()[3].decode()
        if blob != "0" * 40:
            yield path, blob


def contents(repository: Path, wanted: list[Version]) -> Iterator[tuple[bytes, bytes]]:
    """Path and content of each version that is a large binary file."""
    git = ["git", f"--git-dir={repository}", "cat-file", "--batch", "--buffer"]
    with tempfile.TemporaryFile() as ids:
        ids.write(b"".join(f"{blob}\n".encode() for _, blob in wanted))
        ids.seek(0)
        with subprocess.Popen(git, stdin=ids, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for path, _ in wanted:
                head = process.stdout.readline().split()
                if head[1] == b"missing":
                    continue
                data = process.stdout.read(int(head[2]))
                process.stdout.read(1)
                if head[1] == b"blob" and len(data) > LEAST and b"\0" in data[:8000]:
                    yield path, data


def stored(repository: Path, wanted: list[Version], name: str, level: int) -> tuple[dict[str, tuple[int, int]], float]:
    """Bytes of all versions and bytes they take in a store, by kind of file; seconds in the store."""
    seconds = 0.0
    sizes: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    with tempfile.TemporaryDirectory() as folder:
        stores: dict[str, ChunkStore] = {}
        last: dict[bytes, Pointer] = {}
        for path, data in contents(repository, wanted):
            kind = kind_of(path)
            if kind not in stores:
                at = Path(folder) / kind
                stores[kind] = ChunkStore(at / "chunks", cache=at, strategy=STRATEGIES[name](level=level))
            extension = "." + path.rpartition(b".")[2].decode("utf-8", "replace").lower()
            started = time.perf_counter()
            last[path] = stores[kind].store_file(io.BytesIO(data), base=last.get(path), file_extension=extension)
            seconds += time.perf_counter() - started
            sizes[kind][0] += len(data)
        for kind, store in stores.items():
            store.flush()
            sizes[kind][1] = store.get_storage_size().bytes
            store.close()
    return {kind: (total, taken) for kind, (total, taken) in sizes.items()}, seconds


def main(repositories: list[str]) -> None:
    """Print a table per repository."""
    for repository in map(Path, repositories):
        wanted = list(versions(repository))
        print(f"{repository}: MB\n\n| kind | all versions | {' | '.join(STRATEGIES)} |")
        print("|---|" + "---|" * (len(STRATEGIES) + 1))
        for level in (1, 9):
            found = {name: stored(repository, wanted, name, level) for name in STRATEGIES}
            totals = {kind: total for kind, (total, _) in found["fixed"][0].items()}
            for kind in sorted(totals, key=totals.__getitem__, reverse=True) if level == 1 else ():
                taken = " | ".join(f"{found[name][0][kind][1] / 1e6:.1f}" for name in STRATEGIES)
                print(f"| {kind} | {totals[kind] / 1e6:.1f} | {taken} |")
            sums = " | ".join(f"{sum(t for _, t in found[name][0].values()) / 1e6:.1f}" for name in STRATEGIES)
            print(f"| all, level {level} | {sum(totals.values()) / 1e6:.1f} | {sums} |")
            print(f"| seconds, level {level} | | {' | '.join(f'{found[name][1]:.1f}' for name in STRATEGIES)} |")
        print()


if __name__ == "__main__":
    main(sys.argv[1:])
