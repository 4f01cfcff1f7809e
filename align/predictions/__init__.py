"""A certificate that the port changes no prediction on a user's own images."""
