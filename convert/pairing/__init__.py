"""Conversion by a pairing file: the key mapping of any model, as a person wrote or confirmed it."""
