"""Two builds on one static page: what changed, what players said, what the numbers did, with pictures."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from gitvault.core.models import Snapshot, SnapshotId
from gitvault.core.utils.kinds import kind_of
from gitvault.core.utils.names import to_line
from gitvault.errors import ExistsError, NotFoundError, ToolMissing, UnsupportedMedia
from gitvault.formats.confined import Confined
from gitvault.formats.difference import may_be_shown
from gitvault.personas.game.feedback import Table, Wanted, count
from gitvault.personas.game.insight.builds import Build, ByCategory, Rises, by_category, played_builds, rises, suspicion
from gitvault.personas.game.insight.suspects import Suspect

if TYPE_CHECKING:
    from gitvault.core.interfaces import Progress
    from gitvault.core.models import Difference
    from gitvault.personas.game.playtests import Comparison
    from gitvault.vault import Vault

_COMPARE = "gitvault.formats.difference:compare"
_PICTURES = 24
"""Files whose differences are drawn; all are listed."""
_LISTED = 200
_EXPLAINED = 5
"""Of what rose, so many with suspects."""
_SUSPECTS = 5
_UNTIDY = re.compile(r"[^\w.#-]+", re.ASCII)
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1200px; padding: 0 1rem; color: #222;
       background: #f7f7f5; } h1 { font-size: 1.4rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; margin: .4rem 0 1rem; } td, th { padding: .12rem 1rem .12rem 0; text-align: left;
       vertical-align: top; overflow-wrap: anywhere; } th { font-weight: 500; color: #666; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
blockquote { margin: .2rem 0 .2rem 1rem; color: #444; }
.bar { display: inline-block; height: .7em; background: #c40; } .bar.a { background: #89a; } .none { color: #777; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(260px, 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { color: #666; overflow-wrap: anywhere; } img { max-width: 100%; background: #fff; }
"""


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two builds."""

    word: str
    snapshot: Snapshot
    build: Build | None
    """None where no record is of it."""
    said: list[ByCategory]
    tested: Comparison | None


def write_report(
    vault: Vault,
    project: str,
    a: str,
    b: str,
    folder: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> tuple[Path, dict[str, int]]:
    """Write `index.html` and its pictures about two builds; its path, and how much is in it.

    Raises ExistsError for a folder with something in it, NotFoundError for a build that nothing names.
    """
    if not overwrite and os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise ExistsError(f"{to_line(os.fsencode(folder))}: is there already; name a new folder, or add --overwrite")
    with Table(vault, project) as table:
        sides = [_side(vault, table, word) for word in (a, b)]
        found = _rises(vault, table, sides[1])
        records = sum(count(table, Wanted(build=side.snapshot.id)) for side in sides)
        causes = {
            one.sig: suspicion(vault, table, one.sig, older=sides[0].snapshot.id, newer=sides[1].snapshot.id).suspects
            for one in found.spikes[:_EXPLAINED]
        }
    difference = vault.get_version_diff(sides[0].snapshot.id, sides[1].snapshot.id)
    folder.mkdir(parents=True, exist_ok=True)
    pictures = _pictures(vault, sides, difference.changed, folder, progress)
    target = folder / "index.html"
    lines = _page(project, sides, difference, pictures, found, causes, folder)
    target.write_text("\n".join(lines), "utf-8", "surrogateescape")
    changed = sum(map(len, (difference.added, difference.changed, difference.deleted, difference.moved)))
    return target, {
        "changes": changed,
        "pictures": sum(map(len, pictures.values())),
        "records": records,
        "rose": len(found.spikes),
    }


def _side(vault: Vault, table: Table, word: str) -> _Side:
    snapshot = SnapshotId(table.builds.resolve(word).snapshot or vault.resolve(word))
    info = vault.get_snapshot_info(snapshot)
    if info.project != table.project:
        raise NotFoundError(
            f"{to_line(word.encode())}: is a snapshot of {info.project}; expected one of {table.project}"
        )
    build = next((one for one in played_builds(vault, table) if one.snapshot == snapshot), None)
    return _Side(word, info, build, by_category(vault, table, snapshot), _tested(vault, table.project, snapshot, word))


def _tested(vault: Vault, project: str, snapshot: str, word: str) -> Comparison | None:
    from gitvault.personas.game.playtests import compare, events, sessions

    of = [one for one in sessions(vault, project) if snapshot == one.snapshot or word == one.build]
    return compare((one, events(vault, one)) for one in of) if of else None


def _rises(vault: Vault, table: Table, newer: _Side) -> Rises:
    if newer.build is None:
        return Rises([], [], "players")
    return rises(vault, table, build=newer.snapshot.id)


def _pictures(
    vault: Vault, sides: Sequence[_Side], changed: Sequence[bytes], folder: Path, progress: Progress | None
) -> dict[bytes, dict[str, str]]:
    """What can be drawn of changed files: by path, what a picture shows and where it is."""
    shown = [path for path in changed if may_be_shown(os.path.splitext(os.fsdecode(path))[1].lower())][:_PICTURES]
    found: dict[bytes, dict[str, str]] = {}
    with Confined() as child, tempfile.TemporaryDirectory(prefix="gitvault-") as scratch:
        for number, path in enumerate(shown, 1):
            name = _UNTIDY.sub("_", os.fsdecode(path.rpartition(b"/")[2]))[-80:]
            files = []
            for side, where in zip(sides, ("a", "b"), strict=True):
                file = Path(scratch, where, name)
                file.parent.mkdir(exist_ok=True)
                with open(file, "wb") as target:
                    vault.read_file(side.snapshot.id, path, target)
                files.append(file)
            own = folder / f"{number:03d}-{name}"
            own.mkdir(exist_ok=True)
            try:
                drawn = child.call(_COMPARE, str(files[0]), str(files[1]), str(own))["pictures"]
            except (UnsupportedMedia, ToolMissing):
                # The page lists it with all others; `diff --visual` says why.
                drawn = {}
            if drawn:
                found[path] = drawn
            elif not any(own.iterdir()):
                own.rmdir()
            if progress:
                progress("drawing", number, len(shown))
    return found


# ------------------------------------------------------------------------------------------ the page


def _page(
    project: str,
    sides: Sequence[_Side],
    difference: Difference,
    pictures: Mapping[bytes, Mapping[str, str]],
    found: Rises,
    causes: Mapping[str, Sequence[Suspect]],
    folder: Path,
) -> Iterator[str]:
    title = f"{project}: {sides[0].word} → {sides[1].word}"
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{_text(title)}</title>'
    yield f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style><h1>{_text(title)}</h1>'
    yield from _table(
        ("", *(side.word for side in sides)),
        (
            ("snapshot", *(side.snapshot.id[:12] for side in sides)),
            ("taken", *(f"{side.snapshot.time:%Y-%m-%d %H:%M} UTC" for side in sides)),
            ("message", *(side.snapshot.message.partition("\n")[0] for side in sides)),
        ),
    )
    yield "<h2>What the numbers did</h2>"
    yield from _table(("", *(side.word for side in sides)), _figures(sides), numbers=True)
    yield from _risen(found, causes)
    yield "<h2>What players said</h2>"
    yield from _said(sides)
    yield "<h2>What changed</h2>"
    yield from _changed(difference)
    yield from _drawn(pictures, folder)


def _figures(sides: Sequence[_Side]) -> Iterator[tuple[str, ...]]:
    def row(name: str, of: Callable[[Build], object]) -> tuple[str, ...]:
        return (name, *(f"{of(side.build):,}" if side.build else "" for side in sides))

    yield row("players heard of", lambda one: one.players)
    yield row("sessions", lambda one: one.sessions)
    yield row("hours", lambda one: round(one.hours, 1))
    tested = [side.tested for side in sides]
    if not any(tested):
        return
    yield ("playtests", *(f"{one.sessions:,}" if one else "" for one in tested))
    yield ("playtests that were cut off", *(f"{one.crashes:,}" if one else "" for one in tested))
    names = sorted({name for one in tested if one for name in one.per_hour})
    for name in names:
        yield (f"{name}, an hour", *(f"{one.per_hour.get(name, 0):,.1f}" if one else "" for one in tested))
    for level in sorted({level for one in tested if one for level in one.level_seconds}):
        yield (f"{level}, seconds", *(f"{one.level_seconds.get(level, 0):,.0f}" if one else "" for one in tested))
    for level in sorted({level for one in tested if one for level in one.reached}):
        yield (
            f"{level}, reached by",
            *(f"{one.reached.get(level, 0) / one.sessions:.0%}" if one else "" for one in tested),
        )


def _risen(found: Rises, causes: Mapping[str, Sequence[Suspect]]) -> Iterator[str]:
    yield "<h2>What rose</h2>"
    if not found.spikes:
        yield '<p class="none">Nothing that chance does not explain.</p>'
        return
    most = max(one.after for one in found.spikes) or 1
    yield f"<p>Players who met it per 1,000 {_text(found.per)}: over the builds before, and in this one.</p>"
    for one in found.spikes:
        bars = "".join(
            f'<span class="bar {name}" style="width:{240 * value / most:.0f}px" title="{value:g}"></span> {value:g}<br>'
            for name, value in (("a", one.before), ("b", one.after))
        )
        yield f"<h3>{_text(one.sig)}</h3><p>{bars}{one.players:,} players, q = {one.q:.2g}</p>"
        rows = [
            (to_line(suspect.path), suspect.state, "; ".join(suspect.reasons[:3]))
            for suspect in causes.get(one.sig, ())[:_SUSPECTS]
        ]
        if rows:
            yield from _table(("may be because of", "", ""), rows)


def _said(sides: Sequence[_Side]) -> Iterator[str]:
    by_name = [{one.name: one for one in side.said} for side in sides]
    names = sorted({*by_name[0], *by_name[1]}, key=lambda name: -by_name[1].get(name, _NOBODY).players)
    if not names:
        yield '<p class="none">Nothing yet.</p>'
        return
    rows = [
        (name, *(f"{of[name].players:,} ({of[name].records:,})" if name in of else "" for of in by_name))
        for name in names
    ]
    yield from _table(("about: players (records)", *(side.word for side in sides)), rows, numbers=True)
    for name in names:
        if (one := by_name[1].get(name)) and one.examples:
            yield f"<h3>{_text(name)}</h3>"
            yield from (f"<blockquote>{_text(text)}</blockquote>" for _, text in one.examples[:3])


_NOBODY = ByCategory("", 0, 0, ())


def _changed(difference: Difference) -> Iterator[str]:
    moved = tuple(move.target for move in difference.moved)
    states = (
        ("added", difference.added),
        ("changed", difference.changed),
        ("deleted", difference.deleted),
        ("moved", moved),
    )
    kinds: dict[str, dict[str, int]] = {}
    for state, paths in states:
        for path in paths:
            of = kinds.setdefault(kind_of(path.rpartition(b"/")[2]), {})
            of[state] = of.get(state, 0) + 1
    if not kinds:
        yield '<p class="none">Nothing.</p>'
        return
    yield from _table(
        ("", *(state for state, _ in states)),
        (
            (kind, *(f"{of[state]:,}" if state in of else "" for state, _ in states))
            for kind, of in sorted(kinds.items())
        ),
        numbers=True,
    )
    listed = [(state, to_line(path)) for state, paths in states for path in paths]
    yield from _table((), listed[:_LISTED])
    if len(listed) > _LISTED:
        yield f"<p>And {len(listed) - _LISTED:,} more.</p>"


def _drawn(pictures: Mapping[bytes, Mapping[str, str]], folder: Path) -> Iterator[str]:
    for path, drawn in pictures.items():
        yield f'<h3>{_text(to_line(path))}</h3><div class="pictures">'
        for shows, file in drawn.items():
            where = quote(Path(os.path.relpath(file, folder)).as_posix())
            image = f'<a href="{where}"><img loading="lazy" src="{where}" alt="{_text(shows)}"></a>'
            yield f"<figure>{image}<figcaption>{_text(shows)}</figcaption></figure>"
        yield "</div>"


def _table(
    head: Sequence[str], rows: Iterator[tuple[str, ...]] | Sequence[Sequence[str]], *, numbers: bool = False
) -> Iterator[str]:
    mark = ' class="n"' if numbers else ""
    yield "<table>"
    if head:
        yield (
            "<tr>"
            + "".join(f"<th{mark if place else ''}>{_text(cell)}</th>" for place, cell in enumerate(head))
            + "</tr>"
        )
    for row in rows:
        cells = "".join(
            f"<td{mark}>{_text(cell)}</td>" if place else f"<th>{_text(cell)}</th>" for place, cell in enumerate(row)
        )
        yield f"<tr>{cells}</tr>"
    yield "</table>"


def _text(text: str) -> str:
    return escape(to_line(text.encode("utf-8", "surrogateescape")))
