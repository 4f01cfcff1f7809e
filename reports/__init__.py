"""Accuracy on CIFAR-10, and audits against the published figures."""
