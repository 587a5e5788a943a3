"""What of a project is saved: the policy, what its mode leaves to version control, and what its watcher knows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault import config as settings
from gitvault.core.models import Project
from gitvault.core.utils import layout
from gitvault.vault.opened import Opened

if TYPE_CHECKING:
    from gitvault.core.interfaces import Rules
    from gitvault.core.touched import Touched, Watch
    from gitvault.policy.explain import Decision
    from gitvault.policy.patterns import Rule
    from gitvault.policy.policy import Policy
    from gitvault.vcs.git import Refs
    from gitvault.vcs.remotes import Standing
    from gitvault.vcs.servers import Served, Server


def policy(vault: Opened, root: Path | str, mode: str) -> Policy:
    """What is saved of a folder, were it a project of that mode, and why."""
    from gitvault.core.versioning.indexed import Indexes
    from gitvault.policy.policy import Policy

    config = vault.config
    return Policy(
        root,
        ignore=config.ignore,
        ignore_source=partial(settings.origin, vault.path, "vault.ignore"),
        everywhere=config.policy_file,
        conventions=mode != "full" and config.policy == "on",
        indexes=Indexes(vault.path / "cache", vault._disk),
    )


def explain(vault: Opened, projects: Sequence[Project], path: str) -> Decision:
    """What is saved of a path, and why; `projects`: those of this machine. Raises ConfigError."""
    from gitvault.policy.explain import changes, explain_path, raised

    folder, name = os.path.split(os.path.abspath(path))
    real = os.path.join(os.path.realpath(folder), name)
    around = [project for project in projects if layout.is_within(real, project.path)]
    if not around:
        return explain_path(path, make=lambda root: policy(vault, root, "protect"))
    project = max(around, key=lambda project: len(project.path))
    decision = explain_path(path, project.path, lambda root: policy(vault, root, project.mode))
    return raised(decision, *changes(vault.history, project.name, decision.path))


def unused_rules(vault: Opened, projects: Sequence[Project], paths: Sequence[Path | str]) -> list[Rule]:
    """Rules that users wrote and that match nothing in these folders, or in any of the projects. Raises ConfigError."""
    from gitvault.policy.explain import unused
    from gitvault.policy.patterns import PROJECT

    modes = {project.path: project.mode for project in projects}
    roots = [os.path.realpath(path) for path in paths] or list(modes)
    found = [unused(policy(vault, root, modes.get(root, "protect"))) for root in roots]
    # A rule that holds for all projects is of no use when none of them has anything for it.
    shared = set.intersection(*map(set, found)) if found else set()
    local = {rule for rules in found for rule in rules if rule.level == PROJECT}
    return sorted(shared | local, key=lambda rule: (rule.source, rule.line, rule.text))


def rules_by_mode(vault: Opened, project: Project, inner: Policy) -> Rules:
    """The rules of a project, and what its mode leaves to version control."""
    from gitvault.vcs.protect import rules

    now = vault.now()
    cache, limit = vault.path / "cache", settings.remote_limit(vault.config, now)

    def standing(git_dir: str, refs: Refs) -> Standing:
        from gitvault.vcs import remotes

        return remotes.standing_of(Path(git_dir), now, limit, cache, refs)

    def served(server: Server) -> Served:
        from gitvault.vcs import servers

        return servers.served(server, now, limit, cache)

    return rules.of_mode(
        project.mode,
        project.path,
        inner,
        history=vault.history,
        tip=vault.history.tip(project.name),
        standing=standing,
        served=served,
        indexes=inner.indexes,
        now=now.timestamp(),
    )


def watch(vault: Opened, project: Project) -> Watch:
    """Who asks the project's watcher, if there is one."""
    from gitvault.core.touched import Watch

    # A checkout's snapshot depends on its mode, and on how long a remote may be silent.
    terms = f"{project.mode} {vault.config.remote_timeout}"
    rules = policy(vault, project.path, project.mode).digest
    return Watch(vault.path / "cache", project.path, rules, terms)


def touched(vault: Opened, project: Project) -> Touched | None:
    """What may have changed in a project since its newest snapshot, as its watcher says; None: anything."""
    from gitvault.core.backup_engine.untouched import to_look_at

    cache = vault.caches.open(project.name)
    tip = vault.history.tip(project.name)

    def ask() -> Touched | None:
        about = cache.about()
        if tip is None or about.get("snapshot") != vault.history.identify(tip).encode():
            return None
        seen = watch(vault, project).touched(about.get("watch", b""))
        return to_look_at(seen, cache, vault.now().timestamp())

    return cache.use(ask)
