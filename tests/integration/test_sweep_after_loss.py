"""A sweep of a vault that has lost something, and a repair has said so: what is left stays, what is dead goes."""

from __future__ import annotations

import hashlib
import random
import shutil
from pathlib import Path

import pytest
from cutting import git
from damage import lose
from trees import contents, write

from gitvault import config
from gitvault.core.backup_engine.retention import Retention
from gitvault.core.models import SnapshotId
from gitvault.core.storage.packs import read_table
from gitvault.core.versioning import losses
from gitvault.core.versioning.contents import find
from gitvault.core.versioning.history import raw
from gitvault.errors import ContentMissing
from gitvault.vault import Vault

NOISE = random.Random(31).randbytes(3_000_000)
VERSIONS = 5
States = dict[SnapshotId, dict[bytes, bytes]]


@pytest.fixture
def states(vault: Vault, tmp_path: Path) -> States:
    """A large file that is edited, one that is new each time, small ones; the originals are gone."""
    project = tmp_path / "acme"
    states: States = {}
    scene = bytearray(NOISE[:600_000])
    for n in range(VERSIONS):
        scene[n * 90_000 : n * 90_000 + 40] = b"an edit of forty bytes, number %08d.." % n
        shutil.rmtree(project, ignore_errors=True)
        write(project, {"art/scene.bin": b"\0" + bytes(scene), f"src/{n}.c": b"int x = %d;" % n, "src/a": b"%d" % n})
        write(project, {"art/once.bin": b"\0" + NOISE[600_000 + n * 400_000 :][:300_000], "b": b"%d" % n})
        states[vault.create_snapshot(project).snapshot] = contents(project)
    shutil.rmtree(project)
    return states


def left(vault: Vault, snapshot: SnapshotId, folder: Path) -> dict[bytes, bytes]:
    """What can be restored of a snapshot."""
    shutil.rmtree(folder, ignore_errors=True)
    vault.restore_snapshot(snapshot, folder)
    return contents(folder)


def held(vault: Vault) -> tuple[set[bytes], set[bytes]]:
    """The chunks of all packs, and all of git's objects."""
    chunks = {chunk.id for path in vault.path.glob("chunks/*.zpk") for chunk in read_table(path).chunks}
    listed = git(vault.path, "cat-file", "--batch-check=%(objectname)", "--batch-all-objects").split()
    return chunks, {bytes.fromhex(name) for name in listed}


def lose_chunks(vault: Vault, sizes: tuple[int, int]) -> None:
    """Spoil the frames of these lengths in every chunk pack."""
    for path in vault.path.glob("chunks/*.zpk"):
        data = bytearray(path.read_bytes())
        for frame in read_table(path).frames:
            if sizes[0] <= frame.length < sizes[1]:
                data[frame.offset + frame.stored // 2] ^= 0x40
        path.chmod(0o600)
        path.write_bytes(data)


@pytest.mark.parametrize("what", ["blob", "tree", "meta commit", "meta tree", "meta blob", "commit"])
def test_a_lost_object_of_git_stops_no_sweep_and_costs_nothing_more(
    what: str, vault: Vault, states: States, tmp_path: Path
) -> None:
    history = vault.history
    hit = list(states)[3]
    found = {
        "blob": find(history, hit, b"src/a")[0].blob,
        "tree": find(history, hit, b"art")[0].blob,
        "meta commit": history.meta_commit(history.commit(raw(hit))),
        "meta tree": history.trees(hit)[1],
        "meta blob": history.tree(history.trees(hit)[1])[b"art"][1],
        "commit": raw(hit),
    }[what]
    assert found
    lose(vault, found)
    assert not vault.verify(repair=True).ok
    names = [snapshot.id for snapshot in vault.list_snapshots()][::-1]
    before = {name: left(vault, name, tmp_path / "back") for name in names}
    assert {name: state for name, state in before.items() if name != hit} == {
        name: state for name, state in states.items() if name in before and name != hit
    }
    # Two that are whole go.
    assert len(vault.prune(Retention(last=len(names) - 2), yes=True).removed) == 2
    size = sum(path.stat().st_size for path in vault.path.glob("chunks/*.zpk"))
    actions = vault.sweep().actions
    assert size - sum(path.stat().st_size for path in vault.path.glob("chunks/*.zpk")) > 500_000, actions
    kept = names[2:]
    assert {name: left(vault, name, tmp_path / "back") for name in kept} == {name: before[name] for name in kept}
    report = vault.verify(data=True)
    assert report.ok and report.quarantined
    assert any("git's objects stay" in action for action in actions) == (what not in ("blob", "meta blob", "commit"))
    # When nothing leads to the loss any more, all goes as ever.
    vault.prune(Retention(last=1), yes=True)
    actions = vault.sweep().actions
    assert not any("stay" in action for action in actions)
    assert left(vault, names[-1], tmp_path / "back") == states[names[-1]]
    assert vault.verify(data=True).ok


def test_what_is_left_of_a_large_file_stays(vault: Vault, states: States, tmp_path: Path) -> None:
    """Also what stands on chunks that are gone: when these come back it can be read again."""
    with Vault.create(tmp_path / "copy.git") as copy:
        config.set(copy.path, "vault.maintenance", "off")
    vault.copy_to(tmp_path / "copy.git")
    config.set(vault.path, "vault.copies", [])
    vault.close()
    vault = Vault.open(vault.path)
    lose_chunks(vault, (150_000, 1 << 20))
    report = vault.verify(repair=True)
    assert not report.ok and {defect.kind for defect in report.defects} >= {"chunk"}
    vault.prune(Retention(last=3), yes=True)
    names = list(states)[2:]
    before = {name: left(vault, name, tmp_path / "back") for name in names}
    lost = sum(before[name] != states[name] for name in names)
    assert lost
    chunks, _ = held(vault)
    vault.sweep()
    after, _ = held(vault)
    assert {name: left(vault, name, tmp_path / "back") for name in names} == before
    assert vault.verify(data=True).ok
    # Nothing that the copy does not send again is missing: whatever a lost file has left is there.
    wanted = {
        chunk
        for name in names
        for entry in vault.history.entries(name)
        if entry.pointer
        for chunk, _ in Vault.open(tmp_path / "copy.git").store.chunks(entry.pointer)
    }
    assert wanted & chunks == wanted & after
    assert vault.verify(repair=True, copies=[tmp_path / "copy.git"]).ok
    assert {name: left(vault, name, tmp_path / "back") for name in names} == {name: states[name] for name in names}
    assert not vault.verify(data=True).quarantined


def test_when_a_manifest_is_lost_no_chunk_goes_but_what_was_forgotten(
    vault: Vault, states: States, tmp_path: Path
) -> None:
    """Which chunks are the lost file's nobody can say."""
    project = write(tmp_path / "acme", {"secret.bin": b"\0" + NOISE[-250_000:], "secret.one": b"\0" + NOISE[-66_000:]})
    vault.create_snapshot(project)
    shutil.rmtree(project)
    hit = list(states)[3]
    pointer = find(vault.history, hit, b"art/once.bin")[0].pointer
    assert pointer
    (parts,) = [
        parts
        for path in vault.path.glob("chunks/*.zpk")
        for oid, parts in read_table(path).manifests
        if oid == pointer.oid
    ]
    mine = {chunk for chunk, _ in vault.store.chunks(pointer)}
    for path in vault.path.glob("chunks/*.zpk"):
        table = read_table(path)
        data = bytearray(path.read_bytes())
        for chunk in table.chunks:
            if chunk.id in parts:
                data[table.frames[chunk.frame].offset + table.frames[chunk.frame].stored // 2] ^= 0x40
        path.chmod(0o600)
        path.write_bytes(data)
    assert not vault.verify(repair=True).ok
    vault.prune(Retention(last=4), yes=True)
    vault.forget(["secret.*"], yes=True)
    before, _ = held(vault)
    assert any(action.startswith("chunks stay") for action in vault.sweep().actions)
    after, _ = held(vault)
    assert mine <= after
    gone = before - after
    assert gone and not gone & mine
    assert hashlib.sha256(b"\0" + NOISE[-66_000:]).digest() in gone
    assert vault.verify(data=True).ok


def test_what_is_missing_and_was_never_listed_stops_it(vault: Vault, states: States) -> None:
    """Of two losses one is news: it may be healed yet, and what it needs is not known."""
    history = vault.history
    first, second = (find(history, name, b"art")[0].blob for name in list(states)[2:4])
    lose(vault, first)
    assert not vault.verify(repair=True).ok
    assert {loss.object for loss in losses.load(vault.history)} == {first.hex()}
    lose(vault, second)
    with pytest.raises(ContentMissing, match=second.hex()):
        vault.sweep()


def test_parity_goes_with_its_pack_and_new_packs_have_some(vault: Vault, states: States, tmp_path: Path) -> None:
    config.set(vault.path, "vault.parity", 5)
    vault = Vault.open(vault.path)
    vault.maintain()
    names = list(states)
    vault.prune(Retention(last=2), yes=True)
    vault.sweep()
    packs = {path.name for path in [*vault.path.glob("chunks/*.zpk"), *vault.path.glob("objects/pack/*.pack")]}
    assert {path.name.removesuffix(".par") for path in vault.path.glob("parity/*")} == packs
    report = vault.verify(data=True, repair=True)
    assert report.ok and not report.repaired
    assert left(vault, names[-1], tmp_path / "back") == states[names[-1]]
