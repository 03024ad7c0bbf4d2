"""What squeeze-and-excitation costs a network on this machine, in time, passes, bytes and memory."""
