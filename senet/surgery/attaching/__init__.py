"""Blocks put into any network, and taken out again."""
