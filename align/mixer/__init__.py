"""What alignment knows of the vision MLPs: points, witness, Flax model, faults."""
