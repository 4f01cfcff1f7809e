"""What rounding explains: sizes of operations, magnitudes that stress them, how close results come to bounds. Pure."""
