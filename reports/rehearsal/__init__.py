"""A rehearsal of reproducing a published figure: each step on a small scale, offline, and what the real run takes."""
