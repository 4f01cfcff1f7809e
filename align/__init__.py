"""Alignment of two models and a witness: the same seeded batch through each, compared layer by layer."""
