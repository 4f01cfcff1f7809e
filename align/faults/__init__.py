"""Faults planted on purpose, so that the gate proves its own sensitivity."""
