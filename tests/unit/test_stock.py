"""What git and git-lfs call: their protocols, also when what they say is wrong; settings; diffs of what is no text."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from gitvault.cli import main, plumbing
from gitvault.core.chunking import FixedSize
from gitvault.core.models import ObjectId, Pointer
from gitvault.core.storage import pointers
from gitvault.core.storage.store import ChunkStore
from gitvault.core.utils.files import Disk
from gitvault.core.versioning.objects import object_id
from gitvault.errors import ConfigError, CorruptionError, GitVaultError, NotFoundError, ToolFailed
from gitvault.stock import filter, settings
from gitvault.stock.filter import FilterProcess, Source
from gitvault.stock.hydrate import Hydrated, hydrate
from gitvault.stock.origin import VARIABLES, Repository
from gitvault.stock.textconv import figures, text_of
from gitvault.stock.transfer import TransferAgent

HELLO = [b"git-filter-client\n", b"version=2\n", None, b"capability=clean\n", b"capability=smudge\n", None]
ANSWER = [b"git-filter-server\n", b"version=2\n", None, b"capability=clean\n", b"capability=smudge\n", None]
CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def store(tmp_path: Path) -> Iterable[ChunkStore]:
    strategy = FixedSize(1 << 10, 1 << 16, 1 << 20, 1)
    with ChunkStore(tmp_path / "chunks", cache=tmp_path / "cache", strategy=strategy, threads=1) as store:
        yield store


@pytest.fixture
def kept(store: ChunkStore) -> Pointer:
    pointer = store.store_file(io.BytesIO(CONTENT))
    store.flush()
    return pointer


def packets(items: Iterable[bytes | None]) -> bytes:
    return b"".join(b"0000" if item is None else b"%04x" % (len(item) + 4) + item for item in items)


def unpacked(data: bytes) -> list[bytes | None]:
    found: list[bytes | None] = []
    while data:
        size = int(data[:4], 16)
        found.append(data[4:size] if size else None)
        data = data[max(size, 4) :]
    return found


class Git:
    """Both sides of a filter: what git says, what it is answered."""

    def __init__(self, content: Callable[[], Source], top: Path = Path("nowhere")) -> None:
        self.content = content
        self.top = top
        self.told: list[str] = []

    def run(self, *items: bytes | None) -> list[bytes | None]:
        answer = io.BytesIO()
        FilterProcess(io.BytesIO(packets([*HELLO, *items])), answer, self.content, self.top, self.told.append).serve()
        found = unpacked(answer.getvalue())
        assert found[: len(ANSWER)] == ANSWER
        return found[len(ANSWER) :]

    def ask(self, command: str, content: bytes, path: str = "art/rock.bin") -> tuple[list[bytes | None], bytes]:
        """The status lists around what comes back."""
        parts = [content[start : start + 65_516] for start in range(0, len(content), 65_516)]
        found = self.run(f"command={command}\n".encode(), f"pathname={path}\n".encode(), None, *parts, None)
        end = found.index(None, 2)
        return found[:2] + found[end:], b"".join(part for part in found[2:end] if part)


GOOD: list[bytes | None] = [b"status=success\n", None, None, None]


def source(store: ChunkStore, limit: int = 1 << 30, plain: Callable[[str, ObjectId], bool] = lambda *_: False) -> Git:
    return Git(lambda: Source(store, limit, plain))


def test_a_pointer_becomes_its_content_and_a_pointer_again(store: ChunkStore, kept: Pointer) -> None:
    git = source(store)
    assert git.ask("smudge", pointers.encode(kept)) == (GOOD, CONTENT)
    assert git.ask("clean", CONTENT) == (GOOD, pointers.encode(kept))
    assert git.told == []


@pytest.mark.parametrize("command", ["smudge", "clean"])
@pytest.mark.parametrize("content", [b"", b"text\n", bytes(200_000), b"version https://git-lfs.github.com/spec/v1\n"])
def test_everything_else_passes_as_it_is(store: ChunkStore, command: str, content: bytes) -> None:
    assert source(store).ask(command, content) == (GOOD, content)


def test_what_is_larger_than_memory_may_hold_passes_too(
    store: ChunkStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filter, "_HELD", 100_000)
    content = bytes(200_000)
    git = source(store)
    assert git.ask("smudge", content) == (GOOD, content)
    git.top = tmp_path
    (tmp_path / "rock.bin").write_bytes(content)
    assert git.ask("clean", content, "rock.bin") == (GOOD, content)
    (tmp_path / "rock.bin").write_bytes(content[1:])
    status, _ = git.ask("clean", content, "rock.bin")
    assert status == [b"status=success\n", None, None, b"status=error\n", None]
    assert git.told == ["rock.bin: changed while git read it; run git again when it is at rest"]


def test_a_large_file_is_a_pointer_whatever_the_index_says(store: ChunkStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filter, "_HELD", 100_000)
    content = bytes(200_000)
    pointer = store.store_file(io.BytesIO(content))
    assert source(store, plain=lambda *_: True).ask("clean", content) == (GOOD, pointers.encode(pointer))


def test_a_file_that_git_has_as_it_is_stays_so(store: ChunkStore, kept: Pointer) -> None:
    asked: list[tuple[str, ObjectId]] = []

    def plain(path: str, blob: ObjectId) -> bool:
        asked.append((path, blob))
        return True

    assert source(store, plain=plain).ask("clean", CONTENT) == (GOOD, CONTENT)
    assert asked == [("art/rock.bin", object_id(b"blob", CONTENT))]


def test_over_the_limit_a_pointer_stays_and_is_told_once(store: ChunkStore, kept: Pointer) -> None:
    git = source(store, limit=len(CONTENT) - 1)
    asked = (b"command=smudge\n", b"pathname=a\n", None, pointers.encode(kept), None)
    assert git.run(*asked, *asked).count(pointers.encode(kept)) == 2
    assert git.told == ["over vault.smudgeLimit, left as pointers: 2; git vault hydrate fills them in"]


def test_what_the_vault_has_not_stays_a_pointer(store: ChunkStore) -> None:
    text = pointers.encode(Pointer("ab" * 32, 5))
    git = source(store)
    assert git.ask("smudge", text, "a\x07b") == (GOOD, text)
    assert git.told == [f"a\\x07b: {'ab' * 32}: not in the vault; left as a pointer"]


def test_damage_is_an_error_for_git(store: ChunkStore, kept: Pointer, tmp_path: Path) -> None:
    (pack,) = (tmp_path / "chunks").glob("*.zpk")
    content = bytearray(pack.read_bytes())
    content[40] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(content)
    git = source(store)
    status, _ = git.ask("smudge", pointers.encode(kept))
    assert status == [b"status=success\n", None, None, b"status=error\n", None]
    assert git.told[0].startswith("art/rock.bin: ")


def test_without_a_vault_files_stay_and_that_is_said_once() -> None:
    opened = []

    def fails() -> Source:
        opened.append(1)
        raise GitVaultError("no vault")

    git = Git(fails)
    text = pointers.encode(Pointer("ab" * 32, 5))
    asked = (
        b"command=smudge\n",
        b"pathname=a\n",
        None,
        text,
        None,
        b"command=clean\n",
        b"pathname=a\n",
        None,
        b"x",
        None,
    )
    assert git.run(*asked) == [*GOOD[:2], text, *GOOD[2:], *GOOD[:2], b"x", *GOOD[2:]]
    assert (git.told, opened) == (["no vault; files stay as git has them"], [1])


def test_a_store_that_cannot_be_asked_leaves_files_as_they_are(
    store: ChunkStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(pointer: Pointer) -> bool:
        raise CorruptionError("damaged")

    monkeypatch.setattr(store, "has", fails)
    git = source(store)
    assert git.ask("clean", CONTENT) == (GOOD, CONTENT)
    assert git.told == ["art/rock.bin: damaged"]


@pytest.mark.parametrize(
    "said",
    [
        b"hello\n",
        b"0003",
        b"-00a",
        packets([b"git-filter-client\n", b"version=1\n", None]),
        packets([b"x\n"] * 100),
        packets([*HELLO, b"command=smudge\n", None]) + b"00zz",
    ],
)
def test_what_is_not_gits_protocol_is_one_error(said: bytes, store: ChunkStore) -> None:
    with pytest.raises(CorruptionError, match="filter-process: expected"):
        FilterProcess(io.BytesIO(said), io.BytesIO(), lambda: Source(store, 0, lambda *_: False), Path(), print).serve()


def test_git_may_leave_at_any_time(store: ChunkStore, kept: Pointer) -> None:
    said = packets([*HELLO, b"command=smudge\n", b"pathname=a\n", None, pointers.encode(kept), None])
    for end in range(len(said)):
        FilterProcess(
            io.BytesIO(said[:end]), io.BytesIO(), lambda: Source(store, 0, lambda *_: False), Path(), print
        ).serve()


# ---------------------------------------------------------------------------------------- git-lfs


def lfs(store: ChunkStore | GitVaultError, folder: Path, *messages: object) -> list[dict[str, Any]]:
    lines = b"".join((m if isinstance(m, bytes) else json.dumps(m).encode()) + b"\n" for m in messages)
    answer = io.BytesIO()

    def opened(remote: str) -> ChunkStore:
        if isinstance(store, GitVaultError):
            raise store
        assert remote == "origin"
        return store

    TransferAgent(io.BytesIO(lines), answer, opened, lambda: folder).serve()
    return [json.loads(line) for line in answer.getvalue().splitlines()]


INIT = {"event": "init", "operation": "download", "remote": "origin", "concurrent": False, "concurrenttransfers": 3}


def test_git_lfs_gets_what_it_asks_for(store: ChunkStore, kept: Pointer, tmp_path: Path) -> None:
    folder = tmp_path / "lfs" / "tmp"
    wanted = {"event": "download", "oid": kept.oid, "size": kept.size, "action": None}
    begun, far, done = lfs(store, folder, INIT, wanted, {"event": "terminate"}, wanted)
    assert begun == {}
    assert far == {"event": "progress", "oid": kept.oid, "bytesSoFar": kept.size, "bytesSinceLast": kept.size}
    assert {key: done[key] for key in ("event", "oid")} == {"event": "complete", "oid": kept.oid}
    path = Path(done["path"])
    assert path.read_bytes() == CONTENT
    # git-lfs clears away what is called so, and only that.
    assert (path.parent, path.name.split("-")[0]) == (folder, kept.oid)


@pytest.mark.parametrize("oid", ["ab" * 32, "../../etc/passwd", "", None, 7])
@pytest.mark.parametrize("size", [5, -1, None, "x", [1]])
def test_what_git_lfs_asks_for_in_vain_is_an_error_of_that_file(
    store: ChunkStore, tmp_path: Path, oid: object, size: object
) -> None:
    for event in ("download", "upload"):
        _, answer = lfs(store, tmp_path / "lfs", INIT, {"event": event, "oid": oid, "size": size})
        assert answer["error"]["message"]
    assert not (tmp_path / "lfs").exists()


def test_what_a_vault_has_need_not_be_uploaded(store: ChunkStore, kept: Pointer, tmp_path: Path) -> None:
    has = {"event": "upload", "oid": kept.oid, "size": kept.size, "path": "x"}
    other = {"event": "upload", "oid": "ab" * 32, "size": 5, "path": "x"}
    _, done, refused = lfs(store, tmp_path, INIT, has, other)
    assert "error" not in done
    assert refused["error"]["message"].endswith("a vault takes no uploads; save files with git vault snapshot")


def test_damage_leaves_no_file_behind(store: ChunkStore, kept: Pointer, tmp_path: Path) -> None:
    folder = tmp_path / "lfs"
    wanted = {"event": "download", "oid": kept.oid, "size": kept.size}

    def fails(pointer: Pointer, target: BinaryIO) -> None:
        target.write(b"half")
        raise CorruptionError("damaged")

    store.retrieve_file = fails  # type: ignore[method-assign]
    assert lfs(store, folder, INIT, wanted)[-1]["error"] == {"code": 1, "message": "damaged"}
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("line", [b"hello", b"[]", b"{}", b'"event"', b"1", b"{" * 100_000, b""])
def test_what_is_not_git_lfs_ends_it(store: ChunkStore, tmp_path: Path, line: bytes) -> None:
    (answer,) = lfs(store, tmp_path, line)
    assert answer["error"]["message"] == "lfs-agent: expected git-lfs's lines of JSON"


def test_git_lfs_has_to_begin_at_the_beginning(store: ChunkStore, kept: Pointer, tmp_path: Path) -> None:
    (answer,) = lfs(store, tmp_path, {"event": "download", "oid": kept.oid, "size": kept.size})
    assert answer["error"]["message"] == "lfs-agent: expected git-lfs to begin with init"
    assert lfs(GitVaultError("no vault"), tmp_path, INIT) == [{"error": {"code": 1, "message": "no vault"}}]


# --------------------------------------------------------------------------------------- settings


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    for name in ("HOME", "USERPROFILE", "LOCALAPPDATA", "APPDATA"):
        monkeypatch.setenv(name, str(home))
    return home


OWN = (
    '# my own settings\n[user]\n\tname = A\n[filter "lfs"]\n\tclean = git-lfs clean -- %f\n\trequired = true\n'
    '[lfs "customtransfer.mine"]\n\tpath = /bin/mine\n[lfs "https://example.invalid"]\n'
    '\tstandalonetransferagent = mine\n[includeIf "gitdir:~/work/"]\n\tpath = ~/work.gitconfig\n; the end\n'
)
VAULT = Path("/data/a b [x]/vault.git")


def test_setup_and_its_undo_leave_a_configuration_byte_for_byte(home: Path) -> None:
    config, folder = home / ".gitconfig", home / "data"
    config.write_text(OWN)
    wanted = settings.setup(["/opt/git vault"], VAULT, folder)
    assert isinstance(wanted, settings.Setup)
    assert settings.missing(wanted) == settings.install(wanted, Disk())
    assert (settings.missing(wanted), settings.install(wanted, Disk())) == ([], [])
    assert config.read_text().startswith(OWN)
    other = settings.setup(["python", "-m", "gitvault"], Path("/other.git"), folder)
    settings.install(other, Disk())
    assert "filter.vault.process" in settings.missing(wanted)
    # Twice the same, as a merge of dotfiles may leave it.
    subprocess.run(
        ["git", "config", "--global", "--add", "diff.vault.textconv", "python -m gitvault textconv"], check=True
    )
    with config.open("a") as file:
        file.write("# a word of mine\n[alias]\n\tst = status\n")
    removed = settings.uninstall(folder, Disk())
    assert "lfs.file:///data/a%20b%20%5Bx%5D/vault.git.standalonetransferagent" in removed
    assert config.read_text() == OWN + "# a word of mine\n[alias]\n\tst = status\n"
    assert not folder.exists()
    assert settings.uninstall(folder, Disk()) == []


def test_setup_without_any_configuration(home: Path) -> None:
    wanted = settings.setup(["git-vault"], VAULT, home / "data")
    assert len(settings.install(wanted, Disk())) > 5
    settings.uninstall(home / "data", Disk())
    assert (home / ".gitconfig").read_text() == ""


@pytest.mark.parametrize(
    "theirs",
    [
        '[filter "vault"]\n\tprocess = /their/filter\n',
        '[diff "vault"]\n\ttextconv = strings\n',
        '[lfs "customtransfer.vault"]\n\tpath = hashicorp\n',
        '[lfs "file:///data/a%20b%20%5Bx%5D/vault.git"]\n\tstandalonetransferagent = other\n',
    ],
)
def test_what_somebody_else_set_stays_and_nothing_is_set_up(home: Path, theirs: str) -> None:
    (home / ".gitconfig").write_text(OWN + theirs)
    with pytest.raises(ConfigError, match="in your git configuration: not ours; nothing was changed"):
        settings.install(settings.setup(["git-vault"], VAULT, home / "data"), Disk())
    assert settings.uninstall(home / "data", Disk()) == []
    assert (home / ".gitconfig").read_text() == OWN + theirs


def test_a_broken_configuration_is_an_error(home: Path) -> None:
    (home / ".gitconfig").write_text("[user\n")
    with pytest.raises(ToolFailed, match="bad config"):
        settings.missing(settings.setup(["git-vault"], VAULT, home / "data"))


# ---------------------------------------------------------------------------------- where they are


def test_a_repository_knows_its_vault(vault: Any, tmp_path: Path) -> None:
    def default() -> Path:
        return tmp_path / "default.git"

    here = Repository(vault.path, {})
    assert here.vault(default) == vault.path
    clone = tmp_path / "clone"
    subprocess.run(["git", "init", "-q", clone], check=True)
    there = Repository(clone, {})
    assert (there.vault(default), there.staged("nothing")) == (default(), None)
    assert there.vault(default, f"file://{vault.path}") == vault.path
    for name, url in (("origin", "https://example.invalid/x"), ("backup", str(vault.path))):
        subprocess.run(["git", "-C", clone, "remote", "add", name, url], check=True)
    assert there.vault(default) == vault.path
    assert "GIT_DIR" in VARIABLES
    assert Repository(tmp_path, {"GIT_DIR": str(clone / ".git")}).vault(default) == vault.path
    with pytest.raises(NotFoundError, match="in no work tree of git"):
        Repository(tmp_path, {}).vault(default)


def test_a_full_disk_is_a_problem_of_the_file(store: ChunkStore, kept: Pointer, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "rock.bin").write_bytes(pointers.encode(kept))
    for words in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", "-C", work, *words], check=True)

    def full(pointer: Pointer, target: BinaryIO) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store.retrieve_file = full  # type: ignore[method-assign]
    done = hydrate(Repository(work, {}), [], lambda: store, lambda *_: None)
    assert isinstance(done, Hydrated)
    assert [(problem.path, problem.reason) for problem in done.problems] == [(b"rock.bin", os.strerror(errno.ENOSPC))]
    assert sorted(path.name for path in work.iterdir()) == [".git", "rock.bin"]
    assert pointers.decode((work / "rock.bin").read_bytes()) == kept


# ---------------------------------------------------------------------------------------- textconv


def test_text_is_itself_and_a_pointer_says_what_it_stands_for(tmp_path: Path, kept: Pointer) -> None:
    file = tmp_path / "x.svg"
    for content in (b"", b"<svg/>\n", b"line\n" * 300_000):
        file.write_bytes(content)
        assert b"".join(text_of(file)) == content
    file.write_bytes(pointers.encode(kept))
    assert list(text_of(file)) == [b"large file, 256000 bytes, left as a pointer\n", f"sha256 {kept.oid}\n".encode()]
    content = b"\0\xff" * 5000
    file.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    assert list(text_of(file)) == [b"binary file, 10000 bytes\n", f"sha256 {digest}\n".encode()]


def test_a_damaged_picture_is_told_without_the_name_git_gave_it(tmp_path: Path) -> None:
    pytest.importorskip("OpenImageIO")
    file = tmp_path / "tmp1x_rock.png"
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    text = b"".join(text_of(file))
    assert text.startswith(b"PNG image, 108 bytes\nsha256 ")
    assert b"tmp1x" not in text


def test_figures_of_pictures_and_models(tmp_path: Path) -> None:
    pytest.importorskip("OpenImageIO")
    images = pytest.importorskip("PIL.Image")
    images.new("RGBA", (7, 5)).save(tmp_path / "a.png")
    assert figures(str(tmp_path / "a.png")) == ["7 x 5 RGBA 8 bits"]
    model = tmp_path / "a.stl"
    model.write_bytes(bytes(80) + struct.pack("<I12fH", 1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0))
    (line,) = figures(str(model))
    assert line.endswith("3 vertices, 1 triangles")


@pytest.mark.parametrize("words", [[], ["one", "two"]])
def test_textconv_wants_one_file(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(GitVaultError, match="expected one file"):
        plumbing.run(["textconv", *words])
    assert main.main(["textconv", *words]) == 128
    assert capfd.readouterr().err == "git-vault: textconv: expected one file; git starts this, not people\n"


def test_what_git_calls_has_no_verbs_of_its_own() -> None:
    assert set(main.PLUMBING) == set(plumbing.COMMANDS)
    assert not set(main.PLUMBING) & set(main.VERBS)


@pytest.mark.no_cover
def test_a_filter_without_pointers_loads_no_more_than_it_needs() -> None:
    """git starts one for each of its commands."""
    heavy = {"sqlite3", "zstandard", "msgpack", "gitvault.vault", "gitvault.config", "subprocess", "argparse"}
    code = (
        f"import sys; from gitvault.cli.main import main; main(['filter-process']); print({heavy} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, check=True)
    assert done.stdout == b"{'argparse'}\n"
