"""What networks cost and what their gates do: counted, recorded, compared, drawn. Knows nothing of training."""
