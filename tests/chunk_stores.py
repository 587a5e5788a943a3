"""A chunk store in a folder: opened, filled, read back."""

from __future__ import annotations

import io
from pathlib import Path

from gitvault.core.chunking import AssetAware
from gitvault.core.models import Pointer
from gitvault.core.storage.store import ChunkStore
from gitvault.core.utils.files import Disk


def open_store(folder: Path, disk: Disk | None = None) -> ChunkStore:
    return ChunkStore(folder / "chunks", cache=folder / "cache", strategy=AssetAware(), disk=disk, threads=2)


def save(store: ChunkStore, data: bytes, base: Pointer | None = None) -> Pointer:
    return store.store_file(io.BytesIO(data), base=base)


def content(store: ChunkStore, pointer: Pointer) -> bytes:
    target = io.BytesIO()
    store.retrieve_file(pointer, target)
    return target.getvalue()


def packs(folder: Path) -> list[Path]:
    return sorted((folder / "chunks").glob("*.zpk"))
