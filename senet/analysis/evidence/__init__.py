"""Our trainings of the paper's comparisons beside the paper's own results."""
