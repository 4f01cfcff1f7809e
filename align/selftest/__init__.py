"""The gate's own test: every planted fault has to be caught and placed, and no right port may be failed."""
