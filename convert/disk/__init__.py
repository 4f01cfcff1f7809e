"""Files on their way: read through mappings, written whole or not at all, and known by their hashes."""
