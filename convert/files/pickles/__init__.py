"""Pickles, read without executing anything of them."""
