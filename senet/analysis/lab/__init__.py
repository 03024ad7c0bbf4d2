"""The excitation lab: what the gates of a network do, measured, tried out and drawn."""
