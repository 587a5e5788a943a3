"""Twenty-nine project trees: what tools make is left out, what people wrote and version control tracks never is.

Each tree is given as its tool leaves it: by the tool itself where it is here (`built`), else from its documentation.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from gitvault.core.scan import walk
from gitvault.policy.policy import Policy

LEAST = 0.95
"""Of the bytes of output."""
KB = 1000

# Sizes in kilobytes; an output ends in `!`, what is tracked in `*`. Nothing here relies on a .gitignore.
REPRODUCED: dict[str, dict[str, int]] = {
    "django": {
        "manage.py*": 1, "shop/models.py*": 9, "requirements.txt*": 1, "db.sqlite3": 900, ".env": 1,
        "notes/idea.txt": 2,
        "shop/__pycache__/models.cpython-311.pyc!": 12, "shop/migrations/0001_initial.py*": 3,
        "shop/migrations/__pycache__/0001_initial.cpython-311.pyc!": 3, ".venv/pyvenv.cfg!": 1,
        ".venv/lib/python3.11/site-packages/django/__init__.py!": 9000, ".pytest_cache/CACHEDIR.TAG!": 1,
        ".pytest_cache/v/cache/nodeids!": 2, "htmlcov/index.html!": 40, ".coverage": 50, "locale/de/django.mo*": 20,
    },
    "python library": {
        "pyproject.toml*": 1, "uv.lock*": 90, "src/lib/core.py*": 30, "build/lib/lib/core.py!": 30,
        "build/bdist.linux-x86_64/wheel/x!": 5, "dist/lib-1.0-py3-none-any.whl!": 300, "dist/lib-1.0.tar.gz!": 200,
        "src/lib.egg-info/PKG-INFO!": 2, ".tox/py311/lib/x!": 4000, ".mypy_cache/3.11/lib.data.json!": 900,
        ".ruff_cache/0.1/x!": 3, "docs/conf.py*": 2, "docs/_build/html/index.html!": 400,
    },
    "notebooks": {
        "analysis.ipynb*": 400, "data/raw.csv": 5000, ".ipynb_checkpoints/analysis-checkpoint.ipynb!": 390,
        "environment.yml*": 1, "figures/one.png": 80, "tools.py*": 4, "__pycache__/tools.cpython-311.pyc!": 5,
    },
    "next.js": {
        "package.json*": 2, "package-lock.json*": 300, "app/page.tsx*": 4, "public/logo.svg*": 3, ".env.local": 1,
        "node_modules/.package-lock.json!": 200, "node_modules/next/dist/server.js!": 40_000,
        ".next/static/chunks/main.js!": 8000, ".next/cache/webpack/0.pack!": 30_000, "out/index.html!": 30,
        "out/_next/static/a.js!": 200, "next-env.d.ts*": 1, "tsconfig.tsbuildinfo!": 100,
    },
    "pnpm monorepo": {
        "package.json*": 1, "pnpm-lock.yaml*": 500, "pnpm-workspace.yaml*": 1, "node_modules/.pnpm/a/index.js!": 9000,
        "packages/ui/package.json*": 1, "packages/ui/src/index.ts*": 5, "packages/ui/dist/index.js!": 60,
        "packages/ui/dist/index.d.ts!": 9, "packages/ui/node_modules/x/package.json!": 1,
        ".turbo/cache/a.tar.zst!": 2000,
        "packages/web/package.json*": 1, "packages/web/build/webpack.config.js*": 4, "packages/web/build/paths.js": 2,
    },
    "svelte": {
        "package.json*": 1, "yarn.lock*": 200, ".svelte-kit/output/server.js!": 900, "src/app.svelte*": 3,
        "node_modules/vite/index.js!": 7000, ".yarn/cache/a.zip!": 3000, ".yarn/releases/yarn-4.cjs*": 2700,
    },
    "go": {
        "go.mod*": 1, "go.sum*": 20, "main.go*": 5, "vendor/modules.txt!": 2, "vendor/github.com/x/y.go!": 3000,
        "internal/a/a.go*": 3, "testdata/vendor/real.txt": 5,
    },
    "maven": {
        "pom.xml*": 3, "src/main/java/A.java*": 6, "target/classes/A.class!": 9, "target/app-1.0.jar!": 900,
        "core/pom.xml*": 1, "core/target/core.jar!": 300, "core/src/main/java/target/B.java*": 2,
    },
    "gradle": {
        "build.gradle*": 2, "settings.gradle*": 1, "gradle/wrapper/gradle-wrapper.jar*": 60,
        ".gradle/8.5/checksums.bin!": 90,
        "build/libs/app.jar!": 4000, "app/build.gradle.kts*": 2, "app/build/classes/java/main/A.class!": 60,
        "app/src/main/java/A.java*": 3, "build/tmp/x!": 1, ".kotlin/sessions/a!": 1,
    },
    "android": {
        "settings.gradle.kts*": 1, "local.properties": 1, "app/build.gradle.kts*": 3,
        "app/src/main/AndroidManifest.xml*": 1,
        "app/build/outputs/apk/debug/app-debug.apk!": 9000, "app/.cxx/Debug/a.o!": 700, "app/google-services.json": 1,
        "release.keystore": 3, ".gradle/a.lock!": 1,
    },
    ".net": {
        "App.sln*": 3, "src/App.csproj*": 1, "src/Program.cs*": 4, "src/bin/Debug/net8.0/App.dll!": 300,
        "src/obj/project.assets.json!": 90, "src/obj/Debug/net8.0/App.pdb!": 80, ".vs/App/v17/.suo!": 200,
        "src/App.csproj.user": 1, "tools/bin/deploy.sh": 2, "TestResults/a.trx!": 30,
    },
    "autotools": {
        "configure.ac*": 2, "Makefile.am*": 1, "Makefile": 30, "src/main.c*": 9, "src/main.o!": 40,
        "src/.deps/main.Po!": 2,
        "src/.libs/libx.so!": 300, "autom4te.cache/output.0!": 900,
    },
    "bazel": {"MODULE.bazel*": 1, "BUILD.bazel*": 1, "MODULE.bazel.lock*": 30, "lib/a.cc*": 8},
    "xcode": {
        "App.xcodeproj/project.pbxproj*": 90, "App/ContentView.swift*": 3, "DerivedData/App/Build/a.o!": 9000,
        "build/Release-iphoneos/App.app/App!": 4000, "Podfile*": 1, "Podfile.lock*": 4, "Pods/A/a.m!": 2000,
        "App.xcodeproj/xcuserdata/me.xcuserdatad/a.plist": 1,
    },
    "swift package": {"Package.swift*": 1, "Package.resolved*": 2, "Sources/A/a.swift*": 4, ".build/debug/a.o!": 3000},
    "laravel": {
        "composer.json*": 2, "composer.lock*": 300, "vendor/autoload.php!": 1, "vendor/laravel/framework/a.php!": 9000,
        ".env": 1, "app/Models/User.php*": 2, "storage/framework/views/a.php!": 20, "storage/app/upload.png": 300,
    },
    "rails": {
        "Gemfile*": 2, "Gemfile.lock*": 9, "vendor/bundle/ruby/3.2.0/gems/rails/a.rb!": 9000,
        "tmp/cache/bootsnap/x!": 2000,
        "config/master.key": 1, "app/models/user.rb*": 2, "public/assets/.sprockets-manifest-1.json!": 1,
        "public/assets/app-1.css!": 90, "vendor/javascript/mine.js*": 3,
    },
    "phoenix": {
        "mix.exs*": 2, "mix.lock*": 5, "deps/phoenix/lib/a.ex!": 3000, "_build/dev/lib/a.beam!": 4000, "lib/app.ex*": 4,
        ".elixir_ls/build/x!": 100,
    },
    "haskell": {"app.cabal*": 2, "stack.yaml*": 1, "stack.yaml.lock*": 1, "src/A.hs*": 4, ".stack-work/dist/a!": 5000,
                "dist-newstyle/build/a!": 5000},
    "sbt": {"build.sbt*": 1, "project/plugins.sbt*": 1, "project/target/a!": 300, "target/scala-3/a.class!": 500,
            ".bloop/a.json!": 20, ".metals/a.db!": 900, "src/main/scala/A.scala*": 3},
    "flutter": {"pubspec.yaml*": 1, "pubspec.lock*": 9, "lib/main.dart*": 4, "build/app/outputs/a.apk!": 9000,
                ".dart_tool/package_config.json!": 30, "ios/Pods/A/a.m!": 900, "linux/flutter/ephemeral/a.so!": 900,
                ".flutter-plugins!": 1, "android/key.properties": 1},
    "unity": {
        "ProjectSettings/ProjectSettings.asset*": 20, "Assets/Scenes/Main.unity*": 300, "Assets/Art/a.psd*": 9000,
        "Packages/manifest.json*": 1, "Packages/packages-lock.json*": 4, "Library/ArtifactDB!": 30_000,
        "Library/PackageCache/a/b.cs!": 900, "Temp/UnityLockfile!": 1, "Logs/shadercompiler.log!": 9,
        "Builds/Game_Data/level0!": 9000, "Assets/Library/Books.asset*": 3, "UserSettings/EditorUserSettings.asset": 2,
    },
    "unreal": {
        "Game.uproject*": 1, "Content/Maps/Main.umap*": 9000, "Config/DefaultEngine.ini*": 3,
        "Source/Game/Game.cpp*": 5,
        "Binaries/Linux/Game.so!": 9000, "Intermediate/Build/a.o!": 9000, "DerivedDataCache/a.udd!": 20_000,
        "Saved/Cooked/a.uasset!": 9000, "Saved/Config/Linux/Game.ini": 2, "Saved/SaveGames/slot1.sav": 40,
    },
    "godot": {"project.godot*": 2, "main.tscn*": 5, "art/a.png*": 900, "art/a.png.import*": 1,
        ".godot/imported/a.ctex!": 3000},
    "terraform": {"main.tf*": 3, ".terraform.lock.hcl*": 2, ".terraform/providers/a!": 300_000, "prod.tfvars": 1,
                  "terraform.tfstate": 40},
    "zig": {"build.zig*": 1, "src/main.zig*": 4, "zig-out/bin/a!": 900, ".zig-cache/o/a!": 2000},
    "ocaml": {"dune-project*": 1, "bin/main.ml*": 3, "_build/default/bin/main.exe!": 4000, "app.opam*": 1},
    "r": {"app.Rproj*": 1, "renv.lock*": 30, "renv/activate.R*": 30, "renv/library/R-4.3/a!": 90_000,
        ".Rproj.user/a!": 20,
          "R/a.R*": 4, "data/a.rds": 500},
    "latex": {"thesis.tex*": 90, "refs.bib*": 20, "figures/plot.pdf*": 300, "thesis.aux!": 40, "thesis.log!": 60,
        "thesis.toc!": 6,
              "thesis.pdf!": 3000, "thesis.fdb_latexmk!": 9, "thesis.synctex.gz!": 300, "letter.tex*": 2,
              "letter.pdf": 90,
              "measurements.log": 70},
}  # fmt: skip


def sizes(root: Path) -> dict[str, int]:
    return {
        path.relative_to(root).as_posix(): path.lstat().st_size
        for path in root.rglob("*")
        if not path.is_dir() and ".git" not in path.relative_to(root).parts
    }


def saved(root: Path) -> set[str]:
    policy = Policy(root)
    found = {
        os.fsdecode(folder.path + b"/" + name if folder.path else name)
        for folder in walk(root, {}, policy, [], [])
        for name, _ in folder.entries  # type: ignore[union-attr]
    }
    assert not policy.problems
    return found


def judged(root: Path, is_output: Callable[[str], bool]) -> None:
    """At least so much of the output is left out, and none of the rest."""
    found, kept = sizes(root), saved(root)
    output = {path: size for path, size in found.items() if is_output(path)}
    left_out = sum(size for path, size in output.items() if path not in kept)
    assert left_out >= LEAST * sum(output.values()), sorted(kept & output.keys())
    missing = found.keys() - output.keys() - kept
    assert not missing


@pytest.mark.parametrize("name", REPRODUCED)
def test_output_is_left_out_and_nothing_else(tmp_path: Path, name: str) -> None:
    for path, size in REPRODUCED[name].items():
        file = tmp_path / path.rstrip("!*")
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as opened:
            if file.name == "CACHEDIR.TAG":
                opened.write(b"Signature: 8a477f597d28d172789f06886806bc55\n")
            opened.truncate(size * KB)
    outputs = {path[:-1] for path in REPRODUCED[name] if path.endswith("!")}
    judged(tmp_path, outputs.__contains__)


@pytest.mark.needs("git")
@pytest.mark.parametrize("name", ["maven", "pnpm monorepo", "unity", "latex"])
def test_tracked_output_is_saved(tmp_path: Path, name: str) -> None:
    for path in REPRODUCED[name]:
        file = tmp_path / path.rstrip("!*")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    (tmp_path / ".gitignore").write_text("*\n")
    missing = {path.rstrip("!*") for path in REPRODUCED[name]} - saved(tmp_path)
    assert not missing


# The tests' home is not that of the tools.
TOOLS = {**os.environ, "RUSTUP_HOME": os.environ.get("RUSTUP_HOME", str(Path.home() / ".rustup"))}


def run(folder: Path, *command: str) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=240, env=TOOLS)


def test_built_by_python(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "app.py").write_text("import helper\n")
    (tmp_path / "helper.py").write_text("x = 1\n")
    run(tmp_path, sys.executable, "-B", "-m", "compileall", "-q", ".")
    venv.create(tmp_path / "environment", with_pip=False, symlinks=sys.platform != "win32")
    judged(tmp_path, lambda path: path.startswith(("__pycache__", "environment")))


@pytest.mark.deep
@pytest.mark.needs("cargo")
def test_built_by_cargo(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/main.rs").write_text("fn main() {}\n")
    (tmp_path / "Cargo.toml").write_text('[package]\nname = "app"\nversion = "1.0.0"\n')
    run(tmp_path, "cargo", "build", "--offline", "-q")
    judged(tmp_path, lambda path: path.startswith("target/"))
    assert "Cargo.lock" in saved(tmp_path)


@pytest.mark.deep
@pytest.mark.needs("npm")
def test_built_by_npm(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/package.json").write_text('{"name": "lib", "version": "1.0.0"}')
    (tmp_path / "lib/index.js").write_text("module.exports = 1\n" * 999)
    (tmp_path / "app").mkdir()
    (tmp_path / "app/package.json").write_text('{"name": "app", "version": "1.0.0"}')
    run(tmp_path / "app", "npm", "install", "--offline", "--no-audit", "--no-fund", "--install-links", "../lib")
    assert (tmp_path / "app/node_modules/lib/index.js").is_file()
    judged(tmp_path / "app", lambda path: path.startswith("node_modules/"))
    assert "package-lock.json" in saved(tmp_path / "app")


@pytest.mark.deep
@pytest.mark.needs("cmake", "make")
def test_built_by_cmake_in_a_folder_of_any_name(tmp_path: Path) -> None:
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.10)\nproject(a C)\nadd_executable(a a.c)\n"
    )
    (tmp_path / "a.c").write_text("int main(void) { return 0; }\n")
    run(tmp_path, "cmake", "-S", ".", "-B", "somewhere")
    run(tmp_path, "make", "-C", "somewhere")
    judged(tmp_path, lambda path: path.startswith("somewhere/"))


@pytest.mark.deep
@pytest.mark.needs("make", "cc")
def test_built_by_make(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text("a.o: a.c\n\tcc -c a.c -o a.o\n")
    (tmp_path / "a.c").write_text("int x[99999] = {1};\n")
    run(tmp_path, "make")
    judged(tmp_path, lambda path: path.endswith(".o"))
