"""What a snapshot is compared with: the cache's rows, made from the last snapshot's trees where there are none."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

from gitvault.core.models import ObjectId
from gitvault.core.stat_cache import Known, Row, Stat, StatCache, pack_entries
from gitvault.core.touched import Touched
from gitvault.core.utils.names import tree_name
from gitvault.core.versioning import contents
from gitvault.core.versioning.history import NO_OBJECT, GitHistory
from gitvault.errors import CorruptionError, NotFoundError


def prepare_cache(cache: StatCache, history: GitHistory, parent: ObjectId | None, root: Path) -> int:
    """Make the cache describe the snapshot `parent`, from its trees where need be; the snapshot's number.

    Rows made from trees say what is stored, not under which stat: every file is then read and compared.
    """
    about = cache.about()
    here = about.get("snapshot") == (history.identify(parent).encode() if parent else None)
    if here and about.get("root") == os.fsencode(root):
        return int(about.get("number", b"0"))
    cache.clear()
    if parent is None:
        return 0
    try:
        number = sum(1 for _ in history.chain(parent))
        tree, meta_tree = history.trees_of(history.commit(parent))
        cache.replace({}, _rows(history, tree, meta_tree), (), ())
    except (CorruptionError, NotFoundError):
        # Damage in what was saved must not keep anything new from being saved: `verify` names it.
        cache.clear()
        return 0
    return number


def rows_for(touched: Touched | None, cache: StatCache) -> dict[bytes, Row]:
    """The rows that a walk compares with: of everything, or of what was touched and what is directly beside it."""
    if touched is None:
        return cache.rows()
    rows = cache.rows_around(touched.on_the_way())
    for path in touched.below:
        rows |= cache.rows_below(path)
    return rows


def rows_of_gone(rows: Mapping[bytes, Row], visited: Set[bytes], cache: StatCache) -> dict[bytes, Row]:
    """Of folders that a walk did not find: also the rows of all that was below them."""
    found: dict[bytes, Row] = {}
    for path in rows.keys() - visited:
        found |= cache.rows_below(path)
    return found


def last_trees(history: GitHistory, parent: ObjectId | None) -> tuple[ObjectId, ObjectId | None] | None:
    """The last snapshot's tree and its tree in the meta chain; None when there is none that can be read."""
    try:
        return history.trees_of(history.commit(parent)) if parent else None
    except (CorruptionError, NotFoundError):
        return None


def _rows(history: GitHistory, tree: ObjectId, meta_tree: ObjectId | None) -> Iterator[tuple[bytes, Row, bytes]]:
    pending = [(b"", tree, meta_tree)]
    while pending:
        path, tree, meta_tree = pending.pop()
        _, listing = contents.listing(history, tree, meta_tree)
        blob, _ = contents.mirror(history, meta_tree)
        entries: dict[bytes, Known] = {}
        stored = history.tree(tree)
        size = 0
        for entry, said, below in listing:
            if entry.kind == "folder":
                pending.append((path + b"/" + entry.path if path else entry.path, entry.blob, below))
            elif said:
                name = next(n for n in (tree_name(entry.path), tree_name(entry.path, force=True)) if n in stored)
                entries[entry.path] = Known(Stat(0, said.size, 0, 0, 0), stored[name][0], name, entry.blob, 0)
                size += said.size
        if blob and meta_tree:
            held = b"" if tree == NO_OBJECT else tree
            yield path, Row(b"", b"", held, meta_tree, blob, len(entries), size), pack_entries(entries)
