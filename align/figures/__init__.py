"""The figures of a comparison, in rows and sections, and the verdict recomputed from them. Pure."""
