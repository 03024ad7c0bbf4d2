"""Tensors in, tensors out: what the blocks compute, without modules or state."""
