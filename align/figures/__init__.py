"""The figures of a comparison, in rows and sections, and the verdict that follows from them, computed again. Pure."""
