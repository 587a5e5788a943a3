"""A game's assets in the vault: what they cost by type, what its bundles hold, what nothing uses."""
