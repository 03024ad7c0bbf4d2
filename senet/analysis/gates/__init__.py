"""The gates of any network: recorded, edited, and their statistics."""
