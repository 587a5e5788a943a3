"""How often a push and a restore wait for a server: what needs no other answer is asked at the same time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from away import Counted, fill, made, opened, quiet, remote_of, told_of
from trees import differences

import gitvault
from gitvault.errors import RemoteUnreachable
from gitvault.remotes import fetch, partial, settings
from gitvault.remotes.index import FOLDER
from gitvault.remotes.push import PushReport, push
from gitvault.remotes.records import FOLDER as RECORDS
from gitvault.remotes.remote import GIT, MARKER, Remote
from gitvault.remotes.sealed import Sealed, keys, new_key
from gitvault.vault import Vault

LONG = 60
PACKAGE = {"PYTHONPATH": str(Path(gitvault.__file__).parent.parent)}


class Together(Counted):
    """Answers some questions only when two of them are asked at once; afterwards any."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.met = threading.Barrier(1)
        self.order: list[str] = []
        self.expected: tuple[str, ...] = ()

    def expect(self, *expected: str) -> None:
        """Two questions that begin so come at once."""
        self.expected, self.met = expected, threading.Barrier(2)

    def meet(self, question: str) -> None:
        if self.met.parties > 1 and question.startswith(self.expected):
            met = self.met
            met.wait(LONG)
            self.met = threading.Barrier(1)

    def put(self, name: str, content: bytes) -> None:
        self.meet(f"put {name}")
        super().put(name, content)
        self.order.append(name)

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        self.meet(f"get {name}")
        return super().get(name, start, length)

    def names(self, prefix=""):  # type: ignore[no-untyped-def]
        self.meet(f"list {prefix}")
        return super().names(prefix)


def hasty(vault: Vault | None, place: Together) -> Remote:
    cache = vault.path / "cache" / "remotes" / "off.index" if vault else None
    return Remote(place, "the place", cache=cache, hasty=True)


@pytest.fixture
def place(tmp_path: Path) -> Together:
    return Together(tmp_path / "place")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Vault]:
    """A vault with a snapshot of `work`, and settings of a remote."""
    fill(tmp_path / "work", 1)
    with made(tmp_path / "vault.git", "desk") as vault:
        vault.create_snapshot(tmp_path / "work")
        settings.add(vault.path, "off", {"url": "/nowhere"})
        yield vault


def pushed(vault: Vault, remote: Remote) -> PushReport:
    return push(vault, remote, settings.get(vault.path, "off"), progress=quiet)


def test_whose_vault_it_is_and_what_was_pushed_are_asked_at_once(tmp_path: Path, place: Together, desk: Vault) -> None:
    (tmp_path / "place").mkdir()
    pushed(desk, hasty(desk, place))
    (tmp_path / "work/new").write_text("new")
    wanted = desk.create_snapshot(tmp_path / "work").snapshot
    place.expect(f"get {MARKER}", f"list {RECORDS}")
    assert pushed(desk, hasty(desk, place)).snapshots == 1
    assert place.met.parties == 1, "they met"
    place.expect(f"get {MARKER}", f"list {RECORDS}")
    assert partial.restore(hasty(None, place), told_of(), wanted, str(tmp_path / "out"), progress=quiet).problems == ()
    assert place.met.parties == 1, "they met"
    assert differences(tmp_path / "work", tmp_path / "out") == {}


def test_what_a_restore_looks_up_is_asked_at_once(tmp_path: Path, place: Together, desk: Vault) -> None:
    def met(asked: str, name: str) -> bool:
        place.expect(f"get {asked}")
        report = partial.restore(hasty(None, place), told_of(), "work", str(tmp_path / name), progress=quiet)
        assert report.problems == ()
        assert differences(tmp_path / "work", tmp_path / name) == {}
        return place.met.parties == 1

    (tmp_path / "place").mkdir()
    pushed(desk, hasty(desk, place))
    assert met(FOLDER, "one"), "a piece of the index and its list of packs"
    fetch.clone(remote_of(None, place), "/nowhere", tmp_path / "laptop.git", {}, progress=quiet)[0].close()
    with opened(tmp_path / "laptop.git", "laptop", 9) as laptop:
        fill(tmp_path / "other", 2)
        laptop.create_snapshot(tmp_path / "other")
        push(laptop, remote_of(laptop, place, "origin"), settings.get(laptop.path, "origin"), progress=quiet)
    (tmp_path / "work/new").write_text("new")
    desk.create_snapshot(tmp_path / "work")
    pushed(desk, hasty(desk, place))
    assert met(RECORDS, "two"), "each machine's newest record"
    assert met(GIT, "three"), "the commits that records differ about"


def test_the_index_goes_on_its_way_at_once_and_the_record_after_it(place: Together, desk: Vault) -> None:
    # Its list of packs, and one piece of rows.
    place.expect(f"put {FOLDER}")
    pushed(desk, remote_of(desk, place))
    assert place.met.parties == 1, "they met"
    kinds = [name.partition("/")[0] for name in place.order]
    assert kinds[0] == MARKER
    assert kinds[-3:] == ["index", "index", "machines"]
    assert not {"index", "machines"} & set(kinds[:-3]), "packs come first"


def test_an_index_that_did_not_arrive_gets_no_record(tmp_path: Path, place: Together, desk: Vault) -> None:
    class Full(Together):
        def put(self, name: str, content: bytes) -> None:
            if name.startswith(FOLDER):
                raise RemoteUnreachable("no answer")
            super().put(name, content)

    with pytest.raises(RemoteUnreachable, match="no answer"):
        pushed(desk, remote_of(desk, Full(tmp_path / "place")))
    assert list(place.names(RECORDS)) == []
    assert pushed(desk, remote_of(desk, place)).snapshots == 1
    [wanted] = [one.id for one in desk.list_snapshots()]
    assert (
        partial.restore(remote_of(None, place), told_of(), wanted, str(tmp_path / "out"), progress=quiet).problems == ()
    )


def test_whether_the_key_is_there_is_asked_meanwhile_too(tmp_path: Path, place: Together) -> None:
    import pyrage

    identity = pyrage.x25519.Identity.generate()
    (tmp_path / "key").write_text(f"{identity}\n")
    sealed = Sealed(place, [str(identity.to_public())], new_key(), tmp_path / "key")
    sealed.look()
    sealed.put("vault", b"content")
    before = place.requests["get"]
    again = Sealed(place, [str(identity.to_public())], new_key(), tmp_path / "key")
    again.look()
    asked = place.requests["get"] - before
    assert asked == 1
    assert len(keys.identities(tmp_path / "key")) == 1
    assert sealed.get("vault") == b"content"


UPKEEP = ("models.reports", "storage.census", "storage.repack", "storage.salvage", "storage.sweep")
NOT_NEEDED = (*(f"gitvault.core.{name}" for name in UPKEEP), "gitvault.vcs.carried", "gitvault.vcs.remotes")


def test_a_snapshot_and_a_push_import_nothing_of_upkeep_and_checkouts(tmp_path: Path) -> None:
    """Each is waited for every day, and making the records of what it does not do was a tenth of it."""
    fill(tmp_path / "work", 1)
    with made(tmp_path / "vault.git", "desk") as vault:
        settings.add(vault.path, "off", {"url": str(tmp_path / "away")})
    program = (
        "import sys; from gitvault.cli.main import main; code = main(sys.argv[1:]); "
        f"found = [name for name in {NOT_NEEDED!r} if name in sys.modules]; sys.exit(str(found) if found else code)"
    )
    for words in (("snapshot", tmp_path / "work"), ("push", "off")):
        told = [sys.executable, "-c", program, "--vault", tmp_path / "vault.git", *words]
        done = subprocess.run(told, env={**os.environ, **PACKAGE}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
