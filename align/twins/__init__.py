"""A model in PyTorch and its twin in Paddle, of any kind: what corresponds, by names, types and trial runs."""
