"""`python -m gitvault` and the script `git-vault`: the command line as a process of its own."""

from __future__ import annotations

import gc
import sys

from gitvault.cli.main import main


def run() -> int:
    """Run the command line; its exit code."""
    # What a start makes stays until the end, when the system takes it back whole: looking for garbage
    # in it was 9 of the 95 ms of `git vault status`.
    gc.set_threshold(50_000)
    try:
        return main()
    finally:
        gc.freeze()


if __name__ == "__main__":
    sys.exit(run())
