"""Training at the price of the plain network, in place and undone exactly."""
