"""The bundle that an audit writes, and the check that a bundle is still what was written."""
