"""Sessions of work: what is noticed of them, when a snapshot is due, and the programs that tell of them."""
