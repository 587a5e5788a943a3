"""Elements of SVG drawings that have an id: what is put in is spliced, all other bytes stay."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

from gitvault.errors import UnsupportedMedia
from gitvault.formats import Element
from gitvault.formats.layered.archive import numbered
from gitvault.formats.layered.markup import Node, edited, indent_of, inserted, parse
from gitvault.formats.mapping import mapped

_LABEL = "inkscape:label"
_URL = re.compile(r"url\(\s*[\"']?#([^\"')]+?)[\"']?\s*\)")
_LINKS = frozenset(("href", "xlink:href", "inkscape:path-effect"))
_ENTITY = re.compile(rb"&(?!#|amp;|lt;|gt;|quot;|apos;)")
_CLASS = re.compile(r"[^{}]*\{[^{}]*\}")
_LARGEST = 1 << 30


class _Drawing:
    """A drawing and its elements by their ids."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.root = parse(data)
        self.named = [node for node in self.root.walk() if "id" in node.attributes]
        ids = numbered(node.attributes["id"] for node in self.named)
        self.by_id = dict(zip(ids, self.named, strict=True))

    def text(self, node: Node, *, whole: bool = False) -> bytes:
        """What an element is, without, or with, those in it that have an id."""
        parts, at = [], node.start
        for child in () if whole else _named_below(node):
            parts.append(self.data[at : child.start].strip())
            at = child.stop
        if at == node.start:
            # It may be empty in two ways.
            return self.data[at : node.stop]
        return b"\0".join((*parts, self.data[at : node.tail].strip()))

    def styles(self) -> str:
        """All style sheets in it."""
        return "".join(
            self.data[node.head : node.tail].decode("utf-8", "replace")
            for node in self.root.walk()
            if node.local == "style"
        )


def _named_below(node: Node) -> list[Node]:
    """The nearest elements inside that have an id."""
    found = []
    for child in node.children:
        found += [child] if "id" in child.attributes else _named_below(child)
    return found


def _open(path: Path) -> _Drawing:
    with mapped(path) as view:
        if len(view) > _LARGEST:
            raise UnsupportedMedia(f"{path.name}: has {len(view)} bytes, expected at most {_LARGEST}")
        return _Drawing(bytes(view))


def elements(path: Path) -> list[Element]:
    """All elements with an id, in the order of the file. Raises UnsupportedMedia."""
    drawing = _open(path)
    ids = {node.start: name for name, node in drawing.by_id.items()}
    found = []
    for name, node in drawing.by_id.items():
        holder = node.parent
        while holder and holder.start not in ids:
            holder = holder.parent
        found.append(
            Element(
                name,
                node.attributes.get(_LABEL, name),
                _kind(node),
                ids[holder.start] if holder else None,
                sha256(drawing.text(node)).hexdigest(),
            )
        )
    return found


def _kind(node: Node) -> str:
    if node.attributes.get("inkscape:groupmode") == "layer":
        return "layer"
    return "group" if node.local == "g" else node.local


def extract(path: Path, element: str, output: Path) -> None:
    """Write an element, with what it refers to and the style sheets, as a drawing. Raises UnsupportedMedia."""
    drawing = _open(path)
    data, node = drawing.data, drawing.by_id[element]
    if node is drawing.root:
        output.write_bytes(data)
        return
    wanted = [*_needed(drawing, node), node]
    keep = {child.start for found in wanted for child in found.walk()}
    above = set()
    for found in wanted:
        holder = found.parent
        while holder:
            above.add(holder.start)
            holder = holder.parent
    cuts = []

    def cut(holder: Node) -> None:
        for child in holder.children:
            if child.start in keep or child.local == "style":
                continue
            if child.start in above:
                cut(child)
            else:
                cuts.append((child.start, child.stop, b""))

    cut(drawing.root)
    output.write_bytes(edited(data, cuts))


def splice(old: Path, element: str, current: Path, output: Path) -> None:
    """Write the current drawing with an element of the old one. Raises UnsupportedMedia."""
    theirs, ours = _open(old), _open(current)
    node = theirs.by_id[element]
    if any(f"{node.attributes['id']}#2" in drawing.by_id for drawing in (theirs, ours)):
        raise UnsupportedMedia(f"{element}: the id is there more than once; give each element its own")
    have = ours.by_id.get(element)
    if node is theirs.root or have is ours.root:
        raise UnsupportedMedia(f"{element}: is the whole drawing; restore the file")
    _check_ids(node, have, ours, current)
    _check_styles(theirs, node, ours, current)
    edits = []
    if have:
        edits.append((have.start, have.stop, _fragment(theirs, node, have.parent, ours)))
    else:
        edits.append(_back(theirs, node, ours, current))
    homeless = []
    for needed in _needed(theirs, node):
        name = needed.attributes["id"]
        present = ours.by_id.get(name)
        if not present:
            if _counterpart(needed.parent, ours):
                edits.append(_back(theirs, needed, ours, current))
            else:
                homeless.append(_fragment(theirs, needed, ours.root, ours))
        elif not _same(theirs, needed, ours, present):
            raise UnsupportedMedia(
                f"{element}: refers to {name}, which is another one in {current.name}; restore that first, or both"
            )
    if homeless:
        at = ours.root.children[0].start if ours.root.children else ours.root.head
        edits.append((at, at, b"<defs>" + b"".join(homeless) + b"</defs>"))
    output.write_bytes(edited(ours.data, _merged(edits)))


def _merged(edits: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """One edit for those that put something in at the same place."""
    found: dict[tuple[int, int], bytes] = {}
    for start, stop, new in edits:
        found[start, stop] = found.get((start, stop), b"") + new
    return [(*place, new) for place, new in found.items()]


def _same(theirs: _Drawing, node: Node, ours: _Drawing, other: Node) -> bool:
    return theirs.text(node, whole=True).split() == ours.text(other, whole=True).split()


def _needed(drawing: _Drawing, node: Node) -> list[Node]:
    """What an element refers to, directly or not, outside of it; not what it is in."""
    inside = {child.start for child in node.walk()}
    found: dict[int, Node] = {}
    waiting = [node]
    while waiting:
        for part in waiting.pop().walk():
            for target in _references(drawing, part):
                is_around = target.start <= node.start and target.stop >= node.stop
                if target.start not in inside and target.start not in found and not is_around:
                    found[target.start] = target
                    waiting.append(target)
    # One that is in another one comes with it.
    spans = [(one.start, one.stop) for one in found.values()]
    return [one for one in found.values() if not any(a < one.start and one.stop < b for a, b in spans)]


def _references(drawing: _Drawing, node: Node) -> list[Node]:
    names = []
    for key, value in node.attributes.items():
        names += _URL.findall(value)
        if key in _LINKS:
            names += [part[1:] for part in re.split(r"[;\s]+", value) if part.startswith("#")]
    if node.local == "style":
        names += _URL.findall(drawing.data[node.head : node.tail].decode("utf-8", "replace"))
    return [drawing.by_id[name] for name in names if name in drawing.by_id]


def _check_ids(node: Node, have: Node | None, ours: _Drawing, current: Path) -> None:
    replaced = {inner.start for inner in have.walk()} if have else set()
    for inner in node.walk():
        other = ours.by_id.get(inner.attributes.get("id", ""))
        if other and other.start not in replaced:
            raise UnsupportedMedia(
                f"{node.attributes['id']}: {inner.attributes['id']}, which is in it, is elsewhere in {current.name}; "
                "move or restore that first"
            )


def _check_styles(theirs: _Drawing, node: Node, ours: _Drawing, current: Path) -> None:
    was, now = theirs.styles(), ours.styles()
    if was == now:
        return
    used = {f".{name}" for inner in node.walk() for name in inner.attributes.get("class", "").split()}
    used |= {f"#{inner.attributes['id']}" for inner in node.walk() if "id" in inner.attributes}
    used |= {inner.local for inner in node.walk()}
    for name in sorted(used):
        about = re.compile(rf"(?<![\w.#-]){re.escape(name)}(?![\w-])[^{{}}]*\{{")
        old_rules, new_rules = (
            [" ".join(r.split()) for r in _CLASS.findall(css) if about.search(r)] for css in (was, now)
        )
        if old_rules != new_rules:
            raise UnsupportedMedia(
                f"{node.attributes['id']}: looks as the style sheet has it for {name}, which differs in {current.name}"
            )


def _fragment(theirs: _Drawing, node: Node, home: Node | None, ours: _Drawing) -> bytes:
    """An element's bytes, with the namespaces declared that are not known, or others, where it goes."""
    data = theirs.data[node.start : node.stop]
    if _ENTITY.search(data):
        raise UnsupportedMedia(f"{node.attributes['id']}: has entities of its document type; they cannot be moved")
    if not data.isascii() and _encoding(theirs.data) != _encoding(ours.data):
        raise UnsupportedMedia(f"{node.attributes['id']}: the two drawings are in different encodings")
    used = {name.partition(":")[0] for inner in node.walk() for name in (inner.tag, *inner.attributes) if ":" in name}
    used |= {""} if any(":" not in inner.tag for inner in node.walk()) else set()
    there, here = node.namespaces(), home.namespaces() if home else {}
    own = {name for name in node.attributes if name.partition(":")[0] == "xmlns"}
    new = b""
    for prefix in sorted(used - {"xmlns", "xml"}):
        name = f"xmlns:{prefix}" if prefix else "xmlns"
        if name not in own and there.get(prefix) != here.get(prefix):
            value = there.get(prefix, "").replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
            new += f' {name}="{value}"'.encode()
    at = len(node.tag.encode()) + 1
    return data[:at] + new + data[at:]


def _encoding(data: bytes) -> str:
    found = re.match(rb"\s*<\?xml[^>]*encoding=[\"']([\w.-]+)", data.removeprefix(b"\xef\xbb\xbf"))
    return found[1].decode().lower() if found else "utf-8"


def _counterpart(node: Node | None, ours: _Drawing) -> Node | None:
    """The same element of the other drawing: by its id, or as the only one of its kind in the same place."""
    if node is None:
        return None
    if node.parent is None:
        return ours.root
    if "id" in node.attributes:
        return ours.by_id.get(node.attributes["id"])
    home = _counterpart(node.parent, ours)
    alike = [child for child in home.children if child.tag == node.tag and "id" not in child.attributes] if home else []
    return alike[0] if len(alike) == 1 else None


def _back(theirs: _Drawing, node: Node, ours: _Drawing, current: Path) -> tuple[int, int, bytes]:
    """The edit that brings back what is not there: beside the nearest neighbour that is."""
    home = _counterpart(node.parent, ours)
    if not home or not node.parent:
        holder = node.parent.attributes.get("id", node.parent.tag) if node.parent else ""
        raise UnsupportedMedia(f"{node.attributes['id']}: what it is in, {holder}, is not in {current.name}")
    new, indent = _fragment(theirs, node, home, ours), indent_of(theirs.data, node)
    siblings = node.parent.children
    at = next(number for number, child in enumerate(siblings) if child is node)
    for child in reversed(siblings[:at]):
        other = ours.by_id.get(child.attributes.get("id", ""))
        if other and other.parent is home:
            return other.stop, other.stop, indent + new
    for child in siblings[at + 1 :]:
        other = ours.by_id.get(child.attributes.get("id", ""))
        if other and other.parent is home:
            return inserted(ours.data, home, other, new, indent)
    return inserted(ours.data, home, None, new, indent)
