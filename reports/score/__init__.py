"""From weights and images to an accuracy with its interval, compared with a published one."""
