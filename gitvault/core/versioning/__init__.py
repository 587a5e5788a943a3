"""Snapshots as real git: objects, packs, refs and the history made of them."""
