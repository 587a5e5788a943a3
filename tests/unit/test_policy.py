"""Which rule decides of a path: precedence, `.gitvault.toml`, what the digest follows, what is said of it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import trees

from gitvault.core.scan import Folder, scopes, walk
from gitvault.core.stat_cache import Row
from gitvault.errors import ConfigError
from gitvault.policy import linguist, project_file
from gitvault.policy.ecosystems import CACHE_SIGNATURE, CACHE_TAG, ecosystems, string_lines
from gitvault.policy.explain import RECENT, Decision, explain, explain_path, likely_root, raised, spacing, unused
from gitvault.policy.kinds import hint, kind_of
from gitvault.policy.patterns import IGNORED, KEPT, PROJECT, Live, Rule, fits, parse
from gitvault.policy.policy import Place, Policy, reason
from gitvault.policy.project_file import CATEGORIES, Said, load, read
from gitvault.policy.tracked import hg_tracked, read_small, svn_tracked

GIT = {".git/HEAD": "ref: refs/heads/main\n", ".git/config": ""}


def write(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    return trees.write(folder, {name: text.encode() if isinstance(text, str) else text for name, text in files.items()})


def saved(policy: Policy) -> set[str]:
    return {
        os.fsdecode(folder.path + b"/" + name if folder.path else name)
        for folder in walk(Path(policy.root), {}, policy, [], [])
        for name, _ in folder.entries  # type: ignore[union-attr]
        if not folder.path.startswith(b".git")
    }


def said(root: Path, path: str, **options: object) -> Decision:
    target = root / path
    is_folder = path.endswith("/") or target.is_dir()
    return explain(Policy(root, **options), path.rstrip("/").encode(), is_folder)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------- who wins


def test_the_stronger_rule_wins(tmp_path: Path) -> None:
    """`vault.ignore` > nearest .gitvault.toml > outer > global file > tracked > keep list > .gitignore > built in."""
    everywhere = tmp_path / "global.toml"
    everywhere.write_text('skip = ["*.g", "*.gk", "*.env"]\nkeep = ["*.i", "node_modules/"]\n')
    root = write(
        tmp_path / "p",
        {
            **GIT,
            ".gitignore": "*.i\n*.log\n.env\n",
            ".gitvault.toml": 'skip = ["*.s"]\nkeep = ["*.gk", "*.v"]\n',
            "in/.gitvault.toml": 'keep = ["*.s"]\n',
            "package.json": "",
            **dict.fromkeys(["a.g", "a.gk", "a.i", "a.s", "in/a.s", "a.v", "a.log", "prod.env", "node_modules/x"], ""),
        },
    )
    found = saved(Policy(root, ignore=["*.v"], everywhere=everywhere))
    wanted = {".gitignore", ".gitvault.toml", "in/.gitvault.toml", "package.json", "a.gk", "a.i", "in/a.s"}
    assert found == wanted | {"node_modules/x"}
    assert {"a.v", "prod.env"} <= saved(Policy(root))
    assert said(root, "a.v", ignore=["*.v"], ignore_source=lambda text: ("the config", 7)).source == "the config"
    assert said(root, "a.g", everywhere=everywhere).line == 1


def test_without_conventions_only_what_users_wrote_counts(tmp_path: Path) -> None:
    root = write(
        tmp_path / "p",
        {
            **GIT,
            ".gitignore": "*.o",
            "a.o": "",
            "Cargo.toml": "",
            "target/x": "",
            ".gitvault.toml": 'skip = ["*.tmp"]',
            "a.tmp": "",
        },
    )
    assert saved(Policy(root, conventions=False)) >= {"a.o", "target/x"}
    assert "a.tmp" not in saved(Policy(root, conventions=False, ignore=["x"]))


def test_a_gitignore_counts_within_a_git_work_tree_only(tmp_path: Path) -> None:
    files = {".gitignore": "*.o\n", "a.o": ""}
    assert "a.o" in saved(Policy(write(tmp_path / "plain", files)))
    assert "a.o" not in saved(Policy(write(tmp_path / "work", {**GIT, **files})))


def test_ignored_is_not_worthless(tmp_path: Path) -> None:
    kept = [".env", ".env.local", "settings.local.json", "prod.tfvars", "release.keystore", ".idea/workspace.xml"]
    kept += [".vscode/deep/launch.json", "local.properties", "Cargo.lock", "docker/.env", "clones/a/.git/HEAD"]
    lost = ["x.bin", "docker/x.bin", "clones/b/c"]
    root = write(tmp_path / "p", {**GIT, ".gitignore": "*\n", **dict.fromkeys(kept + lost, "")})
    found = {
        os.fsdecode(f.path + b"/" + n).lstrip("/") for f in walk(root, {}, Policy(root), [], []) for n, _ in f.entries
    }  # type: ignore[union-attr]
    assert found.issuperset(kept)
    assert found.isdisjoint(lost)


def test_a_keep_pattern_that_names_the_way_is_followed_into_what_is_left_out(tmp_path: Path) -> None:
    root = write(
        tmp_path / "p",
        {
            "Cargo.toml": "",
            "target/release/app": "",
            "target/release/app.d": "",
            "target/debug/app": "",
            "node_modules/a/dist/index.js": "",
            "node_modules/a/package.json": "",
            "package.json": "",
            ".gitvault.toml": 'keep = ["target/release/app", "node_modules/"]\nskip = ["*.json"]',
        },
    )
    found = saved(Policy(root))
    assert found == {"Cargo.toml", ".gitvault.toml", "target/release/app", "node_modules/a/dist/index.js"}
    assert said(root, "target").keep
    assert "but not what is tracked or kept in it" in said(root, "target").rule
    assert said(root, "node_modules/a/dist").rule == "node_modules/"
    assert "target/release/app" not in saved(Policy(root, ignore=["target/"])), "vault.ignore is stronger"


def test_what_a_folder_holds_can_leave_it_out(tmp_path: Path) -> None:
    root = write(
        tmp_path / "p",
        {
            f"a/{CACHE_TAG}": CACHE_SIGNATURE + b"\nmore",
            "a/x": "",
            f"b/{CACHE_TAG}": "not the signature",
            "b/x": "",
            "c/pyvenv.cfg": "",
            "c/lib/x": "",
            "d/CMakeCache.txt": "",
            "d/CMakeFiles/x": "",
            "e/CMakeCache.txt": "",
            "e/CMakeFiles/a.dir/x": "",
            "e/CMakeLists.txt": "",
            "e/main.c": "",
        },
    )
    (root / "f").mkdir()
    (root / "f" / CACHE_TAG).mkdir()
    assert saved(Policy(root)) == {f"b/{CACHE_TAG}", "b/x", "e/CMakeLists.txt", "e/main.c"}
    assert saved(Policy(root / "c")) == {"pyvenv.cfg", "lib/x"}, "somebody asked for this very folder"
    tagged = said(root, "a/x")
    assert (tagged.keep, tagged.category, tagged.rule, tagged.line) == (False, "cache", CACHE_TAG, 1)
    assert said(root, "c").category == "dependency"
    assert not said(root, "c").keep


# ------------------------------------------------------------------------------------- what is looked at


def rows(root: Path) -> dict[bytes, Row]:
    return {
        f.path: Row(f.signature, f.scope, b"", b"", b"", 0, 0)
        for f in walk(root, {}, Policy(root), [], [])
        if isinstance(f, Folder)
    }


def test_a_folder_is_looked_at_again_only_where_the_answer_may_be_another(tmp_path: Path) -> None:
    root = write(tmp_path / "p", {**GIT, ".gitignore": "*.o", "a/x.o": "", "b/y": "", "c/.gitignore": "z", "c/z": ""})
    before = rows(root)

    def again() -> set[bytes]:
        return {f.path for f in walk(root, before, Policy(root), [], []) if isinstance(f, Folder)} - {b""}

    assert not again()
    (root / ".gitignore").write_text("# words\n*.o\n")
    assert not again(), "the same pattern on another line"
    (root / "c/.gitignore").write_text("y")
    assert again() == {b"c"}
    (root / ".gitignore").write_text("*.p")
    assert again() == {b"a", b"b", b"c"}


# -------------------------------------------------------------------------------------- .gitvault.toml


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("skip = [\n", 2, "expected TOML"),
        ('keep = ["a"]\n\nskip = 3\n', 3, "expected a list of gitignore patterns"),
        (
            'skpi = ["a"]\n',
            1,
            "unknown key 'skpi'; allowed are keep, skip, category, importance, every, keep_for; did you mean skip?",
        ),
        ('skip = [\n  "a",\n  "!b",\n]\n', 3, "write it under keep without the !"),
        ('keep = [\n  "a",\n  "#b",\n]\n', 3, "expected a gitignore pattern"),
        ('[category]\n"a" = "source"\n"b" = "thing"\n', 3, "expected one of source, configuration"),
        ("category = 1\n", 1, r"expected a table, \[category\]"),
        ('[importance]\n"a" = 101\n', 2, "expected a number from 0 to 100"),
        ('[every]\nthing = "1 day"\n', 2, "expected one of source"),
        ('[every]\nasset = "1 day"\n[keep_for]\nasset = "soon"\n', 4, "expected a time, such as"),
        (b"keep = []\n# \xff\n", 2, "not UTF-8"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_line(tmp_path: Path, text: str | bytes, line: int, says: str) -> None:
    file = write(tmp_path / "p", {".gitvault.toml": text, "a": ""}) / ".gitvault.toml"
    with pytest.raises(ConfigError, match=rf"{file}, line {line}: .*{says}"):
        load(file, PROJECT)
    with pytest.raises(ConfigError, match=rf"line {line}: "):
        said(tmp_path / "p", "a")
    with pytest.raises(ConfigError, match=rf"line {line}: "):
        unused(Policy(tmp_path / "p"))


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="line 1: cannot be read"):
        load(tmp_path / "none.toml", PROJECT)
    (tmp_path / "big.toml").write_bytes(b"#" * (project_file.LONGEST + 1))
    with pytest.raises(ConfigError, match="no plain file of at most"):
        load(tmp_path / "big.toml", PROJECT)
    with pytest.raises(OSError, match="no plain file"):
        read_small(str(tmp_path), 10)
    with pytest.raises(ConfigError, match="nested too deeply"):
        read("deep.toml", b"keep = " + b"[" * 100_000, PROJECT)


def test_a_broken_file_loses_nothing_and_is_a_problem(tmp_path: Path) -> None:
    root = write(tmp_path / "p", {"in/.gitvault.toml": "skip = [", "in/x": "", "Cargo.toml": "", "target/x": ""})
    policy = Policy(root)
    assert saved(policy) == {"in/.gitvault.toml", "in/x", "Cargo.toml"}
    [problem] = policy.problems
    assert problem.path == b"in/.gitvault.toml"


def test_a_file_says_what_paths_are_and_what_they_are_worth(tmp_path: Path) -> None:
    text = (
        '[category]\n"*.dat" = "source"\n"gen/" = "generated"\n[importance]\n"core/" = 100\n"core/low" = 3\n'
        '[every]\nsource = "5 minutes"\n[keep_for]\ngenerated = "2 weeks"\n'
    )
    root = write(tmp_path / "p", {".gitvault.toml": text})
    found = said(root, "core/x.dat")
    assert (found.category, found.importance, found.every, found.rule, found.line) == (
        "source",
        100,
        "5 minutes",
        "*.dat",
        2,
    )
    assert said(root, "core/low").importance == 3
    assert (said(root, "gen/a.c").category, said(root, "gen/a.c").keep_for) == ("generated", "2 weeks")
    assert said(root, "core/").keep
    assert read("f", text.encode(), PROJECT).every == {"source": "5 minutes"}
    assert Said().rules == ()


def test_rules_that_match_nothing_are_found(tmp_path: Path) -> None:
    everywhere = tmp_path / "global.toml"
    everywhere.write_text('skip = ["*.g", "*.none"]\n')
    root = write(
        tmp_path / "p",
        {
            ".gitvault.toml": 'skip = ["*.s", "never/"]\nkeep = ["a.s"]\n[category]\n"*.q" = "source"\n'
            '[importance]\n"a.s" = 1\n',
            "a.s": "",
            "a.g": "",
            "in/.gitvault.toml": 'skip = ["/deep/x"]\n',
            "in/deep/x": "",
        },
    )
    found = unused(Policy(root, ignore=["*.v", "*.s"], everywhere=everywhere))
    assert [(rule.text, rule.line) for rule in found] == [("*.none", 1), ("never/", 1), ("*.q", 4), ("*.v", 0)]


# ------------------------------------------------------------------------------------------- explain


def test_every_left_out_path_names_its_rule(tmp_path: Path) -> None:
    root = write(
        tmp_path / "p", {**GIT, ".gitignore": "# no\n*.o\n", "package.json": "", "a.o": "", "node_modules/a": ""}
    )
    found = said(root, "a.o")
    assert (found.rule, found.source, found.line, found.where) == ("*.o", str(root / ".gitignore"), 2, "skip")
    deep = said(root, "node_modules/react/index.js")
    assert (deep.keep, deep.category, deep.language, deep.rule) == (False, "dependency", "JavaScript", "/node_modules/")
    assert '"/node_modules/"' in Path(deep.source).read_text("utf-8").splitlines()[deep.line - 1]
    [(scope, name)] = scopes(root, Policy(root), b"node_modules")
    assert scope.omits(name, True) == f"left out by /node_modules/ ({deep.source}:{deep.line})"
    assert isinstance(scope, Place)
    assert reason(Rule("a", False, IGNORED, "f", 0, (b"a",))) == "left out by a (f)"


@pytest.mark.parametrize(
    ("path", "category", "language"),
    [
        ("src/main.rs", "source", "Rust"),
        ("Makefile", "source", "Makefile"),
        ("Cargo.toml", "configuration", "TOML"),
        ("package-lock.json", "configuration", "JSON"),
        ("art/hero.png", "asset", None),
        ("README", "documentation", None),
        ("docs/setup.md", "documentation", "Markdown"),
        ("docs/conf.py", "source", "Python"),
        ("app.min.js", "generated", "JavaScript"),
        ("api_pb2.py", "generated", "Python"),
        ("third_party/zlib/inflate.c", "dependency", "C"),
        (".env", "secret", None),
        ("keys/id_rsa", "secret", None),
        ("x.log", "cache", None),
        ("what.ever", "asset", None),
        ("MAIN.PY", "source", "Python"),
    ],
)
def test_what_a_file_is_by_its_name(path: str, category: str, language: str | None) -> None:
    kind = kind_of(path)
    assert (kind.category, kind.language) == (category, language)
    assert category in CATEGORIES
    assert hint("importance", category) in range(101)
    line = Path(kind.source).read_text("utf-8").splitlines()[kind.line - 1]
    assert kind.rule in line or kind.rule == "any other file"


def test_what_changes_often_is_more_important() -> None:
    decision = Decision(b"a", True, "source", None, "r", "s", 1, 80, "1 hour", "1 day", "git")
    assert raised(decision, 0, RECENT).importance == 80
    assert raised(decision, RECENT // 2, RECENT).importance == 90
    assert raised(decision, 3, 3).importance == 100
    assert raised(decision, 0, 0) is decision


def test_a_path_in_no_project_is_judged_in_what_it_would_belong_to(tmp_path: Path) -> None:
    root = write(
        tmp_path / "p", {"package.json": "", "node_modules/a/package.json": "", "in/.git/HEAD": "", "in/x/y": ""}
    )
    assert str(root).startswith(likely_root(str(root / "node_modules/a/x"))), "not that of the package"
    assert likely_root(str(root / "in/x/y")) == str(root / "in")
    assert not explain_path(str(root / "node_modules")).keep
    assert not explain_path(f"{root}/.turbo/").keep, "a folder that is not there yet"
    assert not explain_path(f"{root}/.turbo").keep, "the same, not said to be a folder"
    assert explain_path(str(root / "not/there")).keep


def test_the_note_names_the_rules_that_left_out_most(tmp_path: Path) -> None:
    root = write(tmp_path / "p", {"package.json": "", "a/package.json": "", "a.v": ""})
    for name in ("node_modules", "a/node_modules", ".next"):
        (root / name).mkdir()
    policy = Policy(root, ignore=["*.v"])
    assert policy.note() == ""
    saved(policy)
    assert policy.note().startswith("left out 3 folders and 1 file: /node_modules/ (ecosystems.toml) 2, /.next/ (")
    assert "*.v (vault.ignore) 1" in policy.note()


# -------------------------------------------------------------------------------------------- the data


def test_the_data_is_sound() -> None:
    built_in = ecosystems()
    known = {
        name
        for mark in ("package.json", "Cargo.toml", "*.uproject")
        for name in built_in.marks([mark.replace("*", "x")])
    }
    assert known == {"package.json", "Cargo.toml", "*.uproject"}
    assert len({rule.source for rule in built_in.rules(["package.json", "pom.xml"])}) == 1
    assert built_in.closes(["pyvenv.cfg"])
    assert built_in.closes(["CMakeCache.txt"]) is None
    assert "Cargo.lock" in built_in.manifests
    assert next(built_in.keep.matches(b".env", False)).level == KEPT
    assert string_lines('[a]\nx = [\n  "b", # "c"\n]')["a", "b"] == 3
    import tomllib

    names = [
        name
        for name in tomllib.loads(Path(built_in.rules(["pom.xml"])[0].source).read_text("utf-8"))
        if name != "inside"
    ]
    assert len(names) >= 35


# -------------------------------------------------------------------------------------------- patterns


def live(*lines: str) -> Live:
    patterns = [(line, parse(line.encode())) for line in lines]
    return Live().add(
        [Rule(text, p.negated, IGNORED, "", n, p.segments, p.folders_only) for n, (text, p) in enumerate(patterns) if p]
    )


def test_below_a_folder_no_more_is_held_than_can_match_there() -> None:
    rules = live("/a/b", "*.o", "c/**/d")
    assert rules.below(b"x") is rules.below(b"y").below(b"z")
    assert rules.below(b"a").may_match(b"b", False)
    assert not rules.below(b"x").may_match(b"b", False)
    assert rules.below(b"c").below(b"q").may_match(b"d", False)
    assert rules.only(PROJECT).rests == ()
    assert live("!a/b/c").leads_to(b"a", IGNORED) is False, "only a user's rule leads into what is left out"


def test_a_hostile_pattern_is_fast() -> None:
    started = time.process_time()
    assert not fits(b"*a" * 60 + b"b", b"a" * 250)
    assert not live("*a" * 60 + "b", "**/" * 60 + "x").may_match(b"a" * 250, False)
    assert time.process_time() - started < 1


def test_what_is_tracked_is_read_without_the_program(tmp_path: Path) -> None:
    assert hg_tracked(str(tmp_path)).digest(b"") == b""
    from gitvault.policy.tracked import Unreadable

    with pytest.raises(Unreadable):
        svn_tracked(str(tmp_path))


def test_how_seldom_users_want_something_saved(tmp_path: Path) -> None:
    (tmp_path / "film").mkdir()
    (tmp_path / ".gitvault.toml").write_text('[every]\nasset = "4 hours"\nsource = "1 day"\n')
    (tmp_path / "film" / ".gitvault.toml").write_text('[every]\nasset = "90minutes"\n')
    policy = Policy(tmp_path)
    found = [spacing(policy, path) for path in (b"a.mp4", b"film/a.mp4", b"film/a.py", b"README.md")]
    assert found == [4 * 3600, 90 * 60, 86_400, 0]
    (tmp_path / ".gitvault.toml").write_text("[every")
    with pytest.raises(ConfigError):
        spacing(Policy(tmp_path), b"a.mp4")


def test_what_gitattributes_say_of_generated_and_vendored_files(tmp_path: Path) -> None:
    lines = (
        "# comment linguist-generated",
        "[attr]odd linguist-generated",
        "*.proto.ts text linguist-generated=true",
        "*.min.js -linguist-generated",
        "/assets/** linguist-vendored",
        "/assets/own.css linguist-vendored=false",
        'src/"odd linguist-generated',
        '"src/a file.c" linguist-generated',
        "notes/ linguist-documentation",
        "*.adocx linguist-documentation diff",
        "alone",
    )
    attributes, inner = tmp_path / linguist.NAME, tmp_path / "src" / linguist.NAME
    trees.write(tmp_path, {linguist.NAME: "\n".join(lines).encode()})
    trees.write(tmp_path, {f"src/{linguist.NAME}": b"*.ts -linguist-generated\n"})
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop" / linguist.NAME).symlink_to(linguist.NAME)

    def found(path: str, is_folder: bool = False) -> tuple[str, str | None, str, int]:
        decision = explain(Policy(tmp_path), path.encode(), is_folder)
        return decision.category, decision.language, decision.source, decision.line

    here = str(attributes)
    assert found("lib/api.proto.ts") == ("generated", "TypeScript", here, 3)
    assert found("loop/api.proto.ts") == ("generated", "TypeScript", here, 3)
    assert found("src/api.proto.ts")[:2] == ("source", "TypeScript"), f"{inner} is nearer"
    assert found("www/app.min.js")[:2] == ("source", "JavaScript"), "its name says something else"
    assert found("assets/deep/jquery.js") == ("dependency", "JavaScript", here, 5)
    assert found("assets/own.css")[0] == "source"
    assert found("src/a file.c") == ("generated", "C", here, 8)
    assert found("notes/a.c")[0] == "source", "as in git, a folder's line says nothing of what is in it"
    assert found("a.adocx")[0] == "documentation"
    assert found("assets", is_folder=True)[0] == "source", "attributes are files'"
    generated = explain(Policy(tmp_path), b"lib/api.proto.ts", False)
    assert generated.keep and generated.importance == hint("importance", "generated")
    # One's own word counts more.
    trees.write(tmp_path, {".gitvault.toml": b'[category]\n"*.proto.ts" = "source"\n'})
    assert found("lib/api.proto.ts")[0] == "source"
