"""The gates beyond the forward: gradients, and the steps of optimizers."""
