"""The vision MLPs: their variants, parameter names and shapes, layouts, seeded weights and Paddle model."""
