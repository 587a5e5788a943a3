"""The parts of `protect` alone: git's index, records, repositories that are only read, places where objects are."""

from __future__ import annotations

import io
import os
import tarfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from repositories import cloned, commit, git

from gitvault.core.backup_engine.trees import Attachment, Stored
from gitvault.core.beside import Beside
from gitvault.core.models import MODES, PROTECTED, ObjectId
from gitvault.core.patterns import Patterns
from gitvault.core.utils.files import Disk
from gitvault.core.versioning import index, indexed
from gitvault.core.versioning.objects import object_id
from gitvault.errors import CorruptionError, NotFoundError
from gitvault.vault import Vault
from gitvault.vcs import remotes
from gitvault.vcs.protect import outside, rebuild, record, repository, rules, sources, view
from gitvault.vcs.protect.checkout import Checkout
from gitvault.vcs.protect.memory import Memory
from gitvault.vcs.remotes import Standing
from gitvault.vcs.servers import Served


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return cloned(tmp_path)


# -- the index ---------------------------------------------------------------------------------------


def staged_in(entries: list[index.IndexEntry]) -> list[str]:
    return [f"{entry.mode:06o} {entry.blob.hex()} {entry.stage}\t{os.fsdecode(entry.path)}" for entry in entries]


@pytest.mark.parametrize("version", ["2", "3", "4"])
def test_the_index_is_read_as_git_wrote_it_and_git_reads_ours(work: Path, version: str) -> None:
    for number in range(70):
        (work / f"{'d' * (number % 9)}/{number}").parent.mkdir(exist_ok=True)
        (work / f"{'d' * (number % 9)}/{number}").write_text(str(number))
    (work / ("n" * 200 + "é")).write_text("long")
    git(work, "add", ".")
    git(work, "update-index", "--index-version", version)
    (work / "later").write_text("x")
    git(work, "add", "-N", "later")
    data = (work / ".git" / "index").read_bytes()
    entries = index.parse(data)
    listed = git(work, "-c", "core.quotePath=false", "ls-files", "--stage").splitlines()
    assert staged_in(entries) == listed
    ours = index.encode(entries)
    assert index.decode_plain(ours) == entries
    (work / ".git" / "index").write_bytes(ours)
    assert git(work, "-c", "core.quotePath=false", "ls-files", "--stage").splitlines() == listed
    assert git(work, "status", "--porcelain", "later") == "A later" or git(work, "status", "--porcelain", "later")


def test_a_file_with_a_stat_is_not_read_again(work: Path) -> None:
    entries = index.parse((work / ".git" / "index").read_bytes())
    plain, whole = index.encode(entries), index.encode(entries, {b"a.txt": tuple(range(10))})
    assert index.parse(plain)[0]._replace(size=0) == index.parse(whole)[0]._replace(size=0)
    assert index.parse(whole)[0].size == 9
    assert not entries[0]._replace(mode=index.MODE_GITLINK).is_expected


def test_a_damaged_index_is_named(work: Path) -> None:
    data = (work / ".git" / "index").read_bytes()
    for cut in range(0, len(data), 7):
        with pytest.raises(index.UnreadableIndex):
            index.parse(data[:cut])
    with pytest.raises(CorruptionError):
        index.decode_plain(data[:-1] + b"x")
    with pytest.raises(index.UnreadableIndex, match="of a kind that is not known here"):
        index.parse(b"DIRC" + (9).to_bytes(4, "big") + bytes(40))


def test_what_is_cached_of_an_index_is_what_it_says(work: Path, tmp_path: Path) -> None:
    for number in range(2100):
        (work / f"d{number % 50}").mkdir(exist_ok=True)
        (work / f"d{number % 50}" / str(number)).write_text("")
    git(work, "add", ".")
    file = str(work / ".git" / "index")
    fresh = indexed.Indexes(tmp_path / "cache", Disk()).read(file)
    (kept,) = (tmp_path / "cache").iterdir()

    def said(one: indexed.Indexed) -> object:
        digests = [one.digest(path) for path in (b"", b"d1", b"none")]
        listed = [
            (sorted(one.expected(path)), sorted(one.below(path)), one.knows(path)) for path in (b"", b"d1", b"no")
        ]
        return one.checksum, list(one.pieces), list(one.links), list(one.whole), one.names, len(one), digests, listed

    again = indexed.Indexes(tmp_path / "cache", Disk()).read(file)
    assert "entries" not in vars(again)
    assert said(again) == said(fresh)
    assert len(again.pieces) == 1 and len(again.plain) < indexed.PIECE
    whole = kept.read_bytes()
    for damaged in (whole[:100], whole[:50] + b"x" + whole[51:], b""):
        kept.write_bytes(damaged)
        assert "entries" in vars(indexed.Indexes(tmp_path / "cache", Disk()).read(file))


def test_an_index_is_read_once_while_it_is_as_it_was(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    indexes = indexed.Indexes()
    file = str(work / ".git" / "index")
    time.sleep(0.15)
    first = indexes.read(file)
    assert indexes.read(file) is first and set(first.files(b"")) == {b"a.txt"}
    (work / "b").write_text("b")
    git(work, "add", "b")
    second = indexes.read(file)
    assert set(second.files(b"")) == {b"a.txt", b"b"}
    assert (first.names, first.digest(b""), first.checksum) != (second.names, second.digest(b""), second.checksum)
    none = indexes.read(str(work / "none"))
    assert (none.entries, none.knows(b""), none.digest(b"x"), list(none.below(b""))) == ([], True, b"", [])
    monkeypatch.setattr(indexed, "LONGEST", 100)
    with pytest.raises(index.UnreadableIndex, match="larger than 100 bytes"):
        indexed.Indexes().read(file)


# -- records -----------------------------------------------------------------------------------------

RECORD = record.Record(
    b"sub\xff",
    b"sub\xff/.git",
    None,
    "/home/x/.git",
    branch="refs/heads/main",
    base="1" * 40,
    remotes={"origin": "https://example.invalid"},
    relied={"refs/remotes/origin/main": "1" * 40},
    deleted=(b"a\nb",),
    state="s",
    parts=(record.Part(("2" * 40,), ("1" * 40,), 3),),
)


def test_a_record_comes_back_as_it_was() -> None:
    assert record.decode(record.encode(RECORD)) == RECORD


@pytest.mark.parametrize(
    ("what", "instead"),
    [
        (b'"version":%d' % record.VERSION, b'"version":2'),
        (b'"vcs":"git"', b'"vcs":"cvs"'),
        (b'"path":"sub', b'"path":"../sub'),
        (b'"deleted":["a', b'"deleted":["../a'),
        (b"2" * 40, b"--upload-pack=x" + b"2" * 25),
        (b'"files":3', b'"files":"x"'),
        (b'"remotes":{', b'"remotes":[{'),
        (b"{", b"["),
    ],
)
def test_a_record_that_is_none_is_damage(what: bytes, instead: bytes) -> None:
    assert what in record.encode(RECORD)
    with pytest.raises(CorruptionError):
        record.decode(record.encode(RECORD).replace(what, instead))


def test_large_files_are_attached_in_pieces() -> None:
    content = os.urandom(record.PIECE + 10)
    cut: list[Attachment] = list(record.pieces(record.REPOSITORY, content))
    assert [(name, len(piece)) for name, piece in cut] == [
        (b"repository.tar.000", record.PIECE),
        (b"repository.tar.001", 10),
    ]
    assert list(record.pieces(record.INDEX, b"")) == []


# -- a repository, read ------------------------------------------------------------------------------


def test_repositories_are_found_where_git_finds_them(work: Path, tmp_path: Path) -> None:
    git(work, "worktree", "add", "-q", str(tmp_path / "linked"))
    main, linked = repository.find(str(work)), repository.find(str(tmp_path / "linked"))
    assert main and linked and repository.is_git_dir(main.git_dir)
    assert linked.common_dir == main.git_dir
    assert sorted(main.git_dirs()) == sorted([main.git_dir, linked.git_dir])
    (tmp_path / "fake" / ".git").mkdir(parents=True)
    (tmp_path / "file").mkdir()
    (tmp_path / "file" / ".git").write_text("no repository")
    assert repository.find(str(tmp_path / "fake")) is repository.find(str(tmp_path / "file")) is None


def test_what_a_repository_says(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = git(work, "rev-parse", "HEAD"), commit(work, "b.txt", "b\n")
    found = repository.find(str(work))
    assert found
    assert repository.existing(found, [first, "0" * 39 + "1"]) == {first}
    assert repository.is_within_history(found, [first], [second])
    assert not repository.is_within_history(found, [second], [first])
    assert not repository.is_within_history(found, ["0" * 39 + "1"], [first])
    git(work, "remote", "add", "near", "../near.git")
    git(work, "remote", "add", "far", "host:far.git")
    urls = {"origin": str(work) + ".git", "near": str(work.parent / "near.git"), "far": "host:far.git"}
    assert repository.read_remotes(found, str(work)) == urls
    packed = repository.pack(found, [second], [first])
    assert repository.pack(found, [first], [second]) == b""
    bundle = repository.bundle(packed, [second], [first])
    assert repository.packed_in(bundle) == packed
    (work.parent / "x.bundle").write_bytes(bundle)
    git(work, "bundle", "verify", "../x.bundle")
    monkeypatch.setattr(repository, "_LOCAL_MAX", 10)
    with pytest.raises(repository.NotProtected):
        repository.pack(found, [second], [first])
    monkeypatch.setattr(repository, "_FILE_MAX", 10)
    with pytest.raises(repository.NotProtected):
        repository.read(os.path.join(found.git_dir, "config"), 10)


def test_a_file_of_a_repository_that_cannot_be_read_is_a_reason(work: Path) -> None:
    with pytest.raises(repository.NotProtected):
        repository.read(str(work))
    with pytest.raises(repository.NotProtected):
        repository.read(str(work / ("x" * 300)))


def test_a_repository_outside_is_archived_the_same_each_time(work: Path) -> None:
    found = repository.find(str(work))
    assert found
    notes: list[str] = []
    archive = outside.archived(found, notes, with_index=True)
    assert archive == outside.archived(found, notes, with_index=True) and notes == []
    files = {name: content for name, _, content in outside.unpacked(archive)}
    assert files[b"HEAD"] == b"ref: refs/heads/main\n"
    assert b"index" in files and not any(name.startswith(b"objects/") for name in files)


# -- where objects come from -------------------------------------------------------------------------


def test_objects_come_from_where_they_are(work: Path, vault: Vault, tmp_path: Path) -> None:
    blob = ObjectId(bytes.fromhex(git(work, "rev-parse", "HEAD:a.txt")))
    commit(work, "local.txt", "only here\n")
    local = ObjectId(bytes.fromhex(git(work, "rev-parse", "HEAD:local.txt")))
    vault.create_snapshot(work)
    seen = view.View(vault.history, vault.resolve("work"))
    (attached,) = seen.attached
    assert seen.based.keys() == {b"a.txt", b"local.txt"}
    assert isinstance(seen.find(b"./a.txt"), view.Based)
    assert [entry.path for entry in view.index_of(vault.history, attached)] == [b"a.txt", b"local.txt"]
    assert attached.files[record.RECORD] and isinstance(attached.stored(record.part_name(0))[0][1], Stored)
    assert attached.joined(vault.history, b"nothing") == b""
    with sources.Sources(vault.history, attached) as found:
        assert found.read(blob) == b"one\n"
        with pytest.raises(NotFoundError):
            found.read(object_id(b"blob", b"nowhere"))
    work.rename(tmp_path / "away")
    with sources.Sources(vault.history, attached, fetch=False) as found:
        assert dict(found.read_many([blob, local])) == {local: b"only here\n"}
    with sources.Sources(vault.history, attached) as found:
        assert dict(found.read_many([blob, local])) == {blob: b"one\n", local: b"only here\n"}
        own = found.scratch()
        assert sources.add_local(vault.history, attached, own) == []
        assert list(sources.fetched(attached, own, [])) == [str(work) + ".git"]
    assert not Path(own.git_dir).exists()
    assert list(view.missing_bases(vault.history, ["work"])) == []


def test_a_damaged_object_is_not_taken_for_a_file(work: Path, vault: Vault, tmp_path: Path) -> None:
    oid = git(work, "rev-parse", "HEAD:a.txt")
    vault.create_snapshot(work)
    wrong = git(work, "hash-object", "-w", "--stdin", "--no-filters")
    loose = work / ".git" / "objects"
    (loose / oid[:2] / oid[2:]).chmod(0o644)
    (loose / oid[:2] / oid[2:]).write_bytes((loose / wrong[:2] / wrong[2:]).read_bytes())
    found = repository.find(str(work))
    assert found and list(sources.read_blobs(found, [ObjectId(bytes.fromhex(oid))])) == []
    out = io.BytesIO()
    vault.read_file("work", b"a.txt", out)
    assert out.getvalue() == b"one\n"


def test_borrowed_objects_are_copied_too(work: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--shared", "--bare", str(work), "borrows.git")
    git(tmp_path, "init", "-q", "--bare", "target.git")
    sources.copy_objects(str(tmp_path / "borrows.git" / "objects"), str(tmp_path / "target.git" / "objects"))
    tip = git(work, "rev-parse", "HEAD")
    assert git(tmp_path / "target.git", "cat-file", "-t", tip) == "commit"
    assert not (tmp_path / "target.git" / "objects" / "info" / "alternates").exists()


# -- rules -------------------------------------------------------------------------------------------


def test_rules_by_mode(work: Path, vault: Vault) -> None:
    nobody = Standing(())
    found = [
        rules.of_mode(
            *(mode, str(work), Patterns()),
            history=vault.history,
            tip=None,
            standing=lambda *_: nobody,
            served=lambda _: Served("", Beside()),
            indexes=indexed.Indexes(),
            now=0,
        )
        for mode in MODES
    ]
    assert [type(one) for one in found] == [rules.Protecting, Patterns, rules.WithoutRepositories]
    assert nobody.doubt() == "it has no remote"
    assert nobody.holds({"refs/heads/main": "1" * 40}) == {}


def test_a_file_is_protected_by_its_bytes(work: Path, tmp_path: Path) -> None:
    where = repository.find(str(work))
    assert where
    checkout = Checkout(
        str(work),
        b"",
        where,
        previous=None,
        indexes=indexed.Indexes(),
        memory=Memory(tmp_path / "cache", Disk(), 0),
        standing=lambda git_dir, refs: remotes.standing_of(
            Path(git_dir), datetime.now(UTC), timedelta(days=7), tmp_path / "cache", refs
        ),
    )
    reason, _ = checkout.protects(b"", b"a.txt")
    assert reason.startswith(f"{PROTECTED}git: at ") and reason.endswith(" on main and origin/main")
    stat = os.stat(work / "a.txt")
    (work / "a.txt").write_text("two\n")
    os.utime(work / "a.txt", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert checkout.protects(b"", b"a.txt") == ("", False)
    assert checkout.protects(b"", b"unknown") == ("", False)
    assert not checkout.was_met
    checkout.visited(b"no folder of the index")
    assert not checkout.was_met
    checkout.visited(b"")
    assert checkout.was_met


def test_a_hostile_archive_writes_nothing_outside(work: Path, vault: Vault, tmp_path: Path) -> None:
    """A snapshot is written by hand, whose repository climbs out of the folder."""
    git(work, "worktree", "add", "-q", str(tmp_path / "linked"))
    vault.create_snapshot(tmp_path / "linked")
    seen = view.View(vault.history, vault.resolve("linked"))
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        item = tarfile.TarInfo("../../escaped")
        item.size = 4
        tar.addfile(item, io.BytesIO(b"evil"))
    assert [one.record.git_dir for one in seen.attached] == [None]
    real = record.Attached.joined
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            record.Attached,
            "joined",
            lambda self, history, name: out.getvalue() if name == record.REPOSITORY else real(self, history, name),
        )
        report = vault.restore_snapshot("linked", tmp_path / "deep" / "target")
    assert [problem.path for problem in report.problems] == [b""]
    assert "its repository is not restored" in report.problems[0].reason
    assert not (tmp_path / "escaped").exists() and not (tmp_path / "deep" / "escaped").exists()
    assert rebuild.Rebuilt().problems == []
