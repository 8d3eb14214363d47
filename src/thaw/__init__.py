"""Thaw compares transfer-learning strategies on your own images and hands you the best model."""
