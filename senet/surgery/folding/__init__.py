"""Inference at the price of the plain network, on a copy made of PyTorch's own operators."""
