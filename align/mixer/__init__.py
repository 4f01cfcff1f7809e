"""What alignment knows about the vision MLPs: points, witness, Flax model, faults."""
