"""Completion for shells, made from the parsers of the verbs."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

MARK = "git-vault completion, written by git-vault setup"
"""In the first lines of each file: what `setup --undo` may remove."""


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a verb."""

    names: tuple[str, ...]
    help: str
    takes_value: bool
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """A verb."""

    name: str
    summary: str
    options: tuple[Option, ...]
    choices: tuple[str, ...]
    """What its first word may be, where that is not a path or a name."""


def command(name: str, summary: str, parser: argparse.ArgumentParser) -> Command:
    """What a parser takes."""
    # argparse has no other way to ask.
    actions = parser._actions
    options = [_option(action) for action in actions if action.option_strings]
    choices = next((action.choices for action in actions if not action.option_strings), None)
    return Command(name, summary, tuple(options), tuple(map(str, choices or ())))


def _option(action: argparse.Action) -> Option:
    text = " ".join((action.help or "").split()) % {"default": action.default}
    choices = tuple(map(str, action.choices or ()))
    return Option(tuple(action.option_strings), text, action.nargs != 0, choices)


def bash(commands: Sequence[Command], common: Sequence[Option]) -> str:
    """For bash-completion's folder, where both `git-vault` and git's own completion look."""
    cases = "\n".join(f"    {c.name}) words={shlex.quote(' '.join(_words(c)))} ;;" for c in commands)
    valued = "|".join(name for option in common if option.takes_value for name in option.names)
    values = "\n".join(
        f"    {shlex.quote(f'{c.name} {name}')}) words={shlex.quote(' '.join(option.choices))} ;;"
        for c in commands
        for option in c.options
        if option.takes_value
        for name in option.names
    )
    top = " ".join([*(c.name for c in commands), *(name for option in common for name in option.names)])
    return f"""\
# {MARK}
_git_vault_from() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} verb= words= i
  for ((i = $1; i < COMP_CWORD; i++)); do
    case ${{COMP_WORDS[i]}} in
    {valued}) ((i++)) ;;
    -*) ;;
    *) verb=${{COMP_WORDS[i]}}; break ;;
    esac
  done
  case $verb in
    '') words={shlex.quote(top)} ;;
{cases}
  esac
  # Behind an option that takes a value: its choices, or nothing, and bash goes on with files.
  case "$verb $prev" in
{values}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}}
_git_vault() {{
  local at
  for ((at = 1; at < COMP_CWORD; at++)); do [[ ${{COMP_WORDS[at]}} = vault ]] && break; done
  _git_vault_from $((at + 1))
}}
_git_vault_alone() {{ _git_vault_from 1; }}
complete -o bashdefault -o default -F _git_vault_alone git-vault
"""


def zsh(commands: Sequence[Command], common: Sequence[Option]) -> str:
    """For a folder of `$fpath`, under the name `_git-vault`: zsh's completion of git asks it for `git vault` too."""
    verbs = "\n".join(f"    {_zsh_quoted(f'{c.name}:{c.summary}')}" for c in commands)
    cases = "\n".join(
        f"    {c.name}) _arguments -s {' '.join(map(_zsh_option, c.options))} {_zsh_rest(c)} ;;" for c in commands
    )
    return f"""\
#compdef git-vault
# {MARK}
local curcontext=$curcontext state line
local -a verbs
_arguments -C {" ".join(map(_zsh_option, common))} '1:verb:->verb' '*::argument:->argument' && return
case $state in
verb)
  verbs=(
{verbs}
  )
  _describe -t commands verb verbs ;;
argument)
  case $words[1] in
{cases}
  esac ;;
esac
"""


def fish(commands: Sequence[Command], common: Sequence[Option]) -> str:
    """For fish's folder of completions."""
    valued = " ".join(_fish_quoted(name) for option in common if option.takes_value for name in option.names)
    none = "'not __git_vault_verb >/dev/null'"
    lines = [
        f"# {MARK}",
        "function __git_vault_verb",
        "  set -l words (commandline -opc)[2..]",
        "  while set -q words[1]",
        f"    if contains -- $words[1] {valued}",
        "      set -e words[1]",
        "    else if not string match -q -- '-*' $words[1]",
        "      echo $words[1]",
        "      return",
        "    end",
        "    set -e words[1]",
        "  end",
        "  return 1",
        "end",
    ]
    lines += [_fish_option(none, option) for option in common]
    for c in commands:
        told = f"-a {c.name} -d {_fish_quoted(c.summary)}"
        lines.append(f"complete -c git-vault -n {none} -f {told}")
        condition = f"'test (__git_vault_verb; or echo) = {c.name}'"
        if c.choices:
            lines.append(f"complete -c git-vault -n {condition} -a {_fish_quoted(' '.join(c.choices))}")
        lines += [_fish_option(condition, option) for option in c.options]
    return "\n".join(lines) + "\n"


def powershell(commands: Sequence[Command], common: Sequence[Option]) -> str:
    """For a profile of PowerShell to load."""
    rows = "\n".join(f"    {_ps_quoted(c.name)} = @({', '.join(map(_ps_quoted, _words(c)))})" for c in commands)
    options = ", ".join(_ps_quoted(name) for option in common for name in option.names)
    valued = ", ".join(_ps_quoted(name) for option in common if option.takes_value for name in option.names)
    return f"""\
# {MARK}
Register-ArgumentCompleter -Native -CommandName git-vault -ScriptBlock {{
  param($wordToComplete, $commandAst, $cursorPosition)
  $verbs = [ordered]@{{
{rows}
  }}
  $given = @($commandAst.CommandElements | Select-Object -Skip 1 |
    Where-Object {{ $_.Extent.EndOffset -lt $cursorPosition }} | ForEach-Object {{ $_.ToString() }})
  $verb = $null
  for ($i = 0; $i -lt $given.Count; $i++) {{
    if (@({valued}) -contains $given[$i]) {{ $i++; continue }}
    if (-not $given[$i].StartsWith('-')) {{ $verb = $given[$i]; break }}
  }}
  $words = if ($verb) {{ $verbs[$verb] }} else {{ @($verbs.Keys) + @({options}) }}
  $words | Where-Object {{ $_ -like "$wordToComplete*" }} | ForEach-Object {{
    [System.Management.Automation.CompletionResult]::new($_, $_, 'ParameterValue', $_)
  }}
}}
"""


SHELLS: Mapping[str, Callable[[Sequence[Command], Sequence[Option]], str]] = {
    "bash": bash,
    "zsh": zsh,
    "fish": fish,
    "powershell": powershell,
}
"""Each shell with what writes its completion."""


def _words(command: Command) -> Iterable[str]:
    return (*command.choices, *(name for option in command.options for name in option.names))


def _zsh_quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _zsh_option(option: Option) -> str:
    text = "".join(f"\\{c}" if c in "[]:\\" else c for c in option.help)
    value = ""
    if option.takes_value:
        value = f":value:({' '.join(option.choices)})" if option.choices else ":value:_files"
    return " ".join(_zsh_quoted(f"*{name}[{text}]{value}") for name in option.names)


def _zsh_rest(command: Command) -> str:
    first = f"'1:what:({' '.join(command.choices)})' " if command.choices else ""
    return f"{first}'*:file:_files'"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _fish_option(condition: str, option: Option) -> str:
    names = [("-l " if name.startswith("--") else "-s ") + _fish_quoted(name.lstrip("-")) for name in option.names]
    value = f" -r -f -a {_fish_quoted(' '.join(option.choices))}" if option.choices else " -r" * option.takes_value
    return f"complete -c git-vault -n {condition} {' '.join(names)}{value} -d {_fish_quoted(option.help)}"


def _ps_quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
