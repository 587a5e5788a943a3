"""What is measured and what it should come to. A row's samples are seconds, bytes or plain ratios."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Goal:
    """A bound on git-vault's median, against a peer's or, with no peer, on its own."""

    at_most: float | None
    """Of ours / peer's, or of ours; None: nothing is asked, both are shown."""
    peer: str = ""
    times_faster: bool = False
    """Written as in the order: `at least 2x faster`."""

    def __str__(self) -> str:
        if self.at_most is None:
            return "shown"
        if self.times_faster:
            return f">= {1 / self.at_most:g}x faster"
        return f"<= {self.at_most:g}x" if self.peer else f"<= {self.at_most:g}"


@dataclass(frozen=True)
class Row:
    """One line or more of the table."""

    name: str
    story: str
    """The data it is measured on: rows of one story follow each other on the same repositories."""
    work: str
    unit: str
    """`s`; `MB`: samples are bytes; empty: a count."""
    goals: tuple[Goal, ...]
    stated: bool = False
    """Whether it is a figure of requirements.md."""
    of: str = ""
    """The row of the same story whose samples it judges; empty: its own."""

    @property
    def measured(self) -> str:
        """The name its samples are taken under."""
        return self.of or self.name


def _faster(times: float, peer: str) -> Goal:
    return Goal(1 / times, peer, times_faster=True)


MEMORY = Goal(400 * 2**20)
OURS = "git-vault"
BEFORE = "git-vault before"
EDIT = "the edit"
FILES = "the files"
SCAN = "the scan"
FULL = "mode full"
GIT_LOG = "git log"
OIIO = "oiiotool --diff"
IDIFF = "idiff"
ODIFF = "odiff"
MAGICK = "ImageMagick"

ROWS = (
    Row(
        "code-initial",
        "code",
        "source files, first save",
        "s",
        (_faster(2, "restic"), _faster(3, "borg zstd,3"), _faster(4, "git")),
    ),
    Row("code-unchanged", "code", "source files, nothing changed", "s", (_faster(5, "restic"), Goal(1.3, "git"))),
    Row("code-increment", "code", "source files, 0.58 % touched", "s", (_faster(4, "restic"), Goal(1.5, "git"))),
    Row("code-late", "code", "nothing changed, after the history", "s", (Goal(1.25, BEFORE),)),
    Row("code-restore", "code", "source files, restore", "s", (_faster(1.5, "restic"), _faster(1, "casync"))),
    Row("code-stored", "code", "source files, 22 versions", "MB", (Goal(0.7, "restic"), Goal(1.1, "git gc"))),
    Row("code-maintained", "code", "restore after maintenance", "s", (_faster(1.5, "restic"), _faster(1, "casync"))),
    Row("assets-initial", "assets", "assets, first save", "s", (_faster(2, "restic"), _faster(1.2, "borg lz4"))),
    Row("assets-restore", "assets", "assets, restore", "s", (_faster(1.5, "restic"),)),
    Row(
        "assets-stored",
        "assets",
        "assets, 11 versions",
        "MB",
        (Goal(0.75, "restic"), Goal(0.75, "borg zstd,3"), Goal(1, "bup")),
    ),
    Row("big-initial", "big", "one large file, first save", "s", (_faster(1.2, "borg lz4"), _faster(1.8, "restic"))),
    Row("big-edit", "big", "one large file, edit of 0.1 %", "s", (_faster(1, "borg lz4"),)),
    Row("big-edit-stored", "big", "new bytes of that edit", "MB", (Goal(1.5, EDIT),)),
    Row("tiny-unchanged", "tiny", "tiny files, nothing changed", "s", (Goal(2, "find"),)),
    Row("tiny-status", "tiny", "status, from process start", "s", (Goal(0.15),)),
    Row("tiny-log", "tiny", "log, from process start", "s", (Goal(0.15),)),
    Row("tiny-memory", "tiny", "memory, many files", "MB", (MEMORY,)),
    Row("projects-shown", "catalog", "50 projects reorganised and asked for, 20,000 snapshots", "s", (Goal(1),)),
    Row("projects-list", "catalog", "50 projects listed, from process start", "s", (Goal(0.5),)),
    Row("projects-counted", "catalog", "the same, the count of snapshots deleted", "s", (Goal(5),)),
    *(
        Row(f"image-{size}-{kind}", "images", f"{size.upper()} {what} compared, with pictures", "s", (Goal(goal),))
        for size, kind, what, goal in (
            ("4k", "png", "8-bit PNG", 2.5),
            ("4k", "tif", "16-bit TIFF", 2.5),
            ("4k", "exr", "EXR of nine channels", 4),
            ("8k", "png", "8-bit PNG", 8),
            ("8k", "tif", "16-bit TIFF", 8),
            ("8k", "exr", "EXR of nine channels", 15),
        )
    ),
    Row("image-figures-4k-png", "images", "figures alone, 4K PNG", "s", (Goal(1.5, OIIO), _faster(1, ODIFF))),
    Row("image-noise-4k", "images", "the same, noise everywhere", "s", (Goal(1.5, OIIO), _faster(1, ODIFF))),
    Row("image-figures-4k-tif", "images", "figures alone, 4K TIFF", "s", (Goal(1.5, OIIO), _faster(1, IDIFF))),
    Row("image-figures-8k-png", "images", "figures alone, 8K PNG", "s", (Goal(1.5, OIIO), _faster(1, ODIFF))),
    Row("image-figures-8k-tif", "images", "figures alone, 8K TIFF", "s", (Goal(1.5, OIIO), _faster(1, MAGICK))),
    Row("image-figures-8k-exr", "images", "figures alone, 8K EXR", "s", (Goal(1.5, OIIO), _faster(1, IDIFF))),
    Row("mesh-1m", "models", "models of a million faces, with pictures", "s", (Goal(10),)),
    Row("psd-layer", "elements", "one layer of a PSD of 600 MB restored and proved", "s", (Goal(5),)),
    Row("timeline-warm", "timeline", "timeline of 500 versions, thumbnails kept", "s", (Goal(1),)),
    Row("timeline-previews", "timeline", "the same of 100 documents with previews, none kept", "s", (Goal(2),)),
    Row("timeline-jpeg", "timeline", "the same of 100 4K JPEGs", "s", (Goal(5),)),
    Row("timeline-png", "timeline", "the same of 100 4K PNGs", "s", (Goal(15),)),
    Row("feedback-import", "players", "15,000 of a million records of feedback imported", "s", (Goal(1),)),
    Row("feedback-build", "players", "those of one build of 400, from process start", "s", (Goal(0.3),)),
    Row("feedback-kind", "players", "the newest 100 of a kind, from process start", "s", (Goal(0.3),)),
    Row("feedback-text", "players", "the newest 100 with a word, from process start", "s", (Goal(0.3),)),
    Row("feedback-common", "players", "the newest 100 with words that 87 % have", "s", (Goal(0.3),)),
    Row("feedback-report", "players", "the report of all", "s", (Goal(2),)),
    Row("dev-classified", "checkouts", "50,000 paths classified, beside their scan", "s", (Goal(1, SCAN),)),
    Row("dev-protect-400", "checkouts", "protect's processor time, 400 files", "s", (Goal(0.03),)),
    Row("dev-protect-50000", "checkouts", "the same, 50,000 files", "s", (Goal(0.1),)),
    Row("dev-untouched-snapshot", "checkouts", "snapshot, 500,000 files in 50 checkouts untouched", "s", (Goal(0.15),)),
    Row("dev-untouched-status", "checkouts", "status of them", "s", (Goal(0.15),)),
    Row("dev-untouched-vcs", "checkouts", "vcs status of them", "s", (Goal(0.15),)),
    Row("dev-idle", "checkouts", "the watcher's processor time in an idle second", "s", (Goal(0.01),)),
    Row("dev-stored", "history", "dirty checkouts in protect", "MB", (Goal(0.05, FULL),)),
    Row("dev-search-S", "history", "-S rare, from process start", "s", (Goal(0.4),)),
    Row("dev-search-G", "history", "-G with a literal, from process start", "s", (Goal(0.4),)),
    Row("dev-search-any", "history", "any regular expression", "s", (Goal(5),)),
    Row("dev-search-symbol", "history", "a symbol", "s", (Goal(0.3),)),
    Row("dev-search-struct", "history", "a structure", "s", (Goal(5),)),
    Row("dev-search-built", "history", "memory of building the index", "MB", (Goal(1.5 * 2**30),)),
    Row("dev-log-S", "history", "-S beside git log, start-up excluded", "s", (_faster(300, GIT_LOG),)),
    Row("dev-log-G", "history", "-G beside git log, start-up excluded", "s", (_faster(300, GIT_LOG),)),
    *(
        row
        for name, what in (("remote", "assets"), ("remote-files", "source files"))
        for row in (
            Row(f"{name}-first", name, f"{what} saved and pushed to an S3 server", "s", (_faster(1.3, "restic"),)),
            Row(f"{name}-first-requests", name, "requests for each GB of them", "", (Goal(None, "restic"),)),
            Row(f"{name}-edits", name, f"the next day's edits of {what}", "s", (_faster(2, "restic"),)),
            Row(f"{name}-edits-requests", name, "requests of that", "", (Goal(None, "restic"),)),
            Row(f"{name}-restore", name, f"{what} brought back, no cache", "s", (_faster(1.2, "restic"),)),
            Row(f"{name}-restore-requests", name, "requests for each GB of them", "", (Goal(None, "restic"),)),
        )
    ),
    *(
        Row(f"{name}-{kind}", name, f"{what} of {kind} imported, beside its restore", "s", (_faster(0.7, peer),))
        for name, what in (("import", "assets"), ("import-files", "source files"))
        for kind, peer in (("restic", "restic"), ("borg", "borg lz4"))
    ),
    Row("milestone-unchanged", "milestones", "a milestone of 100,000 unchanged files", "s", (Goal(10),)),
    Row("milestone-verify-files", "milestones", "the same read back, 5 GB of such files", "s", (Goal(60),)),
    Row("milestone-verify", "releases", "a milestone of unchanged assets read back, 5 GB of them", "s", (Goal(60),)),
    Row("milestone-new", "releases", "one of new assets, saved and read back, 1 GB of them", "s", (Goal(60),)),
    Row("textures-edited", "textures", "60 MB of textures saved, a square edited in each", "s", (Goal(1),)),
    Row("playtest-load", "playtest", "processor time in a second of 1,000 recorded events", "s", (Goal(0.01),)),
    Row("playtest-call", "playtest", "the 99.9th percentile of those calls", "s", (Goal(50e-6),)),
    Row("platform-compare", "platforms", "platforms compared, 5,000 settings each", "s", (Goal(1),)),
    Row("platform-clones", "platforms", "the same in the slowest of real projects", "s", (Goal(1),)),
    Row("rescue-plain", "rescue", "80 MB of assets brought back by rescue.sh", "s", (Goal(1),)),
    Row("rescue-deltas", "rescue", "10 MB of it in files that are nothing but deltas", "s", (Goal(1),)),
    Row("huge-memory", "huge", "memory, one file of 8 GB", "MB", (MEMORY,)),
    Row(
        "library-stored",
        "library",
        "assets, a fifth copied, 5 versions",
        "MB",
        (Goal(0.4, FILES), Goal(1, "restic"), Goal(1, "borg zstd,3")),
    ),
    Row("refs-first", "links", "5,000 linked assets looked through", "s", (Goal(5),)),
    Row("refs-again", "links", "the same, unchanged", "s", (Goal(2),)),
    Row("workspace-capture", "workspace", "a workspace of 90 MB captured", "s", (Goal(1),)),
    Row(
        "histories-all",
        "histories",
        "assets of real games, every version",
        "MB",
        (Goal(0.8, "restic max"), Goal(1, "git aggressive")),
    ),
    Row(
        "histories-plain",
        "histories",
        "those without compression of their own",
        "MB",
        (Goal(1 / 1.4, "restic max"), Goal(1, "git aggressive")),
    ),
    Row(
        "histories-compressed",
        "histories",
        "those with it (PNG, OGG, JPEG ...)",
        "MB",
        (Goal(1, "restic max"),),
    ),
    Row("K6-first", "code", "100,000 files first time in 20 min", "s", (Goal(1200),), stated=True),
    Row("K6-changed", "code", "500 changed in 1 min", "s", (Goal(60),), stated=True),
    Row("K6-projects", "tiny", "50 projects, 500,000 files in 5 min", "s", (Goal(300),), stated=True),
    Row("K6-status", "tiny", "status of any file under 200 ms", "s", (Goal(0.2),), stated=True),
    Row("K6-saved", "code", "60 % saved on the first version", "MB", (Goal(0.4, FILES),), stated=True),
    Row("K6-history", "code", "10:1 for history", "MB", (Goal(0.1, FILES),), stated=True),
    Row("C4-history", "assets", "5:1 for version history", "MB", (Goal(0.2, FILES),), stated=True),
    Row("C6-first", "assets", "50 GB first time under 30 min", "s", (Goal(1800),), stated=True),
    Row("C6-day", "assets", "a day's work under 5 min", "s", (Goal(300),), stated=True),
    Row("G2-delta", "assets", "70 % less for iterative binaries", "MB", (Goal(0.3, FILES),), stated=True),
    Row("G4-verified", "assets", "1 GB saved and verified a minute", "s", (Goal(60),), stated=True),
    Row("G6-first", "assets", "200 GB first time under 2 h", "s", (Goal(7200),), stated=True),
    *(
        Row(name, story, work, "s", (Goal(at_most),), stated=True, of=of)
        for name, story, of, work, at_most in (
            ("K2-added", "checkouts", "dev-protect-400", "under 100 ms added by version control", 0.1),
            ("K3-shown", "catalog", "projects-shown", "50 projects reorganised, visible under 10 s", 10),
            ("K4-idle", "checkouts", "dev-idle", "the watcher under 5 % of the machine", 0.05),
            ("K5-pattern", "history", "dev-search-any", "a complex pattern under 5 s", 5),
            ("K5-structure", "history", "dev-search-struct", "a structure under 5 s", 5),
            ("C1-image", "images", "image-4k-png", "a typical image under 5 s", 5),
            ("C1-deep", "images", "image-4k-exr", "one of nine channels in float under 5 s", 5),
            ("C2-versions", "timeline", "timeline-warm", "more than 100 versions under 15 s", 15),
            ("C2-cold", "timeline", "timeline-jpeg", "100 versions without thumbnails under 15 s", 15),
            ("C3-layer", "elements", "psd-layer", "a layer brought back under 10 s", 10),
            ("C5-capture", "workspace", "workspace-capture", "a workspace captured under 2 s", 2),
            ("G1-import", "players", "feedback-import", "15,000 records in 15 min (1,000 a minute)", 900),
            ("G1-query", "players", "feedback-text", "a query under 3 s", 3),
            ("G3-load", "playtest", "playtest-load", "under 5 % of a core while recording", 0.05),
            ("G3-frame", "playtest", "playtest-call", "under 100 ms a frame", 0.1),
            ("G4-unchanged", "milestones", "milestone-unchanged", "a large milestone under 5 min", 300),
            ("G5-compare", "platforms", "platform-compare", "platforms compared under 10 s", 10),
        )
    ),
)


class Medians(Protocol):
    """Where the medians come from."""

    def median(self, row: str, name: str = OURS) -> float | None:
        """Of a tool's samples in a row; None when it has none."""


@dataclass(frozen=True)
class Line:
    """What came of one goal."""

    row: Row
    goal: Goal
    ours: float | None
    theirs: float | None

    @property
    def ratio(self) -> float | None:
        """Ours / theirs."""
        return None if self.ours is None or not self.theirs else self.ours / self.theirs

    @property
    def met(self) -> bool | None:
        """None when a side of it was not measured, or nothing is asked."""
        value = self.ratio if self.goal.peer else self.ours
        return None if value is None or self.goal.at_most is None else value <= self.goal.at_most

    def cells(self) -> tuple[str, ...]:
        """As the table shows it."""
        ratio = self.ratio
        return (
            self.row.name,
            self.row.work,
            self._amount(self.ours),
            self.goal.peer,
            self._amount(self.theirs) if self.goal.peer else "",
            "" if not ratio else f"{1 / ratio:.2f}x faster" if self.goal.times_faster else f"{ratio:.2f}x",
            str(self.goal) if self.goal.peer else f"<= {self._amount(self.goal.at_most)}",
            {True: "met", False: "MISSED", None: "not measured" if self.goal.at_most is not None else ""}[self.met],
        )

    def _amount(self, value: float | None) -> str:
        if value is None:
            return "-"
        if not self.row.unit:
            return f"{value:,.0f}"
        return (
            f"{value / 1e6:,.1f} MB" if self.row.unit == "MB" else f"{value:,.3g} s" if value < 1 else f"{value:,.2f} s"
        )


def judge(rows: Iterable[Row], medians: Medians) -> Iterator[Line]:
    """A line for every goal of the rows."""
    for row in rows:
        for goal in row.goals:
            theirs = medians.median(row.measured, goal.peer) if goal.peer else None
            yield Line(row, goal, medians.median(row.measured), theirs)


def table(lines: Iterable[Line]) -> str:
    """Markdown that reads well in a terminal too."""
    head = ("row", "work", "git-vault", "peer", "peer's", "ratio", "goal", "")
    body = [line.cells() for line in lines]
    widths = [max(len(cells[i]) for cells in (head, *body)) for i in range(len(head))]
    rule = tuple("-" * width for width in widths)
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"
        for cells in (head, rule, *body)
    )
