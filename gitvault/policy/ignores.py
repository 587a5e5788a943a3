"""What Mercurial, Subversion and git's user ignore: `.hgignore`, `svn:ignore`, `svn:global-ignores`, core.excludesFile.

Patterns of hg speak of whole paths, and are regular expressions; those of svn are names in one folder, or below it, and
become rules like those of a .gitignore.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from gitvault.core.utils import process
from gitvault.errors import ToolError
from gitvault.policy.patterns import IGNORED, Rule

_KINDS = {
    "re": "relre",
    "regexp": "relre",
    "relre": "relre",
    "glob": "relglob",
    "relglob": "relglob",
    "rootglob": "rootglob",
}
_INCLUDED = 8
"""Files that include each other, at the most."""
_BELOW = b"/\0"
# What takes Python's own expressions for ever: a repetition of what repeats.
_SLOW = re.compile(r"\([^()]*[*+}][^()]*\)[*+{]")
# Over so many bytes a properties list is no list of patterns.
_LIST_MAX = 1 << 20


class HgIgnore:
    """The patterns of an `.hgignore`, asked with paths from the top of the work tree."""

    def __init__(self, top: str, read: Callable[[str], bytes]) -> None:
        """`read`: a file's content; raises OSError."""
        made = hashlib.sha1(usedforsecurity=False)
        self._rules: list[tuple[re.Pattern[bytes], Rule]] = []
        for text, pattern, source, line in _lines(f"{top}/.hgignore", "", read, 0):
            made.update(f"{pattern}\0".encode("utf-8", "surrogateescape"))
            try:
                compiled = _compiled(pattern)
            except ValueError:
                # hg stops with it. What it was to leave out is saved.
                continue
            self._rules.append((compiled, Rule(text, False, IGNORED, source, line, (b"*",))))
        self.digest = made.digest()
        """Changes when any pattern does."""

    def rule(self, path: bytes, is_folder: bool) -> Rule | None:
        """The first that speaks of a path; of a folder also what speaks of all that could be in it."""
        for pattern, rule in self._rules:
            if pattern.match(path) or (is_folder and pattern.match(path + _BELOW)):
                return rule
        return None


def _compiled(pattern: str) -> re.Pattern[bytes]:
    """Raises ValueError for what is no regular expression, or one that could take for ever."""
    raw = pattern.encode("utf-8", "surrogateescape")
    try:
        import re2
    except ImportError:
        if _SLOW.search(pattern):
            raise ValueError(f"{pattern}: could take for ever") from None
        try:
            return re.compile(raw)
        except re.error as error:
            raise ValueError(f"{pattern}: {error}") from error
    options = re2.Options()
    options.log_errors = False
    options.encoding = re2.Options.Encoding.LATIN1
    try:
        return re2.compile(raw, options)  # type: ignore[no-any-return]
    except re2.error as error:
        raise ValueError(f"{pattern}: {error}") from error


def _lines(file: str, folder: str, read: Callable[[str], bytes], depth: int) -> Iterator[tuple[str, str, str, int]]:
    """Of each pattern its text, the regular expression it means, its file and line; `folder`: what it is seen from."""
    try:
        data = read(file)
    except OSError:
        return
    syntax = "relre"
    for number, line in enumerate(os.fsdecode(data).splitlines(), 1):
        text = _COMMENT.sub(r"\1", line).replace("\\#", "#").rstrip()
        if not text:
            continue
        if match := re.match(r"syntax:\s*(\w+)", text):
            syntax = _KINDS.get(match[1], syntax)
            continue
        kind, colon, rest = text.partition(":")
        if colon and kind in ("include", "subinclude"):
            if depth < _INCLUDED:
                inner = os.path.normpath(os.path.join(os.path.dirname(file), rest))
                below = os.path.relpath(os.path.dirname(inner), os.path.dirname(file)) if kind == "subinclude" else ""
                yield from _lines(inner, f"{folder}{below}/" if below not in ("", ".") else folder, read, depth + 1)
            continue
        known = _KINDS.get(kind) if colon else None
        yield text, _expression(known or syntax, rest if known else text, folder), file, number


_COMMENT = re.compile(r"((?:^|[^\\])(?:\\\\)*)#.*")


def _expression(kind: str, text: str, folder: str) -> str:
    start = re.escape(folder)
    if kind == "relre":
        if text.startswith("^"):
            return start + text[1:]
        return f"{start}(?:.*?)(?:{text})"
    anywhere = "" if kind == "rootglob" else "(?:.*/)?"
    return f"{start}{anywhere}{_glob(text)}(?:/|$)"


def _glob(text: str) -> str:
    """A glob of hg: `*` within a name, `**` over folders, `{a,b}`."""
    out: list[str] = []
    at = groups = 0
    while at < len(text):
        char = text[at]
        at += 1
        if char == "*":
            if text.startswith("*/", at):
                at += 2
                out.append("(?:.*/)?")
            elif text.startswith("*", at):
                at += 1
                out.append(".*")
            else:
                out.append("[^/]*")
        elif char == "?":
            out.append(".")
        elif char == "[" and (end := text.find("]", at + 1 + (text[at : at + 1] == "!"))) > 0:
            inside = text[at:end].replace("\\", "\\\\")
            out.append(f"[^{inside[1:]}]" if inside[0] in "!^" else f"[{inside}]")
            at = end + 1
        elif char == "{":
            groups += 1
            out.append("(?:")
        elif char == "}" and groups:
            groups -= 1
            out.append(")")
        elif char == "," and groups:
            out.append("|")
        elif char == "\\" and at < len(text):
            out.append(re.escape(text[at]))
            at += 1
        else:
            out.append(re.escape(char))
    return "".join(out) + ")" * groups


# -- svn ---------------------------------------------------------------------------------------------


def svn_rules(source: str, properties: Mapping[bytes, bytes]) -> dict[bytes, tuple[Rule, ...]]:
    """What begins to hold in folders of a working copy, given their properties as `wc.db` has them."""
    found: dict[bytes, tuple[Rule, ...]] = {}
    for folder, listed in properties.items():
        held = skel(listed) if len(listed) <= _LIST_MAX else {}
        rules = [_rule(source, b"svn:global-ignores", text, (b"**",)) for text in _words(held, b"svn:global-ignores")]
        rules += [_rule(source, b"svn:ignore", text, ()) for text in _words(held, b"svn:ignore")]
        if rules:
            found[folder] = tuple(rules)
    return found


def _words(held: Mapping[bytes, bytes], name: bytes) -> list[bytes]:
    return [line for line in held.get(name, b"").splitlines() if line.strip()]


def _rule(source: str, name: bytes, text: bytes, around: tuple[bytes, ...]) -> Rule:
    said = os.fsdecode(b"%s %s" % (name, text))
    return Rule(said, False, IGNORED, source, 0, (*around, text.rstrip(b"/")))


def skel(data: bytes) -> dict[bytes, bytes]:
    """Names and values of a list of svn's: `(4 name 5 value ...)`. What is cut off is left out."""
    words: list[bytes] = []
    at = 1 if data[:1] == b"(" else len(data)
    while match := _ATOM.match(data, at):
        if match[1]:
            start = match.end()
            at = start + int(match[1])
            if at > len(data):
                break
            words.append(data[start:at])
        else:
            words.append(match[2])
            at = match.end()
    return dict(zip(words[::2], words[1::2], strict=False))


_ATOM = re.compile(rb"\s*(?:(\d{1,9})\s|([A-Za-z][^\s()\[\]]*))")


# -- git ---------------------------------------------------------------------------------------------


@lru_cache(1)
def excludes_file() -> str:
    """The file with what a user ignores in all git work trees; empty for none. Asked once in a process."""
    try:
        said = process.run(["git", "config", "--type=path", "--get", "core.excludesFile"], cwd=Path(os.sep), ok=(0, 1))
    except ToolError:
        return ""
    if found := os.fsdecode(said).rstrip("\n"):
        return found
    return os.path.expanduser("~/.config/git/ignore")
