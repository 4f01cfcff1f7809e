"""Zip archives, read through mappings."""
