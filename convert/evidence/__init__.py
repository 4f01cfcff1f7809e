"""The records of a conversion, written with it and checked again later."""
