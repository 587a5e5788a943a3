"""One new pack of what refs reach, made beside the vault: git finds the deltas, what is new is deflated better."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path

from gitvault.core.interfaces import Progress
from gitvault.core.models import ObjectId
from gitvault.core.utils.files import Disk
from gitvault.core.utils.process import git
from gitvault.core.versioning import losses
from gitvault.core.versioning.odb import ObjectStore
from gitvault.core.versioning.packfile import NewPack, PackWriter, publish
from gitvault.core.versioning.redeflate import redeflate
from gitvault.core.versioning.refs import RefStore
from gitvault.core.versioning.salvage import reachable

_WINDOW_MEMORY = "96m"
# git would map all packs whole: 407 MiB for one of 245 MB.
_MAPPED_AT_ONCE = "128m"
_MAPPED_PIECE = "16m"


class Scratch:
    """A repository of our own making that borrows the vault's objects: git's temporary packs land here. A context."""

    def __init__(self, git_dir: Path, disk: Disk) -> None:
        self.path = git_dir / "tmp" / f"repack-{secrets.token_hex(4)}"
        self._git_dir = git_dir
        self._disk = disk

    def __enter__(self) -> Scratch:
        self._remove()
        try:
            self._make()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._remove()

    def _make(self) -> None:
        for folder in ("objects/info", "objects/pack", "refs", "out"):
            self._disk.make_folder(self.path / folder)
        files = {
            "HEAD": "ref: refs/heads/none\n",
            "config": "[core]\n\trepositoryformatversion = 0\n\tbare = true\n",
            "objects/info/alternates": "../../../objects\n",
        }
        for name, content in files.items():
            with self._disk.create(self.path / name) as file:
                file.write(content.encode())

    def lend(self, names: Iterable[str]) -> set[str]:
        """Let it own packs: git leaves out what is kept only in packs of its own. Which it does own."""
        lent = set()
        # No hard links here: then the packs are written anew each time.
        with suppress(OSError):
            for name in names:
                for file in (f"{name}.pack", f"{name}.idx"):
                    self._disk.link(self._git_dir / "objects" / "pack" / file, self.path / "objects" / "pack" / file)
                lent.add(name)
        return lent

    def roll(
        self,
        tips: Iterable[ObjectId],
        kept: Iterable[str],
        settled: Iterable[str],
        *,
        untried: bool = False,
        progress: Progress | None,
        idle: bool,
        stop: Callable[[], bool] | None = None,
    ) -> tuple[int, set[str]]:
        """Publish a pack of all that the tips reach and `kept` packs do not hold.

        How many objects were deflated anew, which those in `settled` packs are not; and the pack's name.
        """
        say = progress or (lambda what, done, total: None)
        folder = self._git_dir / "objects" / "pack"
        say("Finding deltas", 0, 4)
        indexes = _pack_objects(
            self.path, tips, kept, untried=untried, lossy=is_lossy(self._git_dir), idle=idle, stop=stop
        )
        say("Compressing what is new", 1, 4)
        known = [folder / f"{name}.idx" for name in sorted(settled)]
        deflated, packed = _redeflate(indexes, known, PackWriter(self.path / "out", self._disk), stop)
        say("Checking the new pack", 2, 4)
        for pack in packed:
            git(self.path, "index-pack", "--verify", pack.pack, idle=idle, stop=stop)
        say("Replacing packs", 3, 4)
        for pack in packed:
            publish(pack, folder, self._disk)
        return deflated, {pack.name for pack in packed}

    def _remove(self) -> None:
        """Also those of earlier runs that were killed."""
        for scratch in (self._git_dir / "tmp").glob("repack-*"):
            for path in sorted(scratch.rglob("*"), reverse=True):
                if path.is_dir():
                    self._disk.remove_folder(path)
                else:
                    self._disk.unlink(path)
            self._disk.remove_folder(scratch)


def is_lossy(git_dir: Path) -> bool:
    """Whether a repair could not get everything back."""
    return RefStore(git_dir, Disk()).read(losses.REF) is not None


def _pack_objects(
    scratch: Path,
    tips: Iterable[ObjectId],
    kept: Iterable[str],
    *,
    untried: bool,
    lossy: bool,
    idle: bool,
    stop: Callable[[], bool] | None,
) -> list[Path]:
    """Let git choose deltas and order; the indexes of what it wrote. Objects keep their streams.

    `untried`: no pack was ever searched for deltas. `lossy`: objects are known to be lost; git would stop at
    the first, so it is told each one that is left.
    """
    target = scratch / "out"
    if lossy:
        with closing(ObjectStore(scratch.parent.parent / "objects")) as objects:
            tips = list(reachable(objects, tips))
    output = git(
        scratch,
        "-c",
        f"pack.windowMemory={_WINDOW_MEMORY}",
        "-c",
        f"core.packedGitLimit={_MAPPED_AT_ONCE}",
        "-c",
        f"core.packedGitWindowSize={_MAPPED_PIECE}",
        "-c",
        "pack.writeReverseIndex=false",
        "-c",
        "pack.packSizeLimit=0",
        "-c",
        "core.bigFileThreshold=32m",
        "pack-objects",
        *(() if lossy else ("--revs",)),
        "--non-empty",
        "--delta-base-offset",
        # What git gc uses, whatever the user's own configuration says.
        "--window=10",
        "--depth=50",
        "--compression=6",
        "--threads=0",
        "-q",
        # git takes it that two objects of one pack have been tried on each other. Snapshots try nothing: of four
        # Python packages and /usr/share/doc, 3.2 % less.
        *(("--no-reuse-delta",) if untried else ()),
        *(f"--keep-pack={name}.pack" for name in kept),
        target / "pack",
        stdin=b"".join(tip.hex().encode() + b"\n" for tip in tips),
        idle=idle,
        stop=stop,
    )
    return [target / f"pack-{digits}.idx" for digits in output.decode().split()]


def _redeflate(
    indexes: Iterable[Path], settled: Iterable[Path], writer: PackWriter, stop: Callable[[], bool] | None
) -> tuple[int, list[NewPack]]:
    """How many objects were deflated anew, and the packs to publish, synced."""
    deflated = 0
    packs = []
    try:
        for index in indexes:
            deflated += redeflate(index, settled, writer, stop=stop)
            if (pack := writer.finish()) is not None:
                packs.append(pack)
    except BaseException:
        writer.abandon()
        raise
    return deflated, packs
