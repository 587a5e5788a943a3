"""Vaults that have lost something."""

from __future__ import annotations

from gitvault.core.models import ObjectId
from gitvault.core.versioning.packfile import deflate
from gitvault.vault import Vault


def lose(vault: Vault, *lost: ObjectId, spoilt: bool = False) -> None:
    """Rewrite the git side as one pack without some objects, or, `spoilt`, with other bytes for them."""
    found = [oid for digit in "0123456789abcdef" for oid in vault.history.objects.find_prefix(digit)]
    objects = {oid: vault.history.objects.read(oid) for oid in found}
    assert objects.keys() >= set(lost)
    vault.close()
    for path in vault.path.glob("objects/pack/*"):
        path.unlink()
    pack = vault.history.new_pack()
    for oid in objects.keys() - set(lost):
        pack.add(*objects[oid])
    for oid in lost if spoilt else ():
        kind, data = objects[oid]
        wrong = bytes(byte ^ 1 for byte in data)
        pack.add_deflated(kind, oid, len(wrong), deflate(wrong))
    made = pack.finish()
    assert made
    vault.history.publish([made])
