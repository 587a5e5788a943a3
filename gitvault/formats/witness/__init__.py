"""The second readers, by which what was written is proven: they share no code with what writes it."""
