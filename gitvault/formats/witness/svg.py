"""What is in an SVG drawing, read by lxml."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

from gitvault.errors import UnsupportedMedia
from gitvault.formats.elements import DOCUMENT
from gitvault.formats.extras import need


def witness(path: Path) -> dict[str, str]:
    """Hash by element's id, numbered where ids repeat. Raises UnsupportedMedia, ToolMissing."""
    etree = need("lxml.etree", "image")
    parser = etree.XMLParser(resolve_entities="internal", no_network=True, huge_tree=True, load_dtd=False)
    try:
        tree = etree.parse(str(path), parser)
    except etree.XMLSyntaxError as error:
        raise UnsupportedMedia(f"{path.name}: {error}; its bytes are saved") from None
    root = tree.getroot()
    around = [item for item in (*root.itersiblings(preceding=True), *root.itersiblings())]
    outside = [tree.docinfo.doctype, *(etree.tostring(item, with_tail=False).decode() for item in around)]
    if "id" not in root.attrib:
        outside.append(_text(root))
    found, seen = {DOCUMENT: _hash("\n".join(outside))}, dict[str, int]()
    for node in root.iter():
        name = node.get("id")
        if name is not None:
            seen[name] = number = seen.get(name, 0) + 1
            found[name if number == 1 else f"{name}#{number}"] = _hash(_text(node))
    return found


def _hash(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _text(node: Any) -> str:
    """All of an element but those inside it that have an id: they are hashed on their own."""
    said = [repr(str(node.tag) if isinstance(node.tag, str) else node.tag.__name__)]
    said += sorted(f"{key}={value!r}" for key, value in node.attrib.items())
    own = [(node.text or "").strip()]
    for child in node:
        if child.get("id") is None:
            inner = _text(child)
            # One that only holds others may have been made for what came along.
            own.append("" if inner == repr("{http://www.w3.org/2000/svg}defs") else f"({inner})")
        own.append((child.tail or "").strip())
    # What is between elements with an id belongs to none of them.
    return "\n".join([*said, *filter(None, own)])
