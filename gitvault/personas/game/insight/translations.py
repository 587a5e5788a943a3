"""Which files are texts of a game in several languages."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

_ENDINGS = (b".po", b".pot", b".mo", b".tr", b".xlf", b".xliff", b".translation", b".strings")
_LANGUAGES = frozenset(
    b"af ar az be bg bn bs ca cs cy da de el en eo es et eu fa fi fil fr ga gd gl he hi hr hu hy id is it ja jp ka kk "
    b"km kn ko la lb lt lv mk ml mn mr ms nb nl nn no pl pt ro ru se si sk sl sq sr sv ta te th tl tr uk ur uz vi "
    b"zh".split()
)
_CODE = re.compile(rb"(?i)^(.*?)(?:^|[._-])([a-z]{2,3})(?:[_-](?:[a-z]{2}|[a-z]{4}|[0-9]{3}))?$")
_TRANSLATED_FROM = (b"", b"en")
_FEWEST = 3
"""Languages of files that are otherwise of one name, for them to be the same texts."""


def translations(paths: Iterable[bytes]) -> dict[bytes, bool]:
    """Of these files those that are texts of some language, and whether others are translated from them.

    Known by their ending, or as one of three whose names, or folders, differ by a language's code only; those without a
    code, or with that of English, are what is translated.
    """
    families: dict[tuple[bytes, bytes, bytes], dict[bytes, bytes]] = defaultdict(dict)
    found: dict[bytes, bool] = {}
    for path in paths:
        folder, _, name = path.rpartition(b"/")
        stem, _, ending = name.rpartition(b".")
        family, language = _split(stem)
        # `locale/de/LC_MESSAGES/game.po`, `lang/de/strings.js`: the folder has the code.
        where, _, last = folder.removesuffix(b"/LC_MESSAGES").rpartition(b"/")
        if not language and (language := _split(last)[1]):
            folder = where
        families[folder, family, ending.lower()][path] = language
        if name.lower().endswith(_ENDINGS):
            found[path] = language in _TRANSLATED_FROM
    for members in families.values():
        if len(set(members.values()) - {b""}) >= _FEWEST:
            found |= {path: language in _TRANSLATED_FROM for path, language in members.items()}
    return found


def _split(name: bytes) -> tuple[bytes, bytes]:
    """What stands before the code of a language, and the language; all of it, and nothing, where none ends it."""
    code = _CODE.match(name)
    return (code[1], code[2].lower()) if code and code[2].lower() in _LANGUAGES else (name, b"")
