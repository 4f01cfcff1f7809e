"""What alignment knows of the vision MLPs: points, witness, Flax model, faults."""

from __future__ import annotations

from align.mixer.alignment import ALIGNMENT

__all__ = ["ALIGNMENT"]
