"""Which paths of a project are saved, and what each is: rules, where they come from, and which wins."""
