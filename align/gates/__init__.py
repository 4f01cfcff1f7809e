"""The gates of an alignment."""
