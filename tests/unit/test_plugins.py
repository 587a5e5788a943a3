"""Extensions from outside: found by entry point, loaded when asked for, and named when they are broken."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gitvault import config, plugins
from gitvault.errors import ConfigError
from gitvault.formats import Format, format_plugin, formats, identify
from gitvault.personas.base import Answer, Persona, Verb, persona_plugin, personas

MODULE = """
from gitvault.core.chunking import FixedSize
from gitvault.formats import Format
from gitvault.personas.base import Persona

wav = Format("wav", "sound", lambda head: head.startswith(b"RIFF"), (".wav",))
any = Format("any", "anything at all", lambda head: True)
poet = Persona("poet", "for those who write verse")
chunks = FixedSize
number = 42

def wrong(min_size, avg_size, max_size):
    return "no strategy"
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An importable folder where `install` puts packages."""
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.startswith("acme_")]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


def install(folder: Path, name: str, entry_points: str, module: str = MODULE) -> None:
    (folder / f"acme_{name}.py").write_text(module)
    info = folder / f"acme_{name}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: acme-{name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(entry_points)


def test_a_package_adds_a_strategy_a_format_and_a_persona(package: Path) -> None:
    install(
        package,
        "all",
        "[gitvault.chunking]\nacme = acme_all:chunks\n"
        "[gitvault.formats]\nany = acme_all:any\nwav = acme_all:wav\n"
        "[gitvault.personas]\npoet = acme_all:poet\n",
    )
    assert [str(plugin) for plugin in plugins.installed(plugins.CHUNKING)] == [
        "plug-in acme (gitvault.chunking) of package acme-all 1.2"
    ]
    made = config.chunking(config.Config(chunking_strategy="acme", max_chunk=config.MIB))
    assert made.plan(b"", None).max_size == config.MIB
    assert [known.name for known in formats()][-2:] == ["any", "wav"]
    poet = personas()[0]
    assert poet.name == "poet"
    assert poet.verbs == ()


def test_a_verb_answers_with_a_document_and_lines_for_people() -> None:
    verb = Verb(
        "rhyme", "find one", "git-vault rhyme", lambda parser: None, lambda *_: Answer({"word": "pack"}, ["pack"])
    )
    answer = verb.run(None, None)  # type: ignore[arg-type]
    assert (answer.document, list(answer.lines), answer.code) == ({"word": "pack"}, ["pack"], 0)


def test_a_format_is_known_by_content_the_one_with_the_extension_first(package: Path) -> None:
    install(package, "f", "[gitvault.formats]\nany = acme_f:any\nwav = acme_f:wav\n")
    for head, extension, expected in (
        (b"RIFF....WAVE", ".wav", "wav"),
        (b"RIFF....WAVE", None, "any"),
        (b"other", ".wav", "any"),
    ):
        found = identify(head, extension)
        assert isinstance(found, Format)
        assert found.name == expected


def test_content_that_no_format_knows_has_none() -> None:
    assert identify(b"RIFF", ".wav") is None


def test_a_plugin_that_cannot_be_imported_names_its_package_in_one_line(package: Path) -> None:
    install(package, "bad", "[gitvault.chunking]\nbad = acme_bad:chunks\n", "raise RuntimeError('two\\nlines')")
    with pytest.raises(ConfigError) as caught:
        config.chunking(config.Config(chunking_strategy="bad"))
    assert str(caught.value) == (
        "plug-in bad (gitvault.chunking) of package acme-bad 1.2: cannot be loaded: RuntimeError: two lines; "
        "update or uninstall acme-bad"
    )


@pytest.mark.parametrize("name", ["number", "wrong"])
def test_a_chunking_plugin_must_make_a_strategy(package: Path, name: str) -> None:
    install(package, "w", f"[gitvault.chunking]\nbad = acme_w:{name}\n")
    with pytest.raises(
        ConfigError, match=r"of package acme-w 1.2: expected a .*, found (int|str); update or uninstall"
    ):
        config.chunking(config.Config(chunking_strategy="bad"))


def test_a_format_plugin_must_be_a_format(package: Path) -> None:
    install(package, "x", "[gitvault.formats]\nbad = acme_x:number\n")
    (plugin,) = plugins.installed(plugins.FORMATS)
    with pytest.raises(ConfigError, match=r"acme-x 1.2: expected a gitvault.formats.Format, found int"):
        format_plugin(plugin)
    assert plugin.mend == "update or uninstall acme-x"


def test_a_persona_plugin_must_be_a_persona(package: Path) -> None:
    install(package, "y", "[gitvault.personas]\nbad = acme_y:number\n")
    (plugin,) = plugins.installed(plugins.PERSONAS)
    with pytest.raises(ConfigError, match=r"acme-y 1.2: expected a gitvault.personas.base.Persona, found int"):
        persona_plugin(plugin)


def test_a_name_that_two_packages_claim_is_an_error_that_names_both(package: Path) -> None:
    for name in ("one", "two"):
        install(package, name, f"[gitvault.chunking]\nsame = acme_{name}:chunks\n")
    with pytest.raises(ConfigError, match=r"both acme-one 1\.2 and acme-two 1\.2 bring it; uninstall one of them"):
        plugins.find(plugins.CHUNKING, "same")


def test_a_plugins_checked_maker_is_given_the_bounds(package: Path) -> None:
    install(package, "z", "[gitvault.chunking]\nz = acme_z:chunks\n")
    plugin = plugins.find(plugins.CHUNKING, "z")
    assert isinstance(plugin, plugins.Plugin)
    assert isinstance(plugin.load(), type)
    assert config.chunking_plugin(plugin)(2048, 4096, 8192).plan(b"", None).min_size == 2048
    assert isinstance(plugin.wrong(1, "x"), ConfigError)


def test_a_persona_has_no_verbs_unless_it_says_so() -> None:
    assert Persona("p", "s").verbs == ()
