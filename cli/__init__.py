"""The `fedge` command: one file a subcommand, each importing its part of the system only when it is called."""
