"""How people name snapshots, list them and compare them."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from clocks import START, Clock
from trees import write

from gitvault.core.models import Difference, Filter, Move, Snapshot, SnapshotId
from gitvault.core.versioning import catalog
from gitvault.core.versioning.history import HEADS
from gitvault.core.versioning.objects import MODE_FILE, encode_tree
from gitvault.errors import AmbiguousError, CorruptionError, ExistsError, GitVaultError, NotFoundError
from gitvault.vault import Vault


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def vault(vault: Vault, clock: Clock) -> Iterator[Vault]:
    with Vault.open(vault.path, now=clock) as opened:
        yield opened


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def daily(vault: Vault, clock: Clock, tmp_path: Path) -> list[SnapshotId]:
    """Four snapshots of `acme`, one a day at noon; the clock then says the evening of the last day."""
    taken = []
    for day in range(4):
        clock.now = START + timedelta(days=day)
        write(tmp_path / "acme", {"file": b"day %d" % day})
        tags = ["odd"] if day % 2 else ["even", "even more"]
        meta = {"client": "Mr = X", "day": str(day)}
        done = vault.create_snapshot(tmp_path / "acme", message=f"day {day}", tags=tags, metadata=meta)
        taken.append(done.snapshot)
    clock.now += timedelta(hours=8)
    return taken


# -- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "day"),
    [
        ("acme", 3),
        ("acme~0", 3),
        ("acme~", 2),
        ("acme~1", 2),
        ("acme~3", 0),
        ("acme@{now}", 3),
        ("acme@{yesterday}", 2),
        ("acme@{2024-03-11}", 1),
        ("acme@{2024-03-11 12:00}", 1),
        ("acme@{2024-03-11 13:00}", 1),
        ("acme@{2024-03-10}~", None),
        ("acme@{2 days ago}", 1),
        ("acme@{2024-03-12T12:00:00Z}~1", 1),
        ("2024-03-12 12:30", 2),
        ("yesterday", 2),
    ],
)
def test_names_of_snapshots(name: str, day: int | None, vault: Vault, daily: list[SnapshotId]) -> None:
    if day is None:
        with pytest.raises(NotFoundError, match=r"the history of acme@.* is not that long"):
            vault.resolve(name)
    else:
        assert vault.resolve(name) == daily[day]


def test_an_id_its_beginning_and_what_comes_before_it(vault: Vault, daily: list[SnapshotId]) -> None:
    for taken in daily:
        assert vault.resolve(taken) == taken
        assert vault.resolve(taken[:10]) == taken
        assert vault.resolve(taken[:10].upper()) == taken
    assert vault.resolve(f"{daily[3][:10]}~2") == daily[1]


def test_ids_that_are_no_snapshot(vault: Vault, daily: list[SnapshotId]) -> None:
    tree = vault.history.trees(daily[0])[0].hex()
    meta_commit = vault.history.meta_commit(vault.history.commit(vault.history.tip("acme") or b""))  # type: ignore[arg-type]
    assert meta_commit
    for name in (tree, tree[:12], meta_commit.hex(), daily[0][:3]):
        with pytest.raises(NotFoundError, match=rf"^{name}: "):
            vault.resolve(name)


def test_a_date_of_an_unknown_project_and_a_date_that_is_none(vault: Vault, daily: list[SnapshotId]) -> None:
    with pytest.raises(NotFoundError, match=r"^other: no such project; git-vault projects lists them$"):
        vault.resolve("other@{yesterday}")
    with pytest.raises(NotFoundError, match=r"^acme@\{frog\}: 'frog' is not a date"):
        vault.resolve("acme@{frog}")


def test_only_a_commits_id_names_a_version(vault: Vault, daily: list[SnapshotId]) -> None:
    blob = next(vault.entries("acme")).blob.hex()
    with pytest.raises(NotFoundError, match=rf"^{blob} is a blob, not a snapshot; git-vault log"):
        vault.history.get_version(SnapshotId(blob))
    with pytest.raises(NotFoundError, match=r"^frog: not a snapshot id; git-vault log"):
        vault.history.get_version(SnapshotId("frog"))


def test_objects_of_the_wrong_kind_are_damage(vault: Vault, daily: list[SnapshotId]) -> None:
    """A commit whose tree is a blob, and a tree whose file is a tree, as no git writes them."""
    pack = vault.history.new_pack()
    blob = pack.add(b"blob", b"content")
    folder = pack.add(b"tree", encode_tree([(b"inner", MODE_FILE, blob)]))
    tree = pack.add(b"tree", encode_tree([(b"file", MODE_FILE, folder)]))
    for name, root in (("no-tree", blob), ("no-blob", tree)):
        commit = pack.add(b"commit", vault.history._commit(root, None, START, "by hand\n"))
        vault.history.refs.update(HEADS + name, commit)
    made = pack.finish()
    assert made
    vault.history.publish([made])
    with pytest.raises(CorruptionError, match=rf"^{blob.hex()}: expected a tree, found a blob; run git-vault verify"):
        list(vault.entries("no-tree"))
    with pytest.raises(CorruptionError, match=rf"^{folder.hex()}: expected a blob, found a tree; run git-vault verify"):
        vault.read_file("no-blob", b"file", io.BytesIO())


def test_a_projects_name_wins_over_everything_else(vault: Vault, daily: list[SnapshotId], tmp_path: Path) -> None:
    for name in (daily[0][:8], "yesterday", "acme~1"):
        taken = vault.create_snapshot(write(tmp_path / "x" / name, {"f": b""}), project=name).snapshot
        assert vault.resolve(name) == taken


def test_a_date_that_fits_two_projects_names_both(vault: Vault, daily: list[SnapshotId], tmp_path: Path) -> None:
    vault.create_snapshot(write(tmp_path / "other", {"f": b""}))
    assert vault.resolve("2024-03-11 12:00") == daily[1], "other has none that old"
    with pytest.raises(AmbiguousError, match=r"acme@\{now\}, other@\{now\}"):
        vault.resolve("now")


# -- lists ---------------------------------------------------------------------------------------


def ids(found: list[Snapshot]) -> list[SnapshotId]:
    return [snapshot.id for snapshot in found]


def test_a_snapshot_tells_all_about_itself(vault: Vault, daily: list[SnapshotId], clock: Clock) -> None:
    found = vault.get_snapshot_info("acme~2")
    assert found == Snapshot(
        id=daily[1],
        project="acme",
        time=START + timedelta(days=1),
        message="day 1",
        tags=("odd",),
        metadata={"client": "Mr = X", "day": "1"},
        files=1,
        bytes=5,
        host=vault.config.machine,
        trigger="manual",
    )


def test_filters(vault: Vault, daily: list[SnapshotId], tmp_path: Path, clock: Clock) -> None:
    other = vault.create_snapshot(write(tmp_path / "other", {"f": b""}), tags=["odd"]).snapshot
    newest_first = daily[::-1]
    cases: list[tuple[Filter | None, list[SnapshotId]]] = [
        (None, [other, *newest_first]),
        (Filter(project="acme"), newest_first),
        (Filter(tags=frozenset({"odd"})), [other, daily[3], daily[1]]),
        (Filter(tags=frozenset({"even", "even more"})), [daily[2], daily[0]]),
        (Filter(tags=frozenset({"even", "odd"})), []),
        (Filter(metadata={"day": "2"}), [daily[2]]),
        (Filter(metadata={"client": "Mr = X", "day": "7"}), []),
        (Filter(since=START + timedelta(days=2)), [other, daily[3], daily[2]]),
        (Filter(until=START + timedelta(days=1)), [daily[1], daily[0]]),
        (Filter(since=START + timedelta(hours=1), until=START + timedelta(days=2)), [daily[2], daily[1]]),
        (Filter(project="acme", tags=frozenset({"odd"}), until=START + timedelta(days=2)), [daily[1]]),
        (Filter(limit=2), [other, daily[3]]),
    ]
    for wanted, expected in cases:
        assert ids(vault.list_snapshots(wanted)) == expected, wanted


def test_a_project_without_snapshots_has_an_empty_list(vault: Vault, tmp_path: Path) -> None:
    vault.add_project(write(tmp_path / "fresh", {}))
    assert vault.list_snapshots(Filter(project="fresh")) == []
    with pytest.raises(NotFoundError, match="unknown: no such project; git-vault projects"):
        vault.list_snapshots(Filter(project="unknown"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "one\n\ntwo\n",
        "Vault-Tag: forged",
        "x\n\nVault-Project: forged",
        "\x1b[31m\r\n\0",
        "\u00e4\ud83d" * 3,
        "x" * 5000,
    ],
    ids=["empty", "blank", "body", "trailer", "trailers", "control", "surrogates", "long"],
)
def test_messages_and_tags_of_any_sort(text: str, vault: Vault, tmp_path: Path) -> None:
    """No text is taken for a trailer, and git can read the commit."""
    write(tmp_path / "acme", {"f": b""})
    tags = [text] if text.strip() else []
    taken = vault.create_snapshot(tmp_path / "acme", message=text, tags=tags, metadata={"key": text}, trigger=text)
    found = vault.get_snapshot_info(taken.snapshot)
    assert found.project == "acme"
    if text.isascii():
        assert found.tags == tuple(tag.strip() for tag in tags)
        assert found.metadata == {"key": text.strip()}
    if text in ("one\n\ntwo\n", "Vault-Tag: forged", "x\n\nVault-Project: forged"):
        assert found.message.strip() == text.strip()
    assert vault.verify(data=True).ok


def test_tags_and_metadata_that_could_not_be_found_again(vault: Vault, tmp_path: Path) -> None:
    write(tmp_path / "acme", {"f": b""})
    for tags in ([""], ["x", " "]):
        with pytest.raises(GitVaultError, match="a tag cannot be empty"):
            vault.create_snapshot(tmp_path / "acme", tags=tags)
        with pytest.raises(GitVaultError, match="a tag cannot be empty"):
            vault.history.create_version("acme", {b"f": b""}, tags=tags)
    for key in ("", " ", "a=b"):
        with pytest.raises(GitVaultError, match=f"'{key.strip()}': not a key of metadata"):
            vault.create_snapshot(tmp_path / "acme", metadata={key: "value"})
    assert (vault.list_snapshots(), vault.projects()) == ([], [])
    taken = vault.create_snapshot(tmp_path / "acme", tags=[" a ", "a", "b c"], metadata={" k ": " v "}).snapshot
    found = vault.get_snapshot_info(taken)
    assert (found.tags, found.metadata) == (("a", "b c"), {"k": "v"})


# -- differences ---------------------------------------------------------------------------------


def test_what_changed_between_two_snapshots(vault: Vault, tmp_path: Path) -> None:
    project = tmp_path / "acme"
    write(
        project, {"same": b"1", "edit": b"2", "gone": b"3", "old name": b"4", "a/b/c": b"5", "kind": b"6", "empty": b""}
    )
    write(project, {"art/big.bin": b"\0" * 100_000, "link": "same", "x/folder": b"7", ".git/config": b"8"})
    one = vault.create_snapshot(project).snapshot
    write(project, {"edit": b"22", "new": b"9", "fresh": b"", "art/big.bin": b"\1\0" * 50_000})
    for name in ("gone", "link", "kind", "empty"):
        (project / name).unlink()
    os.rename(project / "old name", project / "new name")
    os.rename(project / "a", project / "z")
    write(project, {"link": "edit", "kind/inner": b"10", ".git/config": b"88"})
    two = vault.create_snapshot(project).snapshot
    assert vault.get_version_diff(one, two) == Difference(
        added=(b"fresh", b"kind/inner", b"new"),
        changed=(b".git/config", b"art/big.bin", b"edit", b"link"),
        deleted=(b"empty", b"gone", b"kind"),
        moved=(Move(b"old name", b"new name"), Move(b"a/b/c", b"z/b/c")),
    )
    back = vault.get_version_diff(two, one)
    assert (back.added, back.deleted) == ((b"empty", b"gone", b"kind"), (b"fresh", b"kind/inner", b"new"))
    assert vault.get_version_diff(one, one) == Difference((), (), (), ())


# -- projects ------------------------------------------------------------------------------------


def test_projects_are_found_again_however_they_are_spelled(vault: Vault, tmp_path: Path) -> None:
    write(tmp_path / "acme", {"f": b""})
    os.symlink(tmp_path / "acme", tmp_path / "alias")
    first = vault.create_snapshot(tmp_path / "acme")
    assert vault.create_snapshot(tmp_path / "alias").project == first.project
    assert vault.create_snapshot(tmp_path / "acme/../acme").unchanged
    assert [p.name for p in vault.projects()] == ["acme"]
    assert vault.project("acme").path == str(tmp_path / "acme")


def test_a_name_whose_folder_is_gone_moves_to_its_new_folder(vault: Vault, tmp_path: Path) -> None:
    write(tmp_path / "acme", {"f": b"1"})
    first = vault.create_snapshot(tmp_path / "acme").snapshot
    os.rename(tmp_path / "acme", tmp_path / "moved")
    second = vault.create_snapshot(tmp_path / "moved", project="acme")
    assert second.unchanged or vault.resolve("acme~1") == first
    assert vault.project("acme").path == str(tmp_path / "moved")
    write(tmp_path / "third", {"f": b""})
    with pytest.raises(ExistsError, match=r"acme: is .*moved already"):
        vault.add_project(tmp_path / "third", "acme")


def test_an_empty_name_is_refused(vault: Vault, tmp_path: Path) -> None:
    with pytest.raises(GitVaultError, match="name cannot be empty"):
        vault.add_project(write(tmp_path / "acme", {}), " ")


@pytest.mark.parametrize("damage", [b"not json\n", b"{}\n", b"[1]\n", b"\xff\n", b'{"added":"soon"}\n'])
def test_a_damaged_list_of_projects_is_named(damage: bytes, vault: Vault, daily: list[SnapshotId]) -> None:
    vault.history.write_file(catalog.REF, catalog.FILE, damage, "damage")
    with pytest.raises(CorruptionError, match=r"^refs/vault/catalog: a line cannot be read .*; run git-vault verify$"):
        vault.projects()
    assert vault.resolve("acme") == daily[3], "what was saved is found without the list"


# -- stats ---------------------------------------------------------------------------------------


def test_stats_count_each_content_once_and_each_snapshot_whole(vault: Vault, tmp_path: Path) -> None:
    project = tmp_path / "acme"
    texture = bytes(range(256)) * 4000
    write(project, {"a.c": b"int a;\n" * 100, "copy.c": b"int a;\n" * 100, "t.png": texture, "link": "a.c"})
    vault.create_snapshot(project)
    write(project, {"b.py": b"b" * 1000})
    vault.create_snapshot(project)
    stats = vault.get_storage_stats()
    first = 700 + 700 + len(texture) + 3
    assert (stats.projects, stats.snapshots, stats.logical_bytes) == (1, 2, first + first + 1000)
    assert stats.unique_bytes == 700 + len(texture) + 3 + 1000
    assert {k.kind: (k.files, k.bytes) for k in stats.kinds} == {
        "image": (1, len(texture)),
        "code": (2, 1700),
        "symlink": (1, 3),
    }
    on_disk = sum(p.stat().st_size for p in vault.path.rglob("*") if p.is_file() and "cache" not in p.parts)
    assert stats.stored_bytes == on_disk
    assert stats.ratio == stats.logical_bytes / on_disk > 10
    assert 0 < sum(k.stored for k in stats.kinds) < on_disk


def test_stats_of_an_empty_vault(vault: Vault) -> None:
    stats = vault.get_storage_stats()
    assert (stats.projects, stats.snapshots, stats.logical_bytes, stats.ratio) == (0, 0, 0, 0)
