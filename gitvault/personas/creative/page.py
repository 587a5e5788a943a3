"""What changed as one static page, where people would rather look than read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gitvault.core.utils.names import to_line
from gitvault.personas.creative.diff import FileDifference

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1500px; padding: 0 1rem;
       background: #f5f5f5; color: #222; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin: 2.5rem 0 .5rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; margin: .5rem 0 1rem; } td, th { padding: .15rem .8rem .15rem 0; text-align: left;
       vertical-align: top; } th { font-weight: 500; color: #666; white-space: nowrap; }
figure { margin: 0; } figcaption { color: #666; } img { max-width: 100%; height: auto; background: #fff; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(440px, 1fr)); gap: 1rem; }
.side-by-side { grid-column: 1 / -1; } .same { color: #666; } .problem { color: #a00; }
.bars { display: flex; align-items: flex-end; height: 60px; gap: 1px; } .bars i { flex: 1; max-width: 12px;
       background: #c40; min-height: 1px; }
"""
_FIGURES = {
    "changed_pixels": "changed pixels",
    "max": "greatest difference",
    "mean": "mean difference",
    "psnr": "PSNR",
    "ssim": "SSIM",
    "hash_distance": "perceptual hash distance",
}


def write_page(title: str, found: Sequence[FileDifference], folder: Path) -> Path:
    """Write `index.html` into the folder that the pictures are in; its path."""
    target = folder / "index.html"
    target.write_text("\n".join(_page(title, found, folder)), "utf-8", "surrogateescape")
    return target


def _page(title: str, found: Sequence[FileDifference], folder: Path) -> Iterator[str]:
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{_text(title)}</title>'
    yield f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
    yield f"<h1>{_text(title)}</h1>"
    looked = [one for one in found if one.stats.get("state") is None or one.problem]
    rest = [one for one in found if one not in looked]
    yield f"<p>{len(looked)} compared, {len(rest)} others added, deleted, moved or changed.</p>"
    for one in looked:
        yield from _section(one, folder)
    if rest:
        yield "<h2>Others</h2><table>"
        for one in rest:
            yield f"<tr><th>{_text(str(one.stats['state']))}</th><td>{_path(one.path)}</td></tr>"
        yield "</table>"


def _section(one: FileDifference, folder: Path) -> Iterator[str]:
    yield f"<h2>{_path(one.path)}</h2>"
    if one.problem:
        yield f'<p class="problem">{_text(one.problem)}</p>'
    elif not one.changed:
        yield '<p class="same">Nothing that can be seen changed.</p>'
    if rows := list(_rows(one.stats)):
        yield (
            "<table>" + "".join(f"<tr><th>{_text(name)}</th><td>{value}</td></tr>" for name, value in rows) + "</table>"
        )
    if frames := one.stats.get("by_frame"):
        yield from _bars(frames)
    if one.pictures:
        yield '<div class="pictures">'
        for shows, path in one.pictures.items():
            where = quote(Path(os.path.relpath(path, folder)).as_posix())
            shown = f'<a href="{where}"><img loading="lazy" src="{where}" alt="{_text(shows)}"></a>'
            yield f'<figure class="{_text(shows)}">{shown}<figcaption>{_text(shows)}</figcaption></figure>'
        yield "</div>"


def _rows(stats: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "width" in stats:
        yield (
            "image",
            f"{stats['width']} &times; {stats['height']}, {stats['channels']} channels, {_text(stats['depth'])}",
        )
    for name, said in _FIGURES.items():
        if stats.get(name) is not None:
            yield said, _number(stats[name])
    for name, of in stats.get("by_channel", {}).items():
        if of["changed"]:
            yield (
                f"channel {name}",
                f"{of['changed']:,} differ, greatest {_number(of['max'])}, mean {_number(of['mean'])}",
            )
    for change in stats.get("metadata", ()):
        yield change["name"], f"{_text(_short(change['before']))} → {_text(_short(change['after']))}"
    known = {*_FIGURES, "width", "height", "channels", "depth", "by_channel", "metadata", "boxes", "by_frame", "alpha"}
    for name, value in stats.items():
        if name not in known and value not in (None, [], 0, ""):
            yield name.replace("_", " "), _text(_short(value))


def _bars(frames: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The mean difference of each frame."""
    most = max(frame["mean"] for frame in frames) or 1
    bars = "".join(
        f'<i style="height:{100 * frame["mean"] / most:.0f}%" title="{frame["frame"]}: {_number(frame["mean"])}"></i>'
        for frame in frames
    )
    yield f'<div class="bars">{bars}</div>'


def _number(value: float | int) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def _short(value: object) -> str:
    if isinstance(value, list | tuple):
        listed = ", ".join(map(_short, value[:20]))
        return f"{listed} and {len(value) - 20} more" if len(value) > 20 else listed
    return _number(value) if isinstance(value, float) else "none" if value is None else str(value)[:200]


def _path(path: bytes) -> str:
    return _text(to_line(path))


def _text(text: str) -> str:
    return escape(to_line(text.encode("utf-8", "surrogateescape")))
