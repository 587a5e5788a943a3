"""What of a git checkout exists only here."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from gitvault.core.beside import Beside
from gitvault.core.storage import pointers
from gitvault.errors import ToolError, ToolFailed
from gitvault.vcs import git, remotes
from gitvault.vcs.find import Finder, checkout_at
from gitvault.vcs.remotes import Standing
from gitvault.vcs.state import Asking, Checkout, State

_STATUS = (
    *("status", "--porcelain=v2", "-z", "--branch", "--show-stash", "--no-ahead-behind", "--no-renames"),
    # What a submodule is at, counts; what is in it is looked at on its own, which takes git 25 ms each.
    *("--untracked-files=all", "--ignored=matching", "--ignore-submodules=dirty"),
)
_OPERATIONS = {
    "rebase-merge": "rebase",
    "rebase-apply": "rebase",
    "MERGE_HEAD": "merge",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
}
# Refs that git makes for itself, and that no remote has.
_OWN = ("refs/stash", "refs/bisect/", "refs/worktree/", "refs/rewritten/", "refs/prefetch/", "refs/original/")
# Entries of the index whose files git does not look at (`h`, `S`), and submodules.
_HIDDEN = re.compile(rb"(?:[a-zS]) (\d+) ([0-9a-f]+) 0\t([^\0]+)\0")
_GITLINK = re.compile(rb"(?:\A|\0)[A-Za-z] 160000 [0-9a-f]+ \d\t([^\0]+)")
_RULES = b".gitvault.toml"
# Seconds for which the answer of a remote that had to be asked is good enough.
_ANSWER_HOLDS = 3600
# Seconds between the refs and the end of a clone.
_CLONE_ENDS = 2
_CLONED = re.compile(rb"\A[0-9a-f]+ [0-9a-f]+ [^\n]*> (\d+) [-+]\d+\tclone: ")


def state(checkout: Checkout, finder: Finder, asking: Asking) -> State:
    """Look at a checkout or a bare repository. What cannot be read is its `trouble`, never raised."""
    try:
        return _state(checkout, finder, asking)
    except ToolFailed as error:
        return State(checkout, trouble=f"git cannot read it: {git.said(error)}")
    except (ToolError, OSError) as error:
        return State(checkout, trouble=str(error))


def _state(checkout: Checkout, finder: Finder, asking: Asking) -> State:
    folder = checkout.path
    settings, files = git.settings_and_files(folder)
    refs = git.refs_of(folder)
    found = State(checkout, beside=Beside()) if checkout.bare else _work_tree(checkout, settings, finder)
    asked = asking.probe

    def standing_after(answers: remotes.Answers) -> Standing:
        return remotes.standing(folder, settings, refs, answers, asking.now, asking.limit)

    def probe() -> Standing:
        return standing_after(remotes.probe(folder, asking.now, asking.cache, asking.disk))

    standing = probe() if asking.probe else standing_after(remotes.load(folder, asking.cache))
    tags = _unknown_tags(folder, refs, standing)
    if tags and standing.names and not asking.probe:
        # No ref tells which tags a remote has: only the remote does.
        asked = True
        standing = probe()
        tags = _unknown_tags(folder, refs, standing)
    beside = standing.beside | Beside(files | {os.fspath(remotes.answers_file(folder, asking.cache))})
    if asked:
        beside |= Beside(until=asking.now.timestamp() + _ANSWER_HOLDS)
    unpushed = _unpushed(folder, refs, standing)
    return replace(
        found,
        unpushed=unpushed,
        branches=tuple(
            name.removeprefix("refs/heads/")
            for name, (oid, _) in refs.items()
            if name.startswith("refs/heads/") and name not in standing.heads and not standing.has(name, oid)
        ),
        tags=tags,
        operation=_operation(folder),
        remotes=standing.names,
        answered=standing.answered,
        notes=(*found.notes, *(("a shallow clone",) if (git.common_folder(folder) / "shallow").exists() else ())),
        trouble=standing.reason(),
        local=(*found.local, *_ref_files(folder)),
        beside=beside if found.beside else None,
    )


# ------------------------------------------------------------------------------------------ work tree


def _work_tree(checkout: Checkout, settings: git.Settings, finder: Finder) -> State:
    folder = checkout.path
    fields = git.read(folder, *_STATUS, settings=settings).split(b"\0")
    top = finder.inner(folder)
    base = branch = ""
    stashes = conflicts = staged = untracked = 0
    changed: dict[bytes, bytes] = {}
    unlike: dict[bytes, None] = {}
    local: list[bytes] = []
    nested: list[Checkout] = []
    for line in fields:
        kind = line[:2]
        if kind == b"# ":
            _, key, value = line.decode("utf-8", "replace").split(" ", 2)
            base = value if key == "branch.oid" and value != "(initial)" else base
            branch = value if key == "branch.head" and value != "(detached)" else branch
            stashes = int(value) if key == "stash" else stashes
        elif kind == b"1 ":
            state, blob, path = line[2:4], line.split(b" ", 8)[7], line.split(b" ", 8)[8]
            staged += state[:1] != b"."
            changed[path] = blob if state == b".M" else b""
            # Of what is only staged, the index says all.
            if state[1:] != b".":
                unlike[path] = None
        elif kind == b"u ":
            conflicts += 1
            changed[line.split(b" ", 10)[10]] = b""
            unlike[line.split(b" ", 10)[10]] = None
        elif kind in (b"? ", b"! "):
            for inside in _kept(finder, folder, top, line[2:], ignored=kind == b"! "):
                if isinstance(inside, Checkout):
                    nested.append(inside)
                else:
                    untracked += 1
                    local.append(inside)
    if any(key.startswith("filter.lfs.") for key in settings):
        for path in _as_pointers_say(folder, {path: blob for path, blob in changed.items() if blob}):
            del changed[path], unlike[path]
    index = git.read(folder, "ls-files", "-v", "-s", "-z")
    # With rules of its own what is tracked may be left out, and no watcher tells of it.
    has_rules = _RULES in index or any(line.endswith(_RULES) for line in fields)
    for path in _changed_unseen(folder, index):
        changed[path] = b""
        unlike[path] = None
    # Asked for first: 50,000 entries take a pattern 40 ms.
    for match in _GITLINK.finditer(index) if b" 160000 " in index else ():
        if inner := checkout_at(folder / os.fsdecode(match[1])):
            nested.append(inner)
    return State(
        checkout,
        base=base,
        branch=branch,
        modified=len(changed),
        staged=staged,
        conflicts=conflicts,
        untracked=untracked,
        stashes=stashes,
        local=(
            *(folder / os.fsdecode(path) for path in (*unlike, *local)),
            *((git.own_folder(folder) / "index",) if staged or conflicts else ()),
        ),
        nested=tuple(nested),
        beside=None if has_rules else Beside(),
    )


def _kept(finder: Finder, folder: Path, top: bytes, path: bytes, *, ignored: bool) -> Iterator[bytes | Checkout]:
    """What of an entry that git does not track is to be kept: files as git names them, and checkouts."""
    bare = path.rstrip(b"/")
    if finder.omits(top + bare, bare != path):
        return
    if bare == path:
        yield path
    elif not ignored or (folder / os.fsdecode(bare)).is_dir():
        for inside in finder.look(top + bare):
            yield inside if isinstance(inside, Checkout) else inside.removeprefix(top)


def _as_pointers_say(folder: Path, changed: Mapping[bytes, bytes]) -> list[bytes]:
    """Those of the changed files that hold just what git-lfs pointers in the index stand for.

    With the filter off git compares content with pointer. It does so for every file as young as the index, which
    after a clone are all.
    """
    if not changed:
        return []
    same = []
    blobs = iter(_blobs(folder, list(changed.values())))
    for path in changed:
        pointer = pointers.decode(next(blobs))
        try:
            with open(folder / os.fsdecode(path), "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if pointer and size == pointer.size and pointer.oid == hashlib.file_digest(file, "sha256").hexdigest():
                    same.append(path)
        except OSError:
            continue
    return same


def _blobs(folder: Path, oids: Collection[bytes]) -> Iterator[bytes]:
    """Blobs by their ids, b"" for one that is no pointer by its size."""
    listing = git.read(folder, "cat-file", "--batch-check=%(objectname) %(objectsize)", stdin=b"\n".join(oids) + b"\n")
    small = [line.split()[0] for line in listing.splitlines() if int(line.split()[1]) <= pointers.MAX_LENGTH]
    data = git.read(folder, "cat-file", "--batch", stdin=b"\n".join(small) + b"\n") if small else b""
    found = {}
    at = 0
    while at < len(data):
        end = data.index(b"\n", at)
        oid, _, size = data[at:end].split()
        found[oid] = data[end + 1 : end + 1 + int(size)]
        at = end + 2 + int(size)
    return (found.get(oid, b"") for oid in oids)


def _changed_unseen(folder: Path, index: bytes) -> Iterator[bytes]:
    """Files that git was told not to look at (`update-index --skip-worktree`) and that differ from the index.

    People do so to local settings. What a sparse checkout leaves out is not there, and is no change.
    """
    if index.startswith(b"H ") and index.count(b"\0H ") + 1 == index.count(b"\0"):
        # All are ordinary: 50,000 entries take the pattern 40 ms.
        return
    for match in _HIDDEN.finditer(index):
        path = folder / os.fsdecode(match[3])
        try:
            data = os.fsencode(os.readlink(path)) if path.is_symlink() else path.read_bytes()
        except OSError:
            continue
        oid = match[2].decode()
        hashed = hashlib.new("sha1" if len(oid) == 40 else "sha256", usedforsecurity=False)
        hashed.update(b"blob %d\0" % len(data) + data)
        if hashed.hexdigest() != oid:
            yield match[3]


# ----------------------------------------------------------------------------------------- repository


def _operation(folder: Path) -> str:
    own = git.own_folder(folder)
    return next((name for file, name in _OPERATIONS.items() if (own / file).exists()), "")


def _unpushed(folder: Path, refs: git.Refs, standing: Standing) -> dict[str, int]:
    """Commits that no remote has, by the ref they are on, the one that is checked out first."""
    local = [name for name, (oid, commit) in refs.items() if commit and _is_local(name, oid, standing)]
    heads = {oid: "a detached HEAD" for oid in git.detached_heads(folder)}
    if standing.good.issuperset((*heads, *(refs[name][1] for name in local))):
        return {}
    current = _current(folder)
    local.sort(key=lambda name: (name != current, not name.startswith("refs/heads/"), name))
    revisions = "".join(f"{line}\n" for line in (*heads, *local, *(f"^{oid}" for oid in sorted(standing.good))))
    said = git.read(folder, "log", "--format=%S", "--stdin", stdin=os.fsencode(revisions))
    counted = Counter(os.fsdecode(said).splitlines())
    return {
        heads.get(name) or re.sub(r"^refs/(heads/|tags/)?", "", name): counted[name]
        for name in (*heads, *local)
        if counted[name]
    }


def _is_local(name: str, oid: str, standing: Standing) -> bool:
    return not (name.startswith(_OWN) or standing.has(name, oid))


def _current(folder: Path) -> str:
    text = (git.own_folder(folder) / "HEAD").read_text("utf-8", "surrogateescape")
    return text.removeprefix("ref: ").strip()


def _unknown_tags(folder: Path, refs: git.Refs, standing: Standing) -> tuple[str, ...]:
    """Tags of which nothing shows that a remote has them."""
    names = {name: oid for name, (oid, _) in refs.items() if name.startswith("refs/tags/")}
    missing = {name: oid for name, oid in names.items() if not standing.has(name, oid)}
    if missing and standing.names:
        brought = _brought_by_clone(git.common_folder(folder))
        missing = {name: oid for name, oid in missing.items() if (oid, name) not in brought}
    return tuple(name.removeprefix("refs/tags/") for name in missing)


def _brought_by_clone(common: Path) -> set[tuple[str, str]]:
    """The refs that came with the clone: those in a packed-refs that was written then and never since."""
    try:
        log, packed = common / "logs" / "HEAD", common / "packed-refs"
        cloned = _CLONED.match(log.read_bytes()[:4096])
        if not cloned or packed.stat().st_mtime > int(cloned[1]) + _CLONE_ENDS:
            return set()
        lines = packed.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return set()
    return {(oid, name) for oid, _, name in (line.partition(" ") for line in lines)}


def _ref_files(folder: Path) -> list[Path]:
    """The files that say what branches, tags and stashes there are."""
    own, common = git.own_folder(folder), git.common_folder(folder)
    found = [own / "HEAD", own / "logs" / "HEAD", common / "packed-refs", common / "logs" / "refs" / "stash"]
    for below in ("refs/heads", "refs/tags", "refs/stash", "logs/refs/heads"):
        for place, _, names in os.walk(common / below):
            found += [Path(place, name) for name in names]
    return [file for file in found if file.is_file()]
