"""The command line: mixer-convert, and what all commands share."""
