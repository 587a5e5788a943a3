"""Parts of files by name: found, compared between two versions, put into another version, and the proof of it.

Paths may be text: these functions are called in a process of their own, see `confined`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gitvault.errors import AmbiguousError, NotFoundError, UnsupportedMedia
from gitvault.formats import Element, Format, format_of

DOCUMENT = ""
"""The key under which a witness has the hash of what is in no element."""
PICTURES = "\0pictures"
"""That of the pictures of the whole which a layered file carries, where it does."""

_NONE = (DOCUMENT, PICTURES)


def listed(path: str | Path) -> Sequence[Element]:
    """All elements of a file, those that hold others first. Raises UnsupportedMedia."""
    path = Path(path)
    able = _format(path)
    if not able.elements:
        raise UnsupportedMedia(f"{path.name}: {able.summary}: it has no elements that gitvault can list")
    return able.elements(path)


def element_changes(before: str | Path, after: str | Path, *, without: Collection[str] = ()) -> dict[str, list[str]]:
    """`elements_added`, `elements_removed`, `elements_changed`: names, in the order of the file they are in.

    Changed is also what is inside another element now. `without`: kinds that do not count. Raises UnsupportedMedia.
    """
    return changes_between(*([e for e in listed(path) if e.kind not in without] for path in (before, after)))


def changes_between(before: Iterable[Element], after: Iterable[Element]) -> dict[str, list[str]]:
    """`element_changes` of what two files were found to consist of."""
    old, new = ({element.id: element for element in elements} for elements in (before, after))
    return {
        "elements_added": [element.name for element in new.values() if element.id not in old],
        "elements_removed": [element.name for element in old.values() if element.id not in new],
        "elements_changed": [
            element.name
            for element in new.values()
            if (was := old.get(element.id)) and (was.hash, was.parent) != (element.hash, element.parent)
        ],
    }


def told_apart(path: str | Path) -> list[Element]:
    """The elements of a file that a person would name, without what an application keeps of its windows.

    Raises UnsupportedMedia.
    """
    from gitvault.formats.scene.datablocks import INTERFACE

    return [element for element in listed(path) if element.kind not in INTERFACE]


def find(elements: Iterable[Element], wanted: str, where: str) -> Element:
    """The element with this id, or with this name, or path of names (`group/layer`), when only one has it.

    `where`: what errors call the file. Raises NotFoundError, AmbiguousError.
    """
    by_id = {element.id: element for element in elements}
    if wanted in by_id:
        return by_id[wanted]
    fitting = [element for element in by_id.values() if wanted in (element.name, _path(element, by_id))]
    if not fitting:
        raise NotFoundError(f"{where}: no element {wanted!r}; see: git-vault elements list {where}")
    if len(fitting) > 1:
        ids = ", ".join(element.id for element in fitting[:8])
        raise AmbiguousError(f"{where}: {len(fitting)} elements are called {wanted!r}; name one by its id: {ids}")
    return fitting[0]


def _path(element: Element, by_id: Mapping[str, Element]) -> str:
    names = [element.name]
    while element.parent is not None and element.parent in by_id and len(names) < 200:
        element = by_id[element.parent]
        names.append(element.name)
    return "/".join(reversed(names))


def family(elements: Iterable[Element], element: str) -> set[str]:
    """The ids of an element and of all that is inside it."""
    found = {element}
    # Those that hold others come first.
    for inner in elements:
        if inner.parent in found:
            found.add(inner.id)
    return found


def extracted(path: str | Path, element: str, output: str | Path) -> None:
    """Write an element, by its id, as a file of its own. Raises UnsupportedMedia."""
    path = Path(path)
    able = _format(path)
    if not able.extract:
        raise UnsupportedMedia(f"{path.name}: {able.summary}: gitvault cannot take elements out of it")
    able.extract(path, element, Path(output))


def spliced(current: str | Path, old: str | Path, element: str, output: str | Path) -> str:
    """Write the current file with an element, by its id, of the old one; what is stale in it now, in words.

    Raises UnsupportedMedia.
    """
    current, old = Path(current), Path(old)
    able, other = _format(current), _format(old)
    if able.name != other.name:
        raise UnsupportedMedia(f"{current.name} is a {able.summary}, {old.name} a {other.summary}: of one kind only")
    if not able.splice or not able.witness:
        raise UnsupportedMedia(f"{current.name}: {able.summary}: gitvault cannot put elements into it")
    able.splice(old, element, current, Path(output))
    return able.stale


def recomposed(current: str | Path, made: str | Path, output: str | Path) -> str:
    """Write `made`, which `spliced` made of the current file, with pictures of the whole that show what is in it now.

    Returns why that is not done, in words; "" when it is. Raises UnsupportedMedia.
    """
    able = _format(Path(current))
    return able.recompose(Path(current), Path(made), Path(output)) if able.recompose else "nothing here draws them"


def leveled(old: str | Path, current: str | Path, folder: str | Path) -> str:
    """The old file in the form in which the current one is: a new file in `folder` where it was not.

    Raises UnsupportedMedia.
    """
    able, other = _format(Path(current)), _format(Path(old))
    if able.name != other.name or not able.leveled:
        return str(old)
    return str(able.leveled(Path(old), Path(current), Path(folder)))


def witnessed(path: str | Path) -> Mapping[str, str]:
    """What the format's second reader finds: hashes by element's id. Raises UnsupportedMedia."""
    path = Path(path)
    able = _format(path)
    if not able.witness:
        raise UnsupportedMedia(f"{path.name}: {able.summary}: nothing reads it a second time")
    return able.witness(path)


@dataclass(frozen=True, slots=True)
class Proof:
    """What became of a file's elements when one was restored, by ids."""

    unchanged: tuple[str, ...]
    changed: tuple[str, ...]
    """Those restored, removed from inside them, or brought along because they need them."""
    holds: bool
    """Whether all that was asked for is as in the old file, and everything else as in the current one."""


def prove(
    old: Mapping[str, str],
    current: Mapping[str, str],
    output: Mapping[str, str],
    *,
    restored: Collection[str],
    replaced: Collection[str],
) -> Proof:
    """Compare what `Format.witness` says of three files.

    They are in the order of the file, which counts too. `restored`: the ids of the element and what is inside it in
    the old file, `replaced`: those in the current one. What is new beside them came along, and has to be as in the old
    file too.
    """
    changed = {key for key in (*current, *output) if current.get(key) != output.get(key)}
    expected = {key: value for key, value in current.items() if key not in replaced}
    expected |= {key: old[key] for key in output if key not in current and key in old}
    expected |= {key: old[key] for key in restored if key in old}
    return Proof(
        tuple(key for key in current if key not in changed and key not in _NONE),
        tuple(key for key in dict.fromkeys((*current, *output)) if key in changed and key not in _NONE),
        dict(output) == expected and _order(current, output, replaced) == _order(output, current, replaced),
    )


def _order(one: Mapping[str, str], other: Mapping[str, str], replaced: Collection[str]) -> list[str]:
    return [key for key in one if key in other and key not in replaced]


def _format(path: Path) -> Format:
    able = format_of(path)
    if not able:
        raise UnsupportedMedia(f"{path.name}: no kind of file that gitvault knows; its bytes are saved")
    return able
