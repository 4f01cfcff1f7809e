"""How the names of two models go together where they are not the same."""
