"""Weights: files of our own and of others, the hub's, and how images reach a network that has them."""
