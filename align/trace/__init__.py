"""A recorded trace of the reference, and the gate that holds Paddle alone against it."""
