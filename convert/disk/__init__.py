"""Files on disk: read through mappings, written whole or not at all, and identified by their hashes."""
