"""Who made a bundle: its Statement signed, in an envelope beside it, and held against those who are trusted."""
