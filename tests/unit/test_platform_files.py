"""Settings of engines, read as the engines read them, with the line each stands on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from projects import GODOT, UNITY, UNREAL, written

from gitvault.errors import AmbiguousError, ConfigError, NotFoundError, UnsupportedMedia
from gitvault.personas.game import platforms
from gitvault.personas.game.platforms import (
    HIDDEN,
    Configuration,
    Drift,
    PlatformDifference,
    Read,
    Rules,
    Tree,
    Value,
    blocks,
    compare,
    drift,
    flow,
    on_disk,
    plain,
    tables,
    unreal,
)
from gitvault.personas.game.platforms.nodes import (
    DEEPEST,
    Node,
    Text,
    check_merged,
    decoded,
    leaves,
    unescaped,
    unquoted,
)
from gitvault.personas.game.platforms.rules import rules_for
from gitvault.personas.game.platforms.settings import Values, hidden, placed, same
from gitvault.personas.game.platforms.trees import Reader


def tree(files: dict[str, str | bytes]) -> Tree:
    def names(path: str) -> dict[str, bool]:
        found: dict[str, bool] = {}
        for name in files:
            if name.startswith(f"{path}/" if path else ""):
                first, _, rest = name[len(path) + bool(path) :].partition("/")
                found[first] = bool(rest)
        return found

    def read(path: str) -> bytes | None:
        held = files.get(path)
        return held.encode() if isinstance(held, str) else held

    return Tree(names, read)


def read(files: dict[str, str], **more: str | bytes) -> Configuration:
    return platforms.read(tree({**files, **more})).configuration


def on(configuration: Configuration, platform: str) -> dict[str, str]:
    return {key: value.text for key, value in configuration.effective(configuration.platform(platform)).items()}


def kinds(files: dict[str, str], a: str, b: str) -> dict[str, str]:
    found = platforms.read(tree(dict(files)))
    return {row.key: row.kind for row in compare(found.configuration, a, b, found.rules)}


# Godot


def test_godot_features_override_in_the_order_they_were_set() -> None:
    found = read(GODOT)
    assert (found.engine, found.version) == ("godot", "4.3")
    width = "display/window/size/viewport_width"
    # An Android build has both features; the engine takes the first that fits.
    assert {name: on(found, name)[width] for name in ("windows", "android", "ios", "web")} == {
        "windows": "1280",
        "android": "640",
        "ios": "640",
        "web": "1280",
    }
    assert found.effective("android")[width].source == "project.godot:13"
    assert on(found, "web")["display/window/vsync/vsync_mode"] == "0"
    # What no build has stays a key of its own.
    assert found.common["rendering/quality/odd.nobody"].text == "3"


def test_godot_presets_are_platforms_with_their_options() -> None:
    found = read(GODOT)
    assert list(found.platforms) == ["windows", "linux", "macos", "android", "ios", "web", "windows:Demo"]
    assert on(found, "windows")["export/binary_format/embed_pck"] == "false"
    assert on(found, "demo")["export/binary_format/embed_pck"] == "true"
    assert (on(found, "demo")["rendering/quality/trial"], on(found, "pc")["rendering/quality/trial"]) == (
        "true",
        "false",
    )
    script = found.effective("windows")["export/ssh_remote_deploy/run_script"]
    assert script.text == '#!/usr/bin/env bash\necho "[preset.9]"'
    assert script.source == "export_presets.cfg:11"
    assert on(found, "android")["export/keystore/release_password"] == HIDDEN


def test_godot_values_over_several_lines_and_an_override_file() -> None:
    found = read(GODOT, **{"override.cfg": "[rendering]\nquality/same=2\n"})
    assert found.common["input/jump"].text == (
        '{ "deadzone": 0.5, "events": [Object(InputEventKey,"keycode":32,"text":"a]}\\"[") ] }'
    )
    assert found.common["rendering/quality/same"].source == "override.cfg:2"


def test_godot_3_has_other_names() -> None:
    files = {
        "project.godot": "config_version=4\n[a]\nx=1\nx.OSX=2\nx.HTML5=3\nx.X11=4\ny.pc=5\ny.x86_64=6\n",
        "export_presets.cfg": '[preset.0]\nname="Mac"\nplatform="Mac OSX"\n[preset.0.options]\ny=1\n',
    }
    found = read(files)
    assert [on(found, name)["a/x"] for name in ("macos", "html5", "x11", "windows")] == ["2", "3", "4", "1"]
    assert on(found, "osx")["export/y"] == "1"
    assert on(found, "windows")["a/y"] == "6", "of several that fit, the last"


def test_what_is_broken_in_a_godot_file_is_named_and_the_rest_read() -> None:
    found = read({"project.godot": 'junk\n[a]\nx="open\n[b]\ny=2\n'})
    assert [problem.reason for problem in found.problems] == [
        "line 1: neither a section nor KEY=VALUE",
        "line 3: x: does not end; its quotes or brackets do not match",
    ]
    assert found.common["b/y"].text == "2"
    many = read({"project.godot": "[a]\nx=1\n" + "junk\n" * 100})
    assert len(many.problems) == 21
    assert many.problems[-1].reason == "the rest of it is not read"
    with pytest.raises(UnsupportedMedia, match="line 2: an unresolved merge"):
        read({"project.godot": "[a]\n<<<<<<< HEAD\nx=1\n"})
    with pytest.raises(UnsupportedMedia, match="quotes or brackets"):
        read({"project.godot": "a=" + "(" * 2000 + ")" * 2000})


# Unity


def test_unity_settings_by_platform_whatever_a_section_calls_it() -> None:
    found = read(UNITY)
    assert (found.engine, found.version) == ("unity", "6000.0.23f1")
    assert found.common["ProjectVersion.m_EditorVersion"].source == "ProjectSettings/ProjectVersion.txt:1"
    android, pc = on(found, "android"), on(found, "windows")
    assert android["PlayerSettings.applicationIdentifier"] == "com.example.lantern"
    batching = "PlayerSettings.m_BuildTargetBatching.m_DynamicBatching"
    assert (android[batching], pc[batching]) == ("1", "0")
    assert android["PlayerSettings.m_BuildTargetGraphicsAPIs.m_APIs"] == "Vulkan, OpenGLES3"
    assert pc["PlayerSettings.m_BuildTargetGraphicsAPIs[Windows].m_APIs"] == "Direct3D11, Direct3D12"
    assert on(found, "ios")["PlayerSettings.m_BuildTargetGraphicsAPIs.m_APIs"] == "Metal"
    assert (android["PlayerSettings.scriptingDefineSymbols"], pc["PlayerSettings.scriptingDefineSymbols"]) == (
        "DEBUG_UI",
        "DEBUG_UI;STEAM",
    )
    # What is not said is the engine's default; what is one platform's is nobody else's.
    assert "PlayerSettings.scriptingBackend" not in pc
    assert "PlayerSettings.webGLMemorySize" not in android
    assert on(found, "web")["PlayerSettings.webGLMemorySize"] == "32"
    assert on(found, "switch")["QualitySettings.level"] == "Low"
    assert on(found, "ps4")["PlayerSettings.ps4Passcode"] == HIDDEN
    name = found.common["PlayerSettings.productName"]
    assert name == Value("It's dark: a game", "ProjectSettings/ProjectSettings.asset:8")
    assert found.common["PlayerSettings.m_SplashScreenBackgroundColor"].text == (
        "{r: 0.13725491, g: 0.12156863, b: 0.1254902, a: 1}"
    )


def test_unity_quality_is_that_of_the_level_a_platform_has() -> None:
    found = read(UNITY)
    distance = found.effective("Standalone")["QualitySettings.shadowDistance"]
    assert distance == Value("150", "ProjectSettings/QualitySettings.asset:17")
    assert on(found, "android")["QualitySettings.shadowDistance"] == "20"
    assert "QualitySettings.level" not in on(found, "webgl"), "there is no level 9"


def test_unity_build_profiles_lie_over_their_platform() -> None:
    found = read(UNITY)
    demo = found.effective(found.platform("demo"))
    assert demo["PlayerSettings.productName"] == Value("Lantern Demo", "Assets/Settings/Build Profiles/Demo.asset:14")
    assert demo["PlayerSettings.scriptingBackend"].text == "1"
    assert demo["BuildProfile.m_ScriptingDefines"].text == "[DEMO]"
    assert demo["BuildProfile.settings.m_Development"].text == "1"
    assert demo["QualitySettings.level"].text == "High"


def test_unity_build_profiles_for_what_nobody_knows_and_with_nothing_in_them() -> None:
    folder = "Assets/Settings/Build Profiles"
    odd = "MonoBehaviour:\n  m_BuildTarget: x1\n  m_ScriptingDefines: []\n"
    found = read(UNITY, **{f"{folder}/Odd.asset": odd, f"{folder}/Empty.asset": "MonoBehaviour:\n  m_Name: x\n"})
    assert found.platforms["BuildTarget x1:Odd"]["BuildProfile.m_ScriptingDefines"] == Value(
        "[]", f"{folder}/Odd.asset:3"
    )
    assert not any("Empty" in name for name in found.platforms)


def test_unity_files_that_cannot_be_read_are_named() -> None:
    broken = "Assets/Settings/Build Profiles/Broken.asset"
    profile = UNITY["Assets/Settings/Build Profiles/Demo.asset"].replace(
        "'|   companyName: Lantern Light'", "'|  what'"
    )
    found = read(
        UNITY,
        **{
            "ProjectSettings/TagManager.asset": b"\0\0\0\x80\0\0",
            "ProjectSettings/AudioManager.asset": "AudioManager:\n  a: 1\n<<<<<<< HEAD\n  b: 2\n",
            "ProjectSettings/TimeManager.asset": "TimeManager:\n  name: caf\xe9\n".encode("latin-1"),
            broken: profile,
        },
    )
    assert {problem.path.decode(): problem.reason for problem in found.problems} == {
        "ProjectSettings/AudioManager.asset": "line 3: an unresolved merge; choose a side",
        "ProjectSettings/TagManager.asset": "line 1: binary; in Unity: Project Settings > Editor > "
        "Asset Serialization > Force Text",
        "ProjectSettings/TimeManager.asset": "not UTF-8; read as Latin-1",
        broken: "its player settings: line 3: a key within a value; is it indented too far?",
    }
    assert found.common["TimeManager.name"].text == "café"


# Unreal


def test_unreal_signs_lay_one_file_over_another() -> None:
    found = read(UNREAL)
    assert (found.engine, found.version) == ("unreal", "5.4")
    assert found.common["Project:EngineAssociation"] == Value("5.4", "Lantern.uproject:3")
    steps = "Engine:/Script/Engine.RendererSettings:Steps"
    assert found.common[steps].text == '(Name="a",Path="http://x//y")\n(Name="b")\n(Name="b")'
    assert on(found, "android")[steps] == '(Name="b")\n(Name="b")'
    assert found.common["Engine:/Script/Engine.RendererSettings:r.Bloom"] == Value("True", "Config/DefaultEngine.ini:3")
    assert found.common["Engine:/Script/Engine.RendererSettings:Homepage"].text == "https://example.com"
    bloom = found.effective("Android")["Engine:/Script/Engine.RendererSettings:r.Bloom"]
    assert bloom == Value("false", "Config/Android/AndroidEngine.ini:2")
    vsync = "Engine:SystemSettings:r.VSync"
    assert vsync not in on(found, "android")
    assert (on(found, "switch")[vsync], on(found, "ios")[vsync], on(found, "mac")[vsync], on(found, "pc")[vsync]) == (
        "2",
        "1",
        "1",
        "0",
    )
    assert on(found, "switch")["Engine:SystemSettings:r.Long"] == "one two"
    assert not any(key.startswith("Editor") for key in found.common)
    assert found.common["Engine:Online:SecurityToken"].text == HIDDEN
    assert found.common["Engine:Online:Artifact"].text == f'(Id="x",ClientSecret={HIDDEN},Deployment="y")'


def test_unreal_device_profiles_and_plug_ins_by_platform() -> None:
    found = read(UNREAL)
    assert (on(found, "android")["CVar:r.Scale"], on(found, "android")["CVar:r.Foo"]) == ("60", "1")
    assert "CVar:r.Scale" not in on(found, "windows")
    plug_ins = {name: on(found, name)["Plugin:SteamSockets"] for name in ("windows", "linux", "android")}
    assert plug_ins == {"windows": "true", "linux": "true", "android": "false"}
    assert found.effective("Android")["Plugin:SteamSockets"].source == "Lantern.uproject:6"


def test_unreal_files_in_utf_16_and_broken_ones() -> None:
    wide = "[A]\nName=Ünreal\n".encode("utf-16")
    found = read(
        UNREAL,
        **{
            "Config/DefaultGame.ini": wide,
            "Config/DefaultInput.ini": "[A]\nwhat is this\n[unclosed\nx=1\n",
            "Config/IOS/IOSEngine.ini": ">>>>>>> theirs\n",
            "Config/DefaultHardware.ini": b"\xff\xfea",
            "Lantern.uproject": "{",
        },
    )
    assert found.common["Game:A:Name"].text == "Ünreal"
    assert found.common["Input:unclosed:x"].text == "1"
    assert [(problem.path.decode(), problem.reason) for problem in found.problems] == [
        ("Config/DefaultHardware.ini", "not UTF-8; read as Latin-1"),
        ("Config/DefaultHardware.ini", "line 1: neither a section nor KEY=VALUE"),
        ("Config/DefaultInput.ini", "line 2: neither a section nor KEY=VALUE"),
        ("Config/IOS/IOSEngine.ini", "line 1: an unresolved merge; choose a side"),
        ("Lantern.uproject", "line 1: something that began here or above does not end"),
    ]
    assert read(UNREAL, **{"Lantern.uproject": "[]"}).version == ""


# What differs


def test_platforms_differ_in_what_holds_not_in_what_is_written() -> None:
    assert kinds(GODOT, "windows", "android") == {
        "display/window/size/viewport_width": "different",
        "export/binary_format/embed_pck": "expected",
        "export/custom_features": "expected",
        "export/keystore/release_password": "expected",
        "export/package/unique_name": "expected",
        "export/ssh_remote_deploy/run_script": "expected",
        "rendering/renderer/rendering_method": "different",
    }
    assert kinds(UNITY, "pc", "mobile")["PlayerSettings.scriptingBackend"] == "missing"
    assert kinds(UNITY, "pc", "ios")["PlayerSettings.applicationIdentifier"] == "expected"
    assert kinds(UNITY, "Android", "android") == {}
    # 1.0 and 1.000000 are the same; the section's name is of another case.
    assert kinds(UNREAL, "windows", "android") == {
        "CVar:r.Foo": "missing",
        "CVar:r.Scale": "missing",
        "Engine:/Script/Engine.RendererSettings:Steps": "different",
        "Engine:/Script/Engine.RendererSettings:r.Bloom": "different",
        "Engine:SystemSettings:r.VSync": "missing",
        "Plugin:SteamSockets": "different",
    }
    found = platforms.read(tree(dict(UNREAL)))
    [row] = [row for row in compare(found.configuration, "pc", "mobile", found.rules) if row.key.endswith("r.VSync")]
    values, sources = {"Windows": "0", "Android": None}, {"Windows": f"{unreal.CONFIG}/DefaultEngine.ini:12"}
    assert row == PlatformDifference("Engine:SystemSettings:r.VSync", values, sources, "missing")


def test_a_project_has_rules_of_its_own() -> None:
    said = (
        'expected = ["*viewport_width"]\nunexpected = ["export/*unique_name"]\nsecret = ["*/name"]\n'
        'changing = ["*rendering_method"]\n'
    )
    found = platforms.read(tree({**GODOT, ".gitvault-platforms.toml": said}))
    rows = {row.key: row.kind for row in compare(found.configuration, "windows", "android", found.rules)}
    assert rows["display/window/size/viewport_width"] == "expected"
    assert rows["export/package/unique_name"] == "missing"
    assert found.configuration.common["application/config/name"].text == HIDDEN
    assert found.rules.changing("rendering/renderer/rendering_method")


def test_what_drifted_from_one_build_to_the_next() -> None:
    before = read(GODOT)
    text = GODOT["project.godot"]
    text = text.replace("viewport_width=1280", "viewport_width=1920").replace("vsync_mode.web=0", "vsync_mode=0")
    text = text.replace('"4.3"', '"4.4"').replace("quality/odd.nobody=3\n", "")
    text = text.replace("\n\n[display]\n", "\nconfig/version=2\n[display]\n")
    after = platforms.read(tree({**GODOT, "project.godot": text}))
    rows = drift(before, after.configuration, after.rules)
    others = ("windows", "linux", "macos", "android", "ios", "web", "windows:Demo")
    features = 'PackedStringArray("{}", "Forward Plus")'.format
    names = ("application/config/features", "display/window/size/viewport_width", "display/window/vsync/vsync_mode")
    desktop, but_web = (tuple(n for n in others if n not in left) for left in (("android", "ios"), ("web",)))
    assert rows == [
        Drift(names[0], features("4.3"), features("4.4"), (), "project.godot:8", "changed"),
        Drift("application/config/version", None, "2", (), "project.godot:9", "expected"),
        Drift(names[1], "1280", "1920", desktop, "project.godot:12", "changed"),
        Drift(names[2], None, "0", but_web, "project.godot:15", "added"),
        Drift("rendering/quality/odd.nobody", "3", None, (), "project.godot:34", "removed"),
    ]
    assert drift(before, before, after.rules) == []


@pytest.mark.parametrize(
    ("word", "names"),
    [
        ("WIN64", ("windows", "Standalone", "Windows")),
        ("osx", ("macos", "Standalone", "Mac")),
        ("steamdeck", ("linux", "Standalone", "Linux")),
        ("mobile", ("android", "Android", "Android")),
        ("iPhone", ("ios", "iPhone", "IOS")),
        ("html5", ("web", "WebGL", None)),
    ],
)
def test_common_names_of_platforms_are_accepted(word: str, names: tuple[str | None, ...]) -> None:
    for files, name in zip((GODOT, UNITY, UNREAL), names, strict=True):
        if name:
            assert read(files).platform(word) == name
        else:
            with pytest.raises(NotFoundError, match="there are Windows, Mac"):
                read(files).platform(word)


def test_a_name_that_fits_two_presets_is_told() -> None:
    configuration = Configuration("godot", "", {}, {"windows:Demo": {}, "linux:Demo": {}})
    with pytest.raises(AmbiguousError, match="windows:Demo, linux:Demo"):
        configuration.platform("demo")


def test_values_that_mean_the_same() -> None:
    def value(text: str) -> Value:
        return Value(text, "f:1")

    assert same(value("1.50"), value("1.5")) and same(value("True"), value("true")) and same(None, None)
    assert not same(value("1"), value("true")) and not same(value("1_0"), value("10")) and not same(value(""), None)
    assert not same(value("-"), value("+1.2.3"))


def test_secrets_are_hidden_and_nothing_else() -> None:
    rules = rules_for("unity", {})
    token = "ghp_" + "a" * 36
    for key, text in (("a.AndroidKeystorePass", "x"), ("a.apiKey", "y"), ("plain", token)):
        assert rules.shown(key, text) == HIDDEN
    for key, text in (("a.keyboard", "x"), ("a.monkeyCount", "3"), ("a.usePassword", "0"), ("a.password", "")):
        assert rules.shown(key, text) == text
    assert Rules().shown("x", 'a={"password": "b c", "user": "d"}') == f'a={{"password": {HIDDEN}, "user": "d"}}'
    own: Values = {"a": None}
    before, after = ({"a.token": Value(text, "f:1")} for text in ("s", HIDDEN))
    assert hidden(Configuration("x", "", before, {"p": own}), rules) == Configuration("x", "", after, {"p": own})


# Where projects are


def test_a_project_lies_in_the_folder_or_alone_below_it(tmp_path: Path) -> None:
    written(tmp_path / "game" / "src", GODOT)
    found = platforms.read(on_disk(tmp_path))
    assert found.configuration.common["config_version"].source == "game/src/project.godot:3"
    assert placed(found.configuration, "") is found.configuration
    written(tmp_path / "other", UNREAL)
    (tmp_path / "other" / "Config" / "DefaultGame.ini").write_text("junk\n")
    with pytest.raises(AmbiguousError, match="which one\\? other, game/src"):
        platforms.read(on_disk(tmp_path))
    problems = platforms.read(on_disk(tmp_path / "other")).configuration.problems
    assert [problem.path for problem in problems] == [b"Config/DefaultGame.ini"]
    (tmp_path / "node_modules").mkdir()
    with pytest.raises(NotFoundError, match="no project of Godot, Unity or Unreal"):
        platforms.read(on_disk(tmp_path / "node_modules"))
    with pytest.raises(NotFoundError, match="no such folder"):
        on_disk(tmp_path / "nowhere")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_files_that_are_no_files_or_too_large_are_passed_by(tmp_path: Path) -> None:
    written(tmp_path, GODOT)
    (tmp_path / "export_presets.cfg").unlink()
    os.mkfifo(tmp_path / "export_presets.cfg")
    with open(tmp_path / "override.cfg", "wb") as file:
        file.truncate((16 << 20) + 1)
    [problem] = platforms.read(on_disk(tmp_path)).configuration.problems
    assert problem.reason == "larger than 16 MiB; settings are not"
    reader = Reader(on_disk(tmp_path))
    assert (reader.text("export_presets.cfg"), reader.text("nothing"), reader.text("project.godot/x")) == (None,) * 3
    assert not reader.gave_up("nothing") and not reader.problems


# Other files

MAPPED = {
    ".gitvault-platforms.toml": """
expected = ["name"]
[[file]]
path = "base.json"
[[file]]
path = "config/{platform}.yaml"
[[file]]
path = "some.toml"
below = "on.{platform}"
[[file]]
path = "pc.ini"
platforms = ["pc"]
below = "video"
[[file]]
path = "lost.json"
""",
    "base.json": '{ // all\n  "name": "Lantern",\n  "video": {"width": 1280, "modes": [1, 2]}, /* x */\n}\n',
    "config/pc.yaml": "video:\n  width: 1920 # wide\n",
    "config/switch.yaml": "video: {width: 1280}\n",
    "some.toml": '[on.pc]\n"a.b" = 1\nlist = [\n  {name = "x", v = 1},\n]\n[[on.switch.t]]\nz = true\n',
    "pc.ini": "; c\n[video]\nvsync: on\n",
}


def test_other_files_are_read_as_the_project_maps_them() -> None:
    found = platforms.read(tree(dict(MAPPED)))
    configuration = found.configuration
    assert (configuration.engine, list(configuration.platforms)) == ("plain", ["pc", "switch"])
    pc = configuration.effective("pc")
    assert pc["video.width"] == Value("1920", "config/pc.yaml:2")
    assert pc["video.modes"] == Value("[1, 2]", "base.json:3")
    assert pc["a.b"] == Value("1", "some.toml:2")
    assert pc["list[x].v"] == Value("1", "some.toml:3")
    assert pc["vsync"] == Value("on", "pc.ini:3")
    assert configuration.effective("switch")["t[0].z"] == Value("true", "some.toml:7")
    assert [problem.path for problem in configuration.problems] == [b"lost.json"]
    assert isinstance(found, Read) and found.own == {"expected": ["name"]}


def test_builds_differ_without_any_platform_too() -> None:
    one, two = (
        read({".gitvault-platforms.toml": '[[file]]\npath = "a.ini"\n', "a.ini": text}) for text in ("x=1", "x=2")
    )
    assert drift(one, two, Rules()) == [Drift("x", "1", "2", (), "a.ini:1", "changed")]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x = ", "expected TOML with expected"),
        ("wrong = 1", "wrong is unknown; expected expected"),
        ("expected = 1", "expected: expected a list of words"),
        ("secret = [1]", "secret: expected a list of words"),
        ("[[file]]\nbelow = 'x'", "without a path"),
        ("[[file]]\npath = 'x.json'\nbelow = 3", "below: expected text"),
        ("[[file]]\npath = 'x.xml'", "x.xml: expected a file of json"),
    ],
)
def test_a_wrong_mapping_is_told(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        plain.mapping(plain.MAPPING, text)


def test_mapped_files_that_are_broken_are_problems() -> None:
    mapped = '[[file]]\npath = "a.json"\n[[file]]\npath = "b.yml"\n'
    files = {".gitvault-platforms.toml": mapped, "a.json": "{", "b.yml": "x: 1"}
    [problem] = read(files).problems
    assert problem.reason.startswith("line 1: something that began here")


# Readers


def told(node: Node) -> object:
    if isinstance(node, Text):
        return node.text
    return [told(item) for item in node] if isinstance(node, list) else {key: told(v) for key, v in node.items()}


def test_yaml_as_programs_write_it() -> None:
    text = (
        "# c\na: 'it''s\n\n  two'\n\"b\\tc\": \"x\\u00e9\\\n  y\\ud83d\\ude00\"\nNintendo Switch: 1 # one\n"
        "list:\n- - 1\n  - {k: [a, 'b, c', \"d\"], e: {}, f: []}\n-\n  deep: http://x:80/y\n- !tag &anchor plain\n"
        "lit: |\n  one\n    two\n\nfold: >-\n  a\n  b\nempty:\nlong: begins\n  and goes on\n"
    )
    assert [told(node) for node in blocks.yaml(text)] == [
        {
            "a": "it's\ntwo",
            "b\tc": "xéy😀",
            "Nintendo Switch": "1",
            "list": [["1", {"k": ["a", "b, c", "d"], "e": "{}", "f": "[]"}], {"deep": "http://x:80/y"}, "plain"],
            "lit": "one\n  two",
            "fold": "a b",
            "empty": "",
            "long": "begins and goes on",
        }
    ]
    assert [told(node) for node in blocks.yaml("--- !u!1 &1 stripped\na: 1\n--- \n# nothing\n---\n- b\n...\n")] == [
        {"a": "1"},
        ["b"],
    ]
    [node] = blocks.yaml("x:\n- name: a\n  v: 1\n- name: a\n  v: 2\n- v: 3\n- 4\n")
    assert [(".".join(way), text.text, text.line) for way, text in leaves(node)] == [
        ("x.[a].name", "a", 2),
        ("x.[a].v", "1", 3),
        ("x.[a#2].name", "a", 4),
        ("x.[a#2].v", "2", 5),
        ("x.[2].v", "3", 6),
        ("x.[3]", "4", 7),
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: *b", "line 1: aliases"),
        ("a: &b {x: 1}\nc:\n  <<: *b", "line 3: merge keys"),
        ("a: {b: 1", "line 1: something that began here or above does not end"),
        ("a: 'b\nc", "line 2: something that began"),
        ("a: [}]", "line 1: } is not expected"),
        ("a: {[1]: 2}", "line 1: expected KEY: VALUE"),
        ("a: 1\nb", "line 2: expected KEY: VALUE"),
        ("a: b\n  c: d", "line 2: a key within a value"),
        ("  a: 1\nb: 2", "line 2: does not belong"),
        ("\n".join(" " * level + "a:" for level in range(99)), "line 66: nested too deeply"),
        ("a: " + "[" * 99 + "]" * 99, "line 1: nested too deeply"),
        ("=======\n>>>>>>> x", "line 2: an unresolved merge"),
    ],
)
def test_yaml_that_is_not_understood_is_told_by_line(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        blocks.yaml(text)


def test_json_toml_and_ini_are_told_by_line() -> None:
    for reader, text, why in (
        (flow.json, "{}\n{}", "line 1: more than one value|line 2: more than one value"),
        (flow.json, '{"a": "', "line 1: '\"' is not expected here"),
        (tables.toml, "a = 1\nb =\n", "line 2: "),
        (tables.toml, "a = " + "[" * 9999, "line 1: nested too deeply"),
        (tables.ini, "[a\n", "line 1: a section without"),
        (tables.ini, "[a]\nword\n", "line 2: neither a section"),
    ):
        with pytest.raises(ValueError, match=why):
            reader(text)
    assert told(tables.ini('a = "b"\n[a]\nc = 1\n')) == {"a": "b", "c": "1"}


def test_marks_of_a_merge_stand_at_the_beginning_of_a_line() -> None:
    check_merged("a: <<<<<<< HEAD\n=======\n")
    with pytest.raises(ValueError, match="line 2"):
        check_merged("a\n<<<<<<< HEAD\n")


def test_quotes_and_brackets_are_those_of_yaml() -> None:
    assert [unquoted(text) for text in ('"a\\tb"', "'it''s'", '"', "plain")] == ["a\tb", "it's", '"', "plain"]
    assert unescaped("\\ud83d\\ude00 \\x41") == "\U0001f600 A"
    assert [flow.open_brackets(text) for text in ("[{a: ']'", "]", '"[')] == [2, -1, 0]
    assert told(flow.collection("{a: [1, 'b'],\n c: {}}", 7, 0)) == {"a": ["1", "b"], "c": "{}"}
    with pytest.raises(ValueError, match="line 8"):
        flow.collection("[1,\n: ]", 7, 0)
    assert flow.json("[" * DEEPEST + "]" * DEEPEST)
    with pytest.raises(ValueError, match="nested too deeply"):
        flow.json("[" * (DEEPEST + 3))


def test_texts_in_any_encoding() -> None:
    assert decoded("é".encode()) == ("é", False)
    assert decoded("é".encode("utf-8-sig")) == ("é", False)
    assert decoded("é".encode("utf-16")) == ("é", False)
    assert decoded(b"\xe9") == ("é", True)
    assert decoded(b"\xff\xfea")[1]


VALUES = st.recursive(
    st.text(st.characters(codec="utf-8", exclude_characters="\r\x85\u2028\u2029"), max_size=20),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3)
        | st.dictionaries(st.text("abc: -", min_size=1), inner, min_size=1, max_size=3)
    ),
    max_leaves=8,
)


@given(VALUES)
def test_json_is_read_as_it_was_written(value: object) -> None:
    import json

    assert told(flow.json(json.dumps(value, indent=1))) == value
    assert told(flow.json(json.dumps(value, ensure_ascii=False))) == value


@given(st.binary(max_size=300) | st.text(" \n-:'\"[]{}#|>&*!,ab=+.;/\\()<", max_size=200).map(str.encode))
def test_nothing_in_a_file_breaks_a_reader(data: bytes) -> None:
    endings = ("json", "yml", "toml", "ini")
    mapped = "\n".join(f"[[file]]\npath='a.{ending}'" for ending in endings)
    for files in (
        {"project.godot": data, "export_presets.cfg": data},
        {"ProjectSettings/ProjectSettings.asset": data, "Assets/Settings/Build Profiles/a.asset": data},
        {"Config/DefaultEngine.ini": data, "Config/Android/AndroidEngine.ini": data, "x.uproject": data},
        {".gitvault-platforms.toml": mapped, **{f"a.{ending}": data for ending in endings}},
    ):
        try:
            platforms.read(tree(dict(files)))
        except UnsupportedMedia as error:
            assert "\n" not in str(error)
