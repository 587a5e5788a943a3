"""Bundles in builds: which assets are in which bundle of which build, what grew, what is in several of them."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Self

from gitvault.core.models import Entry, Filter, Problem, Snapshot
from gitvault.core.utils import layout
from gitvault.core.utils.files import open_plain
from gitvault.core.utils.kinds import kind_of
from gitvault.core.utils.names import from_text, to_line
from gitvault.errors import NotFoundError, UnsupportedMedia
from gitvault.formats.bundles import Asset, Bundle, may_be
from gitvault.formats.confined import Confined
from gitvault.vault import Vault

_READ = "gitvault.formats.bundles:read"
_SECONDS = 900.0
"""For a bundle of some gigabytes: it is read and hashed."""
_VERSION = 1
"""Of what is remembered; raise it when bundles are read differently."""
_CACHE_LIMIT = 256 << 20
_HEAD = 64
_DIGITS = re.compile(rb"[0-9]+")


@dataclass(frozen=True, slots=True)
class Packed:
    """One bundle of a build."""

    path: bytes
    size: int
    id: str
    """Of its bytes."""
    bundle: Bundle


@dataclass(frozen=True, slots=True)
class Build:
    """The bundles of one snapshot, by path."""

    snapshot: str
    bundles: tuple[Packed, ...]
    problems: tuple[Problem, ...] = ()
    """Bundles that are damaged, or that cannot be read here, and why."""


@dataclass(frozen=True, slots=True)
class AssetChange:
    """An asset that is not the same in both builds."""

    name: str
    kind: str
    state: str
    """`added`, `removed`, `changed`; `unknown`: it cannot be seen in one of them."""
    before: int
    """Bytes when loaded; 0 where it is not."""
    after: int


@dataclass(frozen=True, slots=True)
class BundleChange:
    """A bundle that is not the same in both builds."""

    path: bytes
    was: bytes
    """Its path in the older one: another where only a number in it is."""
    state: str
    """`added`, `removed`, `changed`."""
    before: int
    after: int
    """Bytes of the file."""
    assets: tuple[AssetChange, ...]
    opaque: str
    """Why not all of it can be compared; ""."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """One asset in several places."""

    name: str
    kind: str
    size: int
    hash: str
    places: tuple[bytes, ...]
    """The bundles, each as often as it has the asset."""

    @property
    def wasted(self) -> int:
        """Bytes that loading it once would save."""
        return self.size * (len(self.places) - 1)


@dataclass(frozen=True, slots=True)
class Size:
    """A bundle in one build."""

    snapshot: Snapshot
    path: bytes
    size: int
    before: int
    """Its size in the build before; 0: it was not there."""
    assets: int
    loaded: int
    """Bytes of its assets."""


@dataclass(frozen=True, slots=True)
class Place:
    """An asset in one bundle of one build."""

    snapshot: Snapshot
    path: bytes
    asset: Asset


class Reader:
    """Reads the bundles of builds, each content once: what was found is remembered in the vault's cache."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._folder = vault.path / layout.BUNDLES
        self._child = Confined()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._child.close()

    def build(self, snapshot: str) -> Build:
        """All bundles of a snapshot. Raises NotFoundError, CorruptionError, ToolMissing."""
        found, problems = [], []
        for entry in self._vault.entries(snapshot, recursive=True):
            if entry.kind == "file" and entry.size and self._is_bundle(snapshot, entry):
                try:
                    found.append(self.packed(snapshot, entry))
                except UnsupportedMedia as error:
                    problems.append(Problem(entry.path, str(error)))
        return Build(snapshot, tuple(found), tuple(problems))

    def packed(self, snapshot: str, entry: Entry) -> Packed:
        """What is in one bundle. Raises UnsupportedMedia, CorruptionError, ToolMissing."""
        id = entry.pointer.oid if entry.pointer else entry.blob.hex()
        bundle = self._remembered(id)
        if bundle is None:
            with tempfile.TemporaryDirectory(prefix="gitvault-") as folder:
                copy = Path(folder, "bundle" + _extension(entry.path))
                with open(copy, "wb") as file:
                    self._vault.read_file(snapshot, entry.path, file)
                bundle = _bundle(self._child.call(_READ, str(copy), seconds=_SECONDS))
            self._remember(id, bundle)
        return Packed(entry.path, entry.size, id, bundle)

    def _is_bundle(self, snapshot: str, entry: Entry) -> bool:
        extension = _extension(entry.path)
        if may_be(extension, b""):
            return True
        # Unity's have no extension, or one that somebody made up.
        return kind_of(entry.path) == "other" and may_be("", self._head(snapshot, entry))

    def _head(self, snapshot: str, entry: Entry) -> bytes:
        if entry.pointer:
            return self._vault.store.retrieve_chunk(self._vault.store.chunks(entry.pointer)[0][0])[:_HEAD]
        content = BytesIO()
        self._vault.read_file(snapshot, entry.path, content)
        return content.getvalue()[:_HEAD]

    def _remembered(self, id: str) -> Bundle | None:
        with (
            suppress(OSError, ValueError, TypeError, KeyError),
            open_plain(self._folder / f"{id}.{_VERSION}.json") as file,
        ):
            return _bundle(json.loads(file.read(_CACHE_LIMIT)))
        return None

    def _remember(self, id: str, bundle: Bundle) -> None:
        disk = self._vault.history.disk
        # Without it the bundle is read again, which is no harm.
        with suppress(OSError):
            disk.make_folder(self._folder)
            disk.write_durably(self._folder / f"{id}.{_VERSION}.json", json.dumps(asdict(bundle)).encode())


def _bundle(document: Mapping[str, Any]) -> Bundle:
    assets = tuple(Asset(**asset) for asset in document["assets"])
    return Bundle(**{**document, "assets": assets, "damaged": tuple(document["damaged"])})


def _extension(path: bytes) -> str:
    name = path.rpartition(b"/")[2]
    return "." + name.rpartition(b".")[2].decode("ascii", "replace").lower() if b"." in name else ""


def compare(before: Build, after: Build) -> list[BundleChange]:
    """What differs between the bundles of two builds, by path.

    Bundles are paired by path, then those whose paths differ in their numbers only, as `game-1.2.pck` does.
    """
    pairs = _paired(before, after)
    gone = {one.path for one in before.bundles} - {was.path for was, _ in pairs if was}
    changes = [_changed(was, now) for was, now in pairs if not was or was.id != now.id]
    changes += [
        BundleChange(one.path, one.path, "removed", one.size, 0, _asset_changes(one.bundle.assets, ()), "")
        for one in before.bundles
        if one.path in gone
    ]
    return sorted(changes, key=lambda change: change.path)


def _paired(before: Build, after: Build) -> list[tuple[Packed | None, Packed]]:
    """Each bundle of the newer build with what it was in the older one."""
    old, new = ({one.path: one for one in build.bundles} for build in (before, after))
    pairs: list[tuple[Packed | None, Packed]] = [(old.pop(path), new.pop(path)) for path in old.keys() & new.keys()]
    numbered: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for path in (*old, *new):
        numbered[_DIGITS.sub(b"#", path)].append(path)
    for paths in numbered.values():
        if len(paths) == 2 and paths[0] in old and paths[1] in new:
            pairs.append((old[paths[0]], new.pop(paths[1])))
    return [*pairs, *((None, one) for one in new.values())]


def _changed(was: Packed | None, now: Packed) -> BundleChange:
    assets = _asset_changes(was.bundle.assets if was else (), now.bundle.assets)
    if not was:
        return BundleChange(now.path, now.path, "added", 0, now.size, assets, "")
    opaque = now.bundle.opaque or was.bundle.opaque
    return BundleChange(now.path, was.path, "changed", was.size, now.size, assets, opaque)


def _asset_changes(before: Sequence[Asset], after: Sequence[Asset]) -> tuple[AssetChange, ...]:
    old, new = _by_name(before), _by_name(after)
    changes = []
    for key in sorted(old.keys() | new.keys()):
        was, now = old.get(key), new.get(key)
        sizes = was.size if was else 0, now.size if now else 0
        if not (was and now):
            changes.append(AssetChange(key[0], key[1], "removed" if was else "added", *sizes))
        elif was.size != now.size or (was.hash and now.hash and was.hash != now.hash):
            changes.append(AssetChange(key[0], key[1], "changed", *sizes))
        elif not (was.hash and now.hash):
            changes.append(AssetChange(key[0], key[1], "unknown", *sizes))
    return tuple(changes)


def _by_name(assets: Iterable[Asset]) -> dict[tuple[str, str, int], Asset]:
    """By name and class; those that share both by their contents' order, so that equal ones meet."""
    counts: defaultdict[tuple[str, str], int] = defaultdict(int)
    found = {}
    for asset in sorted(assets, key=lambda asset: (asset.name, asset.kind, asset.hash)):
        counts[asset.name, asset.kind] += 1
        found[asset.name, asset.kind, counts[asset.name, asset.kind]] = asset
    return found


def duplicates(build: Build) -> list[Duplicate]:
    """Assets that are in the bundles of a build more than once, those that waste most first."""
    places: defaultdict[tuple[str, str, int], list[tuple[str, bytes]]] = defaultdict(list)
    for one in build.bundles:
        for asset in one.bundle.assets:
            if asset.hash and asset.size and asset.name:
                places[asset.hash, asset.kind, asset.size].append((asset.name, one.path))
    found = [
        Duplicate(min(name for name, _ in them), kind, size, digest, tuple(sorted(path for _, path in them)))
        for (digest, kind, size), them in places.items()
        if len(them) > 1
    ]
    return sorted(found, key=lambda one: (-one.wasted, one.name))


def growth(vault: Vault, project: str) -> Iterator[Size]:
    """The bundles of a project's snapshots, oldest first: a bundle whenever it is new or another than before.

    Those that are damaged are left out. Raises NotFoundError, CorruptionError, ToolMissing.
    """
    last = Build("", ())
    for snapshot, build in _builds(vault, project):
        for was, now in sorted(_paired(last, build), key=lambda pair: pair[1].path):
            if not was or was.id != now.id:
                assets = now.bundle.assets
                loaded = sum(asset.size for asset in assets)
                yield Size(snapshot, now.path, now.size, was.size if was else 0, len(assets), loaded)
        last = build


def find(vault: Vault, project: str, text: str) -> Iterator[Place]:
    """Where assets are whose names hold this text, upper and lower case alike: in each build, in each bundle.

    Raises as `growth`.
    """
    wanted = text.lower()
    for snapshot, build in _builds(vault, project):
        for one in build.bundles:
            yield from (Place(snapshot, one.path, asset) for asset in one.bundle.assets if wanted in asset.name.lower())


def _builds(vault: Vault, project: str) -> Iterator[tuple[Snapshot, Build]]:
    with Reader(vault) as reader:
        for snapshot in reversed(vault.list_snapshots(Filter(project=project))):
            yield snapshot, reader.build(snapshot.id)


def one_bundle(named: str, vault: Callable[[], Vault]) -> Bundle:
    """What is in a bundle on disk, or SNAPSHOT:PATH. Raises NotFoundError, UnsupportedMedia, ToolMissing."""
    snapshot, colon, path = named.partition(":")
    if os.path.lexists(named) or not colon:
        if not os.path.isfile(named):
            raise NotFoundError(f"{to_line(os.fsencode(named))}: no such file; a saved one is SNAPSHOT:PATH")
        with Confined() as child:
            return _bundle(child.call(_READ, named, seconds=_SECONDS))
    [entry] = vault().entries(snapshot, from_text(path))
    with Reader(vault()) as reader:
        return reader.packed(snapshot, entry).bundle
