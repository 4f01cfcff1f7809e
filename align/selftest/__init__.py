"""The gate's own test: every planted fault has to be caught and placed, and every right port has to pass."""
