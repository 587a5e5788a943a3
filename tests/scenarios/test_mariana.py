"""The developer's days, from beginning to end, as she types them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from repositories import commit, git
from scenarios.conftest import Machine, put
from trees import contents, differences

TOTAL = "def total(cart):\n    return sum(line.price * line.count for line in cart.lines if line.wanted)\n"


def test_a_project_migrated_to_another_language_keeps_its_history(machine: Machine, tmp_path: Path) -> None:
    old = put(tmp_path / "shop", {"cart.py": TOTAL, "setup.py": "from setuptools import setup\nsetup()\n"})
    python = machine.save(old, "The last in Python")
    new = put(
        tmp_path / "shop-rs",
        {"Cargo.toml": '[package]\nname = "shop"\n', "src/cart.rs": "fn total(cart: &Cart) -> u64 { cart.sum() }\n"},
    )
    machine.say("projects", "move", "shop", new)
    rust = machine.save(new, "The first in Rust")
    assert [one["snapshot"] for one in machine.ask("log", "shop")] == [rust, python]
    (listed,) = machine.ask("projects", "stack:rust")
    assert (listed["name"], listed["path"], listed["snapshots"]) == ("shop", str(new), 2)
    shown = machine.ask("diff", python, rust, code=1)
    assert "cart.py" in shown["deleted"] and "src/cart.rs" in shown["added"]
    (hit,) = machine.ask("search", "def total", "--project", "shop")["hits"]
    assert (hit["introduced"], hit["removed"], hit["alive"]) == (python, rust, False)
    machine.say("restore", "shop~1", "--to", tmp_path / "back")
    assert differences(old, tmp_path / "back") == {}


def test_one_component_is_brought_back_across_the_projects_evolution(machine: Machine, tmp_path: Path) -> None:
    """It was moved, then thrown away; what else changed since stays as it is."""
    shop = put(tmp_path / "shop", {"invoice.py": TOTAL, "main.py": "import invoice\n"})
    machine.save(shop)
    (shop / "billing").mkdir()
    (shop / "invoice.py").rename(shop / "billing" / "invoice.py")
    put(shop, {"billing/invoice.py": TOTAL + "# with VAT\n"})
    moved = machine.save(shop, "billing is a package")
    shutil.rmtree(shop / "billing")
    put(shop, {"main.py": "print('today')\n"})
    gone = machine.save(shop, "billing went")
    put(shop, {"main.py": "print('not saved yet')\n"})
    (hit,) = (hit for hit in machine.ask("search", "with VAT")["hits"] if hit["path"] == "billing/invoice.py")
    assert (hit["introduced"], hit["removed"]) == (moved, gone)
    done = machine.ask("restore", moved, "billing/invoice.py", "--in-place")
    assert (shop / "billing" / "invoice.py").read_text() == TOTAL + "# with VAT\n"
    assert (shop / "main.py").read_text() == "print('not saved yet')\n"
    assert machine.say("cat", f"{done['safety']}:main.py") == "print('not saved yet')\n"
    assert machine.ask("log", "shop")[0]["snapshot"] == done["safety"]
    machine.save(shop, "billing is back")
    assert moved[:12] in machine.ask("log", "shop")[0]["restored_from"]


@pytest.mark.needs("git")
def test_uncommitted_work_is_recovered_after_a_crash(machine: Machine, tmp_path: Path) -> None:
    server = tmp_path / "server.git"
    git(tmp_path, "init", "-q", "--bare", server)
    work = tmp_path / "api"
    git(tmp_path, "init", "-q", work)
    commit(work, "a.py", "one\n", "The beginning")
    git(work, "remote", "add", "origin", server)
    git(work, "push", "-q", "-u", "origin", "main")
    unpushed = commit(work, "b.py", "two\n", "Not pushed")
    put(work, {"a.py": "put aside\n"})
    git(work, "stash", "-q")
    put(work, {"a.py": "staged\n"})
    git(work, "add", "a.py")
    put(work, {"a.py": "and changed again\n", "new.py": "never added\n", ".env": "KEY=1\n", ".gitignore": ".env\n"})
    status = git(work, "status", "--porcelain")
    before = contents(work)
    machine.say("add", work)
    (said,) = machine.ask("vcs", "status", "api", code=1)
    assert (said["safe"], said["unpushed_commits"], said["stashes"]) == (False, 1, 1)
    machine.save(work)
    shutil.rmtree(work)
    machine.say("restore", "api", "--to", work)
    assert git(work, "status", "--porcelain") == status
    assert git(work, "rev-parse", "HEAD").strip() == unpushed
    assert git(work, "show", "stash@{0}:a.py") == "put aside"
    assert git(work, "show", ":a.py") == "staged"
    for name in (b"a.py", b"b.py", b"new.py", b".env"):
        assert contents(work)[name] == before[name]


@pytest.mark.needs("git")
def test_when_and_by_whom_code_came_is_found_by_a_pattern(machine: Machine, tmp_path: Path) -> None:
    work = tmp_path / "api"
    git(tmp_path, "init", "-q", work)
    people = [("Ada", "retries = 3\n"), ("Ben", "retries = 5\n"), ("Ada", "import backoff\n")]
    ids = []
    for name, text in people:
        git(work, "config", "user.name", name)
        ids.append(commit(work, "net.py", text, f"{name} was here"))
    machine.say("add", work)
    machine.save(work)
    found = machine.ask("search", r"retries = \d+")["hits"]
    assert [(hit["text"], hit["introduced"], hit["author"], hit["modified"], hit["removed"]) for hit in found] == [
        ("retries = 5", ids[0], "Ada", [ids[1]], ids[2])
    ]
    same = machine.say("search", "-S", "retries", "--ids").split()
    assert [one for one in same if one in ids] == git(work, "log", "--format=%H", "-S", "retries").split()


def test_storage_is_optimised_while_history_stays_whole(machine: Machine, tmp_path: Path) -> None:
    shop = put(tmp_path / "shop", {f"src/{n}.py": TOTAL * 20 + f"# {n}\n" for n in range(60)})
    ids, kept = [machine.save(shop)], [contents(shop)]
    for version in range(1, 8):
        for n in range(version, 60, 7):
            (shop / "src" / f"{n}.py").write_text(TOTAL * 20 + f"# {n}, version {version}\n")
        ids.append(machine.save(shop))
        kept.append(contents(shop))
    before = machine.ask("stats")["stored_bytes"]
    machine.say("maintain")
    assert machine.ask("stats")["stored_bytes"] < before
    plan = machine.ask("prune", "--keep-last", "3")
    assert (plan["yes"], sorted(plan["removed"])) == (False, sorted(ids[:5]))
    machine.say("prune", "--keep-last", "3", "--yes")
    machine.say("sweep")
    assert machine.ask("verify", "--data")["ok"] is True
    # What people wrote down goes on leading there.
    for number in (5, 6, 7):
        machine.say("restore", ids[number], "--to", tmp_path / str(number))
        assert contents(tmp_path / str(number)) == kept[number]


def test_code_that_projects_share_is_found(machine: Machine, tmp_path: Path) -> None:
    pytest.importorskip("tree_sitter")
    body = (
        "def money(cents, sign='-'):\n"
        "    whole, rest = divmod(abs(cents), 100)\n"
        "    text = f'{whole}.{rest:02}'\n"
        "    for place in range(len(text) - 6, 0, -3):\n"
        "        text = text[:place] + ',' + text[place:]\n"
        "    return sign + text if cents < 0 else text\n"
    )
    machine.save(put(tmp_path / "shop", {"money.py": body, "own.py": "x = 1\n"}))
    machine.save(put(tmp_path / "blog", {"lib/format.py": "# taken from the shop\n" + body.replace("money", "price")}))
    machine.save(put(tmp_path / "game", {"main.py": "print(1)\n"}))
    (hit,) = machine.ask("search", "--reuse")["hits"]
    assert hit["projects"] == ["blog", "shop"]
    assert {(one["project"], one["path"], one["name"]) for one in hit["places"]} == {
        ("shop", "money.py", "money"),
        ("blog", "lib/format.py", "price"),
    }
