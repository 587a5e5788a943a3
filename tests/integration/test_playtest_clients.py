"""Playtests that games in other languages send: the socket, and the clients in fixtures/clients."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import zstandard
from conftest import ROOT

from gitvault import GameVault
from gitvault.core.models import Problem
from gitvault.personas.game import playtests
from gitvault.personas.game.playtests import Session, Step, funnel
from gitvault.personas.game.playtests.receiver import PORT, Receiver
from gitvault.personas.game.playtests.sessions import hashed
from gitvault.vault import Vault

Run = Callable[..., subprocess.CompletedProcess[str]]
CLIENTS = ROOT / "fixtures" / "clients"
ABOUT = '{"v":1,"platform":"linux","player":"anna","player_hash":"forged"}\n'


@pytest.fixture
def lantern(tmp_path: Path, vault: Vault) -> GameVault:
    (tmp_path / "lantern").mkdir()
    return GameVault("lantern", tmp_path / "lantern", vault=vault.path)


def sent(port: int, *texts: str) -> None:
    # Who is not listened to may be cut off before all is sent.
    with suppress(ConnectionError), socket.create_connection(("127.0.0.1", port)) as connection:
        for text in texts:
            connection.sendall(text.encode())


def session(one: object) -> Session:
    assert isinstance(one, Session), one
    return one


def test_a_connection_is_a_session(lantern: GameVault, vault: Vault) -> None:
    assert not vault.config.player_key
    with lantern.listen(0, build="b7") as (port, arriving):
        sent(port, ABOUT, '{"t":1,"e":"jum', 'p"}\n', '{"t":2,"end":true}\n')
        one = session(next(arriving))
        sent(port, '{"v":1,"build":"b8"}\n{"t":1,"e":"jump"}\n')
        other = session(next(arriving))
    assert (one.build, one.platform, one.events, one.cut) == ("b7", "linux", 1, False)
    assert one.player == hashed(vault, "anna"), "the key that was drawn meanwhile, not one more"
    assert (other.build, other.cut) == ("b8", True), "it never said that it ended"
    assert PORT == 9247


def test_who_does_not_say_what_it_is_is_not_listened_to(lantern: GameVault) -> None:
    with lantern.listen(0) as (port, arriving):
        sent(port, "POST / HTTP/1.1\r\n\r\n", '{"v":1}\n{"e":"forged"}\n')
        sent(port, '{"e":"jump"}\n')
        sent(port, '{"v":99}\n{"e":"jump"}\n')
        sent(port, "")
        sent(port, ABOUT, '{"e":"real"}\n')
        assert playtests.events(lantern.vault, session(next(arriving)))[0]["e"] == "real"
    assert len(lantern.playtests()) == 1


def test_a_session_that_cannot_be_kept_stays_as_a_file_and_the_next_one_is(lantern: GameVault) -> None:
    with lantern.listen(0) as (port, arriving):
        sent(port, ABOUT, "junk\n" * 9)
        problem = next(arriving)
        assert isinstance(problem, Problem) and "no event in what was given" in problem.reason
        assert Path(problem.path.decode()).exists()
        sent(port, ABOUT, '{"e":"jump"}\n')
        session(next(arriving))


def test_games_that_still_run_when_it_ends_are_kept(lantern: GameVault) -> None:
    with lantern.listen(0) as (port, _):
        connection = socket.create_connection(("127.0.0.1", port))
        silent = socket.create_connection(("127.0.0.1", port))
        connection.sendall((ABOUT + '{"e":"jump"}\n').encode())
        deadline = time.monotonic() + 120
        while not any(b"jump" in file.read_bytes() for file in lantern._spool.glob("socket/*")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    [one] = lantern.playtests()
    assert one.cut
    connection.close()
    silent.close()


def test_what_a_killed_listener_left_is_recovered(lantern: GameVault) -> None:
    folder = lantern._spool / "socket"
    folder.mkdir(parents=True)
    (folder / "x.jsonl").write_text(ABOUT + '{"e":"jump"}\n')
    assert [one.events for one in lantern.recover_playtests()] == [1]


def test_a_port_that_is_taken_is_told(lantern: GameVault, tmp_path: Path) -> None:
    taken = Receiver(tmp_path, 0, dict, str)
    with taken.running(), pytest.raises(OSError, match="in use"), lantern.listen(taken.port):
        pass


def test_to_listen_the_project_has_to_be_named(command: Run) -> None:
    assert command("playtest", "listen").returncode == 129


@pytest.mark.no_cover  # whose tracer, interrupted, waits for itself
def test_the_command_listens(lantern: GameVault, vault: Vault, command: Run) -> None:
    assert lantern.project.name == "lantern"
    words = ["--vault", str(vault.path), "playtest", "listen", "--project", "lantern", "--port", "0", "--build", "b1"]
    words = [sys.executable, "-m", "gitvault", *words, "--json"]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stderr and process.stdout
        port = int(process.stderr.readline().split(":")[2].split()[0])
        sent(port, ABOUT, '{"e":"level","level":"cave"}\n{"e":"level","level":"roof"}\n')
        assert "2 events, linux" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        [kept] = json.loads(process.stdout.read())
    assert (kept["build"], kept["events"], process.returncode) == ("b1", 2, 0)
    rows = json.loads(command("playtest", "funnel", "b1", "--json").stdout)
    assert rows == [{"name": "cave", "sessions": 1}, {"name": "roof", "sessions": 1}]
    assert "100%" in command("playtest", "funnel", "b1").stdout
    assert json.loads(command("playtest", "funnel", "b1", "--event", "jump", "--json").stdout) == [
        {"name": "jump", "sessions": 0}
    ]


def test_a_file_may_be_compressed_by_zstd(lantern: GameVault, tmp_path: Path, command: Run) -> None:
    assert lantern.project
    text = ABOUT.encode() + b"".join(b'{"e":"jump","t":%d}\n' % at for at in range(5000))
    packed = zstandard.compress(text[:50_000]) + zstandard.compress(text[50_000:])
    file = tmp_path / "session.jsonl.zst"
    words = ("playtest", "record", "--project", "lantern", "--json", "--from", file)
    file.write_bytes(packed)
    assert json.loads(command(*words).stdout)["events"] == 5000
    file.write_bytes(packed[:-300])
    cut = json.loads(command(*words).stdout)
    assert cut["cut"] and cut["events"] < 5000
    file.write_bytes(packed[:300] + bytes(300) + packed[600:])
    done = command(*words)
    assert done.returncode == 128 and "a damaged zstd file" in done.stderr
    file.write_bytes(text)
    with open(file, "rb") as lines:
        assert b"".join(playtests.lines_of(lines)) == text


def test_a_funnel_counts_steps_in_their_order() -> None:
    def way(*names: str) -> list[dict[str, object]]:
        return [{"t": float(at), "e": "enter", "d": {"level": name}} for at, name in enumerate(names)]

    ways = [way("a", "b", "c"), way("a", "b"), way("a", "a", "b", "a"), way("b"), way()]
    assert funnel(ways) == [Step("a", 3), Step("b", 3), Step("c", 1)]
    done = [[{"t": 0.0, "e": name, "d": {}} for name in names] for names in (("x", "y", "z"), ("y", "x"), ("x",))]
    assert funnel(done, ["x", "y"]) == [Step("x", 3), Step("y", 1)]
    assert funnel([], []) == []


def kept_from(lantern: GameVault, run: Callable[[str], object], tmp_path: Path) -> list[list[dict[str, object]]]:
    """What a client's program sent, through the socket and through a file."""
    found = []
    with lantern.listen(0) as (port, arriving):
        running = threading.Thread(target=run, args=(f"tcp://127.0.0.1:{port}",))
        running.start()
        one = session(next(arriving))
        running.join()
        found.append(playtests.events(lantern.vault, one))
    assert (one.build, one.platform, one.cut, one.player) == ("alpha-1", "test", False, hashed(lantern.vault, "anna"))
    file = tmp_path / "session.jsonl"
    run(str(file))
    with open(file, "rb") as lines:
        kept = playtests.keep(lantern.vault, "lantern", lines)
    assert not kept.rejected and not kept.session.cut
    return [*found, playtests.events(lantern.vault, kept.session)]


EXPECTED = [("e", 'jump "high"\n', {"pos": [3, 4.5]}), ("s", "player", {"hp": 7}), ("e", "death", {})]


def as_expected(found: list[list[dict[str, object]]]) -> bool:
    told = [[(("e" if "e" in line else "s"), line.get("e", line.get("s")), line["d"]) for line in one] for one in found]
    times = [[line["t"] for line in one] for one in found]
    return told == [EXPECTED, EXPECTED] and all(one == sorted(one) for one in times)  # type: ignore[type-var]


@pytest.mark.deep
@pytest.mark.needs("g++")
def test_the_client_for_cpp(lantern: GameVault, tmp_path: Path) -> None:
    assert lantern.project
    (tmp_path / "main.cpp").write_text(
        '#include "playtest.hpp"\n'
        "int main(int, char **words) {\n"
        '  Playtest session(words[1], R"({"build":"alpha-1","platform":"test","player":"anna"})");\n'
        '  session.event("jump \\"high\\"\\n", "{\\"pos\\":[3,4.5]}");\n'
        '  session.state("player", "{\\"hp\\":7}");\n'
        '  session.event("death");\n'
        "  return session.failed();\n}\n"
    )
    made = tmp_path / "game"
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-pthread", f"-I{CLIENTS}", "-o", str(made)]
    subprocess.run(["g++", *flags, str(tmp_path / "main.cpp")], check=True)
    assert as_expected(kept_from(lantern, lambda to: subprocess.run([made, to], check=True), tmp_path))
    assert subprocess.run([made, "tcp://127.0.0.1:1"], check=False).returncode == 1, "nobody listens"


@pytest.mark.deep
@pytest.mark.needs("mcs", "mono")
def test_the_client_for_c_sharp(lantern: GameVault, tmp_path: Path) -> None:
    assert lantern.project
    (tmp_path / "Game.cs").write_text(
        "static class Game {\n  static int Main(string[] words) {\n"
        '    using (var session = new Playtest(words[0], "{\\"build\\":\\"alpha-1\\",\\"platform\\":\\"test\\",'
        '\\"player\\":\\"anna\\"}")) {\n'
        '      session.Event("jump \\"high\\"\\n", "{\\"pos\\":[3,4.5]}");\n'
        '      session.State("player", "{\\"hp\\":7}");\n'
        '      session.Event("death");\n'
        "      return session.Failed ? 1 : 0;\n    }\n  }\n}\n"
    )
    made = tmp_path / "game.exe"
    subprocess.run(["mcs", f"-out:{made}", str(tmp_path / "Game.cs"), str(CLIENTS / "Playtest.cs")], check=True)
    assert as_expected(kept_from(lantern, lambda to: subprocess.run(["mono", made, to], check=True), tmp_path))
    assert subprocess.run(["mono", made, "tcp://127.0.0.1:1"], check=False).returncode == 1, "nobody listens"


@pytest.mark.deep
@pytest.mark.needs("godot3-server")
def test_the_client_for_gdscript(lantern: GameVault, tmp_path: Path) -> None:
    assert lantern.project
    game = tmp_path / "game"
    game.mkdir()
    shutil.copy(CLIENTS / "playtest_godot3.gd", game / "playtest.gd")
    (game / "project.godot").write_text("config_version=4\n")

    def run(to: str) -> object:
        (game / "main.gd").write_text(
            "extends SceneTree\nfunc _init():\n\tvar session = load('res://playtest.gd').new()\n"
            f"\tsession.start('{to}', {{'build': 'alpha-1', 'platform': 'test', 'player': 'anna'}})\n"
            '\tsession.event("jump \\"high\\"\\n", {"pos": [3, 4.5]})\n'
            "\tsession.state('player', {'hp': 7})\n\tsession.event('death')\n\tsession.finish()\n"
            "\tprint('failed=', session.failed)\n\tsession.free()\n\tquit()\n"
        )
        words = ["godot3-server", "--path", str(game), "-s", "main.gd"]
        return subprocess.run(words, check=True, capture_output=True, text=True, timeout=120).stdout

    assert as_expected(kept_from(lantern, run, tmp_path))
    assert "failed=True" in str(run("tcp://127.0.0.1:1")), "nobody listens"
