"""The verb that tells what is wrong with this machine, this installation and this vault, and how to mend it."""

from __future__ import annotations

import os
import re
import shutil
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from gitvault import config, plugins
from gitvault.cli import render
from gitvault.core.utils import process
from gitvault.core.utils.layout import LOCK, open_to_others
from gitvault.errors import GitVaultError, ToolError
from gitvault.formats import format_plugin
from gitvault.personas.base import Answer, Session, Verb, persona_plugin

WRONG = 1
OLDEST_GIT = (2, 30)
LEAST_FREE = 1 << 30
_LIBRARIES = (
    "deflate",
    "dulwich",
    "isal",
    "msgpack",
    "pathspec",
    "platformdirs",
    "pyfastcdc",
    "pygit2",
    "rich",
    "zstandard",
    # Of the standard library since.
    *(["backports.zstd"] if sys.version_info < (3, 14) else []),
)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: str
    """`ok`, `advice` (works, could be better) or `wrong`."""
    found: str
    mend: str = ""
    """What to do about it; empty when it is ok."""


def _doctor(session: Session, arguments: Namespace) -> Answer:
    checks = [*_programs(), *_libraries(), *_vault(session), *_stock_tools(session), *_plugins()]
    wrong = any(check.state == "wrong" for check in checks)
    return Answer(
        {
            "ok": not wrong,
            "checks": [asdict(check) for check in checks],
            "plugins": [
                {"group": plugin.group, "name": plugin.name, "distribution": plugin.distribution}
                for plugin in _installed()
            ],
        },
        _lines(checks),
        code=WRONG if wrong else 0,
    )


def _lines(checks: list[Check]) -> Iterator[str]:
    width = max(len(check.name) for check in checks)
    for check in checks:
        yield f"{check.state:6}  {check.name:{width}}  {render.line(check.found)}"
        if check.mend:
            yield f"{'':6}  {'':{width}}  -> {render.line(check.mend)}"


def _programs() -> Iterator[Check]:
    found = ".".join(map(str, sys.version_info[:3]))
    yield Check("python", "ok", f"{found} ({sys.executable})")
    try:
        text = process.run(["git", "--version"]).decode().strip()
    except ToolError as error:
        yield Check("git", "wrong", str(error), "install git 2.30 or newer")
    else:
        numbers = tuple(map(int, re.findall(r"\d+", text)[:2]))
        old = numbers < OLDEST_GIT
        yield Check("git", "wrong" if old else "ok", text, "install git 2.30 or newer" if old else "")
    for name, use in (("git-lfs", "clones of a vault get large files with it"), ("zstd", "rescue.sh needs it")):
        path = shutil.which(name)
        if path:
            yield Check(name, "ok", path)
        else:
            yield Check(name, "advice", "not found", f"install {name}: {use}")


def _libraries() -> Iterator[Check]:
    from importlib.metadata import PackageNotFoundError, version

    yield Check("gitvault", "ok", f"{_version()} ({Path(__file__).parent.parent})")
    for name in _LIBRARIES:
        try:
            yield Check(name, "ok", version(name))
        except PackageNotFoundError:
            yield Check(name, "wrong", "not installed", f"pip install {name}")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("gitvault")
    except PackageNotFoundError:
        return "not installed, run from its folder"


def _vault(session: Session) -> Iterator[Check]:
    path = session.vault_path
    if not path.exists():
        yield Check("vault", "advice", f"{path}: not there yet", f"{session.command} init")
        return
    try:
        vault = session.vault
    except (GitVaultError, OSError) as error:
        yield Check("vault", "wrong", str(error), f"{session.command} init makes one; an error in a setting: mend it")
        return
    yield Check("vault", "ok", f"{path}, format {vault.config.format_version}, settings valid")
    if os.access(path, os.W_OK):
        yield Check("writable", "ok", "yes")
    else:
        yield Check("writable", "wrong", "no permission to write", f"chown -R or chmod -R u+w {path}")
    if sys.platform != "win32":
        shared = open_to_others(path)
        found = ", ".join(f"{at} is {at.stat().st_mode & 0o777:04o}" for at in shared[:3])
        yield Check(
            "private",
            "advice" if shared else "ok",
            found or "yes",
            f"chmod -R go= {path}: others on this machine can read what you saved" if shared else "",
        )
    gc = process.git(path, "config", "--get", "gc.auto", ok=(0, 1)).decode().strip()
    if gc == "0":
        yield Check("gc.auto", "ok", "0")
    else:
        yield Check("gc.auto", "wrong", gc or "not set", f"git --git-dir={path} config gc.auto 0")
    free = shutil.disk_usage(path).free
    low = free < LEAST_FREE
    yield Check("space", "wrong" if low else "ok", f"{render.size(free)} free", "free some space" if low else "")
    yield from _locks(path)


def _locks(vault: Path) -> Iterator[Check]:
    from gitvault.core.utils.lock import VaultLock

    yield Check("writer", "ok", VaultLock.holder(vault / LOCK) or "nobody writes at present")
    places = [vault / f"{name}.lock" for name in ("HEAD", "config", "packed-refs")]
    left = [lock for lock in (*places, *sorted((vault / "refs").rglob("*.lock"))) if lock.exists()]
    if not left:
        yield Check("locks", "ok", "none left behind")
    for lock in left:
        mend = "when no git is running, delete it" if lock.name == "config.lock" else "the next snapshot removes it"
        yield Check("locks", "advice", f"{lock}", mend)


def _stock_tools(session: Session) -> Iterator[Check]:
    from gitvault.cli.stock import not_set_up

    try:
        missing = not_set_up(session.vault_path)
    except ToolError as error:
        yield Check("stock tools", "wrong", str(error), "mend your git configuration")
        return
    if not missing:
        yield Check("stock tools", "ok", "git, git-lfs and shells know of the vault")
        return
    found = f"git and git-lfs lack {missing[0]}" + (f" and {len(missing) - 1} more" if missing[1:] else "")
    yield Check("stock tools", "advice", found, f"{session.command} setup")


_LOADERS: dict[str, Callable[[plugins.Plugin], object]] = {
    plugins.CHUNKING: config.chunking_plugin,
    plugins.FORMATS: format_plugin,
    plugins.PERSONAS: persona_plugin,
}


def _installed() -> Iterator[plugins.Plugin]:
    for group in _LOADERS:
        yield from plugins.installed(group)


def _plugins() -> Iterator[Check]:
    for plugin in _installed():
        try:
            _LOADERS[plugin.group](plugin)
        except GitVaultError as error:
            yield Check("plug-in", "wrong", str(error), plugin.mend)
        else:
            yield Check("plug-in", "ok", str(plugin))


VERBS = (
    Verb(
        "doctor",
        "tell what is wrong here and how to mend it",
        "git-vault doctor --json",
        lambda parser: None,
        _doctor,
    ),
)
