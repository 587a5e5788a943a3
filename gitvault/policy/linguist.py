"""What `.gitattributes` say a file is, in linguist's words: generated, vendored, documentation, or not."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from gitvault.policy.patterns import IGNORED, Live, Rule, parse
from gitvault.policy.tracked import read_small

NAME = ".gitattributes"
# As of ignore files.
_LONGEST = 1 << 20
_CATEGORIES = {
    b"linguist-generated": "generated",
    b"linguist-vendored": "dependency",
    b"linguist-documentation": "documentation",
}
_LINE = re.compile(rb'[ \t]*("(?:[^"\\]|\\.)*"|[^ \t"#!\[][^ \t]*)[ \t]+(.*)')
_QUOTED = re.compile(rb'\\(["\\])')


def said(root: str, path: bytes) -> dict[str, Rule]:
    """By category the line that says whether a file below `root` is of it (`keep` is false) or not.

    The nearest file counts, of one file the last line that matches.
    """
    found: dict[str, Rule] = {}
    *folders, name = path.split(b"/")
    for depth in range(len(folders), -1, -1):
        live = Live().add(tuple(_rules(os.path.join(root, os.fsdecode(b"/".join(folders[:depth])), NAME))))
        for folder in folders[depth:]:
            live = live.below(folder)
        for rule in live.matches(name, False):
            found.setdefault(rule.category, rule)
    return found


def _rules(file: str) -> Iterator[Rule]:
    try:
        lines = read_small(file, _LONGEST).splitlines()
    except OSError:
        return
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        glob = match[1]
        pattern = parse(_QUOTED.sub(rb"\1", glob[1:-1]) if glob.startswith(b'"') else glob)
        # A pattern of folders says nothing of the files in them here.
        if pattern is None or pattern.folders_only:
            continue
        for word in match[2].split():
            attribute, _, value = word.removeprefix(b"-").partition(b"=")
            if category := _CATEGORIES.get(attribute):
                isnt = word.startswith(b"-") or value == b"false"
                text = b"%s %s" % (glob, word)
                yield Rule(
                    text.decode("utf-8", "replace"), isnt, IGNORED, file, number, pattern.segments, category=category
                )
