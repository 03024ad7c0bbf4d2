"""Training: recipes, data, one loop, and what it leaves behind. To it, squeeze-and-excitation is a model's name."""
