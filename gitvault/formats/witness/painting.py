"""What is in a Krita document or an OpenRaster image, read by Python's zipfile and ElementTree."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from xml.etree import ElementTree

from gitvault.errors import UnsupportedMedia
from gitvault.formats.elements import DOCUMENT, PICTURES
from gitvault.formats.witness.zipped import content, member_hash, opened

_PICTURES = ("mergedimage.png", "preview.png", "Thumbnails/thumbnail.png")


def witness(path: Path) -> dict[str, str]:
    """Hash by layer's id. Raises UnsupportedMedia."""
    with opened(path) as file:
        infos = {info.filename: info for info in file.infolist()}
        is_krita = "maindoc.xml" in infos
        document = "maindoc.xml" if is_krita else "stack.xml"
        try:
            root = ElementTree.fromstring(b"".join(content(file, infos[document])))
        except (ElementTree.ParseError, LookupError, ValueError) as error:
            raise UnsupportedMedia(f"{path.name}: {document}: {error}; its bytes are saved") from None
        hashes = {name: member_hash(file, info) for name, info in infos.items() if name != document}
        frames = {name: b"".join(content(file, infos[name])) for name in infos if name.endswith(".keyframes.xml")}
    found: dict[str, str] = {DOCUMENT: "", PICTURES: ""}
    kinds = ("layer", "mask") if is_krita else ("layer", "stack")
    owned: set[str] = set()
    top = next((node for node in root.iter() if _local(node) in ("layers", "stack")), root)
    for name, node in _numbered(_layers(top, kinds, "")):
        said = [_local(node)]
        source = node.get("filename", "") if is_krita else node.get("src", "")
        said += sorted(f"{key}={value!r}" for key, value in node.items() if key not in ("filename", "src"))
        said += [_other(child) for child in node if _local(child) not in (*kinds, "layers", "masks")]
        for member in sorted(hashes) if source else ():
            rest = _rest(member, source, is_krita)
            if rest is not None:
                owned.add(member)
                own = hashes[member]
                if member in frames:
                    own = sha256(frames[member].replace(f'"{source}.'.encode(), b'".')).hexdigest()
                said.append(f"{rest}: {own}")
        found[name] = sha256("\n".join(said).encode()).hexdigest()
    pictures = [hashes.pop(name, "") for name in _PICTURES if name not in owned]
    found[PICTURES] = sha256("\n".join(pictures).encode()).hexdigest()
    rest_of_all = [f"{name}: {value}" for name, value in sorted(hashes.items()) if name not in owned]
    inside = {id(node) for node in top.iter()} - {id(top)}
    rest_of_all += [_around(node) for node in root.iter() if id(node) not in inside]
    found[DOCUMENT] = sha256("\n".join(rest_of_all).encode()).hexdigest()
    return found


def _local(node: ElementTree.Element) -> str:
    return str(node.tag).rpartition("}")[2]


def _layers(
    holder: ElementTree.Element, kinds: tuple[str, ...], path: str
) -> Iterator[tuple[str, ElementTree.Element]]:
    for node in holder:
        if _local(node) in kinds:
            here = f"{path}/{node.get('name', '')}".lstrip("/")
            yield node.get("uuid", here), node
            yield from _layers(node, kinds, here)
        else:
            yield from _layers(node, kinds, path)


def _numbered(
    found: Iterator[tuple[str, ElementTree.Element]],
) -> Iterator[tuple[str, ElementTree.Element]]:
    seen: dict[str, int] = {}
    for name, node in found:
        seen[name] = seen.get(name, 0) + 1
        yield (name if seen[name] == 1 else f"{name}#{seen[name]}"), node


def _rest(member: str, source: str, is_krita: bool) -> str | None:
    """What a member's name has behind the layer's file; None when it is not the layer's."""
    if not is_krita:
        return "" if member == source else None
    _, layers, name = member.partition("/layers/")
    if not layers or not name.startswith(source):
        return None
    rest = name[len(source) :]
    return rest if rest[:1] in ("", ".", "/") else None


def _other(node: ElementTree.Element) -> str:
    return ElementTree.tostring(node, encoding="unicode").strip()


def _around(node: ElementTree.Element) -> str:
    return f"{node.tag} {sorted(node.items())} {(node.text or '').strip()} {(node.tail or '').strip()}"
