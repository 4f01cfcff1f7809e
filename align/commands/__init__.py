"""mixer-align and its subcommands."""
