"""Stock git on a vault: worktrees, archives, diffs, bisection and clones have real files; settings come and go."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from gitvault import config
from gitvault.core.storage import pointers
from gitvault.errors import NotFoundError
from gitvault.stock.hydrate import hydrate
from gitvault.stock.origin import Repository
from gitvault.vault import Vault

ROOT = Path(__file__).parents[2]
Command = Callable[..., subprocess.CompletedProcess[str]]
pytestmark = pytest.mark.needs("git")
LARGE = random.Random(1).randbytes(300_000)
POINTER = b"version https://git-lfs.github.com/spec/v1\n"


def version(*program: str) -> tuple[int, ...]:
    said = subprocess.run([*program, "version"], capture_output=True, text=True, check=True).stdout
    return tuple(map(int, re.findall(r"\d+", said)[:2]))


def git(folder: Path, *words: str | Path, ok: int = 0) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, check=False)
    assert done.returncode == ok, done.stderr.decode()
    return (done.stdout + done.stderr).decode()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with a user's own settings of git-lfs, in which the package of this checkout is what runs."""
    home = tmp_path / "home"
    home.mkdir()
    for name in ("HOME", "USERPROFILE", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("GIT_VAULT_DIR", raising=False)
    own = "# my own\n[user]\n\tname = A\n\temail = a@example.invalid\n[vault]\n\treserve = 0\n"
    own += '[filter "lfs"]\n\tclean = git-lfs clean -- %f\n\tsmudge = git-lfs smudge -- %f\n'
    own += "\tprocess = git-lfs filter-process\n\trequired = true\n[lfs]\n\tconcurrenttransfers = 3\n"
    (home / ".gitconfig").write_text(own)
    return home


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "acme"
    (root / "art").mkdir(parents=True)
    (root / "readme.txt").write_bytes(b"hello\r\n" * 10)
    (root / "art" / "rock.bin").write_bytes(LARGE)
    (root / "art" / "small.bin").write_bytes(LARGE[:500])
    return root


@pytest.fixture
def saved(vault: Vault, command: Command, project: Path) -> Path:
    """A vault with two snapshots, the newest with more at the end of its large file; git knows it."""
    for text in (b"", b"more"):
        with (project / "art" / "rock.bin").open("ab") as file:
            file.write(text)
        assert command("snapshot", project).returncode == 0
    assert command("setup").returncode == 0
    return vault.path


def files(root: Path) -> dict[str, bytes]:
    found = (path for path in root.rglob("*") if path.is_file() and ".git" not in path.relative_to(root).parts[0])
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}


def test_a_worktree_has_real_files_and_git_takes_none_for_changed(saved: Path, project: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    git(saved, "worktree", "add", "--detach", work, "acme")
    assert files(work) == files(project)
    os.utime(work / "art" / "rock.bin")
    assert git(work, "status", "--porcelain") == ""
    (work / "art" / "rock.bin").write_bytes(LARGE[:-1])
    assert git(work, "status", "--porcelain") == " M art/rock.bin\n"
    git(work, "checkout", "-q", "--detach", "-f", "acme~1")
    assert (work / "art" / "rock.bin").read_bytes() == LARGE


def test_an_archive_has_real_files(saved: Path, project: Path) -> None:
    made = subprocess.run(["git", "archive", "acme"], cwd=saved, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=BytesIO(made)) as archive:
        found = {each.name: archive.extractfile(each).read() for each in archive if each.isfile()}  # type: ignore[union-attr]
    assert found == files(project)


def test_bisect_finds_the_snapshot_in_which_a_large_file_went_wrong(
    saved: Path, command: Command, project: Path, tmp_path: Path
) -> None:
    for number in range(2):
        (project / "art" / "rock.bin").write_bytes(LARGE + b"bad" + b"%d" % number)
        assert command("snapshot", project).returncode == 0
    work = tmp_path / "work"
    git(saved, "worktree", "add", "--detach", work, "acme")
    git(work, "bisect", "start", "acme", "acme~3")
    check = f"import sys; sys.exit(b'bad' in open('art/rock.bin','rb').read()[{len(LARGE)}:])"
    said = git(work, "bisect", "run", sys.executable, "-c", check)
    assert f"{git(saved, 'rev-parse', 'acme~1').strip()} is the first bad commit" in said
    git(work, "bisect", "reset")
    assert git(saved, "for-each-ref", "refs/bisect") == ""
    assert command("verify").returncode == 0


def test_a_diff_shows_what_files_are(saved: Path, command: Command, project: Path, tmp_path: Path) -> None:
    images = pytest.importorskip("PIL.Image")
    pytest.importorskip("OpenImageIO")
    for side in (20, 30):
        images.new("RGB", (side, 10), "red").save(project / "art" / "flag.png")
        assert command("snapshot", project).returncode == 0
    work = tmp_path / "work"
    git(saved, "worktree", "add", "--detach", work, "acme~1")
    shown = git(work, "diff", "-R", "acme")
    assert "-20 x 10 RGB 8 bits\n" in shown
    assert "+30 x 10 RGB 8 bits\n" in shown
    assert "changed  image  flag.png" in git(work, "difftool", "-y", "-t", "vault", "acme~1", "acme")
    shown = git(saved, "diff", "acme~3", "acme~2")
    assert "-size 300000\n" in shown
    assert "+size 300004\n" in shown


def test_a_difftool_tells_files_that_are_on_one_side_only_and_goes_on(
    saved: Path, command: Command, project: Path, tmp_path: Path
) -> None:
    """git has each shown as it is named: one that failed would end it."""
    images = pytest.importorskip("PIL.Image")
    pytest.importorskip("OpenImageIO")
    for side, names in ((20, ("a", "c")), (30, ("b", "c"))):
        for name in names:
            images.new("RGB", (side, 10), "red").save(project / "art" / f"{name}.png")
        if side == 30:
            (project / "art" / "a.png").unlink()
        assert command("snapshot", project).returncode == 0
    work = tmp_path / "work"
    git(saved, "worktree", "add", "--detach", work, "acme~1")
    for ends in ([], ["-R"]):
        said = git(work, "difftool", "-y", "-t", "vault", "--no-renames", *ends, "acme~1", "acme").splitlines()
        states = ("added", "deleted") if ends else ("deleted", "added")
        assert [line.split()[:3] for line in said if ".png" in line] == [
            [states[0], "file", "a.png"], [states[1], "file", "b.png"], ["changed", "image", "c.png"],
        ]  # fmt: skip


def test_over_the_limit_pointers_stay_until_they_are_hydrated(
    saved: Path, command: Command, project: Path, tmp_path: Path
) -> None:
    config.set(saved, "vault.smudgeLimit", 300_000)
    work = tmp_path / "work"
    said = git(saved, "worktree", "add", "--detach", work, "acme")
    assert "over vault.smudgeLimit, left as pointers: 1; git vault hydrate fills them in" in said
    rock = work / "art" / "rock.bin"
    assert rock.read_bytes().startswith(POINTER)
    rock.chmod(0o755)
    git(work, "update-index", "--chmod=+x", "art/rock.bin")
    done = command("hydrate", "rock.bin", cwd=work / "art")
    assert (done.returncode, done.stdout) == (0, "filled in 1 file, 293.0 KiB\n")
    assert files(work) == files(project)
    assert rock.stat().st_mode & 0o777 == 0o755
    assert git(work, "diff", "--name-only") == ""
    assert command("hydrate", cwd=work).stdout == "no pointers to fill in\n"
    assert not list(work.rglob("*.tmp"))


def test_hydrate_leaves_what_git_did_not_write(saved: Path, command: Command, tmp_path: Path) -> None:
    config.set(saved, "vault.smudgeLimit", 0)
    work = tmp_path / "work"
    git(saved, "worktree", "add", "--detach", work, "acme")
    rock = work / "art" / "rock.bin"
    older = subprocess.run(["git", "show", "acme~1:art/rock.bin"], cwd=saved, capture_output=True, check=True).stdout
    rock.write_bytes(older)
    there = Repository(work, {})
    with Vault.open(saved) as vault:

        def filled(*paths: str) -> int:
            return hydrate(there, paths, lambda: vault.store, lambda *_: None).files

        assert filled() == 0
        rock.unlink()
        rock.symlink_to(tmp_path / "elsewhere")
        (tmp_path / "elsewhere").write_bytes(older)
        assert filled() == 0
        with pytest.raises(NotFoundError, match="did not match any file"):
            filled("art/nothing")
    assert command("hydrate", cwd=tmp_path).returncode == 128


def test_hydrate_names_what_is_not_in_the_vault(saved: Path, command: Command, tmp_path: Path) -> None:
    config.set(saved, "vault.smudgeLimit", 0)
    work = tmp_path / "work"
    git(saved, "worktree", "add", "--detach", work, "acme")
    for pack in (saved / "chunks").glob("*.zpk"):
        pack.unlink()
    done = command("hydrate", "--json", cwd=work)
    assert done.returncode == 1
    assert '"files": 0' in done.stdout
    assert "art/rock.bin" in done.stderr
    assert (work / "art" / "rock.bin").read_bytes().startswith(POINTER)


@pytest.mark.skipif(version("git") < (2, 36), reason="git cannot tell clones by their remote")
def test_a_clone_has_real_files_at_once(saved: Path, project: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-b", "acme", saved, clone)
    assert files(clone) == files(project)
    assert git(clone, "status", "--porcelain") == ""


BY_ATTRIBUTES = version("git") >= (2, 42) and version("git", "lfs") >= (3, 6)
"""Whether git-lfs looks only at files that attributes give it."""


@pytest.mark.needs("git-lfs")
@pytest.mark.skipif(not BY_ATTRIBUTES, reason="wants git-lfs 3.6 and git 2.42; run by hand with Debian 13's")
def test_a_newer_git_lfs_pulls_only_what_attributes_give_it(
    saved: Path, command: Command, project: Path, tmp_path: Path
) -> None:
    config.set(saved, "vault.smudgeLimit", 0)
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-b", "acme", saved, clone)
    git(clone, "lfs", "pull")
    assert (clone / "art" / "rock.bin").read_bytes().startswith(POINTER)
    assert command("hydrate", cwd=clone).returncode == 0
    assert files(clone) == files(project)
    assert git(clone, "status", "--porcelain") == ""


@pytest.mark.needs("git-lfs")
@pytest.mark.skipif(BY_ATTRIBUTES, reason="see the test above")
@pytest.mark.parametrize("url", ["{}.git", "file://{}.git"])
def test_git_lfs_pull_gives_what_the_filter_left(saved: Path, project: Path, tmp_path: Path, url: str) -> None:
    config.set(saved, "vault.smudgeLimit", 0)
    clone = tmp_path / "a clone"
    git(tmp_path, "clone", "-b", "acme", url.format(saved.with_suffix("")), clone)
    assert (clone / "art" / "rock.bin").read_bytes().startswith(POINTER)
    git(clone, "lfs", "pull")
    assert files(clone) == files(project)
    if version("git") >= (2, 36):
        assert git(clone, "status", "--porcelain") == ""


@pytest.mark.needs("git-lfs")
def test_files_that_a_project_gives_to_git_lfs_are_its_own(
    vault: Vault, command: Command, project: Path, tmp_path: Path
) -> None:
    (project / ".gitattributes").write_text("rock.bin filter=lfs diff=lfs merge=lfs -text\n")
    assert command("snapshot", project).returncode == 0
    assert command("setup").returncode == 0
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-b", "acme", vault.path, clone)
    # git-lfs's own filter asked the agent during the checkout.
    assert files(clone) == files(project)
    assert git(clone, "status", "--porcelain") == ""
    assert git(clone, "lfs", "ls-files").split()[-1] == "art/rock.bin"


def test_a_clone_that_setup_does_not_know_is_hydrated_and_shows_as_modified(
    saved: Path, command: Command, project: Path, tmp_path: Path
) -> None:
    assert command("setup", "--undo").returncode == 0
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-b", "acme", saved, clone)
    done = command("hydrate", cwd=clone)
    assert files(clone) == files(project)
    assert "git shows 1 file as modified: no attribute has it filter them here" in done.stdout
    assert git(clone, "status", "--porcelain") == " M art/rock.bin\n"


def test_a_small_file_that_is_also_a_piece_of_a_large_one_stays_small(
    vault: Vault, command: Command, tmp_path: Path
) -> None:
    root = tmp_path / "acme"
    root.mkdir()
    (root / "small.bin").write_bytes(LARGE[:4096])
    with vault._lock("test"):
        vault.store.store_chunk(LARGE[:4096])
        vault.store.flush()
    assert command("snapshot", root).returncode == 0
    assert command("setup").returncode == 0
    work = tmp_path / "work"
    git(vault.path, "worktree", "add", "--detach", work, "acme")
    os.utime(work / "small.bin")
    assert git(work, "status", "--porcelain") == ""


def test_a_damaged_file_stops_a_checkout_unless_pointers_will_do(saved: Path, tmp_path: Path) -> None:
    for pack in (saved / "chunks").glob("*.zpk"):
        held = bytearray(pack.read_bytes())
        held[len(held) // 2] ^= 1
        pack.chmod(0o600)
        pack.write_bytes(held)
    said = git(saved, "worktree", "add", "--detach", tmp_path / "one", "acme", ok=128)
    assert "git-vault: art/rock.bin: " in said
    assert "smudge filter vault failed" in said
    git(saved, "-c", "filter.vault.required=false", "worktree", "add", "-f", "--detach", tmp_path / "two", "acme")
    assert (tmp_path / "two" / "art" / "rock.bin").read_bytes().startswith(POINTER)


def test_without_its_vault_a_clone_keeps_its_pointers(saved: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-b", "acme", saved, clone)
    saved.rename(tmp_path / "gone.git")
    (clone / "art" / "rock.bin").unlink()
    said = git(clone, "checkout", "art") if version("git") >= (2, 36) else "files stay as git has them"
    assert said.count("files stay as git has them") == 1
    assert (clone / "art" / "rock.bin").read_bytes().startswith(POINTER) or version("git") < (2, 36)


def test_dulwich_and_libgit2_read_worktrees_and_clones_the_same(saved: Path, project: Path, tmp_path: Path) -> None:
    dulwich = pytest.importorskip("dulwich.repo")
    porcelain = pytest.importorskip("dulwich.porcelain")
    pygit2 = pytest.importorskip("pygit2")
    work = tmp_path / "work"
    git(saved, "worktree", "add", "--detach", work, "acme")
    with Vault.open(saved) as vault:
        for place in (saved, work):
            repository = pygit2.Repository(str(place))
            tree = repository.revparse_single("acme").peel(pygit2.Tree)
            with dulwich.Repo(str(place)) as other:
                commit = other[b"refs/heads/acme"]
                assert commit.tree.decode() == str(tree.id)
                for name, content in files(project).items():
                    blob = tree[name].data
                    assert other[str(tree[name].id).encode()].data == blob
                    pointer = pointers.decode(blob)
                    if pointer:
                        target = BytesIO()
                        vault.store.retrieve_file(pointer, target)
                        blob = target.getvalue()
                    assert blob == content
    clone = tmp_path / "clone"
    porcelain.clone(str(saved), str(clone), branch=b"acme", errstream=BytesIO()).close()
    assert files(clone).keys() == files(project).keys()


@pytest.mark.deep
@pytest.mark.disk
@pytest.mark.needs("git-lfs")
def test_2_gib_pass_with_less_than_100_mib_of_memory(vault: Vault, command: Command, tmp_path: Path) -> None:
    root = tmp_path / "film"
    root.mkdir()
    with (root / "take.mov").open("wb") as file:
        for number in range(2048):
            file.write((b"%08d" % number * 8192 + bytes(65536)) * 8)
    assert command("snapshot", root).returncode == 0
    (root / "take.mov").unlink()
    assert command("setup").returncode == 0
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-b", "film", vault.path, clone)
    measured = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
    measured += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    for words in (["git", "lfs", "pull"], [sys.executable, "-m", "gitvault", "hydrate"]):
        (clone / "take.mov").unlink()
        git(clone, "checkout", "take.mov")
        done = subprocess.run([sys.executable, "-c", measured, *words], cwd=clone, capture_output=True, check=True)
        assert (clone / "take.mov").stat().st_size == 2 << 30
        assert int(done.stdout.split()[-1]) < 100 << 10, words
        assert git(clone, "status", "--porcelain") == ""
