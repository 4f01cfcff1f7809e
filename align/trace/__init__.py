"""A recorded trace of the reference, and the gate that checks Paddle alone against it."""
