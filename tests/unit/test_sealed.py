"""What a server sees of a sealed remote, and who can open it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyrage
import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import MemoryPlace

from gitvault.errors import ConfigError, CorruptionError, NotFoundError, RemoteSealed, ToolMissing
from gitvault.remotes import sealed
from gitvault.remotes.sealed import Sealed, age, keys, learn, names, objects
from gitvault.remotes.sealed.names import Names

KEY = bytes(range(32))
HASH = "0123456789abcdef" * 4
RECORD = f"machines/{HASH[:32]}/{7:020d}-{HASH}"
LAYOUT = ("vault", f"git/{HASH}.pack", f"chunks/{HASH}.zpk", f"index/{HASH}", RECORD)

Make = Callable[[str], tuple[str, Path]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A pair of keys by age: the public one, and the file with the secret one."""

    def made(name: str) -> tuple[str, Path]:
        identity = pyrage.x25519.Identity.generate()
        file = tmp_path / f"{name}.txt"
        file.write_text(f"# created: by a test\n\n{identity}\n")
        return str(identity.to_public()), file

    return made


def test_names_are_hidden_as_documented() -> None:
    """Other programs and later versions have to arrive at the same names: frozen."""
    hidden = Names(KEY).hide("vault")
    assert hidden == "n67vlt3tpa3zcmwo7xwvvzvkjrldgsatyt37474gft5d4x47ukmwcoooiuuhwdfqmed2ozl4bybua"


@given(st.sampled_from(LAYOUT))
def test_names_are_turned_back_and_folders_are_theirs(name: str) -> None:
    hider = Names(KEY)
    hidden = hider.hide(name)
    assert hider.show(hidden) == name
    folder, slash, _ = name.rpartition("/")
    assert hidden.startswith(hider.hide(folder + slash))
    # A folder's place on disk has names of at most 255 bytes, a temporary ending among them.
    assert all(len(word) < 240 for word in hidden.split("/"))


@given(st.text("abcdefghijklmnopqrstuvwxyz234567/=A", max_size=300))
def test_what_was_not_made_with_the_key_is_no_name(text: str) -> None:
    assert Names(KEY).show(text) is None


def test_each_purpose_has_a_key_of_its_own() -> None:
    assert (
        names.derived(KEY, "gitvault object").hex()
        == "aef198f313ce834847f90b7f5666218d83487d6da41675d661902951bca0990d"
    )


def test_another_key_tells_nothing() -> None:
    hidden = Names(KEY).hide(RECORD)
    assert Names(bytes(32)).show(hidden) is None
    # Nor does a file in another folder, or a bit more behind the last byte.
    folder, _, last = hidden.rpartition("/")
    assert Names(KEY).show(last) is None
    assert Names(KEY).show(f"{folder}/{last[:-1]}{'b' if last[-1] == 'a' else 'a'}") != RECORD


@given(st.integers(0, 70), st.integers(0, 200))
def test_sizes_say_little(steps: int, more: int) -> None:
    """Powers of two below 64 KiB, steps of 64 KiB above: as documented, never shorter, never much longer."""
    length = steps * 7919 + more
    found = objects.padded(length)
    assert found >= max(length, 1024)
    assert found % 65536 == 0 if found > 65536 else found & (found - 1) == 0
    assert found <= max(1024, 2 * length) if length < 65536 else found < length + 65536


def test_contents_come_back_and_the_server_sees_nothing_of_them(make: Make) -> None:
    public, file = make("one")
    place = MemoryPlace()
    remote = Sealed(place, [public], KEY, file)
    secret = b"known plain text, " * 1000
    digest = hashlib.sha256(secret).hexdigest()
    name = f"git/{digest}.pack"
    remote.put(name, secret)
    assert remote.get(name) == secret
    assert remote.get(name, 6, 5) == secret[6:11]
    assert [stored.name for stored in remote.names("git/")] == [name]
    everything = [one.encode() + b"\0" + b"".join(versions) for one, versions in place.kept.items()]
    plain = [one for one in place.kept if one in sealed.HELP]
    assert sorted(plain) == sorted(sealed.HELP)
    for known in (
        b"known plain",
        b"git/",
        digest.encode(),
        bytes.fromhex(digest),
        KEY,
        KEY.hex().encode(),
        public.encode(),
    ):
        hidden = [text for text in everything if known in text and not text.startswith(b"README\0")]
        assert [text.split(b"\0")[0].decode() for text in hidden if text.split(b"\0")[0].decode() not in plain] == []
    remote.delete([name])
    assert list(remote.names()) == []
    with pytest.raises(NotFoundError):
        Sealed(place, [public], KEY, file).get(name)
    assert (remote.requests is place.requests, remote.close()) == (True, None)


def test_one_of_several_keys_is_enough_and_another_is_told(make: Make) -> None:
    (first, one), (second, two), (_, wrong) = make("one"), make("two"), make("wrong")
    place = MemoryPlace()
    Sealed(place, [first, second], KEY).put(RECORD, b"x")
    for file in (one, two):
        assert learn(place, file) == (KEY, sorted([first, second]))
        assert Sealed(place, [first], KEY, file).get(RECORD) == b"x"
    with pytest.raises(RemoteSealed, match=r"wrong\.txt: not a key that opens this remote"):
        learn(place, wrong)
    with pytest.raises(RemoteSealed, match="sealed to other keys"):
        Sealed(place, [first], KEY, wrong).get(RECORD)


def test_a_key_that_was_never_one_of_those_is_told(make: Make) -> None:
    (first, one), (second, two), (_, wrong) = make("one"), make("two"), make("wrong")
    place = MemoryPlace()
    Sealed(place, [first], KEY).put(RECORD, b"x")
    Sealed(place, [second], KEY).put(RECORD, b"y")
    # Without one there is nothing to compare, and one of any time will do.
    for file in (None, one, two):
        Sealed(place, [second], KEY, file).demand_key()
    with pytest.raises(RemoteSealed, match=r"wrong\.txt: not a key that opens this remote"):
        Sealed(place, [second], KEY, wrong).demand_key()
    sealed.demand_pair([first, second], two)
    with pytest.raises(ConfigError, match=r"wrong\.txt: not the key of one that --encrypt names"):
        sealed.demand_pair([first, second], wrong)


def test_what_helps_to_open_it_is_missed_and_put_again(make: Make) -> None:
    public, file = make("one")
    place = MemoryPlace()
    remote = Sealed(place, [public], KEY, file)
    remote.put(RECORD, b"x")
    assert remote.helpless() == []
    everything = set(place.kept)
    for name in (*sealed.HELP, next(name for name in place.kept if name.startswith(sealed.KEYS))):
        place.delete([name])
        assert remote.helpless() == [name]
        assert sealed.is_sealed(place)
        remote.help_again([RECORD])
        assert remote.helpless() == [name]
        remote.help_again([name, RECORD])
        assert remote.helpless() == []
    assert set(place.kept) == everything


def test_a_rotated_key_opens_what_came_after_and_both_open_all(make: Make) -> None:
    (old, old_file), (new, new_file) = make("old"), make("new")
    place = MemoryPlace()
    Sealed(place, [old], KEY).put("index/a", b"before")
    Sealed(place, [new], KEY).put("index/b", b"after")
    rotated = Sealed(place, [new], learn(place, new_file)[0], new_file)
    assert rotated.get("index/b") == b"after"
    with pytest.raises(RemoteSealed, match="add the secret key of that time to the file"):
        rotated.get("index/a")
    new_file.write_text(new_file.read_text() + old_file.read_text())
    both = Sealed(place, [new], KEY, new_file)
    assert (both.get("index/a"), both.get("index/b")) == (b"before", b"after")


def test_without_a_key_nothing_is_opened_but_ones_own_chain_goes_on(make: Make, tmp_path: Path) -> None:
    """A lost key is lost: nothing on the machine that pushes reads. It knows again what it wrote, and only that."""
    public, _ = make("lost")
    place = MemoryPlace()
    memory = tmp_path / "memory"
    digest = hashlib.sha256(b"index").hexdigest()
    Sealed(place, [public], KEY, memory=memory).put("vault", b"marker")
    Sealed(place, [public], KEY, memory=memory).put(f"index/{digest}", b"index")
    Sealed(place, [public], KEY, memory=memory).put(RECORD, f"record of {digest}".encode())
    pusher = Sealed(place, [public], KEY, memory=memory)
    assert not pusher.reads
    assert [pusher.get(name)[:6] for name in ("vault", f"index/{digest}", RECORD)] == [b"marker", b"index", b"record"]
    pusher.put(f"git/{HASH}.pack", b"bulk")
    with pytest.raises(RemoteSealed, match="no key that reads"):
        Sealed(place, [public], KEY, memory=memory).get(f"git/{HASH}.pack")
    newer = RECORD.replace("7-", "8-")
    pusher.put(newer, b"names no index")
    assert {path.name for path in memory.iterdir()} == {"vault", newer.replace("/", "-")}
    place.kept.pop(Names(KEY).hide("vault"))
    with pytest.raises(NotFoundError):
        Sealed(place, [public], KEY, memory=memory).get("vault")


def test_older_versions_count_when_the_newest_is_junk(make: Make) -> None:
    """Who may put can overwrite: by junk, by an age file of his own, by another object."""
    public, file = make("one")
    place = MemoryPlace()
    Sealed(place, [public], KEY).put("index/a", b"a")
    Sealed(place, [public], KEY).put("index/b", b"b")
    name = Names(KEY).hide("index/a")
    stranger = pyrage.x25519.Identity.generate().to_public()
    mine = [pyrage.x25519.Recipient.from_str(public)]
    for junk in (
        b"",
        b"junk",
        pyrage.encrypt(b"gitvault index/a 1 00\nx", [stranger]),
        pyrage.encrypt(b"no line", mine),
        pyrage.encrypt(b"gitvault index/a 1 " + b"0" * 64 + b"\nx", mine),
        objects.seal("index/a", b"forged", bytes(32), keys.recipients([public])),
        place.kept[name][0][:-20],
        place.kept[Names(KEY).hide("index/b")][0],
    ):
        place.put(name, junk)
        assert Sealed(place, [public], KEY, file).get("index/a") == b"a", junk[:40]
    reader = Sealed(place, [public], KEY, file)
    assert list(reader.versions("index/a")) == [b"a"]
    del place.kept[name][0]
    with pytest.raises(CorruptionError, match="was not sealed as that"):
        Sealed(place, [public], KEY, file).get("index/a")
    place.kept[name] = [pyrage.encrypt(b"no line", mine)]
    with pytest.raises(CorruptionError, match="sealed by another program"):
        Sealed(place, [public], KEY, file).get("index/a")
    place.kept[name] = [b"junk"]
    with pytest.raises(CorruptionError, match="damaged there"):
        Sealed(place, [public], KEY, file).get("index/a")


def test_what_a_name_has_the_hash_of_has_that_hash(make: Make, tmp_path: Path) -> None:
    """Who has the key of the names may seal other bytes under a name; who has none may say the true ones again."""
    public, file = make("one")
    recipients = keys.recipients([public])
    digest = hashlib.sha256(b"content").hexdigest()
    for name in (f"git/{digest}.pack", f"chunks/{digest}.zpk", f"index/{digest}"):
        assert objects.named_hash(name) == digest
        place = MemoryPlace()
        Sealed(place, [public], KEY).put(name, b"content")
        hidden = Names(KEY).hide(name)
        place.put(hidden, objects.seal(name, b"another", KEY, recipients))
        assert Sealed(place, [public], KEY, file).get(name) == b"content", "of the version before"
        place.kept[hidden] = place.kept[hidden][-1:]
        with pytest.raises(CorruptionError, match="was not sealed as that"):
            Sealed(place, [public], KEY, file).get(name, 1, 3)
        place.put(hidden, objects.seal(name, b"content", bytes(32), recipients))
        assert Sealed(place, [public], KEY, file).get(name) == b"content"
    for name in (
        f"machines/{digest[:32]}/{1:020d}-{digest}",
        "vault",
        f"index/{digest[1:]}",
        f"condemned/git/{digest}",
    ):
        assert objects.named_hash(name) == ""
    machine = Sealed(MemoryPlace(), [public], KEY, memory=tmp_path / "memory")
    machine.put(f"index/{digest}", b"content")
    assert machine.get(f"index/{digest}") == b"content"
    (tmp_path / "memory" / f"index-{digest}").write_bytes(b"another")
    with pytest.raises(CorruptionError, match="remembers of it is damaged"):
        machine.get(f"index/{digest}")


def test_junk_beside_the_key_of_the_names_changes_nothing(make: Make) -> None:
    """Somebody who knows the public key and may add objects adds a key of his own, and overwrites the true one."""
    public, file = make("one")
    place = MemoryPlace()
    Sealed(place, [public], KEY).put("vault", b"x")
    [true] = [name for name in place.kept if name.startswith(sealed.KEYS)]
    theirs = [pyrage.x25519.Recipient.from_str(public)]
    forged = b'{"gitvault-key": 1, "key": "' + bytes(32).hex().encode() + b'", "recipients": []}'
    place.put(sealed.KEYS + "00", pyrage.encrypt(forged, theirs))
    place.put(sealed.KEYS + "01", b"junk")
    place.put(true, pyrage.encrypt(b"[]", theirs))
    assert learn(place, file)[0] == KEY
    assert Sealed(place, [public], KEY, file).helpless() == [true]
    # Of a format to come, and with a key of another length: neither is one.
    for forged in (b'{"gitvault-key": 2, "key": "%b", "recipients": []}', b'{"gitvault-key": 1, "key": "%.2b"}'):
        place.put(true, pyrage.encrypt(forged % KEY.hex().encode(), theirs))
        assert learn(place, file)[0] == KEY
        assert Sealed(place, [public], KEY, file).helpless() == [true]


def test_a_lying_transfer_is_asked_again(make: Make) -> None:
    public, file = make("one")

    class Lying(MemoryPlace):
        lies = 2

        def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
            content = super().get(name, start, length)
            self.lies -= 1
            return content[: len(content) // 2] if self.lies >= 0 else content

    place = Lying()
    Sealed(place, [public], KEY).put("index/a", b"a" * 5000)
    place.versions = lambda name: iter(())  # type: ignore[method-assign]
    assert Sealed(place, [public], KEY, file).get("index/a") == b"a" * 5000


def test_keys_of_ssh(tmp_path: Path) -> None:
    for kind in ("ed25519", "rsa"):
        file = tmp_path / kind
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", file], check=True)
        public = file.with_name(kind + ".pub").read_text()
        place = MemoryPlace()
        Sealed(place, [public], KEY).put("vault", b"x")
        assert learn(place, file)[0] == KEY
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "a word", "-f", file], check=True)
    with pytest.raises(ConfigError, match="take its passphrase off a copy"):
        keys.identities(file)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("age1junk", "no public key"),
        ("ssh-ecdsa AAAA", "no public key"),
        ("", "no public key"),
        ("AGE-SECRET-KEY-1" + "Q" * 58, "that is a secret key"),
    ],
)
def test_what_is_no_public_key(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as raised:
        keys.recipients([text])
    assert "QQQ" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "holds no secret key"),
        (b"# nothing\n", "holds no secret key"),
        (b"AGE-SECRET-KEY-1QQQ", "no secret key that can be used"),
        (b"\xff\xfe", "not text"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\nQQQ", "no secret key that can be used"),
        (b"-----BEGIN AGE ENCRYPTED FILE-----\nQQQ", "no secret key that can be used"),
    ],
)
def test_what_is_no_secret_key(tmp_path: Path, content: bytes, sentence: str) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=sentence) as raised:
        keys.identities(file)
    assert "QQQ" not in str(raised.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        keys.identities(tmp_path / "none")


def test_without_the_library_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyrage", None)
    with pytest.raises(ToolMissing, match="pyrage: not installed"):
        keys.library()


@pytest.mark.needs("age")
def test_the_age_program_opens_an_object(make: Make, tmp_path: Path) -> None:
    public, file = make("one")
    content = os.urandom(100_000)
    (tmp_path / "sealed").write_bytes(objects.seal("index/a", content, KEY, keys.recipients([public])))
    said = subprocess.run(["age", "-d", "-i", file, tmp_path / "sealed"], check=True, capture_output=True).stdout
    line, _, rest = said.partition(b"\n")
    assert line.split(b" ")[:3] == [b"gitvault", b"index/a", b"100000"]
    assert rest[:100_000] == content
    assert not rest[100_000:].strip(b"\0")
    assert len(said) == objects.padded(len(line) + 1 + len(content))
    assert objects.decrypt("x", (tmp_path / "sealed").read_bytes(), keys.identities(file)) == said
    assert shutil.which("age")
    assert (len(sealed.new_key()), names.KEY_SIZE) == (32, 32)
    assert not sealed.is_sealed(MemoryPlace())
    with pytest.raises(age.NoKey):
        objects.unseal("index/a", (tmp_path / "sealed").read_bytes(), KEY, keys.identities(make("two")[1]))
