"""What stock git and git-lfs call, so that a vault is to them like any repository: filter, transfer agent, textconv."""
