"""From weights and images to an accuracy beside a published one, with how sure it is."""
