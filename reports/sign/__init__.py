"""Who made a bundle: its Statement, signed in an envelope beside it, and the check against trusted signers."""
