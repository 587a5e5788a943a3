"""Projects of game engines as their engines write them, small. The forms are those of public projects."""

from __future__ import annotations

from pathlib import Path

GODOT = {
    "project.godot": """; Engine configuration file.

config_version=5

[application]

config/name="Lantern"
config/features=PackedStringArray("4.3", "Forward Plus")

[display]

window/size/viewport_width=1280
window/size/viewport_width.mobile=640
window/size/viewport_width.android=720
window/vsync/vsync_mode.web=0

[input]

jump={
"deadzone": 0.5,
"events": [Object(InputEventKey,"keycode":32,"text":"a]}\\"[")
]
}

[rendering]

renderer/rendering_method="forward_plus"
renderer/rendering_method.mobile="mobile"
renderer/rendering_method.web="gl_compatibility"
quality/same=1.0
quality/same.android=1.00
quality/trial=false
quality/trial.demo=true
quality/odd.nobody=3
""",
    "export_presets.cfg": """[preset.0]

name="Windows Desktop"
platform="Windows Desktop"
runnable=true
custom_features=""

[preset.0.options]

binary_format/embed_pck=false
ssh_remote_deploy/run_script="#!/usr/bin/env bash
echo \\"[preset.9]\\""

[preset.1]

name="Demo"
platform="Windows Desktop"
custom_features="demo, steam"

[preset.1.options]

binary_format/embed_pck=true

[preset.2]

name="Android"
platform="Android"

[preset.2.options]

keystore/release_password="hunter2"
package/unique_name="com.example.lantern"
""",
}

UNITY = {
    "ProjectSettings/ProjectVersion.txt": "m_EditorVersion: 6000.0.23f1\n",
    "ProjectSettings/ProjectSettings.asset": """%YAML 1.1
%TAG !u! tag:unity3d.com,2011:
--- !u!129 &1
PlayerSettings:
  m_ObjectHideFlags: 0
  serializedVersion: 28
  companyName: Lantern Light
  productName: 'It''s dark: a game'
  m_SplashScreenBackgroundColor: {r: 0.13725491, g: 0.12156863, b: 0.1254902,
    a: 1}
  AndroidKeystoreName: user.keystore
  AndroidMinSdkVersion: 23
  webGLMemorySize: 32
  ps4Passcode: abcdefghijklmnopqrstuvwxyz012345
  applicationIdentifier:
    Android: com.example.lantern
    Standalone: com.example.lantern
    iPhone: com.example.lantern.ios
  m_BuildTargetBatching:
  - m_BuildTarget: Standalone
    m_StaticBatching: 1
    m_DynamicBatching: 0
  - m_BuildTarget: Android
    m_StaticBatching: 1
    m_DynamicBatching: 1
  m_BuildTargetGraphicsAPIs:
  - m_BuildTarget: AndroidPlayer
    m_APIs: 150000000b000000
    m_Automatic: 0
  - m_BuildTarget: WindowsStandaloneSupport
    m_APIs: 0200000012000000
    m_Automatic: 0
  - m_BuildTarget: iOSSupport
    m_APIs: 10000000
    m_Automatic: 1
  scriptingBackend:
    Android: 1
  scriptingDefineSymbols:
    1: DEBUG_UI;STEAM
    7: DEBUG_UI
  XboxOneLanguage:
  - enus
""",
    "ProjectSettings/QualitySettings.asset": """%YAML 1.1
%TAG !u! tag:unity3d.com,2011:
--- !u!47 &1
QualitySettings:
  m_ObjectHideFlags: 0
  serializedVersion: 5
  m_CurrentQuality: 1
  m_QualitySettings:
  - serializedVersion: 4
    name: Low
    shadows: 0
    shadowDistance: 20
    excludedTargetPlatforms: []
  - serializedVersion: 4
    name: High
    shadows: 2
    shadowDistance: 150
    excludedTargetPlatforms:
    - Android
  m_PerPlatformDefaultQuality:
    Android: 0
    Nintendo Switch: 0
    Standalone: 1
    WebGL: 9
""",
    "Assets/Settings/Build Profiles/Demo.asset": """%YAML 1.1
%TAG !u! tag:unity3d.com,2011:
--- !u!114 &11400000
MonoBehaviour:
  m_Name: Demo
  m_BuildTarget: 19
  m_Subtarget: 2
  m_ScriptingDefines:
  - DEMO
  m_PlayerSettingsYaml:
    m_Settings:
    - line: '| PlayerSettings:'
    - line: '|   companyName: Lantern Light'
    - line: '|   productName: Lantern
        Demo'
    - line: '|   scriptingBackend:'
    - line: '|     Android: 0'
    - line: '|     Standalone: 1'
  references:
    version: 2
    RefIds:
    - rid: 8953381861545738307
      type: {class: WindowsPlatformSettings, ns: UnityEditor.WindowsStandalone, asm: X}
      data:
        m_Development: 1
""",
}

UNREAL = {
    "Lantern.uproject": """{
\t"FileVersion": 3,
\t"EngineAssociation": "5.4",
\t"Plugins": [
\t\t{
\t\t\t"Name": "SteamSockets",
\t\t\t"Enabled": true,
\t\t\t"PlatformAllowList": [ "Win64", "Linux" ]
\t\t},
\t\t{
\t\t\t"Name": "Niagara",
\t\t\t"Enabled": true
\t\t},
\t]
}
""",
    "Config/DefaultEngine.ini": """; comment
[/Script/Engine.RendererSettings]
r.Bloom=True                      // why not
r.Shadow=1.000000
+Steps=(Name="a",Path="http://x//y")
+Steps=(Name="b")
+Steps=(Name="b")
.Steps=(Name="b")
Homepage="https://example.com"

[SystemSettings]
r.VSync=0

[/Script/AndroidRuntimeSettings.AndroidRuntimeSettings]
PackageName=com.example.lantern

[Online]
Artifact=(Id="x",ClientSecret="abc",Deployment="y")
SecurityToken=30422A3E3D42F5937AC4BB846BE396AB
""",
    "Config/DefaultEditor.ini": "[Editor]\nOnly=1\n",
    "Config/DefaultDeviceProfiles.ini": """[Base DeviceProfile]
+CVars=r.Scale=80
+CVars=r.Foo=1
[Android DeviceProfile]
BaseProfileName=Base
+CVars=r.Scale=60
""",
    "Config/Android/AndroidEngine.ini": """[/script/engine.renderersettings]
R.BLOOM=false
r.Shadow=1.0
-Steps=(Name="a",Path="http://x//y")
[SystemSettings]
!r.VSync=ClearArray
""",
    "Platforms/Switch/Config/SwitchEngine.ini": "[SystemSettings]\n!r.VSync=x\nr.VSync=2\n+r.Long=one \\\n  two\n",
    "Config/Apple/AppleEngine.ini": "[SystemSettings]\nr.VSync=1\n",
}


def written(folder: Path, files: dict[str, str]) -> Path:
    """The folder, with the files in it."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8", newline="\n")
    return folder
