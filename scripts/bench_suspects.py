"""Where `suspects` puts the cause of breakages in real projects, among all that changed in between.

    python scripts/bench_suspects.py FOLDER [WORD ...]

FOLDER holds clones of the projects that the five files of breakages name. The rules were made while looking at the
first four, three of which were blind once; the fifth was written down before it was ranked, once. WORDs: only
breakages with one in their name. Exit code 1 when of the first fewer than 12 come first, or fewer than 18 are within
the first five.
"""

from __future__ import annotations

import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gitvault.personas.game.feedback import Feedback
from gitvault.personas.game.insight import Suspect, categories
from gitvault.personas.game.insight.changes import is_readable
from gitvault.personas.game.insight.clues import clues
from gitvault.personas.game.insight.suspects import suspects
from gitvault.personas.game.insight.touched import Change

CASES = Path(__file__).with_name("breakages.toml")
OTHERS = [CASES.with_name(f"breakages_{name}.toml") for name in ("held_out", "blind", "blind_2", "blind_3")]
_LONGEST = 1 << 20


class Clone:
    """Blobs and trees of a repository."""

    def __init__(self, folder: Path) -> None:
        self.git = ["git", "-C", str(folder)]
        pipe = subprocess.PIPE
        self.batch = subprocess.Popen([*self.git, "cat-file", "--batch"], stdin=pipe, stdout=pipe)

    def blob(self, oid: str) -> bytes:
        """An object's bytes, empty where the clone has it not."""
        assert self.batch.stdin and self.batch.stdout
        self.batch.stdin.write(oid.encode() + b"\n")
        self.batch.stdin.flush()
        head = self.batch.stdout.readline().split()
        if head[1] == b"missing":
            return b""
        return self.batch.stdout.read(int(head[2]) + 1)[:-1]

    def tree(self, commit: str, under: str) -> dict[bytes, str]:
        """All blobs of a commit, or of a folder in it, by path."""
        spec = f"{commit}:{under}" if under else commit
        listed = subprocess.run([*self.git, "ls-tree", "-r", "-z", spec], capture_output=True, check=True).stdout
        return {row.split(b"\t", 1)[1]: row.split()[2].decode() for row in listed.split(b"\0") if row}


class Side:
    """The files of a build: by path a blob's id, or content that was made."""

    def __init__(self, clone: Clone, files: dict[bytes, str]) -> None:
        self.clone = clone
        self.files: dict[bytes, str | bytes] = dict(files)

    def content(self, path: bytes) -> bytes:
        """A file's bytes."""
        held = self.files.get(path, b"")
        return self.clone.blob(held) if isinstance(held, str) else held

    def read(self, path: bytes) -> bytes:
        """A Read, as `suspects` has it."""
        content = self.content(path) if is_readable(path) else b""
        return b"" if len(content) > _LONGEST or b"\0" in content[:8000] else content

    def edit(self, edits: list[list[str]]) -> None:
        """Break it, as `breakages.toml` says."""
        for path, *change in edits:
            key = path.encode()
            if not change:
                del self.files[key]
            elif len(change) == 1:
                self.files[change[0].encode()] = self.files.pop(key)
            else:
                old, new = (text.encode() for text in change)
                content = self.content(key)
                assert old in content, f"{path}: has no {old!r}"
                self.files[key] = content.replace(old, new)

    def numbers(self) -> Iterator[tuple[str, bytes]]:
        """Unity's GUIDs with the paths of their assets."""
        for path in self.files:
            if path.endswith(b".meta") and b"\nguid: " in (content := self.read(path)):
                yield content.partition(b"\nguid: ")[2][:32].decode("ascii", "replace"), path.removesuffix(b".meta")


def changes(older: Side, newer: Side) -> Iterator[Change]:
    """What is different, files that only moved as one."""
    gone = {older.files[path]: path for path in older.files.keys() - newer.files.keys()}
    moved = set()
    for path in newer.files.keys() - older.files.keys():
        if source := gone.get(newer.files[path]):
            moved.add(source)
            yield Change(path, "moved", source)
        else:
            yield Change(path, "added")
    yield from (Change(path, "deleted") for path in older.files.keys() - newer.files.keys() - moved)
    both = older.files.keys() & newer.files.keys()
    yield from (Change(path, "changed") for path in both if older.files[path] != newer.files[path])


def ranking(clone: Clone, case: Mapping[str, Any]) -> list[Suspect]:
    """The suspects of one breakage."""
    under = case.get("under", "")
    older, newer = (Side(clone, clone.tree(case[commit], under)) for commit in ("base", "head"))
    newer.edit(case["edits"])
    different = sorted(changes(older, newer), key=lambda change: change.path)
    text = case.get("text") or "\n".join(case["engine"])
    record = Feedback("0" * 32, "", "bench", case["kind"], text=text, stack=tuple(case.get("stack", ())))
    known = {change.path for change in different}
    return suspects(
        clues([record]),
        different,
        older.read,
        newer.read,
        topics=categories.builtin().topics,
        numbers=dict((*older.numbers(), *newer.numbers())),
        others=[path for path in newer.files if path not in known and is_readable(path)],
    )


def main(folder: Path, words: list[str]) -> int:
    """Rank all, or those with one of the words in their name; the exit code."""
    first, five = placed(CASES, folder, words)
    for cases in OTHERS:
        placed(cases, folder, words)
    return 0 if words or (first >= 12 and five >= 18) else 1


def placed(cases: Path, folder: Path, words: list[str]) -> tuple[int, int]:
    """Rank the breakages of a file; how many come first, and how many within the first five."""
    clones: dict[str, Clone] = {}
    places = []
    for case in tomllib.loads(cases.read_text("utf-8"))["case"]:
        if words and not any(word in case["name"] for word in words):
            continue
        clone = clones.setdefault(case["clone"], Clone(folder / case["clone"]))
        began = time.process_time()
        found = ranking(clone, case)
        took = time.process_time() - began
        place = next((n for n, one in enumerate(found, 1) if one.path.decode() in case["culprits"]), len(found) + 1)
        places.append(place)
        print(f"{place:5} of {len(found):5}  {took:5.1f} s  {case['clone']:20} {case['name']}")
        for one in found[: place if words else 0][:5]:
            print(f"      {one.score:6} {one.path.decode()}: {'; '.join(one.reasons[:4])}")
    first, five = sum(place == 1 for place in places), sum(place <= 5 for place in places)
    print(f"{cases.stem}: {first} of {len(places)} first, {five} within the first five", flush=True)
    return first, five


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2:]))
