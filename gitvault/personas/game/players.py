"""Players in records: a hash with the vault's own key stands for them, the same in all of the vault, nobody's name."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from gitvault import config as settings

if TYPE_CHECKING:
    from gitvault.vault import Vault


def hasher(vault: Vault) -> Callable[[str], str]:
    """What makes 32 hex digits of a player's name or id. Draws the key when the vault has none."""
    if not vault.config.player_key:
        # Somebody else may have drawn it since it was read, or be about to.
        drawn = settings.assign("vault.playerKey", [secrets.token_hex(32)])
        settings.edit(vault.path, *drawn, unless="vault.playerKey", disk=vault.disk)
        vault.__dict__.pop("config", None)
    keyed = hmac.new(bytes.fromhex(vault.config.player_key), digestmod=hashlib.sha256)

    # A player says many things: 0.1 us for one that was seen lately, 1.7 for another.
    @lru_cache(1 << 16)
    def hashed(player: str) -> str:
        one = keyed.copy()
        one.update(player.encode("utf-8", "surrogatepass"))
        return one.hexdigest()[:32]

    return hashed
