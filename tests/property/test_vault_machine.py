"""A vault against a dict of dicts: whatever is done, every snapshot comes back as it was."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from trees import Record, records

from gitvault.core.models import SnapshotId
from gitvault.vault import Vault

NAMES = st.sampled_from([b"a", b"b", b"c.txt", b".git", b"%2Egit", b"caf\xe9", b"x\ny", b".gitattributes", b"\\x41"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(b"/".join)
CONTENTS = st.one_of(
    st.binary(max_size=20),
    st.sampled_from([b"", b"same", b"text\n" * 1000]),
    st.integers(0, 3).map(lambda n: bytes([0, n]) * 40_000),
)


class VaultMachine(RuleBasedStateMachine):
    """The folder on disk is the model of itself: what it was at each snapshot is kept beside the vault."""

    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp(prefix="gitvault-machine-"))
        self.project = self.base / "project"
        self.project.mkdir()
        self.taken: dict[SnapshotId, dict[bytes, Record]] = {}
        self.number = 0
        path = self.base / "vault.git"
        Vault.create(path).close()
        with (path / "config").open("a") as config:
            config.write("\tmaintenance = off\n")
        self.vault = Vault.open(path)

    def teardown(self) -> None:
        self.vault.close()
        shutil.rmtree(self.base)

    def at(self, path: bytes) -> bytes:
        return os.fsencode(self.project) + b"/" + path

    def clear(self, path: bytes) -> None:
        """Make room for something at `path`: nothing there, and folders above it."""
        at = self.at(path)
        for depth in range(1, path.count(b"/") + 1):
            above = self.at(b"/".join(path.split(b"/")[:depth]))
            if os.path.lexists(above) and (os.path.islink(above) or not os.path.isdir(above)):
                os.unlink(above)
        if os.path.isdir(at) and not os.path.islink(at):
            shutil.rmtree(at)
        elif os.path.lexists(at):
            os.unlink(at)
        os.makedirs(os.path.dirname(at), exist_ok=True)

    def present(self) -> list[bytes]:
        return sorted(path for path in records(self.project) if path)

    @rule(path=PATHS, content=CONTENTS)
    def write(self, path: bytes, content: bytes) -> None:
        self.clear(path)
        with open(self.at(path), "wb") as file:
            file.write(content)

    @rule(path=PATHS, to=st.sampled_from(["a", "../outside", "."]))
    def symlink(self, path: bytes, to: str) -> None:
        self.clear(path)
        os.symlink(os.fsencode(to), self.at(path))

    @rule(path=PATHS)
    def folder(self, path: bytes) -> None:
        self.clear(path)
        os.mkdir(self.at(path))

    @precondition(lambda self: self.present())
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        self.clear(data.draw(st.sampled_from(self.present())))

    @precondition(lambda self: self.present())
    @rule(data=st.data(), goal=PATHS)
    def rename(self, data: st.DataObject, goal: bytes) -> None:
        source = data.draw(st.sampled_from(self.present()))
        if (goal + b"/").startswith(source + b"/") or (source + b"/").startswith(goal + b"/"):
            return
        self.clear(goal)
        if os.path.lexists(self.at(source)):
            os.rename(self.at(source), self.at(goal))

    @precondition(lambda self: self.present())
    @rule(data=st.data(), mode=st.sampled_from([0o400, 0o644, 0o755, 0o700]), moment=st.integers(0, 2**61))
    def attributes(self, data: st.DataObject, mode: int, moment: int) -> None:
        at = self.at(data.draw(st.sampled_from(self.present())))
        if not os.path.islink(at):
            os.chmod(at, mode | (0o700 if os.path.isdir(at) else 0))
        os.utime(at, ns=(moment, moment), follow_symlinks=False)

    @precondition(lambda self: self.present())
    @rule(data=st.data(), goal=PATHS)
    def hard_link(self, data: st.DataObject, goal: bytes) -> None:
        files = [p for p, r in records(self.project).items() if r.kind == "file" and not p.startswith(goal)]
        if files:
            source = data.draw(st.sampled_from(sorted(files)))
            self.clear(goal)
            if os.path.isfile(self.at(source)):
                os.link(self.at(source), self.at(goal))

    @rule()
    def snapshot(self) -> None:
        before = records(self.project)
        report = self.vault.create_snapshot(self.project)
        assert report.problems == ()
        assert records(self.project) == before
        assert report.unchanged == (report.snapshot in self.taken)
        assert self.taken.get(report.snapshot, before) == before
        self.taken[report.snapshot] = before
        assert report.files == sum(r.kind != "folder" for r in before.values())

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        taken = data.draw(st.sampled_from(list(self.taken)))
        self.number += 1
        target = self.base / f"back{self.number}"
        assert self.vault.restore_snapshot(taken, target).problems == ()
        assert records(target) == self.taken[taken]
        shutil.rmtree(target)

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def restore_in_place_of_everything(self, data: st.DataObject) -> None:
        taken = data.draw(st.sampled_from(list(self.taken)))
        shutil.rmtree(self.project)
        assert self.vault.restore_snapshot(taken, self.project).problems == ()
        assert records(self.project) == self.taken[taken]

    @precondition(lambda self: len(self.taken) > 1)
    @rule(data=st.data())
    def compare(self, data: st.DataObject) -> None:
        a, b = (data.draw(st.sampled_from(list(self.taken))) for _ in range(2))
        old, new = ({p: r for p, r in self.taken[x].items() if r.kind != "folder"} for x in (a, b))
        found = self.vault.get_version_diff(a, b)
        gone = {*found.deleted, *(move.source for move in found.moved)}
        come = {*found.added, *(move.target for move in found.moved)}
        assert (gone, come) == (old.keys() - new.keys(), new.keys() - old.keys())
        same = {p for p in old.keys() & new.keys() if (old[p].kind, old[p].content) == (new[p].kind, new[p].content)}
        executable = {p for p in same if (old[p].mode ^ new[p].mode) & 0o100 and old[p].kind == "file"}
        assert set(found.changed) == (old.keys() & new.keys()) - same | executable
        assert all(old[move.source].content == new[move.target].content for move in found.moved)

    @rule()
    def delete_the_caches(self) -> None:
        self.vault.close()
        shutil.rmtree(self.vault.path / "cache", ignore_errors=True)

    @rule()
    def maintain(self) -> None:
        self.vault.maintain()

    @rule()
    def another_process_opens_it(self) -> None:
        self.vault.close()
        self.vault = Vault.open(self.vault.path)

    @precondition(lambda self: self.taken)
    @rule()
    def verify(self) -> None:
        assert self.vault.verify(data=True).defects == ()

    @invariant()
    def every_snapshot_is_listed(self) -> None:
        assert {s.id for s in self.vault.list_snapshots()} == self.taken.keys()


TestVault = VaultMachine.TestCase
TestVault.settings = settings(
    max_examples=25,
    stateful_step_count=25,
    suppress_health_check=list(HealthCheck),
    deadline=None,
)
