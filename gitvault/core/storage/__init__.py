"""The chunk store and what it is made of."""
