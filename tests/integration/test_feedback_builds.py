"""Which build somebody played: by its id, version, milestone or commit, else by what was out at that time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gitvault import GameVault, GameVersionType
from gitvault.errors import CorruptionError, GitVaultError, NotFoundError
from gitvault.personas.game import builds, milestones
from gitvault.personas.game.builds import BuildId, Builds, Resolved
from gitvault.vault import Vault

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def lantern(tmp_path: Path, vault: Vault) -> GameVault:
    (tmp_path / "lantern").mkdir()
    return GameVault("lantern", tmp_path / "lantern", vault=vault.path)


def saved(lantern: GameVault, text: str, **said: str) -> str:
    (lantern.path / "level.txt").write_text(text)
    return str(lantern.backup(text, metadata=said).snapshot)


def told(known: Builds, *words: str, **how: object) -> tuple[str, float]:
    found: Resolved = known.resolve(*words, **how)  # type: ignore[arg-type]
    return found.snapshot, found.confidence


def test_a_build_says_itself_what_it_is(lantern: GameVault) -> None:
    first = saved(lantern, "one", version="1.0", build="4711")
    second = saved(lantern, "two", version="1.1")
    third = saved(lantern, "three", version="1.1")
    lantern.create_backup(name="alpha-1", version_type=GameVersionType.ALPHA, is_milestone=True)
    known = Builds(lantern.vault, "lantern")
    assert told(known, "4711") == told(known, "1.0") == (first, 1.0)
    assert told(known, "v1.0") == (first, 0.9)
    assert told(known, "1.1") == (third, builds.SEVERAL)
    assert told(known, "alpha-1")[1] == 1.0
    assert told(known, second) == told(known, second[:9]) == (second, 1.0)
    assert told(known, f"1.1+{second[:12]}") == told(known, f"alpha-1-3-g{second[:8].upper()}") == (second, 1.0)
    assert told(known, f"{second[:12]}.changed") == (second, builds.CHANGED_SINCE)
    assert told(known, "9.9") == told(known, "deadbeef99") == told(known, "") == told(known, "1" * 2000) == ("", 0.0)


def test_without_a_name_it_is_what_was_out_then(lantern: GameVault) -> None:
    first, second = saved(lantern, "one"), saved(lantern, "two")
    vault, day = lantern.vault, timedelta(days=1)

    def deploy(branch: str, build: str, at: datetime, snapshot: str) -> builds.Deploy:
        return builds.deploy(vault, "lantern", target="steam", branch=branch, build=build, at=at, snapshot=snapshot)

    made = deploy("default", "100", NOW, first)
    deploy("default", "101", NOW + 10 * day, second)
    deploy("beta", "101", NOW + 5 * day, second)
    known = Builds(vault, "lantern")
    assert [one.build for one in known.deploys] == ["100", "101", "101"]
    assert told(known, "100") == (made.snapshot, 1.0) == (first, 1.0)
    assert told(known, at=NOW - day) == ("", 0.0)
    assert told(known, at=NOW + day) == (first, builds.ON_A_BRANCH)
    assert told(known, at=NOW + day, branch="default", target="steam") == (first, builds.ON_ITS_BRANCH)
    assert told(known, at=NOW + 7 * day, branch="beta") == (second, builds.ON_ITS_BRANCH)
    # Not everybody has what came out an hour ago.
    assert told(known, at=NOW + 10 * day + day / 24, branch="default") == (second, 0.4)
    assert told(known, at=NOW + 7 * day, branch="nightly") == ("", 0.0)
    # What another shop had is better than nothing.
    assert told(known, at=NOW + day, target="itch") == (first, builds.ON_A_BRANCH)
    assert deploy("default", "100", NOW, first) == made
    assert len(list(builds.deploys(vault, "lantern"))) == 3


def test_a_release_is_out_for_everybody(lantern: GameVault) -> None:
    saved(lantern, "one")
    made = lantern.create_backup(name="1.0", is_milestone=True).milestone
    assert made
    milestones.annotate(lantern.vault, made, {"released": "steam"})
    known = Builds(lantern.vault, "lantern")
    assert told(known, at=NOW + timedelta(days=9000)) == (made.tag.snapshot, builds.RELEASED)
    assert told(known, at=NOW - timedelta(days=9000)) == ("", 0.0)


def test_a_deploy_is_of_a_snapshot(lantern: GameVault) -> None:
    vault = lantern.vault
    lantern.project  # noqa: B018
    assert builds.deploy(vault, "lantern", target="steam", build="1", at=NOW).snapshot == ""
    first = saved(lantern, "one", version="1.0")
    saved(lantern, "two")
    later = NOW + timedelta(days=9000)
    assert builds.deploy(vault, "lantern", target="steam", build="1.0", at=later).snapshot == first
    newest = builds.deploy(vault, "lantern", target="steam", build="2", at=later)
    assert (newest.snapshot != first, newest.confidence) == (True, builds.OF_THAT_TIME)
    assert told(Builds(vault, "lantern"), "2") == (newest.snapshot, builds.OF_THAT_TIME)
    (lantern.path.parent / "other").mkdir()
    other = GameVault("other", lantern.path.parent / "other", vault=vault.path)
    (other.path / "x").write_text("x")
    other.backup()
    with pytest.raises(GitVaultError, match="other: is a snapshot of other; expected one of lantern"):
        builds.deploy(vault, "lantern", target="steam", build="3", at=NOW, snapshot="other")
    with pytest.raises(NotFoundError):
        builds.deploy(vault, "lantern", target="steam", build="3", at=NOW, snapshot="nonsense")
    vault.area("builds/lantern").add({b"deploys/bad.json": b"{}"}, "bad")
    with pytest.raises(CorruptionError, match=r"deploys/bad.json: no record of a deploy"):
        Builds(vault, "lantern")


def test_the_id_that_a_game_embeds(lantern: GameVault) -> None:
    lantern.project  # noqa: B018
    with pytest.raises(NotFoundError, match="has no snapshot yet"):
        builds.build_id(lantern.vault, "lantern")
    snapshot = saved(lantern, "one")
    assert builds.build_id(lantern.vault, "lantern") == BuildId(snapshot[:12], snapshot, True)
    (lantern.path / "level.txt").write_text("changed")
    made = builds.build_id(lantern.vault, "lantern")
    assert not made.saved
    assert told(Builds(lantern.vault, "lantern"), made.text) == (snapshot, builds.CHANGED_SINCE)
