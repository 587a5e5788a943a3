"""The command `git-vault`: finds the verb, runs it, prints its answer, turns errors into one line and a code.

Start-up is part of the product (`git vault status` answers in under 150 ms): a verb's module is imported when
that verb is run, and packages are asked for verbs only when the word is not one of ours.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from gitvault.cli import render
from gitvault.cli.arguments import filled
from gitvault.errors import ConfigError, GitVaultError, NotFoundError, StorageFullError, VaultNotFound

if TYPE_CHECKING:
    from gitvault.cli.progress import Bar
    from gitvault.personas.base import Answer, Verb
    from gitvault.vault import Vault

VERBS = {
    "init": "save",
    "add": "save",
    "projects": "projects",
    "snapshot": "save",
    "status": "save",
    "vcs": "vcs",
    "log": "history",
    "show": "history",
    "ls": "history",
    "cat": "history",
    "diff": "history",
    "restore": "restore",
    "verify": "care",
    "stats": "care",
    "sweep": "space",
    "maintain": "care",
    "prune": "retain",
    "forget": "retain",
    "op": "retain",
    "copy": "copy",
    "remote": "remote",
    "push": "remote",
    "fetch": "remote",
    "clone": "remote",
    "import": "moving",
    "export": "moving",
    "policy": "policy",
    "doctor": "doctor",
    "search": "search",
    "refs": "refs",
    "watch": "activity",
    "service": "activity",
    "hook": "activity",
    "workspace": "workspace",
    "milestone": "milestone",
    "playtest": "playtest",
    "feedback": "feedback",
    "game": "insight",
    "deploy": "deploy",
    "build-id": "deploy",
    "platform": "platform",
    "assets": "assets",
    "elements": "elements",
    "timeline": "timeline",
    "setup": "stock",
    "hydrate": "stock",
}
"""Each verb with the module of `gitvault.cli` whose `VERBS` has it."""

PLUMBING = ("filter-process", "lfs-agent", "textconv")
"""What git and git-lfs call, see `plumbing`: none of what people need is loaded."""

PROBLEMS = 1
USAGE = 129
INTERRUPTED = 130
BROKEN_PIPE = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    _open_closed_streams()
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in _split(words)[0]
    try:
        code = _plumbing(words) if words[:1] and words[0] in PLUMBING else _run(words)
        sys.stdout.flush()
        return code
    except SystemExit as stop:
        return int(stop.code or 0)
    except KeyboardInterrupt:
        render.say("interrupted; what was saved before is safe")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader left, as `head` does. Nothing may be flushed into the pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except GitVaultError as error:
        _traceback(debug)
        render.say(str(error))
        return error.exit_code
    except OSError as error:
        _traceback(debug)
        from gitvault.core.utils.files import is_full

        full = is_full(error)
        render.say(render.error_text(error) + ("; free some space and run again" if full else ""))
        return StorageFullError.exit_code if full else GitVaultError.exit_code
    except Exception as error:  # a bug; people get a line, whoever mends it gets the traceback
        _traceback(debug)
        render.say(f"internal error: {type(error).__name__}: {error}; run again with --debug and report what it prints")
        return GitVaultError.exit_code


def _plumbing(words: list[str]) -> int:
    from gitvault.cli import plumbing

    return plumbing.run(words)


def _open_closed_streams() -> None:
    """What the caller closed (`>&-`) leads nowhere, as git does it, lest a file of the vault gets its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


class Session:
    """What one run of the command works with; satisfies `gitvault.personas.base.Session`."""

    def __init__(self, vault: str | None, *, creates: bool, quiet: bool) -> None:
        self._given = vault
        self._creates = creates
        self._quiet = quiet
        self._held = ExitStack()

    @cached_property
    def vault_path(self) -> Path:
        """`--vault`, else GIT_VAULT_DIR, else the default vault."""
        from gitvault.personas.base import chosen_vault

        return chosen_vault(self._given)

    @cached_property
    def vault(self) -> Vault:
        """The vault, opened; the default one is made on the first run of a verb that saves."""
        if not self.vault_path.exists() and (self._given or os.environ.get("GIT_VAULT_DIR")):
            raise VaultNotFound(f"{self.vault_path}: no vault; make one with: {self.command} init")
        if not self.vault_path.exists() and not self._creates:
            raise VaultNotFound(f"{self.vault_path}: no vault yet; make it with: git vault snapshot PATH")
        from gitvault.vault import Vault

        if self.vault_path.exists():
            vault = Vault.open(self.vault_path, waiting=render.say)
            if vault.config.inspects:
                from gitvault.cli.remote import inspecting

                self._held.enter_context(inspecting(vault))
            return vault
        render.say(f"making the default vault {self.vault_path}")
        return Vault.create(self.vault_path, waiting=render.say)

    @property
    def command(self) -> str:
        """`git vault`, or the script that started this, with `--vault DIR` when it was given."""
        return self.command_for(None)

    def command_for(self, vault: str | None) -> str:
        """`command`, for another vault when there is one."""
        typed = os.environ.get("GIT_VAULT_COMMAND", "git vault")
        vault = vault or self._given
        if not vault:
            return typed
        import shlex

        return f"{typed} --vault {shlex.quote(vault)}"

    @cached_property
    def progress(self) -> Bar:
        """The progress bar."""
        from gitvault.cli.progress import Bar

        return Bar(self._quiet)

    def end_progress(self) -> None:
        """Take the progress bar off the screen."""
        if "progress" in self.__dict__:
            self.progress.close()

    def close(self) -> None:
        """End the progress, close the vault."""
        self.end_progress()
        self._held.close()
        if "vault" in self.__dict__:
            self.vault.close()


_Formatter = argparse.RawDescriptionHelpFormatter
# Before each word behind `--`: argparse forgets in between that those are no options. No word can hold a NUL.
_OPERAND = "\0"
_TURNED = re.compile("-(?:name|client|stack|phase|tag|path|host|mode|related|archived):")


class _Parser(argparse.ArgumentParser):
    """argparse with one line for an error, git's code for wrong usage, and `--` that ends the options."""

    def __init__(self, **options: Any) -> None:
        # argparse makes a formatter for every argument that is added. One that is told no width imports shutil
        # to ask the terminal: 3 ms of every start.
        super().__init__(formatter_class=partial(_Formatter, width=80), allow_abbrev=False, **options)

    def format_help(self) -> str:
        self.formatter_class = _Formatter
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        render.say(f"{message.replace(_OPERAND, '')}; see: {self.prog} -h")
        raise SystemExit(USAGE)

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        # Else argparse calls words required of which there may be none.
        if options.get("nargs") == "*":
            options.setdefault("default", [])
        return super().add_argument(*names, **options)

    def _parse_optional(self, arg_string: str) -> Any:
        # `-tag:old` of a selection; no option of ours is like that.
        return None if _TURNED.match(arg_string) else super()._parse_optional(arg_string)

    def _get_value(self, action: argparse.Action, arg_string: str) -> object:
        return super()._get_value(action, arg_string.removeprefix(_OPERAND))


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """The words before the first `--`, and from there on."""
    end = words.index("--") if "--" in words else len(words)
    return words[:end], words[end:]


def _run(words: list[str]) -> int:
    words, operands = _split(words)
    verb, rest, common = _find_verb(words)
    parser = verb_parser(verb)
    rest += operands[:1] + [_OPERAND + word for word in operands[1:]]
    arguments = parser.parse_intermixed_args(rest, common)
    try:
        os.getcwd()
    except FileNotFoundError:
        raise NotFoundError("the folder you are in is gone; change to one that exists") from None
    session = Session(arguments.vault, creates=verb.creates, quiet=arguments.quiet)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        answer = verb.run(session, arguments)
        session.end_progress()
        _print(answer, json=arguments.json, quiet=arguments.quiet)
        for line in render.problems_lines(answer.problems):
            render.say(line.strip())
    except argparse.ArgumentError as error:
        parser.error(str(error))
    finally:
        session.close()
    return answer.code or (PROBLEMS if answer.problems else 0)


def verb_parser(verb: Verb) -> argparse.ArgumentParser:
    """The parser of one verb's arguments."""
    parser = _Parser(
        prog=f"git-vault {verb.name}",
        description=f"{verb.summary[0].upper()}{verb.summary[1:]}.",
        epilog="example:\n" + "\n".join(f"  {line}" for line in verb.example.splitlines()),
    )
    verb.configure(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    _add_common(parser)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    # Without a default of its own the verb's parser leaves alone what was said before the verb.
    none = argparse.SUPPRESS
    where = "the vault, else GIT_VAULT_DIR, else the default"
    parser.add_argument("--vault", metavar="DIR", type=filled(str), default=none, help=where)
    parser.add_argument("-q", "--quiet", action="store_true", default=none, help="no progress, no hints")
    parser.add_argument("--debug", action="store_true", default=none, help="show tracebacks")


def main_parser() -> argparse.ArgumentParser:
    """The parser of what stands before the verb."""
    parser = _Parser(
        prog="git-vault",
        description="Snapshots of projects as real git, large files in a chunk store beside it.",
        usage="git-vault [--vault DIR] [-q] [--debug] VERB ...",
        epilog="git-vault VERB -h tells about one verb. All print JSON with --json.",
        add_help=False,
    )
    parser.set_defaults(vault=None, quiet=False, debug=False)
    _add_common(parser)
    parser.add_argument("-h", "--help", action="store_true", help="show this and exit")
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    parser.add_argument("verb", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _find_verb(words: list[str]) -> tuple[Verb, list[str], argparse.Namespace]:
    """The verb, the words behind it, and what was said before it."""
    parser = main_parser()
    options = parser.parse_args(words)
    if options.version:
        print(f"git-vault {_version()}")
        raise SystemExit(0)
    if options.help or options.verb is None:
        parser.epilog = f"{_verb_list()}\n\n{parser.epilog}"
        parser.print_help(sys.stdout if options.help else sys.stderr)
        raise SystemExit(0 if options.help else USAGE)
    verb = builtin_verb(options.verb) or _plugin_verbs().get(options.verb)
    if verb is None:
        import difflib

        near = difflib.get_close_matches(options.verb, VERBS, n=1)
        parser.error(f"no verb {options.verb!r}" + (f"; did you mean {near[0]}?" if near else ""))
    common = argparse.Namespace(vault=options.vault, quiet=options.quiet, debug=options.debug)
    return verb, options.rest, common


def builtin_verb(name: str) -> Verb | None:
    """The verb of that name that comes with gitvault."""
    if name not in VERBS:
        return None
    verbs: tuple[Verb, ...] = import_module(f"gitvault.cli.{VERBS[name]}").VERBS
    return next(verb for verb in verbs if verb.name == name)


def _plugin_verbs() -> dict[str, Verb]:
    from gitvault.personas.base import personas

    found: dict[str, Verb] = {}
    for persona in personas():
        for verb in persona.verbs:
            if verb.name in VERBS or verb.name in found:
                raise ConfigError(f"persona {persona.name}: its verb {verb.name} is taken; uninstall its package")
            found[verb.name] = verb
    return found


def _verb_list() -> str:
    verbs = [verb for name in VERBS if (verb := builtin_verb(name))]
    try:
        verbs += _plugin_verbs().values()
    except ConfigError as error:
        render.say(str(error))
    width = max(len(verb.name) for verb in verbs)
    return "verbs:\n" + "\n".join(f"  {verb.name:{width}}  {verb.summary}" for verb in verbs)


def _print(answer: Answer, *, json: bool, quiet: bool) -> None:
    if json:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", newline="\n")
        if callable(answer.document):
            answer.document(sys.stdout)
            return
        print(render.json_text(answer.document, indent=2 if sys.stdout.isatty() else None))
        return
    for line in answer.lines:
        print(line)
    if not quiet:
        for number, hint in enumerate(answer.hints):
            print(f"{'      ' if number else 'next: '}{hint}")


def _traceback(wanted: bool) -> None:
    if wanted:
        import traceback

        traceback.print_exc()


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("gitvault")
    except PackageNotFoundError:
        return "(not installed)"
