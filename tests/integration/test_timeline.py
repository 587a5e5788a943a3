"""The past of files and projects in pictures: which versions there are, what is said of each, what is read and kept."""

from __future__ import annotations

import io
import json
import os
import random
import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import groupby
from pathlib import Path
from random import Random
from typing import Any

import layered
import pytest
from damage import lose
from PIL import Image, ImageDraw
from repositories import commit, git

from gitvault.cli.main import main
from gitvault.core.models import ObjectId, SnapshotId
from gitvault.core.utils import layout
from gitvault.core.utils.files import Disk
from gitvault.errors import ContentMissing, LockedError, NotFoundError, StorageFullError
from gitvault.formats.thumbnails import RENDERER
from gitvault.personas.creative import CreativeVault
from gitvault.personas.creative.timeline import Version, timeline
from gitvault.personas.creative.timeline.cards import Card, cards
from gitvault.personas.creative.timeline.drawing import FRAMES, NO_KIND, draw_ahead, drawn, looked_into
from gitvault.personas.creative.timeline.lanes import Row, lanes
from gitvault.personas.creative.timeline.page import page
from gitvault.personas.creative.timeline.sheet import sheet
from gitvault.personas.creative.timeline.similar import difference, folded, inside, is_alike, said
from gitvault.personas.creative.timeline.thumbnails import SIDE, Kept, Thumbnails, Wanted
from gitvault.personas.creative.timeline.walk import Content, Past, Step
from gitvault.vault import Vault

Command = Callable[..., subprocess.CompletedProcess[str]]


def picture(path: Path, count: int, colour: str = "orange", **options: Any) -> None:
    """`count` discs in a row."""
    image = Image.new("RGB", (320, 200), "#204060")
    canvas = ImageDraw.Draw(image)
    for number in range(count):
        canvas.ellipse((10 + number * 40, 60, 45 + number * 40, 95), fill=colour)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


class Art:
    """A project in a vault."""

    def __init__(self, vault: Vault, folder: Path) -> None:
        self.vault = vault
        self.folder = folder
        self.hero = folder / "art" / "hero.png"
        folder.mkdir()

    def save(self, message: str = "") -> str:
        return self.vault.create_snapshot(self.folder, message=message).snapshot

    def versions(self, path: bytes = b"art/hero.png") -> list[Version]:
        return timeline(self.vault, self.folder.name, path)


@pytest.fixture
def here(vault: Vault, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs `git-vault timeline`, or another verb, in this process: its exit code and what it said."""

    def run(*words: str | Path, verb: str = "timeline") -> tuple[int, str, str]:
        code = main(["--vault", str(vault.path), verb, *map(str, words)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def art(vault: Vault, tmp_path: Path) -> Art:
    return Art(vault, tmp_path / "forest")


def changes(versions: list[Version]) -> list[tuple[str, str]]:
    return [(version.path.decode(), version.changed) for version in versions]


def shown(version: Version) -> Image.Image:
    assert version.thumbnail, version.reason
    image = Image.open(version.thumbnail)
    image.load()
    return image


# -- which versions ----------------------------------------------------------------------------------


def test_each_version_is_there_once_in_order_with_its_own_picture(art: Art) -> None:
    ids = []
    for count in (1, 2, 3):
        picture(art.hero, count)
        ids.append(art.save(f"{count} discs"))
        (art.folder / "notes.txt").write_text(str(count))
        art.save("words")
    versions = art.versions()
    assert [version.snapshot for version in versions] == ids
    assert [version.message for version in versions] == ["1 discs", "2 discs", "3 discs"]
    assert [version.changed for version in versions] == ["added", "changed", "changed"]
    assert versions[2].size == art.hero.stat().st_size
    assert [version.time for version in versions] == sorted(version.time for version in versions)
    for number, version in enumerate(versions):
        image = shown(version).convert("RGB")
        discs = [image.getpixel((int((27 + 40 * at) * image.width / 320), 62)) == (255, 165, 0) for at in range(4)]
        assert discs == [at <= number for at in range(4)]


def test_a_file_is_followed_under_all_its_names_whichever_is_given(art: Art) -> None:
    picture(art.hero, 1)
    art.save()
    art.hero.rename(art.folder / "heroine.png")
    art.save()
    picture(art.folder / "heroine.png", 2)
    art.save()
    (art.folder / "new").mkdir()
    (art.folder / "heroine.png").rename(art.folder / "new" / "her.png")
    art.save()
    expected = [
        ("art/hero.png", "added"),
        ("heroine.png", "renamed from art/hero.png"),
        ("heroine.png", "changed"),
        ("new/her.png", "renamed from heroine.png"),
    ]
    for name in (b"art/hero.png", b"heroine.png", b"new/her.png"):
        assert changes(art.versions(name)) == expected
    assert changes(art.versions(b"new")) == [("new/her.png", "added")]
    assert changes(art.versions(b"art")) == [("art/hero.png", "added"), ("art/hero.png", "deleted")]


def test_what_was_deleted_and_came_back_has_both_its_lives(art: Art) -> None:
    picture(art.hero, 1)
    art.save()
    art.hero.unlink()
    (art.folder / "notes.txt").write_text("gone")
    art.save()
    picture(art.hero, 2)
    art.save()
    versions = art.versions()
    assert [version.changed for version in versions] == ["added", "deleted", "added"]
    assert (versions[1].size, versions[1].thumbnail, versions[1].reason) == (0, None, "")
    art.hero.unlink()
    art.save()
    assert [version.changed for version in art.versions()] == ["added", "deleted", "added", "deleted"]


def test_a_project_shows_what_each_snapshot_changed(art: Art) -> None:
    picture(art.hero, 1)
    (art.folder / "notes.txt").write_text("one")
    os.symlink("art/hero.png", art.folder / "link.png")
    first = art.save()
    picture(art.folder / "b.png", 2)
    second = art.save()
    versions = art.versions(b"")
    assert [(version.snapshot, version.path) for version in versions] == [
        (first, b"art/hero.png"),
        (first, b"link.png"),
        (first, b"notes.txt"),
        (second, b"b.png"),
    ]
    assert [version.reason for version in versions] == ["", "a link", NO_KIND, ""]
    assert [version.thumbnail is not None for version in versions] == [True, False, False, True]


def test_going_back_makes_a_branch(art: Art) -> None:
    ids = []
    for count in (1, 2, 3):
        picture(art.hero, count)
        ids.append(art.save())
    art.vault.restore_snapshot(ids[0])
    ids.append(art.save())
    picture(art.hero, 4)
    ids.append(art.save())
    art.vault.restore_snapshot(ids[1])
    picture(art.hero, 5)
    ids.append(art.save())
    versions = art.versions()
    assert [version.snapshot for version in versions] == ids
    assert [version.changed for version in versions[3:]] == [
        f"restored from {ids[0][:12]}",
        "changed",
        f"changed, from {ids[1][:12]}",
    ]
    assert [version.parent for version in versions] == [None, ids[0], ids[1], ids[0], ids[3], ids[1]]
    rows = lanes([None, 0, 1, 0, 3, 1])
    assert [row.lane for row in rows] == [0, 0, 1, 2, 2, 0] or [row.lane for row in rows] == [0, 0, 2, 1, 1, 0]
    assert rows[0].below == [(0, 0), (0, rows[3].lane)]
    assert all(row.lane in row.above for row in rows[1:])


@pytest.mark.parametrize("seed", [1, 2])
def test_order_and_pictures_are_right_however_a_project_evolves(art: Art, seed: int) -> None:
    """Random edits, new files, renames, deletions, and going back, against what was on disk."""
    chance = Random(seed)
    states: list[tuple[str, dict[str, int]]] = []
    for number in range(24):
        files = sorted(path.name for path in art.folder.iterdir())
        do = chance.choice(["new", "edit", "edit", "edit", "rename", "delete", "back"])
        if do == "back" and states:
            art.vault.restore_snapshot(chance.choice(states)[0])
        elif do == "rename" and files:
            (art.folder / chance.choice(files)).rename(art.folder / f"r{number}.png")
        elif do == "delete" and len(files) > 1:
            (art.folder / chance.choice(files)).unlink()
        else:
            name = chance.choice(files) if do == "edit" and files else f"{number}.png"
            Image.new("RGB", (8, 8), (number * 10, 255 - number * 10, 7)).save(art.folder / name)
        report = art.vault.create_snapshot(art.folder)
        if not report.unchanged:
            now = {p.name: Image.open(p).convert("RGB").getpixel((0, 0))[0] // 10 for p in art.folder.iterdir()}  # type: ignore[index]
            states.append((report.snapshot, now))
    versions = art.versions(b"")
    found: dict[str, dict[str, Version]] = {}
    for version in versions:
        found.setdefault(version.snapshot, {})[version.path.decode()] = version
    order = [snapshot for snapshot, _ in states]
    assert list(found) == [snapshot for snapshot in order if snapshot in found]
    before: dict[str, int] = {}
    for snapshot, now in states:
        told = found.pop(snapshot, {})
        differing = {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}
        moved = {
            version.changed.removeprefix("renamed from ") for version in told.values() if "renamed" in version.changed
        }
        assert told.keys() == differing - {name.partition(", ")[0] for name in moved}
        for name, version in told.items():
            if name in now:
                assert shown(version).convert("RGB").getpixel((0, 0)) == (now[name] * 10, 255 - now[name] * 10, 7)
                assert "deleted" not in version.changed
            else:
                assert version.changed.startswith("deleted") and not version.thumbnail
        before = now
    for name, colour in before.items():
        last = art.versions(name.encode())[-1]
        assert last.path == name.encode()
        assert shown(last).convert("RGB").getpixel((0, 0)) == (colour * 10, 255 - colour * 10, 7)


def test_lanes_are_used_again() -> None:
    rows = lanes([None, 0, 0, 2, 2, 4])
    assert [row.lane for row in rows] == [0, 1, 0, 1, 0, 0]
    assert rows[0] == Row(0, [], [(0, 1), (0, 0)])
    assert rows[1].above == [1, 0]
    assert lanes([]) == []


def test_milestones_are_those_of_the_version_that_was_current(art: Art) -> None:
    ids = []
    for count in (1, 2):
        picture(art.hero, count)
        ids.append(art.save())
        (art.folder / "notes.txt").write_text(str(count))
        ids.append(art.save())
    git(art.vault.path, "tag", "-a", "-m", "the first", "forest/alpha", ids[0])
    git(art.vault.path, "tag", "-a", "-m", "sent", "forest/sent%201", ids[1])
    git(art.vault.path, "tag", "forest/beta", ids[2])
    git(art.vault.path, "tag", "other/x", ids[2])
    assert [version.milestones for version in art.versions()] == [("alpha", "sent 1"), ("beta",)]
    assert [version.milestones for version in art.versions(b"notes.txt")] == [("beta", "sent 1"), ()]


def test_large_files_and_their_sizes(art: Art, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in the chunk store, and what only git has of a checkout."""
    noise = Image.frombytes("RGB", (900, 900), os.urandom(900 * 900 * 3))
    noise.save(art.folder / "big.png", compress_level=0)
    art.save()
    [version] = art.versions(b"big.png")
    assert version.size == (art.folder / "big.png").stat().st_size
    assert shown(version).size == (SIDE, SIDE)
    past = Past(art.vault, "forest")
    [step] = past.of_file(b"big.png")
    content = past.content(step)
    assert content.pointer and content.size == content.pointer.size
    assert past.snapshot(0).id == version.snapshot
    assert past.ids == {version.snapshot: 0}
    assert past.is_folder(b"") and not past.is_folder(b"big.png")
    assert [one.path for one in past.of_folder(b"")] == [b"big.png"]
    assert past.content(replace(step, blob=None)) == Content(0)


@pytest.mark.needs("git")
def test_a_checkout_of_which_git_has_the_files(vault: Vault, tmp_path: Path) -> None:
    art = Art(vault, tmp_path / "forest")
    git(art.folder, "init", "-q")
    picture(art.hero, 1)
    git(art.folder, "add", ".")
    commit(art.folder, "readme", "x")
    picture(art.folder / "own.png", 1)
    first = art.save()
    picture(art.hero, 2)
    second = art.save()
    git(art.folder, "commit", "-qam", "two")
    third = art.save()
    versions = art.versions()
    assert [(version.snapshot, version.changed) for version in versions] == [(first, "added"), (second, "changed")]
    assert third != second
    assert difference(versions[0].fingerprint, versions[1].fingerprint) > 0
    assert [version.path for version in art.versions(b"art")] == [b"art/hero.png"] * 2
    assert {b"own.png", b"art/hero.png", b"readme"} <= {version.path for version in art.versions(b"")}


def test_names_that_are_no_words(art: Art) -> None:
    name = os.fsencode(art.folder) + b"/caf\xe9 %41<b>.png"
    picture(art.hero, 1)
    os.rename(art.hero, name)
    art.save("<script>alert(1)</script>")
    [version] = art.versions(b"caf\xe9 %41<b>.png")
    assert shown(version).size == (256, 160)


# -- similarity --------------------------------------------------------------------------------------


def test_versions_that_look_the_same_are_folded_and_others_not(art: Art) -> None:
    for quality in (95, 90, 85):
        picture(art.folder / "a.jpg", 1, quality=quality)
        art.save()
    picture(art.folder / "a.jpg", 2, quality=85)
    art.save()
    versions = art.versions(b"a.jpg")
    assert len(versions) == 4
    short = folded(versions)
    assert [said(version) for version in short] == ["added, then 2 near-identical", "changed"]
    assert short[0].snapshot == versions[2].snapshot
    assert short[0].folded == (versions[0].snapshot, versions[1].snapshot)
    assert (short[0].parent, short[1].parent) == (None, versions[2].snapshot)


def test_what_matters_is_never_folded_away(art: Art) -> None:
    ids = []
    for level in range(6):
        picture(art.hero, 1, compress_level=level)
        ids.append(art.save())
    versions = art.versions()
    marked = [replace(versions[0], milestones=("alpha",)), *versions[1:]]
    assert [version.snapshot for version in folded(marked)] == [ids[0], ids[5]]
    back = [*versions[:5], replace(versions[5], parent=ids[1], changed=f"changed, from {ids[1]}")]
    assert [version.snapshot for version in folded(back)] == [ids[1], ids[4], ids[5]]
    assert folded(back)[2].parent == ids[1]
    blind = [replace(version, fingerprint=b"") for version in versions]
    assert folded(blind) == blind


def test_slow_change_is_not_folded_step_by_step(art: Art) -> None:
    for level in range(0, 21, 3):
        Image.new("RGB", (64, 64), (level, level, level)).save(art.folder / "a.png")
        art.save()
    assert 3 <= len(folded(art.versions(b"a.png"))) <= 4


def test_similarity_is_the_share_of_the_picture() -> None:
    white, black = b"\xff" * 1024, b"\0\0\0\xff" * 256
    assert difference(white, white) == 0
    assert difference(white, black) == 1
    assert difference(white, black[:256] + white[256:]) == 0.25
    assert is_alike(white, b"\xfc" * 1024)
    assert not is_alike(white, b"\xfa" * 1024)
    assert not is_alike(b"", b"")


# -- the cache ---------------------------------------------------------------------------------------


def test_a_warm_picture_is_not_drawn_again_and_its_file_not_read(art: Art, monkeypatch: pytest.MonkeyPatch) -> None:
    for count in (1, 2):
        picture(art.hero, count)
        art.save()
    first = art.versions()

    def no_reading(*_: object) -> None:
        raise AssertionError("read")

    monkeypatch.setattr(Thumbnails, "_picture", no_reading)
    assert art.versions() == first
    folder = art.vault.path / layout.THUMBNAILS / f"{RENDERER}-{SIDE}"
    assert {path.suffix for path in folder.iterdir()} == {".png"}


def test_a_deleted_or_torn_cache_is_made_again(art: Art) -> None:
    picture(art.hero, 1)
    art.save()
    [version] = art.versions()
    assert version.thumbnail
    whole = version.thumbnail.read_bytes()
    for damage in (b"", whole[:-20]):
        version.thumbnail.write_bytes(damage)
        assert art.versions() == [version]
        assert version.thumbnail.read_bytes() == whole
    layout.clear_thumbnails(art.vault.path, Disk())
    assert not version.thumbnail.parent.exists()
    assert art.versions() == [version]


def test_forgetting_a_path_removes_the_pictures(art: Art) -> None:
    picture(art.hero, 1)
    art.save()
    [version] = art.versions()
    assert version.thumbnail and version.thumbnail.exists()
    art.vault.forget(["hero.png"], yes=True)
    assert not version.thumbnail.exists()
    with pytest.raises(NotFoundError, match=r"art/hero\.png: in no snapshot of forest; git-vault ls forest"):
        art.versions()


def test_who_draws_while_somebody_purges_keeps_nothing(art: Art, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(art.hero, 1)
    art.save()
    drawing = Thumbnails._picture

    def purged(self: Thumbnails, *arguments: Any) -> str:
        found = drawing(self, *arguments)
        layout.clear_thumbnails(art.vault.path, Disk())
        return found

    monkeypatch.setattr(Thumbnails, "_picture", purged)
    [version] = art.versions()
    assert version.thumbnail is None
    assert "No such file" in version.reason
    assert not (art.vault.path / layout.THUMBNAILS / f"{RENDERER}-{SIDE}").exists()


def test_what_cannot_be_drawn_says_why_and_is_not_tried_again(art: Art, monkeypatch: pytest.MonkeyPatch) -> None:
    (art.folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    (art.folder / "notes.txt").write_text("words")
    (art.folder / "empty.png").touch()
    art.save()
    [broken] = art.versions(b"a.png")
    assert broken.thumbnail is None
    assert broken.reason.startswith("cannot be read")
    [text] = art.versions(b"notes.txt")
    assert text.reason == "a kind of file that nobody here knows; no picture of it"
    monkeypatch.setattr(Thumbnails, "_picture", None)
    assert art.versions(b"a.png") == [broken]


def test_content_that_is_gone_and_a_full_disk_cost_the_picture_only(art: Art, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(art.hero, 1)
    art.save()

    def full(*_: object) -> None:
        raise StorageFullError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(Disk, "create", full)
        [version] = art.versions()
        assert (version.thumbnail, version.reason) == (None, "no space left")
        patch.setattr(Disk, "make_folder", full)
        layout.clear_thumbnails(art.vault.path, Disk())
        assert art.versions()[0].reason == "no picture can be kept: no space left"
    with monkeypatch.context() as patch:

        def gone(*_: object) -> None:
            raise ContentMissing("object: not there")

        patch.setattr(Thumbnails, "_write", gone)
        assert art.versions()[0].reason == "object: not there"
    assert art.versions()[0].thumbnail


def test_a_lost_file_does_not_hide_the_others(art: Art) -> None:
    for count in (1, 2):
        picture(art.hero, count)
        art.save()
    lost = next(Past(art.vault, "forest").of_file(b"art/hero.png")).blob
    assert lost
    lose(art.vault, lost)
    versions = art.versions()
    assert [version.thumbnail is not None for version in versions] == [True, False]
    assert [version.size > 0 for version in versions] == [True, False]
    assert "run git-vault verify" in versions[1].reason


def test_of_a_large_file_only_what_its_preview_needs_is_read(art: Art, monkeypatch: pytest.MonkeyPatch) -> None:
    import struct

    buffer = io.BytesIO()
    Image.new("RGB", (160, 100), "red").save(buffer, "JPEG")
    jpeg = buffer.getvalue()
    png = io.BytesIO()
    Image.new("RGB", (64, 64), "lime").save(png, "PNG")
    data = struct.pack(">IIIIIIHH", 1, 160, 100, 480, 0, len(jpeg), 24, 1) + jpeg
    resources = b"8BIM\x04\x0c\0\0" + struct.pack(">I", len(data)) + data
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 9, 9, 8, 3) + struct.pack(">II", 0, len(resources)) + resources
    rest = random.Random(8).randbytes(16 << 20)
    (art.folder / "large.psd").write_bytes(head + rest)
    with zipfile.ZipFile(art.folder / "large.kra", "w") as archive:
        archive.writestr("mimetype", "application/x-krita")
        archive.writestr("layers/layer1", rest[: 10 << 20])
        archive.writestr("preview.png", png.getvalue())
    (art.folder / "none.psd").write_bytes(head[:34] + b"\0" * 8 + rest[: 12 << 20])
    (art.folder / "video.bin").write_bytes(rest[: 9 << 20])
    art.save()
    read = []
    whole = type(art.vault.store).retrieve_chunk

    def counted(self: Any, chunk: Any) -> bytes:
        data = whole(self, chunk)
        read.append(len(data))
        return data

    monkeypatch.setattr(type(art.vault.store), "retrieve_chunk", counted)
    [version] = art.versions(b"large.psd")
    assert shown(version).getpixel((5, 5)) == (254, 0, 0)
    assert sum(read) < 2 << 20
    read.clear()
    assert shown(art.versions(b"large.kra")[0]).getpixel((5, 5)) == (0, 255, 0)
    assert sum(read) < 4 << 20
    assert art.versions(b"none.psd")[0].reason.startswith("cannot be ")
    assert art.versions(b"video.bin")[0].reason == "an unknown kind of file: no picture can be made of it"


def test_a_file_too_large_to_be_written_out(art: Art, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(art.hero, 1)
    with open(art.hero, "ab") as file:
        file.write(os.urandom(9 << 20))
    art.save()
    monkeypatch.setattr("gitvault.personas.creative.timeline.thumbnails._LARGEST", 1 << 20)
    assert "bytes are too many to be drawn" in art.versions()[0].reason


def test_pictures_of_the_newest_snapshots_are_drawn_ahead(art: Art, monkeypatch: pytest.MonkeyPatch) -> None:
    for count in (1, 2, 3):
        picture(art.hero, count)
        (art.folder / "notes.txt").write_text(str(count))
        art.save()
    assert draw_ahead(art.vault, limit=2) == 2
    thumbnails = Thumbnails(art.vault)
    blobs = [step.blob for step in Past(art.vault, "forest").of_file(b"art/hero.png") if step.blob]
    known = [thumbnails.kept(blob) for blob in blobs]
    assert all(isinstance(kept, Kept) for kept in known[:2]), "the newest come first"
    assert known[2] is None
    asked = []
    assert draw_ahead(art.vault, stop=lambda: bool(asked.append(1))) == 1
    assert draw_ahead(art.vault) == 0
    with (
        monkeypatch.context() as patch,
        pytest.raises(LockedError, match="another run draws thumbnails"),
    ):
        patch.setattr("gitvault.core.utils.lock._try_lock", lambda fd: False)
        draw_ahead(art.vault)
    old = thumbnails.folder.parent / "0-256"
    old.mkdir()
    (old / f"{blobs[0].hex()}.png").touch()
    (thumbnails.folder / f"{'ab' * 20}.png").touch()
    os.utime(thumbnails.folder / f"{'ab' * 20}.png", (0, 0))
    os.utime(thumbnails.folder / f"{blobs[0].hex()}.png", (0, 0))
    (thumbnails.folder / f"{blobs[0].hex()}.png.7-7.tmp").touch()
    os.utime(thumbnails.folder / f"{blobs[0].hex()}.png.7-7.tmp", (0, 0))
    thumbnails.tidy()
    assert not old.exists()
    assert sorted(path.stem for path in thumbnails.folder.iterdir()) == sorted(blob.hex() for blob in blobs)
    assert thumbnails.draw([]) == {}


def test_layers_that_changed_are_named(art: Art, here: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    """When asked to, files are read; afterwards, and where upkeep has read them, the names are simply there."""
    for colors in ({"Sky": 1, "Hill": 9}, {"Sky": 1, "Hill": 5}, {"Hill": 5, "Tree": 7}):
        layered.ora_file(art.folder / "a.ora", colors)
        art.save()
    assert [version.elements for version in art.versions(b"a.ora")] == [{}, {}, {}], "nobody has looked"
    expected = [{}, {"elements_changed": ["Hill"]}, {"elements_added": ["Tree"], "elements_removed": ["Sky"]}]
    assert [version.elements for version in timeline(art.vault, "forest", b"a.ora", elements=True)] == expected
    assert [version.elements for version in art.versions(b"")] == expected
    shutil.rmtree(Thumbnails(art.vault).folder)
    draw_ahead(art.vault)
    assert [version.elements for version in art.versions(b"a.ora")] == expected
    code, out, _ = here("forest", "a.ora", "--elements", "-o", tmp_path / "page.html")
    assert code == 0
    assert "changed: Hill " in out
    assert "changed: added Tree; removed Sky" in out
    assert "changed: Hill" in (tmp_path / "page.html").read_text()
    code, out, _ = here("forest", "a.ora", "--json")
    assert [one.get("elements") for one in json.loads(out)] == [None, *expected[1:]]


def test_what_cannot_be_taken_apart_names_no_layers_and_is_not_read_again(
    art: Art, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content in (b"8BPS torn", b"8BPS torn again"):
        (art.folder / "a.psd").write_bytes(content)
        art.save()
    versions = timeline(art.vault, "forest", b"a.psd", elements=True)
    assert [version.elements for version in versions] == [{}, {}]
    monkeypatch.setattr(Thumbnails, "_listed", None)
    past = Past(art.vault, "forest")
    steps = list(past.of_file(b"a.psd"))
    looked_into(past, Thumbnails(art.vault), steps, [past.content(step) for step in steps], None)
    blob = next(step.blob for step in Past(art.vault, "forest").of_file(b"a.psd"))
    assert blob
    assert Thumbnails(art.vault).elements(blob) == []
    (Thumbnails(art.vault).folder / f"{blob.hex()}.json").write_text('[["torn"')
    assert Thumbnails(art.vault).elements(blob) is None


def test_many_names_are_shortened_and_folded_versions_tell_theirs(art: Art) -> None:
    picture(art.hero, 1)
    art.save()
    version = replace(art.versions()[0], elements={"elements_changed": [f"layer {number}" for number in range(9)]})
    assert inside(version).endswith("layer 4 and 4 more")
    other = replace(version, changed="changed", elements={"elements_changed": ["x"], "elements_added": ["y"]})
    [folded_one] = folded([replace(version, changed="changed"), other])[-1:]
    assert folded_one.elements["elements_added"] == ["y"]
    assert folded_one.elements["elements_changed"][-1] == "x"


def test_of_many_files_in_one_snapshot_some_are_drawn(art: Art) -> None:
    for number in range(53):
        Image.new("RGB", (40, 40), (number, 0, 0)).save(art.folder / f"{number:02}.png")
    art.save()
    versions = art.versions(b"")
    assert [version.thumbnail is not None for version in versions] == [True] * 50 + [False] * 3
    assert art.versions(b"") == versions
    assert versions[50].reason.startswith("more than 50 files changed at once")
    assert art.versions(b"51.png")[0].thumbnail
    past = Past(art.vault, "forest")
    [step] = past.of_file(b"51.png")
    assert isinstance(step, Step)
    [kept] = drawn(past, Thumbnails(art.vault), [step], [past.content(step)], every=True, progress=None)
    assert kept.path
    assert Wanted(ObjectId(b"x" * 20), ".png", None).within is None


# -- pages and sheets --------------------------------------------------------------------------------


class Words(HTMLParser):
    """The text and the tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_page_holds_all_it_needs_and_runs_nothing(art: Art) -> None:
    evil = "<script>alert(1)</script>\"'&"
    picture(art.folder / "<img src=x>.png", 1)
    (art.folder / "notes.txt").write_text("x")
    art.save(evil)
    picture(art.folder / "<img src=x>.png", 5)
    (art.folder / "broken.png").write_text("x")
    art.save("\u202eturned\x1b[31m")
    text = page(art.versions(b""), "a <title>").decode()
    words = Words(text)
    assert "script" not in {tag for tag, _ in words.tags}
    assert evil in words.text
    assert "<img src=x>.png" in words.text
    assert "no picture: a kind of file that nobody here knows" in words.text
    assert "\u202e" not in text and "\x1b" not in text
    pictures = [attributes["src"] for tag, attributes in words.tags if tag == "img"]
    assert len(pictures) == 2
    assert all(source and source.startswith("data:image/") for source in pictures)
    assert not any("href" in attributes for _, attributes in words.tags)
    assert "default-src 'none'" in text
    assert "of the picture" in words.text
    assert "2 versions" in words.text
    assert "notes.txt (added)" in words.text
    assert "no versions" in Words(page([], "nothing").decode()).text


def test_frames_of_a_sequence_stand_together(art: Art) -> None:
    (art.folder / "shots").mkdir()
    for round_number, count in ((1, 12), (2, 10), (3, 3)):
        for frame in range(1, count + 1):
            picture(art.folder / "shots" / f"a.{frame:04}.png", round_number, f"#{frame:02x}{round_number:02x}00")
        art.save(f"render {round_number}")
    versions = art.versions(b"")
    assert len(versions) == 25
    assert FRAMES == 8
    drawn = [version.path.decode()[8:12] for version in versions if version.thumbnail]
    assert drawn == ["0001", "0007", "0012", "0001", "0006", "0010", "0001", "0002", "0003"]
    assert art.versions(b"") == versions, "not three more each time"
    assert versions[1].reason.startswith("between the frames of a sequence that are drawn")
    first, second, third = (cards(list(group)) for _, group in groupby(versions, lambda version: version.snapshot))
    assert [(card.name, card.said) for card in (*first, *second)] == [
        ("shots/a.####.png", "12 frames added"),
        ("shots/a.####.png", "10 frames changed"),
    ]
    assert [card.name for card in third] == ["shots/a.0001.png", "shots/a.0002.png", "shots/a.0003.png"]
    assert first[0].size == sum(version.size for version in versions[:12])
    assert [version.path for version in first[0].shown] == [
        b"shots/a.0001.png",
        b"shots/a.0007.png",
        b"shots/a.0012.png",
    ]
    assert isinstance(first[0], Card) and first[0].version.path == b"shots/a.0007.png"
    words = Words(page(versions, "x").decode())
    assert "12 frames added" in words.text
    assert sum(tag == "img" for tag, _ in words.tags) == 9
    assert art.versions(b"shots/a.0002.png")[0].thumbnail


def test_a_page_and_a_sheet_leave_out_what_went_meanwhile(art: Art) -> None:
    picture(art.hero, 1)
    art.save()
    versions = art.versions()
    assert versions[0].thumbnail
    versions[0].thumbnail.unlink()
    assert b"data:image" not in page(versions, "x").replace(b"img-src data:", b"")
    assert Image.open(io.BytesIO(sheet(versions, "x"))).size[0] > 100


def test_a_sheet_shows_each_version(art: Art) -> None:
    picture(art.hero, 1)
    art.save("x")
    versions = [replace(version, snapshot=SnapshotId(str(n))) for n, version in enumerate(art.versions() * 10)]
    marked = [replace(versions[0], milestones=("alpha",)), *versions[1:9], replace(versions[9], thumbnail=None)]
    image = Image.open(io.BytesIO(sheet(marked, "forest: a very long title " * 30)))
    assert image.size[0] > 8 * 256
    assert image.size[1] > 2 * 256
    assert sum(colour == (0x20, 0x40, 0x60) for _, colour in image.getcolors(1 << 24) or ()) == 1
    assert Image.open(io.BytesIO(sheet([], "nothing"))).size


# -- the command -------------------------------------------------------------------------------------


def test_the_command(art: Art, command: Command, tmp_path: Path) -> None:
    for count in (1, 2):
        picture(art.hero, count, compress_level=count)
        art.save(f"{count} discs")
    picture(art.hero, 2, compress_level=9)
    art.save("smaller")
    done = command("timeline", "forest", "art/hero.png", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [set(row) for row in rows] == [
        {"snapshot", "time", "message", "path", "size", "thumbnail", "changed", "milestone"}
    ] * 3
    assert [row["message"] for row in rows] == ["1 discs", "2 discs", "smaller"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", rows[0]["time"])
    assert Image.open(rows[0]["thumbnail"]).format == "PNG"
    assert max(Image.open(rows[0]["thumbnail"]).size) == 256
    assert rows[0]["milestone"] == []
    assert len(json.loads(command("timeline", "forest", "art/hero.png", "--json", "--fold").stdout)) == 2


def test_a_project_is_named_or_the_one_that_a_path_is_in(
    art: Art, here: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(art.hero, 1)
    art.save("one disc")
    rows = json.loads(here("forest", "--json")[1])
    assert [row["path"] for row in rows] == ["art/hero.png"]
    for words, cwd in (
        ((), art.folder / "art"),
        (("hero.png",), art.folder / "art"),
        ((str(art.hero),), tmp_path),
        (("forest", str(art.hero)), tmp_path),
        (("forest", "./art/hero.png"), tmp_path),
    ):
        monkeypatch.chdir(cwd)
        assert json.loads(here(*words, "--json")[1]) == rows, words
    small = json.loads(here("forest", "--side", "32", "--json")[1])
    assert max(Image.open(small[0]["thumbnail"]).size) == 32
    said = here("forest")[1]
    assert "art/hero.png" in said and "one disc" in said


def test_what_the_command_writes_overwrites_nothing_unless_asked(
    art: Art, here: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    picture(art.hero, 1)
    (art.folder / "notes.txt").write_text("x")
    art.save()
    page_file, sheet_file = tmp_path / "a.html", tmp_path / "a.png"
    assert "wrote" in here("forest", "-o", page_file)[1]
    assert page_file.read_bytes().startswith(b"<!doctype html>")
    code, printed, _ = here("forest", "-o", sheet_file)
    assert code == 0
    assert "1 version without a picture: no picture is made of this kind of file" in printed
    assert Image.open(sheet_file).format == "PNG"
    sheet_file.write_text("mine")
    code, printed, error = here("forest", "-o", sheet_file)
    assert (code, printed) == (128, "")
    assert "is there already; give another name, or --overwrite" in error
    assert sheet_file.read_text() == "mine"
    assert here("forest", "-o", sheet_file, "--overwrite")[0] == 0
    assert Image.open(sheet_file).format == "PNG"


def test_wrong_words(art: Art, here: Callable[..., tuple[int, str, str]]) -> None:
    picture(art.hero, 1)
    art.save()
    for words, code, what in (
        (("nothing",), 128, "neither a project nor a path in one"),
        (("forest", "no/such.png"), 128, "no/such.png: in no snapshot of forest"),
        (("nobody", "a.png"), 128, "nobody"),
        (("forest", "a", "b"), 129, "unrecognized arguments: b"),
        (("forest", "-o", "page.pdf"), 129, "expected a name that ends with .html or .png"),
        (("forest", "--side", "9999"), 129, "expected 16 to 1024 pixels"),
        (("forest", "--ahead"), 129, "--ahead is for all projects"),
    ):
        answered, printed, error = here(*words)
        assert (answered, printed) == (code, ""), words
        assert what in error, words


def test_a_project_that_was_never_saved(art: Art, command: Command) -> None:
    art.vault.add_project(art.folder)
    with pytest.raises(NotFoundError, match="forest: has no snapshot yet; save it with"):
        art.versions(b"")
    assert command("timeline", "forest").returncode == 128


def test_upkeep_draws_where_somebody_has_looked(art: Art, here: Callable[..., tuple[int, str, str]]) -> None:
    picture(art.hero, 1)
    art.save()
    assert "thumbnail" not in here(verb="maintain")[1]
    assert here("--ahead")[1] == "1 thumbnail drawn\n"
    picture(art.hero, 2)
    art.save()
    assert "drew 1 thumbnail" in here("--idle", verb="maintain")[1]
    assert json.loads(here("--ahead", "--json")[1]) == {"drawn": 0}


def test_the_library(tmp_path: Path) -> None:
    (tmp_path / "forest").mkdir()
    with CreativeVault("forest", tmp_path / "forest", vault=tmp_path / "own.git") as forest:
        for level in (1, 9):
            picture(tmp_path / "forest" / "hero.png", 1, compress_level=level)
            forest.backup(f"level {level}")
        versions = forest.timeline("hero.png")
        assert [version.message for version in versions] == ["level 1", "level 9"]
        assert len(forest.timeline(fold=True)) == 1
