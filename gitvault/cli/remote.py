"""Verbs for vaults elsewhere: remote, push, fetch, clone."""

from __future__ import annotations

import os
import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.cli import render
from gitvault.cli.arguments import count, disk_path, filled, names, wrong
from gitvault.cli.care import share, verify_document, verify_lines
from gitvault.errors import ConfigError, CorruptionError, GitVaultError, LockedError, NotFoundError
from gitvault.personas.base import Answer, Session, Verb

if TYPE_CHECKING:
    from gitvault.remotes.fetch import FetchReport
    from gitvault.remotes.push import PushReport
    from gitvault.remotes.remote import Remote
    from gitvault.remotes.settings import Settings
    from gitvault.vault import Vault


def _configure(parser: ArgumentParser) -> None:
    actions = "add NAME URL | list | remove NAME | verify NAME | prune NAME"
    parser.add_argument("action", choices=_ACTIONS, metavar="ACTION", help=actions)
    parser.add_argument("words", metavar="NAME", type=filled(str), nargs="*", help="a remote's name; add: and its URL")
    readers = "add: encrypt, so that this public key's owner can read it (age1... or ssh-...); repeatable"
    parser.add_argument("--encrypt", metavar="RECIPIENT", type=filled(str), action="append", default=[], help=readers)
    opening = "the file with the secret key; add: without one this machine only pushes"
    parser.add_argument("--identity", metavar="FILE", type=filled(disk_path), help=opening)
    locking = (
        "add: of s3://, with the owner's credentials: the server lets nobody remove or change what comes for so long"
    )
    parser.add_argument("--retain", metavar="30d", type=filled(str), help=locking)
    parser.add_argument("--auto", action="store_true", help="add: push after each snapshot, in the background")
    parser.add_argument("--rate", metavar="R", type=filled(str), help="add: bytes a second at most, such as 500k or 2m")
    parser.add_argument("--chunks", metavar="NAME", type=filled(str), help="add: of a git URL, where large files go")
    what_junk = "prune: also where a record is damaged, without what it named"
    parser.add_argument("--junk", action="store_true", help=what_junk)
    parser.add_argument("--yes", action="store_true", help="prune: remove; without it only say what would go")
    what = "prune: days by the server's clock that an object is kept when nothing needs it any more"
    parser.add_argument("--grace", metavar="DAYS", type=count, default=7, help=what)
    parser.add_argument("--data", action="store_true", help="verify: read every byte too")
    parser.add_argument("--share", metavar="1/N", type=share, help="verify: read the part of N whose turn it is")


def _run(session: Session, arguments: Namespace) -> Answer:
    wanted = {"add": 2, "list": 0}.get(arguments.action, 1)
    if len(arguments.words) != wanted:
        raise wrong(f"remote {arguments.action}: expected {render.plural(wanted, 'word')}")
    return _ACTIONS[arguments.action](session, arguments)


def _git_reaches(url: str) -> bool:
    """Whether git knows what to do with SCHEME://..., itself or by a helper that is installed."""
    import shutil

    head = url.partition("://")[0]
    own = ("ssh", "git", "http", "https", "ftp", "ftps", "git+ssh", "ssh+git", "git+file", "git+http", "git+https")
    return head in own or "::" in head or shutil.which(f"git-remote-{head}") is not None


def _add(session: Session, arguments: Namespace) -> Answer:
    from gitvault.remotes import settings
    from gitvault.remotes.opening import open_remote
    from gitvault.remotes.places import checked, folder_of, retain, scheme_of

    name, url = arguments.words
    scheme = scheme_of(url)
    if scheme == "folder":
        url = os.fspath(folder_of(url))
    elif "://" in url:
        checked(url)
        if scheme == "git" and not _git_reaches(url):
            head = render.line(url.partition("://")[0])
            raise ConfigError(f"{head}://: expected s3://, gs://, az://, sftp://, a folder, or a URL of git")
    if arguments.chunks and scheme != "git":
        raise wrong("--chunks goes with a URL of git")
    if scheme == "git" and (arguments.encrypt or arguments.identity or arguments.retain):
        raise wrong("--encrypt, --identity and --retain go with places for objects: a host of git reads what it gets")
    values: dict[str, str | tuple[str, ...]] = {"url": url}
    values |= {"auto": "true"} if arguments.auto else {}
    values |= {key: value for key in ("rate", "chunks", "retain") if (value := getattr(arguments, key))}
    values |= {"encrypt": tuple(arguments.encrypt)} if arguments.encrypt else {}
    values |= {"identity": os.path.abspath(arguments.identity)} if arguments.identity else {}
    vault = session.vault
    settings.add(vault.path, name, values, disk=vault.disk)
    if scheme == "git":
        large = f"large files go to {arguments.chunks}" if arguments.chunks else "large files go nowhere"
        said = [f"{name}: {render.line(url)}, for snapshots, attributes and records; {large}"]
        return Answer({"name": name, "url": url, "vault": None}, said, [f"{session.command} push {name}"])
    try:
        with open_remote(settings.get(vault.path, name), os.environ, vault=vault.path, disk=vault.disk) as remote:
            there = remote.vault_id()
            remote.expect(there, vault.config.id)
        if arguments.retain:
            retain(url, os.environ, arguments.retain)
    except BaseException:
        settings.remove(vault.path, name, disk=vault.disk)
        raise
    return Answer(
        {"name": name, "url": url, "vault": there or None, "encrypted": bool(remote.learned)},
        [f"{name}: {render.line(url)}{', with this vault in it' if there else ''}"],
        [f"{session.command} push {name}"],
    )


def _list(session: Session, arguments: Namespace) -> Answer:
    from gitvault.remotes import settings
    from gitvault.vault import waiting

    known = settings.load(session.vault.path).values()
    last = {told.name: waiting.last(session.vault.path, told.name) for told in known}
    rows = [("name", "url", "pushed", "")] + [
        (told.name, render.line(told.url), last[told.name].pushed or "never", render.line(last[told.name].said))
        for told in known
    ]
    return Answer(
        [
            {
                "name": told.name,
                "url": told.url,
                "auto": told.auto,
                "rate": told.rate,
                "pushed": last[told.name].pushed or None,
                "waiting": last[told.name].said or None,
            }
            for told in known
        ],
        render.table(rows) if known else ["no remotes"],
        [] if known else [f"{session.command} remote add NAME URL"],
    )


def _remove(session: Session, arguments: Namespace) -> Answer:
    from gitvault.remotes import settings

    [name] = arguments.words
    settings.remove(session.vault.path, name, disk=session.vault.disk)
    return Answer({"name": name}, [f"{name} is forgotten here; what is there stays"])


def _verify(session: Session, arguments: Namespace) -> Answer:
    from gitvault.remotes.verify import verify

    with opened(session, arguments.words[0], arguments.identity) as (told, remote):
        data = arguments.data or arguments.share is not None
        turn = session.vault.now().toordinal()
        report = verify(remote, told, data=data, share=arguments.share, turn=turn, progress=session.progress)
    return Answer(
        verify_document(report),
        verify_lines(report, (), data),
        [] if report.ok else [f"{session.command} push {told.name}   # brings again what is damaged there"],
        0 if report.ok else CorruptionError.exit_code,
    )


def _prune(session: Session, arguments: Namespace) -> Answer:
    from gitvault.remotes.prune import prune

    with opened(session, arguments.words[0], arguments.identity) as (told, remote):
        grace = arguments.grace * 86_400
        report = prune(
            session.vault,
            remote,
            told,
            grace=grace,
            yes=arguments.yes,
            junk=arguments.junk,
            progress=session.progress,
        )
    done = "removed" if arguments.yes else "would be removed"
    lines = [
        f"{render.plural(report.deleted, 'object')}, {render.size(report.bytes)}, {done}; {report.kept:,} kept",
        f"{render.plural(report.condemned, 'pack')} that nothing needs, to be removed in {arguments.grace} days",
    ]
    return Answer(
        {
            "deleted": report.deleted,
            "bytes": report.bytes,
            "condemned": report.condemned,
            "kept": report.kept,
            "junk": list(report.junk),
            "hidden": list(report.hidden),
        },
        [
            *(lines if report.condemned else lines[:1]),
            *(f"damaged, what came before it stays; without it: --junk: {name}" for name in report.junk),
            *(f"no newer record leads to what this one names, it stays: {name}" for name in report.hidden),
        ],
        [] if arguments.yes else [f"{session.command} remote prune {told.name} --yes"],
    )


def _configure_push(parser: ArgumentParser) -> None:
    parser.add_argument("--auto", action="store_true", help="to all remotes that are pushed to by themselves")
    parser.add_argument("name", metavar="NAME", type=filled(str), nargs="?", help="the remote; not needed for one")
    what = "only projects like 'client:acme'; more in: git-vault projects -h"
    parser.add_argument("selection", metavar="WORD", type=filled(str), nargs="*", help=what)


def _push(session: Session, arguments: Namespace) -> Answer:
    if arguments.auto:
        return _push_auto(session, arguments)
    told, report = _pushed(session, _chosen(session, arguments.name), names(session, arguments.selection))
    return Answer(
        {
            "uploaded": report.uploaded,
            "bytes": report.bytes,
            "skipped": report.skipped,
            "snapshots": report.snapshots,
            "remote": told.name,
            "requests": dict(report.requests),
            "seconds": round(report.seconds, 3),
            "left": [{"ref": ref, "reason": reason} for ref, reason in report.left],
            "junk": list(report.junk),
        },
        _push_lines(told.name, report),
        [f"{session.command} verify --data"] if report.left else [],
        CorruptionError.exit_code if report.left else 0,
    )


def _push_auto(session: Session, arguments: Namespace) -> Answer:
    if arguments.name:
        raise wrong("--auto goes without a name")
    done: dict[str, str] = {}
    for name in session.vault.config.auto_remotes:
        try:
            # Again, until there is nothing new: a snapshot that came meanwhile found this push running, and went.
            while _pushed(session, name, ())[1].uploaded:
                done[name] = ""
        except LockedError:
            continue
        except (GitVaultError, OSError) as error:
            done[name] = render.error_text(error)
    lines = [f"{name}: {render.line(said) or 'pushed'}" for name, said in done.items()]
    return Answer([{"remote": name, "error": said or None} for name, said in done.items()], lines)


def _pushed(session: Session, name: str, projects: Sequence[str]) -> tuple[Settings, PushReport]:
    """Push, and note how that ended, for the next snapshot to tell."""
    from gitvault.remotes import settings
    from gitvault.remotes.places import scheme_of
    from gitvault.vault import waiting

    vault = session.vault
    told = settings.get(vault.path, name)
    said = "interrupted"
    try:
        if scheme_of(told.url) == "git":
            from gitvault.remotes import git

            report = git.push(vault, told)
        else:
            from gitvault.remotes.push import push

            with opened(session, name) as (told, remote):
                report = push(vault, remote, told, projects=projects, progress=session.progress)
        said = ""
    except LockedError:
        said = waiting.last(vault.path, name).said
        raise
    except (GitVaultError, OSError) as error:
        said = render.error_text(error)
        raise
    finally:
        waiting.note(vault.path, name, vault.now(), said, vault.disk)
    return told, report


def _push_lines(name: str, report: PushReport) -> Iterator[str]:
    if report.uploaded:
        yield (
            f"{render.plural(report.snapshots, 'snapshot')} pushed to {name}: {render.size(report.bytes)} "
            f"in {render.plural(report.uploaded, 'object')}, {render.seconds(report.seconds)}"
        )
    else:
        yield f"nothing new for {name}"
    yield from (f"not pushed: {render.line(ref)}: {render.line(reason)}" for ref, reason in report.left)
    yield from (f"skipped there: {render.line(junk)}" for junk in report.junk)


def _configure_fetch(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", type=filled(str), nargs="?", help="the remote; not needed for one")
    parser.add_argument("--identity", metavar="FILE", type=filled(disk_path), help="the key that opens it, this once")


def _fetch(session: Session, arguments: Namespace) -> Answer:
    from gitvault.remotes.fetch import fetch
    from gitvault.remotes.partial import refresh

    if name := session.vault.config.inspects:
        with opened(session, name, arguments.identity) as (_, remote):
            skipped = refresh(session.vault, remote)
        return _looked(session.vault, {"remote": name}, skipped, remote.hidden, f"{name} as it is now")
    name = _chosen(session, arguments.name)
    if told := of_git(session, name):
        from gitvault.remotes import git

        with large_of(session, told.chunks, arguments.identity) as (_, large):
            report = git.fetch(session.vault, told, large, progress=session.progress)
        return _fetched(session, report, {"remote": name}, f"fetched from {name}")
    with opened(session, name, arguments.identity) as (told, remote):
        report = fetch(session.vault, remote, told, progress=session.progress)
    return _fetched(session, report, {"remote": told.name}, f"fetched from {told.name}")


def _configure_clone(parser: ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL", type=filled(str), help="where the vault is")
    parser.add_argument("folder", metavar="DIR", type=filled(disk_path), help="the new vault; becomes its own")
    parser.add_argument("--identity", metavar="FILE", type=filled(disk_path), help="the key that opens it")
    parser.add_argument("--chunks", metavar="URL", type=filled(str), help="of a git URL, where the large files are")
    looking = "fetch files' content and history only when they are asked for; such a vault cannot be saved into"
    parser.add_argument("--inspect", action="store_true", help=looking)


def _clone(session: Session, arguments: Namespace) -> Answer:
    from gitvault.remotes.fetch import clone
    from gitvault.remotes.partial import clone_to_inspect

    folder = Path(arguments.folder).absolute()
    if told := of_git(session, arguments.url):
        from gitvault.remotes import git

        if arguments.inspect:
            raise wrong("--inspect wants a remote of objects: a repository of git is fetched whole")
        with large_of(session, arguments.chunks, arguments.identity) as (large_told, large):
            extra = {"url": large_told.url, **large.learned} if large and large_told else {}
            vault, report = git.clone(told.url, folder, large, extra, progress=session.progress)
            vault.close()
        return _cloned(session, report, folder)
    if arguments.chunks:
        raise wrong("--chunks goes with a URL of git")
    with opened(session, arguments.url, arguments.identity) as (told, remote):
        if arguments.inspect:
            vault, skipped = clone_to_inspect(remote, told.url, folder, remote.learned)
            with vault:
                who: dict[str, object] = {"vault": render.disk_text(os.fspath(folder))}
                return _looked(vault, who, skipped, remote.hidden, f"{folder}: to look at {render.line(told.url)}")
        vault, report = clone(remote, told.url, folder, remote.learned, progress=session.progress)
        vault.close()
    return _cloned(session, report, folder)


def _cloned(session: Session, report: FetchReport, folder: Path) -> Answer:
    shown = render.disk_text(os.fspath(folder))
    hint = f"git config --global vault.dir {shlex.quote(shown)}   # makes it the default vault"
    return replace(_fetched(session, report, {"vault": shown}, f"{folder}: a vault"), hints=[hint])


def _fetched(session: Session, report: FetchReport, who: dict[str, object], said: str) -> Answer:
    def lines() -> Iterator[str]:
        yield f"{said}: {render.plural(report.snapshots, 'snapshot')}, {render.size(report.bytes)}"
        yield from (f"another line of history: {render.line(line)}" for line in report.lines)
        yield from hidden_lines(report.hidden)
        yield from (f"left as it was here: {render.line(one.ref)}: {render.line(one.reason)}" for one in report.left)
        yield from (f"could not be had: {render.line(missing)}" for missing in report.missing)
        if count:
            files = f"{render.plural(count, 'large file')}, {render.size(size)}, not here"
            yield f"{files}: git has none, and no remote of objects that was asked has them (clone --chunks URL)"
        yield from (f"skipped there: {render.line(junk)}" for junk in report.junk)

    count, size = report.large
    damaged = report.missing or any(one.damaged for one in report.left)
    return Answer(
        {
            **who,
            "snapshots": report.snapshots,
            "refs": report.refs,
            "bytes": report.bytes,
            "lines": list(report.lines),
            "left": [{"ref": one.ref, "reason": one.reason, "damaged": one.damaged} for one in report.left],
            "missing": list(report.missing),
            "hidden": list(report.hidden),
            "large": {"files": count, "bytes": size},
            "junk": list(report.junk),
        },
        lines(),
        code=CorruptionError.exit_code if damaged else GitVaultError.exit_code if report.left else 0,
    )


def hidden_lines(hidden: Sequence[str]) -> Iterator[str]:
    """What a machine's newest record leaves out, for people."""
    return (f"its newest record leaves this out, it counts all the same: {render.line(one)}" for one in hidden)


def _looked(vault: Vault, who: dict[str, object], skipped: Sequence[str], hidden: Sequence[str], said: str) -> Answer:
    """Of a vault that inspects: the lines of history that can be asked for now."""
    lines = vault.history.projects()
    shown = [f"{said}: {render.plural(len(lines), 'line')} of history; files come when they are asked for"]
    shown += [*hidden_lines(hidden), *(f"skipped there: {render.line(junk)}" for junk in skipped)]
    return Answer({**who, "inspects": True, "projects": lines, "hidden": list(hidden), "junk": list(skipped)}, shown)


def inspecting(vault: Vault) -> AbstractContextManager[None]:
    """Meanwhile what a vault made with `clone --inspect` lacks is fetched."""
    from gitvault.remotes import partial, settings
    from gitvault.remotes.opening import open_remote

    def remote() -> Remote:
        told = settings.get(vault.path, vault.config.inspects)
        return open_remote(told, os.environ, vault=vault.path, disk=vault.disk)

    return partial.inspecting(vault, remote)


def _chosen(session: Session, name: str | None) -> str:
    from gitvault.remotes import settings

    known = settings.load(session.vault.path)
    if name:
        return name
    if len(known) == 1:
        return next(iter(known))
    there = f"there are {', '.join(known)}; name one" if known else "there is none"
    raise NotFoundError(f"which remote? {there}; git-vault remote add NAME URL adds one")


def of_git(session: Session, name: str) -> Settings | None:
    """The settings of a remote, by its name or its URL, that is a repository of git; None: of another kind."""
    from gitvault.remotes import settings
    from gitvault.remotes.places import scheme_of

    told = settings.Settings("origin", name) if _is_url(session, name) else settings.get(session.vault.path, name)
    return told if scheme_of(told.url) == "git" else None


@contextmanager
def large_of(
    session: Session, name: str | None, identity: str | None = None
) -> Iterator[tuple[Settings, Remote] | tuple[None, None]]:
    """The remote with the large files of one of git, where it has one."""
    if name:
        with opened(session, name, identity) as found:
            yield found
    else:
        yield None, None


def _is_url(session: Session, name: str) -> bool:
    """Whether that names a place, not a remote that this vault knows."""
    from gitvault.remotes import settings

    if "/" in name or ":" in name or os.sep in name:
        return True
    if not os.path.isdir(name):
        return False
    with suppress(GitVaultError):
        return name not in settings.load(session.vault.path)
    return True


@contextmanager
def opened(session: Session, name: str, identity: str | None = None) -> Iterator[tuple[Settings, Remote]]:
    """The remote of that name, or at that URL, for which no vault is needed. Raises NotFoundError, ConfigError."""
    from gitvault.core.utils.process import keep_memory
    from gitvault.remotes import settings
    from gitvault.remotes.opening import open_remote
    from gitvault.remotes.places import folder_of, scheme_of

    # Packs of 8 MiB come and go: before there are threads, each of which would have memory of its own.
    keep_memory()
    if _is_url(session, name):
        url = os.fspath(folder_of(name)) if scheme_of(name) == "folder" else name
        told = settings.Settings(name, url, identity=os.path.abspath(identity) if identity else "")
        with open_remote(told, os.environ) as remote:
            yield told, remote
        return
    vault = session.vault
    told = settings.get(vault.path, name)
    if identity:
        # For this once: it is not noted.
        key = os.path.abspath(identity)
        told = replace(told, identity=key, values={**told.values, "identity": (key,)})
    with open_remote(told, os.environ, vault=vault.path, disk=vault.disk) as remote:
        yield told, remote


_ACTIONS = {"add": _add, "list": _list, "remove": _remove, "verify": _verify, "prune": _prune}

VERBS = (
    Verb(
        "remote",
        "tell of places elsewhere that keep this vault, and look after them",
        "git-vault remote add off s3://my-bucket/vault\ngit-vault remote verify off --data --share 1/30",
        _configure,
        _run,
    ),
    Verb("push", "bring a remote to what this vault holds", "git-vault push off", _configure_push, _push),
    Verb("fetch", "bring here what other machines pushed", "git-vault fetch off", _configure_fetch, _fetch),
    Verb(
        "clone",
        "make a vault of a remote",
        "git-vault clone s3://my-bucket/vault ~/vault.git",
        _configure_clone,
        _clone,
    ),
)
