"""The bundle that an audit leaves, and whether one still says what it said."""
