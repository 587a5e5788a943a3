"""Version control: what it protects already, and what it does not."""
