"""Models: what differs between two versions of one, as figures and as pictures; small pictures of one."""

from __future__ import annotations

from gitvault.formats.extras import need

# Everything in here is arrays; said once, what is missing is named with the way to get it.
for _module in ("numpy", "scipy", "embreex"):
    need(_module, "mesh")
