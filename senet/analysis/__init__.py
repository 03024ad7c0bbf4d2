"""Costs of networks and behaviour of their gates: counted, recorded, compared, drawn. Knows nothing of training."""
