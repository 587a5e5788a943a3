"""Parts of saved files: listed, taken out, and put into the present file, with proof that nothing else changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from gitvault.core.utils.files import Disk
from gitvault.core.utils.names import to_line
from gitvault.errors import ExistsError, NotFoundError, ToolMissing, UnsupportedMedia
from gitvault.formats import Element
from gitvault.formats.confined import MEMORY, Confined
from gitvault.formats.elements import PICTURES, family, find, prove
from gitvault.personas.creative.sources import at_hand, steady

if TYPE_CHECKING:
    from gitvault.vault import Vault

_READERS = "gitvault.formats.elements:"
# For files of some gigabytes on a disk that is slow.
_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class RestoredElement:
    """An element of an old file in the current one."""

    element: str
    """Its id."""
    output: str
    unchanged: tuple[str, ...]
    changed: tuple[str, ...]
    """Ids of elements; see `gitvault.formats.elements.Proof`."""
    proof: bool
    """Whether a second reader found every other element as before, and this one as it was."""
    stale: str
    """What still shows the state before, in words; "" for nothing."""


def list_elements(source: str, vault: Callable[[], Vault]) -> list[Element]:
    """The elements of a file, FILE or SNAPSHOT:PATH. Raises UnsupportedMedia, NotFoundError."""
    with at_hand(source, vault) as path, Confined() as child, steady(path):
        return _elements(child, path)


def extract_element(
    source: str, wanted: str, output: Path, vault: Callable[[], Vault], *, overwrite: bool = False
) -> Element:
    """Write an element, by id or name, as a file of its own. Raises as `list_elements`, ExistsError, AmbiguousError."""
    with ExitStack() as open_:
        path, child = open_.enter_context(at_hand(source, vault)), open_.enter_context(Confined())
        temporary = open_.enter_context(_new(output, overwrite))
        open_.enter_context(steady(path))
        element = find(_elements(child, path), wanted, _shown(source))
        child.call(_READERS + "extracted", str(path), element.id, str(temporary), seconds=_SECONDS)
    return element


def extract_into(
    source: str, folder: Path, wanted: Sequence[str], vault: Callable[[], Vault], *, suffix: str | None = None
) -> list[Path]:
    """Write elements, by ids or names, or all that hold no others, as files in a folder; their paths.

    They are called like the elements, with the extension `suffix`, else that of the source.
    Raises as `extract_element`.
    """
    with at_hand(source, vault) as path, Confined() as child:
        elements = _elements(child, path)
        holders = {element.parent for element in elements}
        chosen = [find(elements, one, _shown(source)) for one in wanted] or [
            element for element in elements if element.id not in holders
        ]
        written: list[Path] = []
        for element in chosen:
            plain = "".join(letter if letter.isalnum() or letter in " .-_" else "_" for letter in element.name).strip(
                " ."
            )
            stem, number = plain or "element", 1
            while (output := folder / f"{stem}{path.suffix if suffix is None else suffix}") in written:
                number += 1
                stem = f"{plain} {number}"
            with _new(output, False) as temporary, steady(path):
                child.call(_READERS + "extracted", str(path), element.id, str(temporary), seconds=_SECONDS)
            written.append(output)
        return written


def restore_element(
    wanted: str,
    source: str,
    into: str,
    output: Path,
    vault: Callable[[], Vault],
    *,
    overwrite: bool = False,
) -> RestoredElement:
    """Write the file `into` with an element, by id or name, of the file `source`, all else as it is.

    `output` is there only when the proof holds. Raises UnsupportedMedia where it does not or it cannot be done,
    NotFoundError, AmbiguousError, ExistsError.
    """
    with ExitStack() as open_:
        old = open_.enter_context(at_hand(source, vault))
        current = open_.enter_context(at_hand(into, vault))
        # What is mapped counts as address space.
        memory = MEMORY + 2 * (old.stat().st_size + current.stat().st_size)
        writer, second, third = (open_.enter_context(Confined(memory=memory)) for _ in range(3))
        threads = open_.enter_context(ThreadPoolExecutor(2))
        temporary = open_.enter_context(_new(output, overwrite))
        open_.enter_context(steady(old, current))
        made = open_.enter_context(TemporaryDirectory(prefix="gitvault-"))
        old = Path(writer.call(_READERS + "leveled", str(old), str(current), made, seconds=_SECONDS))
        # The witnesses are other processes than the writer, and work meanwhile.
        before = threads.submit(_witness, second, current)
        then = threads.submit(_witness, third, old)
        elements = _elements(writer, old)
        element = find(elements, wanted, _shown(source))
        stale = writer.call(_READERS + "spliced", str(current), str(old), element.id, str(temporary), seconds=_SECONDS)
        of_old, of_current = then.result(), before.result()
        # Only now is the second witness free. What it reads is on its way to the disk meanwhile.
        after = threads.submit(_witness, second, temporary)
        synced = threads.submit(Disk().sync_file, temporary)
        replaced = family(_elements(writer, current), element.id)
        of_output = after.result()
        synced.result()
        proof = prove(of_old, of_current, of_output, restored=family(elements, element.id), replaced=replaced)
        if not proof.holds:
            raise UnsupportedMedia(
                f"{_shown(str(into))}: with {element.id!r} of {_shown(source)} something else would change too; "
                "nothing was written"
            )
        if stale:
            stale = _recomposed(writer, second, current, temporary, of_output, stale)
        return RestoredElement(element.id, str(output), proof.unchanged, proof.changed, proof.holds, stale)


def _recomposed(
    writer: Confined, second: Confined, current: Path, made: Path, witnessed: Mapping[str, str], stale: str
) -> str:
    """Make the pictures of the whole anew in a proven file, when nothing else becomes different; what stays stale."""
    disk = Disk()
    temporary = made.with_name(f".{made.name}{made.suffix}")
    try:
        why = writer.call(_READERS + "recomposed", str(current), str(made), str(temporary), seconds=_SECONDS)
        if not why and {**_witness(second, temporary), PICTURES: ""} == {**witnessed, PICTURES: ""}:
            disk.rename(temporary, made)
            return ""
        return f"{stale} ({why or 'with new ones something else would change too'})"
    except (UnsupportedMedia, ToolMissing) as error:
        return f"{stale} ({error})"
    finally:
        disk.unlink(temporary)


def _elements(child: Confined, path: Path) -> list[Element]:
    return [Element(**element) for element in child.call(_READERS + "listed", str(path), seconds=_SECONDS)]


def _witness(child: Confined, path: Path) -> dict[str, str]:
    hashes: dict[str, str] = child.call(_READERS + "witnessed", str(path), seconds=_SECONDS)
    return hashes


def _shown(source: str) -> str:
    return to_line(os.fsencode(source))


@contextmanager
def _new(output: Path, overwrite: bool) -> Iterator[Path]:
    """A name beside `output` that is synced and takes its name when all went well."""
    shown = _shown(str(output))
    if not output.parent.is_dir():
        raise NotFoundError(f"{shown}: there is no folder {to_line(os.fsencode(output.parent))}")
    if output.is_dir() or (not overwrite and os.path.lexists(output)):
        raise ExistsError(f"{shown}: is there already; name another file or give --overwrite")
    disk = Disk()
    # With its extension: formats are known by it.
    temporary = output.with_name(f".{output.stem}.{os.getpid()}.tmp{output.suffix}")
    disk.unlink(temporary)
    try:
        yield temporary
        disk.sync_file(temporary)
        if not overwrite and os.path.lexists(output):
            raise ExistsError(f"{shown}: is there already; name another file or give --overwrite")
        disk.rename(temporary, output)
        disk.sync_folder(output.parent)
    finally:
        disk.unlink(temporary)
