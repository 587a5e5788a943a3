"""Every parser of bytes that somebody else may have written, and a way to feed each whatever comes to mind.

`tests/property/test_hostile_bytes.py` does it a little in every run. For longer, by hand:

    PYTHONPATH=.:tests python tests/fuzzing.py SECONDS [TARGET ...]

That uses atheris (libFuzzer, guided by coverage) where it can be imported, else mutates without guidance. What breaks
a parser is written into the current folder.
A parser may answer, or raise GitVaultError or what its docstring says; anything else is a finding. `parsers` has them.
"""

from __future__ import annotations

import gc
import hashlib
import os
import random
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FunctionType

from parsers import media, projects, records, vault
from parsers.target import Target, feed

_LIMIT = 1 << 16

TARGETS = {**vault.TARGETS, **records.TARGETS, **projects.TARGETS, **media.TARGETS}
"""By name."""


_TASTY = (
    b"\0", b"\n", b" ", b"\t", b"/", b"..", b"%", b"\\x", b"=", b":", b"-", b"-1", b"0", b"\xff\xff\xff\xff", b"\x80",
    b"9" * 20, b"9" * 5000, b"[" * 3000, b"\xc3", b"\xed\xa0\x80", b"e", b"_", b"+", b"0x", b"\x1b[2J", b"nan",
    b"Infinity", b"1e999", b"null", b"[]", b"{}", b'""', b"-1.5",
)  # fmt: skip


def mutate(rng: random.Random, data: bytes) -> bytes:
    """Like `data`, with a few bytes or stretches changed, cut, doubled or put in."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        at = rng.randint(0, len(out))
        size = rng.choice((1, 1, 2, 4, 8, 32, len(out) // 2))
        match rng.randrange(6):
            case 0:
                out[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del out[at : at + size]
            case 2:
                out[at:at] = rng.choice(_TASTY)
            case 3:
                out[at : at + size] = rng.choice(_TASTY)
            case 4:
                out[at:at] = out[rng.randint(0, len(out)) :][:size]
            case _:
                if at < len(out):
                    out[at] ^= 1 << rng.randrange(8)
    return bytes(out[:_LIMIT])


def _unguided(target: Target, seconds: float, seed: int) -> int:
    """Feed mutations, and mutations of those; how many."""
    rng = random.Random(seed)
    pool = list(target.seeds)
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end:
        for _ in range(100):
            data = mutate(rng, rng.choice(pool))
            try:
                feed(target, data)
            except BaseException:
                print(f"seed {seed}, input {count}: {data!r}", file=sys.stderr)
                raise
            count += 1
            if not rng.randrange(50):
                pool.append(data)
                if len(pool) > 500:
                    pool = [*target.seeds, *pool[250:]]
    return count


def _instrument(chosen: Sequence[str]) -> None:
    """Let atheris see which way the product goes. Raises ImportError where it is not installed."""
    import atheris  # type: ignore[import-not-found]

    for name in chosen:
        for seed in TARGETS[name].seeds:
            # What it imports when it is first called is there now.
            feed(TARGETS[name], seed)
    # All of Python's own library would take a minute.
    for found in gc.get_objects():
        if isinstance(found, FunctionType) and str(found.__module__).startswith("gitvault."):
            atheris.instrument_func(found)


def _guided(name: str, seconds: float) -> int:
    """libFuzzer in a process of its own, which it ends; it says itself how many inputs it tried. The exit code."""
    import atheris

    child = os.fork()
    if child:
        _, status, used = os.wait4(child, 0)
        print(f"{name}: {used.ru_utime + used.ru_stime:.1f} s of processor", flush=True)
        return os.waitstatus_to_exitcode(status)

    def feed_or_end(data: bytes) -> None:
        try:
            feed(TARGETS[name], data)
        except BaseException:
            # Not by raising it: that end would remove the folders that the parsers of the other targets write to.
            traceback.print_exc()
            Path(f"{name}-crash-{hashlib.sha1(data).hexdigest()}").write_bytes(data)
            os._exit(1)

    with TemporaryDirectory() as corpus:
        for number, seed in enumerate(TARGETS[name].seeds):
            Path(corpus, str(number)).write_bytes(seed)
        options = [f"-max_total_time={seconds:.0f}", f"-max_len={_LIMIT}", "-timeout=20", "-rss_limit_mb=2048"]
        atheris.Setup([name, *options, f"-artifact_prefix={os.getcwd()}/{name}-", corpus], feed_or_end)
        atheris.Fuzz()
    os._exit(0)


def main(words: Sequence[str]) -> None:
    """`SECONDS [TARGET ...]`: each target, all without names, gets its share of the time."""
    chosen = list(words[1:]) or list(TARGETS)
    share = float(words[0]) / len(chosen)
    try:
        _instrument(chosen)
    except ImportError:
        for name in chosen:
            print(f"{name}: {_unguided(TARGETS[name], share, int(time.time())):,} inputs", flush=True)
        return
    failed = [name for name in chosen if _guided(name, share)]
    if failed:
        sys.exit(f"found something: {', '.join(failed)}")


if __name__ == "__main__":
    main(sys.argv[1:])
