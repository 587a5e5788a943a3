"""What format.md shows is what is on disk, and what it says of unknown things is what happens."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import zstandard

from gitvault import config
from gitvault.core.storage import packs, pointers
from gitvault.core.utils import names
from gitvault.core.versioning import meta
from gitvault.errors import ConfigError, CorruptionError, UnsupportedFormatVersion
from gitvault.vault import Vault

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "fixtures" / "golden.git"
TEXT = (ROOT / "gitvault" / "docs" / "format.md").read_text("utf-8")
LIMITS = (
    ("1 byte to 16 MiB", packs.MAX_CHUNK, 16 << 20),
    ("together at most 64 MiB", packs.MAX_DICTIONARY, 64 << 20),
    ("Version 1.", config.FORMAT_VERSION, 1),
)


def section(title: str) -> str:
    found = re.search(rf"^#+ [\d.]* ?{re.escape(title)}\n(.*?)(?=^#|\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def example(title: str, number: int = -1) -> str:
    """An indented block of a section, the last one unless said otherwise."""
    found = re.findall(r"(?:^    .*\n|^\n(?=    ))+", section(title), re.MULTILINE)
    text = "".join(line.removeprefix("    ") for line in found[number].splitlines(keepends=True))
    return text.strip("\n").replace("<TAB>", "\t") + "\n"


def table(title: str) -> list[tuple[str, str]]:
    """The first two cells of the rows whose first is code."""
    return [
        (row[1], row[2]) for row in re.finditer(r"^\| `([^`]*)` \| (?:`([^`]*)`)? *\|", section(title), re.MULTILINE)
    ]


def git(*words: str) -> bytes:
    return subprocess.run(["git", f"--git-dir={GOLDEN}", *words], capture_output=True, check=True).stdout


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN, tmp_path / "golden.git"))


def test_names_in_trees() -> None:
    rows = table("Names in trees")
    assert len(rows) > 5
    for name, stored in rows:
        assert names.tree_name(name.encode()) == stored.encode()
        assert names.from_tree_name(stored.encode()) == name.encode()


def test_names_in_refs() -> None:
    rows = table("Names in refs")
    assert len(rows) > 3
    for name, stored in rows:
        assert names.ref_component(name) == stored
        assert names.from_ref_component(stored) == name


def test_text() -> None:
    rows = table("Text")
    assert len(rows) > 3
    for typed, text in rows:
        raw = typed.encode().decode("unicode_escape").encode("latin-1")
        assert names.to_line(raw) == text
        assert names.from_text(text) == raw


def test_config_and_attributes_are_what_a_new_vault_has(tmp_path: Path) -> None:
    with Vault.create(tmp_path / "v.git") as vault:
        made = vault.path
    assert example("config").split() == ["[vault]", "formatVersion", "=", "1", "id", "=", "32", "hex", "digits"]
    assert re.search(r"\[vault\]\s+formatVersion = 1\s+id = [0-9a-f]{32}\s", (made / "config").read_text())
    for key, value in (("core.bare", "true"), ("gc.auto", "0"), ("maintenance.auto", "false")):
        assert f"`{key} = {value}`" in section("config")
        shown = subprocess.run(["git", f"--git-dir={made}", "config", key], capture_output=True, check=True).stdout
        assert shown.decode().strip() == value
    lines = (made / "info" / "attributes").read_text().splitlines(keepends=True)
    assert [line for line in lines if not line.startswith("#")] == [example("info/attributes")]


def test_a_commit_message() -> None:
    assert git("log", "-1", "--format=%B", "golden~1").decode().strip() == example("Snapshots").strip()
    documented = re.findall(r"^\| (`Vault-.*?) \|", section("Snapshots"), re.MULTILINE)
    shown = set(re.findall(r"Vault-[A-Za-z-]+", "".join(documented)))
    written = set(re.findall(r"^(Vault-[A-Za-z-]+): ", git("log", "--format=%B", "golden").decode(), re.MULTILINE))
    # What a prune or a forget adds.
    assert written | {"Vault-Snapshot"} == shown


def test_the_meta_chain() -> None:
    text = example("The meta chain")
    assert git("show", "refs/vault/meta/golden:art").decode() == text
    own, entries = meta.decode(text.encode())
    assert (own.mode, own.owner) == (0o755, (0, 0))
    assert entries[b"noise.dat"].link == entries[b"noise-again.dat"].link == "fe00.1b401b"
    again = [
        meta.format_line(
            *(e.name, e.kind, e.mode, e.mtime_ns, e.owner, e.size, own.owner),
            pointer=e.pointer,
            link=e.link,
            sparse=e.sparse,
            xattrs=e.xattrs,
        )
        for e in entries.values()
    ]
    assert meta.encode(own.mode, own.mtime_ns, own.owner, again) == text.encode()


def test_a_time_before_1970_counts_nanoseconds_upwards() -> None:
    line = meta.format_line(b"old", "file", 0o644, -1_500_000_000, (0, 0), 0, (0, 0))
    assert line == "f 644 -2.500000000 - 0 old\n"
    assert meta.decode(meta.encode(0o755, 0, (0, 0), [line]))[1][b"old"].mtime_ns == -1_500_000_000


def test_an_unknown_extra_is_passed_over_and_an_unknown_letter_is_damage() -> None:
    line = "f 644 1.000000000 - 0 a\tcolour=red\tsparse\n"
    assert meta.decode(meta.encode(0o755, 0, (0, 0), [line]))[1][b"a"].sparse
    with pytest.raises(CorruptionError):
        meta.decode(meta.encode(0o755, 0, (0, 0), [line.replace("f ", "z ", 1)]))
    with pytest.raises(UnsupportedFormatVersion):
        meta.decode(b"gitvault-meta 2\nd 755 1.000000000 0:0 0 .\n")


def test_the_catalog() -> None:
    assert git("show", "refs/vault/catalog:projects.jsonl").decode() == example("The catalog")


def test_a_pointer() -> None:
    text = example("Pointers").encode()
    assert git("show", "golden:art/hero.tga") == text
    pointer = pointers.decode(text)
    assert pointer is not None
    assert pointers.encode(pointer) == text


def test_a_pack() -> None:
    rows = example("The table").splitlines()
    pack = GOLDEN / "chunks" / f"{rows[-1].split()[1]}.zpk"
    data = pack.read_bytes()
    assert data[:24] == bytes.fromhex("57 2A 4D 18 10 00 00 00") + b"gitvault pack 1\n"
    trailer = re.fullmatch(rb"gitvault table ([0-9]{20}) ([0-9]{20})\n", data[-57:])
    assert trailer
    offset, length = int(trailer[1]), int(trailer[2])
    packed = data[offset : offset + length]
    assert data[offset - 8 : -65] == (data[offset - 8 : offset] + packed) * 2
    text = zstandard.decompress(packed)
    stored = iter(text.decode().splitlines())
    for row in rows:
        assert any(line.startswith(row[:-4]) if row.endswith(" ...") else line == row for line in stored), row
    assert packs.format_table(packs.read_table(pack, strict=True)) == text
    kinds = {row for row in re.findall(r"^\| `(\w+) ", section("The table"), re.MULTILINE)}
    assert {line.split()[0] for line in text.decode().splitlines()} == {row.split()[0] for row in rows} == kinds


def test_a_newer_pack_row_or_version_is_refused(golden: Path) -> None:
    rows = b"hologram 1 2\n"
    with pytest.raises(UnsupportedFormatVersion, match="hologram"):
        packs.parse_table(rows + b"end " + hashlib.sha256(rows).hexdigest().encode() + b"\n", "x.zpk", 24)
    subprocess.run(["git", "config", "-f", golden / "config", "vault.formatVersion", "2"], check=True)
    with pytest.raises(UnsupportedFormatVersion, match="version 2, this gitvault reads up to 1"):
        Vault.open(golden)


def test_an_unknown_setting_is_refused_and_a_plug_ins_is_not(golden: Path) -> None:
    subprocess.run(["git", "config", "-f", golden / "config", "vault.x.colour", "red"], check=True)
    Vault.open(golden).close()
    subprocess.run(["git", "config", "-f", golden / "config", "vault.colour", "red"], check=True)
    with pytest.raises(ConfigError, match=r"vault\.colour"):
        Vault.open(golden)


@pytest.mark.parametrize(("words", "in_code", "in_text"), LIMITS)
def test_limits(words: str, in_code: int, in_text: int) -> None:
    assert words in TEXT
    assert in_code == in_text
