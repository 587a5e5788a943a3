"""`verify` that fits into a week: shares, runs that go on, the restore drill; and what hangs on other refs."""

from __future__ import annotations

import hashlib
import random
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from damage import lose
from trees import write

from gitvault import config
from gitvault.core.backup_engine import rescue
from gitvault.core.backup_engine.drill import drill
from gitvault.core.backup_engine.verify import verify_constants
from gitvault.core.models import ObjectId, VerifyReport
from gitvault.core.storage.packs import read_table
from gitvault.core.storage.store import ChunkStore
from gitvault.errors import ToolMissing
from gitvault.vault import Vault

NOISE = random.Random(8)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def taken(vault: Vault, tmp_path: Path) -> Vault:
    """Small files, and large ones in several chunk packs."""
    NOISE.seed(8)
    for key, value in (("minChunk", "1k"), ("avgChunk", "4k"), ("maxChunk", "8k"), ("inlineLimit", "2k")):
        config.set(vault.path, f"vault.{key}", value)
    with Vault.open(vault.path, now=lambda: NOW) as opened:
        project = write(tmp_path / "acme", {f"src/{n:03}.c": b"int f%d;\n" % n for n in range(60)})
        write(project, {"odd/a%41 b\n'\".txt": b"odd", "odd/link": "a"})
        for number in range(3):
            write(project, {f"art/{number}.dat": b"\0" + NOISE.randbytes(30_000)})
            opened.create_snapshot(project)
    return Vault.open(vault.path, now=lambda: NOW)


def chunks_with_damage(vault: Vault) -> int:
    """Flip a bit in every frame of every chunk pack; how many frames those are."""
    frames = 0
    for path in vault.path.glob("chunks/*.zpk"):
        data = bytearray(path.read_bytes())
        for frame in read_table(path).frames:
            data[frame.offset + frame.stored // 2] ^= 1
            frames += 1
        path.write_bytes(data)
    return frames


def test_all_shares_together_find_all_damage(taken: Vault) -> None:
    assert chunks_with_damage(taken) > 3
    everything = {defect.object for defect in taken.verify(data=True).defects if defect.kind == "chunk"}
    runs = [taken.verify(data=True, share=(1, 5)) for _ in range(5)]
    found = [{defect.object for defect in run.defects if defect.kind == "chunk"} for run in runs]
    assert set().union(*found) == everything
    assert max(map(len, found)) < len(everything)
    assert [run.note for run in runs] == [f"part {n} of 5" for n in range(1, 6)]


def test_all_shares_together_find_a_damaged_blob(taken: Vault) -> None:
    blob = taken.history.blob_at(taken.history.commit(taken.history.locate(taken.resolve("acme"))), b"src/007.c")
    assert blob
    lose(taken, blob, spoilt=True)
    found = [[d.object for d in taken.verify(data=True, share=(1, 4)).defects if d.kind == "blob"] for _ in range(4)]
    assert sorted(found) == [[], [], [], [blob.hex()]]


def test_all_shares_together_read_as_much_as_one_run(taken: Vault) -> None:
    whole = taken.verify(data=True).bytes_checked
    parts = [taken.verify(data=True, share=(1, 3)).bytes_checked for _ in range(3)]
    assert sum(parts) == whole
    assert all(part < whole for part in parts)


def test_an_interrupted_run_goes_on_where_it_was(taken: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = taken.verify(data=True).bytes_checked

    def interrupted(*_: object, **__: object) -> VerifyReport:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ChunkStore, "verify", interrupted)
        with pytest.raises(KeyboardInterrupt):
            taken.verify(data=True)
    rest = taken.verify(data=True)
    assert rest.ok
    assert 90_000 <= rest.bytes_checked < whole, "of the git side nothing, of the chunk store all"
    assert "went on" in rest.note
    assert taken.verify(data=True).bytes_checked == whole


def test_what_was_damaged_is_read_again_by_the_run_that_goes_on(taken: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = taken.history.blob_at(taken.history.commit(taken.history.locate(taken.resolve("acme"))), b"src/007.c")
    assert blob
    lose(taken, blob, spoilt=True)
    with monkeypatch.context() as patch:
        patch.setattr(ChunkStore, "verify", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            taken.verify(data=True)
    assert [defect.object for defect in taken.verify(data=True).defects] == [blob.hex()]


def test_a_git_pack_under_a_wrong_name(taken: Vault) -> None:
    taken.close()
    path = next(taken.path.glob("objects/pack/*.pack"))
    for suffix in (".pack", ".idx"):
        path.with_suffix(suffix).rename(path.with_name("pack-" + "0" * 40 + suffix))
    [defect] = taken.verify().defects
    assert (defect.kind, defect.object) == ("pack", "pack-" + "0" * 40 + ".pack")
    assert "its name" in defect.reason


def git(vault: Vault, *words: str) -> str:
    done = subprocess.run(["git", f"--git-dir={vault.path}", *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_tags_notes_and_other_refs_are_followed(taken: Vault) -> None:
    git(taken, "tag", "-a", "-m", "Beta", "acme/beta", "acme~1")
    git(taken, "notes", "--ref=vault/feedback", "add", "-m", "note", "acme")
    old = git(taken, "rev-parse", "acme")
    git(taken, "update-ref", "refs/vault/kept/1/1", old)
    git(taken, "tag", "blob", "acme:src/001.c")
    assert taken.verify(data=True).ok
    for ref in ("refs/tags/acme/beta", "refs/notes/vault/feedback"):
        lost = git(taken, "rev-parse", ref)
        loose = taken.path / "objects" / lost[:2] / lost[2:]
        content = loose.read_bytes()
        loose.unlink()
        assert [(d.kind, d.object) for d in taken.verify().defects] == [("ref", ref)]
        loose.write_bytes(content)


def test_what_only_another_ref_keeps_is_followed_to_its_chunks(taken: Vault) -> None:
    git(taken, "update-ref", "refs/vault/kept/1/1", "acme")
    git(taken, "update-ref", "refs/vault/kept/1/2", "refs/vault/meta/acme")
    git(taken, "update-ref", "-d", "refs/heads/acme")
    git(taken, "update-ref", "-d", "refs/vault/meta/acme")
    assert taken.verify(data=True).ok
    taken.close()
    next(taken.path.glob("chunks/*.zpk")).unlink()
    assert "pointer" in {defect.kind for defect in taken.verify().defects}


def test_a_ref_of_ours_that_holds_no_commit(taken: Vault) -> None:
    git(taken, "update-ref", "refs/vault/playtests/x", git(taken, "rev-parse", "acme:src/001.c"))
    [defect] = taken.verify().defects
    assert (defect.kind, defect.object) == ("ref", "refs/vault/playtests/x")


def test_a_tag_that_names_nothing(taken: Vault) -> None:
    pack = taken.history.new_pack()
    oid = pack.add(b"tag", b"nonsense")
    made = pack.finish()
    assert made
    taken.history.publish([made])
    taken.history.refs.update("refs/tags/x", oid)
    [defect] = taken.verify().defects
    assert (defect.kind, defect.object) == ("ref", "refs/tags/x")


def test_a_meta_chain_without_its_newest_commit(taken: Vault) -> None:
    taken.history.refs.update("refs/vault/meta/acme", ObjectId(b"\x12" * 20))
    assert ("ref", "refs/vault/meta/acme") in {(d.kind, d.object) for d in taken.verify().defects}


@pytest.mark.parametrize("text", ["ref: refs/heads/gone\n", "12" * 20 + "\n", None])
def test_head_must_name_a_branch(text: str | None, taken: Vault) -> None:
    _ = taken.config
    if text is None:
        (taken.path / "HEAD").unlink()
    else:
        (taken.path / "HEAD").write_text(text)
    [defect] = taken.verify().defects
    assert (defect.kind, defect.object) == ("ref", "HEAD")


def test_the_constant_files(taken: Vault, tmp_path: Path) -> None:
    (taken.path / "RESCUE.md").write_text("nonsense")
    (taken.path / "info/attributes").unlink()
    defects = {defect.object: defect.reason for defect in taken.verify().defects}
    assert defects == {
        "RESCUE.md": "not as gitvault wrote it",
        "info/attributes": "cannot be read: No such file or directory",
    }
    (tmp_path / "A.md").write_text("old")
    assert [d.object for d in verify_constants(tmp_path, {"A.md": b"new"}, lambda _: False)] == ["A.md"]
    assert list(verify_constants(tmp_path, {"A.md": b"new"}, lambda text: text == b"old")) == []


def test_rescue_files_of_another_version_are_no_damage(taken: Vault) -> None:
    """They say themselves whether they are whole; a kind word, and upkeep writes this version's."""
    assert taken.verify().note == ""
    for name, comment in (("rescue.sh", "# %s\n"), ("RESCUE.md", "<!-- %s -->\n")):
        text = b"of a version to come\n"
        seal = f"gitvault wrote all above, of the SHA-256 {hashlib.sha256(text).hexdigest()}"
        (taken.path / name).write_bytes(text + (comment % seal).encode())
    report = taken.verify(data=True)
    assert report.ok and "RESCUE.md, rescue.sh of another gitvault, maintain writes them anew" in report.note
    assert rescue.is_whole((taken.path / "rescue.sh").read_bytes())
    assert rescue.outdated(taken.path) == ["RESCUE.md", "rescue.sh"]
    (taken.path / "rescue.sh").write_bytes((taken.path / "rescue.sh").read_bytes().replace(b"come", b"came"))
    assert [defect.object for defect in taken.verify().defects] == ["rescue.sh"]
    taken.maintain()
    report = taken.verify()
    assert report.ok and report.note == ""


# -- the drill


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.needs("zstd")
@pytest.mark.skipif(sys.platform != "linux", reason="the text is for the tools of Linux")
def test_the_drill_gets_files_back_without_gitvault(seed: int, taken: Vault) -> None:
    report = taken.verify(drill=12, chance=random.Random(seed))
    assert report.drilled == 12
    assert report.ok


@pytest.mark.needs("zstd")
@pytest.mark.skipif(sys.platform != "linux", reason="the text is for the tools of Linux")
def test_the_drill_finds_what_cannot_be_rescued(taken: Vault) -> None:
    script = taken.path / "rescue.sh"
    script.write_text(script.read_text().replace('tail -c "+$', 'tail -c "+2$'))
    count, defects = drill(taken.history, taken.store, 40, random.Random(1))
    assert count == 40
    assert defects
    assert all(d.kind == "drill" and d.object.startswith("art/") for d in defects)
    assert {place.project for d in defects for place in d.affects} == {"acme"}
    chunks_with_damage(taken)
    with Vault.open(taken.path) as opened:
        _, defects = drill(opened.history, opened.store, 40, random.Random(1))
    assert defects


@pytest.mark.skipif(sys.platform == "win32", reason="sh")
def test_the_drill_runs_the_script_of_the_vault(taken: Vault) -> None:
    script = 'mkdir "$3" && git --git-dir="$(dirname "$0")" archive "$2" | tar -x -C "$3"\n'
    (taken.path / "rescue.sh").write_text(script)
    _, defects = drill(taken.history, taken.store, 30, random.Random(2))
    assert defects, "this script knows no large files"
    assert all(d.object.startswith(("art/", "odd/")) and "gives" in d.reason for d in defects)
    (taken.path / "rescue.sh").write_text("exit 7\n")
    count, defects = drill(taken.history, taken.store, 3, random.Random(2))
    assert len(defects) == count == 3
    assert "failed with code 7" in defects[0].reason


def test_a_drill_without_snapshots_and_without_sh(vault: Vault, taken: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    with Vault.create(vault.path.with_name("empty.git")) as empty:
        assert empty.verify(drill=5).drilled == 0
    (taken.path / "rescue.sh").write_text("exit 7\n")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolMissing, match="sh: not found"):
        drill(taken.history, taken.store, 1, random.Random(2))


def test_what_was_found_damaged_is_stored_again_by_the_next_snapshot_of_it(vault: Vault, tmp_path: Path) -> None:
    """It is in the store by its hash, and cannot be read there: whoever has it now must not rely on that."""
    content = b"\0" + random.Random(3).randbytes(700_000)
    write(tmp_path / "first", {"a.bin": content, "one.bin": content[:70_000]})
    vault.create_snapshot(tmp_path / "first")
    for pack in vault.path.glob("chunks/*.zpk"):
        data = bytearray(pack.read_bytes())
        for frame in read_table(pack).frames:
            data[frame.offset + frame.stored // 2] ^= 1
        pack.write_bytes(data)
    write(tmp_path / "second", {"b.bin": content, "one.bin": content[:70_000]})
    vault.close()
    assert not vault.verify(data=True).ok
    vault.close()
    vault.create_snapshot(tmp_path / "second")
    vault.close()
    assert vault.restore_snapshot("second", tmp_path / "back").problems == ()
    assert (tmp_path / "back" / "b.bin").read_bytes() == content
    assert vault.restore_snapshot("first", tmp_path / "back1").problems == ()
    # Nothing is stored a third time, and nothing more is said of it when it is repaired.
    write(tmp_path / "third", {"c.bin": content})
    vault.create_snapshot(tmp_path / "third")
    assert len(list(vault.path.glob("chunks/*.zpk"))) == 2
    shutil.rmtree(tmp_path / "first")
    shutil.rmtree(tmp_path / "second")
    shutil.rmtree(tmp_path / "third")
    assert not vault.verify(repair=True).quarantined
    assert vault.verify(data=True).ok
