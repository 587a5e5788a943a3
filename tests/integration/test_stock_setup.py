"""`git-vault setup` as a person runs it: what shells, man and doctor find then, and what is there after `--undo`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gitvault.cli import completion, main
from gitvault.cli.arguments import command_line
from gitvault.cli.completion import MARK, SHELLS, Command, Option
from gitvault.cli.stock import not_set_up
from gitvault.vault import Vault

pytestmark = [
    pytest.mark.needs("git"),
    pytest.mark.skipif(sys.platform == "win32", reason="of these files there is only PowerShell's"),
]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    (home / ".gitconfig").write_text("[vault]\n\treserve = 0\n")
    return home


def tree(root: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in root.rglob("*")}


def test_setup_twice_and_undone_leaves_the_home_folder_as_it_was(home: Path, command: Run) -> None:
    (home / ".local").mkdir()
    (home / ".local" / "mine").write_text("x")
    before = tree(home)
    done = json.loads(command("setup", "--json").stdout)
    assert "filter.vault.process" in done["changed"]
    assert f"path = {command_line()[0]}\n" in (home / ".gitconfig").read_text()
    assert command("setup").stdout.startswith("all was set up already\n")
    check = next(c for c in json.loads(command("doctor", "--json").stdout)["checks"] if c["name"] == "stock tools")
    assert check["state"] == "ok"
    removed = json.loads(command("setup", "--undo", "--json").stdout)["removed"]
    assert len(removed) == len(done["changed"])
    assert tree(home) == before
    assert command("setup", "--undo").stdout == "nothing was set up\n"
    check = next(c for c in json.loads(command("doctor", "--json").stdout)["checks"] if c["name"] == "stock tools")
    assert (check["state"], check["mend"].split()[-1]) == ("advice", "setup")


def test_a_vault_that_was_named_and_is_not_there_is_told(home: Path, command: Run) -> None:
    before = tree(home)
    done = command("--vault", str(home / "no such"), "setup")
    assert done.returncode == 10
    assert "no such: no vault; make one with" in done.stderr
    assert tree(home) == before


def test_files_of_somebody_else_stay(home: Path, command: Run) -> None:
    theirs = home / ".local" / "share" / "bash-completion" / "completions" / "git-vault"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("# another package's\n")
    done = command("setup")
    assert f"left as it is, not ours: {theirs}" in done.stdout
    assert json.loads(command("setup", "--json").stdout)["in_the_way"] == [str(theirs)]
    command("setup", "--undo")
    assert theirs.read_text() == "# another package's\n"


def test_what_an_older_gitvault_installed_is_brought_up_to_date(home: Path, command: Run, vault: Vault) -> None:
    command("setup")
    page = home / ".local" / "share" / "man" / "man1" / "git-vault.1"
    new = page.read_bytes()
    page.write_bytes(b".TH GIT-VAULT 1 older\n")
    assert not_set_up(vault.path) == [str(page)]
    command("setup")
    assert page.read_bytes() == new


def test_a_broken_git_configuration_is_said_by_doctor(
    home: Path, command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gitvault.errors import ToolFailed
    from gitvault.stock import settings

    def fails(*_: object) -> list[str]:
        raise ToolFailed("git config", 128, "bad config line 1")

    monkeypatch.setattr(settings, "missing", fails)
    done = command("doctor", "--json")
    check = next(c for c in json.loads(done.stdout)["checks"] if c["name"] == "stock tools")
    assert (check["state"], "bad config line 1" in check["found"]) == ("wrong", True)


@pytest.mark.needs("man")
def test_git_help_finds_the_page(home: Path, command: Run) -> None:
    command("setup")
    (home / ".local" / "bin").mkdir()
    path = f"{home / '.local' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    found = subprocess.run(["man", "-w", "git-vault"], env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert found.stdout.strip() == str(home / ".local" / "share" / "man" / "man1" / "git-vault.1")


def words_of(shell: str, script: Path, line: str) -> list[str]:
    """What a shell offers for a line, by the file that setup wrote."""
    if shell == "fish":
        code = f"source {script}; complete -C {line!r}"
        said = subprocess.run(["fish", "-N", "-c", code], capture_output=True, text=True, check=True).stdout
        return [row.split("\t")[0] for row in said.splitlines()]
    function = "_git_vault" if line.startswith("git ") else "_git_vault_alone"
    words = " ".join(f"'{word}'" for word in line.split(" "))
    code = f". {script}; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}}-1)); {function}; "
    code += 'printf "%s\\n" "${COMPREPLY[@]}"'
    return subprocess.run(["bash", "--norc", "-c", code], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize("shell", [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("bash", "fish")])
def test_shells_complete_verbs_options_and_choices(home: Path, shell: str, command: Run) -> None:
    command("setup")
    (script,) = (p for p in (home / ".local" / "share").rglob("git-vault*") if shell in str(p))
    assert words_of(shell, script, "git-vault sna") == ["snapshot"]
    assert {"init", "restore"} <= set(words_of(shell, script, "git-vault "))
    # fish 4 also offers what has the letters in this order.
    assert words_of(shell, script, "git-vault snapshot --al")[0] == "--all"
    assert words_of(shell, script, "git-vault milestone cr") == ["create"]
    assert words_of(shell, script, "git-vault --vault snapshot hydr") == ["hydrate"]
    if shell == "bash":
        assert words_of(shell, script, "git vault hydr") == ["hydrate"]
        assert words_of(shell, script, "git-vault restore --to ") == []


@pytest.mark.needs("zsh")
def test_zsh_reads_its_completion(home: Path, command: Run) -> None:
    """That it completes was tried by hand: without a terminal zsh does not."""
    command("setup")
    folder = home / ".local" / "share" / "zsh" / "site-functions"
    code = "autoload -Uz compinit; compinit -u -D; autoload -Uz +X _git-vault; print $_comps[git-vault]"
    done = subprocess.run(
        ["zsh", "-fc", f"fpath=({folder} $fpath); {code}"], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("_git-vault\n", "")
    text = (folder / "_git-vault").read_text()
    assert "'*--all[" in text
    assert "    milestone) _arguments" in text


def assert_powershell(script: str) -> None:
    """It is a program by PowerShell's grammar; the shell itself is to be had neither from Debian nor from PyPI."""
    import tree_sitter
    import tree_sitter_powershell

    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language()))
    assert not parser.parse(script.encode()).root_node.has_error
    assert parser.parse(script.replace("}", "", 1).encode()).root_node.has_error


def test_every_verb_is_in_every_completion() -> None:
    verbs = [verb for name in main.VERBS if (verb := main.builtin_verb(name))]
    commands = [completion.command(verb.name, verb.summary, main.verb_parser(verb)) for verb in verbs]
    assert isinstance(commands[0], Command)
    common = completion.command("", "", main.main_parser()).options
    assert {option.names[0] for option in common if option.takes_value} == {"--vault"}
    for name, write in SHELLS.items():
        text = write(commands, common)
        assert MARK in text.split("\n", 2)[0] + text.split("\n", 2)[1], name
        for verb in verbs:
            assert verb.name in text, (name, verb.name)
    assert_powershell(SHELLS["powershell"](commands, common))


@pytest.mark.parametrize("shell", SHELLS)
def test_quotes_and_brackets_of_a_help_text_stay_text(shell: str, tmp_path: Path) -> None:
    option = Option(("--it's", "-x"), 'it\'s [a] $(touch x) `touch x` \\ "b"', True, ("one", "two"))
    text = SHELLS[shell]([Command("verb", "it's $(touch x)", (option,), ("a", "b"))], [Option(("--vault",), "v", True)])
    script = tmp_path / "script"
    script.write_text(text)
    for program, words in (("bash", ["-n"]), ("zsh", ["-n"]), ("fish", ["-n"])):
        if program == shell and subprocess.run(["which", program], capture_output=True).returncode == 0:
            done = subprocess.run([program, *words, script], cwd=tmp_path, capture_output=True, text=True)
            assert (done.returncode, done.stderr) == (0, "")
    if shell == "powershell":
        assert "'--it''s'" in text
        assert_powershell(text)
    assert not (tmp_path / "x").exists()
