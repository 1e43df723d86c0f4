"""Who may see and who may act: accounts, sessions, tokens, OpenID Connect, and what stands in the way of everyone else."""
