"""What is written down of a conversion, and checked again later."""
