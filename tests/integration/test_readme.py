"""The examples of the README and of the page for developers are what really happens.

Each command is run, each output compared.

What differs from run to run is compared as a kind: ids, dates, durations, sizes on disk, the home folder.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gitvault.cli import main

ROOT = Path(__file__).parents[2]
PAGES = {
    "README.md": "acme",
    "gitvault/docs/developers.md": "shop",
    "gitvault/docs/artists.md": "forest",
    "gitvault/docs/games.md": "lantern",
}
"""Each with the project that it speaks of."""
PROGRAMS = ("log", "cat")
"""Verbs that are run as a program all the same, found by git."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the README shows the paths and tools of Linux")

_VARYING = (
    (re.compile(r"\b[0-9a-f]{64}\b"), "<hash>"),
    (re.compile(r"\b[0-9a-f]{40}\b|\b[0-9a-f]{12}\b|\b[0-9a-f]{7}\b"), "<id>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d \d\d:\d\d\b"), "<date>"),
    (re.compile(r"\b\d+(\.\d+)? (s|ms|second|seconds|min)\b"), "<time>"),
    (re.compile(r" *\b[\d.,]+ (B|KiB|MiB)\b"), " <size>"),
    (re.compile(r"\d+\.\d:1"), "<ratio>"),
    (re.compile(r"\d+ objects"), "<count> objects"),
)


def normal(text: str) -> str:
    for pattern, kind in _VARYING:
        text = pattern.sub(kind, text)
    return text


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)


def examples(page: str) -> list[tuple[str, str]]:
    """Each command with the output that the page shows for it."""
    found: list[tuple[str, str]] = []
    for line in "".join(blocks(page, "console")).splitlines(keepends=True):
        if line.startswith("$ "):
            found.append((line[2:].strip(), ""))
        else:
            command, output = found.pop()
            found.append((command, output + line))
    return found


def make_project(folder: Path) -> None:
    """The project that the examples speak of: a text, a source file, a picture of 3 MB."""
    (folder / "src").mkdir(parents=True)
    (folder / "art").mkdir()
    (folder / "README.md").write_text("# Acme\n")
    (folder / "src" / "main.c").write_text("int main(void) { return 0; }\n")
    picture = random.Random(7).randbytes(3_000_000).translate(bytes(range(16)) * 16)
    (folder / "art" / "hero.tga").write_bytes(b"\0\0\2" + picture)
    for path in [*folder.rglob("*"), folder]:
        os.utime(path, (1_700_000_000, 1_700_000_000))


def make_checkout(home: Path) -> None:
    """The project of the page for developers: a clone with three commits on its remote, one not pushed, and work."""

    def git(*arguments: str, day: int = 1, who: str = "Mariana") -> None:
        date = f"2026-03-{day:02}T10:00:00Z"
        names = {
            f"GIT_{role}_{what}": value
            for role in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", who), ("EMAIL", f"{who.lower()}@example.invalid"), ("DATE", date))
        }
        environment = {**os.environ, **names, "HOME": os.fspath(home), "GIT_CONFIG_NOSYSTEM": "1"}
        command = ["git", "-c", "init.defaultBranch=main", "-c", "advice.detachedHead=false", *arguments]
        subprocess.run(command, cwd=home, env=environment, check=True, capture_output=True)

    def commit(message: str, files: dict[str, str], day: int, who: str = "Mariana") -> None:
        for name, text in files.items():
            (home / "shop" / name).parent.mkdir(exist_ok=True)
            (home / "shop" / name).write_text(text)
        git("-C", "shop", "add", "-A", day=day, who=who)
        git("-C", "shop", "commit", "-q", "-m", message, day=day, who=who)

    git("init", "-q", "--bare", "shop.git")
    git("clone", "-q", "--template=", "shop.git", "shop")
    basket = "def total(basket):\n    return sum(item.price for item in basket)\n"
    ignored = {".gitignore": "node_modules/\n*.log\n.env\n", "package.json": "{}\n", "package-lock.json": "{}\n"}
    commit("A basket", {"shop/basket.py": basket, **ignored}, 2)
    basket = basket.replace("price for", "price * item.count for")
    commit("Items are counted", {"shop/basket.py": basket}, 3, "Noor")
    commit("Legal texts", {"terms.md": "# Terms\n"}, 4)
    git("-C", "shop", "push", "-q", "origin", "main")
    commit("Vouchers", {"shop/voucher.py": "def redeem(voucher):\n    return voucher.value\n"}, 5)
    (home / "shop" / "terms.md").write_text("# Terms and conditions\n")
    (home / "shop" / ".env").write_text("SHOP_KEY=not-a-real-one\n")
    (home / "shop" / "debug.log").write_text("noise\n" * 100)
    (home / "shop" / "node_modules").mkdir()
    (home / "shop" / "node_modules" / "left-pad.js").write_text("// not ours\n")


def make_forest(home: Path) -> None:
    """The project of the page for artists: a picture and a drawing that shows it, four times saved."""
    from PIL import Image, ImageDraw

    folder = home / "forest"
    folder.mkdir()
    image = Image.new("RGB", (640, 360))
    draw = ImageDraw.Draw(image)
    for y in range(360):
        draw.line((0, y, 640, y), (18 + y // 9, 26 + y // 6, 58 + y // 5))
    for number, x in enumerate(range(-20, 660, 34)):
        top = 150 + number * 37 % 60
        draw.polygon([(x, 360), (x + 44, 360), (x + 22, top)], (12, 30 + number * 5 % 18, 28))
    draw.ellipse((500, 40, 560, 100), (236, 230, 200))

    def save(message: str, sun: bool, title: str) -> None:
        image.save(folder / "hero.png")
        shapes = ['<rect id="sky" width="640" height="420" fill="#20304a"/>']
        shapes += ['<circle id="sun" cx="90" cy="70" r="34" fill="#f2c14e"/>'] if sun else []
        shapes.append(f'<g id="title"><path d="M40 390 h{title}" stroke="#ffffff" stroke-width="14"/></g>')
        shapes.append('<image id="hero" href="hero.png" width="640" height="360"/>')
        head = '<svg xmlns="http://www.w3.org/2000/svg" width="640" height="420">'
        (folder / "title.svg").write_text("\n".join([head, *shapes, "</svg>", ""]))
        assert "saved" in run(f"git vault snapshot forest -m '{message}'", home)

    save("first light", True, "200")
    draw.polygon([(170, 360), (310, 360), (240, 90)], (30, 74, 52))
    draw.polygon([(190, 250), (290, 250), (240, 60)], (38, 92, 62))
    save("a tree in front", True, "200")
    draw.ellipse((392, 268, 416, 292), (214, 168, 120))
    draw.polygon([(384, 360), (424, 360), (404, 286)], (150, 60, 50))
    save("somebody is out there", False, "320")
    for number in range(40):
        x, y = number * 151 % 640, number * 67 % 140
        draw.rectangle((x, y, x + 1, y + 1), (230, 230, 240))
    save("stars", False, "330")


def make_game(home: Path) -> None:
    """The project of the page for game developers: a small game for Godot, what players said, and how they played."""
    from PIL import Image

    folder = home / "lantern"
    text = {
        "project.godot": """config_version=5

[application]
config/name="Lantern"
run/main_scene="res://levels/cave.tscn"

[rendering]
textures/vram_compression/import_etc2_astc=false
textures/vram_compression/import_etc2_astc.android=true
lights_and_shadows/directional_shadow/size=4096
lights_and_shadows/directional_shadow/size.mobile=2048
""",
        "export_presets.cfg": """[preset.0]
name="Linux"
platform="Linux"
runnable=true
export_path="build/lantern.x86_64"

[preset.0.options]

[preset.1]
name="Android"
platform="Android"
runnable=true
export_path="build/lantern.apk"

[preset.1.options]
""",
        "levels/cave.tscn": """[gd_scene load_steps=3 format=3]

[ext_resource type="Script" path="res://lamp.gd" id="1"]
[ext_resource type="Texture2D" path="res://art/lamp.png" id="2"]

[node name="Cave" type="Node2D"]

[node name="Lamp" type="Sprite2D" parent="."]
texture = ExtResource("2")
script = ExtResource("1")
""",
        "lamp.gd": "extends Sprite2D\n\nvar oil = 60.0\n\nfunc _process(delta):\n\toil -= delta\n",
        "player.gd": "extends CharacterBody2D\n\nvar speed = 300.0\n",
    }
    for name, content in text.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    (folder / "art").mkdir()
    Image.frombytes("RGB", (256, 256), random.Random(9).randbytes(3 * 256 * 256)).save(folder / "art" / "lamp.png")
    reviews = [
        ("The lamp goes out far too soon", False, 3),
        ("Lovely music, I played all night", True, 1),
        ("Crashes when I enter the cave", False, 5),
        ("Too hard without oil", False, 2),
    ]
    (home / "reviews.json").write_text(
        json.dumps(
            {
                "success": 1,
                "reviews": [
                    {
                        "recommendationid": str(1000 + number),
                        "author": {"steamid": str(76561190000000000 + number), "playtime_at_review": 60 * hours},
                        "language": "english",
                        "review": said,
                        "timestamp_created": 1_767_350_000 + 3600 * number,
                        "voted_up": liked,
                    }
                    for number, (said, liked, hours) in enumerate(reviews)
                ],
            }
        )
    )
    for number, at in enumerate((40, 75)):
        chance = random.Random(number)
        deaths = [(chance.gauss(120, 30 - 8 * number), chance.gauss(40, 14)) for _ in range(60 - 30 * number)]
        lines: list[dict[str, object]] = [
            {"v": 1, "build": f"alpha-{number + 1}", "platform": "linux", "start": "2026-01-02T10:00:00Z"},
            {"t": 0.0, "e": "level_start", "d": {"level": "meadow"}},
            {"t": 30.0, "e": "level_start", "d": {"level": "cave"}},
        ]
        for count, (x, y) in enumerate(deaths, 1):
            lines.append({"t": 30.0 + count * at, "e": "death", "d": {"level": "cave", "pos": [round(x), round(y)]}})
        lines.append({"t": 35.0 + len(deaths) * at, "end": True})
        (home / f"played-{number + 1}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".gitconfig").write_text("[user]\n\tname = You\n\temail = you@example.invalid\n")
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "git-vault"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gitvault "$@"\n')
    command.chmod(0o755)
    make_project(tmp_path / "acme")
    make_checkout(tmp_path)
    return tmp_path


def run(command: str, home: Path) -> str:
    """What a person sees who types the command in the home folder."""
    words = shlex.split(command)
    if words[:2] == ["git", "vault"] and words[2] not in PROGRAMS and not set(command) & set("|<>;&*$"):
        return run_here(words[2:], home)
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "XDG_"))},
        "HOME": os.fspath(home),
        "PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([os.fspath(ROOT), *sys.path[1:]]),
        "TZ": "UTC",
        "LC_ALL": "C.UTF-8",
    }
    done = subprocess.run(
        ["sh", "-c", command], cwd=home, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    return done.stdout.decode().replace(os.fspath(home), "/home/you")


def run_here(words: list[str], home: Path) -> str:
    """As the program does, but without starting it, which takes longer than most commands."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("GIT_", "XDG_")):
                patch.delenv(name)
        for name, value in (("HOME", os.fspath(home)), ("TZ", "UTC"), ("LC_ALL", "C.UTF-8")):
            patch.setenv(name, value)
        patch.chdir(home)
        time.tzset()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            main.main(words)
    time.tzset()
    return printed.getvalue().replace(os.fspath(home), "/home/you")


@pytest.mark.needs("git")
@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_page_prints_what_the_page_shows(page: str, home: Path) -> None:
    for name, make in (("forest", make_forest), ("lantern", make_game)):
        if PAGES[page] == name:
            make(home)
    shown = examples(page)
    assert len(shown) > 5
    for command, output in shown:
        assert (command, normal(run(command, home))) == (command, normal(output))


@pytest.mark.parametrize("page", ["README.md", "gitvault/docs/developers.md"])
def test_the_library_example_prints_what_the_page_shows(page: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [example] = blocks(page, "python")
    [output] = blocks(page, "text")
    monkeypatch.chdir(home)
    monkeypatch.setenv("HOME", os.fspath(home))
    monkeypatch.setenv("GIT_VAULT_DIR", os.fspath(home / "library.git"))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(example, page, "exec"), {})
    assert printed.getvalue() == output
    if page == "README.md":
        assert (home / "elsewhere" / "src" / "main.c").read_bytes() == (home / "acme" / "src" / "main.c").read_bytes()
        assert not (home / "elsewhere" / "art").exists()
