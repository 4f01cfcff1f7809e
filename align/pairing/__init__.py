"""How the names of two models correspond where they are not the same."""
