"""Workspaces: captured but for caches and secrets, put back here or on another machine, not under a running program."""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import IO, cast

import pytest

from gitvault.errors import AmbiguousError, ConfigError, CorruptionError, LockedError, NotFoundError
from gitvault.personas.creative import CreativeVault, workspaces
from gitvault.personas.creative.workspaces import applications
from gitvault.personas.creative.workspaces.applications import (
    SYSTEMS,
    Application,
    Surroundings,
    find,
    installed,
    known,
    place_of,
)
from gitvault.personas.creative.workspaces.capture import (
    AREA,
    BESIDE,
    DATABASE,
    Changes,
    File,
    Left,
    Workspace,
    changes,
    present,
)
from gitvault.personas.creative.workspaces.restore import Restored, _write, restore
from gitvault.personas.creative.workspaces.running import running
from gitvault.vault import Vault

Run = Callable[..., subprocess.CompletedProcess[str]]


def nothing_runs(names: object, home: Path) -> str:
    return ""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """As Krita leaves it, with what must not go along."""
    home = tmp_path / "home"
    data = home / ".local/share/krita"
    (data / "brushes").mkdir(parents=True)
    (data / "brushes" / "ink.gbr").write_bytes(b"\0brush" * 100)
    (data / "default.bundle").write_bytes(b"PK" + bytes(1000))
    (data / "krita.log").write_text("started\n")
    with closing(sqlite3.connect(data / "resourcecache.sqlite")) as database, database:
        database.execute("create table tags (name text)")
        database.execute("insert into tags values ('favourites')")
    (home / ".config").mkdir()
    (home / ".config/kritarc").write_text(
        f"[paths]\nlast={home}/pictures/a.kra\nother={home}y\n[account]\naccess_token=abc123\nuser = sofia\n"
    )
    os.symlink("brushes", data / "mine")
    return home


def linux(home: Path) -> Surroundings:
    return Surroundings(home, "linux", {})


def krita(home: Path) -> applications.Installed:
    return find(known()["krita"], linux(home))


def listing(home: Path) -> dict[str, bytes]:
    files = (path for path in home.rglob("*") if path.is_file() and not path.is_symlink())
    return {path.relative_to(home).as_posix(): path.read_bytes() for path in files}


def test_a_workspace_comes_back_after_everything_is_gone(vault: Vault, home: Path) -> None:
    before = listing(home)
    captured = workspaces.capture(vault, krita(home), linux(home))
    assert listing(home) == before
    assert captured.files == tuple(sorted(captured.files, key=lambda file: (file.place, file.path)))
    assert Left("data/default.bundle", "left out by *.bundle") in captured.left_out
    assert Left("settings", "the value of 1 password or key") in captured.left_out
    shutil.rmtree(home)
    done = restore(vault, workspaces.find(vault, "krita"), known(), linux(home), nothing_runs)
    assert done == Restored(captured, len(captured.files), captured.size, None, ())
    after = listing(home)
    assert after[".local/share/krita/brushes/ink.gbr"] == before[".local/share/krita/brushes/ink.gbr"]
    assert after[".config/kritarc"] == before[".config/kritarc"].replace(b"abc123", b"")
    assert os.readlink(home / ".local/share/krita/mine") == "brushes"
    with closing(sqlite3.connect(home / ".local/share/krita/resourcecache.sqlite")) as database:
        assert database.execute("select name from tags").fetchall() == [("favourites",)]
    assert not any(name.endswith((".bundle", ".log")) for name in after)


def test_what_is_there_is_captured_before_it_is_replaced_and_what_is_not_known_stays(vault: Vault, home: Path) -> None:
    first = workspaces.capture(vault, krita(home), linux(home))
    brush, own = home / ".local/share/krita/brushes/ink.gbr", home / ".local/share/krita/brushes/new.gbr"
    brush.write_bytes(b"changed")
    own.write_bytes(b"made since")
    (home / ".local/share/krita/krita.log").write_text("more")
    assert changes(first, present(vault, krita(home), linux(home))) == Changes(
        ("data/brushes/new.gbr",), ("data/brushes/ink.gbr",), ()
    )
    done = restore(vault, first, known(), linux(home), nothing_runs)
    assert done.safety
    assert brush.read_bytes() != b"changed"
    assert own.read_bytes() == b"made since"
    restore(vault, done.safety, known(), linux(home), nothing_runs)
    assert brush.read_bytes() == b"changed"


def test_the_same_again_is_the_same_workspace(vault: Vault, home: Path) -> None:
    first = workspaces.capture(vault, krita(home), linux(home))
    assert workspaces.capture(vault, krita(home), linux(home)).id == first.id
    assert [one.id for one in workspaces.workspaces(vault)] == [first.id]


def test_on_another_machine_paths_of_the_home_folder_lead_to_the_new_one(
    vault: Vault, home: Path, tmp_path: Path
) -> None:
    captured = workspaces.capture(vault, krita(home), linux(home))
    other = Surroundings(tmp_path / "Users" / "Sofia", "windows", {})
    done = restore(vault, captured, known(), other, nothing_runs)
    assert done.left == ()
    text = (other.home / "AppData/Local/kritarc").read_text()
    assert f"last={other.home}/pictures/a.kra\n" in text
    assert f"other={home}y\n" in text
    assert (other.home / "AppData/Roaming/krita/brushes/ink.gbr").read_bytes() == b"\0brush" * 100


def test_a_home_of_windows_is_recognized_however_a_program_spells_it(vault: Vault, tmp_path: Path) -> None:
    home, theirs = tmp_path / "sofia", "C:\\Users\\Sofia"
    (home / ".config/inkscape").mkdir(parents=True)
    file = home / ".config/inkscape/preferences.xml"
    file.write_text("a=C:\\Users\\Sofia\\a b=C:\\\\Users\\\\Sofia\\\\b c=C:/Users/Sofia/c d=C:\\Users\\Sofia2")
    around = Surroundings(Path(theirs), "linux", {"XDG_CONFIG_HOME": str(home / ".config")})
    captured = workspaces.capture(vault, find(known()["inkscape"], around), around)
    restore(vault, captured, known(), linux(home), nothing_runs)
    assert file.read_text() == f"a={home}\\a b={home}\\\\b c={home}/c d=C:\\Users\\Sofia2"


def test_a_running_application_is_not_written_under(vault: Vault, home: Path) -> None:
    captured = workspaces.capture(vault, krita(home), linux(home))
    before = listing(home)
    with pytest.raises(LockedError, match=r"Krita is running \(krita\); quit it first"):
        restore(vault, captured, known(), linux(home), lambda names, _: "krita" if "krita" in names else "")
    assert listing(home) == before


@pytest.mark.skipif(sys.platform != "linux", reason="whose a program is, is told here only")
def test_a_program_counts_for_the_home_it_runs_in(tmp_path: Path) -> None:
    shutil.copy("/bin/sleep", tmp_path / "krita-of-a-test-program")
    program = subprocess.Popen([tmp_path / "krita-of-a-test-program", "60"], env={"HOME": str(tmp_path)})
    try:
        deadline = time.monotonic() + 120
        while not running(["krita-of-a-test-program"], tmp_path) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert running(["krita-of-a-test-program"], tmp_path) == "krita-of-a-test"
        assert running(["krita-of-a-test-program"], tmp_path / "other") == ""
    finally:
        program.kill()
        program.wait()


def test_what_a_killed_application_had_begun_in_its_database_is_taken_back(vault: Vault, home: Path) -> None:
    database = home / ".local/share/krita/resourcecache.sqlite"
    assert database.read_bytes().startswith(DATABASE) and b"-journal" in BESIDE
    code = (
        "import os, sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "db.execute('pragma cache_size=1'); db.execute('begin')\n"
        "[db.execute('insert into tags values (?)', ('x' * 5000,)) for _ in range(100)]; os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, database], check=True)
    assert Path(f"{database}-journal").stat().st_size
    before = listing(home)
    captured = workspaces.capture(vault, krita(home), linux(home))
    assert listing(home) == before
    restore(vault, captured, known(), linux(home), nothing_runs)
    assert not Path(f"{database}-journal").exists()
    with closing(sqlite3.connect(database)) as opened:
        assert opened.execute("select name from tags").fetchall() == [("favourites",)]


def test_a_database_in_use_is_captured_with_what_was_committed(vault: Vault, home: Path) -> None:
    database = home / ".local/share/krita/resourcecache.sqlite"
    with closing(sqlite3.connect(database)) as opened:
        opened.execute("pragma journal_mode=wal")
        with opened:
            opened.execute("insert into tags values ('inks')")
        captured = workspaces.capture(vault, krita(home), linux(home))
        shutil.copy(f"{database}-wal", home / "wal")
        copied = database.read_bytes()
    for wanted in (captured, None):
        if wanted is None:
            # As a crash leaves it: a log, and nobody who has it open.
            database.write_bytes(copied)
            shutil.copy(home / "wal", f"{database}-wal")
            wanted = workspaces.capture(vault, krita(home), linux(home))
            assert not Path(f"{database}-shm").exists()
        restore(vault, wanted, known(), linux(home), nothing_runs)
        with closing(sqlite3.connect(database)) as opened:
            assert opened.execute("select name from tags order by name").fetchall() == [("favourites",), ("inks",)]


def test_what_cannot_be_read_or_is_no_file_is_told(vault: Vault, home: Path) -> None:
    (home / ".local/share/krita/broken.sqlite").write_bytes(b"SQLite format 3\0" + b"\xff" * 200)
    (home / ".local/share/krita/id_rsa").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    os.mkfifo(home / ".local/share/krita/pipe")
    captured = workspaces.capture(vault, krita(home), linux(home))
    reasons = {left.path: left.reason for left in captured.left_out}
    assert reasons["data/broken.sqlite"].startswith("not readable: ")
    assert reasons["data/id_rsa"] == "looks like a private key"
    assert reasons["data/pipe"] == "not a file"


def test_every_application_of_the_table_has_places_that_make_sense() -> None:
    for application in known().values():
        assert isinstance(application, Application)
        assert set(application.places) == set(SYSTEMS.values())
        assert any(application.places.values()) and application.processes


def test_the_newest_version_is_taken_unless_one_is_named(tmp_path: Path, vault: Vault) -> None:
    for version in ("2.93", "3.4", "3.10", "no-version"):
        (tmp_path / ".config/blender" / version / "config").mkdir(parents=True)
        (tmp_path / ".config/blender" / version / "config/userpref.blend").write_text(version)
    blender = known()["blender"]
    assert [one.version for one in installed(blender, linux(tmp_path))] == ["3.10", "3.4", "2.93"]
    assert find(blender, linux(tmp_path)).version == "3.10"
    assert find(blender, linux(tmp_path), "2.93").places == {"config": tmp_path / ".config/blender/2.93"}
    with pytest.raises(NotFoundError, match=r"Blender 4\.0: keeps nothing here; there is 3\.10, 3\.4, 2\.93"):
        find(blender, linux(tmp_path), "4.0")
    with pytest.raises(NotFoundError, match=r"GIMP: keeps nothing here: looked for .*GIMP/\*"):
        find(known()["gimp"], linux(tmp_path))
    with pytest.raises(NotFoundError, match="nothing is known of it on linux"):
        find(known()["photoshop"], linux(tmp_path))
    mac = Surroundings(Path("/Users/s"), "macos", {})
    assert place_of(blender, mac, "config", "4.1") == Path("/Users/s/Library/Application Support/Blender/4.1")
    assert place_of(blender, mac, "scripts", "4.1") is None
    moved = Surroundings(tmp_path, "linux", {"XDG_CONFIG_HOME": str(tmp_path / "else")})
    assert moved.folders()["config"] == str(tmp_path / "else")


def test_a_new_application_is_a_few_lines_of_toml(tmp_path: Path, vault: Vault, command: Run) -> None:
    table = tmp_path / "more.toml"
    table.write_text('[sketcher]\nname = "Sketcher"\nleave_out = ["tmp/"]\nlinux = { settings = "{home}/.sketcher" }\n')
    (tmp_path / ".sketcher").mkdir()
    (tmp_path / ".sketcher/keys").write_text("ctrl-z undo\n")
    words = ("--home", tmp_path, "--apps", table)
    done = command("workspace", "capture", "sketcher", *words, "--json")
    assert json.loads(done.stdout)["files"] == 1, done.stderr
    assert "sketcher" in command("workspace", "apps", *words).stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[x", "expected applications in TOML"),
        ("x = 1", "expected a table"),
        ("[X]", "expected a table"),
        ("[x]\nplaces = 1", "places: unknown; there are leave_out"),
        ('[x]\nlinux = { a = "/etc" }', "expected place ="),
        ('[x]\nlinux = { a = "{nowhere}/x" }', "expected place ="),
        ('[x]\nlinux = "x"', "expected place ="),
        ('[x]\nleave_out = "x"', "expected a list of words"),
    ],
)
def test_a_table_that_says_nonsense_is_named(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "workspaces.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said):
        known(file)


def test_an_id_that_is_none_or_several(vault: Vault, home: Path) -> None:
    one = workspaces.capture(vault, krita(home), linux(home))
    (home / ".config/kritarc").write_text("x")
    two = workspaces.capture(vault, krita(home), linux(home))
    assert workspaces.find(vault, one.id[:8]) == one
    assert workspaces.find(vault, "krita") == two
    with pytest.raises(NotFoundError, match="no such workspace"):
        workspaces.find(vault, "zzz")
    with pytest.raises(AmbiguousError, match="fits 2 workspaces"):
        workspaces.find(vault, "")


def test_a_record_from_elsewhere_leads_nowhere_else(vault: Vault, home: Path) -> None:
    captured = workspaces.capture(vault, krita(home), linux(home))
    document = json.loads(vault.area(AREA).read(f"krita/{captured.id}/record.json".encode()))
    evil = document | {"id": "e" * 16, "files": [{**document["files"][0], "path": "..\\x5C..\\x2fout/../../x"}]}
    evil["files"][0]["path"] = "../../../escaped"
    vault.area(AREA).add({b"krita/" + b"e" * 16 + b"/record.json": json.dumps(evil).encode()}, "evil")
    found = workspaces.find(vault, "e" * 16)
    with pytest.raises((CorruptionError, NotFoundError)):
        restore(vault, found, known(), linux(home), nothing_runs)
    with pytest.raises(CorruptionError, match="leads out of"):
        _write(home, File("data", "a/../../x", 0o644, 0, ""), b"")
    bad = Workspace(**{**{key: getattr(captured, key) for key in Workspace.__dataclass_fields__}, "app": "gone"})
    with pytest.raises(NotFoundError, match="crayon: no such application; there are blender, "):
        applications.named(known(), "crayon")
    with pytest.raises(NotFoundError, match="no such application"):
        restore(vault, bad, known(), linux(home), nothing_runs)
    vault.area(AREA).add({b"krita/1/record.json": b"{}"}, "nonsense")
    with pytest.raises(CorruptionError, match="no record of a workspace"):
        list(workspaces.workspaces(vault))
    assert File("settings", "", 0o644, 1, "00") != captured.files[0]
    assert [file for file, _ in captured.contents(vault.area(AREA))] == list(captured.files)


@pytest.mark.parametrize("size", [300, (16 << 20) + 1])
def test_a_file_that_is_being_written_is_not_taken_torn(
    vault: Vault, home: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read again when it changed meanwhile; left out, and said so, when that never ends."""
    brush = home / ".local/share/krita/brushes/ink.gbr"
    brush.write_bytes(b"a" * size)
    writes = list(range(3))

    class Torn(io.FileIO):
        def read(self, length: int | None = -1, /) -> bytes:
            data = super().read(-1 if length is None else length)
            if writes and os.path.samestat(os.fstat(self.fileno()), brush.stat()):
                with brush.open("r+b") as file:
                    file.write(b"%03d" % writes[-1])
                os.utime(brush, ns=(0, writes.pop()))
            return data

    def opened(file: int | Path, mode: str) -> IO[bytes]:
        return cast(IO[bytes], Torn(file)) if isinstance(file, int) else open(file, mode)

    module = sys.modules[Workspace.__module__]
    monkeypatch.setattr(module, "open", opened, raising=False)
    monkeypatch.setattr(module, "_PAUSE", 0)
    captured = workspaces.capture(vault, krita(home), linux(home))
    found = {file.path: content for file, content in captured.contents(vault.area(AREA))}
    assert (writes, found["brushes/ink.gbr"][:4]) == ([], b"000a")
    assert found["brushes/ink.gbr"] == brush.read_bytes()
    writes[:] = range(100)
    again = workspaces.capture(vault, krita(home), linux(home))
    assert Left("data/brushes/ink.gbr", "not readable: it was being written") in again.left_out
    vault.area(AREA).erase([b"krita/%b/files/data/brushes" % captured.id.encode()], "lost")
    with pytest.raises(CorruptionError, match=r"ink\.gbr: not in the vault, its record names it"):
        list(captured.contents(vault.area(AREA)))


def test_the_command(command: Run, home: Path, vault: Vault) -> None:
    command("snapshot", home / ".config", "--project", "settings")
    done = command("workspace", "capture", "krita", "--home", home, "--json")
    said = json.loads(done.stdout)
    assert {"id", "app", "version", "files", "bytes", "left_out"} <= said.keys()
    assert said["snapshots"].keys() == {"settings"}
    assert json.loads(command("workspace", "list", "--json").stdout)[0]["id"] == said["id"]
    assert "brushes/ink.gbr" in command("workspace", "show", "krita").stdout
    assert command("workspace", "diff", "krita", "--home", home).returncode == 0
    (home / ".local/share/krita/brushes/ink.gbr").write_text("")
    assert command("workspace", "diff", "krita", "--home", home).returncode == 1
    assert "changed data/brushes/ink.gbr" in command("workspace", "diff", said["id"], "--home", home).stdout
    done = command("workspace", "restore", said["id"], "--home", home, "--json")
    assert json.loads(done.stdout)["files"] == said["files"]
    assert (home / ".local/share/krita/brushes/ink.gbr").stat().st_size
    assert "captured Krita" in command("workspace", "capture", "krita", "--home", home).stdout
    assert "restored Krita" in command("workspace", "restore", "krita", "--home", home).stdout
    assert command("workspace", "diff", said["id"], said["id"]).stdout == "the same\n"
    assert "krita" in command("workspace", "list", "krita").stdout
    wrong = command("workspace", "capture", "crayon", "--home", home)
    assert (wrong.returncode, "no such application; there are blender," in wrong.stderr) == (128, True)
    assert command("workspace", "capture").returncode == 129


def test_the_library(tmp_path: Path, vault: Vault, home: Path) -> None:
    with CreativeVault("art", tmp_path, vault=vault.path) as art:
        captured = art.capture_workspace("krita", home=home)
        (home / ".config/kritarc").unlink()
        assert art.restore_workspace("krita", home=home).workspace == captured
        assert (home / ".config/kritarc").exists()
        with pytest.raises(NotFoundError, match="no such application"):
            art.capture_workspace("crayon", home=home)


# A batch of its own: GIMP writes its settings between two, and one that fails is followed by the next.
QUIT = ["-b", "(gimp-quit 0)"]
REAL = {
    "blender": (
        ["blender", "-b", "--python-expr"],
        ["import bpy; bpy.context.preferences.view.show_developer_ui=True; bpy.ops.wm.save_userpref()"],
        ["import bpy; print('found it' if bpy.context.preferences.view.show_developer_ui else 'lost')"],
    ),
    "gimp": (
        ["gimp", "-i", "-b"],
        ['(gimp-gimprc-set "sofias-own-setting" "77")', *QUIT],
        [
            "(begin (gimp-message-set-handler 1) (gimp-message"
            ' (if (equal? (car (gimp-gimprc-query "sofias-own-setting")) "77")'
            ' "found it" "lost")))',
            *QUIT,
        ],
    ),
}


@pytest.mark.deep
@pytest.mark.parametrize("app", REAL)
def test_a_setting_of_the_real_application_survives(app: str, tmp_path: Path, vault: Vault) -> None:
    program, change, ask = REAL[app]
    if not shutil.which(program[0]):
        pytest.skip(f"apt-get install {program[0]}")
    home = tmp_path / "home"
    home.mkdir()

    def start(words: list[str]) -> str:
        environment = {**os.environ, "HOME": str(home)}
        done = subprocess.run([*program, *words], env=environment, capture_output=True, text=True, timeout=120)
        return done.stdout + done.stderr

    start(change)
    assert "found it" in start(ask)
    workspaces.capture(vault, find(known()[app], linux(home)), linux(home))
    shutil.rmtree(home)
    home.mkdir()
    assert "found it" not in start(ask)
    shutil.rmtree(home)
    home.mkdir()
    restore(vault, workspaces.find(vault, app), known(), linux(home), running)
    assert "found it" in start(ask)


@pytest.mark.deep
@pytest.mark.parametrize(
    ("app", "program", "file", "before", "after"),
    [
        (
            "krita",
            ["xvfb-run", "-a", "krita", "--nosplash"],
            ".config/kritarc",
            "[theme]",
            "[theme]\nTheme=Krita bright\n",
        ),
        (
            "inkscape",
            ["xvfb-run", "-a", "inkscape"],
            ".config/inkscape/preferences.xml",
            'id="tools"',
            'id="tools" bright="7"',
        ),
    ],
)
def test_a_setting_that_a_window_would_change_survives(
    app: str, program: list[str], file: str, before: str, after: str, tmp_path: Path, vault: Vault
) -> None:
    if not all(map(shutil.which, (program[0], app))):
        pytest.skip(f"apt-get install xvfb {app}")
    home = tmp_path / "home"
    home.mkdir()

    def start() -> None:
        environment = {**os.environ, "HOME": str(home)}
        nowhere = subprocess.DEVNULL
        started = subprocess.Popen(program, env=environment, stdout=nowhere, stderr=nowhere, start_new_session=True)
        time.sleep(20)
        # Neither that of somebody who works here, nor the screen, which it needs to end.
        subprocess.run(["pkill", "-x", "-s", str(started.pid), app])
        started.wait(120)

    start()
    settings = home / file
    settings.parent.mkdir(parents=True, exist_ok=True)
    text = settings.read_text() if settings.exists() else ""
    settings.write_text(text.replace(before, after, 1) if before in text else text + after)
    wanted = after.strip().splitlines()[-1]
    start()
    assert wanted in settings.read_text()
    workspaces.capture(vault, find(known()[app], linux(home)), linux(home))
    shutil.rmtree(home)
    home.mkdir()
    restore(vault, workspaces.find(vault, app), known(), linux(home), running)
    start()
    assert wanted in settings.read_text()
