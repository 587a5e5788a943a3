#!/usr/bin/env python
"""What `protect` stores of dirty checkouts of real repositories, compared with `full`, and whether all comes back.

    scripts/bench_vcs.py FOLDER REPOSITORY...

Each REPOSITORY (a bare one on this machine) is cloned into FOLDER and made dirty: changed, staged, deleted and new
files, a branch with commits that are not pushed, two stashes. It is saved in both modes, the checkout is put away, and
the snapshot in `protect` is restored from the remote. One line each: files, bytes stored, the share, seconds of
restoring, and whether work tree, status, index, refs, stashes and reflogs are what they were.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from gitvault.vault import Vault


def git(folder: Path, *words: str, ok: bool = True) -> bytes:
    """What git says in a folder."""
    identity = ("-c", "user.name=A Tester", "-c", "user.email=tester@example.invalid")
    return subprocess.run(["git", *identity, *words], cwd=folder, check=ok, capture_output=True).stdout


def make_dirty(work: Path) -> None:
    """What a day leaves behind, the same every time."""
    names = [name for name in git(work, "ls-files", "-z").split(b"\0") if name]
    texts = [os.path.join(os.fsencode(work), name) for name in names]
    texts = [path for path in texts if os.path.isfile(path) and not os.path.islink(path) and os.path.getsize(path)]
    chosen = sorted(texts, key=lambda path: hashlib.sha1(path[len(os.fsencode(work)) :]).digest())[:40]

    def touch(paths: list[bytes], word: bytes) -> None:
        for path in paths:
            with open(path, "ab") as file:
                file.write(word + b" by hand\n")

    for number in range(2):
        touch(chosen[:3], b"stashed %d" % number)
        git(work, "stash", "push", "-q", "-m", f"number {number}")
    git(work, "switch", "-q", "-c", "unpushed")
    for number in range(3):
        touch(chosen[3 + number : 6 + number], b"committed")
        git(work, "commit", "-q", "-a", "-m", f"commit {number}")
    git(work, "tag", "-a", "-m", "local", "local-tag")
    touch(chosen[10:15], b"staged")
    git(work, "add", "-u")
    touch(chosen[14:25], b"changed")
    for path in chosen[30:33]:
        os.unlink(path)
    for number in range(5):
        (work / f"untracked-{number}.txt").write_text(f"new {number}\n" * 50)


def facts(folder: Path) -> dict[str, bytes]:
    """What has to come back."""
    tree = hashlib.sha1()
    for place, folders, names in os.walk(os.fsencode(folder)):
        folders[:] = sorted(name for name in folders if name != b".git")
        for name in sorted(names + [name for name in folders if os.path.islink(os.path.join(place, name))]):
            path = os.path.join(place, name)
            tree.update(os.path.relpath(path, os.fsencode(folder)) + b"\0")
            if os.path.islink(path):
                tree.update(os.readlink(path))
            else:
                with open(path, "rb") as file:
                    tree.update(file.read() + (b"x" if os.stat(path).st_mode & 0o100 else b"-"))
    stashes = git(folder, "stash", "list", "--format=%H").split()
    return {
        "work tree": tree.digest(),
        "status": git(folder, "status", "--porcelain=v2", "-b", "-z"),
        "index": git(folder, "ls-files", "--stage", "-z"),
        "refs": git(folder, "for-each-ref"),
        "stashes": b"".join(git(folder, "stash", "show", "-p", stash.decode()) for stash in stashes),
        "reflogs": git(folder, "reflog", "--all"),
    }


def measure(folder: Path, origin: Path) -> tuple[int, int]:
    """One repository: bytes stored in `protect` and in `full`."""
    name = origin.parent.name if origin.name in ("repo", ".git") else origin.name.removesuffix(".git")
    work = folder / name
    git(folder, "clone", "-q", f"file://{origin}", str(work))
    make_dirty(work)
    before = facts(work)
    stored = {}
    for mode in ("full", "protect"):
        vault = folder / f"{mode}.git"
        Vault.create(vault).close()
        with (vault / "config").open("a") as config:
            config.write("\tmaintenance = off\n")
        with Vault.open(vault) as opened:
            opened.add_project(work, mode=mode)
            report = opened.create_snapshot(work)
            stored[mode] = report.bytes_stored
            if mode == "protect":
                assert not report.notes, report.notes
                work.rename(folder / "away")
                started = time.perf_counter()
                restored = opened.restore_snapshot(report.snapshot, folder / "again")
                seconds = time.perf_counter() - started
        shutil.rmtree(vault)
    after = facts(folder / "again")
    wrong = [fact for fact in before if before[fact] != after[fact]]
    wrong += [f"{len(restored.problems)} problems"] if restored.problems else []
    share = 100 * stored["protect"] / stored["full"]
    print(
        f"{name:28} {restored.files:7,} files  protect {stored['protect']:12,}  full {stored['full']:14,}  "
        f"{share:5.2f} %  restored in {seconds:5.1f} s  {'equal' if not wrong else 'DIFFERENT: ' + ', '.join(wrong)}",
        flush=True,
    )
    for left in ("away", "again"):
        shutil.rmtree(folder / left)
    return stored["protect"], stored["full"]


def main(arguments: list[str]) -> None:
    """Measure each, and tell the whole."""
    folder = Path(arguments[0]).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    found = [measure(folder, Path(origin).absolute()) for origin in arguments[1:]]
    protect, full = (sum(column) for column in zip(*found, strict=True))
    print(f"{len(found)} repositories: protect {protect:,}, full {full:,}: {100 * protect / full:.2f} %")


if __name__ == "__main__":
    main(sys.argv[1:])
