"""A place whose server can read nothing: contents are age files, names are keyed hashes.

    README, *.sh     plain: what this is, and how to open it with nothing but age, git, zstd and a shell
    keys/ID          plain name, an age file: the key of names and MACs, for each set of recipients that there was
    anything else    see names.py and objects.py

Who pushes needs the recipients, which are public, and the key of the names, which lies on the machine. Neither reads.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.core.utils.files import Disk
from gitvault.errors import ConfigError, CorruptionError, GitVaultError, NotFoundError, RemoteSealed
from gitvault.remotes.places import Content, Stored
from gitvault.remotes.sealed import age, keys
from gitvault.remotes.sealed.age import NoKey
from gitvault.remotes.sealed.names import KEY_SIZE, Names, derived
from gitvault.remotes.sealed.objects import decrypt, named_hash, padded, seal, unseal

if TYPE_CHECKING:
    from gitvault.remotes.places import Place

KEYS = "keys/"
HELP = {"README": "sealed.README", "unseal.sh": "unseal.sh", "rescue.sh": "rescue.sh"}
"""What stands there in plain, and the file of ours that it is."""
# What a place may hold of one object, sealed: more is nobody's of ours.
_LARGEST = (32 << 20) + (1 << 20)
_LARGEST_KEY = 1 << 20
# Why what lies there is no document with a key.
_NO_DOCUMENT = (CorruptionError, ValueError, KeyError, TypeError, RecursionError)
# What a document of one line, padded, takes at least.
_LEAST_KEY = 1 << 10
# A transfer that lies is asked again before what is there counts as damaged.
_TRIES = 3
# Opened objects that are kept, of about 8 MiB: who reads parts of one asks for it again and again.
_KEPT = 3
# What no other remote has; one of them may be lost.
_MARKS = ("unseal.sh", "rescue.sh")
_BULK = ("git/", "chunks/")
_RECORDS = "machines/"


class Sealed:
    """See Place. Objects are sealed to `recipients`; without `identity` only what this machine put can be had again."""

    def __init__(
        self,
        place: Place,
        recipients: Sequence[str],
        name_key: bytes,
        identity: Path | None = None,
        *,
        memory: Path | None = None,
        disk: Disk | None = None,
    ) -> None:
        """`identity`: a file of secret keys. `memory`: a folder for what a machine without one has to know again.

        Raises ConfigError, ToolMissing.
        """
        self.requests: Counter[str] = place.requests
        self._place = place
        self._texts = sorted({" ".join(text.split()) for text in recipients})
        self._recipients = keys.recipients(self._texts)
        self._identity = identity
        self._identities = keys.identities(identity) if identity else []
        self._key = name_key
        self._names = Names(name_key)
        self._memory = memory
        self._disk = disk or Disk()
        self._opened: OrderedDict[str, Content] = OrderedDict()
        self._lock = threading.Lock()
        self._opening = threading.Lock()
        self._sharing = threading.RLock()
        self._shared = False

    @property
    def reads(self) -> bool:
        """Whether there is a secret key; without one `get` gives only what `memory` has."""
        return bool(self._identities)

    def put(self, name: str, content: bytes) -> None:
        """See Place."""
        self._share()
        # With a key too: it may be taken away.
        remembered = self._memory if not name.startswith(_BULK) else None
        if remembered:
            # First: what the place does not list is not asked for.
            self._disk.make_folder(remembered)
            self._disk.write_durably(remembered / name.replace("/", "-"), content)
        self._place.put(self._names.hide(name), seal(name, content, self._key, self._recipients))
        if remembered and name.startswith(_RECORDS):
            self._forget(remembered, name, content.decode("utf-8", "replace"))

    def get(self, name: str, start: int = 0, length: int | None = None) -> Content:
        """See Place; the object is fetched and opened whole. One whose name has its hash (`named_hash`) has that hash.

        Raises RemoteSealed where no key opens it, CorruptionError where nothing that is there was sealed as that.
        """
        content = self._kept(name)
        if content is None:
            content = self._fetched(name) if self.reads else self._remembered(name)
            if not start and length is None:
                return content
            with self._lock:
                self._opened[name] = content
                while len(self._opened) > _KEPT:
                    self._opened.popitem(last=False)
        return content[start : None if length is None else start + length]

    def names(self, prefix: str = "") -> Iterator[Stored]:
        """See Place; without names that were not made with the key."""
        found = []
        for stored in self._place.names(self._names.hide(prefix)):
            if name := self._names.show(stored.name):
                found.append(Stored(name, stored.size, stored.time, padded=True))
        yield from sorted(found, key=lambda stored: stored.name)

    def delete(self, names: Sequence[str]) -> None:
        """See Place."""
        self._place.delete([self._names.hide(name) for name in names])

    def versions(self, name: str) -> Iterator[Content]:
        """See Place: of what the server still has, that which was sealed as this."""
        for sealed in self._place.versions(self._names.hide(name)):
            with suppress(NoKey, CorruptionError):
                yield unseal(name, sealed, self._key, self._identities)

    def close(self) -> None:
        """See Place."""
        self._place.close()

    def look(self) -> None:
        """Ask what the first `put` would have to ask, and wait for."""
        with self._sharing:
            self._shared = self._shared or _is_there(self._place, self._key_name())

    def demand_key(self) -> None:
        """Raises RemoteSealed where this machine's secret key is none of those that the place was ever sealed to."""
        if self._identity:
            learn(self._place, self._identity)

    def helpless(self) -> list[str]:
        """The names of what is missing, or damaged, of that with which anybody can open what is there."""
        found = [name for name in HELP if not _is_there(self._place, name)]
        return found if self._is_key_there() else [*found, self._key_name()]

    def _is_key_there(self) -> bool:
        try:
            content = self._place.get(self._key_name(), 0, _LARGEST_KEY)
            if not self._identity:
                return len(content) > _LEAST_KEY
            return _document(self._key_name(), content, self._identities)[0] == self._key
        except NoKey:
            # It may be for others; or the lines that say for whom are what is damaged.
            return not _opens(self._identities, self._recipients)
        except (NotFoundError, *_NO_DOCUMENT):
            return False

    def help_again(self, names: Collection[str]) -> None:
        """Put those of these names again that `helpless` may name."""
        if not {*HELP, self._key_name()}.isdisjoint(names):
            self._put_key()

    def _share(self) -> None:
        """See to it that each of the recipients can learn the key of the names from the remote."""
        with self._sharing:
            self.look()
            if not self._shared:
                self._put_key()
                self._shared = True

    def _key_name(self) -> str:
        return KEYS + derived(self._key, "\n".join(self._texts)).hex()[:32]

    def _put_key(self) -> None:
        document = {"gitvault-key": 1, "key": self._key.hex(), "recipients": self._texts}
        text = json.dumps(document, sort_keys=True).encode() + b"\n"
        for plain, file in HELP.items():
            self._place.put(plain, (Path(__file__).parents[2] / "rescue" / file).read_bytes())
        self._place.put(self._key_name(), age.encrypt(text + bytes(padded(len(text)) - len(text)), self._recipients))

    def _kept(self, name: str) -> Content | None:
        with self._lock:
            return self._opened.get(name)

    def _fetched(self, name: str) -> Content:
        """What was sealed under a name, of the newest version that was."""
        hidden = self._names.hide(name)
        problem: GitVaultError | None = None
        for _ in range(_TRIES):
            sealed = self._place.get(hidden, 0, _LARGEST)
            try:
                # One after the other: each takes its size again meanwhile, and four times that where pyrage opens it.
                with self._opening:
                    return unseal(name, sealed, self._key, self._identities)
            except CorruptionError as error:
                problem = error
            except NoKey:
                problem = RemoteSealed(
                    f"{name}: sealed to other keys; add the secret key of that time to the file given with --identity"
                )
                break
        for content in self.versions(name):
            return content
        assert problem
        raise problem

    def _forget(self, memory: Path, record: str, named: str) -> None:
        """Keep of what this machine remembers only what its newest record names."""
        for path in memory.iterdir():
            kind, _, digest = path.name.rpartition("-")
            if kind and path.name != record.replace("/", "-") and digest not in named:
                self._disk.unlink(path)

    def _remembered(self, name: str) -> bytes:
        if "/" not in name:
            # What no list was read for: is it there at all?
            self._place.get(self._names.hide(name), 0, 1)
        if self._memory:
            with suppress(OSError):
                content = (self._memory / name.replace("/", "-")).read_bytes()
                if (expected := named_hash(name)) and hashlib.sha256(content).hexdigest() != expected:
                    raise CorruptionError(f"{name}: what this machine remembers of it is damaged; it is sent again")
                return content
        raise RemoteSealed(f"{name}: this machine has no key that reads; give the file with one: --identity FILE")


def new_key() -> bytes:
    """A key for the names of a new remote."""
    return secrets.token_bytes(KEY_SIZE)


def demand_pair(recipients: Sequence[str], identity: Path) -> None:
    """Raises ConfigError where no secret key in a file opens what is sealed to these recipients."""
    if not _opens(keys.identities(identity), keys.recipients(recipients)):
        raise ConfigError(f"{identity}: not the key of one that --encrypt names; give that, or leave it out")


def _opens(identities: Sequence[age.Identity], recipients: Sequence[age.Recipient]) -> bool:
    try:
        age.decrypt(age.encrypt(b"", recipients), identities)
    except NoKey:
        return False
    return True


def is_sealed(place: Place) -> bool:
    """Whether what is at a place is sealed."""
    return any(_is_there(place, mark) for mark in _MARKS)


def learn(place: Place, identity: Path) -> tuple[bytes, list[str]]:
    """The key of a sealed remote's names, and its recipients, from the remote itself.

    Raises RemoteSealed for a wrong key, ConfigError, ToolMissing.
    """
    opened = keys.identities(identity)
    # The oldest: whoever may only add cannot be before it.
    for stored in sorted(place.names(KEYS), key=lambda stored: (stored.time, stored.name)):
        # Older versions only when the newest opens nothing: to ask for them takes half a second of processor.
        for content in chain([place.get(stored.name, 0, _LARGEST_KEY)], place.versions(stored.name)):
            with suppress(NoKey, *_NO_DOCUMENT):
                return _document(stored.name, content, opened)
    raise RemoteSealed(f"{identity}: not a key that opens this remote; it takes one of those it was sealed to")


def _document(name: str, content: Content, identities: Sequence[age.Identity]) -> tuple[bytes, list[str]]:
    """The key of the names, and the recipients, from an object below `keys/`. Raises NoKey, one of _NO_DOCUMENT."""
    found = json.loads(decrypt(name, content, identities).rstrip(b"\0"))
    key = bytes.fromhex(found["key"])
    if found["gitvault-key"] != 1 or len(key) != KEY_SIZE:
        raise ValueError(f"{name}: of another format")
    return key, [str(text) for text in found["recipients"]]


def _is_there(place: Place, name: str) -> bool:
    try:
        # Not a list: a folder that is still to be made has none.
        place.get(name, 0, 1)
    except NotFoundError:
        return False
    return True
