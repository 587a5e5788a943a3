"""The verb that asks the past: search."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gitvault.cli import render
from gitvault.cli.arguments import add_selection, count, date, filled, names, wrong
from gitvault.core.utils.names import near, to_line, to_text
from gitvault.errors import LockedError, NotFoundError, StorageFullError
from gitvault.personas.base import Answer, Session, Verb

if TYPE_CHECKING:
    from gitvault.personas.code.search.answers import Found, Page, Step, Wanted
    from gitvault.personas.code.search.index import Index
    from gitvault.personas.code.search.ledger import Copies
    from gitvault.personas.code.search.model import IndexState, Query, Version

# Seconds for a structural pattern.
_BUDGET = 4.0
# Seconds that `--index` reads the history of hg and svn checkouts; the next one goes on.
_PATIENCE = 600.0
_TEXT = 160
_SEVERAL = 3


def _configure(parser: ArgumentParser) -> None:
    text = filled(str)
    parser.add_argument("pattern", metavar="PATTERN", type=text, nargs="?", help="a regular expression, found in lines")
    parser.add_argument(
        "-e", dest="patterns", metavar="PATTERN", type=text, action="append", default=[], help="the same; repeatable"
    )
    parser.add_argument("-F", dest="fixed", action="store_true", help="PATTERN is the text itself")
    parser.add_argument("-E", action="store_true", help="PATTERN is an extended expression, as it always is")
    parser.add_argument("-i", dest="ignore_case", action="store_true", help="letters' case does not matter")
    parser.add_argument("-w", dest="word", action="store_true", help="only whole words")
    parser.add_argument(
        "-S", dest="occurs", metavar="TEXT", type=text, help="versions in which TEXT became more or less"
    )
    parser.add_argument(
        "-G", dest="touches", metavar="REGEX", type=text, help="versions in which a fitting line changed"
    )
    parser.add_argument("--ids", action="store_true", help="with -S and -G: ids alone, one a line")
    parser.add_argument("--symbol", metavar="NAME", type=text, help="functions, classes ... : NAME, Class.name, na*")
    parser.add_argument(
        "--timeline", action="store_true", help="with --symbol: every change of it, with its difference"
    )
    parser.add_argument("--uses", action="store_true", help="with --symbol: the lines that call it")
    parser.add_argument("--struct", metavar="CODE", type=text, help="code with holes, 'f($A, $$$)'; needs --lang")
    parser.add_argument("--exhaustive", action="store_true", help="with --struct: look at every version, however long")
    parser.add_argument("--reuse", action="store_true", help="only what two projects share; alone: functions")
    parser.add_argument("--lang", metavar="LANGUAGE", type=text, help="only in files of it: python, go, c++ ...")
    parser.add_argument(
        "--project", metavar="PROJECT", type=text, action="append", default=[], help="only in it; repeatable"
    )
    add_selection(parser, "only in those projects")
    parser.add_argument("--introduced", action="store_true", help="with --since, --until: what came then")
    parser.add_argument("--removed", action="store_true", help="only what is gone; with --since, --until: went then")
    parser.add_argument("--alive", action="store_true", help="only what is still there")
    parser.add_argument("--since", metavar="DATE", type=date(end=False), help="changed then or later")
    parser.add_argument("--until", metavar="DATE", type=date(end=True), help="changed then or earlier")
    parser.add_argument("--limit", metavar="N", type=count, default=50, help="how many are shown (50)")
    parser.add_argument("--index", action="store_true", help="bring the index up to date and say how far it is")


def _run(session: Session, arguments: Namespace) -> Answer:
    asked = [
        bool(arguments.pattern or arguments.patterns),
        *(getattr(arguments, name) is not None for name in ("occurs", "touches", "symbol", "struct")),
    ]
    if sum(asked) > 1:
        raise wrong("give one of PATTERN, -S, -G, --symbol and --struct")
    if not any(asked) and not arguments.reuse and not arguments.index:
        raise wrong("nothing to search for: give PATTERN, -S, -G, --symbol, --struct, --reuse or --index")
    if arguments.pattern and arguments.patterns:
        raise wrong("a PATTERN beside -e; give it with -e too")
    if arguments.ids and arguments.occurs is None and arguments.touches is None:
        raise wrong("--ids goes with -S or -G")
    if arguments.timeline and arguments.symbol is None:
        raise wrong("--timeline goes with --symbol")
    if arguments.uses and (arguments.symbol is None or arguments.timeline or set("*?") & set(arguments.symbol)):
        raise wrong("--uses goes with --symbol and a whole name, without --timeline")
    if arguments.struct is not None and arguments.lang is None:
        raise wrong("--struct needs --lang: a pattern is code of one language")
    from gitvault.personas.code.search.answers import bring_up, index_of

    with index_of(session.vault) as index:
        if not index.folder.is_relative_to(session.vault.path):
            render.say(f"{session.vault.path}: cannot be written to; searched in a temporary index")
        if arguments.index:
            return _indexed(session, index, bring_up(session.vault, index, patience=_PATIENCE))
        try:
            done = bring_up(session.vault, index)
        except (LockedError, StorageFullError) as error:
            render.say(f"{error}; this answer lacks what it has not read yet")
        else:
            if done.problems:
                said = f"{render.plural(len(done.problems), 'thing')} could not be read"
                render.say(f"{said}; {session.command} search --index lists them")
        return _answer(session, arguments, index)


def _indexed(session: Session, index: Index, done: IndexState) -> Answer:
    from gitvault.personas.code.search.answers import symbols_of

    with symbols_of(index, session.progress):
        pass
    document = {
        "versions": done.versions,
        "added": done.added,
        "waiting": done.waiting,
        "problems": list(done.problems),
    }
    lines = [
        f"{render.plural(done.versions, 'version')} in the index, {done.added:,} of them new, {done.waiting:,} waiting"
    ]
    return Answer(document, [*lines, *(f"  {render.line(problem)}" for problem in done.problems)])


def _answer(session: Session, arguments: Namespace, index: Index) -> Answer:
    from gitvault.personas.code.search import answers

    wanted = _wanted(session, arguments)
    if arguments.occurs is not None or arguments.touches is not None:
        return _versions(arguments, index, wanted)
    if arguments.struct is not None:
        from gitvault.personas.code.search.structure import Pattern

        pattern = Pattern(arguments.struct, wanted.language)
        budget = float("inf") if arguments.exhaustive else _BUDGET
        return _page(
            answers.structures(
                index, pattern, wanted, exhaustive=arguments.exhaustive, budget=budget, limit=arguments.limit
            )
        )
    if arguments.uses:
        return _page(answers.callers(index, arguments.symbol, wanted, budget=_BUDGET, limit=arguments.limit))
    if arguments.symbol is not None:
        return _symbols(session, arguments, index, wanted)
    if not arguments.pattern and not arguments.patterns:
        with answers.symbols_of(index, session.progress) as ledger:
            return _copies(*answers.copies(index, ledger, wanted, arguments.limit))
    return _page(answers.lines(index, _query(arguments, wanted), reused=arguments.reuse, limit=arguments.limit))


def _wanted(session: Session, arguments: Namespace) -> Wanted:
    from gitvault.personas.code.search.answers import Wanted
    from gitvault.personas.code.search.languages import named

    known = {*session.vault.history.projects(), *(project.name for project in session.vault.projects())}
    for name in arguments.project:
        if name not in known:
            raise NotFoundError(
                f"{render.line(name)}: no such project{near(name, known)}; git-vault projects lists them"
            )
    return Wanted(
        frozenset((*arguments.project, *names(session, arguments.select))) or None,
        named(arguments.lang) if arguments.lang else "",
        arguments.since,
        arguments.until,
        arguments.introduced,
        arguments.removed,
        arguments.alive,
    )


def _query(arguments: Namespace, wanted: Wanted) -> Query:
    from gitvault.personas.code.search.answers import query

    patterns = [arguments.pattern] if arguments.pattern else arguments.patterns
    return query(
        patterns,
        wanted,
        fixed=arguments.fixed,
        ignore_case=arguments.ignore_case,
        word=arguments.word,
    )


def _versions(arguments: Namespace, index: Index, wanted: Wanted) -> Answer:
    from gitvault.personas.code.search.answers import versions

    found = versions(
        index,
        arguments.occurs if arguments.occurs is not None else arguments.touches,
        wanted,
        occurrences=arguments.occurs is not None,
        ignore_case=arguments.ignore_case,
    )
    if arguments.ids:
        ids = [version.id for version in found]
        return Answer(ids, ids)
    rows = [
        (version.id[: render.SHORT], render.local(version.time), render.line(version.project), _said(version))
        for version in found
    ]
    document = {"count": len(found), "versions": [_version(version) for version in found]}
    return Answer(document, render.table(rows) if rows else ["nothing found"])


def _version(version: Version) -> dict[str, object]:
    return {
        "id": version.id,
        "project": version.project,
        "time": render.iso(version.time),
        "author": version.author,
        "message": version.subject,
        "snapshot": version.snapshot,
    }


def _said(version: Version) -> str:
    return render.line(f"{version.author}: {version.subject}")


def _symbols(session: Session, arguments: Namespace, index: Index, wanted: Wanted) -> Answer:
    from gitvault.personas.code.search import answers

    with answers.symbols_of(index, session.progress) as ledger:
        page, histories = answers.symbols(
            index, ledger, arguments.symbol, wanted, ignore_case=arguments.ignore_case, limit=arguments.limit
        )
        if not arguments.timeline:
            return _page(page)
        timelines = [answers.timeline(index, ledger, history) for history in histories]
    document = _document(page)
    hits = [
        {**_hit(one), "timeline": [_step(step) for step in steps]}
        for one, steps in zip(page.found, timelines, strict=True)
    ]
    return Answer({**document, "hits": hits}, _timeline_lines(page, timelines))


def _step(step: Step) -> dict[str, object]:
    return {
        **_version(step.version),
        "path": to_text(step.path),
        "change": step.change,
        "former": step.former or None,
        "diff": step.diff,
    }


def _timeline_lines(page: Page, timelines: Sequence[Sequence[Step]]) -> Iterator[str]:
    for one, steps in zip(page.found, timelines, strict=True):
        yield f"{render.line(one.project)}: {one.kind} {render.line(one.name)} ({one.language})"
        for step in steps:
            short, time = step.version.id[: render.SHORT], render.local(step.version.time)
            change = f"renamed from {render.line(step.former)}" if step.former else step.change
            yield f"  {short}  {time}  {change:10}  {to_line(step.path)}  {_said(step.version)}"
            yield from (f"      {render.line(text)}" for text in step.diff.splitlines()[2:])
    if not page.found:
        yield "nothing found"


def _copies(page: Page, groups: Sequence[Copies]) -> Answer:
    hits = [
        {
            **_hit(one),
            "tokens": group.tokens,
            "places": [
                {
                    "project": copy.project,
                    "path": to_text(copy.path),
                    "line": copy.place.start,
                    "name": copy.name,
                    "alive": copy.removed is None,
                }
                for copy in group.copies
            ],
        }
        for one, group in zip(page.found, groups, strict=True)
    ]

    def lines() -> Iterator[str]:
        for group in groups:
            yield f"{render.plural(group.tokens, 'token')}:"
            for copy in group.copies:
                gone = "" if copy.removed is None else "  (gone)"
                where = f"{render.line(copy.project)}:{to_line(copy.path)}:{copy.place.start}"
                yield f"  {where}: {render.line(copy.name)}{gone}"
        if not groups:
            yield "nothing found"

    return Answer({**_document(page), "hits": hits}, lines())


def _page(page: Page) -> Answer:
    return Answer({**_document(page), "hits": [_hit(one) for one in page.found]}, _page_lines(page))


def _document(page: Page) -> dict[str, object]:
    return {"count": page.count, "notes": list(page.notes)} if page.notes else {"count": page.count}


def _hit(one: Found) -> dict[str, object]:
    named = {"kind": one.kind, "name": one.name, "language": one.language} if one.kind else {}
    return {
        "project": one.project,
        "path": to_text(one.path),
        "line": one.line,
        "text": to_text(one.text),
        "introduced": one.introduced.id,
        "introduced_at": render.iso(one.introduced.time),
        "author": one.introduced.author,
        "message": one.introduced.subject,
        "modified": [version.id for version in one.modified],
        "removed": one.removed.id if one.removed else None,
        "removed_at": render.iso(one.removed.time) if one.removed else None,
        "alive": one.removed is None,
        "projects": list(one.projects),
        **named,
    }


def _page_lines(page: Page) -> Iterator[str]:
    for one in page.found:
        text = to_line(one.text.strip())
        what = f"{one.kind} {render.line(one.name)}: " if one.name else ""
        shown = text if len(text) <= _TEXT else f"{text[:_TEXT]}..."
        yield f"{render.line(one.project)}:{to_line(one.path)}:{one.line or '?'}: {what}{shown}"
        yield f"    {'; '.join(_life(one))}"
    if page.count > len(page.found):
        yield f"{page.count:,} in all, the first {len(page.found):,} shown; --limit N shows more"
    elif not page.found:
        yield "nothing found"
    yield from page.notes


def _life(one: Found) -> Iterator[str]:
    came = one.introduced
    yield f"since {came.id[: render.SHORT]} {render.local(came.time)} {_said(came)}"
    if one.modified:
        times = "once" if len(one.modified) == 1 else f"{len(one.modified):,} times"
        last = one.modified[-1]
        yield f"changed {times}, last {last.id[: render.SHORT]} {render.local(last.time)}"
    if one.removed:
        yield f"gone with {one.removed.id[: render.SHORT]} {render.local(one.removed.time)}"
    if len(one.projects) > 1:
        shown = ", ".join(map(render.line, one.projects[:_SEVERAL]))
        yield f"in {len(one.projects):,} projects: {shown}{' ...' if len(one.projects) > _SEVERAL else ''}"


VERBS = (
    Verb(
        name="search",
        summary="ask the past of all projects: when something came, changed, went, and where it lives",
        example="""git-vault search parse_header --alive
git-vault search -S 'TODO: retry' --ids
git-vault search --symbol Client.connect --timeline
git-vault search --struct 'for $A in $B: $$$' --lang python
git-vault search --reuse --lang go""",
        configure=_configure,
        run=_run,
    ),
)
