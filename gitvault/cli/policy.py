"""The verb policy: what of a folder is saved, and why."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gitvault.cli import render
from gitvault.cli.arguments import disk_path, filled, wrong
from gitvault.core.utils.names import to_text
from gitvault.errors import VaultNotFound
from gitvault.personas.base import Answer, Session, Verb

if TYPE_CHECKING:
    from gitvault.policy.explain import Decision
    from gitvault.policy.patterns import Rule

UNUSED = 1


def _configure(parser: ArgumentParser) -> None:
    what = "explain PATH: why a path is saved or left out; check [PATH]: rules of yours that match nothing"
    parser.add_argument("action", choices=("explain", "check"), help=what)
    parser.add_argument(
        "path", metavar="PATH", type=filled(disk_path), nargs="?", help="a file or folder, there or not"
    )


def _run(session: Session, arguments: Namespace) -> Answer:
    if arguments.action == "check":
        return _check(session, arguments.path)
    if arguments.path is None:
        raise wrong("policy explain: give a PATH")
    return _explain(session, arguments.path)


def _explain(session: Session, path: str) -> Answer:
    try:
        decision = session.vault.explain(path)
    except VaultNotFound:
        # Without a vault nothing of its own speaks: the rest does.
        from gitvault.policy.explain import explain_path

        decision = explain_path(path)
    return Answer(
        {
            "path": to_text(os.fsencode(path)),
            "keep": decision.keep,
            "category": decision.category,
            "language": decision.language,
            "rule": decision.rule,
            "source": render.disk_text(decision.source),
            "line": decision.line,
        },
        _lines(path, decision),
    )


def _lines(path: str, decision: Decision) -> Iterator[str]:
    language = f", {decision.language}" if decision.language else ""
    yield f"{render.line(path)}: {'saved' if decision.keep else 'left out'} ({decision.category}{language})"
    yield f"  rule        {render.line(decision.rule)}"
    where = f"{render.line(decision.source)}{f', line {decision.line}' if decision.line else ''}"
    yield f"  from        {where or 'the settings'}"
    if decision.keep:
        yield f"  importance  {decision.importance} of 100"
        yield f"  worth       saving every {decision.every}, keeping {decision.keep_for}"
        yield f"  goes to     {'the chunk store, when it is large' if decision.where == 'store' else 'git'}"


def _check(session: Session, path: str | None) -> Answer:
    found = session.vault.unused_rules([path] if path else [])
    document = [{"rule": rule.text, "source": render.disk_text(rule.source), "line": rule.line} for rule in found]
    return Answer(document, _unused_lines(found), code=UNUSED if found else 0)


def _unused_lines(found: Sequence[Rule]) -> Iterator[str]:
    if not found:
        yield "every rule matches something"
    for rule in found:
        place = f"{render.line(rule.source)}, line {rule.line}" if rule.source else "vault.ignore"
        yield f"{place}: {render.line(rule.text)} matches nothing"


VERBS = (
    Verb(
        "policy",
        "tell why a path is saved or left out; find rules that match nothing",
        "git-vault policy explain node_modules/react\ngit-vault policy check ~/work/acme",
        _configure,
        _run,
    ),
)
