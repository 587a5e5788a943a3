"""The three flows: snapshot, restore, verify. Functions over the seams; `gitvault.Vault` wires them."""
