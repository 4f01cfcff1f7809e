"""Weights from the Hugging Face hub."""
