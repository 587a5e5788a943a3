"""Version control: which checkouts there are, in what state, and what of them exists nowhere else. Only read."""
