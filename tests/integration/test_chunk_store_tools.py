"""What is in a chunk store can be had with stock tools: zstd, git-lfs, and a few lines of shell and awk."""

from __future__ import annotations

import hashlib
import io
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from gitvault.core.chunking import AssetAware
from gitvault.core.models import Pointer
from gitvault.core.storage import pointers
from gitvault.core.storage.packs import Frame, Pack, read_table
from gitvault.core.storage.store import ChunkStore

NOISE = random.Random(11).randbytes(4_000_000)


def open_store(folder: Path) -> ChunkStore:
    return ChunkStore(folder / "chunks", cache=folder / "cache", strategy=AssetAware())


def save(store: ChunkStore, data: bytes, base: Pointer | None = None) -> Pointer:
    return store.store_file(io.BytesIO(data), base=base)


@pytest.mark.needs("git-lfs")
@pytest.mark.parametrize("size", [1, 130, 10**6, 5 * 2**30])
def test_git_lfs_accepts_our_pointers_and_writes_the_same(tmp_path: Path, size: int) -> None:
    text = pointers.encode(Pointer(hashlib.sha256(str(size).encode()).hexdigest(), size))
    (tmp_path / "pointer").write_bytes(text)
    check = ["git-lfs", "pointer", "--check", "--strict", f"--file={tmp_path / 'pointer'}"]
    subprocess.run(check, check=True, cwd=tmp_path)


@pytest.mark.needs("git-lfs")
def test_git_lfs_makes_the_same_pointer_of_the_same_content(tmp_path: Path) -> None:
    (tmp_path / "content").write_bytes(NOISE)
    made = subprocess.run(
        ["git-lfs", "pointer", f"--file={tmp_path / 'content'}"], check=True, capture_output=True, cwd=tmp_path
    )
    with open_store(tmp_path) as store:
        assert pointers.encode(store.store_file(tmp_path / "content")) == made.stdout


@pytest.mark.needs("zstd")
def test_zstd_decodes_a_whole_pack_in_one_call(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        contents = [NOISE[:2_500_000], b"text " * 1000, NOISE[3_000_000:3_050_000]]
        for data in contents:
            save(store, data)
        store.flush()
    (pack,) = (tmp_path / "chunks").glob("*.zpk")
    out = subprocess.run(["zstd", "-dc", "--format=zstd"], stdin=pack.open("rb"), capture_output=True, check=True)
    for data in contents:
        assert data in out.stdout
    subprocess.run(["zstd", "-tq"], stdin=pack.open("rb"), check=True)


@pytest.mark.needs("zstd")
def test_zstd_decodes_a_delta_with_patch_from(tmp_path: Path) -> None:
    edited = NOISE[:2_000_000] + b"an insertion" + NOISE[2_000_000:]
    with open_store(tmp_path) as store:
        first = save(store, NOISE)
        store.flush()
        save(store, edited, first)
        store.flush()
        deltas = [
            (Pack(path), frame)
            for path in (tmp_path / "chunks").glob("*.zpk")
            for frame in read_table(path).frames
            if frame.bases
        ]
        assert deltas
        decoded = [_patch(tmp_path, store, pack, frame) for pack, frame in deltas]
    assert any(b"an insertion" in data and data in edited for data in decoded)


def _patch(tmp_path: Path, store: ChunkStore, pack: Pack, frame: Frame) -> bytes:
    (tmp_path / "delta.zst").write_bytes(pack.read(frame))
    (tmp_path / "base").write_bytes(b"".join(map(store.retrieve_chunk, frame.bases)))
    command = ["zstd", "-dcq", f"--patch-from={tmp_path / 'base'}", str(tmp_path / "delta.zst")]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    assert len(data) == frame.length
    return data


RESCUE = r"""
set -eu
cd "$1"; oid=$2; work=$3; mkdir -p "$work"
plus() { echo "$1 $2" | awk '{ print $1 + $2 }'; }
# Every pack's table: the last 57 bytes say where it is.
for pack in *.zpk; do
    tail -c 57 "$pack" | { read -r _ _ offset length
        tail -c +"$(plus "$offset" 1)" "$pack" | head -c "$(plus "$length" 0)" | zstd -dcq
    } | sed "s/^/$pack /"
done > "$work/tables"
chunk() ( # the bytes of a chunk
    set -- $(awk -v id="$1" '$2 == "chunk" && $3 == id { print $1, $4, $5, $6; exit }' "$work/tables")
    pack=$1 frame=$2 inner=$3 length=$4
    out="$work/$pack.$frame"
    if [ ! -f "$out" ]; then
        set -- $(awk -v pack="$pack" -v n="$frame" '$1 == pack && $2 == "frame" && $3 == n {
                print $4, $5; exit }' "$work/tables")
        tail -c +$(($1 + 1)) "$pack" | head -c "$2" > "$out.zst"
        : > "$out.base"
        for base in $(awk -v pack="$pack" -v n="$frame" '$1 == pack && $2 == "frame" && $3 == n {
                for (i = 7; i <= NF; i++) print $i; exit }' "$work/tables"); do
            chunk "$base" >> "$out.base"
        done
        if [ -s "$out.base" ]; then zstd -dqf --patch-from="$out.base" "$out.zst" -o "$out"
        else zstd -dqf "$out.zst" -o "$out"; fi
    fi
    tail -c +$((inner + 1)) "$out" | head -c "$length"
)
parts=$(awk -v oid="$oid" '$2 == "manifest" && $3 == oid { for (i = 4; i <= NF; i++) print $i; exit }' "$work/tables")
if [ -z "$parts" ]; then chunk "$oid"
else for part in $parts; do chunk "$part"; done | while read -r id _; do chunk "$id"; done; fi
"""


@pytest.mark.needs("zstd", "awk", "sh")
def test_a_few_lines_of_shell_restore_every_version(tmp_path: Path) -> None:
    versions = [NOISE, NOISE[:1_000_000] + b"one" + NOISE[1_000_000:], b"head" + NOISE[:3_000_000], b"small"]
    with open_store(tmp_path) as store:
        pointer = None
        saved = []
        for data in versions:
            pointer = save(store, data, pointer)
            store.flush()
            saved.append(pointer.oid)
    for number, (oid, data) in enumerate(zip(saved, versions, strict=True)):
        command = ["sh", "-c", RESCUE, "rescue", str(tmp_path / "chunks"), oid, str(tmp_path / f"work{number}")]
        assert subprocess.run(command, check=True, capture_output=True).stdout == data


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="becomes another user, which needs root")
def test_a_store_that_may_only_be_read_is_read(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A vault on a read-only medium, or somebody else's."""
    folder = tmp_path_factory.mktemp("readable")
    with open_store(folder) as store:
        pointer = save(store, NOISE)
        store.flush()
        store.has(pointer)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    for parent in folder.parents:
        if parent.stat().st_uid == 0 and not parent.stat().st_mode & 1:
            parent.chmod(parent.stat().st_mode | 0o011)
    code = f"""
import hashlib, io, os, sys
sys.path[:0] = {sys.path!r}
import zstandard, pyfastcdc
from pathlib import Path
from gitvault.core.chunking import AssetAware
from gitvault.core.models import Pointer
from gitvault.core.storage.store import ChunkStore
os.setgid(65534); os.setuid(65534)
folder = Path({str(folder)!r})
with ChunkStore(folder / "chunks", cache=folder / "cache", strategy=AssetAware()) as store:
    target = io.BytesIO()
    store.retrieve_file(Pointer({pointer.oid!r}, {pointer.size}), target)
    assert hashlib.sha256(target.getvalue()).hexdigest() == {pointer.oid!r}
    assert store.verify(data=True).ok
    try:
        store.store_file(io.BytesIO(b"new"))
        store.flush()
    except PermissionError:
        print("refused")
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "refused\n"
