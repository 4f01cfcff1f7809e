"""What rounding explains: sizes of operations, magnitudes that stress them, how near bounds come. Pure."""
