"""A timeline as one static page: no scripts, nothing from elsewhere, the pictures in it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby

from gitvault.core.utils.names import one_line
from gitvault.core.utils.sizes import size
from gitvault.formats.thumbnails import lightest
from gitvault.personas.creative.timeline import Version
from gitvault.personas.creative.timeline.cards import Card, cards
from gitvault.personas.creative.timeline.drawing import NO_KIND
from gitvault.personas.creative.timeline.lanes import Row, lanes
from gitvault.personas.creative.timeline.similar import difference

_LANE = 16
"""Pixels."""
_SHORT = 12
_NAMED = 20
_STYLE = """
:root{color-scheme:light dark;--line:#8886;--dim:#777;--paper:#fff;--ink:#1c1c1c;--mark:#b3541e;--card:#8881}
@media(prefers-color-scheme:dark){:root{--dim:#999;--paper:#161616;--ink:#e6e6e6;--mark:#e79a5f}}
*{box-sizing:border-box}
body{margin:0 auto;padding:24px;max-width:1200px;background:var(--paper);color:var(--ink);
font:15px/1.4 system-ui,sans-serif}
h1{font-size:20px;font-weight:600;margin:0}
header p,.dim{color:var(--dim);margin:2px 0;font-size:13px}
ol{list-style:none;margin:20px 0;padding:0}
li{display:flex;align-items:stretch}
.way{flex:none;position:relative}
.way svg{position:absolute;inset:0;width:100%;height:100%;overflow:visible}
.way path{stroke:var(--line);stroke-width:2;fill:none;vector-effect:non-scaling-stroke}
.way i{position:absolute;top:50%;width:10px;height:10px;margin:-5px;border-radius:50%;background:var(--dim)}
.way i.mark{background:var(--mark)}
.version{flex:1;min-width:0;padding:10px 0 10px 14px}
.version>p{margin:0 0 2px;overflow-wrap:anywhere}
.files{display:flex;flex-wrap:wrap;gap:10px;margin-top:6px}
figure{margin:0;width:min(200px,100%);background:var(--card);border-radius:6px;padding:8px}
.alone figure{width:auto;display:flex;gap:14px;align-items:center;max-width:100%}
figure div{display:flex;justify-content:center;gap:6px}
figure.many{width:auto;max-width:100%}
.many img{max-width:32%}
img{display:block;max-width:100%;max-height:184px;border-radius:3px;
background:repeating-conic-gradient(#8883 0 25%,#0000 0 50%) 0 0/16px 16px}
figcaption{font-size:13px;overflow-wrap:anywhere;margin-top:4px}
figcaption b{font-weight:600}
.mark{color:var(--mark);font-weight:600}
time{font-variant-numeric:tabular-nums}
code{font:12px ui-monospace,monospace;color:var(--dim)}
"""


def page(versions: Sequence[Version], title: str) -> bytes:
    """The page in UTF-8; thumbnails that went meanwhile are left out."""
    groups = [list(group) for _, group in groupby(versions, lambda version: version.snapshot)]
    numbers = {group[0].snapshot: number for number, group in enumerate(groups)}
    rows = lanes([numbers.get(group[0].parent) if group[0].parent else None for group in groups])
    width = (max((row.lane for row in rows), default=0) + 1) * _LANE
    before: dict[bytes, bytes] = {}
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        # Whatever a name or a message holds, nothing of it is loaded or run.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:;'
        " style-src 'unsafe-inline'\">"
        f"<title>{_text(title)}</title><style>{_STYLE}</style><header><h1>{_text(title)}</h1>"
        f"<p>{_summary(versions, groups)}</p></header><ol>"
    ]
    alone = all(len(group) == 1 for group in groups)
    for group, row in zip(groups, rows, strict=True):
        parts += ["<li>", _way(row, width, bool(group[0].milestones)), f'<div class="version{" alone" * alone}">']
        parts += _version(group, before)
        parts.append("</div></li>\n")
    parts.append("</ol></html>\n")
    return "".join(parts).encode("utf-8", "backslashreplace")


def _summary(versions: Sequence[Version], groups: Sequence[Sequence[Version]]) -> str:
    if not versions:
        return "no versions"
    count = f"{len(groups):,} version{'s' * (len(groups) != 1)}"
    hidden = sum(len(version.folded) for version in versions)
    count += f", {hidden:,} near-identical left out" if hidden else ""
    return f"{count}, {_time(versions[0])} to {_time(versions[-1])}"


def _version(group: Sequence[Version], before: dict[bytes, bytes]) -> Iterator[str]:
    first = group[0]
    marks = "".join(f' <span class="mark">{_text(name)}</span>' for name in first.milestones)
    yield f"<p>{_time(first)} <code>{first.snapshot[:_SHORT]}</code>{marks}</p>"
    message = first.message.strip()
    if message:
        yield f"<p>{_text(message.splitlines()[0])}</p>"
    # What has no picture only because nobody makes one of its kind is no card of its own, unless it is all there is.
    all_of_it = cards(group)
    plain = [card for card in all_of_it if card.version.reason == NO_KIND] if len(all_of_it) > 1 else []
    yield '<div class="files">'
    for card in all_of_it:
        if card not in plain:
            yield from _file(card, before)
    yield "</div>"
    if plain:
        named = [f"{card.name} ({card.said})" for card in plain[:_NAMED]]
        named += [f"and {len(plain) - _NAMED:,} more"] if len(plain) > _NAMED else []
        yield f'<p class="dim">{_text(", ".join(named))}</p>'


def _file(card: Card, before: dict[bytes, bytes]) -> Iterator[str]:
    version = card.version
    pictures = [picture for shown in card.shown if (picture := _picture(shown))]
    yield '<figure class="many">' if len(pictures) > 1 else "<figure>"
    yield from ("<div>", *(f'<img alt="" src="{one}">' for one in pictures), "</div>")
    facts = [card.said]
    earlier = before.get(version.path)
    if earlier and version.fingerprint and earlier != version.fingerprint:
        share = difference(earlier, version.fingerprint)
        facts.append(f"{share:.0%} of the picture" if share else "nothing that one sees at this size")
    if version.changed != "deleted":
        facts.append(size(card.size))
    yield f"<figcaption><b>{_text(card.name)}</b><br>{_text(', '.join(facts))}"
    if version.reason:
        yield f'<p class="dim">no picture: {_text(version.reason)}</p>'
    yield "</figcaption></figure>"
    before[version.path] = version.fingerprint


def _picture(version: Version) -> str:
    """A URL that holds it."""
    if not version.thumbnail:
        return ""
    try:
        kind, data = lightest(version.thumbnail.read_bytes())
    except OSError:
        return ""
    return f"data:{kind};base64,{b64encode(data).decode()}"


def _way(row: Row, width: int, marked: bool) -> str:
    lines = [f"M{_at(lane)} 0V50" for lane in row.above]
    lines += [f"M{_at(start)} 50C{_at(start)} 80 {_at(stop)} 70 {_at(stop)} 100" for start, stop in row.below]
    return (
        f'<div class="way" style="width:{width}px"><svg viewBox="0 0 {width} 100" preserveAspectRatio="none">'
        f'<path d="{"".join(lines)}"/></svg>'
        f'<i{" class=mark" * marked} style="left:{_at(row.lane)}px"></i></div>'
    )


def _at(lane: int) -> int:
    return lane * _LANE + _LANE // 2


def _time(version: Version) -> str:
    return f"<time>{version.time.astimezone():%Y-%m-%d %H:%M}</time>"


def _text(text: str) -> str:
    return escape(one_line(text))
