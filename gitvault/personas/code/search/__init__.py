"""The past of all projects, searched: unique lines with the events that brought them and took them away.

    index = Index.open(vault.path / "cache" / "search", disk)
    index.update(sources(vault))                  what is new since the last time
    for hit in index.find(Query("parse_header")): where it came, was modified, went
    index.pickaxe(Query("parse", pickaxe="S"))    the versions that `git log -S` names
    index.changes(after=number)                   every file that differs between two versions, for other indexes
    with index.reader() as read: read(number, blob)

`model` has the records, `history` where versions come from, `lines` and `segments` how lines are kept, `pattern` what
is looked for, `index` the whole.
"""
