"""Names that must survive places that cannot hold them: git trees, git refs, text.

Three reversible escapes, each touching only what the place cannot hold:

* tree names   `%XX`  -> names git forbids in a tree (`.git` in every disguise)
* ref names    `%XX`  -> project and machine names as one component of a ref, on any system
* text         `\\xXX` -> bytes that are not UTF-8, in JSON, in the meta chain and on terminals
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# Patterns for rare names are text, compiled when such a name comes by: all of them cost 2 ms of every start.
_PERCENT = rb"%(?=[0-9A-Fa-f]{2})"
_PERCENT_ESCAPE = rb"%([0-9A-Fa-f]{2})"
# What HFS+ ignores inside a name (git's utf8.c lists the same code points).
_HFS_IGNORED = "[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]"
# What NTFS takes for the name: trailing dots and spaces, a stream, the 8.3 short name.
_NTFS_DOTGIT = rb"(?is)(?:\.git|git~1)[. ]*(?::.*)?"
_NTFS_GIT_FILE = (
    rb"(?is)(?:\.gitmodules|(?:gitmod|g|gi|gi7|gi7e|gi7eb|gi7eba)~[0-9]+)[. ]*(?::.*)?",
    rb"(?is)(?:\.gitattributes|(?:gitatt|g|gi|gi7|gi7d|gi7d2|gi7d29)~[0-9]+)[. ]*(?::.*)?",
)
# Cheap test that sends nearly every name past the expensive ones.
_SUSPICIOUS = re.compile(rb"[.gG\xe2\xef]|.*\\", re.DOTALL)


def is_dotgit(name: bytes) -> bool:
    """Whether git refuses `name` in a tree: `.git` itself or what HFS+ or NTFS take for it."""
    if any(re.fullmatch(_NTFS_DOTGIT, part) for part in name.split(b"\\")):
        return True
    return _hfs_folded(name) == ".git"


def is_special(name: bytes) -> bool:
    """Whether git acts on the content of a file of this name: `.gitmodules`, `.gitattributes` or a disguise."""
    if not _SUSPICIOUS.match(name):
        return False
    return any(re.fullmatch(p, name) for p in _NTFS_GIT_FILE) or _hfs_folded(name) in (".gitmodules", ".gitattributes")


# One line at a time: over several, blank ones could be told apart in 2^n ways.
_PLAIN_MODULES = (
    rb"\s*(?:[#;].*)?|\[submodule \"[A-Za-z0-9_][A-Za-z0-9_./-]*\"\]\s*"
    rb"|\s*(?:path|url|branch)\s*=\s*[A-Za-z0-9.][A-Za-z0-9_.:/@~+-]*\s*"
)


def is_harmless(name: bytes, content: bytes) -> bool:
    """Whether `git fsck` accepts a special file with this content under its own name."""
    if name == b".gitattributes":
        return all(len(line) < 2048 for line in content.split(b"\n")) and len(content) < 1 << 20
    if name != b".gitmodules":
        return False
    if b".." in content or b"::" in content:
        return False
    return all(re.fullmatch(_PLAIN_MODULES, line) for line in content.split(b"\n"))


def _hfs_folded(name: bytes) -> str:
    try:
        return re.sub(_HFS_IGNORED, "", name.decode()).lower()
    except UnicodeDecodeError:
        return ""


def tree_name(name: bytes, *, force: bool = False) -> bytes:
    """The name under which a git tree holds `name`; `force` escapes it whatever it is.

    `.git` becomes `%2Egit`; `%` is escaped only where it would read as an escape.
    """
    if b"%" in name:
        name = re.sub(_PERCENT, b"%25", name)
    if not _SUSPICIOUS.match(name) and not force:
        return name
    if force or is_dotgit(name):
        name = b"%%%02X" % name[0] + name[1:]
        # `x\.git`: a part behind a backslash is a name of its own on Windows
        while is_dotgit(name):
            name = name.replace(b"\\", b"%5C", 1)
    return name


def from_tree_name(name: bytes) -> bytes:
    """The name on disk that a git tree holds as `name`."""
    if b"%" not in name:
        return name
    return re.sub(_PERCENT_ESCAPE, lambda m: bytes([int(m[1], 16)]), name)


_REF_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+=.-")
_WINDOWS_DEVICES = frozenset(
    ("con", "prn", "aux", "nul", *(f"com{n}" for n in range(10)), *(f"lpt{n}" for n in range(10)))
)


_WINDOWS_MAPS = '[\x01-\x1f<>:"\\\\|?*\udc80-\udcff\uf000-\uf0ff]|[. ]\\Z'
# Cygwin, WSL and Samba put what Windows cannot hold there, too: a byte of a name is this and its value.
_PRIVATE = 0xF000


def windows_name(name: bytes) -> bytes:
    """The name, or, where Windows can have no file of that name, one that it can hold.

    No two names become one; `from_windows_name` undoes it. What is no file's name anywhere stays none.
    """
    if name in (b".", b".."):
        return name
    text = name.decode("utf-8", "surrogateescape")
    mapped = re.sub(_WINDOWS_MAPS, lambda found: _private(found[0].encode("utf-8", "surrogateescape")), text)
    if text.partition(".")[0].rstrip(" ").lower() in _WINDOWS_DEVICES:
        mapped = _private(mapped[:1].encode()) + mapped[1:]
    return mapped.encode()


def spelled(name: bytes) -> bytes:
    """The name with every byte in the private place: like no other one, whatever a file system takes for one."""
    return _private(name).encode()


def _private(raw: bytes) -> str:
    return "".join(chr(_PRIVATE + byte) for byte in raw)


def from_windows_name(name: bytes) -> bytes:
    """The name that `windows_name` or `spelled` made that of."""
    return re.sub(rb"\xef[\x80-\x83][\x80-\xbf]", lambda found: bytes([ord(found[0].decode()) - _PRIVATE]), name)


def loose_name(name: bytes) -> str:
    """Equal for names that some file system takes for one: case, composed letters, dots and blanks at the end."""
    if name.isascii():
        return name.lower().rstrip(b". ").decode()
    import unicodedata

    text = name.decode("utf-8", "surrogateescape").casefold()
    return unicodedata.normalize("NFKC", text).casefold().rstrip(". ")


def ref_component(name: str) -> str:
    """`name` as one component of a ref that every system can hold as a file name."""
    if not name.isascii():
        import unicodedata

        name = unicodedata.normalize("NFC", name)
    out = "".join(
        c if c in _REF_SAFE else "".join(f"%{b:02X}" for b in c.encode("utf-8", "surrogateescape")) for c in name
    )
    out = out.replace("..", ".%2E")
    if out.endswith((".lock", ".")):
        cut = out.rindex(".")
        out = f"{out[:cut]}%2E{out[cut + 1 :]}"
    if out.startswith((".", "-")) or out.partition(".")[0].lower() in _WINDOWS_DEVICES or out == "HEAD":
        out = f"%{ord(out[0]):02X}{out[1:]}"
    return out


def from_ref_component(component: str) -> str:
    """The name that `ref_component` encoded."""
    return from_tree_name(component.encode()).decode("utf-8", "surrogateescape")


def file_name(project: str) -> str:
    """A name that any system takes for a file or folder, and one of its own for each project."""
    return project if re.fullmatch(r"\w[\w .+-]*\w|\w", project) else ref_component(project)


_TEXT_ESCAPE = r"\\x([0-9A-Fa-f]{2})"
_TEXT_AMBIGUOUS = rb"\\(?=x[0-9A-Fa-f]{2})"
# Also what turns the direction of text, so that `gpj.exe` would read `exe.jpg`, and what begins a new line.
_CONTROL = "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"


def near(word: str, known: Iterable[str]) -> str:
    """`` (did you mean NAME?)`` for the known name that is most like a word; empty when none is."""
    import difflib

    found = difflib.get_close_matches(word, sorted(known), n=1)
    return f" (did you mean {found[0]}?)" if found else ""


def to_text(raw: bytes) -> str:
    """`raw` as text for JSON: bytes that are not UTF-8 become `\\xXX`, all else stays as it is."""
    if b"\\x" in raw:
        raw = re.sub(_TEXT_AMBIGUOUS, rb"\\x5C", raw)
    return raw.decode("utf-8", "backslashreplace")


def to_line(raw: bytes) -> str:
    """`to_text`, with control characters escaped too: for one line of a file or a terminal."""
    return one_line(to_text(raw))


def one_line(text: str) -> str:
    """Text that may hold escaped names already, as one line that a terminal cannot mistake for commands."""
    shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    # Nothing of the kind is printable.
    if shown.isprintable():
        return shown
    return re.sub(_CONTROL, lambda m: "".join(f"\\x{b:02x}" for b in m[0].encode()), shown)


def from_text(text: str) -> bytes:
    """The bytes that `to_text` or `to_line` wrote; surrogate escapes of the system pass."""
    if "\\x" not in text:
        return text.encode("utf-8", "surrogateescape")
    out = bytearray()
    at = 0
    for match in re.finditer(_TEXT_ESCAPE, text):
        out += text[at : match.start()].encode("utf-8", "surrogateescape")
        out.append(int(match[1], 16))
        at = match.end()
    return bytes(out + text[at:].encode("utf-8", "surrogateescape"))
