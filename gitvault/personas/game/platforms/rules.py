"""Which differences between platforms are meant, and what must not be shown: `rules.toml`, and what a project says."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from gitvault.core.backup_engine.secrets import secret

HIDDEN = "<redacted>"
"""What stands for a secret."""

# No value that a person reads is longer, and looking for tokens is not free.
_SEARCHED = 4000


@dataclass(frozen=True, slots=True)
class Rules:
    """What is expected of an engine's settings; patterns with `*` and `?`, in whatever case."""

    between_platforms: Sequence[str] = ()
    """Keys that differ between platforms because platforms differ."""
    between_builds: Sequence[str] = ()
    """Keys that change from build to build, such as the version."""
    unexpected: Sequence[str] = ()
    """Keys for which the others do not hold."""
    secrets: Sequence[str] = field(default=())
    """Keys whose values are hidden."""

    def expected(self, key: str) -> bool:
        """Whether platforms are meant to differ in it."""
        return _fits(self.between_platforms, key) and not _fits(self.unexpected, key)

    def changing(self, key: str) -> bool:
        """Whether builds are meant to differ in it."""
        return _fits(self.between_builds, key) and not _fits(self.unexpected, key)

    def shown(self, key: str, text: str) -> str:
        """A value as it may be shown and kept."""
        if not text or text in ("0", "1", "[]", "{}", '""', "true", "false", "True", "False"):
            return text
        if _fits(self.secrets, key) or secret(b"x.ini", text[:_SEARCHED].encode("utf-8", "replace")):
            return HIDDEN
        # A structure of Unreal, Godot's dictionary: (Id="x",ClientSecret="y").
        return _WITHIN.sub(lambda found: f"{found[1]}{HIDDEN}", text) if _WORD.search(text) else text


_WORD = re.compile(r"(?i)secret|passw|encryptionkey|privatekey|apikey|accesskey|signingkey|token")
_WITHIN = re.compile(
    r"(?i)(\b\w{0,40}(?:secret|password|passphrase|encryption_?key|private_?key|api_?key|access_?key|signing_?key|token)"
    r"\w{0,10}\"?\s{0,3}[=:]\s{0,3})(\"[^\"\n]+\"|[^\s\",()}\]]+)"
)


def rules_for(engine: str, own: Mapping[str, Any]) -> Rules:
    """The rules for an engine, with those of a project's own table, which go before."""
    import tomllib

    known = tomllib.loads(resources.files(__package__).joinpath("rules.toml").read_text("utf-8"))

    def both(name: str) -> tuple[str, ...]:
        said = own.get(name, ())
        return (*known["any"].get(name, ()), *known.get(engine, {}).get(name, ()), *said)

    return Rules(both("expected"), both("changing"), tuple(own.get("unexpected", ())), both("secret"))


@cache
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    parts = (re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".") for pattern in patterns)
    return re.compile("|".join(parts), re.IGNORECASE | re.DOTALL)


def _fits(patterns: Sequence[str], key: str) -> bool:
    return bool(patterns) and _compiled(tuple(patterns)).fullmatch(key) is not None
