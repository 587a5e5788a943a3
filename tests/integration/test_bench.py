"""The benchmark measures what it says: equal data on every machine, restores compared, goals judged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"


def content(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_data_and_edits_follow_from_the_parameters_alone(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; import bench_data as data\n"
        "sets = data.DataSets(Path(sys.argv[1]))\n"
        "code, assets = sets.code(300), sets.assets(20, 4 << 20)\n"
        "big, tiny = sets.big(1 << 20), sets.tiny(50)\n"
        "for step in data.code_steps(300, 4): data.edit_source(code, step)\n"
        "for step in data.asset_steps(20, 4 << 20, 4): data.edit_assets(assets, step)\n"
        "data.edit_big(big / 'game.pak')\n"
    )
    for name in ("a", "b"):
        subprocess.run([sys.executable, "-c", program, tmp_path / name], cwd=SCRIPTS, check=True)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert len(content(tmp_path / "a")) == 300 + 20 + 1 + 50


def test_a_run_ends_with_a_table_and_every_sample_as_json(tmp_path: Path) -> None:
    command = [sys.executable, SCRIPTS / "bench_run.py", "--scale", "0.001", "--repeat", "1", "--workdir", tmp_path]
    done = subprocess.run([*command, "--only", "code-restore,K6-first"], capture_output=True, text=True, check=True)
    (path,) = tmp_path.glob("*.json")
    result = json.loads(path.read_text())
    assert result["samples"]["code-restore"]["git-vault"][0] > 0
    assert result["failures"] == {}
    (line,) = (line for line in result["lines"] if line["row"] == "K6-first")
    assert line["met"] is True
    assert "| K6-first " in done.stdout


def test_a_count_of_which_nothing_is_asked_is_shown() -> None:
    program = (
        "from bench_rows import Goal, Line, Row, table\n"
        "goals = Goal(None, 'restic'), Goal(2, 'restic')\n"
        "row = Row('requests', 'remote', 'for each GB', '', goals)\n"
        "print(table([Line(row, goals[0], 1200, 600), Line(row, goals[1], 1200, None)]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=SCRIPTS, capture_output=True, text=True, check=True)
    shown, asked = ([cell.strip() for cell in line.split("|")[3:-1]] for line in done.stdout.splitlines()[2:])
    assert shown == ["1,200", "restic", "600", "2.00x", "shown", ""]
    assert asked == ["1,200", "restic", "-", "", "<= 2x", "not measured"]


def test_an_unknown_row_is_a_usage_error(tmp_path: Path) -> None:
    command = [sys.executable, SCRIPTS / "bench_run.py", "--workdir", tmp_path, "--only", "nonsense"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no row begins with nonsense" in done.stderr
