"""Milestones: real tags with types, kept by prune, annotated, compared, restored by name."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from projects import GODOT, written

from gitvault import GameVault, GameVersionType
from gitvault.cli.restore import report_document, report_lines
from gitvault.core.backup_engine.retention import Retention
from gitvault.core.versioning import commits, notes, tags
from gitvault.core.versioning.objects import Signature, decode_tag, encode_tag
from gitvault.errors import AmbiguousError, CorruptionError, ExistsError, GitVaultError, LockedError, NotFoundError
from gitvault.personas.game import Backup, milestones, platforms
from gitvault.personas.game.contexts import Context, Heard, context, heard, resolved, restore, settings_drift
from gitvault.personas.game.insight import Resolved
from gitvault.personas.game.milestones import Changelog, Milestone
from gitvault.vault import Vault

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def game(tmp_path: Path) -> Path:
    folder = tmp_path / "lantern"
    (folder / "art").mkdir(parents=True)
    (folder / "main.gd").write_text("extends Node\n")
    (folder / "art/hero.png").write_bytes(b"\x89PNG" + bytes(range(256)) * 400)
    return folder


@pytest.fixture
def lantern(game: Path, vault: Vault) -> GameVault:
    return GameVault("lantern", game, vault=vault.path)


def git(vault: Vault, *words: str) -> str:
    return subprocess.run(
        ["git", f"--git-dir={vault.path}", *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_git_lists_and_describes_by_them(lantern: GameVault, vault: Vault, game: Path) -> None:
    made = lantern.create_backup(
        name="alpha-1", version_type=GameVersionType.ALPHA, is_milestone=True, tags=["demo"], metadata={"engine": "4.3"}
    )
    assert made == Backup(made.report, made.milestone)
    assert made.milestone
    assert git(vault, "tag", "-n") == "lantern/alpha-1 alpha-1"
    assert git(vault, "describe", "lantern") == "lantern/alpha-1"
    assert git(vault, "rev-parse", "lantern/alpha-1^{commit}") == made.report.snapshot
    git(vault, "fsck", "--full", "--strict")
    (game / "main.gd").write_text("extends Node2D\n")
    assert lantern.create_backup(name="build 2").milestone is None
    assert git(vault, "describe", "lantern").startswith("lantern/alpha-1-1-g")
    [found] = lantern.milestones()
    assert found == made.milestone
    assert (found.tag.type, found.tag.tags, found.tag.metadata) == ("alpha", ("demo",), {"engine": "4.3"})
    assert vault.get_snapshot_info(made.report.snapshot).metadata["version"] == "alpha-1"


def test_a_rollback_restores_the_precise_build(lantern: GameVault, vault: Vault, game: Path, tmp_path: Path) -> None:
    before = (game / "art/hero.png").read_bytes()
    lantern.create_backup(name="beta", version_type=GameVersionType.BETA, is_milestone=True)
    (game / "art/hero.png").write_bytes(b"spoilt")
    lantern.backup()
    for number, name in enumerate(("beta", "lantern/beta")):
        vault.restore_snapshot(name, tmp_path / str(number))
        assert (tmp_path / str(number) / "art/hero.png").read_bytes() == before


def test_those_of_one_second_are_listed_as_they_were_made(lantern: GameVault, vault: Vault) -> None:
    """Of tags git keeps the second only."""
    snapshot = lantern.backup().snapshot
    second = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    names = ["m", "z", "a", "k"]
    for number, name in enumerate(names):
        at = second + timedelta(microseconds=number)
        tags.create(vault.history, "lantern", name, snapshot, type="alpha", now=at)
    assert [one.tag.name for one in lantern.milestones()] == names[::-1]
    assert {one.tag.time and one.tag.time.replace(microsecond=0) for one in lantern.milestones()} == {second}
    assert git(vault, "for-each-ref", "--format=%(taggerdate:unix)", "refs/tags/lantern/z") == "1772600767"
    # Where another tool gave a tag another time, or an older version wrote it, the second counts.
    data = vault.history.objects.read(vault.history.refs.read(f"{tags.PREFIX}lantern/z") or "")[1]
    for name, found in (
        ("late", data.replace(b"1772600767", b"1772600999")),
        ("old", data.replace(b"Created", b"Other")),
    ):
        made = subprocess.run(
            ["git", f"--git-dir={vault.path}", "hash-object", "-t", "tag", "-w", "--stdin"],
            input=found,
            capture_output=True,
        )
        git(vault, "update-ref", f"{tags.PREFIX}lantern/{name}", made.stdout.decode().strip())
    times = {one.tag.name: one.tag.time for one in lantern.milestones()}
    assert (times["late"], times["old"]) == (second + timedelta(seconds=232), second)


def test_prune_leaves_them_alone_and_what_is_said_follows(lantern: GameVault, vault: Vault, game: Path) -> None:
    names = []
    for number in range(5):
        (game / "main.gd").write_text(f"# {number}\n")
        is_milestone = number == 2
        names.append(lantern.create_backup(name=f"b{number}", is_milestone=is_milestone).report.snapshot)
    one = milestones.annotate(vault, lantern.milestones()[0], {"text": "players liked it"})
    vault.prune(Retention(last=1), yes=True)
    assert [snapshot.id for snapshot in lantern.snapshots()] == [names[4], names[2]]
    vault.sweep()
    [kept] = milestones.milestones(vault)
    assert kept == one
    assert [said["text"] for said in kept.annotations] == ["players liked it"]
    assert vault.verify(data=True).ok


def test_what_is_said_is_a_git_note(lantern: GameVault, vault: Vault) -> None:
    lantern.create_backup(name="rc", version_type=GameVersionType.RELEASE_CANDIDATE, is_milestone=True)
    one = milestones.find(vault, "rc")
    for said in ({"text": "it's slow"}, {"facts": {"fps": "58"}}, {"released": "steam/beta"}):
        one = milestones.annotate(vault, one, said)
    assert one.released == "steam/beta"
    shown = git(vault, "log", "-1", "--notes=vault/milestones", "--format=%N", "lantern")
    assert [json.loads(line)["milestone"] for line in shown.splitlines()] == ["rc"] * 3
    head = git(vault, "rev-parse", f"{notes.PREFIX}milestones")
    again = notes.read(vault.history, milestones.NOTES, vault.history.locate(one.tag.snapshot))[0]
    vault.annotate("milestones", one.tag.snapshot, again, "the same line again")
    assert git(vault, "rev-parse", f"{notes.PREFIX}milestones") == head
    assert vault.annotations("milestones", one.tag.snapshot)


def test_a_note_that_git_keeps_in_folders_is_found(lantern: GameVault, vault: Vault) -> None:
    snapshot = lantern.backup().snapshot
    ref = f"{notes.PREFIX}other"
    environment = ["-c", "user.name=x", "-c", "user.email=x@example.invalid"]
    git(vault, *environment, "notes", "--ref", ref, "add", "-m", '{"a": 1}', snapshot)
    tree = git(vault, "rev-parse", f"{ref}^{{tree}}")
    blob = git(vault, "ls-tree", tree).split()[2]
    inner = subprocess.run(
        ["git", f"--git-dir={vault.path}", "mktree"],
        input=f"100644 blob {blob}\t{snapshot[2:]}\n",
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    outer = subprocess.run(
        ["git", f"--git-dir={vault.path}", "mktree"],
        input=f"040000 tree {inner}\t{snapshot[:2]}\n",
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    commit = git(vault, *environment, "commit-tree", "-m", "fan-out", outer)
    git(vault, "update-ref", ref, commit)
    vault.close()
    assert vault.annotations("other", snapshot) == [{"a": 1}]
    git(vault, *environment, "notes", "--ref", "refs/notes/vault/bad", "add", "-m", "[1", snapshot)
    vault.close()
    with pytest.raises(CorruptionError, match="cannot be read"):
        vault.annotations("bad", snapshot)


def test_the_changelog_between_two(lantern: GameVault, vault: Vault, game: Path) -> None:
    lantern.create_backup(name="a", is_milestone=True)
    (game / "main.gd").write_text("changed\n")
    (game / "art/new.png").write_bytes(b"new")
    (game / "art/hero.png").unlink()
    lantern.create_backup(name="b", is_milestone=True)
    found = milestones.compare(vault, milestones.find(vault, "a"), milestones.find(vault, "b"))
    assert found == Changelog(found.older, found.newer, found.difference, {"code": (0, 1, 0), "image": (1, 0, 1)})


def test_files_that_go_with_it(lantern: GameVault, vault: Vault, tmp_path: Path) -> None:
    build = tmp_path / "lantern.x86_64"
    build.write_bytes(b"\x7fELF\0" + bytes(range(256)) * 1000)
    lantern.create_backup(name="demo", version_type=GameVersionType.DEMO, is_milestone=True, artefacts=[build])
    one = milestones.find(vault, "demo")
    assert one == Milestone(one.tag, (), ("lantern.x86_64",))
    assert milestones.artefact(vault, one, "lantern.x86_64") == build.read_bytes()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/lantern.x86_64").write_text("x")
    with pytest.raises(ExistsError, match="two of the files"):
        lantern.create_backup(name="d2", is_milestone=True, artefacts=[build, tmp_path / "other/lantern.x86_64"])


def test_names_that_are_taken_missing_or_of_several(
    lantern: GameVault, vault: Vault, tmp_path: Path, game: Path
) -> None:
    snapshot = lantern.create_backup(name="v1", is_milestone=True).report.snapshot
    with pytest.raises(ExistsError, match=r"v1: is lantern's snapshot .* choose another"):
        lantern.create_backup(name="v1", is_milestone=True)
    with pytest.raises(GitVaultError, match="cannot be empty"):
        lantern.create_backup(is_milestone=True)
    with pytest.raises(LockedError):
        vault.name_snapshot("v1", snapshot, type="alpha")
    (tmp_path / "other").mkdir()
    other = GameVault("other", tmp_path / "other", vault=vault.path)
    other.create_backup(name="v1", is_milestone=True)
    with pytest.raises(AmbiguousError, match="lantern/v1, other/v1"):
        milestones.find(vault, "v1")
    with pytest.raises(AmbiguousError, match="several projects have it"):
        vault.resolve("v1")
    assert milestones.find(vault, "v1", "other").tag.project == "other"
    assert vault.resolve("lantern/v1") == snapshot
    with pytest.raises(NotFoundError, match="no such milestone"):
        milestones.find(vault, "v9")
    with pytest.raises(NotFoundError, match="no such project, snapshot, milestone or date"):
        vault.resolve("v9")


def test_other_tools_tags_are_names_and_no_milestones(lantern: GameVault, vault: Vault) -> None:
    snapshot = lantern.backup().snapshot
    git(vault, "tag", "lantern/light", snapshot)
    git(vault, "-c", "user.name=x", "-c", "user.email=x@x", "tag", "-a", "-m", "by hand", "lantern/hand", snapshot)
    assert vault.resolve("light") == vault.resolve("hand") == snapshot
    assert list(milestones.milestones(vault)) == []
    assert [tag.name for tag in tags.tags(vault.history)] == ["hand", "light"]
    assert tags.find(vault.history, "lantern/hand")[0][0] == "lantern"
    oid = vault.history.refs.read("refs/tags/lantern/hand")
    assert oid
    assert decode_tag(oid, vault.history.objects.read(oid)[1])[2] == "by hand\n"
    with pytest.raises(CorruptionError, match="a tag that cannot be read"):
        decode_tag(oid, b"object " + b"0" * 40 + b"\ntagger nobody\n\nx")


def test_a_tag_is_read_as_it_was_written(lantern: GameVault, vault: Vault) -> None:
    commit = vault.history.locate(lantern.backup().snapshot)
    who = Signature("A Nyone", "a@example.invalid", 1_700_000_000, -90)
    data = encode_tag(commit, "lantern/x", who, "text\n\nVault-Type: alpha\n")
    assert decode_tag(commit, data) == (commit, who, "text\n\nVault-Type: alpha\n")
    pack = vault.history.new_pack()
    assert vault.history.add_tag(pack, commit, "lantern/x", "text\n", vault.now()) in pack
    pack.abandon()


def test_tags_and_facts_are_the_same_trailers_everywhere() -> None:
    said = commits.facts(["demo", "two words"], {"engine": "4.3=x"})
    assert commits.read_facts([("Vault-Type", "alpha"), *said]) == (("demo", "two words"), {"engine": "4.3=x"})


def test_what_is_damaged_is_not_proved(lantern: GameVault, vault: Vault) -> None:
    made = lantern.create_backup(name="gold", is_milestone=True).milestone
    assert made
    told: list[tuple[str, int, int]] = []
    assert vault.read_back("lantern/gold", lambda *said: told.append(said)) > 100_000
    assert told == [("reading back", 1, 2), ("reading back", 2, 2)]
    for pack in (vault.path / "chunks").glob("**/*.zpk"):
        pack.unlink()
    lantern.close()
    with Vault.open(vault.path) as again, pytest.raises(CorruptionError, match=r"art/hero\.png: "):
        again.read_back("lantern/gold")


def test_the_command(command: Run, game: Path, tmp_path: Path) -> None:
    command("snapshot", game)
    (tmp_path / "notes.txt").write_text("first")
    done = command(
        *("milestone", "create", "alpha-1", "--project", "lantern", "--type", "alpha", "-m", "first level"),
        *("--tag", "demo", "--meta", "engine=4.3", "--attach", tmp_path / "notes.txt", "--verify", "--json"),
    )
    said = json.loads(done.stdout)
    assert {"name", "type", "snapshot", "tag"} <= said.keys(), done.stderr
    assert (said["name"], said["type"], said["tag"]) == ("alpha-1", "alpha", "lantern/alpha-1")
    assert said["verified_bytes"] > 100_000
    (game / "main.gd").write_text("changed\n")
    assert "lantern/beta-1: beta" in command("milestone", "create", "beta-1", "--type", "Beta").stdout
    assert [one["name"] for one in json.loads(command("milestone", "list", "--json").stdout)] == ["beta-1", "alpha-1"]
    assert "lantern/alpha-1" in command("milestone", "list", "--project", "lantern").stdout
    shown = command("milestone", "annotate", "alpha-1", "-m", "well received", "--meta", "score=8").stdout
    assert "text: well received" in shown
    shown = command("milestone", "release", "alpha-1", "--to", "itch.io").stdout
    assert "released: itch.io" in shown
    assert "engine = 4.3" in command("milestone", "show", "alpha-1").stdout
    compared = command("milestone", "compare", "alpha-1", "beta-1")
    assert (compared.returncode, "1 changed" in compared.stdout) == (1, True)
    assert command("milestone", "compare", "alpha-1", "alpha-1").stdout == "the same\n"
    older = command("milestone", "create", "old", "--snapshot", "lantern~1", "--json")
    assert json.loads(older.stdout)["snapshot"] == said["snapshot"]
    assert "first level" in command("milestone", "show", "alpha-1").stdout


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("create", "x", "--type", "gamma"), 129, "expected first-playable"),
        ((), 129, "required: ACTION; see"),
        (("create",), 129, "expected 1 name"),
        (("create", "x", "--attach", "/no/such"), 128, "no such file to attach"),
        (("annotate", "v1"), 129, "-m TEXT or --meta"),
        (("release", "v1"), 129, "--to WHERE"),
        (("restore", "v1"), 129, "--to DIR"),
        (("show", "v9"), 128, "no such milestone"),
        (("list", "--project", "nobody"), 128, "no such project"),
    ],
)
def test_what_is_wrong_is_one_line(command: Run, game: Path, words: tuple[str, ...], code: int, says: str) -> None:
    command("snapshot", game)
    done = command("milestone", *words)
    assert (done.returncode, says in done.stderr) == (code, True), done.stderr


def test_which_project_has_to_be_clear(command: Run, game: Path, tmp_path: Path) -> None:
    assert "there is none yet" in command("milestone", "create", "x").stderr
    assert "no milestones yet" in command("milestone", "list").stdout
    (tmp_path / "two").mkdir()
    command("snapshot", game, tmp_path / "two")
    assert "lantern, two" in command("milestone", "create", "x").stderr
    assert command("milestone", "create", "stood-in", cwd=game).returncode == 0
    assert command("milestone", "show", "lantern/stood-in").returncode == 0
    for number in range(10):
        (tmp_path / f"p{number}").mkdir()
    command("snapshot", *tmp_path.glob("p?"))
    assert command("milestone", "create", "x").stderr.endswith(
        "p0, p1, p2, p3, p4, p5, p6 and 4 more; see: git-vault milestone -h\n"
    )
    (game / "main.gd").rename(tmp_path / "main.gd")
    game.rename(tmp_path / "moved")
    assert "no such folder; --snapshot lantern" in command("milestone", "create", "x", "--project", "lantern").stderr


def test_settings_and_playtests_of_its_time_belong_to_it(
    lantern: GameVault, vault: Vault, game: Path, tmp_path: Path, command: Run
) -> None:
    written(game, GODOT)
    (tmp_path / "slot1.sav").write_bytes(b"saved")
    (tmp_path / "trailer.txt").write_bytes(b"seen")
    made = lantern.create_backup(name="alpha-1", is_milestone=True, artefacts=[tmp_path / "trailer.txt"]).milestone
    assert made
    with lantern.playtest("alpha-1", player="anna", attachments=[tmp_path / "slot1.sav"]) as session:
        session.state("player", {"hp": 7})
        session.event("jump")
    (game / "project.godot").write_text(GODOT["project.godot"].replace("=1280", "=1920"))
    later = lantern.create_backup(name="beta-1", is_milestone=True).milestone
    assert later
    found = context(vault, made)
    assert isinstance(found, Context) and found.settings and list(found.playtests) == lantern.playtests()
    assert [row.key for row in settings_drift(vault, made, later)] == ["display/window/size/viewport_width"]
    shown = command("milestone", "show", "alpha-1").stdout
    assert "settings  godot 4.3: windows, linux" in shown and "1 session, 1 player, 0 cut off" in shown
    document = json.loads(command("milestone", "show", "alpha-1", "--json").stdout)
    assert document["settings"]["engine"] == "godot" and document["playtests"] == [found.playtests[0].id]
    assert "viewport_width: 1280 -> 1920" in command("milestone", "compare", "alpha-1", "beta-1").stdout
    done = json.loads(command("milestone", "restore", "alpha-1", "--to", tmp_path / "old", "--json").stdout)
    assert "=1280" in (tmp_path / "old" / "project.godot").read_text()
    beside = Path(done["beside"])
    assert beside == tmp_path / "old.milestone"
    assert json.loads((beside / "settings.json").read_text())["android"]["config_version"]["value"] == "5"
    assert (beside / "artefacts" / "trailer.txt").read_bytes() == b"seen"
    assert (beside / "playtests" / found.playtests[0].id / "files" / "slot1.sav").read_bytes() == b"saved"
    assert '"hp":7' in (beside / "playtests" / found.playtests[0].id / "events.jsonl").read_text()
    with pytest.raises(ExistsError, match="is there already; choose another folder"):
        restore(vault, made, tmp_path / "old")
    report, _ = restore(vault, made, tmp_path / "again")
    assert report_document(report, "x") == {
        **{key: value for key, value in done.items() if key != "beside"},
        "target": "x",
        "seconds": round(report.seconds, 3),
    }
    told = command("milestone", "restore", "alpha-1", "--to", tmp_path / "third").stdout.splitlines()
    assert told[0].startswith(next(report_lines(report, str(tmp_path / "third"))).partition(" in ")[0])
    assert told[1].endswith("third.milestone")


def test_what_players_said_of_it_belongs_to_it_and_the_changelog_has_what_is_resolved(
    lantern: GameVault, vault: Vault, game: Path, command: Run
) -> None:
    made: list[Milestone] = []
    for name in ("alpha-1", "beta-1", "rc-1"):
        (game / "main.gd").write_text(name)
        milestone = lantern.create_backup(name=name, is_milestone=True).milestone
        assert milestone
        made.append(milestone)
    alpha, beta, candidate = made
    assert heard(vault, alpha) is None and resolved(vault, alpha, beta) == []
    assert json.loads(command("milestone", "show", "alpha-1", "--json").stdout)["feedback"] is None

    def crash(sig: str, *players: int) -> list[dict[str, str]]:
        return [{"kind": "crash", "sig": sig, "text": sig, "player": f"{player}"} for player in players]

    def played(build: str, players: int) -> list[dict[str, str]]:
        return [{"id": f"{build}{n}", "kind": "session", "session": f"{n}", "player": f"{n}"} for n in range(players)]

    lantern.correlate_feedback("alpha-1", [*played("a", 40), *crash("GONE", 1, 2), *crash("STAYS", 3)])
    lantern.correlate_feedback("alpha-1", crash("SEEN", 4))
    assert resolved(vault, alpha, beta) == [], "nobody has played the newer one yet"
    lantern.correlate_feedback("beta-1", [*played("b", 25), *crash("STAYS", 5), *crash("ROSE", *range(9))])
    lantern.correlate_feedback("beta-1", [{"kind": "review", "text": "I love it", "player": "1"}])
    assert resolved(vault, alpha, beta) == [Resolved("GONE", 2, 40, 25), Resolved("SEEN", 1, 40, 25)]
    assert resolved(vault, beta, alpha) == [Resolved("ROSE", 9, 25, 40)]
    assert heard(vault, candidate) is None and resolved(vault, alpha, candidate) == []
    said = heard(vault, beta)
    assert isinstance(said, Heard) and said.records == 36
    assert [(one.sig, one.players) for one in said.rose] == [("ROSE", 9)]
    assert {one.name: one.players for one in said.categories} == {"crash": 9, "praise": 1}
    shown = command("milestone", "show", "beta-1").stdout
    assert "feedback  36 records; players by category: crash 9, praise 1" in shown
    assert "feedback  rose: ROSE, 9 players" in shown
    told = command("milestone", "compare", "alpha-1", "beta-1").stdout
    assert "resolved: GONE, 2 of 40 players, 0 of 25 now" in told and "rose: ROSE, 9 players" in told
    assert "crash 4 players 9 players praise 0 players 1 player" in " ".join(told.split())
    document = json.loads(command("milestone", "compare", "alpha-1", "beta-1", "--json").stdout)["feedback"]
    assert document["resolved"][0] == {"sig": "GONE", "players": 2, "of": 40, "among": 25}
    assert document["newer"]["rose"][0]["sig"] == "ROSE" and document["older"]["records"] == 44
    assert document["older"]["categories"] == [{"category": "crash", "records": 4, "players": 4}]
    other = GameVault("torch", game.parent / "torch", vault=vault.path)
    (game.parent / "torch").mkdir()
    (game.parent / "torch" / "x").write_text("x")
    theirs = other.create_backup(name="first", is_milestone=True).milestone
    assert theirs and resolved(vault, theirs, beta) == []


def test_without_settings_in_its_files_those_of_a_capture_belong_to_it(
    lantern: GameVault, vault: Vault, tmp_path: Path
) -> None:
    made = lantern.create_backup(name="alpha-1", is_milestone=True).milestone
    assert made and context(vault, made) == Context(None, ())
    assert settings_drift(vault, made, made) == []
    assert list(restore(vault, made, tmp_path / "old")[1].iterdir()) == []
    read = platforms.read(platforms.on_disk(written(tmp_path / "elsewhere", GODOT)))
    platforms.capture(vault, "lantern", read, build="alpha-1")
    assert context(vault, made).settings == read
