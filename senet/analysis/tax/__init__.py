"""Cost of squeeze-and-excitation to a network on this machine: time, passes, bytes and memory."""
