"""Perforce, Plastic SCM and Fossil: told by their markers and saved whole; where each stands, if its program knows."""

from __future__ import annotations

import re
from pathlib import Path

from gitvault.core.utils import process
from gitvault.errors import ToolError
from gitvault.vcs.state import Checkout, State

LIMIT = 10.0
"""Seconds that a client program may take: it may have to ask a server that is not there."""

_NAMES = {"perforce": "Perforce", "plastic": "Plastic SCM", "fossil": "Fossil"}


def state(checkout: Checkout) -> State:
    """All that there is of it may exist only here: what its server has, is not asked."""
    facts = described(checkout)
    return State(
        checkout,
        base=facts.get("revision", ""),
        branch=facts.get("stream", ""),
        trouble=f"{_NAMES[checkout.vcs]} is not asked what its server has",
    )


def described(checkout: Checkout) -> dict[str, str]:
    """`client`, `stream` and `revision`, those that can be found out. Never raises."""
    try:
        found = _READERS[checkout.vcs](checkout.path)
    except (ToolError, OSError):
        return {}
    return {key: value for key, value in found.items() if value}


def _perforce(folder: Path) -> dict[str, str]:
    # `P4PORT=rsh:COMMAND` in the workspace's own file would have p4 run the command.
    for name in (".p4config", "p4config.txt"):
        file = folder / name
        if file.is_file() and re.search(r"(?im)^\s*P4PORT\s*=\s*rsh:", file.read_text("utf-8", "replace")):
            return {}
    about = _tagged(process.run(["p4", "-ztag", "info"], cwd=folder, timeout=LIMIT))
    client = about.get("clientName", "")
    have = _tagged(process.run(["p4", "-ztag", "changes", "-m1", "./...#have"], cwd=folder, timeout=LIMIT))
    return {"client": client, "stream": about.get("clientStream", ""), "revision": have.get("change", "")}


def _tagged(said: bytes) -> dict[str, str]:
    """`... key value` lines."""
    return dict(re.findall(r"(?m)^\.\.\. (\S+) (.*?)\r?$", said.decode("utf-8", "replace")))


def _plastic(folder: Path) -> dict[str, str]:
    lines = (folder / ".plastic" / "plastic.workspace").read_text("utf-8", "replace").splitlines()
    found = {"client": lines[0].strip() if lines else ""}
    said = process.run(["cm", "status", "--header", "--machinereadable"], cwd=folder, timeout=LIMIT)
    # STATUS <changeset> <repository> <server>
    match = re.search(r"(?m)^STATUS\s+(\S+)\s+(\S+)\s+(\S+)", said.decode("utf-8", "replace"))
    return {**found, **({"revision": match[1], "stream": f"{match[2]}@{match[3]}"} if match else {})}


def _fossil(folder: Path) -> dict[str, str]:
    said = process.run(["fossil", "info"], cwd=folder, timeout=LIMIT).decode("utf-8", "replace")
    found = dict(re.findall(r"(?m)^([a-z-]+): +(.*?)\r?$", said))
    revision = found.get("checkout", "").split(" ")[0]
    return {"client": found.get("repository", ""), "stream": found.get("tags", ""), "revision": revision}


_READERS = {"perforce": _perforce, "plastic": _plastic, "fossil": _fossil}
