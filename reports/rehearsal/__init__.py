"""The reproduction of a published figure rehearsed: each step on a small scale, offline, and what it takes for real."""
